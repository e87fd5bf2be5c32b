/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who has it: what locate asks of its host, on the fetch thread, and those who ask locate.
 *
 * When the index of holders fails (the disk is full, or its file is damaged), it is thrown away and
 * locate begins anew with an empty one, as after a start; finds under way are asked again.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/fetch_priv.h"
#include "node/network_priv.h"

/* After the index failed it is not opened again before. */
#define INDEX_PAUSE_US ((uint64_t)60 * 1000 * 1000)

static const enum locate_state states[] = {
    [STORE_HELD_NONE] = LOCATE_NONE,
    [STORE_HELD_PARTIAL] = LOCATE_PARTIAL,
    [STORE_HELD_COMPLETE] = LOCATE_COMPLETE,
};

/* ---- the host ----------------------------------------------------------------------------------
 */

static void host_send(void *context, const struct node_id *to, struct bytes message)
{
    struct fetch *fetch = context;
    network_send(fetch->network, SERVICE_LOCATE, to, message);
}

static void host_broadcast(void *context, struct bytes payload)
{
    struct fetch *fetch = context;
    network_broadcast(fetch->network, DATAGRAM_PAYLOAD_LOCATE, payload);
}

static void host_found(void *context, uint64_t number, const struct locate_found *found)
{
    struct fetch *fetch = context;
    struct fetch_find *find = NULL;
    HASH_FIND(hh, fetch->finds, &number, sizeof number, find);
    CHECK(find);
    if (found->is_final) {
        HASH_DELETE(hh, fetch->finds, find);
    }
    find->found(fetch, find, found);
}

static int host_held(void *context, const struct ring_key *first, const struct ring_key *last,
                     struct locate_held *ret_held, size_t limit, size_t *ret_count)
{
    struct fetch *fetch = context;
    struct ring_key end = *last;
    (void)ring_key_increment(&end); /* over the top, to the lowest: as the walk takes it */
    struct store_held_walk walk;
    store_held_walk_begin(&walk, first->bytes, end.bytes);
    size_t count = 0;
    while (count < limit) {
        struct store_held held[64];
        size_t got = 0;
        const size_t room = limit - count < ARRAY_SIZE(held) ? limit - count : ARRAY_SIZE(held);
        const int err = store_held_walk_next(node_store(fetch->node), &walk, held, room, &got);
        if (err) {
            return err;
        }
        if (got == 0) {
            break;
        }
        for (size_t i = 0; i < got; i++) {
            ret_held[count++] =
                (struct locate_held){ring_key_of(&held[i].id), states[held[i].state]};
        }
    }
    *ret_count = count;
    return 0;
}

static enum locate_state host_state(void *context, const struct ring_key *key)
{
    struct locate_held held;
    size_t count = 0;
    return host_held(context, key, key, &held, 1, &count) == 0 && count > 0 ? held.state
                                                                            : LOCATE_NONE;
}

static int host_row_set(void *context, const struct locate_row *row, enum locate_state *ret_old)
{
    struct fetch *fetch = context;
    return fetch_index_set(fetch->index, row, ret_old);
}

static int host_rows(void *context, const struct locate_row *from, const struct node_id *holder,
                     struct locate_row *ret_rows, size_t limit, size_t *ret_count)
{
    struct fetch *fetch = context;
    if (!fetch->index) { /* as if there were none */
        *ret_count = 0;
        return 0;
    }
    return fetch_index_rows(fetch->index, from, holder, ret_rows, limit, ret_count);
}

/* ---- what this node has ------------------------------------------------------------------------
 */

