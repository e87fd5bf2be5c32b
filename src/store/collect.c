/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Collection. What nobody holds stands in TABLE_UNREFERENCED in the order of time, so collection
 * looks at what is due and at nothing else. A block that is pinned stays in the queue.
 *
 * A removal and a put of the same block meet in the pins: the removal marks the block under the
 * lock of its pin, and only if nobody is busy with it; a put pins first and then looks whether the
 * block is here. So either the removal sees the pin and leaves the block, or the put sees the mark
 * and writes the block again, which the writer then names after the removal.
 */

#include "store/maintain.h"

#include "base/codec.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/fetches_priv.h"
#include "store/files_priv.h"
#include "store/index_priv.h"
#include "store/pins_priv.h"
#include "store/store_priv.h"
#include "store/writer.h"

/* Rows in one job: a few ms of the writer's time. */
#define COLLECT_BATCH ((size_t)512)

struct queue_row {
    uint64_t since_ms;
    enum queue_kind kind;
    struct id id;
};

/* Up to `limit` rows that are due, behind `after` (NULL: from the first). */
static int list_due(struct store *store, uint64_t due_ms, const struct queue_row *after,
                    size_t limit, struct queue_row *ret_rows, size_t *ret_count)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = kv_read(store->kv, &txn);
    if (err) {
        return err;
    }
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    err = kv_cursor_open(txn, TABLE_UNREFERENCED, &cursor);
    if (err) {
        return err;
    }
    uint8_t from[QUEUE_KEY_BYTES + 1] = {0};
    if (after) {
        codec_put_be64(from, after->since_ms);
        from[8] = (uint8_t)after->kind;
        memcpy(from + 9, after->id.bytes, ID_BYTES);
    }
    struct bytes key;
    struct bytes value;
    size_t count = 0;
    err = kv_seek(cursor, BYTES(from, after ? sizeof from : 0), &key, &value);
    for (; !err && count < limit; err = kv_next(cursor, &key, &value)) {
        if (key.size != QUEUE_KEY_BYTES) {
            return -EIO;
        }
        struct queue_row *row = &ret_rows[count];
        row->since_ms = codec_get_be64(key.data);
        row->kind = (enum queue_kind)key.data[8];
        memcpy(row->id.bytes, key.data + 9, ID_BYTES);
        if (row->since_ms > due_ms) {
            break;
        }
        count++;
    }
    if (err && err != -ENOENT) {
        return err;
    }
    *ret_count = count;
    return 0;
}

struct collect_job {
    struct store_job job;
    struct store *store;
    const struct queue_row *rows;
    size_t rows_count;
    size_t removed; /* of the last apply */
};

static int collect_file(struct kv_txn *txn, const struct queue_row *row, size_t *removed)
{
    struct file_row file;
    int err = files_get(txn, &row->id, &file);
    if (err == -ENOENT || (!err && file.unreferenced_since_ms != row->since_ms)) {
        return index_dequeue(txn, row->since_ms, QUEUE_FILE, &row->id);
    }
    if (err) {
        return err;
    }
    enum store_reason reason;
    err = fetches_get(txn, &row->id, &reason);
    if (!err) {
        /* It comes here again; when that is over, it stands in the queue anew. */
        return files_unqueue(txn, &row->id);
    }
    if (err == -ENOENT) {
        err = files_remove(txn, &row->id);
    }
    if (!err) {
        (*removed)++;
        err = index_dequeue(txn, row->since_ms, QUEUE_FILE, &row->id);
    }
    return err;
}

static int collect_block(struct store *store, struct kv_txn *txn, const struct queue_row *row,
                         size_t *removed)
{
    struct block_record record;
    int err = index_block(txn, &row->id, &record);
    if (err == -ENOENT || (!err && record.unreferenced_since_ms != row->since_ms)) {
        return index_dequeue(txn, row->since_ms, QUEUE_BLOCK, &row->id);
    }
    if (err) {
        return err;
    }
    const uint64_t now_ms = clock_monotonic_ms(store->clock);
    if (!pins_begin_removal(store->pins, &row->id, now_ms)) {
        return 0;
    }
    while (!err && record.locations_count > 0) {
        err = index_remove_location(store, txn, &record, 0);
    }
    if (!err) {
        (*removed)++;
        err = index_put_block(store, txn, &row->id, &record);
    }
    return err;
}

static int collect_apply(struct store_job *job, struct kv_txn *txn)
{
    struct collect_job *collect = CONTAINER_OF(job, struct collect_job, job);
    collect->removed = 0;
    int err = 0;
    for (size_t i = 0; !err && i < collect->rows_count; i++) {
        const struct queue_row *row = &collect->rows[i];
        err = row->kind == QUEUE_FILE ? collect_file(txn, row, &collect->removed)
                                      : collect_block(collect->store, txn, row, &collect->removed);
    }
    return err;
}

static int collect_rows(struct store *store, const struct queue_row *rows, size_t rows_count,
                        size_t *removed)
{
    struct collect_job collect = {
        .job = {.apply = collect_apply},
        .store = store,
        .rows = rows,
        .rows_count = rows_count,
    };
    const int err = store_submit_wait(store, &collect.job);
    for (size_t i = 0; i < rows_count; i++) {
        if (rows[i].kind == QUEUE_BLOCK) {
            pins_end_removal(store->pins, &rows[i].id);
        }
    }
    *removed += err ? 0 : collect.removed;
    return err;
}

int store_collect(struct store *store, const struct store_grace *grace, size_t limit,
                  size_t *ret_removed, bool *ret_more)
{
    const uint64_t now_ms = store_now_ms(store);
    *ret_removed = 0;
    *ret_more = false;
    if (grace->collect_ms > now_ms) {
        return 0;
    }
    CLEANUP_FREE struct queue_row *rows = mem_alloc_array(COLLECT_BATCH, sizeof *rows);
    struct queue_row last = {0};
    size_t seen = 0;
    while (seen < limit) {
        const size_t wanted = limit - seen < COLLECT_BATCH ? limit - seen : COLLECT_BATCH;
        size_t count = 0;
        int err =
            list_due(store, now_ms - grace->collect_ms, seen ? &last : NULL, wanted, rows, &count);
        if (!err && count > 0) {
            last = rows[count - 1];
            err = collect_rows(store, rows, count, ret_removed);
        }
        if (err || count < wanted) {
            return err;
        }
        seen += count;
    }
    *ret_more = true;
    return 0;
}

/* More than any queue of a run holds; what is added meanwhile waits for the next one. */
#define TIDY_LIMIT ((size_t)1 << 20)

int store_tidy(struct store *store, const struct store_grace *grace)
{
    bool more = true;
    while (more) {
        size_t removed = 0;
        const int err = store_collect(store, grace, TIDY_LIMIT, &removed, &more);
        if (err) {
            return err;
        }
        more = more && removed > 0;
    }
    bool compacting = true;
    while (compacting) {
        uint64_t ranges = 1;
        for (more = true; more && ranges > 0;) {
            const int err = store_reclaim(store, grace, TIDY_LIMIT, &ranges, &more);
            if (err) {
                return err;
            }
        }
        uint64_t moved_bytes = 0;
        const int err = store_compact(store, &moved_bytes, &compacting);
        if (err) {
            return err;
        }
    }
    return 0;
}
