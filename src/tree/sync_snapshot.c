/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Snapshots, handed out and taken. Who asks is offered one that is a minute old at most, or was
 * read by others within minutes, so that all who come share one, and who was cut off finds it
 * again; it is written beside all else. It travels in pieces, some of them asked for ahead, into a
 * file of the receiver, and is merged in steps between which the node does other things. A
 * connection that is lost costs what was on its way: the peer of whom a part is here is asked
 * first.
 */

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "hash/crc32c.h"
#include "tree/sync_priv.h"

/* A snapshot this old is still offered, and one that was read so lately, up to an age at which what
 * happened since costs as much; it is dropped when nobody has read it for so long. */
#define OFFER_FRESH_US (60 * SECOND)
#define OFFER_READ_US (300 * SECOND)
#define OFFER_MAX_US (3600 * SECOND)
#define OFFER_DROP_US OFFER_READ_US
/* Pieces asked for before the first of them is here. */
#define PIECES_AHEAD 8u
/* A piece that does not come; the same peer is asked so often. */
#define PIECE_US (5 * SECOND)
#define ATTEMPTS_MAX 4u
/* A peer that writes its snapshot first is asked again so often; it is gone if it says nothing. */
#define ASK_AGAIN_US (5 * SECOND)
#define ASKS_MAX 2u
/* A snapshot of a hundred million entries is written in that time; another peer is asked then. */
#define ASKED_US_MAX (180 * SECOND)
/* After a failure, another try, with anybody. */
#define TRY_AGAIN_US (2 * SECOND)
/* Two divergences at once would be the same one. */
#define REPAIR_PAUSE_US (30 * SECOND)
/* An error that may pass: so many tries before the file is given up for it. */
#define MERGE_TRIES_MAX 5u
/* Records merged in one transaction: some ten milliseconds. */
#define STEP_RECORDS 4000u
/* An offer without a snapshot: its size says whether to wait for one. */
#define OFFER_LATER 1u

static const struct id no_id;

/* ---- handing out ------------------------------------------------------------------------------
 */

static void offer(struct tree_sync *sync, const struct node_id *to, const struct id *id,
                  uint64_t bytes)
{
    const struct tree_message message = {
        .type = TREE_MESSAGE_SNAPSHOT_OFFER,
        .id = *id,
        .size_bytes = bytes,
    };
    sync_send_message(sync, to, &message);
}

static bool may_offer(const struct tree_sync *sync)
{
    const struct spooled *spooled = &sync->spooled;
    const uint64_t age_us = sync->now_us - spooled->made_us;
    const bool is_read = sync->now_us - spooled->read_us < OFFER_READ_US;
    return spooled->is_here && (age_us < OFFER_FRESH_US || (is_read && age_us < OFFER_MAX_US));
}

static void received_ask(struct tree_sync *sync, const struct node_id *from)
{
    struct spooled *spooled = &sync->spooled;
    if (sync->own.is_merging) {
        offer(sync, from, &no_id, 0); /* the third rule: tree/snapshot.h */
        return;
    }
    if (may_offer(sync)) {
        spooled->read_us = sync->now_us;
        offer(sync, from, &spooled->id, spooled->bytes);
        return;
    }
    for (size_t i = 0; i < spooled->askers_count; i++) {
        if (node_id_equal(&spooled->askers[i], from)) {
            offer(sync, from, &no_id, OFFER_LATER);
            return;
        }
    }
    if (spooled->askers_count == SYNC_ASKERS_MAX) {
        offer(sync, from, &no_id, 0);
        return;
    }
    spooled->askers[spooled->askers_count++] = *from;
    offer(sync, from, &no_id, OFFER_LATER);
    if (!spooled->is_under_way) {
        spooled->is_under_way = true; /* until it has ended, the old one can be read */
        sync->host.spool(sync->host.context);
    }
}

void tree_sync_spooled(struct tree_sync *sync, uint64_t now_us, int err, const struct id *id,
                       uint64_t bytes)
{
    sync->now_us = now_us;
    struct spooled *spooled = &sync->spooled;
    spooled->is_under_way = false;
    spooled->is_here = !err;
    if (err) {
        sync_failed(sync, err);
    } else {
        spooled->id = *id;
        spooled->bytes = bytes;
        spooled->made_us = now_us;
        spooled->read_us = now_us;
        sync->counters.snapshots_served += spooled->askers_count;
    }
    for (size_t i = 0; i < spooled->askers_count; i++) {
        offer(sync, &spooled->askers[i], err ? &no_id : id, err ? 0 : bytes);
    }
    spooled->askers_count = 0;
}

