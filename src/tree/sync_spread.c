/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Telling everybody. Short ops travel in the broadcast itself; of many, or long ones, only the
 * names do, and each node pulls them from the one that told it, so that they take the same way at
 * most once over each link. Whoever is told before its teller has them waits there (sync_serve.c).
 *
 * A log that goes on where a copied-back directory left off would use names again. So after a start
 * local changes go to a new log, until this node has said which op of its old one is the last, to
 * everybody, and nobody who answers knows a later one. While members are missing who may know, it
 * is not said.
 */

#include "base/mem.h"
#include "tree/sync_priv.h"

/* Broadcasts of ops at once; of more, the names are told. */
#define SPREAD_PAYLOADS_MAX 8u
/* Broadcasts in a window of time; beyond, what comes waits for the next and goes together. */
#define SPREAD_WINDOW_US (50 * MS)
#define SPREAD_WINDOW_MAX 16u
/* Nobody claims at once when a whole network starts: the claims of all are spread over so long. */
#define CLAIM_WAIT_US (2 * SECOND)
#define CLAIM_WAIT_US_EACH (10 * MS)
/* An objection comes back within so long. */
#define CLAIM_ANSWER_US (3 * SECOND)

static void broadcast(struct tree_sync *sync, const struct buf *payload)
{
    sync->counters.broadcasts++;
    sync->spread_count++;
    sync->host.broadcast(sync->host.context, buf_bytes(payload));
}

static void spread_news(struct tree_sync *sync, uint64_t first_seq, uint64_t last_seq)
{
    const struct tree_message news = {
        .type = TREE_MESSAGE_SPREAD_NEWS,
        .dot = {sync->own.origin, first_seq},
        .last_seq = last_seq,
    };
    CLEANUP_BUF struct buf payload = BUF_INIT;
    tree_message_format(&news, &payload);
    broadcast(sync, &payload);
}

/* Payloads of ops, filled one after the other. */
struct payloads {
    struct buf bytes[SPREAD_PAYLOADS_MAX];
    size_t count;
};

static void payloads_done(struct payloads *payloads)
{
    for (size_t i = 0; i < payloads->count; i++) {
        buf_done(&payloads->bytes[i]);
    }
}

/* False: too long, or too many. */
static bool payloads_add(struct payloads *payloads, struct bytes op)
{
    struct buf *last = payloads->count > 0 ? &payloads->bytes[payloads->count - 1] : NULL;
    if (!last || last->size + 4 + op.size > DATAGRAM_PAYLOAD_BYTES_MAX) {
        if (payloads->count == SPREAD_PAYLOADS_MAX) {
            return false;
        }
        last = &payloads->bytes[payloads->count++];
        *last = BUF_INIT;
        const struct tree_message message = {.type = TREE_MESSAGE_SPREAD_OPS};
        tree_message_format(&message, last);
        if (last->size + 4 + op.size > DATAGRAM_PAYLOAD_BYTES_MAX) {
            return false;
        }
    }
    tree_message_put_op(last, op);
    return true;
}

/* The ops of our log from `seq` on, up to where we are. False: they do not fit. */
static bool read_own(struct tree_sync *sync, uint64_t seq, struct payloads *payloads)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    if (sync->own.seq - seq >= SPREAD_PAYLOADS_MAX * DATAGRAM_PAYLOAD_BYTES_MAX / 100 ||
        sync->host.read(sync->host.context, &txn) != 0) {
        return false;
    }
    for (; seq <= sync->own.seq; seq++) {
        CLEANUP_BUF struct buf op = BUF_INIT;
        const struct dot dot = {sync->own.origin, seq};
        if (tree_op_read(sync->tree, txn, &dot, &op) != 0 ||
            !payloads_add(payloads, buf_bytes(&op))) {
            return false;
        }
    }
    return true;
}

static void spread_own(struct tree_sync *sync)
{
    if (!origin_id_equal(&sync->spread.origin, &sync->own.origin)) {
        sync->spread = (struct dot){sync->own.origin, 0};
    }
    if (sync->spread.seq >= sync->own.seq) {
        return;
    }
    if (sync->now_us - sync->spread_window_us >= SPREAD_WINDOW_US) {
        sync->spread_window_us = sync->now_us;
        sync->spread_count = 0;
    }
    if (sync->spread_count >= SPREAD_WINDOW_MAX) {
        return; /* when the window ends */
    }
    const uint64_t first_seq = sync->spread.seq + 1;
    struct payloads payloads = {0};
    if (read_own(sync, first_seq, &payloads)) {
        for (size_t i = 0; i < payloads.count; i++) {
            broadcast(sync, &payloads.bytes[i]);
        }
    } else {
        spread_news(sync, first_seq, sync->own.seq);
    }
    payloads_done(&payloads);
    sync->spread.seq = sync->own.seq;
}

