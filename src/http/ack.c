/* SPDX-License-Identifier: Apache-2.0 */
#include "http/ack_priv.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "base/mem.h"
#include "http/server_priv.h"
#include "node/network.h"
#include "node/replica.h"

_Static_assert((uint64_t)ACK_WAIT_S_MAX * 1000 <= REPLICA_AWAIT_MS_MAX, "what can be waited for");

struct ack {
    struct ack *prev; /* under acks->lock */
    struct ack *next;
    unsigned status;
    json_t *body;

    pthread_mutex_t lock; /* over all below */
    struct request *request;
    unsigned owners;
    bool is_ended; /* the request was resumed */
    size_t count;  /* others that have it */
};

struct acks {
    pthread_mutex_t lock;
    struct ack *waiting;
    bool is_stopping;
};

struct acks *acks_new(void)
{
    struct acks *acks = mem_alloc(sizeof *acks);
    pthread_mutex_init(&acks->lock, NULL);
    return acks;
}

void acks_free(struct acks *acks)
{
    if (!acks) {
        return;
    }
    pthread_mutex_destroy(&acks->lock);
    free(acks);
}

static void end(struct ack *ack, size_t count)
{
    pthread_mutex_lock(&ack->lock);
    if (!ack->is_ended) {
        ack->is_ended = true;
        ack->count = count;
        request_resume(ack->request);
    }
    pthread_mutex_unlock(&ack->lock);
}

static void let_go(struct ack *ack)
{
    pthread_mutex_lock(&ack->lock);
    const bool is_last = --ack->owners == 0;
    pthread_mutex_unlock(&ack->lock);
    if (!is_last) {
        return;
    }
    pthread_mutex_destroy(&ack->lock);
    json_decref(ack->body);
    free(ack);
}

void acks_stop(struct acks *acks)
{
    pthread_mutex_lock(&acks->lock);
    acks->is_stopping = true;
    struct ack *ack;
    DL_FOREACH(acks->waiting, ack)
    {
        end(ack, 0);
    }
    pthread_mutex_unlock(&acks->lock);
}

/* On the replica's thread. */
static void awaited(void *context, size_t count)
{
    struct ack *ack = context;
    end(ack, count);
    let_go(ack);
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
    return true;
}

/* True if it waits from now on. */
static bool begin_waiting(struct acks *acks, struct ack *ack)
{
    pthread_mutex_lock(&acks->lock);
    const bool waits = !acks->is_stopping;
    if (waits) {
        request_suspend(ack->request);
        DL_APPEND(acks->waiting, ack);
    }
    pthread_mutex_unlock(&acks->lock);
    return waits;
}

static void answer_late(struct request *request, const struct ack *ack)
{
    const bool is_reached = ack->count >= request->ack_count;
    json_object_set_new(ack->body, "acks", json_integer((json_int_t)ack->count));
    if (!is_reached) {
        CLEANUP_FREE char *message =
            mem_format("done here; %zu of %u other nodes are known to have it so far, it goes on",
                       ack->count, (unsigned)request->ack_count);
        json_object_set_new(ack->body, "ack", json_integer((json_int_t)request->ack_count));
        json_object_set_new(ack->body, "message", json_string(message));
    }
    answer_json(request, is_reached ? ack->status : MHD_HTTP_ACCEPTED, json_incref(ack->body));
}

void ack_answer(struct request *request, unsigned status, json_t *body, const struct dot *version)
{
    if (request->ack_count == 0) {
        answer_json(request, status, body);
        return;
    }
    struct ack *ack = mem_alloc(sizeof *ack);
    *ack = (struct ack){.status = status, .body = body, .request = request, .owners = 2};
    pthread_mutex_init(&ack->lock, NULL);
    if (!begin_waiting(request->server->acks, ack)) {
        answer_late(request, ack);
        let_go(ack);
        let_go(ack); /* the replica was told nothing */
        return;
    }
    request->ack = ack;
    replica_await(network_replica(request->server->options.network), version,
                  (size_t)request->ack_count, request->ack_wait_ms, awaited, ack);
}

void ack_resumed(struct request *request)
{
    answer_late(request, request->ack);
}

void ack_done(struct request *request)
{
    struct ack *ack = request->ack;
    struct acks *acks = request->server->acks;
    pthread_mutex_lock(&acks->lock);
    DL_DELETE(acks->waiting, ack);
    pthread_mutex_unlock(&acks->lock);
    /* It may be gone without having been resumed: nobody speaks of the request then. */
    pthread_mutex_lock(&ack->lock);
    ack->is_ended = true;
    pthread_mutex_unlock(&ack->lock);
    let_go(ack);
}
