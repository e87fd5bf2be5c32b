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

/* Up to CACHE_BATCH rows behind `after`. */
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
    /* One byte more than `after` is the least key behind it. */
    uint8_t from[CACHE_KEY_BYTES + 1] = {0};
    codec_put_be64(from, after->since_ms);
    memcpy(from + 8, after->id.bytes, ID_BYTES);
    struct bytes key;
    struct bytes value;
    size_t count = 0;
    err = kv_seek(cursor, BYTES(from, sizeof from), &key, &value);
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
    struct store_evicted evicted; /* of the last apply */
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
            job->evicted.bytes += record.size_bytes;
        }
    }
    job->evicted.blocks_count++;
    return err ? err : index_put_block(store, txn, id, &record);
}

static int evict_apply(struct store_job *base, struct kv_txn *txn)
{
    struct block_job *job = CONTAINER_OF(base, struct block_job, job);
    job->evicted = (struct store_evicted){0};
    int err = 0;
    for (size_t i = 0; !err && i < job->ids_count; i++) {
        err = evict_block(job, txn, &job->ids[i]);
    }
    return err;
}

static int submit_blocks(struct store *store, store_apply_fn apply, const struct id *ids,
                         size_t ids_count, struct store_evicted *ret_evicted)
{
    struct block_job job = {
        .job = {.apply = apply},
        .store = store,
        .ids = ids,
        .ids_count = ids_count,
    };
    const int err = store_submit_wait(store, &job.job);
    *ret_evicted = (struct store_evicted){0};
    if (!err) {
        *ret_evicted = job.evicted;
    }
    return err;
}

/* What store_evict_candidates() is asked for, and has found. */
struct search {
    struct store *store;
    uint64_t bytes_wanted;
    size_t limit;
    struct store_candidate *candidates;
    size_t found;
    uint64_t bytes;
};

static bool is_done(const struct search *search)
{
    return search->found == search->limit || search->bytes >= search->bytes_wanted;
}

/* Looks at rows[0..count) up to `until_ms`: marks them, but those read since they came get a
 * second chance if `touched` is given, and are put there. *ret_seen: how many were looked at. */
static void look_at(struct search *search, const struct cache_row *rows, size_t count,
                    uint64_t until_ms, struct id *touched, size_t *ret_touched, size_t *ret_seen)
{
    struct store *store = search->store;
    const uint64_t now_ms = clock_monotonic_ms(store->clock);
    size_t seen = 0;
    *ret_touched = 0;
    for (; seen < count && rows[seen].since_ms < until_ms && !is_done(search); seen++) {
        const struct cache_row *row = &rows[seen];
        if (touched && touched_take(store->touched, &row->id)) {
            touched[(*ret_touched)++] = row->id;
        } else if (pins_mark_candidate(store->pins, &row->id, now_ms)) {
            search->candidates[search->found++] =
                (struct store_candidate){row->id, row->size_bytes};
            search->bytes += row->size_bytes;
        }
    }
    *ret_seen = seen;
}

/* One pass over the rows of [from_ms, until_ms). */
static int search_pass(struct search *search, uint64_t from_ms, uint64_t until_ms,
                       bool second_chance)
{
    CLEANUP_FREE struct cache_row *rows = mem_alloc_array(CACHE_BATCH, sizeof *rows);
    CLEANUP_FREE struct id *touched = mem_alloc_array(CACHE_BATCH, sizeof *touched);
    struct cache_row last = {.since_ms = from_ms};
    size_t seen = CACHE_BATCH;
    while (seen == CACHE_BATCH && !is_done(search)) {
        size_t count = 0;
        size_t touched_count = 0;
        int err = list_cache(search->store, &last, rows, &count);
        if (err) {
            return err;
        }
        look_at(search, rows, count, until_ms, second_chance ? touched : NULL, &touched_count,
                &seen);
        if (seen > 0) {
            last = rows[seen - 1];
        }
        struct store_evicted none;
        if (touched_count > 0) {
            err = submit_blocks(search->store, refresh_apply, touched, touched_count, &none);
        }
        if (err) {
            return err;
        }
    }
    return 0;
}

int store_evict_candidates(struct store *store, uint64_t bytes_wanted, size_t limit,
                           struct store_candidate *ret_candidates, size_t *ret_count)
{
    struct search search = {
        .store = store,
        .bytes_wanted = bytes_wanted,
        .limit = limit,
        .candidates = ret_candidates,
    };
    /* The first pass puts what was read at the end, behind `begun_ms`; when nothing else is left,
     * the second one takes it from there. */
    const uint64_t begun_ms = store_now_ms(store);
    int err = search_pass(&search, 0, begun_ms, true);
    if (!err) {
        err = search_pass(&search, begun_ms, UINT64_MAX, false);
    }
    if (err) {
        for (size_t i = 0; i < search.found; i++) {
            pins_unmark_candidate(store->pins, &ret_candidates[i].id);
        }
        return err;
    }
    *ret_count = search.found;
    return 0;
}

int store_evict(struct store *store, const struct id *ids, size_t count,
                struct store_evicted *ret_evicted)
{
    const int err = submit_blocks(store, evict_apply, ids, count, ret_evicted);
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

int store_evict_put_off(struct store *store, const struct id *ids, size_t count)
{
    struct store_evicted none;
    const int err = submit_blocks(store, refresh_apply, ids, count, &none);
    store_evict_cancel(store, ids, count);
    return err;
}
