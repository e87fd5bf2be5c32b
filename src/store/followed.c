/* SPDX-License-Identifier: Apache-2.0 */
#include "store/followed_priv.h"

#include "base/codec.h"
#include "base/err.h"
#include "hash/sha256.h"
#include "store/externals_priv.h"
#include "store/files_priv.h"

#define ROW_BYTES (ID_BYTES + 8 + 1)

/* A path may be longer than a key. */
static struct bytes followed_key(const char *path, struct id *key)
{
    sha256_id(bytes_of_string(path), key);
    return id_bytes(key);
}

int followed_get(struct kv_txn *txn, const char *path, struct followed *ret_row)
{
    struct id key;
    struct bytes value;
    const int err = kv_get(txn, TABLE_FOLLOWED, followed_key(path, &key), &value);
    if (err) {
        return err;
    }
    if (value.size != ROW_BYTES) {
        return -EIO;
    }
    memcpy(ret_row->file.bytes, value.data, ID_BYTES);
    ret_row->container = codec_get_le64(value.data + ID_BYTES);
    ret_row->is_held = value.data[ID_BYTES + 8] != 0;
    return 0;
}

int followed_put(struct kv_txn *txn, const char *path, const struct followed *row)
{
    struct id key;
    uint8_t value[ROW_BYTES];
    memcpy(value, row->file.bytes, ID_BYTES);
    codec_put_le64(value + ID_BYTES, row->container);
    value[ID_BYTES + 8] = row->is_held;
    return kv_put(txn, TABLE_FOLLOWED, followed_key(path, &key), BYTES(value, sizeof value));
}

int followed_release(struct store *store, struct kv_txn *txn, const char *path, uint64_t container)
{
    struct followed row;
    int err = followed_get(txn, path, &row);
    if (err || row.container != container || !row.is_held) {
        return err == -ENOENT ? 0 : err;
    }
    row.is_held = false;
    err = files_release(store, txn, &row.file, STORE_FOLLOW);
    err = err == -ENOENT ? 0 : err;
    return err ? err : followed_put(txn, path, &row);
}

int followed_forget(struct store *store, struct kv_txn *txn, const char *path, uint64_t container)
{
    struct followed row = {0};
    struct id key;
    int err = followed_release(store, txn, path, container);
    if (!err) {
        err = followed_get(txn, path, &row);
    }
    if (err || row.container != container) {
        return err == -ENOENT ? 0 : err;
    }
    return index_forget(txn, TABLE_FOLLOWED, followed_key(path, &key));
}

int followed_has_other_place(struct kv_txn *txn, const struct block_record *record, bool *ret_has)
{
    *ret_has = block_owned_location(record) != NULL;
    for (uint8_t i = 0; !*ret_has && i < record->locations_count; i++) {
        struct external external;
        const int err = externals_get(txn, record->locations[i].container, &external);
        if (err && err != -ENOENT) {
            return err;
        }
        *ret_has = !err && !external.is_followed;
    }
    return 0;
}
