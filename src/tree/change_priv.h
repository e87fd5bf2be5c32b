/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_CHANGE_PRIV_H
#define TREE_CHANGE_PRIV_H

#include "tree/rows_priv.h"

/* Which heads of a row a change replaces. */
enum faces { FACE_FILE = 1, FACE_DIRECTORY = 2, FACE_BOTH = 3 };

/* Makes one op: `version`, which the tree has or had somewhere, becomes a new one at `path`, in
 * place of what `row`, that of the path, has of `faces`. Its content need not be known here. */
[[nodiscard]] int change_copy(const struct tree *tree, struct kv_txn *txn,
                              const struct tree_version *version, struct bytes path,
                              const struct entry_row *row, enum faces faces, struct dot *ret_dot);

#endif
