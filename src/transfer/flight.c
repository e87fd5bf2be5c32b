/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Blocks on their way. A flight is one block that was asked for, of one source or, when that one is
 * late or at the end, of two; its legs. A request carries the legs of one or more flights to one
 * peer. Whatever fetch wants a block that flies for another waits for it and gets a copy.
 */

#include <errno.h>
#include <stdlib.h>

#include "transfer/transfer_priv.h"

/* A redirect costs a question; after so many in a row a peer is left alone for a while. */
#define REDIRECTS_MAX 16u
/* The least wait of late is that of this period and the last one. */
#define WAIT_PERIOD_US (5 * SECOND)

struct flight *flight_find(const struct transfer *transfer, const struct id *block)
{
    struct flight *flight;
    HASH_FIND(hh, transfer->flights, block, sizeof *block, flight);
    return flight;
}

static struct request *request_find(const struct transfer *transfer, const struct node_id *node,
                                    uint32_t number)
{
    struct request *request;
    HASH_FIND(hh, transfer->requests, &number, sizeof number, request);
    return request && node_id_equal(&request->peer->id, node) ? request : NULL;
}

/* What is on its way. */

static void count_on_way(struct transfer *transfer, struct peer *peer, uint32_t count,
                         uint64_t bytes)
{
    if (peer->on_way_count == 0) {
        DL_APPEND2(transfer->working, peer, prev, next);
        rate_begin(&peer->rate, transfer->now_us);
    }
    if (transfer->on_way_bytes == 0) {
        rate_begin(&transfer->rate, transfer->now_us);
    }
    peer->on_way_count += count;
    peer->on_way_bytes += bytes;
    transfer->on_way_bytes += bytes;
}

static void free_request(struct transfer *transfer, struct request *request)
{
    struct peer *peer = request->peer;
    HASH_DEL(transfer->requests, request);
    DL_DELETE(peer->requests, request);
    DL_DELETE2(request->fetch->requests, request, fetch_prev, fetch_next);
    free(request);
    transfer_peer_unuse(transfer, peer);
}

/* A part is answered, or not waited for any more; the request may be gone afterwards. */
static void close_part(struct transfer *transfer, struct request *request, uint32_t position)
{
    struct part *part = &request->parts[position];
    struct peer *peer = request->peer;
    const uint32_t bytes = part->size_bytes;
    CHECK(bytes > 0);
    part->flight = NULL;
    part->size_bytes = 0;
    peer->on_way_bytes -= bytes;
    peer->on_way_count--;
    if (transfer->running_count > 1) {
        transfer->has_room = true; /* the fetch itself is looked at anyway */
        due_sooner(&transfer->due_us, transfer->now_us);
    }
    if (!request->is_hedged) {
        transfer->on_way_bytes -= bytes;
    }
    struct source *source = source_find(request->fetch, &peer->id);
    if (source) {
        source->told.on_way--;
    }
    if (peer->on_way_count == 0) {
        DL_DELETE2(transfer->working, peer, prev, next);
        rate_end(&peer->rate, transfer->now_us);
        peer->is_late = false;
    }
    if (transfer->on_way_bytes == 0) {
        rate_end(&transfer->rate, transfer->now_us);
    }
    if (--request->left_count == 0) {
        free_request(transfer, request);
    }
}

static void remove_leg(struct flight *flight, unsigned leg)
{
    flight->legs[leg]->parts[flight->positions[leg]].flight = NULL;
    if (leg == 0) {
        flight->legs[0] = flight->legs[1];
        flight->positions[0] = flight->positions[1];
    }
    flight->legs_count--;
    flight->legs[flight->legs_count] = NULL;
}

static unsigned leg_of(const struct flight *flight, const struct request *request)
{
    return flight->legs[0] == request ? 0 : 1;
}

