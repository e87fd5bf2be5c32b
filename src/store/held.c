/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is held, by key. The tables of blocks and files are in the order of ids, and so of keys: a
 * walk is a merge of the two.
 *
 * Whether a file is complete would take a look at each of its blocks. As long as no block at all is
 * held and absent (META_ABSENT), which is how things are but for eviction and damage, every file
 * that is held is.
 */

#include "store/held_priv.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/fetches_priv.h"
#include "store/files_priv.h"
#include "store/index_priv.h"
#include "store/read.h"
#include "store/store_priv.h"
#include "store/writer.h"

/* Blocks of a file looked up in one snapshot. */
#define CHECK_BATCH ((size_t)4096)

/* ---- changes -------------------------------------------------------------------------------- */

struct held_changes {
    _Atomic bool is_watched;
    pthread_mutex_t lock; /* over the two below, and held while changes are told */
    store_held_changed_fn changed;
    void *context;
    struct store_held *list; /* of the transaction that is being made */
    size_t count;
    size_t capacity;
};

struct held_changes *held_changes_new(void)
{
    struct held_changes *changes = mem_alloc(sizeof *changes);
    pthread_mutex_init(&changes->lock, NULL);
    return changes;
}

void held_changes_free(struct held_changes *changes)
{
    if (!changes) {
        return;
    }
    pthread_mutex_destroy(&changes->lock);
    free(changes->list);
    free(changes);
}

void held_note(struct store *store, const struct id *id, bool is_file, enum store_held_state state)
{
    struct held_changes *changes = store->held_changes;
    if (!changes->is_watched) {
        return;
    }
    if (changes->count == changes->capacity) {
        changes->capacity = changes->capacity ? 2 * changes->capacity : 64;
        changes->list = mem_resize_array(changes->list, changes->capacity, sizeof *changes->list);
    }
    changes->list[changes->count++] =
        (struct store_held){.id = *id, .is_file = is_file, .state = state};
}

void held_forget(struct store *store)
{
    store->held_changes->count = 0;
}

void held_tell(struct store *store)
{
    struct held_changes *changes = store->held_changes;
    if (changes->count == 0) {
        return;
    }
    pthread_mutex_lock(&changes->lock);
    if (changes->changed) {
        changes->changed(changes->context, changes->list, changes->count);
    }
    pthread_mutex_unlock(&changes->lock);
    changes->count = 0;
}

static int nothing_apply(struct store_job *job, struct kv_txn *txn)
{
    (void)job;
    (void)txn;
    return 0;
}

int store_held_watch(struct store *store, store_held_changed_fn changed, void *context)
{
    if (!store->writer) {
        return -EROFS;
    }
    struct held_changes *changes = store->held_changes;
    pthread_mutex_lock(&changes->lock);
    changes->changed = changed;
    changes->context = context;
    changes->is_watched = changed != NULL;
    pthread_mutex_unlock(&changes->lock);
    if (!changed) {
        return 0;
    }
    /* A transaction that was begun before has not noted everything: let it end. */
    struct store_job job = {.apply = nothing_apply};
    const int err = store_submit_wait(store, &job);
    if (err) {
        pthread_mutex_lock(&changes->lock);
        changes->is_watched = false;
        changes->changed = NULL;
        pthread_mutex_unlock(&changes->lock);
    }
    return err;
}

/* ---- states --------------------------------------------------------------------------------- */

/* In the snapshot, as far as that can be told without a look at the blocks: *ret_is_open if not. */
static int row_state(struct kv_txn *txn, const struct id *id, const struct file_row *row,
                     enum store_held_state *ret_state, bool *ret_is_open)
{
    *ret_is_open = false;
    *ret_state = STORE_HELD_NONE;
    if (files_is_held(row)) {
        uint64_t absent = 0;
        const int err = index_number(txn, META_ABSENT, &absent);
        *ret_is_open = absent > 0;
        *ret_state = STORE_HELD_COMPLETE;
        return err;
    }
    bool has_blocks = false;
    const int err = fetches_has_blocks(txn, id, row->blocks_count, &has_blocks);
    *ret_state = has_blocks ? STORE_HELD_PARTIAL : STORE_HELD_NONE;
    return err;
}

