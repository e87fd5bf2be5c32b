/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The index is kept so that no question about a block or a range needs a scan: TABLE_BLOCKS leads
 * from ids to places, TABLE_PLACES from places to ids. The gaps between places are what may be
 * given back to the file system; freed neighbours need no merging, they are one gap.
 */

#include "store/index_priv.h"

#include "base/codec.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/externals_priv.h"
#include "store/held_priv.h"
#include "store/store_priv.h"

const char *const index_table_names[INDEX_TABLES] = {
    [TABLE_META] = "meta",
    [TABLE_OPEN] = "open",
    [TABLE_BLOCKS] = "blocks",
    [TABLE_PLACES] = "places",
    [TABLE_SEGMENTS] = "segments",
    [TABLE_EXTERNALS] = "externals",
    [TABLE_FILES] = "files",
    [TABLE_FILE_BLOCKS] = "file-blocks",
    [TABLE_UNREFERENCED] = "unreferenced",
    [TABLE_DEAD] = "dead",
    [TABLE_CACHE] = "cache",
    [TABLE_FOLLOWED] = "followed",
    [TABLE_LOST] = "lost",
    [TABLE_FETCHES] = "fetches",
};

#define SEGMENT_ROW_BYTES 16

int index_forget(struct kv_txn *txn, enum index_table table, struct bytes key)
{
    const int err = kv_delete(txn, table, key);
    return err == -ENOENT ? 0 : err;
}

int index_number(struct kv_txn *txn, const char *name, uint64_t *ret_number)
{
    struct bytes value;
    const int err = kv_get(txn, TABLE_META, bytes_of_string(name), &value);
    if (err == -ENOENT) {
        *ret_number = 0;
        return 0;
    }
    if (err) {
        return err;
    }
    if (value.size != 8) {
        return -EIO;
    }
    *ret_number = codec_get_le64(value.data);
    return 0;
}

int index_set_number(struct kv_txn *txn, const char *name, uint64_t number)
{
    uint8_t value[8];
    codec_put_le64(value, number);
    return kv_put(txn, TABLE_META, bytes_of_string(name), BYTES(value, sizeof value));
}

void index_place_key(const struct location *location, uint8_t ret_key[PLACE_KEY_BYTES])
{
    codec_put_be64(ret_key, location->container);
    codec_put_be64(ret_key + 8, location->offset_bytes);
}

int index_decode_place(struct bytes key, struct bytes value, struct place *ret_place)
{
    if (key.size != PLACE_KEY_BYTES || value.size != PLACE_VALUE_BYTES) {
        return -EIO;
    }
    ret_place->location = (struct location){codec_get_be64(key.data), codec_get_be64(key.data + 8)};
    memcpy(ret_place->id.bytes, value.data, ID_BYTES);
    ret_place->size_bytes = codec_get_le32(value.data + ID_BYTES);
    return 0;
}

int index_list_places(struct kv *kv, const struct location *from, bool one_container, size_t limit,
                      struct place *ret_places, size_t *ret_count)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = kv_read(kv, &txn);
    if (err) {
        return err;
    }
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    err = kv_cursor_open(txn, TABLE_PLACES, &cursor);
    if (err) {
        return err;
    }
    uint8_t from_key[PLACE_KEY_BYTES];
    index_place_key(from, from_key);
    struct bytes key;
    struct bytes value;
    size_t count = 0;
    err = kv_seek(cursor, BYTES(from_key, sizeof from_key), &key, &value);
    while (!err && count < limit) {
        err = index_decode_place(key, value, &ret_places[count]);
        if (err || (one_container && ret_places[count].location.container != from->container)) {
            break;
        }
        count++;
        err = kv_next(cursor, &key, &value);
    }
    if (err && err != -ENOENT) {
        return err;
    }
    *ret_count = count;
    return 0;
}

int index_decode_segment(struct bytes value, struct segment_row *ret_row)
{
    if (value.size != SEGMENT_ROW_BYTES) {
        return -EIO;
    }
    *ret_row = (struct segment_row){codec_get_le64(value.data), codec_get_le64(value.data + 8)};
    return 0;
}

static struct bytes segment_key(uint64_t number, uint8_t key[8])
{
    codec_put_be64(key, number);
    return BYTES(key, 8);
}

