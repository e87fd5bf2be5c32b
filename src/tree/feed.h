/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_FEED_H
#define TREE_FEED_H

/*
 * feed: what changed here, in the order in which it was applied. A position names an op; a watcher
 * that has seen everything up to a position goes on behind it. Ops come per writer in its order.
 *
 * Positions count on from where the database was. An older copy of it that is put back would give
 * them out a second time, to other ops; so each opening has an *epoch*, a random number that goes
 * with a position wherever one is kept outside, and the database remembers where those before
 * ended.
 */

#include "tree/tree.h"

enum tree_feed_kind {
    TREE_FEED_OP = 1, /* an op that was applied */
    /* Ops were applied of which nothing is known here but what they left behind; what changed by
     * them follows. */
    TREE_FEED_GAP = 2,
    /* What a snapshot changed: an op of nobody (its origin is zeros, its sequence the position) of
     * kind TREE_EVENT_CHANGES. The context of each change is the one version that it brought, or,
     * of a deletion, took away. */
    TREE_FEED_MERGED = 3,
};

struct tree_feed_item {
    uint64_t position;
    enum tree_feed_kind kind;
    struct tree_op_parsed parsed; /* all but TREE_FEED_GAP; given back with
                                     tree_op_parsed_done(), which is allowed for a gap, too */
};

/* What stands at the first position after `after`; byte strings of `ret_item` are borrowed from
 * *ret_bytes, an empty buf which the caller gives to buf_done(). -ENOENT: nothing yet.
 * -ESTALE: positions between have been forgotten (see tree_summary.feed_first). */
[[nodiscard]] int tree_feed_next(const struct tree *tree, struct kv_txn *txn, uint64_t after,
                                 struct buf *ret_bytes, struct tree_feed_item *ret_item);

/* The epochs before this one that are known; one forgotten is as if it was of another feed. */
#define TREE_FEED_EPOCHS_MAX 1024u

/* Begins the epoch `fresh`, a random number, as each opening has to before a position is given out;
 * nothing if it is the one that is. */
[[nodiscard]] int tree_feed_renew(const struct tree *tree, struct kv_txn *txn, uint64_t fresh);

/* Tells if `position` was given out by this database in `epoch`, so that it means the same now. */
[[nodiscard]] int tree_feed_knows(const struct tree *tree, struct kv_txn *txn, uint64_t epoch,
                                  uint64_t position, bool *ret_knows);

#endif
