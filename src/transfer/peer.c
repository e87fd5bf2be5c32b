/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is known of members that are asked: how fast bytes come, how long blocks take, who is
 * silent, who gave bad blocks.
 *
 * A peer that has blocks to send and gives no sign is late after about three times what a block
 * takes at present: then all that was asked of it may be asked of others, while it keeps its place.
 * It is a peer like any other again as soon as something comes from it. As a rule that is after
 * some hundred milliseconds, so that a frozen source costs less than a second and a half.
 */

#include <stdlib.h>

#include "transfer/transfer_priv.h"

/* A peer is silent for too long after this many times the mean wait, within bounds. */
#define PATIENCE_WAITS 3u
#define PATIENCE_US_MIN (300 * MS)
#define PATIENCE_US_MAX (10 * SECOND)
/* Before anything came. */
#define PATIENCE_US_FIRST SECOND
/* A request to a peer that does send something may take so many times as long. */
#define REQUEST_PATIENCES 4u
#define LATE_CHECK_US (50 * MS)
/* What a peer is trusted with at first; then as much as it proves to take. */
#define LIMIT_BYTES_FIRST ((uint64_t)512 * 1024)
/* Who is busy is asked again after so long, twice as long each time. */
#define BUSY_US_MIN (10 * MS)
#define BUSY_US_MAX (160 * MS)

void rate_begin(struct rate *rate, uint64_t now_us)
{
    if (rate->since_us == 0) {
        rate->since_us = now_us;
    }
}

void rate_end(struct rate *rate, uint64_t now_us)
{
    if (rate->since_us != 0) {
        rate->us += now_us - rate->since_us;
        rate->since_us = 0;
    }
}

bool rate_add(struct rate *rate, uint64_t now_us, uint64_t bytes, uint64_t sample_us)
{
    if (rate->since_us != 0) {
        rate->us += now_us - rate->since_us;
        rate->since_us = now_us;
    }
    rate->bytes += bytes;
    if (rate->us < sample_us) {
        return false;
    }
    const uint64_t seen = rate->bytes * MS / (rate->us / MS);
    rate->per_s = rate->per_s == 0 ? seen : (3 * rate->per_s + seen) / 4;
    rate->us = 0;
    rate->bytes = 0;
    return true;
}