/* One batch of the blocks of a file. */
static int look_at_blocks(struct store *store, const struct block_ref *blocks, size_t count,
                          bool *any_here, bool *any_absent)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = kv_read(store->kv, &txn);
    for (size_t i = 0; !err && i < count; i++) {
        struct block_record record;
        err = index_block(txn, &blocks[i].id, &record);
        const bool is_here = !err && record.locations_count > 0;
        *any_here = *any_here || is_here;
        *any_absent = *any_absent || !is_here;
        err = err == -ENOENT ? 0 : err;
    }
    return err;
}

/* Of a file that is held, block by block. If none is here, its list of blocks may still be the only
 * one that is left: others promise blocks to who evicts them, which they may have in other files.
 */
static int checked_state(struct store *store, const struct id *id, enum store_held_state *ret_state)
{
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    int err = store_file_metadata(store, id, &metadata);
    if (err) {
        *ret_state = STORE_HELD_NONE;
        return err == -ENOENT || err == -EBADMSG ? 0 : err;
    }
    bool any_here = false;
    bool any_absent = false;
    for (size_t at = 0; !err && at < metadata.blocks_count && !(any_here && any_absent);) {
        const size_t left = metadata.blocks_count - at;
        const size_t count = left < CHECK_BATCH ? left : CHECK_BATCH;
        err = look_at_blocks(store, metadata.blocks + at, count, &any_here, &any_absent);
        at += count;
    }
    *ret_state = any_absent ? STORE_HELD_PARTIAL : STORE_HELD_COMPLETE;
    return err;
}

static int quick_state(struct store *store, const struct id *id, enum store_held_state *ret_state,
                       bool *ret_is_open, uint32_t ret_holders[STORE_REASONS])
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = kv_read(store->kv, &txn);
    if (err) {
        return err;
    }
    struct bytes value;
    err = kv_get(txn, TABLE_FILES, id_bytes(id), &value);
    if (!err) {
        struct file_row row;
        err = files_decode(value, &row);
        if (!err) {
            memcpy(ret_holders, row.holders, sizeof row.holders);
            err = row_state(txn, id, &row, ret_state, ret_is_open);
        }
        return err;
    }
    struct block_record record = {0};
    if (err == -ENOENT) {
        err = index_block(txn, id, &record);
    }
    *ret_is_open = false;
    *ret_state = !err && block_is_offered(&record) ? STORE_HELD_COMPLETE : STORE_HELD_NONE;
    return err == -ENOENT ? 0 : err;
}

static int find_state(struct store *store, const struct id *id, enum store_held_state *ret_state,
                      uint32_t ret_holders[STORE_REASONS])
{
    bool is_open = false;
    const int err = quick_state(store, id, ret_state, &is_open, ret_holders);
    return !err && is_open ? checked_state(store, id, ret_state) : err;
}

int store_held_state(struct store *store, const struct id *id, enum store_held_state *ret_state)
{
    enum store_held_state state = STORE_HELD_NONE;
    uint32_t holders[STORE_REASONS];
    const int err = find_state(store, id, &state, holders);
    if (!err) {
        *ret_state = state;
    }
    return err;
}

int store_held_for(struct store *store, const struct id *file, enum store_reason reason,
                   enum store_held_state *ret_state, bool *ret_is_for)
{
    enum store_held_state state = STORE_HELD_NONE;
    uint32_t holders[STORE_REASONS] = {0};
    const int err = find_state(store, file, &state, holders);
    if (!err) {
        *ret_state = state;
        *ret_is_for = holders[reason] > 0;
    }
    return err;
}

/* ---- the walk ------------------------------------------------------------------------------- */

void store_held_walk_begin(struct store_held_walk *walk, const uint8_t begin[STORE_KEY_BYTES],
                           const uint8_t end[STORE_KEY_BYTES])
{
    *walk = (struct store_held_walk){.wraps = memcmp(end, begin, STORE_KEY_BYTES) <= 0};
    memcpy(walk->next.bytes, begin, STORE_KEY_BYTES);
    memcpy(walk->end, end, STORE_KEY_BYTES);
}

/* To the least id, or to the end if that was done. */
static void go_over_top(struct store_held_walk *walk)
{
    walk->is_over = !walk->wraps;
    walk->wraps = false;
    walk->next = (struct id){0};
}

