/* SPDX-License-Identifier: Apache-2.0 */
#include "store/files_priv.h"

#include "base/codec.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/fetches_priv.h"
#include "store/followed_priv.h"
#include "store/held_priv.h"
#include "store/index_priv.h"
#include "store/store_priv.h"
#include "store/writer.h"

#define ROW_BYTES 36
#define REF_BYTES (ID_BYTES + 4)
#define PART_KEY_BYTES (ID_BYTES + 4)

int files_decode(struct bytes value, struct file_row *ret_row)
{
    if (value.size < ROW_BYTES || (value.size - ROW_BYTES) % REF_BYTES != 0) {
        return -EIO;
    }
    const uint8_t *at = value.data;
    ret_row->length_bytes = codec_get_le64(at);
    ret_row->blocks_count = codec_get_le32(at + 8);
    for (int reason = 0; reason < STORE_REASONS; reason++) {
        ret_row->holders[reason] = codec_get_le32(at + 12 + 4 * reason);
    }
    ret_row->unreferenced_since_ms = codec_get_le64(at + 28);
    return 0;
}

static void encode_row(const struct file_row *row, uint8_t ret_data[ROW_BYTES])
{
    codec_put_le64(ret_data, row->length_bytes);
    codec_put_le32(ret_data + 8, row->blocks_count);
    for (int reason = 0; reason < STORE_REASONS; reason++) {
        codec_put_le32(ret_data + 12 + 4 * reason, row->holders[reason]);
    }
    codec_put_le64(ret_data + 28, row->unreferenced_since_ms);
}

int files_get(struct kv_txn *txn, const struct id *id, struct file_row *ret_row)
{
    struct bytes value;
    const int err = kv_get(txn, TABLE_FILES, id_bytes(id), &value);
    return err ? err : files_decode(value, ret_row);
}

/* Rewrites the row and keeps the blocks behind it. */
static int update_row(struct kv_txn *txn, const struct id *id, const struct file_row *row)
{
    struct bytes old;
    const int err = kv_get(txn, TABLE_FILES, id_bytes(id), &old);
    if (err) {
        return err;
    }
    uint8_t value[ROW_BYTES + FILE_PART_BLOCKS * REF_BYTES];
    if (old.size > sizeof value) {
        return -EIO;
    }
    memcpy(value, old.data, old.size);
    encode_row(row, value);
    return kv_put(txn, TABLE_FILES, id_bytes(id), BYTES(value, old.size));
}

static struct bytes part_key(const struct id *id, uint32_t part, uint8_t key[PART_KEY_BYTES])
{
    memcpy(key, id->bytes, ID_BYTES);
    codec_put_be32(key + ID_BYTES, part);
    return BYTES(key, PART_KEY_BYTES);
}

static int decode_refs(struct bytes refs, struct file_metadata *metadata)
{
    if (refs.size % REF_BYTES != 0) {
        return -EIO;
    }
    for (size_t at = 0; at < refs.size; at += REF_BYTES) {
        struct id id;
        memcpy(id.bytes, refs.data + at, ID_BYTES);
        if (file_metadata_add(metadata, &id, codec_get_le32(refs.data + at + ID_BYTES))) {
            return -EIO;
        }
    }
    return 0;
}

int files_load(struct kv_txn *txn, const struct id *id, struct file_metadata *ret_metadata)
{
    struct bytes value;
    struct file_row row;
    int err = kv_get(txn, TABLE_FILES, id_bytes(id), &value);
    if (!err) {
        err = files_decode(value, &row);
    }
    if (err) {
        return err;
    }
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    err = decode_refs(BYTES(value.data + ROW_BYTES, value.size - ROW_BYTES), &metadata);
    for (uint32_t part = 1; !err && metadata.blocks_count < row.blocks_count; part++) {
        uint8_t key[PART_KEY_BYTES];
        err = kv_get(txn, TABLE_FILE_BLOCKS, part_key(id, part, key), &value);
        if (!err) {
            err = value.size == 0 ? -EIO : decode_refs(value, &metadata);
        } else if (err == -ENOENT) {
            err = -EIO;
        }
    }
    if (!err &&
        (metadata.blocks_count != row.blocks_count || metadata.length_bytes != row.length_bytes)) {
        err = -EIO;
    }
    if (err) {
        return err;
    }
    *ret_metadata = metadata;
    metadata = FILE_METADATA_INIT;
    return 0;
}