void fetch_held_changed(void *context, const struct store_held *held, size_t count)
{
    struct fetch *fetch = context;
    pthread_mutex_lock(&fetch->lock);
    if (fetch->changes_count + count > FETCH_CHANGES_MAX) {
        fetch->changes_lost = true;
        count = 0;
    }
    if (fetch->changes_count + count > fetch->changes_capacity) {
        fetch->changes_capacity = 2 * (fetch->changes_count + count);
        fetch->changes =
            mem_resize_array(fetch->changes, fetch->changes_capacity, sizeof *fetch->changes);
    }
    for (size_t i = 0; i < count; i++) {
        fetch->changes[fetch->changes_count++] =
            (struct locate_held){ring_key_of(&held[i].id), states[held[i].state]};
    }
    if (!fetch->has_news) {
        fetch->has_news = true;
        pthread_cond_signal(&fetch->news_came);
    }
    pthread_mutex_unlock(&fetch->lock);
}

/* ---- members -----------------------------------------------------------------------------------
 */

void fetch_locate_members(struct fetch *fetch, uint64_t now_us, const struct network_peer *peers,
                          size_t peers_count)
{
    struct locate_member *members = mem_alloc_array(peers_count + 1, sizeof *members);
    for (size_t i = 0; i < peers_count; i++) {
        members[i] = (struct locate_member){
            .id = peers[i].id,
            .life = peers[i].boot_nonce,
            .is_alive = peers[i].is_alive,
            .in_ring = peers[i].in_ring,
        };
    }
    locate_set_members(fetch->locate, now_us, members, peers_count);
    free(members);
}

/* ---- finds -------------------------------------------------------------------------------------
 */

static int begin_find(struct fetch *fetch, const struct fetch_find *find)
{
    const struct locate_find options = {
        .key = find->key,
        .number = find->number,
        .depth = find->depth,
        .publisher = find->has_publisher ? &find->publisher : NULL,
    };
    return locate_find(fetch->locate, network_now_us(), &options);
}

int fetch_find_begin(struct fetch *fetch, struct fetch_find *find)
{
    find->number = fetch->next_number++;
    const int err = fetch->is_over ? -ECANCELED : begin_find(fetch, find);
    if (!err) {
        HASH_ADD(hh, fetch->finds, number, sizeof find->number, find);
    }
    return err;
}

void fetch_find_end(struct fetch *fetch, struct fetch_find *find)
{
    locate_cancel(fetch->locate, find->number);
    HASH_DELETE(hh, fetch->finds, find);
}

/* ---- fetch_locate() ----------------------------------------------------------------------------
 */

struct request {
    struct fetch_news news; /* on its way to the thread */
    struct fetch_find find;
    uint64_t wait_ms;
};

struct answer {
    struct fetch_news news;
    fetch_located_fn done;
    void *context;
    int err;
    struct locate_found found;
    struct locate_held_by *holders;
    struct locate_answer *answers;
};

static void *copy(const void *list, size_t count, size_t size)
{
    return count > 0 ? mem_copy(list, count * size) : NULL;
}

static void run_answer(struct fetch *fetch, struct fetch_news *news)
{
    (void)fetch;
    struct answer *answer = CONTAINER_OF(news, struct answer, news);
    answer->done(answer->context, answer->err, answer->err ? NULL : &answer->found);
    free(answer->holders);
    free(answer->answers);
    free(answer);
}

/* Ends a request that is no find (any more). */
static void answer_request(struct fetch *fetch, struct request *request, int err,
                           const struct locate_found *found)
{
    struct answer *answer = mem_alloc(sizeof *answer);
    answer->news.run = run_answer;
    answer->done = request->find.done;
    answer->context = request->find.context;
    answer->err = err;
    if (!err) {
        answer->found = *found;
        answer->holders = copy(found->holders, found->holders_count, sizeof *answer->holders);
        answer->answers = copy(found->answers, found->answers_count, sizeof *answer->answers);
        answer->found.holders = answer->holders;
        answer->found.answers = answer->answers;
    }
    fetch_later(fetch, &answer->news);
    free(request->find.holders);
    free(request);
}

static void end_request(struct fetch *fetch, struct request *request, int err,
                        const struct locate_found *found)
{
    fetch->requests_count--;
    answer_request(fetch, request, err, found);
}

