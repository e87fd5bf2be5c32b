/* SPDX-License-Identifier: Apache-2.0 */

/* Fetches of a node that is alone: nothing comes. With others: tests/integration/test_fetch.py. */

#include "helpers.h"

#define UNKNOWN "abababababababababababababababababababababababababababababababab"
#define START(id) "{\"op\":\"start\",\"id\":\"" id "\"}"
#define START_ALL(ids) "{\"op\":\"start\",\"ids\":[" ids "]}"

static void nothing_is_fetched(void **state)
{
    struct fixture *fixture = *state;
    json_t *answer = ask(fixture, "GET", "/fetches", NULL, 200);
    assert_int_equal(json_array_size(json_object_get(answer, "fetches")), 0);
    assert_null(json_object_get(answer, "next"));
    json_decref(answer);
    answer = ask(fixture, "GET", "/why/" UNKNOWN, NULL, 200);
    assert_string_equal(text_of(answer, "state"), "absent");
    assert_string_equal(text_of(answer, "id"), UNKNOWN);
    json_decref(answer);
}

static void what_is_here_is_told(void **state)
{
    struct fixture *fixture = *state;
    json_t *put = ask(fixture, "PUT", "/fs/d/f", "content", 201);
    CLEANUP_FREE char *by_id = mem_format("/why/%s", text_of(put, "id"));
    const char *const targets[] = {"/why/d/f", by_id};
    for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
        json_t *answer = ask(fixture, "GET", targets[i], NULL, 200);
        assert_string_equal(text_of(answer, "state"), "here");
        assert_string_equal(text_of(answer, "id"), text_of(put, "id"));
        assert_int_equal(json_integer_value(json_object_get(answer, "length")), 7);
        assert_int_equal(json_object_get(answer, "path") != NULL, i == 0);
        json_decref(answer);
    }
    json_decref(put);
}

/* A name in the tree is meant before an id. */
static void a_path_that_looks_like_an_id(void **state)
{
    struct fixture *fixture = *state;
    json_t *put = ask(fixture, "PUT", "/fs/" UNKNOWN, "content", 201);
    json_t *answer = ask(fixture, "GET", "/why/" UNKNOWN, NULL, 200);
    assert_string_equal(text_of(answer, "id"), text_of(put, "id"));
    assert_string_equal(text_of(answer, "path"), UNKNOWN);
    json_decref(answer);
    json_decref(put);
}

/* Nobody has it, and that is said as soon as everyone has denied: here there is nobody else. */
static void a_fetch_that_fails_is_explained(void **state)
{
    struct fixture *fixture = *state;
    json_t *answer = ask(fixture, "POST", "/fetches", START(UNKNOWN), 202);
    assert_string_equal(text_of(answer, "id"), UNKNOWN);
    assert_string_equal(text_of(answer, "reason"), "cache");
    json_decref(answer);
    is_refused(fixture, "GET", "/files/" UNKNOWN "/data", NULL, 404, "not_found");
    answer = ask(fixture, "GET", "/why/" UNKNOWN, NULL, 200);
    assert_string_equal(text_of(answer, "state"), "failed");
    assert_string_equal(text_of(answer, "error"), "not_found");
    json_decref(answer);
}

/* With others, of which it comes: tests/integration/test_get_local.py. */
static void what_is_waited_for_is_here_or_nowhere(void **state)
{
    struct fixture *fixture = *state;
    const char *const contents[] = {"content", ""};
    for (size_t i = 0; i < ARRAY_SIZE(contents); i++) {
        json_t *put = ask(fixture, "PUT", "/fs/d/f", contents[i], i == 0 ? 201 : 200);
        CLEANUP_FREE char *target = mem_format("/fetches/%s", text_of(put, "id"));
        json_t *answer = ask(fixture, "GET", target, NULL, 200);
        assert_string_equal(text_of(answer, "id"), text_of(put, "id"));
        json_decref(answer);
        json_decref(put);
    }
    is_refused(fixture, "GET", "/fetches/" UNKNOWN, NULL, 404, "not_found");
}

static void what_makes_no_sense_is_refused(void **state)
{
    struct fixture *fixture = *state;
    is_refused(fixture, "POST", "/fetches", "", 400, "bad_body");
    is_refused(fixture, "POST", "/fetches", "{\"op\":\"start\"}", 400, "bad_body");
    is_refused(fixture, "POST", "/fetches", START("x"), 400, "bad_body");
    is_refused(fixture, "POST", "/fetches", START_ALL(""), 400, "bad_body");
    is_refused(fixture, "POST", "/fetches", START_ALL("\"" UNKNOWN "\",7"), 400, "bad_body");
    is_refused(fixture, "POST", "/fetches",
               "{\"op\":\"start\",\"id\":\"" UNKNOWN "\",\"ids\":[\"" UNKNOWN "\"]}", 400,
               "bad_body");
    is_refused(fixture, "POST", "/fetches", "{\"op\":\"start\",\"ids\":\"" UNKNOWN "\"}", 400,
               "bad_body");
    is_refused(fixture, "POST", "/fetches", "{\"op\":\"end\",\"id\":\"" UNKNOWN "\"}", 400,
               "bad_body");
    is_refused(fixture, "GET", "/fetches?limit=0", NULL, 400, "bad_query");
    is_refused(fixture, "GET", "/fetches?after=x", NULL, 400, "bad_query");
    is_refused(fixture, "GET", "/fetches/x", NULL, 400, "bad_id");
    is_refused(fixture, "PUT", "/fetches/" UNKNOWN, "x", 405, "method_not_allowed");
    is_refused(fixture, "DELETE", "/fetches/x", NULL, 400, "bad_id");
    is_refused(fixture, "DELETE", "/fetches", NULL, 405, "method_not_allowed");
    is_refused(fixture, "GET", "/why", NULL, 409, "is_directory");
    is_refused(fixture, "GET", "/why/none", NULL, 404, "not_found");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_fetched, set_up_running, tear_down),
        cmocka_unit_test_setup_teardown(what_is_here_is_told, set_up_running, tear_down),
        cmocka_unit_test_setup_teardown(a_path_that_looks_like_an_id, set_up_running, tear_down),
        cmocka_unit_test_setup_teardown(a_fetch_that_fails_is_explained, set_up_running, tear_down),
        cmocka_unit_test_setup_teardown(what_is_waited_for_is_here_or_nowhere, set_up_running,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_makes_no_sense_is_refused, set_up_running, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
