/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/sync.h"

#include <stdlib.h>

#include "base/codec.h"
#include "base/err.h"
#include "base/mem.h"
#include "tree/sync_priv.h"

/* After the disk failed. */
#define RETRY_US (1 * SECOND)
/* Who was not heard of for so long may lack anything, and is compared with after so long. */
#define SILENT_US (20 * SECOND)
#define NEW_US (100 * MS)

void sync_event(struct tree_sync *sync, enum tree_sync_event_kind kind,
                const struct node_id *member, uint64_t count)
{
    struct tree_sync_event event = {.kind = kind, .count = count};
    if (member) {
        event.member = *member;
    }
    sync->host.event(sync->host.context, &event);
}

void sync_failed(struct tree_sync *sync, int err)
{
    sync->retry_us = sync->now_us + RETRY_US;
    const struct tree_sync_event event = {.kind = TREE_SYNC_FAILED, .err = err};
    sync->host.event(sync->host.context, &event);
}

void sync_send(struct tree_sync *sync, const struct node_id *to, struct bytes message)
{
    sync->counters.messages_sent++;
    sync->counters.message_bytes_sent += message.size;
    sync->host.send(sync->host.context, to, message);
}

void sync_send_message(struct tree_sync *sync, const struct node_id *to,
                       const struct tree_message *message)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    tree_message_format(message, &bytes);
    sync_send(sync, to, buf_bytes(&bytes));
}

bool sync_is_past(const struct tree_sync *sync, uint64_t vector_sum)
{
    for (unsigned i = 0; i < SYNC_PAST_MAX; i++) {
        if (sync->past[i] == vector_sum) {
            return true;
        }
    }
    return false;
}

static void set_own(struct tree_sync *sync, const struct tree_summary *summary)
{
    struct sync_own *own = &sync->own;
    if (own->vector_sum != summary->vector_sum) {
        sync->past[sync->past_next++ % SYNC_PAST_MAX] = own->vector_sum;
    }
    *own = (struct sync_own){
        .vector_sum = summary->vector_sum,
        .tree_sum = codec_get_le64(summary->fingerprint),
        .ops_count = summary->ops_count,
        .entries_count = summary->entries_count,
        .origin = summary->origin,
        .seq = summary->origin_seq,
        .hash = summary->origin_hash,
        .is_merging = summary->is_merging,
    };
    memcpy(own->fingerprint, summary->fingerprint, sizeof own->fingerprint);
}

void sync_refresh(struct tree_sync *sync)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct tree_summary summary;
    int err = sync->host.read(sync->host.context, &txn);
    if (!err) {
        err = tree_summary(sync->tree, txn, &summary);
    }
    sync->is_stale = err != 0;
    if (err) {
        sync_failed(sync, err);
        return;
    }
    set_own(sync, &summary);
    /* While they do not belong together, others shall find us different, and nothing else. */
    const bool is_whole = !sync->own.is_merging;
    sync->host.digests(sync->host.context, is_whole ? sync->own.vector_sum : 0,
                       is_whole ? sync->own.tree_sum : 0);
}

uint64_t sync_seq_of(struct tree_sync *sync, struct kv_txn *txn, const struct origin_id *origin)
{
    struct vector_entry entry = {.seq = 0};
    const int err = tree_vector_get(sync->tree, txn, origin, &entry);
    return err ? 0 : entry.seq;
}

void sync_advanced(struct tree_sync *sync)
{
    sync_refresh(sync);
    serve_wishes(sync);
}

struct tree_sync *tree_sync_new(const struct tree_sync_options *options, uint64_t now_us)
{
    struct tree_sync *sync = mem_alloc(sizeof *sync);
    sync->tree = options->tree;
    sync->id = options->id;
    sync->host = options->host;
    sync->now_us = now_us;
    sync->early_due_us = NEVER;
    random_init(&sync->random, options->random_seed);
    /* What an earlier life of this node asked may still be answered. */
    sync->next_number = random_u64(&sync->random);
    sync_refresh(sync);
    sync->spread = (struct dot){sync->own.origin, sync->own.seq};
    snapshot_begin(sync);
    return sync;
}

