/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Telling everybody. Short ops travel in the broadcast itself; of many, or long ones, only the
 * names do, and each node pulls them from the one that told it, so that they take the same way at
 * most once over each link. Whoever is told before its teller has them waits there (sync_serve.c).
 */

#include "base/mem.h"
#include "tree/sync_priv.h"

/* Broadcasts of ops at once; of more, the names are told. */
#define SPREAD_PAYLOADS_MAX 8u
/* Broadcasts of one node: so many at once, and one more in each of these spans of time. Beyond,
 * what comes waits for its turn and goes together (a token bucket, Turner 1986). */
#define SPREAD_BURST_MAX 16u
#define SPREAD_SPAN_US (3 * MS)

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

/* The spans that have passed count off what was sent. */
static void drain(struct tree_sync *sync)
{
    const uint64_t spans = (sync->now_us - sync->spread_span_us) / SPREAD_SPAN_US;
    sync->spread_count -= spans < sync->spread_count ? (unsigned)spans : sync->spread_count;
    sync->spread_span_us += spans * SPREAD_SPAN_US;
}

void spread_due(struct tree_sync *sync)
{
    if (!origin_id_equal(&sync->spread.origin, &sync->own.origin)) {
        sync->spread = (struct dot){sync->own.origin, 0};
    }
    if (sync->spread.seq >= sync->own.seq) {
        return;
    }
    drain(sync);
    if (sync->spread_count >= SPREAD_BURST_MAX) {
        return; /* with the next span */
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
    struct bytes list = message->list;
    struct bytes op;
    while (tree_message_next_op(&list, &op)) {
        arrive(sync, from, op, false);
    }
}

uint64_t spread_next_us(const struct tree_sync *sync)
{
    const bool waits = origin_id_equal(&sync->spread.origin, &sync->own.origin) &&
                       sync->spread.seq < sync->own.seq;
    return waits ? sync->spread_span_us + SPREAD_SPAN_US : NEVER;
}
