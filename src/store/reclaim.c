/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Bytes of removed blocks go back to the file system: the range of each stands in TABLE_DEAD since
 * its removal was committed, or since 0 if no commit ever named it, so that nobody can be reading
 * it; after the grace time the ranges that are due are sorted, neighbours
 * become one, and whole pages in which nothing lives become holes. Pages at the edges of a range
 * count if what else is in them is dead too; TABLE_PLACES tells. A crash between the hole and the
 * removal of its row makes the hole again.
 *
 * What must not be hit are ranges that are being written and not named yet. They are asked for
 * before the snapshot is opened: whatever is named after that stands in the snapshot, and whatever
 * is reserved after that lies behind the end that was asked for.
 */

#include "store/maintain.h"

#include <stdlib.h>

#include "base/codec.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/index_priv.h"
#include "store/retire_priv.h"
#include "store/segments_priv.h"
#include "store/store_priv.h"
#include "store/writer.h"

/* Rows that are sorted together; more make larger holes. */
#define RECLAIM_BATCH ((size_t)4096)
/* Places looked at in one snapshot. */
#define PLACES_BATCH ((size_t)256)

struct dead_row {
    uint64_t since_ms;
    struct location location;
    uint64_t size_bytes;
    bool done; /* the row may go */
};

static int decode_dead(struct bytes key, struct bytes value, struct dead_row *ret_row)
{
    if (key.size != DEAD_KEY_BYTES || value.size != 8) {
        return -EIO;
    }
    *ret_row = (struct dead_row){
        .since_ms = codec_get_be64(key.data),
        .location = {codec_get_be64(key.data + 8), codec_get_be64(key.data + 16)},
        .size_bytes = codec_get_le64(value.data),
    };
    return 0;
}

