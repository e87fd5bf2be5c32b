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

static void versions_are_ordered_by_incarnation_nonce_status(void **state)
{
    (void)state;
    static const struct member_version ascending[] = {
        {1, 1, MEMBER_ALIVE},          {1, 1, MEMBER_UNREACHABLE},
        {1, 1, MEMBER_LEFT},           {1, 2, MEMBER_ALIVE},
        {1, UINT64_MAX, MEMBER_LEFT},  {2, 1, MEMBER_ALIVE},
        {UINT64_MAX, 1, MEMBER_ALIVE}, {UINT64_MAX, UINT64_MAX, MEMBER_LEFT},
    };
    for (size_t i = 0; i < ARRAY_SIZE(ascending); i++) {
        for (size_t j = 0; j < ARRAY_SIZE(ascending); j++) {
            const int order = member_version_compare(&ascending[i], &ascending[j]);
            assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
        }
    }
}

static void statuses_have_names(void **state)
{
    (void)state;
    assert_string_equal(member_status_name(MEMBER_ALIVE), "alive");
    assert_string_equal(member_status_name(MEMBER_UNREACHABLE), "unreachable");
    assert_string_equal(member_status_name(MEMBER_LEFT), "left");
}

static void which_names_are_taken(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int answer;
    } table[] = {
        {"a", 0},           {"node-17.example.org", 0}, {"two words", 0},
        {"узел", 0},        {"\xf0\x9f\x90\x8c", 0},    {"\xc2\xa0", 0},
        {"", -EINVAL},      {"a\nb", -EINVAL},          {"\x1b[2J", -EINVAL},
        {"a\x7f", -EINVAL}, {"a\xc2\x9b", -EINVAL}, /* what ESC [ does, in one character */
        {"a\xff", -EILSEQ}, {"\xed\xa0\x80", -EILSEQ},  {"a\xc2", -EILSEQ},
    };
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        assert_int_equal(member_name_check(bytes_of_string(table[i].name)), table[i].answer);
    }
    assert_int_equal(member_name_check(BYTES((const uint8_t *)"a\0b", 3)), -EINVAL);
    assert_int_equal(member_name_check(BYTES(NULL, 0)), -EINVAL);

    uint8_t name[MEMBER_NAME_BYTES_MAX + 1];
    memset(name, 'x', sizeof name);
    assert_int_equal(member_name_check(BYTES(name, MEMBER_NAME_BYTES_MAX)), 0);
    assert_int_equal(member_name_check(BYTES(name, MEMBER_NAME_BYTES_MAX + 1)), -ENAMETOOLONG);
}

static void which_versions_are_valid(void **state)
{
    (void)state;
    static const struct {
        struct member_version version;
        bool is_valid;
    } table[] = {
        {{1, 1, MEMBER_ALIVE}, true},
        {{UINT64_MAX, UINT64_MAX, MEMBER_LEFT}, true},
        {{0, 1, MEMBER_ALIVE}, false},
        {{1, 0, MEMBER_ALIVE}, false},
        {{1, 1, (enum member_status)0}, false},
        {{1, 1, (enum member_status)4}, false},
        {{1, 1, (enum member_status)255}, false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        assert_int_equal(member_version_is_valid(&table[i].version), table[i].is_valid);

        CLEANUP_BUF struct buf message = BUF_INIT;
        field_put_member_version(&message, &table[i].version);
        assert_int_equal(message.size, MEMBER_VERSION_BYTES);
        struct field_reader reader = field_reader_of(buf_bytes(&message));
        const struct member_version read = field_get_member_version(&reader);
        assert_int_equal(field_reader_ended(&reader), table[i].is_valid);
        const struct member_version none = {0};
        assert_versions_equal(&read, table[i].is_valid ? &table[i].version : &none);
    }
}

static const uint8_t status_bytes[] = {
    42,   0,                                                    /* size */
    1,                                                          /* a status */
    0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, /* id */
    0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x40, 0x41, 0x42, 0x43,
    0x38, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, /* incarnation */
    0xf8, 0xf7, 0xf6, 0xf5, 0xf4, 0xf3, 0xf2, 0xf1, /* boot nonce */
    2,                                              /* unreachable */
    0x30, 0x0c, 0x0b, 0x0a,                         /* age */
};

static const uint8_t record_bytes[] = {
    74,   0,                                                    /* size */
    2,                                                          /* a record */
    0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, /* id */
    0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0x20, 0x21, 0x22, 0x23,
    0x11, 0,    0,    0,    0,    0,    0,    0,         /* incarnation */
    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,      /* boot nonce */
    1,                                                   /* alive */
    0x10, 0xc3, 0xc2, 0xc1,                              /* age */
    4,    10,   1,    2,    3,    0xfc, 0x1c,            /* address */
    0,    0,    0,    0,    0,    1,    0,    0,         /* capacity */
    7,                                                   /* minor */
    5,    0,    'a',  'l',  'p',  'h',  'a',             /* name */
    7,    0,    'd',  'e',  'f',  'a',  'u',  'l',  't', /* zone */
};

#define ID_AT 3
#define INCARNATION_AT 23
#define NONCE_AT 31
#define STATUS_AT 39
#define FAMILY_AT 44
#define NAME_AT 60
#define ZONE_AT 67

static void updates_are_laid_out_as_documented(void **state)
{
    (void)state;
    const struct {
        struct member_update update;
        struct bytes bytes;
    } table[] = {
        {status_update(0x30), BYTES(status_bytes, sizeof status_bytes)},
        {record_update(0x10), BYTES(record_bytes, sizeof record_bytes)},
    };
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        CLEANUP_BUF struct buf message = BUF_INIT;
        field_put_member_update(&message, &table[i].update);
        assert_int_equal(message.size, table[i].bytes.size);
        assert_memory_equal(message.data, table[i].bytes.data, message.size);
        assert_int_equal(member_update_bytes(&table[i].update), message.size);
    }
}

