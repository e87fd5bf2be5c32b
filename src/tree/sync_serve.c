/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Answering others: what our vector is, the ops they want, what they wait for. Nothing is kept
 * between two questions, but for wishes: what was announced to a peer and is not here yet.
 */

#include <stdlib.h>

#include "base/err.h"
#include "base/map.h"
#include "base/mem.h"
#include "tree/sync_priv.h"

/* Ops in one message. The end of a message is looked at before each. */
#define SERVE_BYTES (TREE_MESSAGE_BYTES_MAX - 64)
/* To who has little, a snapshot costs less than so many ops. */
#define SNAPSHOT_OPS_MIN UINT64_C(10000)
/* A long op is kept in memory for so long after the last piece of it was wanted. */
#define SERVED_US (5 * SECOND)
/* Wishes of one message: each looks through all. */
#define WISHES_AT_ONCE_MAX 1024u

void serve_sums(struct tree_sync *sync, const struct node_id *from, const struct tree_message *sums)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct tree_message part = {.type = TREE_MESSAGE_PART};
    uint64_t own[TREE_VECTOR_BUCKETS];
    int err = sync->host.read(sync->host.context, &txn);
    if (!err) {
        err = tree_vector_sums(sync->tree, txn, own);
    }
    if (err) {
        return;
    }
    for (size_t i = 0; i < TREE_VECTOR_BUCKETS; i++) {
        if (own[i] != sums->sums[i]) {
            part.buckets[i / 8] |= (uint8_t)(1u << i % 8);
        }
    }
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    tree_message_format(&part, &bytes);
    struct vector_entry entry = {.seq = 0};
    struct origin_id after;
    unsigned count = 0;
    err = tree_vector_next(sync->tree, txn, NULL, &entry);
    for (; !err && count < TREE_ENTRIES_MAX;
         err = tree_vector_next(sync->tree, txn, &after, &entry)) {
        after = entry.origin;
        const uint8_t bucket = entry.origin.bytes[0];
        if ((part.buckets[bucket / 8] >> bucket % 8 & 1) != 0) {
            const struct tree_message_entry told = {entry.origin, entry.seq,
                                                    codec_get_le64(entry.hash.bytes)};
            tree_message_put_entry(&bytes, &told);
            count++;
        }
    }
    sync_send(sync, from, buf_bytes(&bytes));
}

/* A message of ops, or the name of one that is too long for any. */
struct serving {
    struct buf bytes;
    uint8_t flags;
    bool has_large;
    struct dot large;
    size_t large_bytes;
    size_t count;
};

static int gather(struct tree_sync *sync, struct kv_txn *txn, const struct tree_lack *lacks,
                  size_t lacks_count, struct serving *serving)
{
    CLEANUP(tree_pull_close) struct tree_pull *pull = NULL;
    int err = tree_pull_open(sync->tree, txn, lacks, lacks_count, &pull);
    while (!err) {
        struct dot dot;
        struct bytes op;
        err = tree_pull_next(pull, &dot, &op);
        if (err) {
            break;
        }
        if (op.size + 4 > SERVE_BYTES - serving->bytes.size) {
            serving->flags |= TREE_OPS_MORE;
            serving->has_large = serving->count == 0;
            serving->large = dot;
            serving->large_bytes = op.size;
            break;
        }
        tree_message_put_op(&serving->bytes, op);
        serving->count++;
    }
    if (err == -ESTALE) {
        serving->flags |= TREE_OPS_FORGOTTEN;
    }
    return err == -ENOENT || err == -ESTALE ? 0 : err;
}

/* Sends what there is; nothing, if there is none and the peer did not ask for an answer. */
static void send_ops(struct tree_sync *sync, const struct node_id *to, struct serving *serving,
                     bool shall_answer)
{
    if (serving->has_large) {
        const struct tree_message large = {
            .type = TREE_MESSAGE_LARGE,
            .dot = serving->large,
            .size_bytes = serving->large_bytes,
        };
        sync_send_message(sync, to, &large);
    } else if (serving->count > 0 || serving->flags != 0 || shall_answer) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        const struct tree_message ops = {.type = TREE_MESSAGE_OPS, .flags = serving->flags};
        tree_message_format(&ops, &bytes);
        buf_add(&bytes, buf_bytes(&serving->bytes));
        sync_send(sync, to, buf_bytes(&bytes));
    }
    buf_done(&serving->bytes);
}

/* ---- wishes ------------------------------------------------------------------------------------
 */

/* How many wishes a peer has. */
struct wisher {
    struct node_id peer;
    size_t count;
    UT_hash_handle hh;
};

static struct wisher *find_wisher(const struct tree_sync *sync, const struct node_id *peer)
{
    struct wisher *wisher = NULL;
    HASH_FIND(hh, sync->wishers, peer, sizeof *peer, wisher);
    return wisher;
}

static void count_wish(struct tree_sync *sync, const struct node_id *peer)
{
    struct wisher *wisher = find_wisher(sync, peer);
    if (!wisher) {
        wisher = mem_alloc(sizeof *wisher);
        *wisher = (struct wisher){.peer = *peer};
        HASH_ADD(hh, sync->wishers, peer, sizeof wisher->peer, wisher);
    }
    wisher->count++;
}

