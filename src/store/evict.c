/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Eviction of cached blocks, the least recently used first: TABLE_CACHE is in the order in which
 * they came; one that was read since is put at the end instead (second chance).
 */

#include "store/maintain.h"

#include "base/codec.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/index_priv.h"
#include "store/pins_priv.h"
#include "store/store_priv.h"
#include "store/touched_priv.h"
#include "store/writer.h"

/* Rows looked at in one snapshot and moved in one job. */
#define CACHE_BATCH ((size_t)512)

struct cache_row {
    uint64_t since_ms;
    struct id id;
    uint32_t size_bytes;
};

static int list_cache(struct store *store, const struct cache_row *after,
                      struct cache_row *ret_rows, size_t *ret_count)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = kv_read(store->kv, &txn);
    if (err) {
        return err;
    }
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    err = kv_cursor_open(txn, TABLE_CACHE, &cursor);
    if (err) {
        return err;
    }
    uint8_t from[CACHE_KEY_BYTES + 1] = {0};
    if (after) {
        codec_put_be64(from, after->since_ms);
        memcpy(from + 8, after->id.bytes, ID_BYTES);
    }
    struct bytes key;
    struct bytes value;
    size_t count = 0;
    err = kv_seek(cursor, BYTES(from, after ? sizeof from : 0), &key, &value);
    for (; !err && count < CACHE_BATCH; err = kv_next(cursor, &key, &value)) {
        if (key.size != CACHE_KEY_BYTES || value.size != 4) {
            return -EIO;
        }
        struct cache_row *row = &ret_rows[count++];
        row->since_ms = codec_get_be64(key.data);
        memcpy(row->id.bytes, key.data + 8, ID_BYTES);
        row->size_bytes = codec_get_le32(value.data);
    }
    if (err && err != -ENOENT) {
        return err;
    }
    *ret_count = count;
    return 0;
}

struct block_job {
    struct store_job job;
    struct store *store;
    const struct id *ids;
    size_t ids_count;
    uint64_t evicted_bytes; /* of the last apply */
};

/* To the end of the queue. */
static int refresh_apply(struct store_job *base, struct kv_txn *txn)
{
    const struct block_job *job = CONTAINER_OF(base, struct block_job, job);
    for (size_t i = 0; i < job->ids_count; i++) {
        struct block_record record;
        int err = index_block(txn, &job->ids[i], &record);
        if (!err) {
            err = index_refresh_cached(job->store, txn, &job->ids[i], &record);
        }
        if (err && err != -ENOENT) {
            return err;
        }
    }
    return 0;
}

static int evict_block(struct block_job *job, struct kv_txn *txn, const struct id *id)
{
    struct store *store = job->store;
    struct block_record record;
    int err = index_block(txn, id, &record);
    if (err || record.cached_since_ms == 0) {
        return err == -ENOENT ? 0 : err;
    }
    /* The mark of the candidate is what a pin takes off; only then the one that refuses pins. */
    if (!pins_is_candidate(store->pins, id) ||
        !pins_begin_removal(store->pins, id, clock_monotonic_ms(store->clock))) {
        return 0;
    }
    for (uint8_t i = record.locations_count; !err && i-- > 0;) {
        if (!location_is_external(&record.locations[i])) {
            err = index_remove_location(store, txn, &record, i);
            job->evicted_bytes += record.size_bytes;
        }
    }
    return err ? err : index_put_block(store, txn, id, &record);
}

static int evict_apply(struct store_job *base, struct kv_txn *txn)
{
    struct block_job *job = CONTAINER_OF(base, struct block_job, job);
    job->evicted_bytes = 0;
    int err = 0;
    for (size_t i = 0; !err && i < job->ids_count; i++) {
        err = evict_block(job, txn, &job->ids[i]);
    }
    return err;
}

static int submit_blocks(struct store *store, store_apply_fn apply, const struct id *ids,
                         size_t ids_count, uint64_t *ret_evicted_bytes)
{
    struct block_job job = {
        .job = {.apply = apply},
        .store = store,
        .ids = ids,
        .ids_count = ids_count,
    };
    const int err = store_submit_wait(store, &job.job);
    *ret_evicted_bytes = err ? 0 : job.evicted_bytes;
    return err;
}

int store_evict_candidates(struct store *store, uint64_t bytes_wanted, size_t limit,
                           struct store_candidate *ret_candidates, size_t *ret_count)
{
    CLEANUP_FREE struct cache_row *rows = mem_alloc_array(CACHE_BATCH, sizeof *rows);
    CLEANUP_FREE struct id *touched = mem_alloc_array(CACHE_BATCH, sizeof *touched);
    struct cache_row last = {0};
    uint64_t bytes = 0;
    size_t found = 0;
    size_t count = CACHE_BATCH;
    for (bool first = true; count == CACHE_BATCH && found < limit && bytes < bytes_wanted;
         first = false) {
        int err = list_cache(store, first ? NULL : &last, rows, &count);
        size_t touched_count = 0;
        const uint64_t now_ms = clock_monotonic_ms(store->clock);
        for (size_t i = 0; !err && i < count && found < limit && bytes < bytes_wanted; i++) {
            last = rows[i];
            if (touched_take(store->touched, &rows[i].id)) {
                touched[touched_count++] = rows[i].id;
            } else if (pins_mark_candidate(store->pins, &rows[i].id, now_ms)) {
                ret_candidates[found++] = (struct store_candidate){rows[i].id, rows[i].size_bytes};
                bytes += rows[i].size_bytes;
            }
        }
        uint64_t evicted_bytes = 0;
        if (!err && touched_count > 0) {
            err = submit_blocks(store, refresh_apply, touched, touched_count, &evicted_bytes);
        }
        if (err) {
            for (size_t i = 0; i < found; i++) {
                pins_unmark_candidate(store->pins, &ret_candidates[i].id);
            }
            return err;
        }
    }
    *ret_count = found;
    return 0;
}

int store_evict(struct store *store, const struct id *ids, size_t count,
                uint64_t *ret_evicted_bytes)
{
    const int err = submit_blocks(store, evict_apply, ids, count, ret_evicted_bytes);
    for (size_t i = 0; i < count; i++) {
        pins_end_removal(store->pins, &ids[i]);
    }
    store_evict_cancel(store, ids, count);
    return err;
}

void store_evict_cancel(struct store *store, const struct id *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        pins_unmark_candidate(store->pins, &ids[i]);
    }
}
