/* SPDX-License-Identifier: Apache-2.0 */

/* What is at a path stays, and gets another mode, time or attributes: a new version of it. */

#include "base/buf.h"
#include "base/err.h"
#include "tree/change.h"
#include "tree/change_priv.h"
#include "tree/entries_priv.h"
#include "wire/fields.h"

/* Adds `attribute` to a list in the form of an op. -EFBIG: more than an entry may have. */
static int add_attribute(struct buf *list, const struct tree_attribute *attribute, size_t *count)
{
    if (++*count > TREE_ATTRIBUTES_MAX || attribute->name.size > TREE_ATTRIBUTE_NAME_BYTES_MAX ||
        list->size + attribute->name.size + attribute->value.size > TREE_ATTRIBUTE_BYTES_MAX) {
        return -EFBIG;
    }
    field_put_string(list, attribute->name);
    field_put_string(list, attribute->value);
    return 0;
}

/* Both are in ascending order, and so is what comes out. */
static int merge(struct bytes old, const struct tree_set *set, struct buf *ret_list)
{
    struct tree_attribute attribute;
    bool has = tree_attribute_next(&old, &attribute);
    size_t count = 0;
    int err = 0;
    for (size_t i = 0; !err && (has || i < set->changes_count);) {
        const struct tree_set_attribute *change = i < set->changes_count ? &set->changes[i] : NULL;
        const int order = !has      ? 1
                          : !change ? -1
                                    : bytes_compare(attribute.name, change->attribute.name);
        if (order < 0) {
            err = add_attribute(ret_list, &attribute, &count);
        } else if (change && !change->is_removed) {
            err = add_attribute(ret_list, &change->attribute, &count);
        }
        has = order <= 0 ? tree_attribute_next(&old, &attribute) : has;
        i += order >= 0;
    }
    return err;
}

int tree_change_set(const struct tree *tree, struct kv_txn *txn, const struct tree_set *set,
                    struct dot *ret_dot)
{
    int err = set->path.size == 0 ? -EINVAL : path_check(set->path);
    if (err) {
        return err;
    }
    struct spot spot;
    struct tree_entry entry;
    CLEANUP_ENTRY_ROW struct entry_row row = {0};
    CLEANUP_BUF struct buf attributes = BUF_INIT;
    err = spot_find(tree, txn, NULL, set->path, &spot, &row);
    if (!err) {
        err = row_show(tree, txn, &row, spot.is_hidden_file, &entry);
    }
    if (!err) {
        err = merge(entry.version.attributes, set, &attributes);
    }
    if (err) {
        return err;
    }
    struct tree_version version = entry.version;
    version.attributes = buf_bytes(&attributes);
    version.mode = set->has_mode ? set->mode : version.mode;
    version.mtime_ns = set->has_mtime || !entry.is_explicit ? set->mtime_ns : version.mtime_ns;
    const enum faces face = version.kind == TREE_DIRECTORY ? FACE_DIRECTORY : FACE_FILE;
    return change_copy(tree, txn, &version, spot.path, &row, face, ret_dot);
}