static void received_want(struct tree_sync *sync, const struct node_id *from,
                          const struct tree_message *want)
{
    struct spooled *spooled = &sync->spooled;
    struct tree_message piece = {
        .type = TREE_MESSAGE_SNAPSHOT_PIECE,
        .id = want->id,
        .offset_bytes = want->offset_bytes,
    };
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    if (spooled->is_here && id_equal(&spooled->id, &want->id) &&
        want->offset_bytes < spooled->bytes) {
        const uint64_t left = spooled->bytes - want->offset_bytes;
        const size_t size = left < TREE_PIECE_BYTES_MAX ? (size_t)left : TREE_PIECE_BYTES_MAX;
        if (sync->host.spool_read(sync->host.context, want->offset_bytes, buf_extend(&bytes, size),
                                  size) == 0) {
            piece.bytes = buf_bytes(&bytes);
            piece.crc = crc32c(piece.bytes);
            spooled->read_us = sync->now_us;
        }
    }
    sync_send_message(sync, from, &piece);
}

/* ---- taking -----------------------------------------------------------------------------------
 */

static void end_fetch(struct tree_sync *sync, uint64_t pause_us)
{
    struct fetch *fetch = &sync->fetch;
    tree_snapshot_close(fetch->snapshot);
    *fetch = (struct fetch){.not_before_us = sync->now_us + pause_us};
}

static void give_up(struct tree_sync *sync)
{
    sync->host.inbox_drop(sync->host.context);
    end_fetch(sync, TRY_AGAIN_US);
}

static void ask(struct tree_sync *sync)
{
    const struct tree_message question = {.type = TREE_MESSAGE_SNAPSHOT_ASK};
    sync_send_message(sync, &sync->fetch.peer, &question);
    sync->fetch.deadline_us = sync->now_us + ASK_AGAIN_US;
}

void snapshot_fetch(struct tree_sync *sync, const struct node_id *peer, enum tree_merge_mode mode)
{
    struct fetch *fetch = &sync->fetch;
    if (fetch->state != FETCH_NONE ||
        (mode == TREE_MERGE_NORMAL && sync->now_us < fetch->not_before_us)) {
        return;
    }
    const bool goes_on = mode == TREE_MERGE_NORMAL && sync->now_us < fetch->left_until_us;
    *fetch = (struct fetch){
        .state = FETCH_ASKED,
        .peer = goes_on ? fetch->left : *peer,
        .merge = {.mode = mode},
        .began_us = sync->now_us,
    };
    ask(sync);
}

static void want_pieces(struct tree_sync *sync)
{
    struct fetch *fetch = &sync->fetch;
    const uint64_t ahead = fetch->received_bytes + PIECES_AHEAD * TREE_PIECE_BYTES_MAX;
    while (fetch->asked_bytes < fetch->bytes && fetch->asked_bytes < ahead) {
        const struct tree_message want = {
            .type = TREE_MESSAGE_SNAPSHOT_WANT,
            .id = fetch->merge.snapshot,
            .offset_bytes = fetch->asked_bytes,
        };
        sync_send_message(sync, &fetch->peer, &want);
        fetch->asked_bytes += TREE_PIECE_BYTES_MAX;
    }
    fetch->deadline_us = sync->now_us + PIECE_US;
}

static int read_inbox(void *context, uint64_t offset, void *ret_bytes, size_t size)
{
    const struct tree_sync *sync = context;
    return sync->host.inbox_read(sync->host.context, offset, ret_bytes, size);
}

static int begin_merge(void *context, struct kv_txn *txn)
{
    struct tree_sync *sync = context;
    return tree_merge_begin(sync->tree, txn, sync->fetch.snapshot, &sync->fetch.merge);
}

/* All of it is here: looks whether it is whole, and sets the mark. */
static void merge(struct tree_sync *sync)
{
    struct fetch *fetch = &sync->fetch;
    const struct tree_snapshot_source source = {read_inbox, sync, fetch->bytes};
    struct tree_snapshot_info info;
    int err = tree_snapshot_check(&source, &info);
    if (!err) {
        err = tree_snapshot_open(&source, &fetch->snapshot);
    }
    const bool is_readable = !err;
    if (is_readable) {
        err = sync->host.write(sync->host.context, begin_merge, sync);
    }
    if (err == -EPROTO || err == -EPROTONOSUPPORT) {
        sync->counters.messages_refused++;
        sync_event(sync, TREE_SYNC_REFUSED, &fetch->peer, 1);
        give_up(sync);
        return;
    }
    if (err == -EAGAIN) { /* TREE_MERGE_UNION, and the snapshot is too old for it */
        give_up(sync);
        return;
    }
    if (err) {
        sync_failed(sync, err);
    }
    if (!is_readable) {
        give_up(sync);
        return;
    }
    fetch->state = FETCH_MERGING;
    sync_event(sync, TREE_SYNC_MERGE_BEGUN, &fetch->peer, info.entries_count);
    sync_refresh(sync);
}