static void updates_are_read_as_they_were_written(void **state)
{
    (void)state;
    struct member_update left = status_update(4);
    left.record.version.status = MEMBER_LEFT;
    struct member_update no_address = record_update(5);
    no_address.record.address = (struct address){0};
    no_address.record.capacity_bytes = 0;
    const struct member_update written[] = {
        status_update(1), record_update(2), largest_update(3), left, no_address, record_update(250),
    };
    CLEANUP_BUF struct buf message = BUF_INIT;
    for (size_t i = 0; i < ARRAY_SIZE(written); i++) {
        field_put_member_update(&message, &written[i]);
    }
    struct field_reader reader = field_reader_of(buf_bytes(&message));
    struct member_update read;
    for (size_t i = 0; i < ARRAY_SIZE(written); i++) {
        assert_true(field_get_member_update(&reader, &read));
        assert_updates_equal(&read, &written[i]);
    }
    assert_false(field_get_member_update(&reader, &read));
    assert_true(field_reader_ended(&reader));
}

static void smallest_and_largest(void **state)
{
    (void)state;
    const struct member_update smallest = status_update(1);
    assert_int_equal(member_update_bytes(&smallest), MEMBER_UPDATE_BYTES_MIN);
    const struct member_update largest = largest_update(1);
    CLEANUP_BUF struct buf message = BUF_INIT;
    field_put_member_update(&message, &largest);
    assert_int_equal(member_update_bytes(&largest), message.size);
    assert_true(message.size <= MEMBER_UPDATE_BYTES_MAX);
}

/* Reads the only update of a message of just this size. */
static bool read_one(struct bytes bytes, struct member_update *ret_update, bool *ret_bad)
{
    uint8_t *exact = bytes.size ? mem_copy(bytes.data, bytes.size) : NULL;
    struct field_reader reader = field_reader_of(BYTES(exact, bytes.size));
    const bool found = field_get_member_update(&reader, ret_update);
    *ret_bad = reader.bad;
    free(exact);
    return found;
}

static void assert_faulty(struct bytes bytes)
{
    struct member_update update = {.record.capacity_bytes = 0x5555};
    bool is_bad;
    assert_false(read_one(bytes, &update, &is_bad));
    assert_true(is_bad);
    assert_true(update.record.capacity_bytes == 0x5555);
}

static void updates_cut_short_are_faults(void **state)
{
    (void)state;
    for (size_t size = 1; size < sizeof record_bytes; size++) {
        assert_faulty(BYTES(record_bytes, size));
        if (size < sizeof status_bytes) {
            assert_faulty(BYTES(status_bytes, size));
        }
    }
}

/* The message is whole, but the update says that it is shorter than its fields. */
static void sizes_below_the_fields_are_faults(void **state)
{
    (void)state;
    for (size_t size = 0; size < sizeof record_bytes - 2; size++) {
        uint8_t bytes[sizeof record_bytes];
        memcpy(bytes, record_bytes, sizeof bytes);
        bytes[0] = (uint8_t)size;
        assert_faulty(BYTES(bytes, sizeof bytes));
    }
    for (size_t size = 0; size < sizeof status_bytes - 2; size++) {
        uint8_t bytes[sizeof status_bytes];
        memcpy(bytes, status_bytes, sizeof bytes);
        bytes[0] = (uint8_t)size;
        assert_faulty(BYTES(bytes, sizeof bytes));
    }
}

static void assert_record_faulty_with(size_t at, const uint8_t *bytes, size_t count)
{
    uint8_t record[sizeof record_bytes];
    memcpy(record, record_bytes, sizeof record);
    memcpy(record + at, bytes, count);
    assert_faulty(BYTES(record, sizeof record));
}

