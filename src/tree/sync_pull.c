/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Asking for ops. What is lacking is known from the names in a broadcast, from an op that came
 * before its causes, or from comparing vectors: our sums by bucket go to the peer, it answers with
 * its entries in the buckets that differ, and we want what it has and we have not. It sends that in
 * the order of causes, a message at a time; the next is asked for before this one is applied.
 */

#include <stdlib.h>

#include "base/codec.h"
#include "base/mem.h"
#include "tree/sync_priv.h"

/* Vectors are compared so often at most, whoever differs. */
#define COMPARE_PAUSE_US (500 * MS)
/* Who does not answer sums so long is left, and another one compared with. */
#define PART_US (2 * SECOND)
/* What was announced and does not come. */
#define NEWS_US (3 * SECOND)
/* A log of which nothing was applied for so long is asked for elsewhere: that a peer says that it
 * has more, or sends what is no part of it, proves nothing. */
#define MOVED_US (1 * SECOND)
/* A snapshot is welcome to who has as little as this. */
#define LITTLE_OPS 1000u
/* After what came could not be written. */
#define STOP_US (5 * SECOND)
/* A long op on its way holds back comparing with others for so long at most. */
#define LONG_US (30 * SECOND)
/* Pieces of a long op that are asked for before the first is here. */
#define PIECES_AHEAD 4u

static struct pull *find_pull(struct tree_sync *sync, const struct node_id *peer)
{
    for (size_t i = 0; i < sync->pulls_count; i++) {
        if (node_id_equal(&sync->pulls[i].peer, peer)) {
            return &sync->pulls[i];
        }
    }
    return NULL;
}

static struct pull *make_pull(struct tree_sync *sync, const struct node_id *peer)
{
    struct pull *pull = find_pull(sync, peer);
    if (!pull && sync->pulls_count < SYNC_PULLS_MAX) {
        pull = &sync->pulls[sync->pulls_count++];
        *pull = (struct pull){.peer = *peer, .moved_us = sync->now_us};
    }
    return pull;
}

static void end_pull(struct tree_sync *sync, struct pull *pull)
{
    free(pull->lacks);
    *pull = sync->pulls[--sync->pulls_count];
}

/* Lacks are sorted by origin. Where that of `origin` stands, or would stand. */
static size_t lack_place(const struct pull *pull, const struct origin_id *origin)
{
    size_t low = 0;
    size_t high = pull->lacks_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (memcmp(&pull->lacks[middle].origin, origin, sizeof *origin) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* What comes of `origin` by this pull; NULL: nothing. */
static struct pulled *find_lack(const struct pull *pull, const struct origin_id *origin)
{
    const size_t place = lack_place(pull, origin);
    return place < pull->lacks_count && origin_id_equal(&pull->lacks[place].origin, origin)
               ? &pull->lacks[place]
               : NULL;
}

static void add_lack(struct pull *pull, const struct pulled *lack)
{
    if (pull->lacks_count == pull->lacks_capacity) {
        pull->lacks_capacity = pull->lacks_capacity ? 2 * pull->lacks_capacity : 4;
        pull->lacks = mem_resize_array(pull->lacks, pull->lacks_capacity, sizeof *pull->lacks);
    }
    const size_t place = lack_place(pull, &lack->origin);
    memmove(pull->lacks + place + 1, pull->lacks + place,
            (pull->lacks_count - place) * sizeof *pull->lacks);
    pull->lacks[place] = *lack;
    pull->lacks_count++;
}

/* Takes out what has come. */
static void settle_lacks(struct pull *pull)
{
    size_t kept = 0;
    for (size_t i = 0; i < pull->lacks_count; i++) {
        if (pull->lacks[i].after_seq < pull->lacks[i].through_seq) {
            pull->lacks[kept++] = pull->lacks[i];
        }
    }
    pull->lacks_count = kept;
}

static bool is_moving(const struct tree_sync *sync, const struct pulled *lack)
{
    return sync->now_us - lack->moved_us < MOVED_US;
}

static void send_want(struct tree_sync *sync, const struct node_id *peer, uint8_t flags,
                      const struct pulled *lacks, size_t lacks_count)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    const struct tree_message want = {.type = TREE_MESSAGE_WANT, .flags = flags};
    tree_message_format(&want, &bytes);
    for (size_t i = 0; i < lacks_count && i < TREE_WANT_LACKS_MAX; i++) {
        const struct tree_lack lack = {lacks[i].origin, lacks[i].after_seq, lacks[i].through_seq};
        tree_message_put_lack(&bytes, &lack);
    }
    sync_send(sync, peer, buf_bytes(&bytes));
}

void pull_from(struct tree_sync *sync, const struct node_id *peer, const struct origin_id *origin,
               uint64_t through_seq)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    if (refused_is(sync, peer, origin) || sync->host.read(sync->host.context, &txn) != 0) {
        return;
    }
    struct pulled lack = {*origin, sync_seq_of(sync, txn, origin), through_seq, sync->now_us};
    /* What another peer was asked for already is on its way. */
    for (size_t i = 0; i < sync->pulls_count; i++) {
        const struct pulled *other = find_lack(&sync->pulls[i], origin);
        if (other && is_moving(sync, other) && other->through_seq > lack.after_seq) {
            lack.after_seq = other->through_seq;
        }
    }
    struct pull *pull = lack.after_seq < through_seq ? make_pull(sync, peer) : NULL;
    if (!pull || pull->lacks_count >= TREE_WANT_LACKS_MAX) {
        return;
    }
    struct pulled *known = find_lack(pull, origin);
    if (known) {
        known->after_seq = lack.after_seq < known->after_seq ? lack.after_seq : known->after_seq;
        known->through_seq = through_seq > known->through_seq ? through_seq : known->through_seq;
    } else {
        add_lack(pull, &lack);
    }
    const uint64_t deadline_us = sync->now_us + NEWS_US;
    pull->deadline_us = deadline_us > pull->deadline_us ? deadline_us : pull->deadline_us;
    send_want(sync, peer, TREE_WANT_WHEN_HERE, &lack, 1);
}

