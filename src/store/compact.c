/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Compaction, as in a log-structured file system (Rosenblum and Ousterhout 1992): a segment that
 * wastes much is emptied by moving its live blocks to where appends go, and then unlinked. Holes
 * give back whole pages without any move, so only what holes can't reach is worth it: dead bytes
 * between small blocks.
 *
 * A block that somebody has pinned stays where it is, since a mapped view may show its pages.
 */

#include "store/maintain.h"

#include "base/codec.h"
#include "base/err.h"
#include "base/map.h"
#include "store/damage_priv.h"
#include "store/index_priv.h"
#include "store/pins_priv.h"
#include "store/read.h"
#include "store/retire_priv.h"
#include "store/segments_priv.h"
#include "store/store_priv.h"
#include "store/writer.h"

/* One part in so many may be wasted. */
#define WASTE_DIVISOR 8
/* Moved by one job at most. */
#define MOVE_BYTES ((uint64_t)32 * 1024 * 1024)
#define MOVE_PLACES ((size_t)1024)

/* Bytes of a segment that wait for their hole: no waste, they will be given back anyway. */
struct waiting {
    uint64_t number;
    uint64_t bytes;
    UT_hash_handle hh;
};

static int sum_waiting(struct store *store, struct waiting **ret_waiting)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = kv_read(store->kv, &txn);
    if (err) {
        return err;
    }
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    err = kv_cursor_open(txn, TABLE_DEAD, &cursor);
    if (err) {
        return err;
    }
    struct bytes key;
    struct bytes value;
    err = kv_seek(cursor, BYTES(NULL, 0), &key, &value);
    for (; !err; err = kv_next(cursor, &key, &value)) {
        if (key.size != DEAD_KEY_BYTES || value.size != 8) {
            return -EIO;
        }
        const uint64_t number = codec_get_be64(key.data + 8);
        struct waiting *waiting = NULL;
        HASH_FIND(hh, *ret_waiting, &number, sizeof number, waiting);
        if (!waiting) {
            waiting = mem_alloc(sizeof *waiting);
            waiting->number = number;
            HASH_ADD(hh, *ret_waiting, number, sizeof waiting->number, waiting);
        }
        waiting->bytes += codec_get_le64(value.data);
    }
    return err == -ENOENT ? 0 : err;
}

static void free_waiting(struct waiting *all)
{
    struct waiting *waiting;
    struct waiting *next;
    HASH_ITER(hh, all, waiting, next)
    {
        HASH_DEL(all, waiting);
        free(waiting);
    }
}

/* What compaction of the segment would give back; 0 if it isn't worth it, or takes appends. */
static uint64_t waste_of(struct store *store, const struct segment_entry *entry,
                         struct waiting *all_waiting)
{
    uint64_t reserved_bytes = 0;
    uint64_t unsettled_bytes = 0;
    segments_bounds(store->segments, entry->number, &reserved_bytes, &unsettled_bytes);
    uint64_t allocated_bytes = 0;
    /* Where nothing lives, nothing need be moved. */
    if (entry->row.live_bytes == 0 || reserved_bytes != UINT64_MAX ||
        unsettled_bytes != UINT64_MAX ||
        segments_allocated(store->segments, entry->number, &allocated_bytes) != 0) {
        return 0;
    }
    const struct waiting *waiting = NULL;
    HASH_FIND(hh, all_waiting, &entry->number, sizeof entry->number, waiting);
    const uint64_t used_bytes = entry->row.live_bytes + (waiting ? waiting->bytes : 0);
    const uint64_t waste = allocated_bytes > used_bytes ? allocated_bytes - used_bytes : 0;
    /* The last page of the file is no waste. */
    return waste > allocated_bytes / WASTE_DIVISOR + SEGMENT_PAGE_BYTES ? waste : 0;
}

/* The segment that wastes most among those that waste less than `below_bytes`. */
static int find_most_wasteful(struct store *store, uint64_t below_bytes, uint64_t *ret_number,
                              uint64_t *ret_waste)
{
    struct waiting *waiting = NULL;
    int err = sum_waiting(store, &waiting);
    uint64_t most = 0;
    struct segment_entry entries[SEGMENTS_BATCH];
    size_t count = SEGMENTS_BATCH;
    for (uint64_t from = 0; !err && count == SEGMENTS_BATCH;) {
        err = segments_list(store, TABLE_SEGMENTS, from, entries, &count);
        for (size_t i = 0; !err && i < count; i++) {
            const uint64_t waste = waste_of(store, &entries[i], waiting);
            if (waste > most && waste < below_bytes) {
                most = waste;
                *ret_number = entries[i].number;
            }
            from = entries[i].number + 1;
        }
    }
    free_waiting(waiting);
    *ret_waste = most;
    return err;
}

/* One block on its way to another segment. */
struct move {
    struct place from;
    struct reservation to;
    bool written;
};

struct move_job {
    struct store_job job;
    struct store *store;
    struct move *moves;
    size_t moves_count;
    uint64_t moved_bytes; /* of the last apply */
};