static void request_found(struct fetch *fetch, struct fetch_find *find,
                          const struct locate_found *found)
{
    struct request *request = CONTAINER_OF(find, struct request, find);
    if (found->is_final) {
        end_request(fetch, request, 0, found);
        return;
    }
    free(find->holders);
    find->holders = copy(found->holders, found->holders_count, sizeof *find->holders);
    find->holders_count = found->holders_count;
}

static void run_request(struct fetch *fetch, struct fetch_news *news)
{
    struct request *request = CONTAINER_OF(news, struct request, news);
    int err = fetch->requests_count < FETCH_LOCATES_MAX ? 0 : -EBUSY;
    if (!err) {
        fetch_see_members(fetch); /* whoever is seen by others now is asked */
        err = fetch_find_begin(fetch, &request->find);
    }
    if (err) {
        answer_request(fetch, request, err, NULL);
        return;
    }
    fetch->requests_count++;
    request->find.deadline_us = network_now_us() + request->wait_ms * 1000;
    if (request->find.deadline_us < fetch->requests_due_us) {
        fetch->requests_due_us = request->find.deadline_us;
    }
}

void fetch_locate(struct fetch *fetch, const struct fetch_locate_options *options,
                  fetch_located_fn done, void *context)
{
    CHECK(options->wait_ms <= FETCH_LOCATE_MS_MAX);
    struct request *request = mem_alloc(sizeof *request);
    request->news.run = run_request;
    request->wait_ms = options->wait_ms;
    request->find = (struct fetch_find){
        .key = options->key,
        .depth = options->depth,
        .has_publisher = options->publisher != NULL,
        .found = request_found,
        .done = done,
        .context = context,
    };
    if (options->publisher) {
        request->find.publisher = *options->publisher;
    }
    fetch_post(fetch, &request->news);
}

/* Those whose time is over are told what is known. */
static void requests_due(struct fetch *fetch, uint64_t now_us)
{
    if (now_us < fetch->requests_due_us) {
        return;
    }
    fetch->requests_due_us = UINT64_MAX;
    struct fetch_find *find = NULL;
    struct fetch_find *next = NULL;
    HASH_ITER(hh, fetch->finds, find, next)
    {
        if (!find->done) {
            continue;
        }
        if (find->deadline_us > now_us) {
            if (find->deadline_us < fetch->requests_due_us) {
                fetch->requests_due_us = find->deadline_us;
            }
            continue;
        }
        const struct locate_found found = {
            .key = find->key,
            .holders = find->holders,
            .holders_count = find->holders_count,
        };
        fetch_find_end(fetch, find);
        end_request(fetch, CONTAINER_OF(find, struct request, find), 0, &found);
    }
}

void fetch_locate_end(struct fetch *fetch)
{
    struct fetch_find *find = NULL;
    struct fetch_find *next = NULL;
    HASH_ITER(hh, fetch->finds, find, next)
    {
        if (find->done) {
            fetch_find_end(fetch, find);
            end_request(fetch, CONTAINER_OF(find, struct request, find), -ECANCELED, NULL);
        }
    }
}

/* ---- hints and what is stored ------------------------------------------------------------------
 */

struct hint {
    struct fetch_news news;
    struct ring_key key;
    struct node_id node;
};

static void run_hint(struct fetch *fetch, struct fetch_news *news)
{
    struct hint *hint = CONTAINER_OF(news, struct hint, news);
    locate_hint(fetch->locate, network_now_us(), &hint->key, &hint->node);
    free(hint);
}

void fetch_hint(struct fetch *fetch, const struct ring_key *key, const struct node_id *node)
{
    struct hint *hint = mem_alloc(sizeof *hint);
    *hint = (struct hint){.news = {.run = run_hint}, .key = *key, .node = *node};
    fetch_post(fetch, &hint->news);
}

struct stored {
    struct ring_key key;
    struct locate_held_by *holders;
    size_t limit;
    size_t count;
    int err;
};

