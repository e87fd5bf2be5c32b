/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/codec.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "kv/kv.h"
#include "store/arrivals_priv.h"
#include "store/checked_priv.h"
#include "store/held_priv.h"
#include "store/index_priv.h"
#include "store/intake_priv.h"
#include "store/layout_priv.h"
#include "store/pins_priv.h"
#include "store/segments_priv.h"
#include "store/store_priv.h"
#include "store/touched_priv.h"
#include "store/writer_priv.h"

/* Segments that may have been open for appends at a crash: one of each class, and those that were
 * sealed since the last tidying. More are cut at a later opening. */
#define OPEN_SEGMENTS_MAX 1024

_Static_assert(STORE_TABLES == INDEX_TABLES, "the public number is the true one");

struct kv *store_kv(struct store *store)
{
    return store->kv;
}

uint64_t store_now_ms(const struct store *store)
{
    return store->clock_base_ms + clock_monotonic_ms(store->clock) - store->clock_opened_ms + 1;
}

/* One of TABLE_OPEN. */
struct open_segment {
    uint64_t number;
    enum segment_class segment_class;
    struct segment_row row;
};

static int list_open_segments(struct kv_txn *txn, struct open_segment *ret_open, size_t *ret_count)
{
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    int err = kv_cursor_open(txn, TABLE_OPEN, &cursor);
    if (err) {
        return err;
    }
    struct bytes key;
    struct bytes value;
    size_t count = 0;
    err = kv_seek(cursor, BYTES(NULL, 0), &key, &value);
    while (!err && count < OPEN_SEGMENTS_MAX) {
        if (key.size != 8 || value.size != 1 || value.data[0] >= SEGMENT_CLASSES) {
            return -EIO;
        }
        struct open_segment *open = &ret_open[count++];
        open->number = codec_get_be64(key.data);
        open->segment_class = (enum segment_class)value.data[0];
        err = index_segment(txn, open->number, &open->row);
        if (!err) {
            err = kv_next(cursor, &key, &value);
        }
    }
    if (err && err != -ENOENT) {
        return err;
    }
    *ret_count = count;
    return 0;
}

/* Cuts what a crash left behind the last named range of the segments that took appends, has the
 * gaps before it looked at later, and lets the newest of each class go on. */
static int recover_segments(struct store *store, struct kv_txn *txn, bool clean)
{
    CLEANUP_FREE struct open_segment *open = mem_alloc_array(OPEN_SEGMENTS_MAX, sizeof *open);
    size_t count = 0;
    int err = list_open_segments(txn, open, &count);
    bool resumed[SEGMENT_CLASSES] = {false};
    for (size_t i = count; !err && i-- > 0;) {
        const struct open_segment *segment = &open[i];
        const bool resume = !resumed[segment->segment_class];
        resumed[segment->segment_class] = true;
        err = segments_recover(store->segments, segment->number, segment->segment_class,
                               segment->row.end_bytes, resume);
        if (err == -ENOENT) {
            /* Without live blocks it was being unlinked. */
            if (segment->row.live_bytes > 0) {
                log_error("segment_missing", KV("segment", segment->number));
            }
            err = 0;
        }
        if (!err && !clean && segment->row.end_bytes > 0) {
            const struct location begin = {segment->number, 0};
            err = index_add_dead(store, txn, &begin, segment->row.end_bytes);
        }
        if (!err && !resume) {
            err = index_close_segment(txn, segment->number);
        }
    }
    return err;
}

/* The first and the last transaction of a session. */
static int begin_session(struct store *store, const struct store_options *options)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    uint64_t clean = 0;
    uint64_t next_segment = 0;
    int err = options->read_only ? kv_read(store->kv, &txn) : kv_write(store->kv, &txn);
    if (!err) {
        err = index_number(txn, META_CLOCK, &store->clock_base_ms);
    }
    if (!err) {
        err = index_number(txn, META_CLEAN, &clean);
    }
    if (!err) {
        err = index_number(txn, META_NEXT_SEGMENT, &next_segment);
    }
    if (err) {
        return err;
    }
    store->clock_opened_ms = clock_monotonic_ms(store->clock);
    store->segments = segments_new(store->layout->segments_fd, options->read_only,
                                   options->segment_bytes, options->reserve_bytes, next_segment);
    if (options->read_only) {
        return 0;
    }
    err = segments_remove_unnamed(store->segments);
    if (!err) {
        err = recover_segments(store, txn, clean != 0);
    }
    if (!err) {
        err = index_set_number(txn, META_CLEAN, 0);
    }
    return err ? err : kv_commit(STEAL_PTR(txn));
}

static int end_session(struct store *store)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = kv_write(store->kv, &txn);
    if (!err) {
        err = index_set_number(txn, META_CLOCK, store_now_ms(store));
    }
    if (!err) {
        err = index_set_number(txn, META_CLEAN, store->has_gaps ? 0 : 1);
    }
    return err ? err : kv_commit(STEAL_PTR(txn));
}