static int apply_move(struct move_job *job, struct kv_txn *txn, const struct move *move)
{
    struct store *store = job->store;
    const struct id *id = &move->from.id;
    struct block_record record;
    int err = index_block(txn, id, &record);
    uint8_t i = 0;
    while (!err && i < record.locations_count &&
           !location_equal(&record.locations[i], &move->from.location)) {
        i++;
    }
    const uint64_t now_ms = clock_monotonic_ms(store->clock);
    if (err == -ENOENT || (!err && i == record.locations_count) ||
        (!err && !pins_begin_removal(store->pins, id, now_ms))) {
        /* Removed meanwhile, or in use: the copy is not needed. */
        return index_add_unused(txn, &move->to.location, move->from.size_bytes,
                                move->to.segment_class);
    }
    if (!err) {
        err = index_remove_location(store, txn, &record, i);
    }
    if (!err) {
        err =
            index_add_location(store, txn, id, &record, &move->to.location, move->to.segment_class);
    }
    job->moved_bytes += move->from.size_bytes;
    return err ? err : index_put_block(store, txn, id, &record);
}

static int move_apply(struct store_job *base, struct kv_txn *txn)
{
    struct move_job *job = CONTAINER_OF(base, struct move_job, job);
    job->moved_bytes = 0;
    int err = 0;
    for (size_t i = 0; !err && i < job->moves_count; i++) {
        if (job->moves[i].written) {
            err = apply_move(job, txn, &job->moves[i]);
        }
    }
    return err;
}

/* Copies the bytes. A block that is pinned stays: its copy would not be used. So does one that
 * can't be read as it should be, and is dropped if it is damaged; a failure to write ends the
 * compaction. */
static int copy_block(struct store *store, struct move *move)
{
    if (pins_is_busy(store->pins, &move->from.id, clock_monotonic_ms(store->clock))) {
        return 0;
    }
    CLEANUP_FREE uint8_t *data = mem_alloc_aligned(64, move->from.size_bytes);
    if (store_read_block(store, &move->from.id, 0, data, move->from.size_bytes) != 0) {
        return 0;
    }
    int err = segments_reserve(store->segments, move->from.size_bytes, &move->to);
    if (err) {
        return err;
    }
    move->written = true;
    return segments_write(store->segments, &move->to, BYTES(data, move->from.size_bytes));
}

/* Moves up to MOVE_BYTES of `places`; *ret_taken tells how many were looked at. */
static int move_batch(struct store *store, const struct place *places, size_t places_count,
                      size_t *ret_taken, uint64_t *moved_bytes)
{
    CLEANUP_FREE struct move *moves = mem_alloc_array(places_count, sizeof *moves);
    uint64_t bytes = 0;
    size_t taken = 0;
    int err = 0;
    while (!err && taken < places_count && bytes < MOVE_BYTES) {
        moves[taken].from = places[taken];
        bytes += places[taken].size_bytes;
        err = copy_block(store, &moves[taken++]);
    }
    struct move_job job = {
        .job = {.apply = move_apply},
        .store = store,
        .moves = moves,
        .moves_count = taken,
    };
    if (!err) {
        err = store_submit_wait(store, &job.job);
    }
    for (size_t i = 0; i < taken; i++) {
        if (moves[i].written) {
            pins_end_removal(store->pins, &moves[i].from.id);
            segments_settle(store->segments, &moves[i].to);
        }
    }
    if (err) {
        store->has_gaps = true;
    }
    *ret_taken = taken;
    *moved_bytes += err ? 0 : job.moved_bytes;
    return err;
}

static int empty_segment(struct store *store, uint64_t number, uint64_t *moved_bytes)
{
    CLEANUP_FREE struct place *places = mem_alloc_array(MOVE_PLACES, sizeof *places);
    struct location from = {number, 0};
    for (;;) {
        size_t count = 0;
        int err = index_list_places(store->kv, &from, true, MOVE_PLACES, places, &count);
        if (err || count == 0) {
            return err;
        }
        for (size_t at = 0; !err && at < count;) {
            size_t taken = 0;
            err = move_batch(store, places + at, count - at, &taken, moved_bytes);
            at += taken;
        }
        if (err) {
            return err;
        }
        from.offset_bytes = places[count - 1].location.offset_bytes + 1;
    }
}

int store_compact(struct store *store, uint64_t *ret_moved_bytes, bool *ret_more)
{
    *ret_moved_bytes = 0;
    *ret_more = false;
    /* Where all is pinned nothing moves, and it is the turn of the next one. */
    for (uint64_t waste = UINT64_MAX; *ret_moved_bytes == 0;) {
        uint64_t number = 0;
        int err = find_most_wasteful(store, waste, &number, &waste);
        if (!err && waste > 0) {
            err = empty_segment(store, number, ret_moved_bytes);
        }
        if (err || waste == 0) {
            return err;
        }
    }
    *ret_more = true;
    return 0;
}
