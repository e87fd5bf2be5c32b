/* SPDX-License-Identifier: Apache-2.0 */
#include "store/fetches_priv.h"

#include "base/codec.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/index_priv.h"
#include "store/store_priv.h"

#define KEY_BYTES (ID_BYTES + 4)
#define VALUE_BYTES_MAX (1 + FETCH_PART_BLOCKS / 8)
/* Beside the reason. */
#define ASIDE 0x80

static struct bytes part_key(const struct id *file, size_t part, uint8_t key[KEY_BYTES])
{
    memcpy(key, file->bytes, ID_BYTES);
    codec_put_be32(key + ID_BYTES, (uint32_t)part);
    return BYTES(key, KEY_BYTES);
}

static size_t parts_of(size_t blocks_count)
{
    return (blocks_count + FETCH_PART_BLOCKS - 1) / FETCH_PART_BLOCKS;
}

static size_t part_bytes(size_t blocks_count, size_t part)
{
    const size_t left = blocks_count - part * FETCH_PART_BLOCKS;
    return STORE_INTAKE_HAVE_BYTES(left < FETCH_PART_BLOCKS ? left : FETCH_PART_BLOCKS);
}

static int decode_reason(struct bytes value, enum store_reason *ret_reason)
{
    if (value.size < 1 || (value.data[0] & ~ASIDE) >= STORE_REASONS) {
        return -EIO;
    }
    *ret_reason = (enum store_reason)(value.data[0] & ~ASIDE);
    return 0;
}

int fetches_get(struct kv_txn *txn, const struct id *file, enum store_reason *ret_reason)
{
    uint8_t key[KEY_BYTES];
    struct bytes value;
    const int err = kv_get(txn, TABLE_FETCHES, part_key(file, 0, key), &value);
    return err ? err : decode_reason(value, ret_reason);
}

int fetches_load(struct kv_txn *txn, const struct id *file, size_t blocks_count, uint8_t *ret_bits)
{
    memset(ret_bits, 0, STORE_INTAKE_HAVE_BYTES(blocks_count));
    for (size_t part = 0; part < parts_of(blocks_count); part++) {
        uint8_t key[KEY_BYTES];
        struct bytes value;
        const int err = kv_get(txn, TABLE_FETCHES, part_key(file, part, key), &value);
        if (err == -ENOENT) {
            continue;
        }
        if (err) {
            return err;
        }
        if (value.size != 1 + part_bytes(blocks_count, part)) {
            return -EIO;
        }
        memcpy(ret_bits + part * FETCH_PART_BLOCKS / 8, value.data + 1, value.size - 1);
    }
    return 0;
}

int fetches_has_blocks(struct kv_txn *txn, const struct id *file, size_t blocks_count,
                       bool *ret_has)
{
    enum store_reason reason;
    int err = fetches_get(txn, file, &reason);
    *ret_has = false;
    if (err) {
        return err == -ENOENT ? 0 : err;
    }
    CLEANUP_FREE uint8_t *bits = mem_alloc(STORE_INTAKE_HAVE_BYTES(blocks_count) + 1);
    err = fetches_load(txn, file, blocks_count, bits);
    for (size_t i = 0; !err && i < STORE_INTAKE_HAVE_BYTES(blocks_count); i++) {
        *ret_has = *ret_has || bits[i] != 0;
    }
    return err;
}

int fetches_put_part(struct kv_txn *txn, const struct id *file, enum store_reason reason,
                     const uint8_t *bits, size_t blocks_count, size_t part)
{
    uint8_t key[KEY_BYTES];
    uint8_t value[VALUE_BYTES_MAX];
    /* An empty file has one part without bits. */
    const size_t size = blocks_count ? part_bytes(blocks_count, part) : 0;
    value[0] = (uint8_t)reason;
    memcpy(value + 1, bits + part * FETCH_PART_BLOCKS / 8, size);
    return kv_put(txn, TABLE_FETCHES, part_key(file, part, key), BYTES(value, 1 + size));
}

int fetches_set_aside(struct kv_txn *txn, const struct id *file)
{
    uint8_t key[KEY_BYTES];
    uint8_t value[VALUE_BYTES_MAX];
    struct bytes old;
    const int err = kv_get(txn, TABLE_FETCHES, part_key(file, 0, key), &old);
    if (err) {
        return err;
    }
    if (old.size < 1 || old.size > sizeof value) {
        return -EIO;
    }
    memcpy(value, old.data, old.size);
    value[0] |= ASIDE;
    return kv_put(txn, TABLE_FETCHES, part_key(file, 0, key), BYTES(value, old.size));
}

int fetches_remove(struct kv_txn *txn, const struct id *file, size_t blocks_count)
{
    size_t part = 0;
    int err = 0;
    do {
        uint8_t key[KEY_BYTES];
        err = index_forget(txn, TABLE_FETCHES, part_key(file, part, key));
        part++;
    } while (!err && part < parts_of(blocks_count));
    return err;
}

int store_intake_next(struct store *store, const struct id *after,
                      struct store_intake_info *ret_info)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = kv_read(store->kv, &txn);
    if (err) {
        return err;
    }
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    err = kv_cursor_open(txn, TABLE_FETCHES, &cursor);
    if (err) {
        return err;
    }
    /* Behind all parts of `after`. */
    uint8_t from[KEY_BYTES];
    if (after) {
        (void)part_key(after, UINT32_MAX, from);
    }
    struct bytes key;
    struct bytes value;
    err = kv_seek(cursor, BYTES(from, after ? sizeof from : 0), &key, &value);
    struct store_intake_info info;
    if (!err) {
        err = key.size == KEY_BYTES ? decode_reason(value, &info.reason) : -EIO;
    }
    if (err) {
        return err;
    }
    memcpy(info.id.bytes, key.data, ID_BYTES);
    info.is_aside = value.data[0] & ASIDE;
    *ret_info = info;
    return 0;
}
