/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_SNAPSHOT_H
#define TREE_SNAPSHOT_H

/*
 * snapshot: a whole tree as bytes, and merging it into another, for a node that lacks more than the
 * logs of others still hold.
 *
 * Four rules keep it from diverging or bringing back what was deleted; each is needed:
 *
 *   1. It is one consistent view: entries and vector of one transaction.
 *   2. The receiver has all of it before it merges, in steps, under a mark that is kept on disk;
 *      until the mark is gone it applies no op of others (tree_apply() says TREE_HELD_UP). Local
 *      changes go on.
 *   3. Nor does it hand out a snapshot meanwhile.
 *   4. A head that the receiver's vector covers and that it lacks is gone, and is left out; any
 *      other is added. A head that the receiver has and the snapshot lacks, and whose dot the
 *      snapshot's vector covers, is removed. At the end the vector is raised to the maximum of
 *      both and the mark cleared, in one transaction.
 *
 * A local change during the merge may replace a head that the vector does not cover yet. Its dot is
 * kept in a table of its own until the vector covers it, so that neither another try of the merge
 * nor a late op brings it back. The snapshot has the rows of that table, too: they are a part of
 * what a tree knows to be gone.
 */

#include "tree/tree.h"
#include "tree/vector.h"

/* Bytes of one record at most: a path with TREE_OP_CONTEXT_MAX heads. Beyond: -EFBIG. */
#define TREE_SNAPSHOT_RECORD_BYTES_MAX ((size_t)64 * 1024 * 1024)

struct tree_snapshot_info {
    uint64_t bytes;
    uint64_t entries_count;
    uint64_t origins_count;
};

/* Writes the tree as of `txn` by calls of `write`, whose error ends it. -EBUSY: a merge is under
 * way here (rule 3). The format is described in docs/TREE-FORMAT.md. */
[[nodiscard]] int tree_snapshot_write(const struct tree *tree, struct kv_txn *txn,
                                      int (*write)(void *context, struct bytes bytes),
                                      void *context, struct tree_snapshot_info *ret_info);

/* A snapshot that is here whole. */
struct tree_snapshot_source {
    /* Exactly `size` bytes at `offset`. 0, -EIO. */
    int (*read)(void *context, uint64_t offset, void *ret_bytes, size_t size);
    void *context;
    uint64_t bytes;
};

enum tree_merge_mode {
    /* The rules above. */
    TREE_MERGE_NORMAL = 1,
    /* Vectors are equal and trees are not, which must not be: whatever either has stays, so that
     * nothing is lost and all come to the same, but for versions that ops of ours which the
     * snapshot does not know have replaced, and those that ops will bring. Of two contents of
     * one version the one that its op made stays, or if that is not kept, on all sides the same.
     * The vector is left as it is: raised, it would skip ops that take away what this side has. */
    TREE_MERGE_UNION = 2,
};

struct tree_merge_options {
    struct id snapshot; /* a name for it: SHA-256 of its bytes */
    enum tree_merge_mode mode;
};

/* What a tree knows of a merge under way. */
struct tree_merge_state {
    struct tree_merge_options options;
    uint64_t offset_bytes; /* merged so far */
};
/* -ENOENT: none. */
[[nodiscard]] int tree_merge_state(const struct tree *tree, struct kv_txn *txn,
                                   struct tree_merge_state *ret_state);

/* Checks the whole file: form, order, and the checksum at its end, without a transaction. -EPROTO:
 * damaged; -EPROTONOSUPPORT: of a later version; -EIO. */
[[nodiscard]] int tree_snapshot_check(const struct tree_snapshot_source *source,
                                      struct tree_snapshot_info *ret_info);

/* A snapshot that was checked, opened for merging: its vector is kept in memory (56 bytes for each
 * origin), and where the next step begins. One at a time, by one thread. */
struct tree_snapshot;
[[nodiscard]] int tree_snapshot_open(const struct tree_snapshot_source *source,
                                     struct tree_snapshot **ret_snapshot);
void tree_snapshot_close(struct tree_snapshot *snapshot);
CLEANUP_DEFINE(tree_snapshot_close, struct tree_snapshot)

/* Sets the mark, and raises the lamport to the snapshot's, so that local changes from now on come
 * after what it brings. If there is a mark for the same snapshot and mode, the merge goes on where
 * it was; for another, this one begins anew. -EPROTO: a lamport above TREE_LAMPORT_MAX,
 * or ops of the log that local changes go to that were never made.
 * TREE_MERGE_UNION: -EAGAIN if ops that the snapshot's vector does not cover
 * are not kept here any more, or name a million versions: a newer snapshot is needed. */
[[nodiscard]] int tree_merge_begin(const struct tree *tree, struct kv_txn *txn,
                                   struct tree_snapshot *snapshot,
                                   const struct tree_merge_options *options);

/* Merges some `records_count` records, or rows that no record is for; in the last step raises the
 * vector and clears the mark. The step belongs to its transaction: if that is aborted, also for an
 * error of this, tree_merge_begin() finds where to go on. Feed: a gap at the beginning, then what
 * changed (tree/feed.h). -ESTALE: the mark is not of this snapshot, tree_merge_begin() comes first;
 * -EAGAIN as there; -EPROTO, -EIO: the file is not what was checked. */
[[nodiscard]] int tree_merge_step(const struct tree *tree, struct kv_txn *txn,
                                  struct tree_snapshot *snapshot, size_t records_count,
                                  bool *ret_done);

#endif
