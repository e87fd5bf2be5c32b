/* SPDX-License-Identifier: Apache-2.0 */

/* Answers for which something lacks, of a node that is alone, so that it comes from nowhere. With
 * others: tests/integration/test_fetch.py. */

#include "helpers.h"

#include "tree/remote.h"

#define UNKNOWN "abababababababababababababababababababababababababababababababab"

/* A file whose content nobody has: as if it had been published elsewhere. */
static int make_absent(void *context, const struct tree *tree, struct kv_txn *txn)
{
    struct tree_change change = {
        .kind = TREE_FILE,
        .path = bytes_of_string(context),
        .mode = 0644,
        .size_bytes = 7,
    };
    memset(change.file_id.bytes, 0xab, sizeof change.file_id.bytes);
    struct tree_op op = {
        .seq = 1,
        .lamport = 1,
        .event = TREE_EVENT_CHANGES,
        .changes = &change,
        .changes_count = 1,
    };
    memset(op.origin.bytes, 'b', sizeof op.origin.bytes);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    int err = tree_op_format(&op, &bytes);
    struct tree_remote remote = {0};
    if (!err) {
        err = tree_apply(tree, txn, buf_bytes(&bytes), &remote);
    }
    return !err && remote.verdict != TREE_APPLIED ? -EIO : err;
}

static void is_nowhere(struct fixture *fixture, const char *target, const char *headers,
                       const char *code, const char *path)
{
    CLEANUP_FREE char *request = mem_format("GET %s HTTP/1.0%s", target, headers);
    CLEANUP_FD int fd = send_request(fixture, request);
    CLEANUP_BUF struct buf body = BUF_INIT;
    read_answer(fd, 404, &body);
    json_t *answer = json_loads(buf_string(&body), 0, NULL);
    assert_string_equal(text_of(answer, "error"), code);
    const json_t *detail = json_object_get(answer, "detail");
    assert_string_equal(text_of(detail, "id"), UNKNOWN);
    assert_int_equal(json_array_size(json_object_get(detail, "not_asked")), 0);
    if (path) {
        assert_string_equal(text_of(detail, "path"), path);
    } else {
        assert_null(json_object_get(detail, "path"));
    }
    json_decref(answer);
}

static void what_is_nowhere_is_said_to_be(void **state)
{
    struct fixture *fixture = *state;
    change_tree(fixture, make_absent, (char[]){"d/f"});
    is_nowhere(fixture, "/fs/d/f", "", "content_not_here", NULL);
    is_nowhere(fixture, "/fs/d/f", "\r\nRange: bytes=2-3", "content_not_here", NULL);
    is_nowhere(fixture, "/fs/d", "\r\nAccept: application/x-tar", "content_not_here", "d/f");
    is_nowhere(fixture, "/files/" UNKNOWN "/data", "", "not_found", NULL);
    is_nowhere(fixture, "/files/" UNKNOWN "/metadata", "", "not_found", NULL);
}

static void what_needs_no_content_is_answered(void **state)
{
    struct fixture *fixture = *state;
    change_tree(fixture, make_absent, (char[]){"d/f"});
    CLEANUP_FD int fd = send_request(fixture, "HEAD /fs/d/f HTTP/1.0");
    CLEANUP_BUF struct buf answer = BUF_INIT;
    uint8_t piece[4096];
    ssize_t size;
    while ((size = read(fd, piece, sizeof piece)) > 0) {
        buf_add(&answer, BYTES(piece, (size_t)size));
    }
    assert_non_null(strstr(buf_string(&answer), " 200 OK\r\n"));
    assert_non_null(strstr(buf_string(&answer), "Content-Length: 7\r\n"));
    assert_non_null(strstr(buf_string(&answer), "X-Artel-Id: " UNKNOWN "\r\n"));
    CLEANUP_FD int other = send_request(fixture, "GET /fs/d/f HTTP/1.0\r\nIf-None-Match: *");
    CLEANUP_BUF struct buf body = BUF_INIT;
    read_answer(other, 304, &body);
    json_t *fetches = ask(fixture, "GET", "/why/d/f", NULL, 200);
    assert_string_equal(text_of(fetches, "state"), "absent");
    json_decref(fetches);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_nowhere_is_said_to_be, set_up_running, tear_down),
        cmocka_unit_test_setup_teardown(what_needs_no_content_is_answered, set_up_running,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
