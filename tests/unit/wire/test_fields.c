/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/mem.h"
#include "wire/fields.h"

/* One field of each kind, as the header lays them out. */
static const uint8_t layout[] = {
    0x01,                                           /* u8 */
    0x03, 0x02,                                     /* u16 */
    0x07, 0x06, 0x05, 0x04,                         /* u32 */
    0x0f, 0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 0x09, 0x08, /* u64 */
    0x03, 0x00, 'a',  'b',  'c',                    /* a string */
    0x00, 0x00,                                     /* an empty one */
};

static void put_layout(struct buf *message)
{
    field_put_u8(message, 0x01);
    field_put_u16(message, 0x0203);
    field_put_u32(message, 0x04050607);
    field_put_u64(message, 0x08090a0b0c0d0e0f);
    field_put_string(message, bytes_of_string("abc"));
    field_put_string(message, BYTES(NULL, 0));
}

static void fields_are_laid_out_as_documented(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf message = BUF_INIT;
    put_layout(&message);
    assert_int_equal(message.size, sizeof layout);
    assert_memory_equal(message.data, layout, sizeof layout);
}

static void fields_are_read_as_they_were_written(void **state)
{
    (void)state;
    struct field_reader reader = field_reader_of(BYTES(layout, sizeof layout));
    assert_int_equal(field_get_u8(&reader), 0x01);
    assert_int_equal(field_get_u16(&reader), 0x0203);
    assert_int_equal(field_get_u32(&reader), 0x04050607);
    assert_true(field_get_u64(&reader) == 0x08090a0b0c0d0e0f);
    assert_true(bytes_equal(field_get_string(&reader, 3), bytes_of_string("abc")));
    assert_false(field_reader_ended(&reader));
    assert_int_equal(field_get_string(&reader, 0).size, 0);
    assert_true(field_reader_ended(&reader));
}

static void largest_numbers_survive(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf message = BUF_INIT;
    field_put_u8(&message, UINT8_MAX);
    field_put_u16(&message, UINT16_MAX);
    field_put_u32(&message, UINT32_MAX);
    field_put_u64(&message, UINT64_MAX);
    struct field_reader reader = field_reader_of(buf_bytes(&message));
    assert_true(field_get_u8(&reader) == UINT8_MAX);
    assert_true(field_get_u16(&reader) == UINT16_MAX);
    assert_true(field_get_u32(&reader) == UINT32_MAX);
    assert_true(field_get_u64(&reader) == UINT64_MAX);
    assert_true(field_reader_ended(&reader));
}

static void fields_need_no_alignment(void **state)
{
    (void)state;
    for (size_t shift = 0; shift < 8; shift++) {
        CLEANUP_BUF struct buf message = BUF_INIT;
        memset(buf_extend(&message, shift), 0xee, shift);
        put_layout(&message);
        struct field_reader reader = field_reader_of(buf_bytes(&message));
        assert_int_equal(field_get_raw(&reader, shift).size, shift);
        assert_int_equal(field_get_u8(&reader), 0x01);
        assert_int_equal(field_get_u16(&reader), 0x0203);
        assert_int_equal(field_get_u32(&reader), 0x04050607);
        assert_true(field_get_u64(&reader) == 0x08090a0b0c0d0e0f);
    }
}

/* How many fields of the layout a message of `size` bytes gives before the reader is bad. */
static size_t fields_before_fault(size_t size)
{
    uint8_t *exact = size ? mem_copy(layout, size) : NULL;
    struct field_reader reader = field_reader_of(BYTES(exact, size));
    size_t count = 0;
    field_get_u8(&reader);
    count += !reader.bad;
    field_get_u16(&reader);
    count += !reader.bad;
    field_get_u32(&reader);
    count += !reader.bad;
    field_get_u64(&reader);
    count += !reader.bad;
    field_get_string(&reader, 3);
    count += !reader.bad;
    field_get_string(&reader, 3);
    count += !reader.bad;
    assert_int_equal(field_reader_ended(&reader), size == sizeof layout);
    free(exact);
    return count;
}