void tree_sync_free(struct tree_sync *sync)
{
    if (!sync) {
        return;
    }
    snapshot_done(sync);
    pull_stop(sync);
    arrive_done(sync);
    refused_done(sync);
    serve_done(sync);
    free(sync->awaits);
    free(sync);
}

static void receive(struct tree_sync *sync, const struct node_id *from,
                    const struct tree_message *message)
{
    switch (message->type) {
    case TREE_MESSAGE_SUMS:
        serve_sums(sync, from, message);
        break;
    case TREE_MESSAGE_PART:
        pull_received_part(sync, from, message);
        break;
    case TREE_MESSAGE_WANT:
        serve_want(sync, from, message);
        break;
    case TREE_MESSAGE_OPS:
        pull_received_ops(sync, from, message);
        break;
    case TREE_MESSAGE_LARGE:
        pull_received_large(sync, from, message);
        break;
    case TREE_MESSAGE_PIECE_WANT:
        serve_piece_want(sync, from, message);
        break;
    case TREE_MESSAGE_PIECE:
        pull_received_piece(sync, from, message);
        break;
    case TREE_MESSAGE_AWAIT:
        serve_await(sync, from, message);
        break;
    case TREE_MESSAGE_HAS:
        await_received_has(sync, from, message->number);
        break;
    case TREE_MESSAGE_SNAPSHOT_ASK:
    case TREE_MESSAGE_SNAPSHOT_OFFER:
    case TREE_MESSAGE_SNAPSHOT_WANT:
    case TREE_MESSAGE_SNAPSHOT_PIECE:
        snapshot_received(sync, from, message);
        break;
    case TREE_MESSAGE_STATE_ASK:
        serve_state(sync, from, message->number);
        break;
    case TREE_MESSAGE_STATE: {
        struct tree_sync_event event = {
            .kind = TREE_SYNC_STATE,
            .member = *from,
            .number = message->number,
            .state = {.vector_sum = message->vector_sum,
                      .ops_count = message->ops_count,
                      .entries_count = message->entries_count},
        };
        memcpy(event.state.fingerprint, message->fingerprint, sizeof event.state.fingerprint);
        sync->host.event(sync->host.context, &event);
        break;
    }
    case TREE_MESSAGE_SPREAD_OPS:
    case TREE_MESSAGE_SPREAD_NEWS:
        spread_received(sync, from, message);
        break;
    }
}

static void receive_bytes(struct tree_sync *sync, const struct node_id *from, struct bytes bytes,
                          bool is_broadcast)
{
    struct tree_message message;
    const int err = tree_message_parse(bytes, is_broadcast, &message);
    if (err == -EPROTONOSUPPORT) {
        return; /* of a later version: not meant for us */
    }
    if (err) {
        sync->counters.messages_refused++;
        sync_event(sync, TREE_SYNC_REFUSED, from, 1);
        return;
    }
    receive(sync, from, &message);
}

void tree_sync_broadcast(struct tree_sync *sync, uint64_t now_us, const struct node_id *from,
                         struct bytes payload)
{
    sync->now_us = now_us;
    receive_bytes(sync, from, payload, true);
}

void tree_sync_message(struct tree_sync *sync, uint64_t now_us, const struct node_id *from,
                       struct bytes message)
{
    sync->now_us = now_us;
    sync->counters.messages_received++;
    sync->counters.message_bytes_received += message.size;
    receive_bytes(sync, from, message, false);
}

/* The peer's place; the one that was silent longest is given to a new one. */
static struct sync_peer *find_peer(struct tree_sync *sync, const struct node_id *id)
{
    struct sync_peer *oldest = &sync->peers[0];
    for (unsigned i = 0; i < SYNC_PEERS_MAX; i++) {
        struct sync_peer *peer = &sync->peers[i];
        if (peer->heard_us != 0 && node_id_equal(&peer->id, id)) {
            return peer;
        }
        oldest = peer->heard_us < oldest->heard_us ? peer : oldest;
    }
    *oldest = (struct sync_peer){.id = *id};
    return oldest;
}