static bool take_stored(void *context, const struct locate_held_by *holder)
{
    struct stored *stored = context;
    if (stored->count < stored->limit) {
        stored->holders[stored->count++] = *holder;
    }
    return stored->count < stored->limit;
}

static void ask_stored(struct fetch *fetch, void *context)
{
    struct stored *stored = context;
    stored->err = locate_stored(fetch->locate, network_now_us(), &stored->key, take_stored, stored);
}

int fetch_stored(struct fetch *fetch, const struct ring_key *key,
                 struct locate_held_by *ret_holders, size_t limit, size_t *ret_count)
{
    struct stored stored = {.key = *key, .holders = ret_holders, .limit = limit};
    fetch_ask(fetch, ask_stored, &stored);
    if (!stored.err) {
        *ret_count = stored.count;
    }
    return stored.err;
}

/* ---- opening, and what is due ------------------------------------------------------------------
 */

static void make_locate(struct fetch *fetch)
{
    const struct locate_options options = {
        .id = *node_identity(fetch->node),
        .random_seed = random_u64(&fetch->random),
        .host =
            {
                .send = host_send,
                .broadcast = host_broadcast,
                .found = host_found,
                .state = host_state,
                .held = host_held,
                .row_set = host_row_set,
                .rows = host_rows,
                .context = fetch,
            },
    };
    fetch->locate = locate_new(&options, network_now_us());
}

int fetch_locate_open(struct fetch *fetch)
{
    const int err = fetch_index_open(node_data(fetch->node), &fetch->index);
    if (err && err != -ENOSPC) {
        return err;
    }
    /* Without room a node is of use all the same. */
    fetch->index_us = network_now_us();
    make_locate(fetch);
    return 0;
}

void fetch_locate_close(struct fetch *fetch)
{
    locate_free(fetch->locate);
    fetch_index_close(fetch->index);
}

/* The finds are asked again; those that can't be any more hear that nothing was found in time. */
static void begin_anew(struct fetch *fetch)
{
    locate_free(fetch->locate);
    make_locate(fetch);
    struct network_peer *peers = NULL;
    const size_t count = network_peers(fetch->network, &peers, &fetch->members_change);
    fetch_locate_members(fetch, network_now_us(), peers, count);
    free(peers);
    struct fetch_find *find = NULL;
    struct fetch_find *next = NULL;
    HASH_ITER(hh, fetch->finds, find, next)
    {
        const int err = begin_find(fetch, find);
        CHECK(!err); /* there is room: as many as before */
    }
}

static void index_due(struct fetch *fetch)
{
    const int err = fetch_index_failed(fetch->index);
    const uint64_t now_us = network_now_us();
    if (err) {
        log_warn("holders_lost", KV("error", err_name(err)));
        fetch_index_discard(fetch->index);
        fetch->index = NULL;
        fetch->index_us = now_us;
        begin_anew(fetch);
        return;
    }
    if (fetch->index || now_us < fetch->index_us + INDEX_PAUSE_US) {
        return;
    }
    fetch->index_us = now_us;
    if (fetch_index_open(node_data(fetch->node), &fetch->index) == 0) {
        log_info("holders_again", KV("data", node_data(fetch->node)));
        begin_anew(fetch);
    }
}

void fetch_locate_due(struct fetch *fetch)
{
    index_due(fetch);
    const uint64_t now_us = network_now_us();
    if (now_us >= locate_next_us(fetch->locate)) {
        locate_tick(fetch->locate, now_us);
    }
    requests_due(fetch, now_us);
}

uint64_t fetch_locate_next_us(const struct fetch *fetch)
{
    const uint64_t locate_us = locate_next_us(fetch->locate);
    uint64_t due_us = locate_us < fetch->requests_due_us ? locate_us : fetch->requests_due_us;
    if (!fetch->index && fetch->index_us + INDEX_PAUSE_US < due_us) {
        due_us = fetch->index_us + INDEX_PAUSE_US;
    }
    return due_us;
}
