/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "members.h"
#include "wire/datagram.h"
#include "wire/member_sync.h"

#define HEADER_BYTES 3
#define MINOR_AT 1
#define TYPE_AT 2

static struct member_sync sample(enum member_sync_type type)
{
    struct member_sync sync = {.type = type};
    for (size_t i = 0; type == MEMBER_SYNC_OPEN && i < MEMBER_BUCKETS; i++) {
        sync.digests[i] = UINT64_C(0x0102030405060708) * (i + 1);
    }
    for (size_t i = 0; type == MEMBER_SYNC_ANSWER && i < sizeof sync.buckets; i++) {
        sync.buckets[i] = (uint8_t)(i + 1);
    }
    return sync;
}

/* With two updates in those that have any; the caller frees it with buf_done(). */
static struct buf formatted(enum member_sync_type type)
{
    const struct member_sync sync = sample(type);
    struct buf bytes = BUF_INIT;
    member_sync_format(&sync, &bytes);
    if (type != MEMBER_SYNC_OPEN) {
        const struct member_update updates[] = {record_update(1), status_update(2)};
        field_put_member_update(&bytes, &updates[0]);
        field_put_member_update(&bytes, &updates[1]);
    }
    return bytes;
}

static int parse_answer(struct bytes bytes)
{
    uint8_t *exact = bytes.size ? mem_copy(bytes.data, bytes.size) : NULL;
    struct member_sync sync = {.updates = BYTES(NULL, 0x5555)};
    const int err = member_sync_parse(BYTES(exact, bytes.size), &sync);
    if (err) {
        assert_int_equal(sync.updates.size, 0x5555);
    }
    free(exact);
    return err;
}

static void open_carries_all_digests(void **state)
{
    (void)state;
    const struct member_sync written = sample(MEMBER_SYNC_OPEN);
    CLEANUP_BUF struct buf bytes = formatted(MEMBER_SYNC_OPEN);
    assert_int_equal(bytes.size, HEADER_BYTES + 8 * MEMBER_BUCKETS);
    static const uint8_t first[] = {1, 1, 1, 0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01};
    assert_memory_equal(bytes.data, first, sizeof first);

    struct member_sync read;
    assert_int_equal(member_sync_parse(buf_bytes(&bytes), &read), 0);
    assert_int_equal(read.type, MEMBER_SYNC_OPEN);
    assert_memory_equal(read.digests, written.digests, sizeof read.digests);
}

static void assert_two_updates(struct bytes updates)
{
    struct field_reader reader = field_reader_of(updates);
    struct member_update update;
    const struct member_update record = record_update(1);
    assert_true(field_get_member_update(&reader, &update));
    assert_updates_equal(&update, &record);
    const struct member_update status = status_update(2);
    assert_true(field_get_member_update(&reader, &update));
    assert_updates_equal(&update, &status);
    assert_false(field_get_member_update(&reader, &update));
    assert_true(field_reader_ended(&reader));
}

static void answer_carries_buckets_and_updates(void **state)
{
    (void)state;
    const struct member_sync written = sample(MEMBER_SYNC_ANSWER);
    CLEANUP_BUF struct buf bytes = formatted(MEMBER_SYNC_ANSWER);
    static const uint8_t first[] = {1, 1, 2, 1, 2, 3, 4};
    assert_memory_equal(bytes.data, first, sizeof first);

    struct member_sync read;
    assert_int_equal(member_sync_parse(buf_bytes(&bytes), &read), 0);
    assert_int_equal(read.type, MEMBER_SYNC_ANSWER);
    assert_memory_equal(read.buckets, written.buckets, sizeof read.buckets);
    assert_int_equal(read.updates.size, bytes.size - HEADER_BYTES - MEMBER_BUCKETS / 8);
    assert_two_updates(read.updates);
}

static void close_carries_updates(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf bytes = formatted(MEMBER_SYNC_CLOSE);
    static const uint8_t first[] = {1, 1, 3};
    assert_memory_equal(bytes.data, first, sizeof first);

    struct member_sync read;
    assert_int_equal(member_sync_parse(buf_bytes(&bytes), &read), 0);
    assert_int_equal(read.type, MEMBER_SYNC_CLOSE);
    assert_two_updates(read.updates);

    assert_int_equal(member_sync_parse(BYTES(bytes.data, HEADER_BYTES), &read), 0);
    assert_int_equal(read.updates.size, 0);
}

