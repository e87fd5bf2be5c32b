/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A lookup and the read behind it are two steps, and compaction or collection may come between.
 * That is seen by the CRC: bytes that were moved away are a hole after the grace time, and a hole
 * has the wrong CRC. So a wrong CRC means first of all "look again".
 */

#include "store/read.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "hash/crc32c.h"
#include "store/arrivals_priv.h"
#include "store/checked_priv.h"
#include "store/damage_priv.h"
#include "store/externals_priv.h"
#include "store/files_priv.h"
#include "store/index_priv.h"
#include "store/pins_priv.h"
#include "store/segments_priv.h"
#include "store/store_priv.h"
#include "store/touched_priv.h"

/* Looking again finds a new place at once; more rounds than this mean something else is wrong. */
#define LOOKUPS_MAX 4

static int look_up_indexed(struct store *store, const struct id *id,
                           struct block_record *ret_record)
{
    struct kv_txn *txn = NULL;
    int err = kv_read(store->kv, &txn);
    if (err) {
        return err;
    }
    err = index_block(txn, id, ret_record);
    kv_abort(txn);
    return !err && ret_record->locations_count == 0 ? -ENOENT : err;
}

/* In the index, or else among what it does not name yet. */
static int find_block(struct store *store, const struct id *id, struct block_record *ret_record,
                      bool *ret_is_indexed)
{
    for (;;) {
        const uint64_t removed = arrivals_removed(store->arrivals);
        int err = look_up_indexed(store, id, ret_record);
        *ret_is_indexed = !err;
        if (err != -ENOENT) {
            return err;
        }
        err = arrivals_find(store->arrivals, id, ret_record);
        /* It may have gone from there to the index between the two. */
        if (!err || removed == arrivals_removed(store->arrivals)) {
            return err;
        }
    }
}

static int look_up(struct store *store, const struct id *id, struct block_record *ret_record)
{
    bool is_indexed = false;
    return find_block(store, id, ret_record, &is_indexed);
}

bool store_has_block(struct store *store, const struct id *id)
{
    struct block_record record;
    return look_up(store, id, &record) == 0;
}

int store_block_size(struct store *store, const struct id *id, uint32_t *ret_size_bytes)
{
    struct block_record record;
    const int err = look_up(store, id, &record);
    if (err) {
        return err;
    }
    *ret_size_bytes = record.size_bytes;
    return 0;
}

/* Checks the spans from `first_span` on that `data` begins and ends with. */
static bool crcs_match(const struct block_record *record, uint32_t first_span, struct bytes data)
{
    for (size_t at = 0; at < data.size; at += BLOCK_SPAN_BYTES) {
        const size_t left = data.size - at;
        const size_t size = left < BLOCK_SPAN_BYTES ? left : BLOCK_SPAN_BYTES;
        if (crc32c(BYTES(data.data + at, size)) !=
            record->crcs[first_span + at / BLOCK_SPAN_BYTES]) {
            return false;
        }
    }
    return true;
}

int location_read(struct store *store, const struct location *location, uint32_t offset_bytes,
                  void *data, uint32_t size_bytes)
{
    if (location_is_external(location)) {
        return externals_read(store, location, offset_bytes, data, size_bytes);
    }
    const uint64_t at = location->offset_bytes + offset_bytes;
    struct segment *segment = NULL;
    int err = segments_acquire(store->segments, location->container, &segment);
    if (!err) {
        err = segment_read(segment, at, data, size_bytes);
        segments_release(store->segments, segment);
    }
    /* No such file, or it ends too early. */
    return err == -ENOENT ? -EBADMSG : err;
}

/* Reads whole spans from one place and checks them. -EBADMSG: wrong; -ESTALE: withdrawn. */
static int read_spans(struct store *store, const struct block_record *record,
                      const struct location *location, uint32_t first_span, uint8_t *data,
                      uint32_t size_bytes)
{
    const int err = location_read(store, location, first_span * BLOCK_SPAN_BYTES, data, size_bytes);
    if (err) {
        return err;
    }
    return crcs_match(record, first_span, BYTES(data, size_bytes)) ? 0 : -EBADMSG;
}

/* One look at the index and a try at each place. -EBADMSG: none of them is good. */
static int read_once(struct store *store, const struct id *id, const struct block_record *record,
                     uint32_t first_span, uint8_t *data, uint32_t size_bytes)
{
    int err = -ENOENT;
    for (uint8_t i = 0; i < record->locations_count; i++) {
        const struct location *location = &record->locations[i];
        err = read_spans(store, record, location, first_span, data, size_bytes);
        if (!err) {
            touched_add(store->touched, id);
            if (store->checked) {
                checked_add(store->checked, id, record->size_bytes, location, first_span,
                            BYTES(data, size_bytes));
            }
            return 0;
        }
    }
    return err;
}

static bool same_places(const struct block_record *a, const struct block_record *b)
{
    if (a->locations_count != b->locations_count) {
        return false;
    }
    for (uint8_t i = 0; i < a->locations_count; i++) {
        if (!location_equal(&a->locations[i], &b->locations[i])) {
            return false;
        }
    }
    return true;
}

