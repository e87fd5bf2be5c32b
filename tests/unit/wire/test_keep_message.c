/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "wire/datagram.h"
#include "wire/keep_message.h"

#define MAJOR_AT 0
#define MINOR_AT 1
#define TYPE_AT 2
#define VERDICT_AT 11

static const uint8_t files[3 * ID_BYTES] = {1, 2, 3};

static const struct keep_message messages[] = {
    {.type = KEEP_KEEP, .number = 0x0102030405060708, .files = {files, sizeof files}},
    {.type = KEEP_KEPT, .number = 9, .verdict = KEEP_WORKING, .kept = 2},
    {.type = KEEP_KEPT, .number = UINT64_MAX, .verdict = KEEP_DONE, .kept = KEEP_FILES_MAX},
    {.type = KEEP_KEPT, .number = 0, .verdict = KEEP_REFUSED},
    {.type = KEEP_RELEASE, .number = 77},
};

static void what_is_formatted_is_parsed(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        keep_message_format(&messages[i], &bytes);
        struct keep_message parsed;
        assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), 0);
        assert_int_equal(parsed.type, messages[i].type);
        assert_true(parsed.number == messages[i].number);
        assert_int_equal(parsed.verdict, messages[i].verdict);
        assert_int_equal(parsed.kept, messages[i].kept);
        assert_true(bytes_equal(parsed.files, messages[i].files));
    }
}

static void what_is_cut_off_or_too_long_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        keep_message_format(&messages[i], &bytes);
        const size_t size = bytes.size;
        struct keep_message parsed = {.number = 5};
        for (size_t cut = 0; cut < size; cut++) {
            const bool is_shorter_list =
                messages[i].type == KEEP_KEEP && cut > 11 && (cut - 11) % ID_BYTES == 0;
            assert_int_equal(keep_message_parse(BYTES(bytes.data, cut), &parsed),
                             is_shorter_list ? 0 : -EPROTO);
            parsed.number = 5;
        }
        buf_add(&bytes, BYTES(files, 1));
        assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), -EPROTO);
        assert_int_equal(parsed.number, 5);
        /* A later version may say more, but not behind a list. */
        bytes.data[MINOR_AT] = DATAGRAM_MINOR + 1;
        assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed),
                         messages[i].type == KEEP_KEEP ? -EPROTO : 0);
    }
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    struct keep_message parsed;
    keep_message_format(&messages[1], &bytes);
    for (unsigned verdict = 0; verdict < 256; verdict++) {
        bytes.data[VERDICT_AT] = (uint8_t)verdict;
        const bool is_known = verdict >= KEEP_WORKING && verdict <= KEEP_REFUSED;
        assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), is_known ? 0 : -EPROTO);
    }
    buf_clear(&bytes);
    const struct keep_message many = {
        .type = KEEP_KEPT, .verdict = KEEP_DONE, .kept = KEEP_FILES_MAX + 1};
    keep_message_format(&many, &bytes);
    assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), -EPROTO);
    buf_clear(&bytes);
    struct keep_message list = {.type = KEEP_KEEP};
    list.files.size = ((size_t)KEEP_FILES_MAX + 1) * ID_BYTES;
    list.files.data = mem_alloc(list.files.size);
    keep_message_format(&list, &bytes);
    assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), -EPROTO);
    bytes.size -= ID_BYTES;
    assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), 0);
    free((void *)(uintptr_t)list.files.data);
}

static void other_versions_and_types_are_not_known(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    struct keep_message parsed;
    keep_message_format(&messages[4], &bytes);
    bytes.data[TYPE_AT] = 0;
    assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), -EPROTONOSUPPORT);
    bytes.data[TYPE_AT] = KEEP_RELEASE + 1;
    assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), -EPROTONOSUPPORT);
    bytes.data[TYPE_AT] = KEEP_RELEASE;
    bytes.data[MAJOR_AT] = DATAGRAM_MAJOR + 1;
    assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), -EPROTONOSUPPORT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_formatted_is_parsed),
        cmocka_unit_test(what_is_cut_off_or_too_long_is_refused),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(other_versions_and_types_are_not_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
