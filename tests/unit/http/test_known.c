/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "http/known.h"

static struct node_id id_of(uint8_t number)
{
    struct node_id id;
    memset(id.bytes, number, sizeof id.bytes);
    return id;
}

/* Members 1 to `count`, "n1" at 10.0.0.1:7420 in zone "z1"; the first is this node. */
static struct known make_known(size_t count)
{
    struct known known = {.members = mem_alloc_array(count, sizeof *known.members), .count = count};
    for (size_t i = 0; i < count; i++) {
        struct member_info *member = &known.members[i];
        member->id = id_of((uint8_t)(i + 1));
        member->is_self = i == 0;
        snprintf(member->name, sizeof member->name, "n%zu", i + 1);
        snprintf(member->zone, sizeof member->zone, "z%zu", i + 1);
        char address[48];
        snprintf(address, sizeof address, "10.0.0.%zu:7420", i + 1);
        assert_int_equal(address_parse(address, &member->address), 0);
    }
    return known;
}

static void members_are_found(void **state)
{
    (void)state;
    CLEANUP_KNOWN struct known known = make_known(5);
    for (uint8_t i = 1; i <= 5; i++) {
        const struct node_id id = id_of(i);
        assert_ptr_equal(known_find(&known, &id), &known.members[i - 1]);
        assert_ptr_equal(known_find_at(&known, &known.members[i - 1].address),
                         &known.members[i - 1]);
    }
    const struct node_id nobody = id_of(6);
    struct address nowhere;
    assert_int_equal(address_parse("10.0.0.1:7421", &nowhere), 0);
    assert_null(known_find(&known, &nobody));
    assert_null(known_find_at(&known, &nowhere));
}

static void told(const json_t *json, const char *expected)
{
    char *text = json_dumps(json, JSON_COMPACT);
    assert_string_equal(text, expected);
    free(text);
}

#define ID_1 "0101010101010101010101010101010101010101"
#define ID_2 "0202020202020202020202020202020202020202"
#define ID_9 "0909090909090909090909090909090909090909"

static void a_member_as_json(void **state)
{
    (void)state;
    CLEANUP_KNOWN struct known known = make_known(2);
    const struct node_id ids[] = {id_of(1), id_of(2), id_of(9)};
    static const char *const expected[] = {
        "{\"node\":\"" ID_1 "\",\"name\":\"n1\",\"zone\":\"z1\",\"address\":\"10.0.0.1:7420\","
        "\"self\":true}",
        "{\"node\":\"" ID_2 "\",\"name\":\"n2\",\"zone\":\"z2\",\"address\":\"10.0.0.2:7420\"}",
        "{\"node\":\"" ID_9 "\"}", /* it was forgotten */
    };
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        json_t *json = known_json(&known, &ids[i]);
        told(json, expected[i]);
        json_decref(json);
    }
}

static void who_was_not_asked(void **state)
{
    (void)state;
    CLEANUP_KNOWN struct known known = make_known(4);
    const struct locate_answer answers[] = {
        {id_of(1), LOCATE_DENIED},       {id_of(2), LOCATE_SILENT},
        {id_of(3), LOCATE_HAS_COMPLETE}, {id_of(4), LOCATE_HAS_PARTIAL},
        {id_of(9), LOCATE_UNREACHABLE},
    };
    json_t *json = known_not_asked(&known, answers, ARRAY_SIZE(answers));
    told(json, "[{\"node\":\"" ID_2 "\",\"name\":\"n2\",\"zone\":\"z2\",\"address\":"
               "\"10.0.0.2:7420\",\"why\":\"silent\"},"
               "{\"node\":\"" ID_9 "\",\"why\":\"unreachable\"}]");
    json_decref(json);
    CLEANUP_BUF struct buf text = BUF_INIT;
    known_add_not_asked(&known, answers, ARRAY_SIZE(answers), &text);
    assert_string_equal(buf_string(&text),
                        "2 could not be asked: n2 (zone z2, 10.0.0.2:7420, silent), " ID_9
                        " (unreachable)");
}

/* It has it, as it said, and went before it gave it. */
static void who_has_gone_since_was_not_asked_either(void **state)
{
    (void)state;
    CLEANUP_KNOWN struct known known = make_known(3);
    known.members[1].version.status = MEMBER_UNREACHABLE;
    const struct locate_answer answers[] = {
        {id_of(1), LOCATE_HAS_PARTIAL}, {id_of(2), LOCATE_HAS_COMPLETE}, {id_of(3), LOCATE_DENIED}};
    CLEANUP_BUF struct buf text = BUF_INIT;
    known_add_not_asked(&known, answers, ARRAY_SIZE(answers), &text);
    assert_string_equal(buf_string(&text),
                        "1 could not be asked: n2 (zone z2, 10.0.0.2:7420, unreachable)");
}

static void all_were_asked(void **state)
{
    (void)state;
    CLEANUP_KNOWN struct known known = make_known(1);
    const struct locate_answer answer = {id_of(1), LOCATE_DENIED};
    CLEANUP_BUF struct buf text = BUF_INIT;
    known_add_not_asked(&known, &answer, 1, &text);
    known_add_not_asked(&known, NULL, 0, &text);
    assert_int_equal(text.size, 0);
    json_t *json = known_not_asked(&known, &answer, 1);
    told(json, "[]");
    json_decref(json);
}

static void people_are_told_of_a_few(void **state)
{
    (void)state;
    CLEANUP_KNOWN struct known known = make_known(30);
    struct locate_answer answers[30];
    for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
        answers[i] = (struct locate_answer){id_of((uint8_t)(i + 1)), LOCATE_UNREACHABLE};
    }
    CLEANUP_BUF struct buf text = BUF_INIT;
    known_add_not_asked(&known, answers, ARRAY_SIZE(answers), &text);
    assert_non_null(strstr(buf_string(&text), "30 could not be asked: n1 (zone z1,"));
    assert_non_null(
        strstr(buf_string(&text), "n8 (zone z8, 10.0.0.8:7420, unreachable) and 22 more"));
    assert_null(strstr(buf_string(&text), "n9 "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_are_found),
        cmocka_unit_test(a_member_as_json),
        cmocka_unit_test(who_was_not_asked),
        cmocka_unit_test(who_has_gone_since_was_not_asked_either),
        cmocka_unit_test(all_were_asked),
        cmocka_unit_test(people_are_told_of_a_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
