/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Promises. A block that another node may have evicted since it is here is kept for its sake, also
 * when nothing here needs it any more: its record has a mark (docs/STORE-FORMAT.md), which counts
 * as a holder for the cache. So it is still offered to others, can be evicted as any cached block
 * if somebody else promises to keep it, and stands in TABLE_CACHE, where those are found that are
 * here for such a mark alone.
 */

#include "store/hold.h"

#include "base/codec.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/fetches_priv.h"
#include "store/followed_priv.h"
#include "store/index_priv.h"
#include "store/pins_priv.h"
#include "store/store_priv.h"
#include "store/writer.h"

/* An intake may be dropped, with what came, whoever has evicted it meanwhile; and what it counts
 * can't be told from copies. */
static bool is_of_intakes(struct kv_txn *txn, const struct block_record *record)
{
    if (record->is_promised) {
        return false;
    }
    for (int reason = 0; reason < STORE_REASONS; reason++) {
        if (reason != INTAKE_REASON && record->holders[reason] > 0) {
            return false;
        }
    }
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    struct bytes key;
    struct bytes value;
    const int err = kv_cursor_open(txn, TABLE_FETCHES, &cursor);
    return err || kv_seek(cursor, BYTES(NULL, 0), &key, &value) != -ENOENT;
}

/* Only the index counts: what it does not name yet would not survive a crash. Nor does a file that
 * somebody follows: he may change it. */
static bool is_kept(struct kv_txn *txn, const struct id *id, struct block_record *ret_record)
{
    bool has_other = false;
    return index_block(txn, id, ret_record) == 0 && block_is_offered(ret_record) &&
           followed_has_other_place(txn, ret_record, &has_other) == 0 && has_other &&
           !is_of_intakes(txn, ret_record);
}

/* ---- made --------------------------------------------------------------------------------------
 */

struct promise_job {
    struct store_job job;
    struct store *store;
    const struct id *ids;
    size_t count;
    int *errs;
};

/* What was never here leaves no pin. */
static void look(struct promise_job *job)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    const int err = kv_read(job->store->kv, &txn);
    for (size_t i = 0; i < job->count; i++) {
        struct block_record record;
        job->errs[i] = err ? err : is_kept(txn, &job->ids[i], &record) ? 0 : -ENOENT;
    }
}

static int promise_block(struct promise_job *job, struct kv_txn *txn, size_t index)
{
    const struct id *id = &job->ids[index];
    struct block_record record;
    if (!is_kept(txn, id, &record)) {
        job->errs[index] = -ENOENT;
        return 0;
    }
    if (!record.is_promised) {
        record.is_promised = true;
        const int err = index_put_block(job->store, txn, id, &record);
        if (err) {
            return err;
        }
    }
    return index_refresh_cached(job->store, txn, id, &record);
}

/* Pinned before: what is here now stays. */
static int promise_apply(struct store_job *base, struct kv_txn *txn)
{
    struct promise_job *job = CONTAINER_OF(base, struct promise_job, job);
    int err = 0;
    for (size_t i = 0; !err && i < job->count; i++) {
        err = job->errs[i] ? 0 : promise_block(job, txn, i);
    }
    return err;
}

void store_promise_all(struct store *store, const struct id *ids, size_t count,
                       uint64_t duration_ms, int *ret_errs)
{
    struct promise_job job = {.job = {.apply = promise_apply},
                              .store = store,
                              .ids = ids,
                              .count = count,
                              .errs = ret_errs};
    if (duration_ms > STORE_PROMISE_MS_MAX) {
        duration_ms = STORE_PROMISE_MS_MAX;
    }
    look(&job);
    const uint64_t now_ms = clock_monotonic_ms(store->clock);
    bool has_any = false;
    for (size_t i = 0; i < count; i++) {
        if (!ret_errs[i]) {
            ret_errs[i] = pins_add_until(store->pins, &ids[i], now_ms, now_ms + duration_ms);
        }
        has_any = has_any || !ret_errs[i];
    }
    const int err = has_any ? store_submit_wait(store, &job.job) : 0;
    for (size_t i = 0; err && i < count; i++) {
        ret_errs[i] = ret_errs[i] ? ret_errs[i] : err;
    }
}

