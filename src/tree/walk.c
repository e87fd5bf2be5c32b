/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/codec.h"
#include "base/err.h"
#include "base/mem.h"
#include "tree/entries_priv.h"
#include "tree/tree.h"

/* A directory that the walk is in. */
struct level {
    uint64_t directory;
    size_t path_bytes; /* of the directory's own path */
    bool has_name;     /* the path goes on with the name told last in it */
};

struct tree_walk {
    const struct tree *tree;
    struct kv_txn *txn;
    struct buf path; /* told last */
    struct level *levels;
    size_t levels_count;
    size_t levels_capacity;
    struct tree_listed listed;
};

/* Goes into the directory whose path is the walk's path. */
static void push(struct tree_walk *walk, uint64_t directory)
{
    CHECK(walk->levels_count < TREE_WALK_DEPTH_MAX);
    if (walk->levels_count == walk->levels_capacity) {
        walk->levels_capacity = walk->levels_capacity ? 2 * walk->levels_capacity : 16;
        walk->levels = mem_resize_array(walk->levels, walk->levels_capacity, sizeof *walk->levels);
    }
    walk->levels[walk->levels_count++] = (struct level){
        .directory = directory,
        .path_bytes = walk->path.size,
    };
}

static void set_name(struct tree_walk *walk, struct level *level, struct bytes name)
{
    walk->path.size = level->path_bytes;
    if (walk->path.size > 0) {
        buf_add_byte(&walk->path, '/');
    }
    level->has_name = true;
    buf_add(&walk->path, name);
}

/* Rebuilds the levels of a walk that ended at `after`, which may have gone since. */
static int resume(struct tree_walk *walk, struct bytes top, struct bytes after)
{
    if (!path_is_within(after, top) || after.size == top.size) {
        return -EINVAL;
    }
    CLEANUP_WAY struct way way = {0};
    const size_t skip = top.size > 0 ? top.size + 1 : 0;
    struct bytes rest = BYTES(after.data + skip, after.size - skip);
    while (rest.size > 0) {
        struct level *level = &walk->levels[walk->levels_count - 1];
        set_name(walk, level, path_next(&rest));
        struct tree_entry entry;
        const int err = entry_find(walk->tree, walk->txn, &way, buf_bytes(&walk->path), &entry);
        if (err && err != -ENOENT && err != -ENOTDIR) {
            return err;
        }
        if (err || entry.directory == 0) {
            return 0;
        }
        push(walk, entry.directory);
    }
    return 0;
}

int tree_walk_open(const struct tree *tree, struct kv_txn *txn, struct bytes top,
                   struct bytes after, struct tree_walk **ret_walk)
{
    struct tree_entry entry;
    int err = tree_find(tree, txn, top, &entry);
    if (!err && entry.version.kind != TREE_DIRECTORY) {
        err = -ENOTDIR;
    }
    if (err) {
        return err;
    }
    struct tree_walk *walk = mem_alloc(sizeof *walk);
    walk->tree = tree;
    walk->txn = txn;
    buf_add(&walk->path, top);
    push(walk, entry.directory);
    if (after.size > 0) {
        err = resume(walk, top, after);
    }
    if (err) {
        tree_walk_close(walk);
        return err;
    }
    *ret_walk = walk;
    return 0;
}

int tree_walk_next(struct tree_walk *walk, struct bytes *ret_path, struct tree_entry *ret_entry)
{
    while (walk->levels_count > 0) {
        struct level *level = &walk->levels[walk->levels_count - 1];
        const size_t begin = level->path_bytes + (level->path_bytes > 0);
        const struct bytes after = level->has_name
                                       ? BYTES(walk->path.data + begin, walk->path.size - begin)
                                       : BYTES(NULL, 0);
        const int err =
            tree_list_next(walk->tree, walk->txn, level->directory, after, &walk->listed);
        if (err && err != -ENOENT) {
            return err;
        }
        if (err) {
            /* Back to the name of this directory in the one above. */
            walk->path.size = level->path_bytes;
            walk->levels_count--;
            continue;
        }
        set_name(walk, level, walk->listed.name);
        *ret_entry = walk->listed.entry;
        if (ret_entry->directory != 0) {
            push(walk, ret_entry->directory);
        }
        *ret_path = buf_bytes(&walk->path);
        return 0;
    }
    return -ENOENT;
}

