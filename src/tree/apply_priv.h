/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_APPLY_PRIV_H
#define TREE_APPLY_PRIV_H

#include "tree/rows_priv.h"

/*
 * Applies `op`, whose bytes are `bytes`, whole: entries, history, log, feed, vector. The caller has
 * seen that its sequence is the next of its origin. `is_own`: content that the host does not know
 * is an error (-ENOENT); else the version is kept without it.
 */
[[nodiscard]] int op_apply(const struct tree *tree, struct kv_txn *txn, const struct tree_op *op,
                           struct bytes bytes, bool is_own);

#endif