/* ---- the claim of our log ---------------------------------------------------------------------
 */

static void claim_begin(struct tree_sync *sync)
{
    /* A log without ops has nothing to go on with; a new one costs nothing. */
    if (sync->own.seq == 0 || sync->host.others_count(sync->host.context) == 0 ||
        sync->host.missing_count(sync->host.context) > 0 || sync->own.is_merging) {
        sync->claim_us = sync->now_us + CLAIM_WAIT_US;
        return;
    }
    const struct tree_message claim = {
        .type = TREE_MESSAGE_SPREAD_CLAIM,
        .node = sync->id,
        .dot = {sync->own.origin, sync->own.seq},
        .id = sync->own.hash,
    };
    CLEANUP_BUF struct buf payload = BUF_INIT;
    tree_message_format(&claim, &payload);
    broadcast(sync, &payload);
    sync->claim = CLAIM_TOLD;
    sync->claim_us = sync->now_us + CLAIM_ANSWER_US;
}

static void claim_due(struct tree_sync *sync)
{
    if (!sync->must_renew) {
        return;
    }
    if (sync->claim_us == 0) {
        const uint64_t others = sync->host.others_count(sync->host.context);
        sync->claim_us = sync->now_us + CLAIM_WAIT_US +
                         random_below(&sync->random, others * CLAIM_WAIT_US_EACH + 1);
        return;
    }
    if (sync->now_us < sync->claim_us) {
        return;
    }
    if (sync->claim == CLAIM_NONE) {
        claim_begin(sync);
    } else if (sync->claim == CLAIM_TOLD) {
        sync->claim = CLAIM_HOLDS;
        sync->must_renew = false;
    }
}

/* Somebody means to go on with a log: do we know more of it, or another one? */
static void received_claim(struct tree_sync *sync, const struct tree_message *claim)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct vector_entry entry = {.seq = 0};
    if (sync->host.read(sync->host.context, &txn) != 0 ||
        tree_vector_get(sync->tree, txn, &claim->dot.origin, &entry) != 0) {
        return;
    }
    if (entry.seq > claim->dot.seq ||
        (entry.seq == claim->dot.seq && !id_equal(&entry.hash, &claim->id))) {
        const struct tree_message objection = {
            .type = TREE_MESSAGE_FORKED,
            .dot = {claim->dot.origin, entry.seq},
            .id = entry.hash,
        };
        sync_send_message(sync, &claim->node, &objection);
    }
}

/* ---- what others tell -------------------------------------------------------------------------
 */

static void received_news(struct tree_sync *sync, const struct node_id *from,
                          const struct tree_message *news)
{
    if (!sync->own.is_merging) {
        pull_from(sync, from, &news->dot.origin, news->last_seq);
    }
}

void spread_received(struct tree_sync *sync, const struct node_id *from,
                     const struct tree_message *message)
{
    if (message->type == TREE_MESSAGE_SPREAD_NEWS) {
        received_news(sync, from, message);
        return;
    }
    if (message->type == TREE_MESSAGE_SPREAD_CLAIM) {
        received_claim(sync, message);
        return;
    }
    struct bytes list = message->list;
    struct bytes op;
    while (tree_message_next_op(&list, &op)) {
        arrive(sync, from, op);
    }
}

void spread_due(struct tree_sync *sync)
{
    spread_own(sync);
    claim_due(sync);
}

uint64_t spread_next_us(const struct tree_sync *sync)
{
    uint64_t next_us = sync->must_renew ? sync->claim_us : NEVER;
    const bool waits = origin_id_equal(&sync->spread.origin, &sync->own.origin) &&
                       sync->spread.seq < sync->own.seq;
    if (waits && sync->spread_window_us + SPREAD_WINDOW_US < next_us) {
        next_us = sync->spread_window_us + SPREAD_WINDOW_US;
    }
    return next_us;
}