static void messages_cut_short_are_noticed(void **state)
{
    (void)state;
    static const size_t ends[] = {1, 3, 7, 15, 20, 22};
    for (size_t size = 0; size <= sizeof layout; size++) {
        size_t whole = 0;
        while (whole < ARRAY_SIZE(ends) && ends[whole] <= size) {
            whole++;
        }
        assert_int_equal(fields_before_fault(size), whole);
    }
}

static void after_a_fault_everything_is_zero(void **state)
{
    (void)state;
    struct field_reader reader = field_reader_of(BYTES(layout, sizeof layout));
    assert_int_equal(field_get_raw(&reader, sizeof layout + 1).size, 0);
    assert_true(reader.bad);
    assert_int_equal(reader.left.size, 0);
    assert_int_equal(field_get_u8(&reader), 0);
    assert_int_equal(field_get_u16(&reader), 0);
    assert_int_equal(field_get_u32(&reader), 0);
    assert_true(field_get_u64(&reader) == 0);
    assert_int_equal(field_get_string(&reader, 3).size, 0);
    assert_int_equal(field_get_raw(&reader, 1).size, 0);
    assert_int_equal(field_get_raw(&reader, 0).size, 0);
    assert_true(reader.bad);
    assert_false(field_reader_ended(&reader));
}

static void a_reader_can_be_told_of_a_fault(void **state)
{
    (void)state;
    struct field_reader reader = field_reader_of(BYTES(layout, sizeof layout));
    field_fail(&reader);
    assert_int_equal(field_get_u8(&reader), 0);
    assert_false(field_reader_ended(&reader));
}

static void strings_beyond_their_limit_are_faults(void **state)
{
    (void)state;
    const struct bytes message = BYTES(layout + 15, 5);
    struct field_reader reader = field_reader_of(message);
    assert_true(bytes_equal(field_get_string(&reader, 4), bytes_of_string("abc")));
    reader = field_reader_of(message);
    assert_int_equal(field_get_string(&reader, 2).size, 0);
    assert_true(reader.bad);
    assert_int_equal(reader.left.size, 0);
}

static void the_longest_string(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf string = BUF_INIT;
    memset(buf_extend(&string, UINT16_MAX), 'x', UINT16_MAX);
    CLEANUP_BUF struct buf message = BUF_INIT;
    field_put_string(&message, buf_bytes(&string));
    assert_int_equal(message.size, 2 + UINT16_MAX);

    struct field_reader reader = field_reader_of(buf_bytes(&message));
    assert_true(bytes_equal(field_get_string(&reader, UINT16_MAX), buf_bytes(&string)));
    assert_true(field_reader_ended(&reader));

    reader = field_reader_of(BYTES(message.data, message.size - 1));
    assert_int_equal(field_get_string(&reader, UINT16_MAX).size, 0);
    assert_true(reader.bad);
}

static void an_empty_message_has_ended(void **state)
{
    (void)state;
    struct field_reader reader = field_reader_of(BYTES(NULL, 0));
    assert_true(field_reader_ended(&reader));
    assert_int_equal(field_get_raw(&reader, 0).size, 0);
    assert_true(field_reader_ended(&reader));
    assert_int_equal(field_get_u8(&reader), 0);
    assert_false(field_reader_ended(&reader));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_laid_out_as_documented),
        cmocka_unit_test(fields_are_read_as_they_were_written),
        cmocka_unit_test(largest_numbers_survive),
        cmocka_unit_test(fields_need_no_alignment),
        cmocka_unit_test(messages_cut_short_are_noticed),
        cmocka_unit_test(after_a_fault_everything_is_zero),
        cmocka_unit_test(a_reader_can_be_told_of_a_fault),
        cmocka_unit_test(strings_beyond_their_limit_are_faults),
        cmocka_unit_test(the_longest_string),
        cmocka_unit_test(an_empty_message_has_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
