/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_HTTP_HELPERS_H
#define TESTS_UNIT_HTTP_HELPERS_H

/*
 * What tests of whole requests share: a node in this process, on a clock that moves when it is told
 * to, and changes of its tree that the test makes itself.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "http/server.h"
#include "node/network.h"
#include "tree/change.h"

struct fixture {
    char root[64];
    struct clock_manual clock;
    struct node *node;
    struct network *network;
    struct server *server;
};

static inline int set_up(void **state)
{
    log_set_level(LOG_OFF);
    struct fixture *fixture = mem_alloc(sizeof *fixture);
    const char *parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(fixture->root, sizeof fixture->root, "%s/artel-test-XXXXXX", parent);
    if (!mkdtemp(fixture->root)) {
        return -1;
    }
    clock_manual_init(&fixture->clock, 1000000);
    CLEANUP_FREE char *data = mem_format("%s/data", fixture->root);
    const struct node_options node_options = {.data = data, .clock = &fixture->clock.clock};
    struct network_options network_options = {0};
    *state = fixture;
    if (node_open(&node_options, &fixture->node) != 0 ||
        address_parse("127.0.0.1:0", &network_options.listen) != 0 ||
        network_open(fixture->node, &network_options, &fixture->network) != 0) {
        return -1;
    }
    const struct server_options server_options = {
        .listen = "127.0.0.1:0", .version = "test", .network = fixture->network};
    return server_start(fixture->node, &server_options, &fixture->server);
}

/* The same, and the network runs: alone. */
static inline int set_up_running(void **state)
{
    const int failed = set_up(state);
    if (!failed) {
        const struct fixture *fixture = *state;
        network_start(fixture->network);
    }
    return failed;
}

static inline int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *walk)
{
    (void)stat;
    (void)kind;
    (void)walk;
    return remove(path);
}

static inline int tear_down(void **state)
{
    struct fixture *fixture = *state;
    server_stop(fixture->server);
    network_close(fixture->network);
    node_close(fixture->node);
    const int failed = nftw(fixture->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return failed;
}

static inline struct tree_summary summary_of(struct fixture *fixture)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct tree_summary summary;
    assert_int_equal(node_snapshot(fixture->node, &txn), 0);
    assert_int_equal(tree_summary(node_tree(fixture->node), txn, &summary), 0);
    return summary;
}

/* ---- changes -------------------------------------------------------------------------------- */

typedef int change_fn(void *context, const struct tree *tree, struct kv_txn *txn);

struct change_job {
    change_fn *make;
    void *context;
    int err;
    int done[2]; /* a pipe */
};

static inline int change_apply(void *context, const struct tree *tree, struct kv_txn *txn,
                               const struct store_put_result *results)
{
    (void)results;
    const struct change_job *job = context;
    return job->make(job->context, tree, txn);
}

static inline void change_done(void *context, int err, const struct store_put_result *results)
{
    (void)results;
    struct change_job *job = context;
    job->err = err;
    (void)!write(job->done[1], "", 1);
}

/* Runs `make` in a transaction of the node, and waits until it is durable. */
static inline void change_tree(struct fixture *fixture, change_fn *make, void *context)
{
    struct change_job job = {.make = make, .context = context};
    assert_int_equal(pipe(job.done), 0);
    const struct node_change change = {.apply = change_apply, .done = change_done, .context = &job};
    node_change_async(fixture->node, &change);
    char byte;
    assert_int_equal(read(job.done[0], &byte, 1), 1);
    close(job.done[0]);
    close(job.done[1]);
    assert_int_equal(job.err, 0);
}

/* ---- requests ------------------------------------------------------------------------------- */

/* A connection by the Unix socket on which a request is sent, in HTTP/1.0, so that the answer is
 * not cut into chunks. The caller closes it. */
static inline int send_request(struct fixture *fixture, const char *line_and_headers)
{
    CLEANUP_FREE char *request = mem_format("%s\r\n\r\n", line_and_headers);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/data/socket", fixture->root);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(file_write_all(fd, bytes_of_string(request)), 0);
    return fd;
}

/* Reads an answer up to its end; its body, of `status`. */
static inline void read_answer(int fd, unsigned status, struct buf *ret_body)
{
    CLEANUP_BUF struct buf answer = BUF_INIT;
    ssize_t size = 1;
    while (size > 0) {
        uint8_t piece[4096];
        size = read(fd, piece, sizeof piece);
        assert_true(size >= 0);
        buf_add(&answer, BYTES(piece, (size_t)size));
    }
    const char *text = buf_string(&answer);
    const char *body = strstr(text, "\r\n\r\n");
    assert_non_null(body);
    CLEANUP_FREE char *line = mem_format("HTTP/1.0 %u ", status);
    if (strncmp(text + strlen("HTTP/1.x "), line + strlen("HTTP/1.x "), 4) != 0) {
        fail_msg("not %u: %s", status, text);
    }
    buf_clear(ret_body);
    buf_add_string(ret_body, body + 4);
}

/* The answer, of `status`, to a request that has a body unless that is NULL. The caller gives it to
 * json_decref(). */
static inline json_t *ask(struct fixture *fixture, const char *method, const char *target,
                          const char *body, unsigned status)
{
    CLEANUP_FREE char *length =
        body ? mem_format("\r\nContent-Length: %zu", strlen(body)) : mem_copy_string("");
    CLEANUP_FREE char *head = mem_format("%s %s HTTP/1.0%s", method, target, length);
    CLEANUP_FD int fd = send_request(fixture, head);
    if (body) {
        assert_int_equal(file_write_all(fd, bytes_of_string(body)), 0);
    }
    CLEANUP_BUF struct buf answer = BUF_INIT;
    read_answer(fd, status, &answer);
    json_t *json = json_loads(buf_string(&answer), 0, NULL);
    assert_non_null(json);
    return json;
}

/* The same, of which only the code of the error matters. */
static inline void is_refused(struct fixture *fixture, const char *method, const char *target,
                              const char *body, unsigned status, const char *code)
{
    json_t *json = ask(fixture, method, target, body, status);
    assert_string_equal(json_string_value(json_object_get(json, "error")), code);
    json_decref(json);
}

/* A member that is text. */
static inline const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    assert_non_null(text);
    return text;
}

#endif