static void received_offer(struct tree_sync *sync, const struct node_id *from,
                           const struct tree_message *message)
{
    struct fetch *fetch = &sync->fetch;
    if (fetch->state != FETCH_ASKED || !node_id_equal(&fetch->peer, from)) {
        return;
    }
    if (id_equal(&message->id, &no_id)) {
        if (message->size_bytes == OFFER_LATER) {
            fetch->attempts = 0;
        } else {
            end_fetch(sync, TRY_AGAIN_US);
        }
        return;
    }
    fetch->merge.snapshot = message->id;
    fetch->bytes = message->size_bytes;
    uint64_t here_bytes = 0;
    const int err = sync->host.inbox_open(sync->host.context, &message->id, &here_bytes);
    if (err || here_bytes > fetch->bytes) {
        sync_failed(sync, err ? err : -EIO);
        give_up(sync);
        return;
    }
    fetch->state = FETCH_RECEIVING;
    fetch->received_bytes = here_bytes;
    fetch->asked_bytes = here_bytes;
    fetch->attempts = 0;
    if (here_bytes == fetch->bytes) {
        merge(sync);
    } else {
        want_pieces(sync);
    }
}

static void received_piece(struct tree_sync *sync, const struct node_id *from,
                           const struct tree_message *piece)
{
    struct fetch *fetch = &sync->fetch;
    if (fetch->state != FETCH_RECEIVING || !node_id_equal(&fetch->peer, from) ||
        !id_equal(&piece->id, &fetch->merge.snapshot) ||
        piece->offset_bytes != fetch->received_bytes) {
        return; /* late, or behind one that was lost: it is asked for again */
    }
    const uint64_t left = fetch->bytes - fetch->received_bytes;
    if (piece->bytes.size != (left < TREE_PIECE_BYTES_MAX ? left : TREE_PIECE_BYTES_MAX) ||
        crc32c(piece->bytes) != piece->crc) {
        give_up(sync);
        return;
    }
    const int err = sync->host.inbox_append(sync->host.context, piece->bytes);
    if (err) {
        sync_failed(sync, err);
        give_up(sync);
        return;
    }
    fetch->received_bytes += piece->bytes.size;
    fetch->attempts = 0;
    if (fetch->received_bytes < fetch->bytes) {
        want_pieces(sync);
    } else {
        merge(sync);
    }
}

void snapshot_received(struct tree_sync *sync, const struct node_id *from,
                       const struct tree_message *message)
{
    if (message->type == TREE_MESSAGE_SNAPSHOT_ASK) {
        received_ask(sync, from);
    } else if (message->type == TREE_MESSAGE_SNAPSHOT_WANT) {
        received_want(sync, from, message);
    } else if (message->type == TREE_MESSAGE_SNAPSHOT_OFFER) {
        received_offer(sync, from, message);
    } else {
        received_piece(sync, from, message);
    }
}

/* ---- merging ----------------------------------------------------------------------------------
 */

struct step {
    struct tree_sync *sync;
    bool is_done;
};

static int merge_step(void *context, struct kv_txn *txn)
{
    struct step *step = context;
    struct tree_sync *sync = step->sync;
    /* Finds where to go on, also after a transaction that was aborted. */
    const int err = tree_merge_begin(sync->tree, txn, sync->fetch.snapshot, &sync->fetch.merge);
    return err ? err
               : tree_merge_step(sync->tree, txn, sync->fetch.snapshot, STEP_RECORDS,
                                 &step->is_done);
}

static void merge_done(struct tree_sync *sync)
{
    const struct node_id peer = sync->fetch.peer;
    const bool is_repair = sync->fetch.merge.mode != TREE_MERGE_NORMAL;
    sync->counters.snapshots_merged++;
    sync->host.inbox_drop(sync->host.context);
    end_fetch(sync, is_repair ? REPAIR_PAUSE_US : 0);
    refused_done(sync); /* other logs than those are ours now */
    sync_advanced(sync);
    sync_event(sync, TREE_SYNC_MERGE_DONE, &peer, 1);
    arrive_again(sync);
}

