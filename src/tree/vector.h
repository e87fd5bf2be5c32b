/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_VECTOR_H
#define TREE_VECTOR_H

/*
 * vector: how far this database has come in the log of each writer: origin -> the last op applied,
 * without a gap (Parker et al. 1983, "Detection of mutual inconsistency in distributed systems").
 *
 * Two vectors are compared by sums: an origin adds the first eight bytes of the hash of its last
 * op, which names the origin, its sequence and all ops before it by the chain. So equal sums mean
 * equal logs, but for a chance of 2^-64.
 */

#include "tree/tree.h"
#include "wire/tree_message.h"

struct vector_entry {
    struct origin_id origin;
    uint64_t seq;   /* at least 1 */
    struct id hash; /* of that op */
};

/* What is known of `origin`; seq 0: nothing. */
[[nodiscard]] int tree_vector_get(const struct tree *tree, struct kv_txn *txn,
                                  const struct origin_id *origin, struct vector_entry *ret_entry);

/* The first origin behind `after` (NULL: the first of all) in the order of ids of which something
 * was applied. -ENOENT: no more. */
[[nodiscard]] int tree_vector_next(const struct tree *tree, struct kv_txn *txn,
                                   const struct origin_id *after, struct vector_entry *ret_entry);

/* The sums by the first byte of the origin's id; together they are tree_summary.vector_sum. Takes
 * time with the number of origins. */
#define TREE_VECTOR_BUCKETS TREE_SUMS
[[nodiscard]] int tree_vector_sums(const struct tree *tree, struct kv_txn *txn,
                                   uint64_t ret_sums[TREE_VECTOR_BUCKETS]);

/* Local changes go to the log of `fresh`, a new random id, from now on. To be called whenever a
 * database is opened: it may be a copy that was put back, and others may have more of the log that
 * it kept than it has itself; no name of an op is used twice then. An own log without ops is only
 * renamed, so that this costs something (a row here, 32 bytes in comparisons) only where changes
 * are made. -EEXIST: that log is known. */
[[nodiscard]] int tree_renew_origin(const struct tree *tree, struct kv_txn *txn,
                                    const struct origin_id *fresh);

#endif
