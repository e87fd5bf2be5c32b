/* SPDX-License-Identifier: Apache-2.0 */

/* Who has it, of a node that is alone. With others: tests/integration/test_where.py. */

#include "helpers.h"

static const char *publish(struct fixture *fixture, char ret_id[65])
{
    json_t *answer = ask(fixture, "PUT", "/fs/d/f", "content", 201);
    snprintf(ret_id, 65, "%s", text_of(answer, "id"));
    json_decref(answer);
    return ret_id;
}

static void is_here(const json_t *answer)
{
    const json_t *holders = json_object_get(answer, "holders");
    assert_int_equal(json_array_size(holders), 1);
    const json_t *holder = json_array_get(holders, 0);
    assert_string_equal(text_of(holder, "state"), "complete");
    assert_true(json_is_true(json_object_get(holder, "self")));
    assert_int_equal(json_array_size(json_object_get(answer, "not_asked")), 0);
    assert_true(json_is_true(json_object_get(answer, "final")));
    assert_true(json_is_false(json_object_get(answer, "asked_everyone")));
}

static void content_of_this_node_is_here(void **state)
{
    struct fixture *fixture = *state;
    char id[65];
    publish(fixture, id);
    json_t *answer = ask(fixture, "GET", "/where/d/f", NULL, 200);
    is_here(answer);
    assert_string_equal(text_of(answer, "path"), "d/f");
    assert_string_equal(text_of(answer, "id"), id);
    assert_int_equal(json_integer_value(json_object_get(answer, "length")), 7);
    json_decref(answer);
    CLEANUP_FREE char *by_id = mem_format("/locate/%s", id);
    answer = ask(fixture, "GET", by_id, NULL, 200);
    is_here(answer);
    assert_null(json_object_get(answer, "path"));
    json_decref(answer);
    /* A block by its own id. */
    CLEANUP_FREE char *metadata = mem_format("/files/%s/metadata", id);
    answer = ask(fixture, "GET", metadata, NULL, 200);
    const json_t *block = json_array_get(json_object_get(answer, "blocks"), 0);
    CLEANUP_FREE char *by_block = mem_format("/locate/%s", text_of(block, "id"));
    json_decref(answer);
    answer = ask(fixture, "GET", by_block, NULL, 200);
    is_here(answer);
    json_decref(answer);
}

static void what_nobody_has(void **state)
{
    struct fixture *fixture = *state;
    char target[80] = "/locate/";
    memset(target + 8, 'a', 64);
    json_t *answer = ask(fixture, "GET", target, NULL, 200);
    assert_int_equal(json_array_size(json_object_get(answer, "holders")), 0);
    assert_true(json_is_true(json_object_get(answer, "asked_everyone")));
    assert_true(json_is_true(json_object_get(answer, "final")));
    json_decref(answer);
}

static void what_makes_no_sense_is_refused(void **state)
{
    struct fixture *fixture = *state;
    char id[65];
    publish(fixture, id);
    CLEANUP_FREE char *longer = mem_format("/locate/%s/x", id);
    is_refused(fixture, "GET", "/where/d", NULL, 409, "is_directory");
    is_refused(fixture, "GET", "/where", NULL, 409, "is_directory");
    is_refused(fixture, "GET", "/where/none", NULL, 404, "not_found");
    is_refused(fixture, "GET", "/where/d/f/below", NULL, 404, "not_found");
    is_refused(fixture, "GET", "/where/d/f?wait=0", NULL, 400, "bad_query");
    is_refused(fixture, "GET", "/where/d/f?wait=61", NULL, 400, "bad_query");
    is_refused(fixture, "GET", "/where/d/f?depth=1", NULL, 400, "bad_query");
    is_refused(fixture, "GET", "/locate/abc", NULL, 400, "bad_id");
    is_refused(fixture, "GET", "/locate/", NULL, 400, "bad_id");
    is_refused(fixture, "GET", "/locate", NULL, 404, "not_found");
    is_refused(fixture, "GET", longer, NULL, 404, "not_found");
    is_refused(fixture, "PUT", "/where/d/f", "", 405, "method_not_allowed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(content_of_this_node_is_here, set_up_running, tear_down),
        cmocka_unit_test_setup_teardown(what_nobody_has, set_up_running, tear_down),
        cmocka_unit_test_setup_teardown(what_makes_no_sense_is_refused, set_up_running, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
