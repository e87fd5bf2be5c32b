/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What owners are still to be told. Each owner has a queue of its own, whose order is the order in
 * which things happened here; one message is under way to it at a time and is sent again until the
 * owner says that it has it. So what an owner was told last is what is so, and what comes while it
 * is slow is gathered into large messages by itself. A queue that grows beyond measure is dropped:
 * comparing finds what the owner lacks.
 */

#include <stdlib.h>

#include "base/mem.h"
#include "locate/locate_priv.h"

/* What happens at about the same time goes in one message. */
#define GATHER_US (10 * MS)
/* Sent again after so long, twice that the next time, and so on. */
#define AGAIN_US (2 * SECOND)
#define AGAIN_US_MAX (32 * SECOND)
/* Between comparisons while things change, twice that the next time. */
#define DOUBT_US SECOND
#define DOUBTS_MAX 3u
/* Keys of all queues, of 21 bytes: a hundred megabytes. One queue may have a quarter. */
#define KEYS_MAX ((size_t)4 * 1024 * 1024)
/* What can wait is not added beyond. */
#define KEYS_FULL (KEYS_MAX / 16)
/* An owner that is alive and does not take what was sent to it so often: no other waits for it, and
 * its queue may have no more than KEYS_SLOW. */
#define SLOW_ATTEMPTS 2u
#define KEYS_SLOW (KEYS_FULL / 4)

struct batch *batch_new(enum locate_message_type type)
{
    struct batch *batch = mem_alloc(sizeof *batch);
    batch->type = type;
    return batch;
}

void batch_free(struct batch *batch)
{
    if (batch) {
        buf_done(&batch->held);
        free(batch);
    }
}

void batch_add(struct batch *batch, const struct locate_held *held)
{
    CHECK(batch->held_count < LOCATE_HELD_MAX);
    locate_message_put_held(&batch->held, held);
    batch->held_count++;
}

static uint64_t again_us(const struct peer *peer)
{
    const uint64_t wait_us = AGAIN_US << (peer->attempts < 5 ? peer->attempts : 5);
    return peer->sent_us + (wait_us < AGAIN_US_MAX ? wait_us : AGAIN_US_MAX);
}

/* Sends the first batch. */
static void send_batch(struct locate *locate, struct peer *peer)
{
    const struct batch *batch = peer->batches;
    struct locate_message message = {
        .type = batch->type,
        .life = locate->life,
        .number = peer->number,
        .first = batch->first,
        .last = batch->last,
    };
    if (batch->type == LOCATE_COMPARE) {
        message.parts = UINT16_MAX;
        memcpy(message.sums, peer->sums, sizeof message.sums);
    }
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    locate_message_format(&message, &bytes);
    buf_add(&bytes, buf_bytes(&batch->held));
    peer->sent_us = locate->now_us > 0 ? locate->now_us : 1;
    locate_send(locate, &peer->id, buf_bytes(&bytes));
}

static bool may_gather(const struct peer *peer)
{
    const struct batch *first = peer->batches;
    return first->type == LOCATE_TELL && !first->next && first->held_count < LOCATE_HELD_MAX;
}

/* Sends what may be sent; tells when there is something to do again. */
static uint64_t pump(struct locate *locate, struct peer *peer)
{
    if (!peer->batches || !peer->is_alive) {
        return NEVER;
    }
    if (peer->sent_us != 0) {
        if (locate->now_us < again_us(peer)) {
            return again_us(peer);
        }
        locate->counters.messages_again++;
        peer->attempts++;
        send_batch(locate, peer);
        return again_us(peer);
    }
    if (may_gather(peer) && locate->now_us < peer->flush_us) {
        return peer->flush_us;
    }
    peer->number = locate->next_number++;
    peer->attempts = 0;
    send_batch(locate, peer);
    return again_us(peer);
}

static void pop(struct locate *locate, struct peer *peer)
{
    struct batch *batch = peer->batches;
    peer->batches = batch->next;
    if (!peer->batches) {
        peer->batches_last = NULL;
    }
    peer->batches_keys -= batch->held_count;
    locate->counters.queued_keys -= batch->held_count;
    peer->sent_us = 0;
    batch_free(batch);
}

void tell_drop(struct locate *locate, struct peer *peer)
{
    while (peer->batches) {
        pop(locate, peer);
    }
    peer->is_summed = false;
}