void tree_sync_digests(struct tree_sync *sync, uint64_t now_us, const struct node_id *from,
                       const struct digests *digests)
{
    sync->now_us = now_us;
    struct sync_peer *peer = find_peer(sync, from);
    const bool is_same_again = peer->heard_us != 0 && peer->vector_sum == digests->vector;
    const bool is_new = peer->heard_us == 0 || now_us - peer->heard_us >= SILENT_US;
    peer->heard_us = now_us;
    peer->vector_sum = digests->vector;
    peer->tree_sum = digests->tree;
    if (digests->vector == sync->own.vector_sum) {
        peer->differs_us = 0;
        if (!is_same_again) {
            peer->diverges_us = 0;
        }
        diverge_look(sync, peer);
        return;
    }
    peer->diverges_us = 0;
    if (peer->differs_us == 0) {
        /* Who just came differs by more than what is on its way. */
        peer->differs_us = is_new ? now_us - TREE_SYNC_DIFFERS_MS * MS + NEW_US : now_us;
    }
}

/* A difference that lasts: whoever has had another vector for a while, and not one that we have
 * come by. Who has waited longest is first: none can keep us from the others by differing. */
static void compare_due(struct tree_sync *sync)
{
    struct sync_peer *longest = NULL;
    for (unsigned i = 0; i < SYNC_PEERS_MAX; i++) {
        struct sync_peer *peer = &sync->peers[i];
        if (peer->differs_us == 0 || sync->now_us - peer->differs_us < TREE_SYNC_DIFFERS_MS * MS) {
            continue;
        }
        if (peer->vector_sum == sync->own.vector_sum || sync_is_past(sync, peer->vector_sum)) {
            peer->differs_us = 0;
            continue;
        }
        longest = !longest || peer->differs_us < longest->differs_us ? peer : longest;
    }
    if (longest && sync->compared_us == 0 && sync->now_us >= sync->compare_us &&
        sync->now_us >= pull_repairs_until_us(sync)) {
        longest->differs_us = 0; /* its next digest tells whether that helped */
        pull_compare(sync, &longest->id);
    }
}

static uint64_t compare_next_us(const struct tree_sync *sync)
{
    const uint64_t repairs_us = pull_repairs_until_us(sync);
    uint64_t next_us = NEVER;
    for (unsigned i = 0; i < SYNC_PEERS_MAX; i++) {
        const struct sync_peer *peer = &sync->peers[i];
        if (peer->differs_us != 0 && sync->compared_us == 0) {
            uint64_t due_us = peer->differs_us + TREE_SYNC_DIFFERS_MS * MS;
            due_us = due_us > sync->compare_us ? due_us : sync->compare_us;
            due_us = due_us > repairs_us ? due_us : repairs_us;
            next_us = due_us < next_us ? due_us : next_us;
        }
    }
    return next_us;
}

void tree_sync_changed(struct tree_sync *sync, uint64_t now_us)
{
    sync->now_us = now_us;
    sync_advanced(sync);
    spread_due(sync);
}

void tree_sync_ask(struct tree_sync *sync, uint64_t now_us, const struct node_id *member,
                   uint64_t number)
{
    sync->now_us = now_us;
    const struct tree_message ask = {.type = TREE_MESSAGE_STATE_ASK, .number = number};
    sync_send_message(sync, member, &ask);
}

void tree_sync_tick(struct tree_sync *sync, uint64_t now_us)
{
    sync->now_us = now_us;
    await_due(sync);
    serve_due(sync);
    if (now_us < sync->retry_us) {
        return;
    }
    if (sync->is_stale) {
        sync_advanced(sync);
    }
    spread_due(sync);
    arrive_due(sync);
    pull_due(sync);
    compare_due(sync);
    snapshot_due(sync);
}

uint64_t tree_sync_next_us(const struct tree_sync *sync)
{
    const uint64_t due_us[] = {
        spread_next_us(sync),  sync->early_due_us,     pull_next_us(sync),
        compare_next_us(sync), snapshot_next_us(sync), sync->is_stale ? sync->retry_us : NEVER,
    };
    uint64_t next_us = NEVER;
    for (size_t i = 0; i < ARRAY_SIZE(due_us); i++) {
        next_us = due_us[i] < next_us ? due_us[i] : next_us;
    }
    next_us = next_us < sync->retry_us ? sync->retry_us : next_us;
    const uint64_t await_us = await_next_us(sync);
    return await_us < next_us ? await_us : next_us;
}

const struct tree_sync_counters *tree_sync_counters(const struct tree_sync *sync)
{
    return &sync->counters;
}