static void messages_cut_short_are_malformed(void **state)
{
    (void)state;
    for (int type = MEMBER_SYNC_OPEN; type <= MEMBER_SYNC_CLOSE; type++) {
        CLEANUP_BUF struct buf bytes = formatted((enum member_sync_type)type);
        const size_t head = HEADER_BYTES + (type == MEMBER_SYNC_ANSWER ? MEMBER_BUCKETS / 8 : 0);
        const struct member_update record = record_update(1);
        for (size_t size = 0; size < bytes.size; size++) {
            const bool is_whole = type != MEMBER_SYNC_OPEN &&
                                  (size == head || size == head + member_update_bytes(&record));
            assert_int_equal(parse_answer(BYTES(bytes.data, size)), is_whole ? 0 : -EPROTO);
        }
    }
}

static void bytes_left_over(void **state)
{
    (void)state;
    for (int type = MEMBER_SYNC_OPEN; type <= MEMBER_SYNC_CLOSE; type++) {
        CLEANUP_BUF struct buf bytes = formatted((enum member_sync_type)type);
        buf_add_byte(&bytes, 0xee);
        assert_int_equal(parse_answer(buf_bytes(&bytes)), -EPROTO);
        /* A later minor version may have more fields. Updates run to the end. */
        bytes.data[MINOR_AT] = DATAGRAM_MINOR + 1;
        const int expected = type == MEMBER_SYNC_OPEN ? 0 : -EPROTO;
        assert_int_equal(parse_answer(buf_bytes(&bytes)), expected);
        bytes.data[MINOR_AT] = 255;
        assert_int_equal(parse_answer(buf_bytes(&bytes)), expected);
    }
}

static void other_versions_and_types_are_not_ours(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf bytes = formatted(MEMBER_SYNC_CLOSE);
    for (unsigned value = 0; value < 256; value++) {
        bytes.data[0] = (uint8_t)value;
        assert_int_equal(parse_answer(buf_bytes(&bytes)),
                         value == DATAGRAM_MAJOR ? 0 : -EPROTONOSUPPORT);
    }
    bytes.data[0] = DATAGRAM_MAJOR;
    for (unsigned value = 0; value < 256; value++) {
        bytes.data[TYPE_AT] = (uint8_t)value;
        const int expected = value == MEMBER_SYNC_CLOSE ? 0
                             : value == MEMBER_SYNC_OPEN || value == MEMBER_SYNC_ANSWER
                                 ? -EPROTO
                                 : -EPROTONOSUPPORT;
        assert_int_equal(parse_answer(buf_bytes(&bytes)), expected);
    }
    /* Of another version not even the length is known. */
    static const uint8_t future[] = {2};
    assert_int_equal(parse_answer(BYTES(future, sizeof future)), -EPROTONOSUPPORT);
}

static void every_update_is_looked_at(void **state)
{
    (void)state;
    static const enum member_sync_type both[] = {MEMBER_SYNC_ANSWER, MEMBER_SYNC_CLOSE};
    for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
        CLEANUP_BUF struct buf bytes = formatted(both[i]);
        const size_t status_at = bytes.size - 5; /* of the last; its age is behind it */
        bytes.data[status_at] = 0;
        assert_int_equal(parse_answer(buf_bytes(&bytes)), -EPROTO);
        bytes.data[status_at] = MEMBER_LEFT;
        assert_int_equal(parse_answer(buf_bytes(&bytes)), 0);
        bytes.data[bytes.size - MEMBER_UPDATE_BYTES_MIN]++; /* its size */
        assert_int_equal(parse_answer(buf_bytes(&bytes)), -EPROTO);
    }
}

static void the_largest_message(void **state)
{
    (void)state;
    const struct member_sync sync = {.type = MEMBER_SYNC_CLOSE};
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    member_sync_format(&sync, &bytes);
    const struct member_update update = status_update(1);
    while (bytes.size + 2 * MEMBER_UPDATE_BYTES_MIN <= MEMBER_SYNC_BYTES_MAX) {
        field_put_member_update(&bytes, &update);
    }
    /* The last one, with bytes of a later version behind its fields, ends at the limit. */
    const size_t begin = bytes.size;
    field_put_member_update(&bytes, &update);
    const size_t more = MEMBER_SYNC_BYTES_MAX - bytes.size;
    bytes.data[begin] = (uint8_t)(bytes.data[begin] + more);
    memset(buf_extend(&bytes, more), 0xee, more);
    assert_int_equal(parse_answer(buf_bytes(&bytes)), 0);
    buf_add_byte(&bytes, 0);
    assert_int_equal(parse_answer(buf_bytes(&bytes)), -EFBIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_carries_all_digests),
        cmocka_unit_test(answer_carries_buckets_and_updates),
        cmocka_unit_test(close_carries_updates),
        cmocka_unit_test(messages_cut_short_are_malformed),
        cmocka_unit_test(bytes_left_over),
        cmocka_unit_test(other_versions_and_types_are_not_ours),
        cmocka_unit_test(every_update_is_looked_at),
        cmocka_unit_test(the_largest_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
