/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/feed.h"

#include "base/buf.h"
#include "base/codec.h"
#include "base/err.h"
#include "tree/rows_priv.h"
#include "wire/fields.h"

/* The row and, unless it is a gap, the op of a position. */
static int read_item(const struct tree *tree, struct kv_txn *txn, struct buf *ret_bytes,
                     struct tree_feed_item *item)
{
    const size_t begin = ret_bytes->size;
    uint8_t key[8];
    codec_put_be64(key, item->position);
    struct bytes value;
    struct feed_row row;
    int err = kv_get(txn, tree_table(tree, TREE_FEED), BYTES(key, sizeof key), &value);
    if (!err) {
        err = feed_decode(value, &row);
    }
    if (err) {
        return err;
    }
    item->kind = row.kind;
    if (row.kind == TREE_FEED_GAP) {
        return 0;
    }
    err = op_get(tree, txn, row.origin, row.seq, ret_bytes);
    return err ? err
               : tree_op_parse(BYTES(ret_bytes->data + begin, ret_bytes->size - begin),
                               &item->parsed);
}

int tree_feed_next(const struct tree *tree, struct kv_txn *txn, uint64_t after,
                   struct buf *ret_bytes, struct tree_feed_item *ret_item)
{
    struct tree_state state;
    int err = state_get(tree, txn, &state);
    if (err) {
        return err;
    }
    if (after >= state.feed_last) {
        return -ENOENT;
    }
    if (after + 1 < state.feed_first) {
        return -ESTALE;
    }
    struct tree_feed_item item = {.position = after + 1};
    err = read_item(tree, txn, ret_bytes, &item);
    if (err) {
        /* What was written here and reads otherwise now is damaged. */
        return err == -ENOENT || err == -EPROTO || err == -EPROTONOSUPPORT || err == -EFBIG ? -EIO
                                                                                            : err;
    }
    *ret_item = item;
    return 0;
}

/* ---- epochs: the row "epochs" of TREE_META, the oldest first ---- */

/* Epoch u64, the last position of the feed when it ended u64. */
#define EPOCH_BYTES 16u

static int epochs_get(const struct tree *tree, struct kv_txn *txn, struct bytes *ret_value)
{
    struct bytes value;
    const int err = kv_get(txn, tree_table(tree, TREE_META), bytes_of_string("epochs"), &value);
    if (err && err != -ENOENT) {
        return err;
    }
    if (!err && (value.size % EPOCH_BYTES || value.size > TREE_FEED_EPOCHS_MAX * EPOCH_BYTES)) {
        return -EIO;
    }
    *ret_value = err ? BYTES(NULL, 0) : value;
    return 0;
}

int tree_feed_renew(const struct tree *tree, struct kv_txn *txn, uint64_t fresh)
{
    struct tree_state state;
    struct bytes known;
    int err = state_get(tree, txn, &state);
    if (!err && state.epoch != fresh) {
        err = epochs_get(tree, txn, &known);
    }
    if (err || state.epoch == fresh) {
        return err;
    }
    if (known.size == TREE_FEED_EPOCHS_MAX * EPOCH_BYTES) {
        known = BYTES(known.data + EPOCH_BYTES, known.size - EPOCH_BYTES);
    }
    CLEANUP_BUF struct buf value = BUF_INIT;
    buf_add(&value, known);
    field_put_u64(&value, state.epoch);
    field_put_u64(&value, state.feed_last);
    err = kv_put(txn, tree_table(tree, TREE_META), bytes_of_string("epochs"), buf_bytes(&value));
    state.epoch = fresh;
    return err ? err : state_put(tree, txn, &state);
}

int tree_feed_knows(const struct tree *tree, struct kv_txn *txn, uint64_t epoch, uint64_t position,
                    bool *ret_knows)
{
    struct tree_state state;
    struct bytes known;
    int err = state_get(tree, txn, &state);
    if (!err) {
        err = epochs_get(tree, txn, &known);
    }
    if (err) {
        return err;
    }
    bool knows = epoch == state.epoch && position <= state.feed_last;
    struct field_reader reader = field_reader_of(known);
    while (!knows && reader.left.size > 0) {
        const bool is_it = field_get_u64(&reader) == epoch;
        const uint64_t last = field_get_u64(&reader);
        knows = is_it && position <= last;
    }
    *ret_knows = knows;
    return 0;
}