static size_t encode_refs(const struct block_ref *refs, size_t count, uint8_t *ret_data)
{
    for (size_t i = 0; i < count; i++) {
        memcpy(ret_data + i * REF_BYTES, refs[i].id.bytes, ID_BYTES);
        codec_put_le32(ret_data + i * REF_BYTES + ID_BYTES, refs[i].size_bytes);
    }
    return count * REF_BYTES;
}

/* A row of which only the holders are set. */
static int add_row(struct kv_txn *txn, const struct id *id, const struct file_metadata *metadata,
                   struct file_row *row)
{
    row->length_bytes = metadata->length_bytes;
    row->blocks_count = (uint32_t)metadata->blocks_count;
    uint8_t value[ROW_BYTES + FILE_PART_BLOCKS * REF_BYTES];
    encode_row(row, value);
    size_t done = metadata->blocks_count;
    done = done < FILE_PART_BLOCKS ? done : FILE_PART_BLOCKS;
    const size_t size = ROW_BYTES + encode_refs(metadata->blocks, done, value + ROW_BYTES);
    int err = kv_put(txn, TABLE_FILES, id_bytes(id), BYTES(value, size));
    for (uint32_t part = 1; !err && done < metadata->blocks_count; part++) {
        size_t count = metadata->blocks_count - done;
        count = count < FILE_PART_BLOCKS ? count : FILE_PART_BLOCKS;
        const size_t part_size = encode_refs(metadata->blocks + done, count, value);
        uint8_t key[PART_KEY_BYTES];
        err = kv_put(txn, TABLE_FILE_BLOCKS, part_key(id, part, key), BYTES(value, part_size));
        done += count;
    }
    return err;
}

int files_add(struct kv_txn *txn, const struct id *id, const struct file_metadata *metadata)
{
    struct file_row row;
    const int err = files_get(txn, id, &row);
    if (err != -ENOENT) {
        return err;
    }
    row = (struct file_row){0};
    return add_row(txn, id, metadata, &row);
}

int files_add_held(struct store *store, struct kv_txn *txn, const struct id *id,
                   const struct file_metadata *metadata, enum store_reason reason)
{
    struct file_row row = {0};
    row.holders[reason] = 1;
    const int err = add_row(txn, id, metadata, &row);
    if (!err) {
        held_note(store, id, true, STORE_HELD_COMPLETE);
    }
    return err;
}

bool files_is_held(const struct file_row *row)
{
    uint32_t holders = 0;
    for (int reason = 0; reason < STORE_REASONS; reason++) {
        holders |= row->holders[reason];
    }
    return holders != 0;
}

int files_check(struct kv_txn *txn, const struct file_metadata *metadata)
{
    for (size_t i = 0; i < metadata->blocks_count; i++) {
        struct block_record record;
        const int err = index_block(txn, &metadata->blocks[i].id, &record);
        if (err == -ENOENT || (!err && record.locations_count == 0)) {
            return -EAGAIN;
        }
        if (err) {
            return err;
        }
    }
    return 0;
}

/* The same, in places that are not in followed files. */
static int check_other_places(struct kv_txn *txn, const struct file_metadata *metadata)
{
    for (size_t i = 0; i < metadata->blocks_count; i++) {
        struct block_record record;
        bool has_other = false;
        int err = index_block(txn, &metadata->blocks[i].id, &record);
        if (!err) {
            err = followed_has_other_place(txn, &record, &has_other);
        }
        if (err || !has_other) {
            return !err || err == -ENOENT ? -EAGAIN : err;
        }
    }
    return 0;
}

static int count_blocks(struct store *store, struct kv_txn *txn,
                        const struct file_metadata *metadata, enum store_reason reason, int by)
{
    for (size_t i = 0; i < metadata->blocks_count; i++) {
        const struct id *id = &metadata->blocks[i].id;
        struct block_record record;
        int err = index_block(txn, id, &record);
        if (err) {
            return err == -ENOENT ? -EIO : err;
        }
        record.holders[reason] += (uint32_t)by;
        err = index_put_block(store, txn, id, &record);
        if (err) {
            return err;
        }
    }
    return 0;
}

