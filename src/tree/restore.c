/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "tree/change.h"
#include "tree/change_priv.h"
#include "tree/entries_priv.h"

/* A version that was found, and what it borrows. */
struct found {
    struct head head;
    bool is_past;
};

/* From the newest backwards: what is brought back was mostly there a while ago. */
static int find_past(const struct tree *tree, struct kv_txn *txn, struct bytes path,
                     uint32_t origin, uint64_t seq, struct found *ret_found)
{
    CLEANUP_HISTORY_WALK struct history_walk walk = {0};
    int err = history_walk_begin(tree, txn, path, &walk);
    while (!err) {
        uint64_t ended_ms = 0;
        struct head head = {0};
        err = history_walk_next(&walk, &ended_ms, &head);
        if (!err && head.origin == origin && head.version.dot.seq == seq) {
            *ret_found = (struct found){.head = head, .is_past = true};
            return 0;
        }
    }
    return err;
}

static int find_version(const struct tree *tree, struct kv_txn *txn, struct bytes path,
                        const struct entry_row *row, const struct dot *version,
                        struct found *ret_found)
{
    uint32_t origin = 0;
    const int err = origin_number(tree, txn, &version->origin, &origin);
    if (err) {
        return err;
    }
    for (size_t i = 0; i < row->heads_count; i++) {
        if (row->heads[i].origin == origin && row->heads[i].version.dot.seq == version->seq) {
            *ret_found = (struct found){.head = row->heads[i]};
            return 0;
        }
    }
    return find_past(tree, txn, path, origin, version->seq, ret_found);
}

/* Which heads go, or why the version can't be what is there. */
static int choose_faces(const struct found *found, const struct entry_row *row, bool is_hidden_file,
                        enum faces *ret_faces)
{
    const struct tree_version *version = &found->head.version;
    *ret_faces = is_hidden_file ? FACE_FILE : FACE_BOTH;
    /* A head is part of the tree, so whoever has its content keeps it; of the past only what is
     * held here is known to be anywhere. */
    if (found->is_past && version->kind == TREE_FILE && !found->head.is_held) {
        return -ESTALE;
    }
    if (version->kind == TREE_DIRECTORY) {
        return is_hidden_file ? -EEXIST : 0;
    }
    return row->child != 0 && !is_hidden_file ? -ENOTEMPTY : 0;
}

int tree_change_restore(const struct tree *tree, struct kv_txn *txn, struct bytes path,
                        const struct dot *version, struct dot *ret_dot)
{
    int err = path.size == 0 ? -EINVAL : path_check(path);
    if (err) {
        return err;
    }
    struct spot spot;
    CLEANUP_ENTRY_ROW struct entry_row row = {0};
    err = spot_find(tree, txn, NULL, path, &spot, &row);
    if (err && err != -ENOENT) {
        return err;
    }
    struct found found;
    enum faces faces = FACE_BOTH;
    err = find_version(tree, txn, spot.path, &row, version, &found);
    if (!err) {
        err = choose_faces(&found, &row, spot.is_hidden_file, &faces);
    }
    return err ? err : change_copy(tree, txn, &found.head.version, spot.path, &row, faces, ret_dot);
}