/* As read_once(), looking again as long as that may help. */
static int read_checked(struct store *store, const struct id *id, struct block_record *record,
                        uint32_t first_span, uint8_t *data, uint32_t size_bytes)
{
    bool damaged = false;
    for (int round = 0; round < LOOKUPS_MAX; round++) {
        const int err = read_once(store, id, record, first_span, data, size_bytes);
        if (err != -EBADMSG && err != -ESTALE) {
            return err;
        }
        struct block_record now;
        int gone = look_up(store, id, &now);
        if (!gone && err == -EBADMSG && same_places(record, &now)) {
            bool dropped = false;
            (void)damage_verify(store, id, &dropped);
            damaged = damaged || dropped;
            gone = look_up(store, id, &now);
        }
        if (gone) {
            return gone == -ENOENT && damaged ? -EBADMSG : gone;
        }
        *record = now;
    }
    return -EBADMSG;
}

/* By what an earlier read has learned. False: nothing, or it does not hold any more. */
static bool read_known(struct store *store, const struct id *id, uint32_t offset_bytes, void *data,
                       uint32_t size_bytes)
{
    struct location location;
    uint32_t known[CHECKED_READ_PAGES_MAX];
    uint32_t crcs[CHECKED_READ_PAGES_MAX];
    if (!checked_find(store->checked, id, offset_bytes, size_bytes, &location, known)) {
        return false;
    }
    if (location_read(store, &location, offset_bytes, data, size_bytes) == 0) {
        const size_t pages = (size_bytes + CHECKED_PAGE_BYTES - 1) / CHECKED_PAGE_BYTES;
        crc32c_spans(BYTES(data, size_bytes), CHECKED_PAGE_BYTES, crcs);
        if (memcmp(crcs, known, pages * sizeof crcs[0]) == 0) {
            touched_add(store->touched, id);
            return true;
        }
    }
    checked_drop(store->checked, id);
    return false;
}

/* A piece of whole spans, which are read into `spans`. */
static int read_piece(struct store *store, const struct id *id, struct block_record *record,
                      uint8_t *spans, uint32_t spans_bytes, uint32_t offset_bytes, void *data,
                      uint32_t size_bytes)
{
    const uint32_t first_span = offset_bytes / BLOCK_SPAN_BYTES;
    const int err = read_checked(store, id, record, first_span, spans, spans_bytes);
    if (!err) {
        memcpy(data, spans + offset_bytes % BLOCK_SPAN_BYTES, size_bytes);
    }
    return err;
}

int store_read_block(struct store *store, const struct id *id, uint32_t offset_bytes, void *data,
                     uint32_t size_bytes)
{
    if (store->checked && read_known(store, id, offset_bytes, data, size_bytes)) {
        return 0;
    }
    struct block_record record;
    const int err = look_up(store, id, &record);
    if (err) {
        return err;
    }
    if (offset_bytes > record.size_bytes || size_bytes > record.size_bytes - offset_bytes) {
        return -EINVAL;
    }
    if (size_bytes == 0) {
        return 0;
    }
    const uint32_t first_span = offset_bytes / BLOCK_SPAN_BYTES;
    const uint32_t begin = first_span * BLOCK_SPAN_BYTES;
    uint32_t end = block_spans(offset_bytes + size_bytes) * BLOCK_SPAN_BYTES;
    end = end < record.size_bytes ? end : record.size_bytes;
    if (begin == offset_bytes && end == offset_bytes + size_bytes) {
        return read_checked(store, id, &record, first_span, data, size_bytes);
    }
    /* Memory of this size that comes and goes is given back to the system each time. */
    if (end - begin <= BLOCK_SPAN_BYTES) {
        uint8_t span[BLOCK_SPAN_BYTES];
        return read_piece(store, id, &record, span, end - begin, offset_bytes, data, size_bytes);
    }
    CLEANUP_FREE uint8_t *spans = mem_alloc_aligned(64, end - begin);
    return read_piece(store, id, &record, spans, end - begin, offset_bytes, data, size_bytes);
}

static int view_mapped(struct store *store, const struct block_record *record,
                       struct store_view *view)
{
    const struct location *location = block_owned_location(record);
    if (!location) {
        return -ENOENT;
    }
    int err = segments_acquire(store->segments, location->container, &view->segment);
    if (err) {
        return err;
    }
    const uint8_t *mapped =
        segments_map(store->segments, view->segment, location->offset_bytes, record->size_bytes);
    view->bytes = BYTES(mapped, record->size_bytes);
    if (mapped) {
        uint32_t crcs[BLOCK_SPANS_MAX];
        crc32c_spans(view->bytes, BLOCK_SPAN_BYTES, crcs);
        if (memcmp(crcs, record->crcs, block_spans(record->size_bytes) * sizeof crcs[0]) == 0) {
            return 0;
        }
    }
    segments_release(store->segments, view->segment);
    view->segment = NULL;
    return -EBADMSG;
}

static int view_copied(struct store *store, struct block_record *record, struct store_view *view)
{
    view->copy = mem_alloc_aligned(64, record->size_bytes);
    view->bytes = BYTES(view->copy, record->size_bytes);
    return read_checked(store, &view->id, record, 0, view->copy, record->size_bytes);
}