void flight_wait(struct flight *flight, struct fetch *fetch, uint32_t index)
{
    struct waiter *waiter = mem_alloc(sizeof *waiter);
    waiter->flight = flight;
    waiter->fetch = fetch;
    waiter->index = index;
    DL_APPEND(flight->waiters, waiter);
    DL_APPEND2(fetch->waiters, waiter, fetch_prev, fetch_next);
    fetch->copying_count++;
}

static void free_waiter(struct waiter *waiter)
{
    DL_DELETE(waiter->flight->waiters, waiter);
    DL_DELETE2(waiter->fetch->waiters, waiter, fetch_prev, fetch_next);
    free(waiter);
}

/* Nobody is asked for it any more. Whoever waits for it has to ask for itself. */
static void end_flight(struct transfer *transfer, struct flight *flight)
{
    CHECK(flight->legs_count == 0);
    struct fetch *fetch = flight->fetch;
    HASH_DEL(transfer->flights, flight);
    DL_DELETE(fetch->flights, flight);
    fetch->flights_count--;
    while (flight->waiters) {
        struct fetch *other = flight->waiters->fetch;
        const uint32_t index = flight->waiters->index;
        free_waiter(flight->waiters);
        other->copying_count--;
        transfer_fetch_block_needed(transfer, other, index);
    }
    free(flight);
}

/* Calls a request off. Its flights lose a leg; those without any are ended. */
static void cancel_request(struct transfer *transfer, struct request *request, bool is_told)
{
    if (is_told) {
        transfer->counters.cancelled++;
        transfer->host.cancel(transfer->host.context, &request->peer->id, request->number);
    }
    const uint32_t count = request->parts_count;
    uint32_t left = request->left_count;
    for (uint32_t i = 0; i < count && left > 0; i++) {
        struct part *part = &request->parts[i];
        if (part->size_bytes == 0) {
            continue;
        }
        struct flight *flight = part->flight;
        if (flight) {
            struct fetch *fetch = flight->fetch;
            const uint32_t index = flight->index;
            remove_leg(flight, leg_of(flight, request));
            if (flight->legs_count == 0) {
                end_flight(transfer, flight);
                transfer_fetch_block_needed(transfer, fetch, index);
            }
        }
        left--;
        close_part(transfer, request, i);
    }
}

/* The other legs of a flight that is over. */
static void call_off(struct transfer *transfer, struct flight *flight)
{
    while (flight->legs_count > 0) {
        struct request *request = flight->legs[0];
        remove_leg(flight, 0);
        bool is_alone = true;
        for (uint32_t i = 0; i < request->parts_count; i++) {
            is_alone = is_alone && !request->parts[i].flight;
        }
        if (is_alone) {
            cancel_request(transfer, request, true);
        }
    }
}

/* The block came by this leg; the other one is called off. */
static void land(struct transfer *transfer, struct flight *flight, const struct request *by)
{
    remove_leg(flight, leg_of(flight, by));
    call_off(transfer, flight);
    while (flight->waiters) {
        const struct waiter *waiter = flight->waiters;
        transfer->host.copy(transfer->host.context, &waiter->fetch->id, waiter->index);
        free_waiter(flight->waiters);
    }
    end_flight(transfer, flight);
}

void flight_end_late(struct transfer *transfer, struct fetch *fetch)
{
    CHECK(!fetch->flights);
    while (fetch->requests) {
        cancel_request(transfer, fetch->requests, true);
    }
}

void flight_drop_all(struct transfer *transfer, struct fetch *fetch)
{
    while (fetch->flights) {
        cancel_request(transfer, fetch->flights->legs[0], true);
    }
    flight_end_late(transfer, fetch);
    while (fetch->waiters) {
        free_waiter(fetch->waiters);
    }
}

void flight_drop_peer(struct transfer *transfer, struct peer *peer)
{
    while (peer->requests) {
        const bool is_last = !peer->requests->next;
        cancel_request(transfer, peer->requests, false);
        if (is_last) {
            break; /* the peer may be gone */
        }
    }
}