/* Some of the log of `origin` is on its way. */
static bool is_pulled(const struct tree_sync *sync, const struct origin_id *origin)
{
    for (size_t i = 0; i < sync->pulls_count; i++) {
        const struct pulled *lack = find_lack(&sync->pulls[i], origin);
        if (lack && is_moving(sync, lack)) {
            return true;
        }
    }
    return false;
}

uint64_t pull_repairs_until_us(const struct tree_sync *sync)
{
    uint64_t until_us = 0;
    for (size_t i = 0; i < sync->pulls_count; i++) {
        const struct pull *pull = &sync->pulls[i];
        if (pull->is_repair && pull->moved_us + MOVED_US > until_us) {
            until_us = pull->moved_us + MOVED_US;
        }
    }
    return until_us;
}

/* ---- comparing --------------------------------------------------------------------------------
 */

void pull_compare(struct tree_sync *sync, const struct node_id *peer)
{
    struct tree_message sums = {.type = TREE_MESSAGE_SUMS};
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = sync->host.read(sync->host.context, &txn);
    if (!err) {
        err = tree_vector_sums(sync->tree, txn, sums.sums);
    }
    if (err || sync->fetch.state != FETCH_NONE) {
        return;
    }
    sync->counters.pulls++;
    sync->compared = *peer;
    sync->compared_us = sync->now_us;
    sync->compare_us = sync->now_us + COMPARE_PAUSE_US;
    sync_send_message(sync, peer, &sums);
}

/* The last op that both have of a log is not the same one. */
static void tell_fork(struct tree_sync *sync, const struct node_id *peer, const struct dot *dot)
{
    if (refused_note(sync, peer, dot)) {
        sync->counters.ops_forked++;
        sync_event(sync, TREE_SYNC_FORK, peer, 1);
    }
}

