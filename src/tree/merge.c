/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Merging a snapshot is a join of two streams that have one order: the records of the snapshot and
 * the rows of this tree. Each step takes up where the mark says that the one before ended, so it
 * costs what it does however large the tree is, and a path is looked at once. Between steps local
 * changes may make any change of the tree: what they do behind the place of the merge is as if it
 * had been done after it, and what they do before it, the join sees.
 */

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "tree/merge_priv.h"
#include "tree/remote.h"

/* The mark. */

struct mark {
    struct tree_merge_options options;
    uint64_t offset;          /* of the next record */
    struct bytes record_path; /* of the record before it */
    struct bytes path;        /* merged up to here */
};

static struct bytes mark_key(void)
{
    return bytes_of_string("merge");
}

/* Byte strings are borrowed from `txn`. -ENOENT: no merge is under way. */
static int mark_get(const struct tree *tree, struct kv_txn *txn, struct mark *ret_mark)
{
    struct bytes value;
    const int err = kv_get(txn, tree_table(tree, TREE_META), mark_key(), &value);
    if (err) {
        return err;
    }
    struct field_reader reader = field_reader_of(value);
    struct mark mark = {0};
    const struct bytes id = field_get_raw(&reader, ID_BYTES);
    mark.options.mode = (enum tree_merge_mode)field_get_u8(&reader);
    mark.offset = field_get_u64(&reader);
    mark.record_path = field_get_string(&reader, PATH_BYTES_MAX);
    mark.path = field_get_string(&reader, PATH_BYTES_MAX);
    if (!field_reader_ended(&reader) || mark.options.mode < TREE_MERGE_NORMAL ||
        mark.options.mode > TREE_MERGE_UNION) {
        return -EIO;
    }
    memcpy(mark.options.snapshot.bytes, id.data, id.size);
    *ret_mark = mark;
    return 0;
}

static int mark_put(const struct tree *tree, struct kv_txn *txn, const struct mark *mark)
{
    CLEANUP_BUF struct buf value = BUF_INIT;
    buf_add(&value, id_bytes(&mark->options.snapshot));
    field_put_u8(&value, (uint8_t)mark->options.mode);
    field_put_u64(&value, mark->offset);
    field_put_string(&value, mark->record_path);
    field_put_string(&value, mark->path);
    return kv_put(txn, tree_table(tree, TREE_META), mark_key(), buf_bytes(&value));
}

int tree_merge_state(const struct tree *tree, struct kv_txn *txn,
                     struct tree_merge_state *ret_state)
{
    struct mark mark;
    const int err = mark_get(tree, txn, &mark);
    if (!err) {
        *ret_state = (struct tree_merge_state){mark.options, mark.offset};
    }
    return err;
}

/* Caches. */

void merge_caches_free(struct merge_caches *caches)
{
    if (caches) {
        merge_gone_clear(caches);
        free(caches->peers);
        free(caches->locals);
        free(caches->after);
        free(caches->matched);
        free(caches);
    }
}

int merge_peer(struct merge *merge, uint32_t index, struct merge_peer **ret_peer)
{
    struct merge_peer *peer = &merge->caches->peers[index];
    if (peer->stamp != merge->caches->stamp) {
        struct origin_row row = {0};
        uint32_t number = 0;
        int err = origin_number(merge->tree, merge->txn, &merge->snapshot->origins[index].origin,
                                &number);
        if (!err) {
            err = origin_get(merge->tree, merge->txn, number, &row);
            err = err == -ENOENT ? -EIO : err;
        }
        if (err && err != -ENOENT) {
            return err;
        }
        *peer = (struct merge_peer){merge->caches->stamp, number, row.seq};
    }
    *ret_peer = peer;
    return 0;
}

int merge_peer_add(struct merge *merge, uint32_t index, struct merge_peer **ret_peer)
{
    int err = merge_peer(merge, index, ret_peer);
    if (!err && (*ret_peer)->number == 0) {
        err = origin_add(merge->tree, merge->txn, &merge->state,
                         &merge->snapshot->origins[index].origin, &(*ret_peer)->number);
    }
    return err;
}

/* A step. */

static void merge_done(struct merge *merge)
{
    row_walk_done(&merge->walk);
    place_done(&merge->place);
    merge_feed_done(&merge->feed);
}
#define CLEANUP_MERGE __attribute__((cleanup(merge_done)))