static bool is_slow(const struct peer *peer)
{
    return peer->sent_us != 0 && peer->attempts >= SLOW_ATTEMPTS;
}

/* Too much: all of it is forgotten, and compared once the owner takes things again. */
static bool sheds(struct locate *locate, struct peer *peer)
{
    const size_t keys_max = is_slow(peer) ? KEYS_SLOW : KEYS_MAX / 4;
    if (peer->batches_keys < keys_max && locate->counters.queued_keys < KEYS_MAX) {
        return false;
    }
    locate->counters.queues_dropped++;
    tell_drop(locate, peer);
    walk_forget(peer);
    compare_soon(locate, peer);
    return true;
}

void tell_push(struct locate *locate, struct peer *peer, struct batch *batch)
{
    if (sheds(locate, peer)) {
        batch_free(batch);
        return;
    }
    if (peer->batches_last) {
        peer->batches_last->next = batch;
    } else {
        peer->batches = batch;
    }
    peer->batches_last = batch;
    peer->batches_keys += batch->held_count;
    locate->counters.queued_keys += batch->held_count;
    due_sooner(&locate->peers_due_us, locate->now_us);
}

void tell_queue(struct locate *locate, struct peer *peer, const struct locate_held *held)
{
    if (sheds(locate, peer)) {
        return;
    }
    struct batch *last = peer->batches_last;
    const bool is_under_way = last == peer->batches && peer->sent_us != 0;
    if (!last || last->type != LOCATE_TELL || is_under_way || last->held_count == LOCATE_HELD_MAX) {
        struct batch *batch = batch_new(LOCATE_TELL);
        batch_add(batch, held);
        if (!last) {
            peer->flush_us = locate->now_us + GATHER_US;
        }
        tell_push(locate, peer, batch);
        return;
    }
    batch_add(last, held);
    peer->batches_keys++;
    locate->counters.queued_keys++;
    if (last->held_count == LOCATE_HELD_MAX) {
        due_sooner(&locate->peers_due_us, locate->now_us);
    }
}

bool tell_is_full(const struct locate *locate)
{
    if (locate->counters.queued_keys <= KEYS_FULL) {
        return false;
    }
    size_t moving_count = 0;
    for (const struct peer *peer = locate->peers; peer; peer = peer->hh.next) {
        moving_count += is_slow(peer) ? 0 : peer->batches_keys;
    }
    return moving_count > KEYS_FULL;
}

void tell_alive(struct locate *locate, struct peer *peer)
{
    if (peer->sent_us != 0) {
        /* Whatever became of it, it is sent again at once. */
        peer->attempts = 0;
        peer->sent_us = 0;
        peer->flush_us = locate->now_us;
    }
    due_sooner(&locate->peers_due_us, locate->now_us);
}

/* Where something changed while sums were made they may differ for that alone: those parts are
 * compared again, and told as a whole if there is no quiet moment. */
static void take_parts(struct locate *locate, struct peer *peer, uint16_t parts)
{
    locate->counters.compared++;
    peer->is_summed = false;
    uint16_t doubtful = parts & peer->dirty;
    if (doubtful != 0 && peer->doubts < DOUBTS_MAX) {
        due_sooner(&peer->compare_us, locate->now_us + (DOUBT_US << peer->doubts));
        peer->doubts++;
    } else {
        peer->doubts = 0;
        doubtful = 0;
    }
    parts = (uint16_t)(parts & ~doubtful);
    locate->counters.parts_differed += (unsigned)__builtin_popcount(parts);
    peer->differs |= parts;
}

void tell_taken(struct locate *locate, struct peer *peer, const struct locate_message *message)
{
    if (peer->sent_us == 0 || message->life != locate->life || message->number != peer->number) {
        return;
    }
    if (peer->batches->type == LOCATE_COMPARE) {
        take_parts(locate, peer, message->parts);
    }
    locate->counters.keys_told += peer->batches->held_count;
    pop(locate, peer);
    due_sooner(&locate->peers_due_us, pump(locate, peer));
    due_sooner(&locate->walk_due_us, locate->now_us);
}

void tell_due(struct locate *locate)
{
    if (locate->now_us < locate->peers_due_us) {
        return;
    }
    locate->peers_due_us = NEVER;
    for (struct peer *peer = locate->peers; peer; peer = peer->hh.next) {
        due_sooner(&locate->peers_due_us, pump(locate, peer));
    }
}