static void drop_hold(struct store_view *view)
{
    if (view->hold) {
        segments_settle(view->store->segments, view->hold);
    }
    free(view->hold);
    view->hold = NULL;
}

/* What the index does not name yet, where it was written. -ENOENT: it is named by now. */
static int view_arrival(struct store *store, struct store_view *view)
{
    struct block_record record;
    struct reservation *hold = mem_alloc(sizeof *hold);
    int err = arrivals_hold(store->arrivals, &view->id, store->segments, &record, hold);
    if (err) {
        free(hold);
        return err;
    }
    view->hold = hold;
    err = view_mapped(store, &record, view);
    if (err) {
        drop_hold(view);
    }
    return err;
}

int store_view_open(struct store *store, const struct id *id, struct store_view *ret_view)
{
    struct store_view view = {.store = store, .id = *id};
    /* Pinned first: what is seen now is neither removed nor moved, unless that is under way. The
     * process that writes knows nothing of the pins of one that only reads: it copies. */
    const bool stays = pins_add(store->pins, id) && store->writer;
    struct block_record record;
    bool is_indexed = false;
    int err = find_block(store, id, &record, &is_indexed);
    int unmapped = -ENOENT;
    if (!err && stays) {
        unmapped = is_indexed ? view_mapped(store, &record, &view) : view_arrival(store, &view);
    }
    if (!err && unmapped) {
        err = view_copied(store, &record, &view);
    }
    if (err) {
        free(view.copy);
        pins_drop(store->pins, id);
        return err;
    }
    touched_add(store->touched, id);
    *ret_view = view;
    return 0;
}

void store_view_close(struct store_view *view)
{
    if (view->segment) {
        segments_release(view->store->segments, view->segment);
    }
    drop_hold(view);
    free(view->copy);
    pins_drop(view->store->pins, &view->id);
    *view = (struct store_view){0};
}

struct store_reader {
    struct store *store;
    struct id id;
    struct segment *segment;
    const uint8_t *mapped; /* NULL: pieces are read from the file */
    struct block_record record;
};

static void reader_map(struct store_reader *reader)
{
    const struct location *location = block_owned_location(&reader->record);
    struct segments *segments = reader->store->segments;
    if (location && segments_acquire(segments, location->container, &reader->segment) == 0) {
        reader->mapped = segments_map(segments, reader->segment, location->offset_bytes,
                                      reader->record.size_bytes);
    }
}

int store_reader_open(struct store *store, const struct id *id, struct store_reader **ret_reader)
{
    struct store_reader *reader = mem_alloc(sizeof *reader);
    reader->store = store;
    reader->id = *id;
    /* As for a view. */
    const bool stays = pins_add(store->pins, id) && store->writer;
    const int err = look_up(store, id, &reader->record);
    if (err) {
        store_reader_close(reader);
        return err;
    }
    if (stays) {
        reader_map(reader);
    }
    touched_add(store->touched, id);
    *ret_reader = reader;
    return 0;
}

int store_reader_copy(struct store_reader *reader, uint32_t offset_bytes, void *data,
                      uint32_t size_bytes)
{
    const struct block_record *record = &reader->record;
    const bool is_inside =
        offset_bytes <= record->size_bytes && size_bytes <= record->size_bytes - offset_bytes;
    if (reader->mapped && is_inside && offset_bytes % BLOCK_SPAN_BYTES == 0 &&
        (size_bytes % BLOCK_SPAN_BYTES == 0 || offset_bytes + size_bytes == record->size_bytes)) {
        uint32_t crcs[BLOCK_SPANS_MAX];
        crc32c_copy(BYTES(reader->mapped + offset_bytes, size_bytes), BLOCK_SPAN_BYTES, data, crcs);
        if (memcmp(crcs, record->crcs + offset_bytes / BLOCK_SPAN_BYTES,
                   block_spans(size_bytes) * sizeof crcs[0]) == 0) {
            return 0;
        }
    }
    return store_read_block(reader->store, &reader->id, offset_bytes, data, size_bytes);
}

void store_reader_close(struct store_reader *reader)
{
    if (!reader) {
        return;
    }
    if (reader->segment) {
        segments_release(reader->store->segments, reader->segment);
    }
    pins_drop(reader->store->pins, &reader->id);
    free(reader);
}

int store_report_bad(struct store *store, const struct id *id, bool *ret_dropped)
{
    return damage_verify(store, id, ret_dropped);
}

int store_file_metadata(struct store *store, const struct id *id,
                        struct file_metadata *ret_metadata)
{
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    struct kv_txn *txn = NULL;
    int err = kv_read(store->kv, &txn);
    if (err) {
        return err;
    }
    err = files_load(txn, id, &metadata);
    kv_abort(txn);
    if (err) {
        return err;
    }
    struct id actual;
    file_metadata_id(&metadata, &actual);
    if (!id_equal(&actual, id)) {
        return -EBADMSG;
    }
    *ret_metadata = metadata;
    metadata = FILE_METADATA_INIT;
    return 0;
}