int store_promise(struct store *store, const struct id *id, uint64_t duration_ms)
{
    int err = 0;
    store_promise_all(store, id, 1, duration_ms, &err);
    return err;
}

/* ---- and done with -----------------------------------------------------------------------------
 */

int store_promised_next(struct store *store, struct store_promised *position, uint64_t age_ms,
                        size_t limit, struct id *ret_ids, size_t *ret_count)
{
    const uint64_t now_ms = store_now_ms(store);
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
    /* One byte more than `position` is the least key behind it. */
    uint8_t from[CACHE_KEY_BYTES + 1] = {0};
    codec_put_be64(from, position->since_ms);
    memcpy(from + 8, position->id.bytes, ID_BYTES);
    struct bytes key;
    struct bytes value;
    size_t count = 0;
    err = kv_seek(cursor, BYTES(from, sizeof from), &key, &value);
    for (size_t i = 0; !err && i < STORE_PROMISED_ROWS && count < limit; i++) {
        if (key.size != CACHE_KEY_BYTES) {
            return -EIO;
        }
        struct store_promised at = {.since_ms = codec_get_be64(key.data)};
        memcpy(at.id.bytes, key.data + 8, ID_BYTES);
        if (at.since_ms + age_ms > now_ms) {
            err = -ENOENT;
            break;
        }
        struct block_record record;
        err = index_block(txn, &at.id, &record);
        if (!err && block_is_guest(&record)) {
            ret_ids[count++] = at.id;
        }
        if (!err) {
            *position = at;
            err = kv_next(cursor, &key, &value);
        }
    }
    *ret_count = count;
    return err;
}

bool store_lacks_block(struct store *store, const struct id *id)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct block_record record;
    int err = kv_read(store->kv, &txn);
    if (!err) {
        err = index_block(txn, id, &record);
    }
    return err ? err != -ENOENT : block_is_absent(&record);
}

struct end_job {
    struct store_job job;
    struct store *store;
    const struct id *ids;
    size_t count;
    bool renews;
    size_t done_count; /* of the last apply */
};

static int end_promise(struct end_job *job, struct kv_txn *txn, const struct id *id)
{
    struct store *store = job->store;
    struct block_record record;
    const int err = index_block(txn, id, &record);
    if (err || !block_is_guest(&record)) {
        return err == -ENOENT ? 0 : err;
    }
    if (job->renews) {
        job->done_count++;
        return index_refresh_cached(store, txn, id, &record);
    }
    /* Promised anew since it was asked about. */
    if (pins_is_busy(store->pins, id, clock_monotonic_ms(store->clock))) {
        return 0;
    }
    job->done_count++;
    record.is_promised = false;
    return index_put_block(store, txn, id, &record);
}

static int end_apply(struct store_job *base, struct kv_txn *txn)
{
    struct end_job *job = CONTAINER_OF(base, struct end_job, job);
    int err = 0;
    job->done_count = 0;
    for (size_t i = 0; !err && i < job->count; i++) {
        err = end_promise(job, txn, &job->ids[i]);
    }
    return err;
}

int store_promise_end(struct store *store, const struct id *ids, size_t count, size_t *ret_count)
{
    struct end_job job = {.job = {.apply = end_apply}, .store = store, .ids = ids, .count = count};
    const int err = store_submit_wait(store, &job.job);
    if (!err) {
        *ret_count = job.done_count;
    }
    return err;
}

int store_promise_renew(struct store *store, const struct id *ids, size_t count)
{
    struct end_job job = {
        .job = {.apply = end_apply}, .store = store, .ids = ids, .count = count, .renews = true};
    return store_submit_wait(store, &job.job);
}
