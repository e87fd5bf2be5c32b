/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_ROW_WALK_PRIV_H
#define TREE_ROW_WALK_PRIV_H

/*
 * row_walk: the rows that have heads, in the order of path_compare(). Unlike tree_walk it tells
 * rows, with all their heads, and not what they show.
 */

#include "base/buf.h"
#include "tree/rows_priv.h"

struct row_level {
    uint64_t directory;
    size_t path_bytes; /* of the directory's own path */
};

/* Changes of the tree in the same transaction are allowed at the paths told so far and before them;
 * what was told last outlives them. */
struct row_walk {
    const struct tree *tree;
    struct kv_txn *txn;
    struct kv_cursor *cursor;
    uint64_t changes; /* of the transaction when the cursor was moved last */
    bool is_at_row;   /* so the cursor is at the row that was told last */
    struct buf path;  /* told last */
    struct buf value; /* its row's bytes */
    uint64_t child;   /* directory below it, not walked yet; 0: none */
    struct row_level *levels;
    size_t levels_count;
    size_t levels_capacity;
    struct entry_row row;
};

/* Before the first row, or (`after` is not empty) behind the path `after`, which need not be there.
 * A zeroed walk may be given to row_walk_done(). */
[[nodiscard]] int row_walk_begin(struct row_walk *walk, const struct tree *tree, struct kv_txn *txn,
                                 struct bytes after);
void row_walk_done(struct row_walk *walk);
#define CLEANUP_ROW_WALK __attribute__((cleanup(row_walk_done)))

/* The next row, in walk->path and walk->row. -ENOENT: no more. */
[[nodiscard]] int row_walk_next(struct row_walk *walk);

/* Where the row that was told last is. */
uint64_t row_walk_directory(const struct row_walk *walk);
struct bytes row_walk_name(const struct row_walk *walk);

#endif