static void merge_due(struct tree_sync *sync)
{
    struct step step = {.sync = sync};
    const int err = sync->host.write(sync->host.context, merge_step, &step);
    if (err) {
        sync_failed(sync, err);
    } else if (step.is_done) {
        merge_done(sync);
    } else {
        sync->fetch.attempts = 0;
    }
    /* The file is no more what was checked, too old for a union, or can't be read. */
    if (err == -EPROTO || err == -EAGAIN ||
        (err == -EIO && ++sync->fetch.attempts >= MERGE_TRIES_MAX)) {
        give_up(sync);
    }
}

/* A merge that a restart interrupted: goes on if the file is here, else with another snapshot, of
 * anybody. */
void snapshot_begin(struct tree_sync *sync)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct tree_merge_state state;
    if (sync->host.read(sync->host.context, &txn) != 0 ||
        tree_merge_state(sync->tree, txn, &state) != 0) {
        return;
    }
    kv_abort(STEAL_PTR(txn));
    struct id id;
    uint64_t bytes = 0;
    if (sync->host.inbox_find(sync->host.context, &id, &bytes) &&
        id_equal(&id, &state.options.snapshot)) {
        sync->fetch = (struct fetch){
            .state = FETCH_RECEIVING,
            .merge = state.options,
            .bytes = bytes,
            .received_bytes = bytes,
        };
        merge(sync);
    }
}

/* The mark stands, and nothing is on its way: asks somebody. */
static void fetch_again(struct tree_sync *sync)
{
    struct node_id peer;
    if (sync->now_us < sync->fetch.not_before_us) {
        return;
    }
    if (sync->host.pick(sync->host.context, &peer)) {
        snapshot_fetch(sync, &peer, TREE_MERGE_NORMAL);
    } else {
        sync->fetch.not_before_us = sync->now_us + TRY_AGAIN_US;
    }
}

static void spooled_due(struct tree_sync *sync)
{
    struct spooled *spooled = &sync->spooled;
    if (spooled->is_here && sync->now_us - spooled->read_us >= OFFER_DROP_US) {
        spooled->is_here = false;
        sync->host.spool_drop(sync->host.context);
    }
}

void snapshot_due(struct tree_sync *sync)
{
    struct fetch *fetch = &sync->fetch;
    spooled_due(sync);
    switch (fetch->state) {
    case FETCH_MERGING:
        merge_due(sync);
        break;
    case FETCH_NONE:
        if (sync->own.is_merging) {
            fetch_again(sync);
        }
        break;
    case FETCH_ASKED:
        if (sync->now_us - fetch->began_us >= ASKED_US_MAX ||
            (sync->now_us >= fetch->deadline_us && ++fetch->attempts >= ASKS_MAX)) {
            end_fetch(sync, TRY_AGAIN_US);
        } else if (sync->now_us >= fetch->deadline_us) {
            ask(sync);
        }
        break;
    case FETCH_RECEIVING:
        if (sync->now_us >= fetch->deadline_us && ++fetch->attempts >= ATTEMPTS_MAX) {
            const struct node_id peer = fetch->peer;
            end_fetch(sync, TRY_AGAIN_US); /* what is here stays, for the same snapshot */
            fetch->left = peer;
            fetch->left_until_us = sync->now_us + OFFER_READ_US;
        } else if (sync->now_us >= fetch->deadline_us) {
            fetch->asked_bytes = fetch->received_bytes;
            want_pieces(sync);
        }
        break;
    }
}

uint64_t snapshot_next_us(const struct tree_sync *sync)
{
    const struct fetch *fetch = &sync->fetch;
    uint64_t next_us = NEVER;
    switch (fetch->state) {
    case FETCH_MERGING:
        return sync->now_us;
    case FETCH_NONE:
        next_us = sync->own.is_merging ? fetch->not_before_us : NEVER;
        break;
    case FETCH_ASKED:
    case FETCH_RECEIVING:
        next_us = fetch->deadline_us;
        break;
    }
    if (sync->spooled.is_here && sync->spooled.read_us + OFFER_DROP_US < next_us) {
        next_us = sync->spooled.read_us + OFFER_DROP_US;
    }
    return next_us;
}

void snapshot_done(struct tree_sync *sync)
{
    tree_snapshot_close(sync->fetch.snapshot);
}
