/* SPDX-License-Identifier: Apache-2.0 */

/* Waiting until others have it, of a node that is alone. With others:
 * tests/integration/test_wait.py. */

#include "helpers.h"

#include <fcntl.h>

static int64_t number_of(const json_t *answer, const char *key)
{
    const json_t *number = json_object_get(answer, key);
    assert_true(json_is_integer(number));
    return json_integer_value(number);
}

static void a_file_of_this_node_is_here(void **state)
{
    struct fixture *fixture = *state;
    json_decref(ask(fixture, "PUT", "/fs/d/f", "content", 201));
    json_t *file = ask(fixture, "GET", "/wait/d/f", NULL, 200);
    assert_true(json_is_true(json_object_get(file, "reached")));
    assert_true(json_is_false(json_object_get(file, "replaced")));
    assert_string_equal(text_of(file, "type"), "file");
    assert_int_equal(number_of(file, "members"), 1);
    assert_int_equal(number_of(file, "wanted"), 1);
    assert_int_equal(number_of(file, "have"), 1);
    assert_int_equal(number_of(file, "length"), 7);
    assert_int_equal(json_array_size(json_object_get(file, "lacking")), 0);
    json_decref(file);
    json_t *directory = ask(fixture, "GET", "/wait/d?quorum=99.5%25", NULL, 200);
    assert_string_equal(text_of(directory, "type"), "directory");
    assert_null(json_object_get(directory, "id"));
    assert_int_equal(number_of(directory, "files"), 1);
    assert_int_equal(number_of(directory, "wanted"), 1);
    json_decref(directory);
}

static void the_digest_is_of_names_and_contents(void **state)
{
    struct fixture *fixture = *state;
    static const char *const puts[] = {"/fs/a/f", "/fs/b/f", "/fs/c/g", "/fs/d/f"};
    char digests[4][65];
    for (size_t i = 0; i < 4; i++) {
        json_decref(ask(fixture, "PUT", puts[i], i == 3 ? "other" : "content", 201));
        char target[] = "/wait/a";
        target[6] = (char)('a' + i);
        json_t *answer = ask(fixture, "GET", target, NULL, 200);
        snprintf(digests[i], sizeof digests[i], "%s", text_of(answer, "digest"));
        json_decref(answer);
    }
    assert_string_equal(digests[0], digests[1]);
    assert_string_not_equal(digests[0], digests[2]);
    assert_string_not_equal(digests[0], digests[3]);
}

static json_t *one_lacking(const json_t *answer)
{
    const json_t *lacking = json_object_get(answer, "lacking");
    assert_true(json_is_false(json_object_get(answer, "reached")));
    assert_int_equal(json_array_size(lacking), 1);
    return json_array_get(lacking, 0);
}

/* Followed for as long as somebody says that it stands in a directory. */
static void a_file_is_followed_while_it_is_adopted(void **state)
{
    struct fixture *fixture = *state;
    json_t *put = ask(fixture, "PUT", "/fs/d/f", "content", 201);
    json_decref(ask(fixture, "PUT", "/fs/d/g", "other", 201));
    json_t *answer = ask(fixture, "GET", "/wait/d?followers=1", NULL, 200);
    assert_true(json_is_true(json_object_get(answer, "followers")));
    assert_string_equal(text_of(one_lacking(answer), "why"), "no_follower");
    assert_int_equal(number_of(one_lacking(answer), "followed"), 0);
    json_decref(answer);

    CLEANUP_FREE char *path = mem_format("%s/f", fixture->root);
    assert_int_equal(file_replace(AT_FDCWD, path, bytes_of_string("content")), 0);
    CLEANUP_FREE char *files =
        mem_format("\"files\":[{\"id\":\"%s\",\"path\":\"%s\"}]", text_of(put, "id"), path);
    CLEANUP_FREE char *adopt = mem_format("{\"op\":\"adopt\",%s}", files);
    CLEANUP_FREE char *release = mem_format("{\"op\":\"release\",%s}", files);
    json_decref(put);
    json_decref(ask(fixture, "POST", "/files", adopt, 200));
    answer = ask(fixture, "GET", "/wait/d?followers=1", NULL, 200);
    assert_string_equal(text_of(one_lacking(answer), "why"), "not_landed");
    assert_int_equal(number_of(one_lacking(answer), "followed"), 1);
    json_decref(answer);
    answer = ask(fixture, "GET", "/wait/d/f?followers=1", NULL, 200);
    assert_true(json_is_true(json_object_get(answer, "reached")));
    json_decref(answer);
    answer = ask(fixture, "GET", "/wait/d?followers=0", NULL, 200);
    assert_true(json_is_true(json_object_get(answer, "reached")));
    assert_null(json_object_get(answer, "followers"));
    json_decref(answer);

    json_decref(ask(fixture, "POST", "/files", release, 200));
    answer = ask(fixture, "GET", "/wait/d/f?followers=1", NULL, 200);
    assert_string_equal(text_of(one_lacking(answer), "why"), "no_follower");
    json_decref(answer);
}

static void what_makes_no_sense_is_refused(void **state)
{
    struct fixture *fixture = *state;
    json_decref(ask(fixture, "PUT", "/fs/d/f", "content", 201));
    is_refused(fixture, "GET", "/wait/none", NULL, 404, "not_found");
    is_refused(fixture, "GET", "/wait/d/f/below", NULL, 404, "not_found");
    static const char *const queries[] = {"wait=61",        "wait=x",       "nodes=0",
                                          "nodes=16385",    "quorum=0",     "quorum=0.0000",
                                          "quorum=.5",      "quorum=5.5.5", "quorum=100.0001",
                                          "quorum=1%25%25", "quorum=",      "depth=1"};
    for (size_t i = 0; i < ARRAY_SIZE(queries); i++) {
        CLEANUP_FREE char *target = mem_format("/wait/d/f?%s", queries[i]);
        is_refused(fixture, "GET", target, NULL, 400, "bad_query");
    }
    is_refused(fixture, "PUT", "/wait/d/f", "", 405, "method_not_allowed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_of_this_node_is_here, set_up_running, tear_down),
        cmocka_unit_test_setup_teardown(the_digest_is_of_names_and_contents, set_up_running,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_file_is_followed_while_it_is_adopted, set_up_running,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_makes_no_sense_is_refused, set_up_running, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