/* All but the walk. */
static int merge_init(struct merge *merge, const struct tree *tree, struct kv_txn *txn,
                      struct tree_snapshot *snapshot, const struct tree_merge_options *options)
{
    if (!snapshot->caches) {
        snapshot->caches = mem_alloc(sizeof *snapshot->caches);
        snapshot->caches->peers =
            mem_alloc_array(snapshot->origins_count, sizeof *snapshot->caches->peers);
    }
    snapshot->caches->stamp++;
    merge->tree = tree;
    merge->txn = txn;
    merge->snapshot = snapshot;
    merge->caches = snapshot->caches;
    merge->options = *options;
    merge->now_ms = tree->host.now_ms(tree->host.context);
    const int err = state_get(tree, txn, &merge->state);
    merge->place = (struct place){
        .tree = tree, .txn = txn, .state = &merge->state, .way.forgets = tree->forgets};
    merge->feed = (struct merge_feed){
        .tree = tree, .txn = txn, .state = &merge->state, .now_ms = merge->now_ms};
    return err;
}

static bool has_same_options(const struct tree_merge_options *a, const struct tree_merge_options *b)
{
    return id_equal(&a->snapshot, &b->snapshot) && a->mode == b->mode;
}

/* Nobody knows more of our own log than we do (tree_renew_origin()). */
static int check_own(struct merge *merge)
{
    const struct tree_snapshot *snapshot = merge->snapshot;
    struct origin_row own;
    const int err = origin_get(merge->tree, merge->txn, merge->state.own_origin, &own);
    if (err) {
        return err == -ENOENT ? -EIO : err;
    }
    const size_t index = snapshot_origin(snapshot, &own.id);
    return index < snapshot->origins_count && snapshot->origins[index].seq > own.seq ? -EPROTO : 0;
}

static int begin_anew(struct merge *merge)
{
    struct tree_state *state = &merge->state;
    const uint64_t lamport = merge->snapshot->lamport;
    if (lamport > TREE_LAMPORT_MAX) {
        return -EPROTO;
    }
    /* From now on: what is changed here meanwhile comes after what the snapshot brings. */
    state->lamport = lamport > state->lamport ? lamport : state->lamport;
    int err = merge_feed_gap(merge->tree, merge->txn, state, merge->now_ms);
    if (!err) {
        err = state_put(merge->tree, merge->txn, state);
    }
    const struct mark mark = {
        .options = merge->options,
        .offset = merge->snapshot->records_offset,
    };
    return err ? err : mark_put(merge->tree, merge->txn, &mark);
}

int tree_merge_begin(const struct tree *tree, struct kv_txn *txn, struct tree_snapshot *snapshot,
                     const struct tree_merge_options *options)
{
    CLEANUP_MERGE struct merge merge = {0};
    int err = merge_init(&merge, tree, txn, snapshot, options);
    merge_gone_clear(merge.caches);
    if (!err) {
        err = check_own(&merge);
    }
    if (!err && options->mode != TREE_MERGE_NORMAL) {
        err = merge_gone_update(&merge);
    }
    struct mark mark;
    if (!err) {
        err = mark_get(tree, txn, &mark);
    }
    if (err == -ENOENT || (!err && !has_same_options(&mark.options, options))) {
        err = begin_anew(&merge);
    }
    if (!err) {
        snapshot->id = options->snapshot;
    }
    return err;
}

/* The end. */

static int set_origin(struct merge *merge, uint32_t index, const struct vector_entry *entry)
{
    struct merge_peer *peer = NULL;
    struct origin_row before;
    int err = merge_peer_add(merge, index, &peer);
    if (!err) {
        err = origin_get(merge->tree, merge->txn, peer->number, &before);
    }
    if (err) {
        return err;
    }
    const struct origin_row after = {entry->origin, entry->seq, entry->hash};
    state_count_origin(&merge->state, &before, &after);
    peer->seq = after.seq;
    return origin_put(merge->tree, merge->txn, peer->number, &after);
}

static int raise_vector(struct merge *merge)
{
    const struct tree_snapshot *snapshot = merge->snapshot;
    for (uint32_t i = 0; i < snapshot->origins_count; i++) {
        const struct vector_entry *entry = &snapshot->origins[i];
        struct merge_peer *peer = NULL;
        int err = entry->seq > 0 ? merge_peer(merge, i, &peer) : 0;
        if (!err && peer && entry->seq > peer->seq) {
            err = set_origin(merge, i, entry);
            const struct dot dot = {entry->origin, entry->seq};
            if (!err) {
                err = replaced_trim(merge->tree, merge->txn, &merge->state, &dot);
            }
        }
        if (err) {
            return err;
        }
    }
    return 0;
}

