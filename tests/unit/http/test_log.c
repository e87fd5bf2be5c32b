/* SPDX-License-Identifier: Apache-2.0 */

/* What is told of paths that others changed at the same time: their ops are applied here as if they
 * had come over the network. */

#include "helpers.h"

#include "tree/remote.h"

struct foreign {
    char writer; /* its first op */
    uint64_t lamport;
    const char *path; /* "%u" in it is 0 to count - 1 */
    unsigned count;
};

static int make_foreign(void *context, const struct tree *tree, struct kv_txn *txn)
{
    const struct foreign *foreign = context;
    struct tree_change *changes = mem_alloc_array(foreign->count, sizeof *changes);
    char(*paths)[32] = mem_alloc_array(foreign->count, sizeof *paths);
    for (unsigned i = 0; i < foreign->count; i++) {
        snprintf(paths[i], sizeof paths[i], "%s%04u", foreign->path, i);
        changes[i] = (struct tree_change){.kind = TREE_SYMLINK,
                                          .path = bytes_of_string(paths[i]),
                                          .mode = 0777,
                                          .target = BYTES((const uint8_t *)&foreign->writer, 1)};
    }
    struct tree_op op = {
        .seq = 1,
        .lamport = foreign->lamport,
        .event = TREE_EVENT_CHANGES,
        .changes = changes,
        .changes_count = foreign->count,
    };
    memset(op.origin.bytes, foreign->writer, sizeof op.origin.bytes);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    int err = tree_op_format(&op, &bytes);
    struct tree_remote remote = {0};
    if (!err) {
        err = tree_apply(tree, txn, buf_bytes(&bytes), &remote);
    }
    if (!err && remote.verdict != TREE_APPLIED) {
        err = -EIO;
    }
    free(paths);
    free(changes);
    return err;
}

static void change_by(struct fixture *fixture, struct foreign foreign)
{
    change_tree(fixture, make_foreign, &foreign);
}

/* The body of the answer, of status 200. */
static void get(struct fixture *fixture, const char *target, const char *headers,
                struct buf *ret_body)
{
    CLEANUP_FREE char *request = mem_format("GET %s HTTP/1.0%s", target, headers);
    CLEANUP_FD int fd = send_request(fixture, request);
    read_answer(fd, 200, ret_body);
}

static json_t *get_json(struct fixture *fixture, const char *target)
{
    CLEANUP_BUF struct buf body = BUF_INIT;
    get(fixture, target, "", &body);
    json_t *json = json_loads(buf_string(&body), 0, NULL);
    assert_non_null(json);
    return json;
}

static void assert_version(const json_t *versions, size_t index, const char *target,
                           bool is_current, bool is_conflict)
{
    const json_t *version = json_array_get(versions, index);
    assert_string_equal(text_of(version, "target"), target);
    assert_int_equal(json_is_true(json_object_get(version, "current")), is_current);
    assert_int_equal(json_is_true(json_object_get(version, "conflict")), is_conflict);
}

static void conflicts_are_listed_with_their_versions(void **state)
{
    struct fixture *fixture = *state;
    change_by(fixture, (struct foreign){'b', 5, "d/f", 1});
    change_by(fixture, (struct foreign){'c', 9, "d/f", 2});
    change_by(fixture, (struct foreign){'d', 7, "d/f", 1});
    json_t *answer = get_json(fixture, "/conflicts");
    assert_int_equal(json_object_size(answer), 2);
    assert_string_equal(text_of(answer, "path"), "");
    const json_t *conflicts = json_object_get(answer, "conflicts");
    assert_int_equal(json_array_size(conflicts), 1);
    const json_t *conflict = json_array_get(conflicts, 0);
    assert_string_equal(text_of(conflict, "path"), "d/f0000");
    const json_t *versions = json_object_get(conflict, "versions");
    assert_int_equal(json_array_size(versions), 3);
    assert_version(versions, 0, "c", true, false);
    assert_string_equal(text_of(json_array_get(versions, 0), "version"),
                        "63636363636363636363636363636363:1");
    assert_null(json_object_get(json_array_get(versions, 0), "by"));
    bool seen[2] = {false};
    for (size_t i = 1; i < 3; i++) {
        const char *target = text_of(json_array_get(versions, i), "target");
        seen[target[0] == 'd'] = true;
        assert_version(versions, i, target, false, true);
    }
    assert_true(seen[0] && seen[1]);
    json_decref(answer);

    answer = get_json(fixture, "/conflicts/d?match=d/f0001");
    assert_int_equal(json_array_size(json_object_get(answer, "conflicts")), 0);
    json_decref(answer);
    answer = get_json(fixture, "/log/d/f0000");
    versions = json_object_get(answer, "versions");
    assert_int_equal(json_array_size(versions), 3);
    assert_version(versions, 0, "c", true, false);
    json_decref(answer);
}

/* A file under a directory of its name is one conflict. */
static void a_hidden_file_is_told_once(void **state)
{
    struct fixture *fixture = *state;
    change_by(fixture, (struct foreign){'b', 5, "n0000/x", 1});
    change_by(fixture, (struct foreign){'c', 5, "n", 1});
    change_by(fixture, (struct foreign){'d', 5, "n", 1});
    json_t *answer = get_json(fixture, "/conflicts");
    const json_t *conflicts = json_object_get(answer, "conflicts");
    assert_int_equal(json_array_size(conflicts), 1);
    const json_t *conflict = json_array_get(conflicts, 0);
    assert_string_equal(text_of(conflict, "path"), "n0000");
    const json_t *versions = json_object_get(conflict, "versions");
    assert_int_equal(json_array_size(versions), 2);
    assert_version(versions, 0, text_of(json_array_get(versions, 0), "target"), false, true);
    assert_version(versions, 1, text_of(json_array_get(versions, 1), "target"), false, true);
    json_decref(answer);
}

/* Page by page and as lines: all of them, each once, in order. */
static void conflicts_come_in_pages_and_lines(void **state)
{
    enum { COUNT = 2500, LIMIT = 700 };
    struct fixture *fixture = *state;
    change_by(fixture, (struct foreign){'b', 5, "m/f", 2 * COUNT});
    change_by(fixture, (struct foreign){'c', 5, "m/f", COUNT});
    unsigned told = 0;
    CLEANUP_FREE char *after = mem_copy_string("");
    for (bool more = true; more;) {
        CLEANUP_FREE char *target =
            mem_format("/conflicts?limit=%d%s%s", LIMIT, *after ? "&after=" : "", after);
        json_t *answer = get_json(fixture, target);
        const json_t *conflicts = json_object_get(answer, "conflicts");
        for (size_t i = 0; i < json_array_size(conflicts); i++) {
            char expected[32];
            snprintf(expected, sizeof expected, "m/f%04u", told++);
            assert_string_equal(text_of(json_array_get(conflicts, i), "path"), expected);
        }
        const char *next = json_string_value(json_object_get(answer, "next"));
        more = next != NULL;
        free(after);
        after = mem_copy_string(next ? next : "");
        json_decref(answer);
    }
    assert_int_equal(told, COUNT);

    CLEANUP_BUF struct buf body = BUF_INIT;
    get(fixture, "/conflicts", "\r\nAccept: application/x-ndjson", &body);
    told = 0;
    const char *line = buf_string(&body);
    for (const char *end = strchr(line, '\n'); end; line = end + 1, end = strchr(line, '\n')) {
        told++;
    }
    assert_int_equal(told, COUNT);
    assert_int_equal(*line, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(conflicts_are_listed_with_their_versions, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_hidden_file_is_told_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(conflicts_come_in_pages_and_lines, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