int index_segment(struct kv_txn *txn, uint64_t number, struct segment_row *ret_row)
{
    uint8_t key[8];
    struct bytes value;
    const int err = kv_get(txn, TABLE_SEGMENTS, segment_key(number, key), &value);
    return err ? err : index_decode_segment(value, ret_row);
}

int index_segment_now(struct kv *kv, uint64_t number, struct segment_row *ret_row)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    const int err = kv_read(kv, &txn);
    return err ? err : index_segment(txn, number, ret_row);
}

static int put_segment(struct kv_txn *txn, uint64_t number, const struct segment_row *row)
{
    uint8_t key[8];
    uint8_t value[SEGMENT_ROW_BYTES];
    codec_put_le64(value, row->end_bytes);
    codec_put_le64(value + 8, row->live_bytes);
    return kv_put(txn, TABLE_SEGMENTS, segment_key(number, key), BYTES(value, sizeof value));
}

int index_close_segment(struct kv_txn *txn, uint64_t number)
{
    uint8_t key[8];
    return index_forget(txn, TABLE_OPEN, segment_key(number, key));
}

int index_remove_segment(struct kv_txn *txn, uint64_t number)
{
    uint8_t key[8];
    return index_forget(txn, TABLE_SEGMENTS, segment_key(number, key));
}

/* Rows for `number` and for all before it that no commit has named yet: their files may exist. */
static int name_segment(struct kv_txn *txn, uint64_t number, enum segment_class segment_class)
{
    uint64_t next = 0;
    int err = index_number(txn, META_NEXT_SEGMENT, &next);
    for (; !err && next <= number; next++) {
        err = put_segment(txn, next, &(struct segment_row){0});
    }
    if (!err) {
        err = index_set_number(txn, META_NEXT_SEGMENT, next);
    }
    if (err) {
        return err;
    }
    uint8_t key[8];
    const uint8_t value = (uint8_t)segment_class;
    return kv_put(txn, TABLE_OPEN, segment_key(number, key), BYTES(&value, 1));
}

static int use_segment(struct kv_txn *txn, const struct location *location, uint32_t size_bytes,
                       enum segment_class segment_class)
{
    struct segment_row row = {0};
    int err = index_segment(txn, location->container, &row);
    if (err == -ENOENT || (!err && row.end_bytes == 0)) {
        err = name_segment(txn, location->container, segment_class);
    }
    if (err) {
        return err;
    }
    const uint64_t end_bytes = location->offset_bytes + size_bytes;
    row.end_bytes = row.end_bytes > end_bytes ? row.end_bytes : end_bytes;
    row.live_bytes += size_bytes;
    return put_segment(txn, location->container, &row);
}

static int add_dead(struct kv_txn *txn, uint64_t since_ms, const struct location *location,
                    uint64_t size_bytes)
{
    uint8_t key[DEAD_KEY_BYTES];
    uint8_t value[8];
    codec_put_be64(key, since_ms);
    index_place_key(location, key + 8);
    codec_put_le64(value, size_bytes);
    return kv_put(txn, TABLE_DEAD, BYTES(key, sizeof key), BYTES(value, sizeof value));
}

int index_add_dead(struct store *store, struct kv_txn *txn, const struct location *location,
                   uint64_t size_bytes)
{
    return add_dead(txn, store_now_ms(store), location, size_bytes);
}

static int leave_segment(struct kv_txn *txn, uint64_t since_ms, const struct location *location,
                         uint32_t size_bytes)
{
    struct segment_row row;
    int err = index_segment(txn, location->container, &row);
    if (err) {
        return err == -ENOENT ? -EIO : err;
    }
    row.live_bytes -= row.live_bytes < size_bytes ? row.live_bytes : size_bytes;
    err = put_segment(txn, location->container, &row);
    return err ? err : add_dead(txn, since_ms, location, size_bytes);
}

int index_add_unused(struct kv_txn *txn, const struct location *location, uint32_t size_bytes,
                     enum segment_class segment_class)
{
    const int err = use_segment(txn, location, size_bytes, segment_class);
    return err ? err : leave_segment(txn, 0, location, size_bytes);
}

int index_block(struct kv_txn *txn, const struct id *id, struct block_record *ret_record)
{
    struct bytes value;
    const int err = kv_get(txn, TABLE_BLOCKS, id_bytes(id), &value);
    return err ? err : block_record_decode(value, ret_record);
}

