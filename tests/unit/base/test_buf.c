/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include "helpers.h"

static void starts_empty_without_memory(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf buf = BUF_INIT;
    assert_int_equal(buf.size, 0);
    assert_null(buf.data);
    assert_string_equal(buf_string(&buf), "");
    buf_add(&buf, BYTES(NULL, 0));
    assert_null(buf.data);
    buf_clear(&buf);
    buf_consume(&buf, 5);
    assert_int_equal(buf_bytes(&buf).size, 0);
}

static void additions_stand_in_order(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf buf = BUF_INIT;
    buf_add_string(&buf, "ab");
    buf_add_byte(&buf, 'c');
    buf_add(&buf, bytes_of_string("de"));
    buf_add_format(&buf, "%d%s", 12, "f");
    memcpy(buf_extend(&buf, 2), "gh", 2);
    assert_string_equal(buf_string(&buf), "abcde12fgh");
    assert_int_equal(buf.size, 10);
    assert_true(bytes_equal(buf_bytes(&buf), bytes_of_string("abcde12fgh")));
}

static void a_nul_follows_whatever_was_done(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf buf = BUF_INIT;
    /* Across each size where memory is doubled. */
    for (size_t i = 0; i < 3000; i++) {
        buf_add_byte(&buf, 'x');
        assert_true(buf.capacity > buf.size);
        assert_int_equal(buf.data[buf.size], 0);
        assert_int_equal(buf.size, i + 1);
    }
    memset(buf_extend(&buf, 5000), 'y', 5000);
    assert_int_equal(buf.data[buf.size], 0);
    assert_int_equal(strlen(buf_string(&buf)), 8000);
    buf_consume(&buf, 2999);
    assert_int_equal(strlen(buf_string(&buf)), 5001);
    assert_int_equal(buf.data[0], 'x');
    assert_int_equal(buf.data[1], 'y');
    buf_clear(&buf);
    assert_string_equal(buf_string(&buf), "");
}

static void format_fits_at_every_fill(void **state)
{
    (void)state;
    for (size_t filled = 0; filled < 200; filled++) {
        for (int width = 0; width < 140; width += 7) {
            CLEANUP_BUF struct buf buf = BUF_INIT;
            for (size_t i = 0; i < filled; i++) {
                buf_add_byte(&buf, 'a');
            }
            buf_add_format(
                &buf, "%.*s", width,
                "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
                "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb");
            assert_int_equal(buf.size, filled + (size_t)width);
            assert_int_equal(strlen(buf_string(&buf)), buf.size);
            assert_int_equal(strspn(buf_string(&buf), "a"), filled);
            assert_int_equal(strspn(buf_string(&buf) + filled, "b"), (size_t)width);
        }
    }
}

static void bytes_may_be_nul(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf buf = BUF_INIT;
    const uint8_t bytes[] = {0, 1, 0, 2};
    buf_add(&buf, BYTES(bytes, sizeof bytes));
    buf_add_byte(&buf, 0);
    assert_int_equal(buf.size, 5);
    assert_memory_equal(buf.data, "\0\1\0\2\0", 5);
}

static void extend_by_nothing_gives_the_end(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf buf = BUF_INIT;
    assert_non_null(buf_extend(&buf, 0));
    buf_add_string(&buf, "abc");
    assert_ptr_equal(buf_extend(&buf, 0), buf.data + 3);
    assert_int_equal(buf.size, 3);
}

static void consume_drops_from_the_front(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf buf = BUF_INIT;
    buf_add_string(&buf, "abcdef");
    buf_consume(&buf, 0);
    assert_string_equal(buf_string(&buf), "abcdef");
    buf_consume(&buf, 2);
    assert_string_equal(buf_string(&buf), "cdef");
    buf_consume(&buf, 100);
    assert_string_equal(buf_string(&buf), "");
    assert_int_equal(buf.size, 0);
}

static void clear_keeps_the_memory_and_done_does_not(void **state)
{
    (void)state;
    struct buf buf = BUF_INIT;
    buf_add_string(&buf, "abc");
    const uint8_t *before = buf.data;
    const size_t capacity = buf.capacity;
    buf_clear(&buf);
    assert_ptr_equal(buf.data, before);
    assert_int_equal(buf.capacity, capacity);
    buf_done(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.capacity, 0);
    buf_done(&buf);
    buf_done(NULL);
}

static void extend_past_all_memory(void)
{
    CLEANUP_BUF struct buf buf = BUF_INIT;
    buf_add_string(&buf, "abc");
    static volatile size_t huge = SIZE_MAX - 2;
    buf_extend(&buf, huge);
}

static void a_size_that_overflows_ends_the_process(void **state)
{
    (void)state;
    assert_aborts(extend_past_all_memory, "event=out_of_memory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_empty_without_memory),
        cmocka_unit_test(additions_stand_in_order),
        cmocka_unit_test(a_nul_follows_whatever_was_done),
        cmocka_unit_test(format_fits_at_every_fill),
        cmocka_unit_test(bytes_may_be_nul),
        cmocka_unit_test(extend_by_nothing_gives_the_end),
        cmocka_unit_test(consume_drops_from_the_front),
        cmocka_unit_test(clear_keeps_the_memory_and_done_does_not),
        cmocka_unit_test(a_size_that_overflows_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
