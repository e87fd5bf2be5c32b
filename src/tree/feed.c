/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/feed.h"

#include "base/buf.h"
#include "base/codec.h"
#include "base/err.h"
#include "tree/rows_priv.h"

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
