/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_REMOTE_H
#define TREE_REMOTE_H

/*
 * remote: ops of other writers: applying what came from elsewhere, and handing out what others
 * lack.
 */

#include "base/buf.h"
#include "base/cleanup.h"
#include "tree/tree.h"
#include "tree/vector.h"
#include "wire/tree_message.h"

/* An op's lamport clock further ahead of ours than this is no clock but a fault. A snapshot may be
 * so far ahead: whoever comes new is as far behind as all others have come. */
#define TREE_LAMPORT_JUMP_MAX (UINT64_C(1) << 40)

/* What became of an op; when more than one would do, it is KNOWN or FORKED by an op of the same
 * name first, then HELD_UP, EARLY, and FORKED by the chain. */
enum tree_verdict {
    TREE_APPLIED = 1,
    TREE_KNOWN,   /* was applied before; nothing changed */
    TREE_EARLY,   /* `missing` has to come first; nothing changed */
    TREE_FORKED,  /* another op of this name was applied before, or it does not continue the log
                   * that we have; nothing changed */
    TREE_REFUSED, /* no such op can be: malformed, beyond a limit, of a later version, it changes a
                   * path twice, it names itself or a later op of its own log as a cause, or a
                   * lamport out of bounds (0, a jump, above TREE_LAMPORT_MAX); nothing changed */
    TREE_HELD_UP, /* a snapshot is being merged: no op of others is applied until it is */
};

struct tree_remote {
    enum tree_verdict verdict;
    struct dot dot; /* all but TREE_REFUSED */
    /* TREE_EARLY: an op that has to come right before this one: of a gap in its log the one before
     * it, whatever else is lacking; else the first of its contexts that the vector does not cover.
     */
    struct dot missing;
};

/* Applies an op that came from elsewhere if its turn has come: its sequence is the next of its
 * origin, and the vector covers all contexts. 0 with a verdict, or an error of the transaction,
 * which the caller aborts then: -ENOSPC, -EIO. An op under our own origin's name that we did not
 * make is TREE_FORKED, or TREE_REFUSED: nobody else writes that log (see tree_renew_origin()). */
[[nodiscard]] int tree_apply(const struct tree *tree, struct kv_txn *txn, struct bytes op,
                             struct tree_remote *ret_remote);

/* Many ops in one transaction, each as by tree_apply(): faster, since what they share is read and
 * written once. Until tree_apply_end() nothing else reads or changes the tree in that transaction.
 */
struct tree_batch;
[[nodiscard]] int tree_apply_begin(const struct tree *tree, struct kv_txn *txn,
                                   struct tree_batch **ret_batch);
/* After an error only tree_apply_drop() may follow. */
[[nodiscard]] int tree_apply_next(struct tree_batch *batch, struct bytes op,
                                  struct tree_remote *ret_remote);
/* Writes what is left, and takes the batch back whatever the answer is. */
[[nodiscard]] int tree_apply_end(struct tree_batch *batch);
/* Takes it back without that; the transaction is aborted then. NULL is allowed. */
void tree_apply_drop(struct tree_batch *batch);
CLEANUP_DEFINE(tree_apply_drop, struct tree_batch)

/* Appends the bytes of one op. -ENOENT: not kept (any more), or not applied yet. */
[[nodiscard]] int tree_op_read(const struct tree *tree, struct kv_txn *txn, const struct dot *dot,
                               struct buf *ret_bytes);

/* Ops that somebody else lacks, causes before effects. Each log is read from behind its `after_seq`
 * to its `through_seq`, or to where we are if that is less; logs are merged by the lamport of their
 * next op (an op's lamport is higher than those of all that it can know). */
struct tree_pull;
/* -EFBIG: more than TREE_WANT_LACKS_MAX. */
[[nodiscard]] int tree_pull_open(const struct tree *tree, struct kv_txn *txn,
                                 const struct tree_lack *lacks, size_t lacks_count,
                                 struct tree_pull **ret_pull);
/* The next op; `*ret_op` is borrowed until the next call. -ENOENT: no more; -ESTALE: an op that
 * would be next is forgotten here: a snapshot has to bring what it did. */
[[nodiscard]] int tree_pull_next(struct tree_pull *pull, struct dot *ret_dot, struct bytes *ret_op);
void tree_pull_close(struct tree_pull *pull);
CLEANUP_DEFINE(tree_pull_close, struct tree_pull)

#endif