void pull_received_part(struct tree_sync *sync, const struct node_id *from,
                        const struct tree_message *part)
{
    if (sync->compared_us == 0 || !node_id_equal(&sync->compared, from)) {
        return; /* nobody asked, or too late */
    }
    sync->compared_us = 0;
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    if (sync->own.is_merging || sync->host.read(sync->host.context, &txn) != 0) {
        return;
    }
    struct pull found = {.lacks_count = 0};
    struct bytes list = part->list;
    struct tree_message_entry entry;
    while (tree_message_next_entry(&list, &entry)) {
        struct vector_entry known = {.seq = 0};
        if (tree_vector_get(sync->tree, txn, &entry.origin, &known) != 0) {
            continue;
        }
        const uint64_t seq = known.seq;
        if (entry.seq == seq && entry.hash_head != codec_get_le64(known.hash.bytes)) {
            tell_fork(sync, from, &(struct dot){entry.origin, seq});
        }
        if (entry.seq > seq && !is_pulled(sync, &entry.origin) &&
            !refused_is(sync, from, &entry.origin) && !find_lack(&found, &entry.origin) &&
            found.lacks_count < TREE_WANT_LACKS_MAX) {
            add_lack(&found, &(struct pulled){entry.origin, seq, entry.seq, sync->now_us});
        }
    }
    struct pull *pull = found.lacks_count > 0 ? make_pull(sync, from) : NULL;
    for (size_t i = 0; pull && i < found.lacks_count; i++) {
        struct pulled *known = find_lack(pull, &found.lacks[i].origin);
        if (known) {
            *known = found.lacks[i];
        } else {
            add_lack(pull, &found.lacks[i]);
        }
    }
    if (pull) {
        pull->is_repair = true;
        pull->moved_us = sync->now_us;
        pull->deadline_us = sync->now_us + TREE_SYNC_ANSWER_MS * MS;
        const uint8_t flags = sync->own.ops_count <= LITTLE_OPS ? TREE_WANT_SNAPSHOT : 0;
        send_want(sync, from, flags, found.lacks, found.lacks_count);
    }
    free(found.lacks);
}

/* ---- what comes -------------------------------------------------------------------------------
 */

/* Crosses off what the op brings. False: it was not asked for. */
static bool cross_off(const struct tree_sync *sync, struct pull *pull, const struct dot *dot)
{
    struct pulled *lack = find_lack(pull, &dot->origin);
    if (!lack || dot->seq <= lack->after_seq) {
        return false;
    }
    lack->after_seq = dot->seq;
    pull->deadline_us = sync->now_us + TREE_SYNC_ANSWER_MS * MS;
    return true;
}

void pull_moved(struct tree_sync *sync, const struct node_id *peer, const struct origin_id *origin)
{
    struct pull *pull = find_pull(sync, peer);
    struct pulled *lack = pull ? find_lack(pull, origin) : NULL;
    if (pull) {
        pull->moved_us = sync->now_us;
    }
    if (lack) {
        lack->moved_us = sync->now_us;
    }
}

void pull_drop(struct tree_sync *sync, const struct node_id *peer, const struct origin_id *origin)
{
    struct pull *pull = find_pull(sync, peer);
    struct pulled *lack = pull ? find_lack(pull, origin) : NULL;
    if (!lack) {
        return;
    }
    lack->after_seq = lack->through_seq;
    settle_lacks(pull);
    if (pull->lacks_count == 0) {
        end_pull(sync, pull);
    }
}

void pull_received_ops(struct tree_sync *sync, const struct node_id *from,
                       const struct tree_message *ops)
{
    struct pull *pull = find_pull(sync, from);
    struct bytes list = ops->list;
    struct bytes op;
    bool has_some = false;
    while (tree_message_next_op(&list, &op)) {
        struct dot dot;
        uint64_t lamport = 0;
        if (pull && tree_op_peek(op, &dot, &lamport)) {
            has_some |= cross_off(sync, pull, &dot);
        }
        arrive(sync, from, op, true);
    }
    if (!pull) {
        return;
    }
    settle_lacks(pull);
    const bool is_repair = pull->is_repair;
    /* More, and nothing of it, would go on for ever. */
    if (pull->lacks_count > 0 && has_some && (ops->flags & TREE_OPS_MORE) != 0) {
        send_want(sync, from, is_repair ? 0 : TREE_WANT_WHEN_HERE, pull->lacks, pull->lacks_count);
        return;
    }
    const bool is_forgotten = (ops->flags & TREE_OPS_FORGOTTEN) != 0;
    if (pull->lacks_count == 0 || is_repair || is_forgotten) {
        end_pull(sync, pull);
    }
    if (is_forgotten) {
        snapshot_fetch(sync, from, TREE_MERGE_NORMAL);
    }
}

static void want_pieces(struct tree_sync *sync)
{
    struct assembly *assembly = &sync->assembly;
    const uint64_t ahead = assembly->bytes.size + PIECES_AHEAD * TREE_PIECE_BYTES_MAX;
    while (assembly->asked_bytes < assembly->size && assembly->asked_bytes < ahead) {
        const struct tree_message want = {
            .type = TREE_MESSAGE_PIECE_WANT,
            .dot = assembly->dot,
            .offset_bytes = assembly->asked_bytes,
        };
        sync_send_message(sync, &assembly->from, &want);
        assembly->asked_bytes += TREE_PIECE_BYTES_MAX;
    }
    assembly->deadline_us = sync->now_us + TREE_SYNC_ANSWER_MS * MS;
}