static int open_store(struct store *store, const struct store_options *options)
{
    int err = layout_open(options->path, options->read_only, options->must_exist, &store->layout);
    if (err) {
        return err;
    }
    const char *tables[KV_TABLES_MAX];
    CHECK(INDEX_TABLES + options->extra_tables_count <= KV_TABLES_MAX);
    memcpy(tables, index_table_names, sizeof index_table_names);
    for (size_t i = 0; i < options->extra_tables_count; i++) {
        tables[INDEX_TABLES + i] = options->extra_tables[i];
    }
    const struct kv_options kv_options = {
        .tables = tables,
        .tables_count = INDEX_TABLES + options->extra_tables_count,
        .path = store->layout->index_path,
        .map_bytes = options->index_map_bytes,
        .read_only = options->read_only,
    };
    err = kv_open(&kv_options, &store->kv);
    if (!err) {
        err = begin_session(store, options);
    }
    if (!err && options->read_only) {
        if (options->serves_reads) {
            store->checked = checked_new(CHECKED_BYTES_MAX);
            touched_share(store->touched, store->layout->dir_fd, false);
        }
        return 0;
    }
    if (!err) {
        err = layout_finish(store->layout);
    }
    if (!err) {
        touched_share(store->touched, store->layout->dir_fd, true);
    }
    return err ? err : writer_start(store, &store->writer);
}

int store_open(const struct store_options *options, struct store **ret_store)
{
    struct store_options settings = *options;
    if (settings.segment_bytes == 0) {
        settings.segment_bytes = STORE_SEGMENT_BYTES_DEFAULT;
    }
    if (settings.segment_bytes < STORE_SEGMENT_BYTES_MIN ||
        settings.segment_bytes > STORE_SEGMENT_BYTES_MAX) {
        return -EINVAL;
    }
    if (settings.reserve_bytes == 0) {
        settings.reserve_bytes = STORE_RESERVE_BYTES_DEFAULT;
    }
    struct store *store = mem_alloc(sizeof *store);
    store->clock = options->clock ? options->clock : clock_real();
    store->pins = pins_new();
    store->touched = touched_new();
    store->arrivals = arrivals_new();
    store->intakes = intakes_new();
    store->held_changes = held_changes_new();
    const int err = open_store(store, &settings);
    if (err) {
        store_close(store);
        return err;
    }
    *ret_store = store;
    return 0;
}

void store_close(struct store *store)
{
    if (!store) {
        return;
    }
    const bool writable = store->writer && !writer_has_failed(store->writer);
    writer_stop(store->writer);
    if (writable) {
        const int err = end_session(store);
        if (err) {
            /* Nothing is lost: the next opening takes it for a crash. */
            log_warn("store_close", KV("error", err_name(err)));
        }
    }
    segments_free(store->segments);
    kv_close(store->kv);
    pins_free(store->pins);
    touched_free(store->touched);
    checked_free(store->checked);
    arrivals_free(store->arrivals);
    intakes_free(store->intakes);
    held_changes_free(store->held_changes);
    layout_close(store->layout);
    free(store);
}

static int add_segments(struct store *store, struct kv_txn *txn, struct store_status *status)
{
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    int err = kv_cursor_open(txn, TABLE_SEGMENTS, &cursor);
    if (err) {
        return err;
    }
    struct bytes key;
    struct bytes value;
    err = kv_seek(cursor, BYTES(NULL, 0), &key, &value);
    for (; !err; err = kv_next(cursor, &key, &value)) {
        struct segment_row row;
        err = key.size == 8 ? index_decode_segment(value, &row) : -EIO;
        if (err) {
            return err;
        }
        uint64_t allocated_bytes = 0;
        if (segments_allocated(store->segments, codec_get_be64(key.data), &allocated_bytes) == 0) {
            status->segments_count++;
            status->allocated_bytes += allocated_bytes;
        }
        status->live_bytes += row.live_bytes;
    }
    return err == -ENOENT ? 0 : err;
}

int store_status(struct store *store, struct store_status *ret_status)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = kv_read(store->kv, &txn);
    if (err) {
        return err;
    }
    struct store_status status = {
        .corrupt_count = store->corrupt_count,
        .withdrawn_count = store->withdrawn_count,
        .failed = store->writer && writer_has_failed(store->writer),
    };
    const struct {
        enum index_table table;
        uint64_t *count;
    } counts[] = {
        {TABLE_BLOCKS, &status.blocks_count},    {TABLE_FILES, &status.files_count},
        {TABLE_LOST, &status.lost_count},        {TABLE_EXTERNALS, &status.externals_count},
        {TABLE_DEAD, &status.dead_ranges_count}, {TABLE_UNREFERENCED, &status.unreferenced_count},
    };
    for (size_t i = 0; !err && i < ARRAY_SIZE(counts); i++) {
        err = kv_count(txn, counts[i].table, counts[i].count);
    }
    if (!err) {
        err = index_number(txn, META_CACHE_BYTES, &status.cache_bytes);
    }
    if (!err) {
        err = add_segments(store, txn, &status);
    }
    if (err) {
        return err;
    }
    *ret_status = status;
    return 0;
}

void store_figures(const struct store_status *status, struct store_figure figures[STORE_FIGURES])
{
    const struct store_figure all[STORE_FIGURES] = {
        {"files", status->files_count},
        {"blocks", status->blocks_count},
        {"lost_blocks", status->lost_count},
        {"segments", status->segments_count},
        {"live_bytes", status->live_bytes},
        {"allocated_bytes", status->allocated_bytes},
        {"cache_bytes", status->cache_bytes},
        {"external_files", status->externals_count},
        {"unreferenced", status->unreferenced_count},
        {"dead_ranges", status->dead_ranges_count},
        {"corrupt", status->corrupt_count},
        {"withdrawn", status->withdrawn_count},
    };
    memcpy(figures, all, sizeof all);
}

const char *store_reason_name(enum store_reason reason)
{
    static const char *const names[STORE_REASONS] = {"origin", "follow", "copy", "cache"};
    return names[reason];
}