void tree_walk_skip(struct tree_walk *walk)
{
    /* It is the last level then, and nothing in it was told. */
    if (walk->levels_count > 1 && !walk->levels[walk->levels_count - 1].has_name) {
        walk->levels_count--;
    }
}

void tree_walk_close(struct tree_walk *walk)
{
    if (!walk) {
        return;
    }
    buf_done(&walk->path);
    free(walk->levels);
    free(walk);
}

int tree_recompute(const struct tree *tree, struct kv_txn *txn,
                   uint8_t ret_fingerprint[TREE_FINGERPRINT_BYTES], uint64_t *ret_entries_count)
{
    struct tree_walk *walk = NULL;
    uint64_t sum[4] = {0};
    uint64_t count = 0;
    CLEANUP_WAY struct way way = {0};
    int err = tree_walk_open(tree, txn, BYTES(NULL, 0), BYTES(NULL, 0), &walk);
    while (!err) {
        struct bytes path;
        struct tree_entry entry;
        err = tree_walk_next(walk, &path, &entry);
        if (err) {
            break;
        }
        struct spot spot;
        CLEANUP_ENTRY_ROW struct entry_row row = {0};
        err = spot_find(tree, txn, &way, path, &spot, &row);
        struct head *directory;
        struct head *file;
        if (!err) {
            err = entry_shown(tree, txn, &row, &directory, &file);
        }
        if (err) {
            tree_walk_close(walk);
            return err == -ENOENT ? -EIO : err;
        }
        if (spot.is_hidden_file) {
            continue; /* all heads of that row were counted under its name */
        }
        for (size_t i = 0; i < row.heads_count; i++) {
            uint64_t part[4];
            fingerprint_of(path, &row.heads[i].version, part);
            fingerprint_add(sum, part);
        }
        count += row.heads_count > 0;
    }
    tree_walk_close(walk);
    if (err != -ENOENT) {
        return err;
    }
    for (int i = 0; i < 4; i++) {
        codec_put_le64(ret_fingerprint + 8 * i, sum[i]);
    }
    *ret_entries_count = count;
    return 0;
}

int tree_miscount(const struct tree *tree, struct kv_txn *txn, struct tree_miscount *ret_miscount)
{
    uint8_t fingerprint[TREE_FINGERPRINT_BYTES];
    uint64_t count = 0;
    struct tree_state state;
    int err = state_get(tree, txn, &state);
    if (!err) {
        err = tree_recompute(tree, txn, fingerprint, &count);
    }
    if (err) {
        return err;
    }
    struct tree_miscount miscount = {.entries = count - state.entries_count};
    for (int i = 0; i < 4; i++) {
        miscount.sum[i] = codec_get_le64(fingerprint + 8 * i);
    }
    fingerprint_subtract(miscount.sum, state.fingerprint);
    *ret_miscount = miscount;
    return 0;
}

bool tree_miscount_is_none(const struct tree_miscount *miscount)
{
    return (miscount->sum[0] | miscount->sum[1] | miscount->sum[2] | miscount->sum[3] |
            miscount->entries) == 0;
}

int tree_miscount_mend(const struct tree *tree, struct kv_txn *txn,
                       const struct tree_miscount *miscount)
{
    struct tree_state state;
    const int err = state_get(tree, txn, &state);
    if (err) {
        return err;
    }
    fingerprint_add(state.fingerprint, miscount->sum);
    state.entries_count += miscount->entries;
    return state_put(tree, txn, &state);
}