static void go_behind(struct store_held_walk *walk, const struct id *id)
{
    walk->next = *id;
    for (size_t i = ID_BYTES; i-- > 0;) {
        walk->next.bytes[i]++;
        if (walk->next.bytes[i] != 0) {
            return;
        }
    }
    go_over_top(walk);
}

/* One of the two tables. */
struct side {
    struct kv_cursor *cursor;
    struct bytes key;
    struct bytes value;
    bool is_over;
};

static void side_done(struct side *side)
{
    kv_cursor_close(side->cursor);
}
#define CLEANUP_SIDE __attribute__((cleanup(side_done)))

static int side_settle(struct side *side, int err)
{
    side->is_over = err == -ENOENT;
    if (!err && side->key.size != ID_BYTES) {
        return -EIO;
    }
    return err == -ENOENT ? 0 : err;
}

static int side_open(struct kv_txn *txn, enum index_table table, const struct id *from,
                     struct side *side)
{
    const int err = kv_cursor_open(txn, table, &side->cursor);
    return err ? err
               : side_settle(side, kv_seek(side->cursor, id_bytes(from), &side->key, &side->value));
}

static int side_next(struct side *side)
{
    return side_settle(side, kv_next(side->cursor, &side->key, &side->value));
}

/* The state of the row that `side` stands at. */
static int side_state(struct kv_txn *txn, const struct side *side, struct store_held *ret_held,
                      bool *ret_is_open)
{
    memcpy(ret_held->id.bytes, side->key.data, ID_BYTES);
    if (ret_held->is_file) {
        struct file_row row;
        const int err = files_decode(side->value, &row);
        return err ? err : row_state(txn, &ret_held->id, &row, &ret_held->state, ret_is_open);
    }
    struct block_record record;
    const int err = block_record_decode(side->value, &record);
    *ret_is_open = false;
    ret_held->state = !err && block_is_offered(&record) ? STORE_HELD_COMPLETE : STORE_HELD_NONE;
    return err;
}

/* One snapshot of the walk: up to `limit` of what is held, of which is_open[] tells whether their
 * state has to be looked at more closely. */
static int walk_rows(struct store *store, struct store_held_walk *walk, struct store_held *ret_held,
                     bool *is_open, size_t limit, size_t *ret_count)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = kv_read(store->kv, &txn);
    if (err) {
        return err;
    }
    CLEANUP_SIDE struct side files = {0};
    CLEANUP_SIDE struct side blocks = {0};
    err = side_open(txn, TABLE_FILES, &walk->next, &files);
    if (!err) {
        err = side_open(txn, TABLE_BLOCKS, &walk->next, &blocks);
    }
    size_t count = 0;
    for (size_t row = 0; !err && row < STORE_HELD_WALK_ROWS && count < limit; row++) {
        if (files.is_over && blocks.is_over) {
            go_over_top(walk);
            break;
        }
        const bool is_file =
            !files.is_over &&
            (blocks.is_over || memcmp(files.key.data, blocks.key.data, ID_BYTES) <= 0);
        struct side *side = is_file ? &files : &blocks;
        if (!walk->wraps && memcmp(side->key.data, walk->end, STORE_KEY_BYTES) >= 0) {
            walk->is_over = true;
            break;
        }
        struct store_held *held = &ret_held[count];
        held->is_file = is_file;
        err = side_state(txn, side, held, &is_open[count]);
        if (!err) {
            go_behind(walk, &held->id);
            count += held->state != STORE_HELD_NONE;
            err = side_next(side);
        }
    }
    *ret_count = count;
    return err;
}

int store_held_walk_next(struct store *store, struct store_held_walk *walk,
                         struct store_held *ret_held, size_t limit, size_t *ret_count)
{
    CLEANUP_FREE bool *is_open = mem_alloc_array(limit, sizeof *is_open);
    struct store_held_walk position = *walk;
    size_t kept = 0;
    while (kept == 0 && limit > 0 && !position.is_over) {
        size_t count = 0;
        int err = walk_rows(store, &position, ret_held, is_open, limit, &count);
        for (size_t i = 0; !err && i < count; i++) {
            if (is_open[i]) {
                err = checked_state(store, &ret_held[i].id, &ret_held[i].state);
            }
            if (!err && ret_held[i].state != STORE_HELD_NONE) {
                ret_held[kept++] = ret_held[i];
            }
        }
        if (err) {
            return err;
        }
    }
    *walk = position;
    *ret_count = kept;
    return 0;
}