void pull_received_large(struct tree_sync *sync, const struct node_id *from,
                         const struct tree_message *large)
{
    struct assembly *assembly = &sync->assembly;
    struct pull *pull = find_pull(sync, from);
    if (!pull || !find_lack(pull, &large->dot.origin) || assembly->size > 0 ||
        large->size_bytes == 0 || large->size_bytes > TREE_OP_BYTES_MAX) {
        return; /* not asked for, or one is being fetched already; vectors will differ again */
    }
    *assembly = (struct assembly){
        .dot = large->dot,
        .from = *from,
        .size = large->size_bytes,
        .began_us = sync->now_us,
    };
    pull->deadline_us = sync->now_us + TREE_SYNC_ANSWER_MS * MS;
    want_pieces(sync);
}

static void end_assembly(struct tree_sync *sync)
{
    buf_done(&sync->assembly.bytes);
    sync->assembly = (struct assembly){.size = 0};
}

/* Of the next piece: all are of one size, but the last. */
static size_t piece_bytes(const struct assembly *assembly)
{
    const size_t left = assembly->size - assembly->bytes.size;
    return left < TREE_PIECE_BYTES_MAX ? left : TREE_PIECE_BYTES_MAX;
}

void pull_received_piece(struct tree_sync *sync, const struct node_id *from,
                         const struct tree_message *piece)
{
    struct assembly *assembly = &sync->assembly;
    if (assembly->size == 0 || !node_id_equal(&assembly->from, from) ||
        !dot_equal(&assembly->dot, &piece->dot) || piece->offset_bytes != assembly->bytes.size ||
        piece->bytes.size != piece_bytes(assembly)) {
        return;
    }
    buf_add(&assembly->bytes, piece->bytes);
    struct pull *pull = find_pull(sync, from);
    if (pull) {
        pull->deadline_us = sync->now_us + TREE_SYNC_ANSWER_MS * MS;
        if (sync->now_us - assembly->began_us < LONG_US) {
            pull->moved_us = sync->now_us;
        }
    }
    if (assembly->bytes.size < assembly->size) {
        want_pieces(sync);
        return;
    }
    arrive(sync, from, buf_bytes(&assembly->bytes), true);
    const struct dot dot = assembly->dot;
    end_assembly(sync);
    if (!pull) {
        return;
    }
    (void)cross_off(sync, pull, &dot);
    settle_lacks(pull);
    if (pull->lacks_count == 0) {
        end_pull(sync, pull);
    } else {
        send_want(sync, from, pull->is_repair ? 0 : TREE_WANT_WHEN_HERE, pull->lacks,
                  pull->lacks_count);
    }
}

/* ---- time -------------------------------------------------------------------------------------
 */

void pull_stop(struct tree_sync *sync)
{
    end_assembly(sync);
    while (sync->pulls_count > 0) {
        end_pull(sync, &sync->pulls[0]);
    }
    sync->compare_us = sync->now_us + STOP_US;
}

void pull_due(struct tree_sync *sync)
{
    if (sync->compared_us != 0 && sync->now_us - sync->compared_us >= PART_US) {
        sync->compared_us = 0;
    }
    if (sync->assembly.size > 0 && sync->now_us >= sync->assembly.deadline_us) {
        end_assembly(sync);
    }
    for (size_t i = sync->pulls_count; i-- > 0;) {
        if (sync->now_us >= sync->pulls[i].deadline_us) {
            end_pull(sync, &sync->pulls[i]);
        }
    }
}

uint64_t pull_next_us(const struct tree_sync *sync)
{
    uint64_t next_us = NEVER;
    if (sync->compared_us != 0) {
        next_us = sync->compared_us + PART_US;
    }
    if (sync->assembly.size > 0 && sync->assembly.deadline_us < next_us) {
        next_us = sync->assembly.deadline_us;
    }
    for (size_t i = 0; i < sync->pulls_count; i++) {
        if (sync->pulls[i].deadline_us < next_us) {
            next_us = sync->pulls[i].deadline_us;
        }
    }
    return next_us;
}
