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
    {.type = KEEP_SURVEY, .number = 3, .digest = {{9, 8, 7}}, .path = {(const uint8_t *)"a/b", 3}},
    {.type = KEEP_SURVEYED,
     .number = 4,
     .survey = {.extent = KEEP_EXTENT_PART,
                .state = KEEP_STATE_COMMITTING,
                .files_count = 10,
                .whole_count = 9,
                .length_bytes = KEEP_SURVEY_NUMBER_MAX,
                .here_bytes = 5,
                .rate_bytes_per_second = 6,
                .followed_count = 8,
                .has_follower = true}},
    {.type = KEEP_PROMISE, .number = 5, .blocks = {files, sizeof files}},
    {.type = KEEP_PROMISED, .number = 6, .promises = {(const uint8_t *)"\1\0\1", 3}},
    {.type = KEEP_NEED, .number = 7, .blocks = {files, sizeof files}},
    {.type = KEEP_NEEDED, .number = 8, .promises = {(const uint8_t *)"\0\1", 2}},
};

static void assert_same_survey(const struct keep_survey *a, const struct keep_survey *b)
{
    assert_int_equal(a->extent, b->extent);
    assert_int_equal(a->state, b->state);
    assert_int_equal(a->files_count, b->files_count);
    assert_int_equal(a->whole_count, b->whole_count);
    assert_true(a->length_bytes == b->length_bytes);
    assert_true(a->here_bytes == b->here_bytes);
    assert_true(a->rate_bytes_per_second == b->rate_bytes_per_second);
    assert_false(a->is_older);
    assert_int_equal(a->followed_count, b->followed_count);
    assert_int_equal(a->has_follower, b->has_follower);
}

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
        assert_true(id_equal(&parsed.digest, &messages[i].digest));
        assert_true(bytes_equal(parsed.path, messages[i].path));
        assert_same_survey(&parsed.survey, &messages[i].survey);
        assert_true(bytes_equal(parsed.blocks, messages[i].blocks));
        assert_true(bytes_equal(parsed.promises, messages[i].promises));
    }
}

static bool is_list(const struct keep_message *message)
{
    return message->type == KEEP_KEEP || message->type == KEEP_PROMISE ||
           message->type == KEEP_NEED;
}

static bool is_answer(const struct keep_message *message)
{
    return message->type == KEEP_PROMISED || message->type == KEEP_NEEDED;
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
                (is_list(&messages[i]) && cut > 11 && (cut - 11) % ID_BYTES == 0) ||
                (is_answer(&messages[i]) && cut > 11) ||
                (messages[i].type == KEEP_SURVEY && cut >= 11 + ID_BYTES);
            assert_int_equal(keep_message_parse(BYTES(bytes.data, cut), &parsed),
                             is_shorter_list ? 0 : -EPROTO);
            parsed.number = 5;
        }
        if (messages[i].type == KEEP_SURVEY || is_answer(&messages[i])) {
            continue; /* a longer path; one promise more */
        }
        buf_add(&bytes, BYTES(files, 1));
        assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), -EPROTO);
        assert_int_equal(parsed.number, 5);
        /* A later version may say more, but not behind a list. */
        bytes.data[MINOR_AT] = DATAGRAM_MINOR + 1;
        assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed),
                         is_list(&messages[i]) ? -EPROTO : 0);
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

static int parse_survey(const struct keep_survey *survey)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    const struct keep_message message = {.type = KEEP_SURVEYED, .survey = *survey};
    keep_message_format(&message, &bytes);
    struct keep_message parsed;
    return keep_message_parse(buf_bytes(&bytes), &parsed);
}