void flight_release(struct transfer *transfer, struct request *request)
{
    request->is_hedged = true;
    transfer->has_room = true;
    struct source *source = source_find(request->fetch, &request->peer->id);
    for (uint32_t i = 0; i < request->parts_count; i++) {
        const struct part *part = &request->parts[i];
        if (part->size_bytes == 0) {
            continue;
        }
        transfer->on_way_bytes -= part->size_bytes;
        if (source) {
            source->told.late++;
        }
        if (part->flight && part->flight->legs_count == 1) {
            transfer->counters.hedged++;
            request->fetch->hedged_count++;
            transfer_fetch_block_needed(transfer, request->fetch, part->flight->index);
        }
    }
    if (transfer->on_way_bytes == 0) {
        rate_end(&transfer->rate, transfer->now_us);
    }
    transfer_fetch_ready(transfer, request->fetch);
}

/* Asking. */

static void add_leg(struct transfer *transfer, struct request *request, uint32_t position,
                    uint32_t index, bool is_race)
{
    struct fetch *fetch = request->fetch;
    const struct block_ref *block = &fetch->metadata->blocks[index];
    struct flight *flight = flight_find(transfer, &block->id);
    if (!flight) {
        flight = mem_alloc(sizeof *flight);
        flight->id = block->id;
        flight->fetch = fetch;
        flight->index = index;
        flight->size_bytes = block->size_bytes;
        flight->first_us = transfer->now_us;
        HASH_ADD(hh, transfer->flights, id, sizeof flight->id, flight);
        DL_APPEND(fetch->flights, flight);
        fetch->flights_count++;
    }
    CHECK(flight->fetch == fetch && flight->legs_count < ARRAY_SIZE(flight->legs));
    flight->is_raced |= is_race;
    flight->positions[flight->legs_count] = (uint16_t)position;
    flight->legs[flight->legs_count++] = request;
    request->parts[position] = (struct part){.flight = flight, .size_bytes = block->size_bytes};
    if (bit_get(fetch->need, index)) {
        bit_clear(fetch->need, index);
        fetch->need_count--;
    }
}

void flight_request(struct transfer *transfer, struct source *source, const uint32_t *indices,
                    size_t count, bool insists, bool is_race)
{
    CHECK(count > 0 && count <= TRANSFER_REQUEST_BLOCKS_MAX);
    struct fetch *fetch = source->fetch;
    struct peer *peer = source->peer;
    struct request *request = mem_alloc(sizeof *request + count * sizeof request->parts[0]);
    request->number = transfer->next_number++;
    request->parts_count = (uint32_t)count;
    request->left_count = (uint32_t)count;
    /* First copies matter where all of it is: who has a part has nothing else to send. */
    request->insists = insists || source->state == TRANSFER_PARTIAL;
    request->sent_us = transfer->now_us;
    request->peer = peer;
    request->fetch = fetch;
    HASH_ADD(hh, transfer->requests, number, sizeof request->number, request);
    DL_APPEND2(fetch->requests, request, fetch_prev, fetch_next);
    struct transfer_part parts[TRANSFER_REQUEST_BLOCKS_MAX];
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct block_ref *block = &fetch->metadata->blocks[indices[i]];
        parts[i] = (struct transfer_part){
            .id = block->id, .index = indices[i], .size_bytes = block->size_bytes};
        bytes += block->size_bytes;
        add_leg(transfer, request, i, indices[i], is_race);
    }
    count_on_way(transfer, peer, (uint32_t)count, bytes);
    DL_APPEND(peer->requests, request);
    source->told.on_way += (uint32_t)count;
    bucket_take(&transfer->limit, bytes);
    transfer->counters.requests++;
    transfer->counters.insisted += insists ? count : 0;
    transfer->counters.raced += is_race ? count : 0;
    due_sooner(&transfer->due_us, most(transfer->late_us, transfer->now_us + MS));
    transfer->host.request(transfer->host.context, &peer->id, request->number, request->insists,
                           &fetch->id, parts, count);
}

