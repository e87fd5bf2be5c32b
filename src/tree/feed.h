/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_FEED_H
#define TREE_FEED_H

/*
 * feed: what changed here, in the order in which it was applied. A position names an op; a watcher
 * that has seen everything up to a position goes on behind it. Ops come per writer in its order.
 */

#include "tree/tree.h"

/* The op at the first position after `after`; `ret_parsed` is the caller's to give back, its byte
 * strings are borrowed from *ret_bytes, an
 * empty buf which the caller gives to buf_done(). -ENOENT: nothing yet.
 * -ESTALE: positions between have been forgotten (see tree_summary.feed_first). */
[[nodiscard]] int tree_feed_next(const struct tree *tree, struct kv_txn *txn, uint64_t after,
                                 uint64_t *ret_position, struct buf *ret_bytes,
                                 struct tree_op_parsed *ret_parsed);

#endif