int index_put_block_raw(struct kv_txn *txn, const struct id *id, const struct block_record *record)
{
    uint8_t value[BLOCK_RECORD_BYTES_MAX];
    const size_t size = block_record_encode(record, value);
    return kv_put(txn, TABLE_BLOCKS, id_bytes(id), BYTES(value, size));
}

static struct bytes queue_key(uint64_t since_ms, enum queue_kind kind, const struct id *id,
                              uint8_t key[QUEUE_KEY_BYTES])
{
    codec_put_be64(key, since_ms);
    key[8] = (uint8_t)kind;
    memcpy(key + 9, id->bytes, ID_BYTES);
    return BYTES(key, QUEUE_KEY_BYTES);
}

int index_enqueue(struct kv_txn *txn, uint64_t since_ms, enum queue_kind kind, const struct id *id)
{
    uint8_t key[QUEUE_KEY_BYTES];
    return kv_put(txn, TABLE_UNREFERENCED, queue_key(since_ms, kind, id, key), BYTES(NULL, 0));
}

int index_dequeue(struct kv_txn *txn, uint64_t since_ms, enum queue_kind kind, const struct id *id)
{
    uint8_t key[QUEUE_KEY_BYTES];
    return index_forget(txn, TABLE_UNREFERENCED, queue_key(since_ms, kind, id, key));
}

/* Only blocks in segments can be evicted: there is nothing to gain from the others. */
static bool is_evictable(const struct block_record *record)
{
    return block_is_cache(record) && block_owned_location(record);
}

static struct bytes cache_key(uint64_t since_ms, const struct id *id, uint8_t key[CACHE_KEY_BYTES])
{
    codec_put_be64(key, since_ms);
    memcpy(key + 8, id->bytes, ID_BYTES);
    return BYTES(key, CACHE_KEY_BYTES);
}

/* Into the cache queue (`by` +1) or out of it (-1). */
static int count_cached(struct kv_txn *txn, const struct id *id, uint64_t since_ms,
                        uint32_t size_bytes, int by)
{
    uint64_t total_bytes = 0;
    int err = index_number(txn, META_CACHE_BYTES, &total_bytes);
    if (err) {
        return err;
    }
    uint8_t key[CACHE_KEY_BYTES];
    uint8_t value[4];
    codec_put_le32(value, size_bytes);
    err = by > 0 ? kv_put(txn, TABLE_CACHE, cache_key(since_ms, id, key), BYTES(value, 4))
                 : index_forget(txn, TABLE_CACHE, cache_key(since_ms, id, key));
    total_bytes += by > 0 ? size_bytes : (uint64_t)0 - size_bytes;
    return err ? err : index_set_number(txn, META_CACHE_BYTES, total_bytes);
}

static int settle_cache(struct store *store, struct kv_txn *txn, const struct id *id,
                        struct block_record *record)
{
    const bool wanted = is_evictable(record);
    if (wanted == (record->cached_since_ms != 0)) {
        return 0;
    }
    const uint64_t since_ms = wanted ? store_now_ms(store) : record->cached_since_ms;
    record->cached_since_ms = wanted ? since_ms : 0;
    return count_cached(txn, id, since_ms, record->size_bytes, wanted ? 1 : -1);
}

int index_refresh_cached(struct store *store, struct kv_txn *txn, const struct id *id,
                         struct block_record *record)
{
    if (record->cached_since_ms == 0) {
        return 0;
    }
    const int err = count_cached(txn, id, record->cached_since_ms, record->size_bytes, -1);
    record->cached_since_ms = 0;
    return err ? err : index_put_block(store, txn, id, record);
}

static int settle_unreferenced(struct store *store, struct kv_txn *txn, const struct id *id,
                               struct block_record *record)
{
    const bool wanted = !block_is_held(record) && record->locations_count > 0;
    if (wanted == (record->unreferenced_since_ms != 0)) {
        return 0;
    }
    if (!wanted) {
        const uint64_t since_ms = record->unreferenced_since_ms;
        record->unreferenced_since_ms = 0;
        return index_dequeue(txn, since_ms, QUEUE_BLOCK, id);
    }
    record->unreferenced_since_ms = store_now_ms(store);
    return index_enqueue(txn, record->unreferenced_since_ms, QUEUE_BLOCK, id);
}