/* What came of it. */

static uint64_t mean(uint64_t old, uint64_t sample)
{
    return old == 0 ? most(sample, 1) : (old * (MEAN_SHARE - 1) + sample) / MEAN_SHARE;
}

static void note_wait(struct transfer *transfer, struct peer *peer, uint64_t wait_us)
{
    transfer->wait_us = mean(transfer->wait_us, wait_us);
    peer->wait_us = mean(peer->wait_us, wait_us);
    if (transfer->now_us >= transfer->wait_period_us + WAIT_PERIOD_US) {
        transfer->wait_period_us = transfer->now_us;
        transfer->wait_least_before_us = transfer->wait_least_us;
        transfer->wait_least_us = NEVER;
    }
    transfer->wait_least_us = least(transfer->wait_least_us, most(wait_us, 1));
}

static void note_block(struct transfer *transfer, struct request *request, uint32_t bytes)
{
    struct peer *peer = request->peer;
    struct fetch *fetch = request->fetch;
    struct source *source = source_find(fetch, &peer->id);
    note_wait(transfer, peer, transfer->now_us - request->sent_us);
    peer->limit_bytes = least(peer->limit_bytes + bytes, TRANSFER_WINDOW_BYTES_MAX);
    peer->busy_pause_us = 0;
    peer->redirects = 0;
    fetch->received_bytes += bytes;
    transfer->counters.blocks_received++;
    transfer->counters.bytes_received += bytes;
    rate_begin(&fetch->rate, transfer->now_us);
    (void)rate_add(&fetch->rate, transfer->now_us, bytes, RATE_US);
    if (source) {
        source->told.bytes += bytes;
        source->told.blocks++;
    }
}

static void note_duplicate(struct transfer *transfer, const struct request *request, uint32_t bytes)
{
    const bool is_raced = request->fetch->need_count == 0;
    request->fetch->duplicate_bytes += bytes;
    request->fetch->raced_bytes += is_raced ? bytes : 0;
    transfer->counters.duplicate_bytes += bytes;
    transfer->counters.raced_bytes += is_raced ? bytes : 0;
}

/* The leg brought nothing. */
static void lose_leg(struct transfer *transfer, struct request *request, uint32_t position)
{
    struct flight *flight = request->parts[position].flight;
    struct fetch *fetch = request->fetch;
    if (flight) {
        const uint32_t index = flight->index;
        remove_leg(flight, leg_of(flight, request));
        if (flight->legs_count == 0) {
            end_flight(transfer, flight);
            transfer_fetch_block_needed(transfer, fetch, index);
        }
    }
    close_part(transfer, request, position);
    transfer_fetch_ready_soon(transfer, fetch);
}

static void take_bad(struct transfer *transfer, struct request *request, uint32_t index)
{
    struct source *source = source_find(request->fetch, &request->peer->id);
    request->fetch->bad_count++;
    transfer->counters.bad_blocks++;
    if (source) {
        source->told.bad++;
        source_has_not(source, index);
    }
    transfer_peer_is_bad(transfer, request->peer);
}

static void take_failed(struct transfer *transfer, struct fetch *fetch, int err)
{
    if (err == -ENOSPC) {
        transfer_fetch_pause(transfer, fetch, err, TRANSFER_NOSPACE_MS * MS);
    } else if (err != -EBADMSG && err != -EAGAIN && err != -EBUSY && err != -ECANCELED) {
        transfer_fetch_end(transfer, fetch, err);
    }
}

