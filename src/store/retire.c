/* SPDX-License-Identifier: Apache-2.0 */
#include "store/retire_priv.h"

#include "base/codec.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/maintain.h"
#include "store/segments_priv.h"
#include "store/store_priv.h"
#include "store/writer.h"

/* A segment that takes appends and has live blocks is ended early only if that frees as much. */
#define SEAL_BYTES_MIN ((uint64_t)1024 * 1024)

int segments_list(struct store *store, enum index_table table, uint64_t from,
                  struct segment_entry ret_entries[SEGMENTS_BATCH], size_t *ret_count)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = kv_read(store->kv, &txn);
    if (err) {
        return err;
    }
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    err = kv_cursor_open(txn, table, &cursor);
    if (err) {
        return err;
    }
    uint8_t from_key[8];
    codec_put_be64(from_key, from);
    struct bytes key;
    struct bytes value;
    size_t count = 0;
    err = kv_seek(cursor, BYTES(from_key, sizeof from_key), &key, &value);
    for (; !err && count < SEGMENTS_BATCH; err = kv_next(cursor, &key, &value)) {
        if (key.size != 8) {
            return -EIO;
        }
        struct segment_entry *entry = &ret_entries[count];
        entry->number = codec_get_be64(key.data);
        const int missing = index_segment(txn, entry->number, &entry->row);
        if (missing && missing != -ENOENT) {
            return missing;
        }
        count += !missing;
    }
    if (err && err != -ENOENT) {
        return err;
    }
    *ret_count = count;
    return 0;
}

struct end_job {
    struct store_job job;
    uint64_t number;
    bool is_gone; /* the file is unlinked */
};

static int end_apply(struct store_job *job, struct kv_txn *txn)
{
    const struct end_job *end = CONTAINER_OF(job, struct end_job, job);
    int err = index_close_segment(txn, end->number);
    if (!err && end->is_gone) {
        err = index_remove_segment(txn, end->number);
    }
    return err;
}

static int end_segment(struct store *store, uint64_t number, bool is_gone)
{
    struct end_job end = {
        .job = {.apply = end_apply},
        .number = number,
        .is_gone = is_gone,
    };
    return store_submit_wait(store, &end.job);
}

/* True if the segment takes no appends and no range of it is being written. */
static bool is_quiet(struct store *store, uint64_t number)
{
    uint64_t reserved_bytes = 0;
    uint64_t unsettled_bytes = 0;
    segments_bounds(store->segments, number, &reserved_bytes, &unsettled_bytes);
    return reserved_bytes == UINT64_MAX && unsettled_bytes == UINT64_MAX;
}

static int close_one(struct store *store, const struct segment_entry *entry)
{
    const uint64_t dead_bytes = entry->row.end_bytes - entry->row.live_bytes;
    if ((dead_bytes >= SEAL_BYTES_MIN && dead_bytes >= entry->row.end_bytes / 2) ||
        (dead_bytes > 0 && entry->row.live_bytes == 0)) {
        segments_seal(store->segments, entry->number);
    }
    if (!is_quiet(store, entry->number)) {
        return 0;
    }
    /* The row once more: it is final now. */
    struct segment_row row;
    int err = index_segment_now(store->kv, entry->number, &row);
    if (!err) {
        err = segments_recover(store->segments, entry->number, SEGMENT_LARGE, row.end_bytes, false);
    }
    if (err && err != -ENOENT) {
        return err;
    }
    return end_segment(store, entry->number, false);
}

static int unlink_one(struct store *store, const struct segment_entry *entry)
{
    if (entry->row.live_bytes > 0 || !is_quiet(store, entry->number)) {
        return 0;
    }
    /* Quiet first, then the row: what was named until then is in it. */
    struct segment_row row;
    int err = index_segment_now(store->kv, entry->number, &row);
    if (err || row.live_bytes > 0) {
        return err == -ENOENT ? 0 : err;
    }
    err = segments_unlink(store->segments, entry->number);
    if (err) {
        return err == -EBUSY ? 0 : err; /* somebody reads in it; another time */
    }
    return end_segment(store, entry->number, true);
}

static int for_each_segment(struct store *store, enum index_table table,
                            int (*visit)(struct store *, const struct segment_entry *))
{
    struct segment_entry entries[SEGMENTS_BATCH];
    size_t count = SEGMENTS_BATCH;
    for (uint64_t from = 0; count == SEGMENTS_BATCH;) {
        int err = segments_list(store, table, from, entries, &count);
        for (size_t i = 0; !err && i < count; i++) {
            err = visit(store, &entries[i]);
            from = entries[i].number + 1;
        }
        if (err) {
            return err;
        }
    }
    return 0;
}

int segments_retire(struct store *store)
{
    const int err = for_each_segment(store, TABLE_OPEN, close_one);
    return err ? err : for_each_segment(store, TABLE_SEGMENTS, unlink_one);
}

void store_close_removed(struct store *store)
{
    segments_close_unlinked(store->segments);
}
