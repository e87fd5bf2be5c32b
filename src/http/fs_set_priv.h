/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_FS_SET_PRIV_H
#define HTTP_FS_SET_PRIV_H

/* fs_set: {"op":"set"} as a change of the tree. */

#include <jansson.h>

#include "base/buf.h"
#include "tree/change.h"

struct fs_set {
    struct tree_set set; /* without its path; names are borrowed from the body, values from here */
    struct tree_set_attribute *changes;
    uint8_t **values;
    size_t values_count;
};

/* set->set.mtime_ns is that of now. -EPROTO: it makes no sense; -EFBIG: more attributes than an
 * entry may have. fs_set_done() is called in any case. */
[[nodiscard]] int fs_set_read(const json_t *body, struct fs_set *set);
void fs_set_done(struct fs_set *set);

#endif