void transfer_block(struct transfer *transfer, uint64_t now_us, const struct node_id *node,
                    uint32_t number, uint16_t position, int err)
{
    transfer->now_us = now_us;
    struct request *request = request_find(transfer, node, number);
    if (!request || position >= request->parts_count || request->parts[position].size_bytes == 0) {
        return;
    }
    const struct part part = request->parts[position];
    struct fetch *fetch = request->fetch;
    transfer_peer_is_heard(transfer, request->peer);
    if (err) {
        if (err == -EBADMSG && part.flight) {
            take_bad(transfer, request, part.flight->index);
        }
        lose_leg(transfer, request, position);
        if (part.flight) { /* else the block is here, or comes from elsewhere */
            take_failed(transfer, fetch, err);
        }
        return;
    }
    if (!part.flight) {
        note_duplicate(transfer, request, part.size_bytes);
        close_part(transfer, request, position);
        return;
    }
    const uint32_t index = part.flight->index;
    note_block(transfer, request, part.size_bytes);
    land(transfer, part.flight, request);
    close_part(transfer, request, position);
    transfer_fetch_block_here(transfer, fetch, index);
}

static void take_redirect(struct transfer *transfer, struct source *source, uint32_t index)
{
    struct fetch *fetch = source->fetch;
    if (!source->given) {
        source->given = mem_alloc_array(fetch->words_count, sizeof *source->given);
    }
    bit_set(source->given, index);
    if (!fetch->refused_us) {
        fetch->refused_us = mem_alloc_array(fetch->blocks_count, sizeof *fetch->refused_us);
    }
    if (fetch->refused_us[index] == 0) {
        fetch->refused_us[index] = transfer->now_us;
    }
}

void transfer_refused(struct transfer *transfer, uint64_t now_us, const struct node_id *node,
                      uint32_t number, uint16_t position, enum transfer_refusal why,
                      const struct node_id *given_to, size_t given_to_count)
{
    transfer->now_us = now_us;
    struct request *request = request_find(transfer, node, number);
    if (!request || position >= request->parts_count || request->parts[position].size_bytes == 0) {
        return;
    }
    struct peer *peer = request->peer;
    struct fetch *fetch = request->fetch;
    const struct flight *flight = request->parts[position].flight;
    const uint32_t index = flight ? flight->index : NO_BLOCK;
    struct source *source = source_find(fetch, node);
    transfer->counters.refused++;
    fetch->refused_count++;
    transfer_peer_is_heard(transfer, peer);
    const bool is_busy = why == TRANSFER_REFUSED_BUSY || why == TRANSFER_REFUSED_LIMIT;
    const bool is_redirect = is_busy && given_to_count > 0 && !request->insists;
    if (source && index != NO_BLOCK && is_redirect) {
        take_redirect(transfer, source, index);
    }
    for (size_t i = 0; is_busy && i < given_to_count && i < TRANSFER_NAMED_MAX; i++) {
        source_add_candidate(transfer, fetch, &given_to[i], false);
    }
    const bool is_denied = source && index != NO_BLOCK && !is_busy;
    const bool is_lie = is_denied && source_denies(source, index);
    if (source) {
        source->told.refused_busy += is_busy;
        source->told.refused_not_here += !is_busy;
    }
    peer->redirects += is_redirect;
    const bool is_paused = is_busy && (!is_redirect || peer->redirects % REDIRECTS_MAX == 0);
    lose_leg(transfer, request, position);
    peer = transfer_peer_find(transfer, node);
    if (peer && is_lie) {
        transfer_peer_is_bad(transfer, peer);
    }
    if (peer && is_paused) {
        transfer_peer_is_busy(transfer, peer);
    }
}

void transfer_received(struct transfer *transfer, uint64_t now_us, const struct node_id *node,
                       uint64_t bytes_count)
{
    transfer->now_us = now_us;
    struct peer *peer = transfer_peer_find(transfer, node);
    if (peer) {
        transfer_peer_is_heard(transfer, peer);
        (void)rate_add(&peer->rate, now_us, bytes_count, RATE_US);
    }
    if (rate_add(&transfer->rate, now_us, bytes_count, RATE_ALL_US)) {
        transfer->rates[transfer->rates_count++ % RATES_KEPT] = transfer->rate.per_s;
    }
}
