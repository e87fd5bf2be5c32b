/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/vector.h"

#include "base/codec.h"
#include "base/err.h"
#include "tree/rows_priv.h"

static struct vector_entry entry_of(const struct origin_row *row)
{
    return (struct vector_entry){.origin = row->id, .seq = row->seq, .hash = row->hash};
}

int tree_vector_get(const struct tree *tree, struct kv_txn *txn, const struct origin_id *origin,
                    struct vector_entry *ret_entry)
{
    uint32_t number = 0;
    struct origin_row row = {.id = *origin};
    int err = origin_number(tree, txn, origin, &number);
    if (!err) {
        err = origin_get(tree, txn, number, &row);
        err = err == -ENOENT ? -EIO : err;
    } else if (err == -ENOENT) {
        err = 0;
    }
    if (!err) {
        *ret_entry = entry_of(&row);
    }
    return err;
}

int tree_vector_next(const struct tree *tree, struct kv_txn *txn, const struct origin_id *after,
                     struct vector_entry *ret_entry)
{
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    struct bytes key;
    struct bytes value;
    uint8_t from[sizeof after->bytes + 1] = {0};
    int err = kv_cursor_open(txn, tree_table(tree, TREE_ORIGIN_IDS), &cursor);
    if (err) {
        return err;
    }
    if (after) {
        memcpy(from, after->bytes, sizeof after->bytes);
    }
    for (err = kv_seek(cursor, BYTES(from, after ? sizeof from : 0), &key, &value); !err;
         err = kv_next(cursor, &key, &value)) {
        struct origin_row row;
        if (value.size != 4) {
            return -EIO;
        }
        err = origin_get(tree, txn, codec_get_le32(value.data), &row);
        if (err) {
            return err == -ENOENT ? -EIO : err;
        }
        if (row.seq > 0) {
            *ret_entry = entry_of(&row);
            return 0;
        }
    }
    return err;
}

int tree_vector_sums(const struct tree *tree, struct kv_txn *txn,
                     uint64_t ret_sums[TREE_VECTOR_BUCKETS])
{
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    struct bytes key;
    struct bytes value;
    uint64_t sums[TREE_VECTOR_BUCKETS] = {0};
    int err = kv_cursor_open(txn, tree_table(tree, TREE_ORIGINS), &cursor);
    if (err) {
        return err;
    }
    while ((err = kv_next(cursor, &key, &value)) == 0) {
        struct origin_row row;
        err = origin_decode(value, &row);
        if (err) {
            return err;
        }
        sums[row.id.bytes[0]] += origin_sum(&row);
    }
    if (err != -ENOENT) {
        return err;
    }
    memcpy(ret_sums, sums, sizeof sums);
    return 0;
}

int tree_renew_origin(const struct tree *tree, struct kv_txn *txn, const struct origin_id *fresh)
{
    struct tree_state state;
    uint32_t number = 0;
    int err = state_get(tree, txn, &state);
    if (err) {
        return err;
    }
    err = origin_number(tree, txn, fresh, &number);
    if (err != -ENOENT) {
        return err ? err : -EEXIST;
    }
    struct origin_row own;
    err = origin_get(tree, txn, state.own_origin, &own);
    if (err) {
        return err == -ENOENT ? -EIO : err;
    }
    if (own.seq == 0) { /* nobody knows it: its place is taken over */
        return origin_rename(tree, txn, state.own_origin, &own, fresh);
    }
    err = origin_add(tree, txn, &state, fresh, &state.own_origin);
    return err ? err : state_put(tree, txn, &state);
}
