/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/feed.h"

#include "base/buf.h"
#include "base/codec.h"
#include "base/err.h"
#include "tree/rows_priv.h"

int tree_feed_next(const struct tree *tree, struct kv_txn *txn, uint64_t after,
                   uint64_t *ret_position, struct buf *ret_bytes, struct tree_op_parsed *ret_parsed)
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
    const size_t begin = ret_bytes->size;
    uint8_t key[8];
    codec_put_be64(key, after + 1);
    struct bytes value;
    struct feed_row row;
    err = kv_get(txn, tree_table(tree, TREE_FEED), BYTES(key, sizeof key), &value);
    if (!err) {
        err = feed_decode(value, &row);
    }
    if (!err) {
        err = op_get(tree, txn, row.origin, row.seq, ret_bytes);
    }
    if (!err) {
        err = tree_op_parse(BYTES(ret_bytes->data + begin, ret_bytes->size - begin), ret_parsed);
    }
    if (err) {
        /* What was written here and reads otherwise now is damaged. */
        return err == -ENOENT || err == -EPROTO || err == -EPROTONOSUPPORT || err == -EFBIG ? -EIO
                                                                                            : err;
    }
    *ret_position = after + 1;
    return 0;
}