static void uncount_wish(struct tree_sync *sync, const struct node_id *peer)
{
    struct wisher *wisher = find_wisher(sync, peer);
    CHECK(wisher);
    if (--wisher->count == 0) {
        HASH_DEL(sync->wishers, wisher);
        free(wisher);
    }
}

static void remove_wish(struct tree_sync *sync, size_t index)
{
    uncount_wish(sync, &sync->wishes[index].peer);
    sync->wishes_count--;
    memmove(sync->wishes + index, sync->wishes + index + 1,
            (sync->wishes_count - index) * sizeof *sync->wishes);
}

/* The oldest one of who has most: nobody's wishes push out those of who has fewer. */
static void make_room(struct tree_sync *sync)
{
    const struct wisher *most = sync->wishers;
    for (const struct wisher *wisher = most; wisher; wisher = wisher->hh.next) {
        most = wisher->count > most->count ? wisher : most;
    }
    for (size_t i = 0; i < sync->wishes_count; i++) {
        if (node_id_equal(&sync->wishes[i].peer, &most->peer)) {
            remove_wish(sync, i);
            return;
        }
    }
}

/* The same is wished again; of a log, any part of it. */
static bool is_same_wish(const struct wish *a, const struct wish *b)
{
    return a->is_await == b->is_await && a->number == b->number &&
           (!a->is_await || a->through_seq == b->through_seq) &&
           origin_id_equal(&a->origin, &b->origin) && node_id_equal(&a->peer, &b->peer);
}

/* They stand in the order of their deadlines. */
static void add_wish(struct tree_sync *sync, struct wish wish)
{
    for (size_t i = 0; i < sync->wishes_count; i++) {
        const struct wish *other = &sync->wishes[i];
        if (is_same_wish(other, &wish)) {
            wish.after_seq = other->after_seq < wish.after_seq ? other->after_seq : wish.after_seq;
            wish.through_seq =
                other->through_seq > wish.through_seq ? other->through_seq : wish.through_seq;
            remove_wish(sync, i);
            break;
        }
    }
    if (sync->wishes_count == TREE_SYNC_WISHES_MAX) {
        make_room(sync);
    }
    if (sync->wishes_count == sync->wishes_capacity) {
        sync->wishes_capacity = sync->wishes_capacity ? 2 * sync->wishes_capacity : 8;
        sync->wishes = mem_resize_array(sync->wishes, sync->wishes_capacity, sizeof *sync->wishes);
    }
    wish.deadline_us = sync->now_us + TREE_SYNC_WISH_MS * MS;
    sync->wishes[sync->wishes_count++] = wish;
    count_wish(sync, &wish.peer);
}

/* How many ops the peer lacks by what we have, and wishes for what we have not. */
static uint64_t look_at_lacks(struct tree_sync *sync, struct kv_txn *txn,
                              const struct node_id *from, const struct tree_lack *lacks,
                              size_t lacks_count, bool shall_wish)
{
    uint64_t ops_count = 0;
    size_t wishes_left = WISHES_AT_ONCE_MAX;
    for (size_t i = 0; i < lacks_count; i++) {
        const uint64_t seq = sync_seq_of(sync, txn, &lacks[i].origin);
        const uint64_t through = seq < lacks[i].through_seq ? seq : lacks[i].through_seq;
        ops_count += through > lacks[i].after_seq ? through - lacks[i].after_seq : 0;
        if (shall_wish && seq < lacks[i].through_seq && wishes_left > 0) {
            wishes_left--;
            const struct wish wish = {
                .peer = *from,
                .origin = lacks[i].origin,
                .after_seq = seq > lacks[i].after_seq ? seq : lacks[i].after_seq,
                .through_seq = lacks[i].through_seq,
            };
            add_wish(sync, wish);
        }
    }
    return ops_count;
}

void serve_want(struct tree_sync *sync, const struct node_id *from, const struct tree_message *want)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    if (sync->host.read(sync->host.context, &txn) != 0) {
        return;
    }
    CLEANUP_FREE struct tree_lack *lacks =
        mem_alloc_array(want->list.size / TREE_MESSAGE_LACK_BYTES + 1, sizeof *lacks);
    size_t count = 0;
    struct bytes list = want->list;
    while (tree_message_next_lack(&list, &lacks[count])) {
        count++;
    }
    const bool when_here = (want->flags & TREE_WANT_WHEN_HERE) != 0;
    const uint64_t ops_count = look_at_lacks(sync, txn, from, lacks, count, when_here);
    struct serving serving = {.bytes = BUF_INIT};
    if ((want->flags & TREE_WANT_SNAPSHOT) != 0 && ops_count >= SNAPSHOT_OPS_MIN &&
        !sync->own.is_merging) {
        serving.flags = TREE_OPS_FORGOTTEN;
    } else if (gather(sync, txn, lacks, count, &serving) != 0) {
        buf_done(&serving.bytes);
        return;
    }
    send_ops(sync, from, &serving, !when_here);
}

