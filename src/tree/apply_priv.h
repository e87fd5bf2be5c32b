/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_APPLY_PRIV_H
#define TREE_APPLY_PRIV_H

/*
 * apply: what an op does to the tables: entries, history, log, feed, vector.
 */

#include "base/cleanup.h"
#include "tree/rows_priv.h"

/* Where the ops come from. */
enum apply_kind {
    APPLY_LOCAL = 1, /* made now: content that the host does not know is an error (-ENOENT) */
    APPLY_AGAIN,  /* made here, of content that may be gone since, or elsewhere: kept without it */
    APPLY_REMOTE, /* made elsewhere: likewise; the vector covers all contexts */
};

/* Ops that are applied one after the other in one transaction. The single values, the rows of
 * origins, and the directory that was counted last are written when it ends: until then nothing
 * else reads or changes the tree in this transaction. */
struct apply;
[[nodiscard]] int apply_begin(const struct tree *tree, struct kv_txn *txn, enum apply_kind kind,
                              struct apply **ret_apply);
/* The single values as they are now; borrowed. */
const struct tree_state *apply_state(const struct apply *apply);
/* How far the log of `id` was applied; seq 0: nothing. */
[[nodiscard]] int apply_origin(struct apply *apply, const struct origin_id *id,
                               struct origin_row *ret_row);
/* Applies `op`, whose bytes are `bytes`, whole. The caller has seen that its sequence is the next
 * of its origin. After an error the transaction is aborted. */
[[nodiscard]] int apply_op(struct apply *apply, const struct tree_op *op, struct bytes bytes);
/* Writes what is left and takes `apply` back, whatever the answer is. */
[[nodiscard]] int apply_end(struct apply *apply);
/* Takes it back without that; NULL is allowed. */
void apply_drop(struct apply *apply);
CLEANUP_DEFINE(apply_drop, struct apply)

/* What the change makes, but for the number of its origin; its attributes are put into
 * `ret_attributes`, other byte strings are those of the change. */
struct tree_version version_of(const struct tree_op *op, const struct tree_change *change,
                               struct buf *ret_attributes);

/* False: two of the changes have the same path. Their versions would have one name, the dot of the
 * op. */
bool changes_differ(const struct tree_change *changes, size_t count);

#endif
