/* SPDX-License-Identifier: Apache-2.0 */
#include "http/ack_priv.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "http/awaited.h"
#include "http/server_priv.h"
#include "node/fetch.h"
#include "node/network.h"
#include "node/replica.h"

_Static_assert((uint64_t)ACK_WAIT_S_MAX * 1000 <= REPLICA_AWAIT_MS_MAX, "what can be waited for");

_Static_assert((uint64_t)ACK_COPIES_WAIT_S_MAX * 1000 <= FETCH_COPIES_MS_MAX, "likewise");

struct ack {
    unsigned status;
    json_t *body;
    struct fetch *copies; /* asked for copies; NULL: nobody was */
    struct awaited awaited;
    size_t ack_count;    /* others that have the change */
    size_t copies_count; /* others that hold the content */
};

static void free_ack(struct ack *ack)
{
    json_decref(ack->body);
    free(ack);
}

/* On the thread that tells `count`, of what is kept in `ret_count` (part of `ack`). */
static void told(struct ack *ack, size_t *ret_count, size_t count)
{
    awaited_lock(&ack->awaited);
    *ret_count = count;
    if (awaited_told(&ack->awaited)) {
        free_ack(ack);
    }
}

/* On the replica's thread. */
static void acked(void *context, size_t count)
{
    struct ack *ack = context;
    told(ack, &ack->ack_count, count);
}

/* On the fetch thread. */
static void copied(void *context, size_t count)
{
    struct ack *ack = context;
    told(ack, &ack->copies_count, count);
}

bool ack_read(struct request *request)
{
    const uint64_t otherwise = request->server->options.ack_count;
    uint64_t wait_s = 0;
    if (request_number(request, "ack", 0, ACK_COUNT_MAX, otherwise, &request->ack_count) ||
        request_number(request, "ack_wait", 1, ACK_WAIT_S_MAX, ACK_WAIT_S_DEFAULT, &wait_s)) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query",
                     "ack is a number of nodes up to %u, ack_wait one of seconds up to %u",
                     ACK_COUNT_MAX, ACK_WAIT_S_MAX);
        return false;
    }
    request->ack_wait_ms = wait_s * 1000;
    if (request_number(request, "copies", 1, ACK_COPIES_MAX, 0, &request->copies_count) ||
        request_number(request, "copies_wait", 1, ACK_COPIES_WAIT_S_MAX, ACK_COPIES_WAIT_S_DEFAULT,
                       &wait_s)) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query",
                     "copies is a number of nodes up to %u, copies_wait one of seconds up to %u",
                     ACK_COPIES_MAX, ACK_COPIES_WAIT_S_MAX);
        return false;
    }
    request->copies_wait_ms = wait_s * 1000;
    return true;
}

void ack_add_file(struct request *request, const struct id *file)
{
    if (request->copies_count > 0) {
        buf_add(&request->published, BYTES(file->bytes, sizeof file->bytes));
    }
}

/* How many others shall hold the content of the request. */
static size_t copies_wanted(const struct request *request)
{
    return request->copies_count > 0 && request->published.size > 0
               ? (size_t)request->copies_count - 1
               : 0;
}

static void answer_late(struct request *request, struct ack *ack)
{
    awaited_lock(&ack->awaited);
    const size_t ack_count = ack->ack_count;
    const size_t copies_count = ack->copies_count;
    awaited_unlock(&ack->awaited);
    const size_t wanted = copies_wanted(request);
    const bool is_acked = ack_count >= request->ack_count;
    const bool is_copied = copies_count >= wanted;
    CLEANUP_BUF struct buf message = BUF_INIT;
    buf_add_string(&message, "done here; ");
    if (request->ack_count > 0) {
        json_object_set_new(ack->body, "acks", json_integer((json_int_t)ack_count));
    }
    if (!is_acked) {
        json_object_set_new(ack->body, "ack", json_integer((json_int_t)request->ack_count));
        buf_add_format(&message, "%zu of %u other nodes are known to have it so far, ", ack_count,
                       (unsigned)request->ack_count);
    }
    if (request->copies_count > 0) {
        const size_t held = 1 + (wanted > 0 ? copies_count : 0);
        json_object_set_new(ack->body, "copies", json_integer((json_int_t)held));
    }
    if (!is_copied) {
        json_object_set_new(ack->body, "copies_wanted",
                            json_integer((json_int_t)request->copies_count));
        buf_add_format(&message, "%zu of %u nodes hold all of its content so far, ",
                       copies_count + 1, (unsigned)request->copies_count);
    }
    if (!is_acked || !is_copied) {
        buf_add_string(&message, "it goes on");
        json_object_set_new(ack->body, "message", json_string(buf_string(&message)));
    }
    answer_json(request, is_acked && is_copied ? ack->status : MHD_HTTP_ACCEPTED,
                json_incref(ack->body));
}

/* Asks those who will tell. */
static void ask(struct request *request, struct ack *ack, const struct dot *version)
{
    struct network *network = request->server->options.network;
    if (request->ack_count > 0) {
        replica_await(network_replica(network), version, (size_t)request->ack_count,
                      request->ack_wait_ms, acked, ack);
    }
    if (copies_wanted(request) > 0) {
        const struct fetch_copies_options options = {
            .files = (const struct id *)request->published.data,
            .files_count = request->published.size / sizeof(struct id),
            .count = copies_wanted(request),
            .wait_ms = request->copies_wait_ms,
        };
        ack->copies = network_fetch(network);
        fetch_copies(ack->copies, &options, copied, ack);
    }
}

/* Waits, or answers: all have told, the server ends, or the client has left. */
static void go_on(struct request *request, struct ack *ack)
{
    enum wait_outcome outcome = WAIT_AGAIN;
    while (outcome == WAIT_AGAIN) {
        outcome = awaited_look(&ack->awaited) ? WAIT_OVER : awaited_sleep(&ack->awaited, request);
    }
    if (outcome == WAIT_OVER) {
        answer_late(request, ack);
    }
}

void ack_answer(struct request *request, unsigned status, json_t *body, const struct dot *version)
{
    if (request->ack_count == 0 && request->copies_count == 0) {
        answer_json(request, status, body);
        return;
    }
    const unsigned tellers =
        (request->ack_count > 0 ? 1u : 0u) + (copies_wanted(request) > 0 ? 1u : 0u);
    struct ack *ack = mem_alloc(sizeof *ack);
    *ack = (struct ack){
        .status = status,
        .body = body,
    };
    awaited_init(&ack->awaited, request);
    awaited_ask(&ack->awaited, tellers);
    request->ack = ack;
    ask(request, ack, version);
    go_on(request, ack);
}

void ack_resumed(struct request *request)
{
    go_on(request, request->ack);
}

void ack_done(struct request *request)
{
    struct ack *ack = request->ack;
    bool is_told = false;
    awaited_leave(&ack->awaited, &is_told);
    if (!is_told && ack->copies) {
        fetch_copies_cancel(ack->copies, ack);
    }
    if (awaited_end(&ack->awaited)) {
        free_ack(ack);
    }
}