/* The op that pieces are wanted of. A long one is read once for all of them. */
static bool read_served(struct tree_sync *sync, const struct dot *dot)
{
    if (sync->served.size == 0 || !dot_equal(&sync->served_dot, dot)) {
        CLEANUP(kv_abort) struct kv_txn *txn = NULL;
        buf_done(&sync->served);
        if (sync->host.read(sync->host.context, &txn) != 0 ||
            tree_op_read(sync->tree, txn, dot, &sync->served) != 0) {
            buf_done(&sync->served);
            return false;
        }
        sync->served_dot = *dot;
    }
    sync->served_us = sync->now_us;
    return true;
}

void serve_piece_want(struct tree_sync *sync, const struct node_id *from,
                      const struct tree_message *want)
{
    if (!read_served(sync, &want->dot) || want->offset_bytes >= sync->served.size) {
        return;
    }
    const size_t left = sync->served.size - want->offset_bytes;
    const struct tree_message piece = {
        .type = TREE_MESSAGE_PIECE,
        .dot = want->dot,
        .offset_bytes = want->offset_bytes,
        .bytes = BYTES(sync->served.data + want->offset_bytes,
                       left < TREE_PIECE_BYTES_MAX ? left : TREE_PIECE_BYTES_MAX),
    };
    sync_send_message(sync, from, &piece);
}

static void send_has(struct tree_sync *sync, const struct node_id *to, uint64_t number)
{
    const struct tree_message has = {.type = TREE_MESSAGE_HAS, .number = number};
    sync_send_message(sync, to, &has);
}

void serve_await(struct tree_sync *sync, const struct node_id *from,
                 const struct tree_message *await)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    if (sync->host.read(sync->host.context, &txn) != 0) {
        return;
    }
    const uint64_t seq = sync_seq_of(sync, txn, &await->dot.origin);
    if (seq >= await->dot.seq) {
        send_has(sync, from, await->number);
        return;
    }
    const struct wish wish = {
        .peer = *from,
        .origin = await->dot.origin,
        .after_seq = seq,
        .through_seq = await->dot.seq,
        .number = await->number,
        .is_await = true,
    };
    add_wish(sync, wish);
}

void serve_state(struct tree_sync *sync, const struct node_id *from, uint64_t number)
{
    struct tree_message state = {
        .type = TREE_MESSAGE_STATE,
        .number = number,
        .vector_sum = sync->own.vector_sum,
        .ops_count = sync->own.ops_count,
        .entries_count = sync->own.entries_count,
    };
    memcpy(state.fingerprint, sync->own.fingerprint, sizeof state.fingerprint);
    sync_send_message(sync, from, &state);
}

/* True if the wish is fulfilled. */
static bool serve_wish(struct tree_sync *sync, struct kv_txn *txn, struct wish *wish)
{
    const uint64_t seq = sync_seq_of(sync, txn, &wish->origin);
    if (seq <= wish->after_seq) {
        return false;
    }
    if (wish->is_await) {
        wish->after_seq = seq;
        if (seq >= wish->through_seq) {
            send_has(sync, &wish->peer, wish->number);
        }
        return seq >= wish->through_seq;
    }
    const uint64_t through = seq < wish->through_seq ? seq : wish->through_seq;
    const struct tree_lack lack = {wish->origin, wish->after_seq, through};
    struct serving serving = {.bytes = BUF_INIT};
    if (gather(sync, txn, &lack, 1, &serving) != 0) {
        buf_done(&serving.bytes);
        return true;
    }
    /* If this was not all, the peer asks again, by a wish of its own. */
    const bool is_over = serving.flags != 0 || through == wish->through_seq;
    send_ops(sync, &wish->peer, &serving, false);
    wish->after_seq = through;
    return is_over;
}

void serve_wishes(struct tree_sync *sync)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    if (sync->wishes_count == 0 || sync->host.read(sync->host.context, &txn) != 0) {
        return;
    }
    size_t kept = 0;
    for (size_t i = 0; i < sync->wishes_count; i++) {
        struct wish wish = sync->wishes[i];
        if (sync->now_us < wish.deadline_us && !serve_wish(sync, txn, &wish)) {
            sync->wishes[kept++] = wish;
        } else {
            uncount_wish(sync, &wish.peer);
        }
    }
    sync->wishes_count = kept;
}

void serve_due(struct tree_sync *sync)
{
    if (sync->served.size > 0 && sync->now_us - sync->served_us >= SERVED_US) {
        buf_done(&sync->served);
    }
    /* In the order of their deadlines. */
    size_t over = 0;
    while (over < sync->wishes_count && sync->now_us >= sync->wishes[over].deadline_us) {
        uncount_wish(sync, &sync->wishes[over].peer);
        over++;
    }
    if (over > 0) {
        sync->wishes_count -= over;
        memmove(sync->wishes, sync->wishes + over, sync->wishes_count * sizeof *sync->wishes);
    }
}

void serve_done(struct tree_sync *sync)
{
    buf_done(&sync->served);
    while (sync->wishes_count > 0) {
        uncount_wish(sync, &sync->wishes[--sync->wishes_count].peer);
    }
    free(sync->wishes);
}