/* What was replaced where the snapshot comes from, and the vector does not cover yet. */
static int take_replaced(struct merge *merge)
{
    const struct tree_snapshot *snapshot = merge->snapshot;
    for (size_t i = 0; i < snapshot->replaced_count; i++) {
        const uint8_t *key = snapshot->replaced + i * SNAPSHOT_REPLACED_BYTES;
        struct origin_id origin;
        memcpy(&origin, key, sizeof origin);
        struct origin_row row = {0};
        uint32_t number = 0;
        int err = origin_number(merge->tree, merge->txn, &origin, &number);
        if (!err) {
            err = origin_get(merge->tree, merge->txn, number, &row);
        }
        if (err && err != -ENOENT) {
            return err;
        }
        /* Of our own log nobody but us replaces what is yet to come. */
        if (codec_get_be64(key + sizeof origin) > row.seq && number != merge->state.own_origin) {
            err = replaced_put(merge->tree, merge->txn, &merge->state,
                               BYTES(key, SNAPSHOT_REPLACED_BYTES));
            if (err) {
                return err;
            }
        }
    }
    return 0;
}

static int finish(struct merge *merge)
{
    int err = 0;
    if (merge->options.mode != TREE_MERGE_UNION) {
        err = raise_vector(merge);
        if (!err) {
            err = take_replaced(merge);
        }
    }
    return err ? err : kv_delete(merge->txn, tree_table(merge->tree, TREE_META), mark_key());
}

/* The join. */

struct sides {
    struct snapshot_record record;
    uint64_t record_offset;
    bool has_record;
    bool has_row;
    struct buf record_path; /* of the record before this one */
    struct buf path;        /* merged up to here */
};

static void sides_done(struct sides *sides)
{
    buf_done(&sides->record_path);
    buf_done(&sides->path);
}
#define CLEANUP_SIDES __attribute__((cleanup(sides_done)))

static void set_path(struct buf *path, struct bytes to)
{
    buf_clear(path);
    buf_add(path, to);
}

static int next_record(struct merge *merge, struct sides *sides)
{
    set_path(&sides->record_path, buf_bytes(&merge->snapshot->path));
    sides->record_offset = merge->snapshot->offset;
    const int err = snapshot_next(merge->snapshot, &sides->record);
    sides->has_record = !err;
    return err == -ENOENT ? 0 : err;
}

static int next_row(struct merge *merge, struct sides *sides)
{
    const int err = row_walk_next(&merge->walk);
    sides->has_row = !err;
    return err == -ENOENT ? 0 : err;
}

static int join_next(struct merge *merge, struct sides *sides)
{
    int order = sides->has_record ? -1 : 1;
    if (sides->has_record && sides->has_row) {
        order = path_compare(sides->record.path, buf_bytes(&merge->walk.path));
    }
    const struct bytes path = order <= 0 ? sides->record.path : buf_bytes(&merge->walk.path);
    int err = merge_path(merge, path, order <= 0 ? &sides->record : NULL, order >= 0);
    set_path(&sides->path, path);
    if (!err && order <= 0) {
        err = next_record(merge, sides);
    }
    return err || order < 0 ? err : next_row(merge, sides);
}

static int join(struct merge *merge, const struct mark *mark, size_t records_count,
                struct sides *sides)
{
    set_path(&sides->path, mark->path);
    snapshot_seek(merge->snapshot, mark->offset, mark->record_path);
    int err = row_walk_begin(&merge->walk, merge->tree, merge->txn, buf_bytes(&sides->path));
    if (!err) {
        err = next_row(merge, sides);
    }
    if (!err) {
        err = next_record(merge, sides);
    }
    for (size_t i = 0; !err && i < records_count && (sides->has_record || sides->has_row); i++) {
        err = join_next(merge, sides);
    }
    if (!err) {
        err = place_end(&merge->place);
    }
    return err ? err : merge_feed_flush(&merge->feed);
}

int tree_merge_step(const struct tree *tree, struct kv_txn *txn, struct tree_snapshot *snapshot,
                    size_t records_count, bool *ret_done)
{
    struct mark mark;
    int err = mark_get(tree, txn, &mark);
    if (err || !id_equal(&mark.options.snapshot, &snapshot->id)) {
        return err && err != -ENOENT ? err : -ESTALE;
    }
    CLEANUP_MERGE struct merge merge = {0};
    CLEANUP_SIDES struct sides sides = {0};
    err = merge_init(&merge, tree, txn, snapshot, &mark.options);
    if (!err && mark.options.mode != TREE_MERGE_NORMAL) {
        err = merge_gone_update(&merge);
    }
    if (!err) {
        err = join(&merge, &mark, records_count, &sides);
    }
    if (err) {
        return err;
    }
    const bool is_done = !sides.has_record && !sides.has_row;
    const struct mark next = {
        .options = mark.options,
        .offset = sides.record_offset,
        .record_path = buf_bytes(&sides.record_path),
        .path = buf_bytes(&sides.path),
    };
    err = is_done ? finish(&merge) : mark_put(tree, txn, &next);
    if (!err) {
        err = state_put(tree, txn, &merge.state);
    }
    if (!err) {
        *ret_done = is_done;
    }
    return err;
}
