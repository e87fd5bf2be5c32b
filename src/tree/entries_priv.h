/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_ENTRIES_PRIV_H
#define TREE_ENTRIES_PRIV_H

/*
 * entries: from paths to rows.
 */

#include "tree/rows_priv.h"
#include "tree/way_priv.h"

#define HIDDEN_SUFFIX "~file"

/* Where a path leads: the row of its last name, and which of the row's faces it means. */
struct spot {
    uint64_t directory;  /* 0: a directory on the way does not exist, the row can't either */
    struct bytes name;   /* of the row: without ~file if that only hides a file */
    struct bytes path;   /* of the row, a part of the path that was asked for */
    bool is_hidden_file; /* the path is NAME~file and means the file under a directory NAME */
};

/* Finds the row of `path` (not the root), there or not: -ENOENT with a filled spot if there is no
 * row, then `ret_row` is empty. -ENOTDIR: a name on the way is a file and no directory; the spot is
 * not filled. The caller gives `ret_row` to entry_row_done(). `way` may be NULL: for one path. */
[[nodiscard]] int spot_find(const struct tree *tree, struct kv_txn *txn, struct way *way,
                            struct bytes path, struct spot *ret_spot, struct entry_row *ret_row);

/* tree_find() for paths that come one after the other. */
[[nodiscard]] int entry_find(const struct tree *tree, struct kv_txn *txn, struct way *way,
                             struct bytes path, struct tree_entry *ret_entry);

/* What a row shows under its name, or under NAME~file. -ENOENT: nothing. */
[[nodiscard]] int row_show(const struct tree *tree, struct kv_txn *txn, struct entry_row *row,
                           bool is_hidden_file, struct tree_entry *ret_entry);

/* True if the row has a directory: one that was made, or something that lives below. */
bool row_is_directory(const struct entry_row *row);
bool row_has_file(const struct entry_row *row);

#endif