static int list_dead(struct store *store, uint64_t due_ms, const struct dead_row *after,
                     size_t limit, struct dead_row *ret_rows, size_t *ret_count)
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
    uint8_t from[DEAD_KEY_BYTES + 1] = {0};
    if (after) {
        codec_put_be64(from, after->since_ms);
        index_place_key(&after->location, from + 8);
    }
    struct bytes key;
    struct bytes value;
    size_t count = 0;
    err = kv_seek(cursor, BYTES(from, after ? sizeof from : 0), &key, &value);
    for (; !err && count < limit; err = kv_next(cursor, &key, &value)) {
        err = decode_dead(key, value, &ret_rows[count]);
        if (err || ret_rows[count].since_ms > due_ms) {
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

static int compare_rows(const void *left, const void *right)
{
    const struct dead_row *a = left;
    const struct dead_row *b = right;
    if (a->location.container != b->location.container) {
        return a->location.container < b->location.container ? -1 : 1;
    }
    if (a->location.offset_bytes != b->location.offset_bytes) {
        return a->location.offset_bytes < b->location.offset_bytes ? -1 : 1;
    }
    return 0;
}

/* Where the last place before `location` ends, or 0. */
static int end_before(struct store *store, const struct location *location, uint64_t *ret_end_bytes)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = kv_read(store->kv, &txn);
    if (err) {
        return err;
    }
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    err = kv_cursor_open(txn, TABLE_PLACES, &cursor);
    if (err) {
        return err;
    }
    uint8_t before[PLACE_KEY_BYTES];
    index_place_key(location, before);
    struct bytes key;
    struct bytes value;
    struct place place;
    err = kv_seek_before(cursor, BYTES(before, sizeof before), &key, &value);
    if (!err) {
        err = index_decode_place(key, value, &place);
    }
    if (err && err != -ENOENT) {
        return err;
    }
    const bool same = !err && place.location.container == location->container;
    *ret_end_bytes = same ? place.location.offset_bytes + place.size_bytes : 0;
    return 0;
}

/* Makes holes of all gaps between places in [begin, end) of a segment. */
static int punch_gaps(struct store *store, uint64_t segment, uint64_t begin_bytes,
                      uint64_t end_bytes, uint64_t *ranges)
{
    struct place places[PLACES_BATCH];
    struct location at = {segment, begin_bytes};
    uint64_t gap_bytes = 0;
    int err = end_before(store, &at, &gap_bytes);
    gap_bytes = gap_bytes > begin_bytes ? gap_bytes : begin_bytes;
    bool more = true;
    while (!err && more) {
        size_t count = 0;
        err = index_list_places(store->kv, &at, true, PLACES_BATCH, places, &count);
        more = !err && count == PLACES_BATCH;
        for (size_t i = 0; !err && i < count; i++) {
            const uint64_t next = places[i].location.offset_bytes;
            if (next >= end_bytes) {
                more = false;
                break;
            }
            if (next > gap_bytes) {
                err = segments_punch(store->segments, segment, gap_bytes, next);
                (*ranges)++;
            }
            gap_bytes = next + places[i].size_bytes;
            at.offset_bytes = gap_bytes;
        }
    }
    if (!err && gap_bytes < end_bytes) {
        err = segments_punch(store->segments, segment, gap_bytes, end_bytes);
        (*ranges)++;
    }
    return err;
}

/* Where the range may end at most: what is behind is reserved, or was never named. */
static int range_limit(struct store *store, uint64_t segment, uint64_t *ret_limit_bytes,
                       uint64_t *ret_unsettled_bytes)
{
    uint64_t reserved_bytes = 0;
    uint64_t unsettled_bytes = 0;
    segments_bounds(store->segments, segment, &reserved_bytes, &unsettled_bytes);
    struct segment_row row;
    const int err = index_segment_now(store->kv, segment, &row);
    if (err) {
        return err;
    }
    *ret_limit_bytes = row.end_bytes < reserved_bytes ? row.end_bytes : reserved_bytes;
    *ret_unsettled_bytes = unsettled_bytes;
    return 0;
}

/* rows[0..count) are of one segment and touch each other. */
static int punch_rows(struct store *store, struct dead_row *rows, size_t count, uint64_t *ranges)
{
    const uint64_t page = SEGMENT_PAGE_BYTES;
    const uint64_t segment = rows[0].location.container;
    uint64_t begin = rows[0].location.offset_bytes & ~(page - 1);
    uint64_t end = 0;
    for (size_t i = 0; i < count; i++) {
        const uint64_t row_end = rows[i].location.offset_bytes + rows[i].size_bytes;
        end = end > row_end ? end : row_end;
    }
    end = (end + page - 1) & ~(page - 1);
    uint64_t limit = 0;
    uint64_t unsettled = 0;
    int err = range_limit(store, segment, &limit, &unsettled);
    if (!err && end > unsettled) {
        return 0; /* another time */
    }
    if (!err) {
        end = end < limit ? end : limit;
        err = begin < end ? punch_gaps(store, segment, begin, end, ranges) : 0;
    }
    /* The segment or its file may have gone: there is nothing left to give back. Where the file
     * system knows no holes, compaction gives back what it can. */
    if (err && err != -ENOENT && err != -EOPNOTSUPP) {
        return err;
    }
    for (size_t i = 0; i < count; i++) {
        rows[i].done = true;
    }
    return 0;
}

struct forget_job {
    struct store_job job;
    const struct dead_row *rows;
    size_t rows_count;
};

static int forget_apply(struct store_job *job, struct kv_txn *txn)
{
    const struct forget_job *forget = CONTAINER_OF(job, struct forget_job, job);
    int err = 0;
    for (size_t i = 0; !err && i < forget->rows_count; i++) {
        const struct dead_row *row = &forget->rows[i];
        if (row->done) {
            uint8_t key[DEAD_KEY_BYTES];
            codec_put_be64(key, row->since_ms);
            index_place_key(&row->location, key + 8);
            err = index_forget(txn, TABLE_DEAD, BYTES(key, sizeof key));
        }
    }
    return err;
}

static int punch_batch(struct store *store, struct dead_row *rows, size_t count, uint64_t *ranges)
{
    qsort(rows, count, sizeof *rows, compare_rows);
    int err = 0;
    for (size_t first = 0; !err && first < count;) {
        size_t next = first + 1;
        uint64_t end = rows[first].location.offset_bytes + rows[first].size_bytes;
        while (next < count && rows[next].location.container == rows[first].location.container &&
               rows[next].location.offset_bytes <= end + SEGMENT_PAGE_BYTES) {
            const uint64_t row_end = rows[next].location.offset_bytes + rows[next].size_bytes;
            end = end > row_end ? end : row_end;
            next++;
        }
        err = punch_rows(store, rows + first, next - first, ranges);
        first = next;
    }
    if (err) {
        return err;
    }
    struct forget_job forget = {
        .job = {.apply = forget_apply},
        .rows = rows,
        .rows_count = count,
    };
    return store_submit_wait(store, &forget.job);
}

int store_reclaim(struct store *store, const struct store_grace *grace, size_t limit,
                  uint64_t *ret_ranges, bool *ret_more)
{
    const uint64_t now_ms = store_now_ms(store);
    *ret_ranges = 0;
    *ret_more = false;
    CLEANUP_FREE struct dead_row *rows = mem_alloc_array(RECLAIM_BATCH, sizeof *rows);
    struct dead_row last = {0};
    size_t seen = 0;
    const uint64_t due_ms = now_ms > grace->punch_ms ? now_ms - grace->punch_ms : 0;
    while (seen < limit) {
        const size_t wanted = limit - seen < RECLAIM_BATCH ? limit - seen : RECLAIM_BATCH;
        size_t count = 0;
        int err = list_dead(store, due_ms, seen ? &last : NULL, wanted, rows, &count);
        if (!err && count > 0) {
            last = rows[count - 1];
            err = punch_batch(store, rows, count, ret_ranges);
        }
        if (err) {
            return err;
        }
        seen += count;
        if (count < wanted) {
            break;
        }
        *ret_more = seen == limit;
    }
    return segments_retire(store);
}
