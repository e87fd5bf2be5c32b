/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who holds it: GET /where/PATH and GET /locate/ID.
 *
 * First those are asked who should know: the owners of the key, and the node that published it. If
 * none of them knows one that has all of it, or the request wants it, everybody is asked.
 */

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "http/awaited.h"
#include "http/endpoints_priv.h"
#include "http/known.h"
#include "http/server_priv.h"
#include "node/fetch.h"

#define WAIT_S_MAX (FETCH_LOCATE_MS_MAX / 1000)
/* Longer than a search among all takes. */
#define WAIT_S_DEFAULT 5u

struct where {
    struct id id;
    uint64_t length_bytes;
    bool has_entry;
    struct node_id publisher;
    bool has_publisher;
    bool is_everyone;  /* all are asked, at last or from the beginning */
    uint64_t until_ms; /* of the node's clock: then what is known is told */
    struct awaited awaited;
    int err;
    bool is_final;
    struct locate_held_by *holders;
    size_t holders_count;
    struct locate_answer *answers;
    size_t answers_count;
};

static void free_where(struct where *where)
{
    free(where->holders);
    free(where->answers);
    free(where);
}

static uint64_t left_ms(const struct request *request, const struct where *where)
{
    const uint64_t now_ms = clock_monotonic_ms(node_clock(request->node));
    return now_ms < where->until_ms ? where->until_ms - now_ms : 0;
}

/* On the fetch thread. */
static void located(void *context, int err, const struct locate_found *found)
{
    struct where *where = context;
    awaited_lock(&where->awaited);
    where->err = err;
    if (found) {
        where->is_final = found->is_final;
        where->holders_count = found->holders_count;
        where->holders = mem_copy(found->holders, found->holders_count * sizeof *found->holders);
        where->answers_count = found->answers_count;
        where->answers = mem_copy(found->answers, found->answers_count * sizeof *found->answers);
    }
    if (awaited_told(&where->awaited)) {
        free_where(where);
    }
}

static void ask(struct request *request, struct where *where, uint64_t wait_ms)
{
    free(where->holders);
    free(where->answers);
    where->holders = NULL;
    where->answers = NULL;
    where->holders_count = 0;
    where->answers_count = 0;
    awaited_ask(&where->awaited, 1);
    const struct fetch_locate_options options = {
        .key = ring_key_of(&where->id),
        .publisher = where->has_publisher ? &where->publisher : NULL,
        .depth = where->is_everyone ? LOCATE_EVERYONE : LOCATE_INDEX,
        .wait_ms = wait_ms,
    };
    fetch_locate(network_fetch(request->server->options.network), &options, located, where);
}

static void begin_asking(struct request *request, const struct id *id, struct where **ret_where)
{
    uint64_t wait_s = 0;
    if (request_number(request, "wait", 1, WAIT_S_MAX, WAIT_S_DEFAULT, &wait_s)) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query",
                     "wait is a number of seconds up to %u", (unsigned)WAIT_S_MAX);
        return;
    }
    struct where *where = mem_alloc(sizeof *where);
    *where = (struct where){
        .id = *id,
        .is_everyone = request_switch(request, "all"),
        .until_ms = clock_monotonic_ms(node_clock(request->node)) + wait_s * 1000,
    };
    awaited_init(&where->awaited, request);
    request->state = where;
    *ret_where = where;
}

static void begin_path(struct request *request)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct tree_entry entry;
    struct where *where = NULL;
    int err = node_snapshot(request->node, &txn);
    if (!err) {
        err = tree_find(node_tree(request->node), txn, request->path, &entry);
    }
    if (!err && entry.version.kind != TREE_FILE) {
        err = entry.version.kind == TREE_SYMLINK ? -ENOENT : -EISDIR;
    }
    if (err) {
        answer_failure(request, err == -ENOTDIR ? -ENOENT : err);
        return;
    }
    begin_asking(request, &entry.version.file_id, &where);
    if (where) {
        where->has_entry = true;
        where->length_bytes = entry.version.size_bytes;
        where->has_publisher = network_writer(request->server->options.network,
                                              &entry.version.dot.origin, &where->publisher);
        ask(request, where, left_ms(request, where));
    }
}

static void begin_id(struct request *request)
{
    struct where *where = NULL;
    begin_asking(request, &request->id, &where);
    if (where) {
        ask(request, where, left_ms(request, where));
    }
}

static bool has_complete(const struct where *where)
{
    for (size_t i = 0; i < where->holders_count; i++) {
        if (where->holders[i].state == LOCATE_COMPLETE) {
            return true;
        }
    }
    return false;
}

static void answer_found(struct request *request, const struct where *where)
{
    CLEANUP_KNOWN struct known known;
    known_init(&known, request->server->options.network);
    json_t *holders = json_array();
    for (size_t i = 0; i < where->holders_count; i++) {
        const struct locate_held_by *holder = &where->holders[i];
        json_t *object = known_json(&known, &holder->node);
        const bool is_complete = holder->state == LOCATE_COMPLETE;
        json_object_set_new(object, "state", json_string(is_complete ? "complete" : "partial"));
        json_array_append_new(holders, object);
    }
    json_t *body = json_object();
    if (where->has_entry) {
        json_object_set_new(body, "path", json_of_bytes(request->path));
        json_object_set_new(body, "length", json_integer((json_int_t)where->length_bytes));
    }
    json_object_set_new(body, "id", json_of_id(&where->id));
    json_object_set_new(body, "holders", holders);
    json_object_set_new(body, "asked_everyone", json_boolean(where->is_everyone));
    json_object_set_new(body, "final", json_boolean(where->is_final));
    json_object_set_new(body, "not_asked",
                        known_not_asked(&known, where->answers, where->answers_count));
    answer_json(request, MHD_HTTP_OK, body);
}

/* Answers, goes on to ask everybody, or suspends. */
static void go_on(struct request *request)
{
    struct where *where = request->state;
    for (;;) {
        const bool is_told = awaited_look(&where->awaited);
        if (is_told && where->err) {
            answer_failure(request, where->err == -EBUSY ? -EAGAIN : where->err);
            return;
        }
        if (is_told && (where->is_everyone || has_complete(where))) {
            answer_found(request, where);
            return;
        }
        const uint64_t wait_ms = left_ms(request, where);
        if (is_told && wait_ms == 0) {
            where->is_final = false; /* not everyone was asked */
            answer_found(request, where);
            return;
        }
        if (is_told) {
            where->is_everyone = true;
            ask(request, where, wait_ms);
            continue;
        }
        const enum wait_outcome outcome = awaited_sleep(&where->awaited, request);
        if (outcome == WAIT_OVER) {
            answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "stopped", "the node ends");
        }
        if (outcome != WAIT_AGAIN) {
            return;
        }
    }
}

static void done(struct request *request)
{
    struct where *where = request->state;
    bool is_told = false;
    awaited_leave(&where->awaited, &is_told);
    if (awaited_end(&where->awaited)) {
        free_where(where);
    }
}

static const char *const parameters[] = {"all", "wait", NULL};

const struct endpoint endpoint_where = {
    .method = "GET",
    .prefix = "/where",
    .argument = PATH_TREE,
    .parameters = parameters,
    .begin = begin_path,
    .end = go_on,
    .resumed = go_on,
    .done = done,
};

const struct endpoint endpoint_locate = {
    .method = "GET",
    .prefix = "/locate",
    .argument = PATH_ID,
    .parameters = parameters,
    .begin = begin_id,
    .end = go_on,
    .resumed = go_on,
    .done = done,
};