const struct transfer_member *member_find(const struct transfer *transfer,
                                          const struct node_id *node)
{
    size_t low = 0;
    size_t high = transfer->members_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = node_id_compare(&transfer->members[middle].id, node);
        if (order == 0) {
            return &transfer->members[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

struct peer *transfer_peer_find(const struct transfer *transfer, const struct node_id *node)
{
    struct peer *peer;
    HASH_FIND(hh, transfer->peers, node, sizeof *node, peer);
    return peer;
}

bool transfer_peer_is_shunned(const struct transfer *transfer, const struct peer *peer)
{
    return peer->shunned_until_us > transfer->now_us;
}

struct peer *transfer_peer_take(struct transfer *transfer, const struct node_id *node)
{
    struct peer *peer = transfer_peer_find(transfer, node);
    if (peer) {
        return peer->is_alive && !transfer_peer_is_shunned(transfer, peer) ? peer : NULL;
    }
    const struct transfer_member *member = member_find(transfer, node);
    if (!member || !member->is_alive || node_id_equal(node, &transfer->id)) {
        return NULL;
    }
    peer = mem_alloc(sizeof *peer);
    peer->id = *node;
    peer->is_alive = true;
    peer->is_near = member->is_near;
    peer->limit_bytes = LIMIT_BYTES_FIRST;
    HASH_ADD(hh, transfer->peers, id, sizeof peer->id, peer);
    return peer;
}

void transfer_peer_unuse(struct transfer *transfer, struct peer *peer)
{
    const bool is_noted = peer->bad_count > 0 || transfer_peer_is_shunned(transfer, peer);
    const bool is_bad = is_noted && member_find(transfer, &peer->id);
    if (peer->sources_count == 0 && !peer->requests && !is_bad) {
        HASH_DEL(transfer->peers, peer);
        free(peer);
    }
}

/* Of all fetches that it is a source of. */
static void ready_sources(struct transfer *transfer, const struct peer *peer)
{
    for (size_t i = 0; i < PRIORITIES; i++) {
        struct fetch *fetch;
        DL_FOREACH(transfer->running[i], fetch)
        {
            if (source_find(fetch, &peer->id)) {
                transfer_fetch_ready(transfer, fetch);
            }
        }
    }
}

void transfer_peer_is_heard(struct transfer *transfer, struct peer *peer)
{
    peer->heard_us = transfer->now_us;
    if (peer->is_late) {
        peer->is_late = false;
        ready_sources(transfer, peer);
    }
}

/* What it says that it has keeps nobody from looking for others. */
static void distrust(struct transfer *transfer, const struct peer *peer)
{
    for (size_t i = 0; i < PRIORITIES; i++) {
        struct fetch *fetch;
        DL_FOREACH(transfer->running[i], fetch)
        {
            struct source *source = source_find(fetch, &peer->id);
            if (source) {
                source_distrust(source);
                fetch->unasked_count++; /* it may have it, and is not asked */
                transfer_fetch_ready(transfer, fetch);
            }
        }
    }
}

void transfer_peer_is_bad(struct transfer *transfer, struct peer *peer)
{
    peer->bad_count++;
    if (peer->bad_count < TRANSFER_BAD_BLOCKS_MAX || transfer_peer_is_shunned(transfer, peer)) {
        return;
    }
    peer->bad_count = 0;
    peer->shunned_until_us = transfer->now_us + TRANSFER_SHUNNED_MS * MS;
    transfer->counters.peers_shunned++;
    distrust(transfer, peer);
    transfer->host.shunned(transfer->host.context, &peer->id);
}

void transfer_peer_is_busy(struct transfer *transfer, struct peer *peer)
{
    peer->limit_bytes = most(peer->on_way_bytes, 1);
    if (peer->on_way_count > 0) {
        return; /* it is asked for more when something of that came */
    }
    peer->busy_pause_us =
        peer->busy_pause_us == 0 ? BUSY_US_MIN : least(2 * peer->busy_pause_us, BUSY_US_MAX);
    /* Not all at once: from half of it to one and a half. */
    peer->busy_until_us = transfer->now_us + peer->busy_pause_us / 2 +
                          random_below(&transfer->random, peer->busy_pause_us);
}

uint64_t transfer_peer_patience_us(const struct transfer *transfer)
{
    if (transfer->wait_us == 0) {
        return PATIENCE_US_FIRST;
    }
    return least(most(PATIENCE_WAITS * transfer->wait_us, PATIENCE_US_MIN), PATIENCE_US_MAX);
}

static void look_at(struct transfer *transfer, struct peer *peer, uint64_t patience_us)
{
    const uint64_t now_us = transfer->now_us;
    const bool is_silent = now_us >= most(peer->heard_us, peer->requests->sent_us) + patience_us;
    if (is_silent && !peer->is_late) {
        peer->is_late = true;
    }
    struct request *request;
    struct request *next;
    DL_FOREACH_SAFE(peer->requests, request, next)
    {
        if (!is_silent && request->sent_us + REQUEST_PATIENCES * patience_us > now_us) {
            break; /* those behind it are younger */
        }
        if (!request->is_hedged) {
            flight_release(transfer, request);
        }
    }
}

void transfer_peer_look_for_late(struct transfer *transfer)
{
    if (transfer->now_us < transfer->late_us) {
        return;
    }
    transfer->late_us = transfer->now_us + LATE_CHECK_US;
    const uint64_t patience_us = transfer_peer_patience_us(transfer);
    struct peer *peer;
    struct peer *next;
    DL_FOREACH_SAFE(transfer->working, peer, next)
    {
        look_at(transfer, peer, patience_us);
    }
}