static void fields_out_of_range_are_faults(void **state)
{
    (void)state;
    static const uint8_t zeros[8] = {0};
    assert_record_faulty_with(INCARNATION_AT, zeros, 8);
    assert_record_faulty_with(NONCE_AT, zeros, 8);
    assert_record_faulty_with(STATUS_AT, zeros, 1);
    assert_record_faulty_with(STATUS_AT, (const uint8_t[]){4}, 1);
    assert_record_faulty_with(STATUS_AT, (const uint8_t[]){255}, 1);
    assert_record_faulty_with(FAMILY_AT, (const uint8_t[]){5}, 1);
    assert_record_faulty_with(2, zeros, 1); /* kind */
    assert_record_faulty_with(NAME_AT + 2, (const uint8_t *)"\n", 1);
    assert_record_faulty_with(NAME_AT + 2, (const uint8_t *)"\xff", 1);
    assert_record_faulty_with(NAME_AT, (const uint8_t[]){0, 0}, 2);
    assert_record_faulty_with(NAME_AT, (const uint8_t[]){0xff, 0xff}, 2);
    assert_record_faulty_with(ZONE_AT + 2, (const uint8_t *)"\x7f", 1);
    assert_record_faulty_with(ZONE_AT, (const uint8_t[]){0, 0}, 2);
    assert_record_faulty_with(ZONE_AT, (const uint8_t[]){8, 0}, 2);
}

static void names_beyond_their_limit_are_faults(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        for (size_t extra = 0; extra < 2; extra++) {
            struct buf message = BUF_INIT;
            const size_t name_size = MEMBER_NAME_BYTES_MAX + extra;
            field_put_u16(&message, (uint16_t)(NAME_AT - 2 + 2 + name_size + 2 + 1));
            buf_add(&message, BYTES(record_bytes + 2, NAME_AT - 2));
            if (which == 1) {
                field_put_string(&message, bytes_of_string("n"));
            }
            field_put_u16(&message, (uint16_t)name_size);
            memset(buf_extend(&message, name_size), 'x', name_size);
            if (which == 0) {
                field_put_string(&message, bytes_of_string("z"));
            }
            struct member_update update;
            bool is_bad;
            assert_int_equal(read_one(buf_bytes(&message), &update, &is_bad), extra == 0);
            assert_int_equal(is_bad, extra == 1);
            buf_done(&message);
        }
    }
}

/* What a later minor version may write. */
static void bytes_behind_the_fields_are_left_unread(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf message = BUF_INIT;
    field_put_u16(&message, sizeof status_bytes - 2 + 1000);
    buf_add(&message, BYTES(status_bytes + 2, sizeof status_bytes - 2));
    memset(buf_extend(&message, 1000), 0xee, 1000);
    field_put_u16(&message, sizeof record_bytes - 2 + 1);
    buf_add(&message, BYTES(record_bytes + 2, sizeof record_bytes - 2));
    buf_add_byte(&message, 0xee);

    struct field_reader reader = field_reader_of(buf_bytes(&message));
    struct member_update read;
    const struct member_update status = status_update(0x30);
    assert_true(field_get_member_update(&reader, &read));
    assert_updates_equal(&read, &status);
    const struct member_update record = record_update(0x10);
    assert_true(field_get_member_update(&reader, &read));
    assert_updates_equal(&read, &record);
    assert_false(field_get_member_update(&reader, &read));
    assert_true(field_reader_ended(&reader));
}

static void other_kinds_are_skipped(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf message = BUF_INIT;
    for (unsigned kind = 3; kind < 256; kind++) {
        field_put_u16(&message, (uint16_t)kind);
        field_put_u8(&message, (uint8_t)kind);
        memset(buf_extend(&message, kind - 1), 0xee, kind - 1);
    }
    buf_add(&message, BYTES(status_bytes, sizeof status_bytes));
    field_put_u16(&message, 1);
    field_put_u8(&message, 3);

    struct field_reader reader = field_reader_of(buf_bytes(&message));
    struct member_update read;
    const struct member_update status = status_update(0x30);
    assert_true(field_get_member_update(&reader, &read));
    assert_updates_equal(&read, &status);
    assert_false(field_get_member_update(&reader, &read));
    assert_true(field_reader_ended(&reader));
}

static void which_updates_are_valid(void **state)
{
    (void)state;
    struct member_update update = status_update(1);
    assert_true(member_update_is_valid(&update)); /* without name and zone */
    update.record.version.incarnation = 0;
    assert_false(member_update_is_valid(&update));

    update = record_update(1);
    assert_true(member_update_is_valid(&update));
    update.record.version.boot_nonce = 0;
    assert_false(member_update_is_valid(&update));
    update = record_update(1);
    update.record.name = BYTES(NULL, 0);
    assert_false(member_update_is_valid(&update));
    update = record_update(1);
    update.record.zone = bytes_of_string("a\tb");
    assert_false(member_update_is_valid(&update));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_are_ordered_by_incarnation_nonce_status),
        cmocka_unit_test(statuses_have_names),
        cmocka_unit_test(which_names_are_taken),
        cmocka_unit_test(which_versions_are_valid),
        cmocka_unit_test(updates_are_laid_out_as_documented),
        cmocka_unit_test(updates_are_read_as_they_were_written),
        cmocka_unit_test(smallest_and_largest),
        cmocka_unit_test(updates_cut_short_are_faults),
        cmocka_unit_test(sizes_below_the_fields_are_faults),
        cmocka_unit_test(fields_out_of_range_are_faults),
        cmocka_unit_test(names_beyond_their_limit_are_faults),
        cmocka_unit_test(bytes_behind_the_fields_are_left_unread),
        cmocka_unit_test(other_kinds_are_skipped),
        cmocka_unit_test(which_updates_are_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