static void surveys_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    const struct keep_survey good = {
        .extent = KEEP_EXTENT_WHOLE, .files_count = 1, .whole_count = 1, .length_bytes = 2};
    assert_int_equal(parse_survey(&good), 0);
    struct keep_survey bad = good;
    bad.extent = (enum keep_extent)0;
    assert_int_equal(parse_survey(&bad), -EPROTO);
    bad.extent = (enum keep_extent)(KEEP_EXTENT_BUSY + 1);
    assert_int_equal(parse_survey(&bad), -EPROTO);
    bad = good;
    bad.state = (enum keep_state)(KEEP_STATE_COMMITTING + 1);
    assert_int_equal(parse_survey(&bad), -EPROTO);
    bad = good;
    bad.whole_count = 2;
    assert_int_equal(parse_survey(&bad), -EPROTO);
    bad = good;
    bad.here_bytes = 3;
    assert_int_equal(parse_survey(&bad), -EPROTO);
    bad = good;
    bad.length_bytes = KEEP_SURVEY_NUMBER_MAX + 1;
    assert_int_equal(parse_survey(&bad), -EPROTO);
    bad = good;
    bad.rate_bytes_per_second = UINT64_MAX;
    assert_int_equal(parse_survey(&bad), -EPROTO);
    bad = good;
    bad.followed_count = 2;
    assert_int_equal(parse_survey(&bad), -EPROTO);
}

/* Which end with the rate. */
#define FOLLOWED_BYTES 5

static void answers_of_the_first_version_tell_of_no_followers(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    const struct keep_message message = {
        .type = KEEP_SURVEYED,
        .survey = {.extent = KEEP_EXTENT_WHOLE, .files_count = 3, .whole_count = 3}};
    keep_message_format(&message, &bytes);
    struct keep_message parsed = {.number = 5};
    bytes.data[bytes.size - 1] = 2; /* neither true nor false */
    assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), -EPROTO);
    bytes.data[MINOR_AT] = 0;
    assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), -EPROTO);
    assert_int_equal(parsed.number, 5);
    bytes.size -= FOLLOWED_BYTES;
    assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), 0);
    assert_true(parsed.survey.is_older);
    assert_int_equal(parsed.survey.whole_count, 3);
    assert_int_equal(parsed.survey.followed_count, 0);
    bytes.data[MINOR_AT] = DATAGRAM_MINOR;
    assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), -EPROTO);
}

static void promises_have_their_limits(void **state)
{
    (void)state;
    static const uint8_t zeros[(KEEP_BLOCKS_MAX + 1) * ID_BYTES];
    struct keep_message parsed;
    for (size_t i = 0; i < 2; i++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        struct keep_message message = {.type = KEEP_PROMISE};
        message.blocks = BYTES(zeros, (KEEP_BLOCKS_MAX + i) * ID_BYTES);
        keep_message_format(&message, &bytes);
        assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), i == 0 ? 0 : -EPROTO);
        buf_clear(&bytes);
        message = (struct keep_message){.type = KEEP_PROMISED};
        message.promises = BYTES(zeros, KEEP_BLOCKS_MAX + i);
        keep_message_format(&message, &bytes);
        assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), i == 0 ? 0 : -EPROTO);
    }
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    const struct keep_message message = {.type = KEEP_PROMISED,
                                         .promises = bytes_of_string("\1\2")};
    keep_message_format(&message, &bytes);
    assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), -EPROTO);
}

static void a_path_has_its_limit(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf path = BUF_INIT;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    memset(buf_extend(&path, PATH_BYTES_MAX), 'a', PATH_BYTES_MAX);
    const struct keep_message message = {.type = KEEP_SURVEY, .path = buf_bytes(&path)};
    keep_message_format(&message, &bytes);
    struct keep_message parsed;
    assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), 0);
    assert_int_equal(parsed.path.size, PATH_BYTES_MAX);
    buf_add_byte(&bytes, 'a');
    assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), -EPROTO);
}

static void other_versions_and_types_are_not_known(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    struct keep_message parsed;
    keep_message_format(&messages[4], &bytes);
    bytes.data[TYPE_AT] = 0;
    assert_int_equal(keep_message_parse(buf_bytes(&bytes), &parsed), -EPROTONOSUPPORT);
    bytes.data[TYPE_AT] = KEEP_NEEDED + 1;
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
        cmocka_unit_test(surveys_that_make_no_sense_are_refused),
        cmocka_unit_test(answers_of_the_first_version_tell_of_no_followers),
        cmocka_unit_test(promises_have_their_limits),
        cmocka_unit_test(a_path_has_its_limit),
        cmocka_unit_test(other_versions_and_types_are_not_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