/* What was there before `record` decides whether somebody has to be told. */
static int settle_held(struct store *store, struct kv_txn *txn, const struct id *id,
                       const struct block_record *record)
{
    struct block_record before;
    int err = index_block(txn, id, &before);
    if (err == -ENOENT) {
        before = (struct block_record){0};
    } else if (err) {
        return err;
    }
    if (block_is_offered(&before) != block_is_offered(record)) {
        held_note(store, id, false,
                  block_is_offered(record) ? STORE_HELD_COMPLETE : STORE_HELD_NONE);
    }
    if (block_is_absent(&before) == block_is_absent(record)) {
        return 0;
    }
    uint64_t absent = 0;
    err = index_number(txn, META_ABSENT, &absent);
    if (block_is_absent(record)) {
        absent++;
    } else if (absent > 0) {
        absent--;
    }
    return err ? err : index_set_number(txn, META_ABSENT, absent);
}

int index_put_block(struct store *store, struct kv_txn *txn, const struct id *id,
                    struct block_record *record)
{
    /* What is not here, or in a file of somebody else's only, can't be kept for anybody. */
    record->is_promised = record->is_promised && block_owned_location(record);
    int err = settle_held(store, txn, id, record);
    if (!err) {
        err = settle_unreferenced(store, txn, id, record);
    }
    if (!err) {
        err = settle_cache(store, txn, id, record);
    }
    if (!err) {
        const bool lost =
            block_is_held(record) && !block_is_cache(record) && record->locations_count == 0;
        err = lost ? kv_put(txn, TABLE_LOST, id_bytes(id), BYTES(NULL, 0))
                   : index_forget(txn, TABLE_LOST, id_bytes(id));
    }
    if (err) {
        return err;
    }
    if (!block_is_held(record) && record->locations_count == 0) {
        return index_forget(txn, TABLE_BLOCKS, id_bytes(id));
    }
    return index_put_block_raw(txn, id, record);
}

int index_put_new_block(struct store *store, struct kv_txn *txn, const struct id *id,
                        struct block_record *record)
{
    CHECK(block_is_offered(record));
    const int err = settle_cache(store, txn, id, record);
    if (err) {
        return err;
    }
    held_note(store, id, false, STORE_HELD_COMPLETE);
    return index_put_block_raw(txn, id, record);
}

int index_add_location(struct store *store, struct kv_txn *txn, const struct id *id,
                       struct block_record *record, const struct location *location,
                       enum segment_class segment_class)
{
    int err = 0;
    if (record->locations_count == BLOCK_LOCATIONS_MAX) {
        /* The first one is the oldest; one in a segment is kept. */
        const uint8_t oldest = location_is_external(&record->locations[0]) ? 0 : 1;
        err = index_remove_location(store, txn, record, oldest);
    }
    if (!err) {
        err = location_is_external(location)
                  ? externals_count(txn, location->container, 1)
                  : use_segment(txn, location, record->size_bytes, segment_class);
    }
    if (err) {
        return err;
    }
    uint8_t key[PLACE_KEY_BYTES];
    uint8_t value[PLACE_VALUE_BYTES];
    index_place_key(location, key);
    memcpy(value, id->bytes, ID_BYTES);
    codec_put_le32(value + ID_BYTES, record->size_bytes);
    err = kv_put(txn, TABLE_PLACES, BYTES(key, sizeof key), BYTES(value, sizeof value));
    if (err) {
        return err;
    }
    record->locations[record->locations_count++] = *location;
    return 0;
}

int index_remove_location(struct store *store, struct kv_txn *txn, struct block_record *record,
                          uint8_t index)
{
    CHECK(index < record->locations_count);
    const struct location location = record->locations[index];
    uint8_t key[PLACE_KEY_BYTES];
    index_place_key(&location, key);
    int err = index_forget(txn, TABLE_PLACES, BYTES(key, sizeof key));
    if (!err) {
        err = location_is_external(&location)
                  ? externals_count(txn, location.container, -1)
                  : leave_segment(txn, store_now_ms(store), &location, record->size_bytes);
    }
    if (err) {
        return err;
    }
    record->locations_count--;
    for (uint8_t i = index; i < record->locations_count; i++) {
        record->locations[i] = record->locations[i + 1];
    }
    return 0;
}
