/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_FS_DELETE_PRIV_H
#define HTTP_FS_DELETE_PRIV_H

/* fs_delete: {"op":"delete"}, many paths at once, as a change of the tree. */

#include <jansson.h>

#include "base/buf.h"
#include "tree/change.h"

struct fs_delete {
    struct tree_delete *deletions; /* their paths are in `paths` */
    size_t deletions_count;
    struct buf paths;
};

/* Paths are names below `top`. -EPROTO: it makes no sense; -EINVAL, -EILSEQ, -ENAMETOOLONG: a path.
 * fs_delete_done() is called in any case. */
[[nodiscard]] int fs_delete_read(const json_t *body, struct bytes top, struct fs_delete *deletion);
void fs_delete_done(struct fs_delete *deletion);

#endif