/* The first holder for a reason, or the last one gone: the blocks are told. */
static int change_blocks(struct store *store, struct kv_txn *txn, const struct id *id,
                         enum store_reason reason, int by)
{
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    int err = files_load(txn, id, &metadata);
    if (!err && by > 0) {
        err = followed_is_shunned(reason) ? check_other_places(txn, &metadata)
                                          : files_check(txn, &metadata);
    }
    return err ? err : count_blocks(store, txn, &metadata, reason, by);
}

/* One holder more in the row alone. */
static int hold_row(struct store *store, struct kv_txn *txn, const struct id *id,
                    struct file_row *row, enum store_reason reason)
{
    int err = 0;
    if (row->unreferenced_since_ms != 0) {
        err = index_dequeue(txn, row->unreferenced_since_ms, QUEUE_FILE, id);
        row->unreferenced_since_ms = 0;
    }
    const bool is_first = row->holders[reason] == 0;
    row->holders[reason]++;
    if (!err) {
        err = update_row(txn, id, row);
    }
    if (!err && is_first) {
        /* All blocks were just seen to be here. */
        held_note(store, id, true, STORE_HELD_COMPLETE);
    }
    return err;
}

int files_hold(struct store *store, struct kv_txn *txn, const struct id *id,
               enum store_reason reason)
{
    struct file_row row;
    int err = files_get(txn, id, &row);
    if (!err && row.holders[reason] == UINT32_MAX) {
        err = -EOVERFLOW;
    }
    if (!err && row.holders[reason] == 0) {
        err = change_blocks(store, txn, id, reason, 1);
    }
    return err ? err : hold_row(store, txn, id, &row, reason);
}

int files_hold_counted(struct store *store, struct kv_txn *txn, const struct id *id,
                       enum store_reason reason)
{
    struct file_row row;
    const int err = files_get(txn, id, &row);
    if (err) {
        return err;
    }
    CHECK(row.holders[reason] == 0);
    return hold_row(store, txn, id, &row, reason);
}

int files_release(struct store *store, struct kv_txn *txn, const struct id *id,
                  enum store_reason reason)
{
    struct file_row row;
    int err = files_get(txn, id, &row);
    if (err) {
        return err;
    }
    if (row.holders[reason] == 0) {
        return -ENOENT;
    }
    row.holders[reason]--;
    if (row.holders[reason] == 0) {
        err = change_blocks(store, txn, id, reason, -1);
    }
    if (!err && !files_is_held(&row)) {
        row.unreferenced_since_ms = store_now_ms(store);
        err = index_enqueue(txn, row.unreferenced_since_ms, QUEUE_FILE, id);
    }
    bool is_coming = false;
    if (!err && !files_is_held(&row)) {
        err = fetches_has_blocks(txn, id, row.blocks_count, &is_coming);
        held_note(store, id, true, is_coming ? STORE_HELD_PARTIAL : STORE_HELD_NONE);
    }
    return err ? err : update_row(txn, id, &row);
}

int files_settle(struct store *store, struct kv_txn *txn, const struct id *id)
{
    struct file_row row;
    int err = files_get(txn, id, &row);
    if (err || files_is_held(&row) || row.unreferenced_since_ms != 0) {
        return err;
    }
    row.unreferenced_since_ms = store_now_ms(store);
    err = index_enqueue(txn, row.unreferenced_since_ms, QUEUE_FILE, id);
    return err ? err : update_row(txn, id, &row);
}

int files_unqueue(struct kv_txn *txn, const struct id *id)
{
    struct file_row row;
    int err = files_get(txn, id, &row);
    if (err || row.unreferenced_since_ms == 0) {
        return err;
    }
    err = index_dequeue(txn, row.unreferenced_since_ms, QUEUE_FILE, id);
    row.unreferenced_since_ms = 0;
    return err ? err : update_row(txn, id, &row);
}

int files_remove(struct kv_txn *txn, const struct id *id)
{
    struct file_row row;
    int err = files_get(txn, id, &row);
    if (err) {
        return err;
    }
    CHECK(!files_is_held(&row));
    const uint32_t parts = (row.blocks_count + FILE_PART_BLOCKS - 1) / FILE_PART_BLOCKS;
    for (uint32_t part = 1; !err && part < parts; part++) {
        uint8_t key[PART_KEY_BYTES];
        err = index_forget(txn, TABLE_FILE_BLOCKS, part_key(id, part, key));
    }
    return err ? err : index_forget(txn, TABLE_FILES, id_bytes(id));
}
