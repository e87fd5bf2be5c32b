/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/row_walk_priv.h"

#include <stdlib.h>

#include "base/codec.h"
#include "base/err.h"
#include "base/mem.h"

/* Into the directory whose path is the walk's path. */
static void push(struct row_walk *walk, uint64_t directory)
{
    CHECK(walk->levels_count < TREE_WALK_DEPTH_MAX);
    if (walk->levels_count == walk->levels_capacity) {
        walk->levels_capacity = walk->levels_capacity ? 2 * walk->levels_capacity : 16;
        walk->levels = mem_resize_array(walk->levels, walk->levels_capacity, sizeof *walk->levels);
    }
    walk->levels[walk->levels_count++] = (struct row_level){directory, walk->path.size};
}

static struct row_level *top(const struct row_walk *walk)
{
    return &walk->levels[walk->levels_count - 1];
}

static void set_name(struct row_walk *walk, struct bytes name)
{
    walk->path.size = top(walk)->path_bytes;
    if (walk->path.size > 0) {
        buf_add_byte(&walk->path, '/');
    }
    buf_add(&walk->path, name);
}

uint64_t row_walk_directory(const struct row_walk *walk)
{
    return top(walk)->directory;
}

struct bytes row_walk_name(const struct row_walk *walk)
{
    const size_t begin = top(walk)->path_bytes;
    const size_t skip = begin > 0 && walk->path.size > begin; /* the '/' */
    return BYTES(walk->path.data + begin + skip, walk->path.size - begin - skip);
}

int row_walk_begin(struct row_walk *walk, const struct tree *tree, struct kv_txn *txn,
                   struct bytes after)
{
    *walk = (struct row_walk){.tree = tree, .txn = txn};
    walk->row.heads = walk->row.few;
    int err = kv_cursor_open(txn, tree_table(tree, TREE_ENTRIES), &walk->cursor);
    (void)buf_extend(&walk->path, 1);
    buf_clear(&walk->path);
    push(walk, DIRECTORY_ROOT);
    while (!err && after.size > 0) {
        if (walk->child != 0) {
            push(walk, walk->child);
        }
        set_name(walk, path_next(&after));
        CLEANUP_ENTRY_ROW struct entry_row row = {0};
        err = entry_get(tree, txn, row_walk_directory(walk), row_walk_name(walk), &row);
        walk->child = row.child;
        if (row.child == 0) {
            break;
        }
    }
    return err == -ENOENT ? 0 : err;
}

void row_walk_done(struct row_walk *walk)
{
    kv_cursor_close(walk->cursor);
    entry_row_done(&walk->row);
    buf_done(&walk->path);
    buf_done(&walk->value);
    free(walk->levels);
}

/* The row behind the walk's path in the same directory, with heads or not. -ENOENT: no more. */
static int next_in_directory(struct row_walk *walk)
{
    const uint64_t directory = row_walk_directory(walk);
    struct bytes key;
    struct bytes value;
    int err;
    if (walk->is_at_row && walk->changes == kv_changes(walk->txn)) {
        err = kv_next(walk->cursor, &key, &value);
    } else {
        uint8_t bytes[ENTRY_KEY_BYTES_MAX + 1];
        struct bytes from = entry_key(directory, row_walk_name(walk), bytes);
        if (from.size > 8) {
            bytes[from.size++] = 0; /* the least key behind it */
        }
        err = kv_seek(walk->cursor, from, &key, &value);
    }
    walk->is_at_row = false;
    if (err) {
        return err;
    }
    if (key.size < 9 || key.size > ENTRY_KEY_BYTES_MAX) {
        return -EIO;
    }
    if (codec_get_be64(key.data) != directory) {
        return -ENOENT;
    }
    set_name(walk, BYTES(key.data + 8, key.size - 8));
    walk->is_at_row = true;
    walk->changes = kv_changes(walk->txn);
    entry_row_done(&walk->row);
    buf_clear(&walk->value);
    buf_add(&walk->value, value);
    err = entry_decode(buf_bytes(&walk->value), &walk->row);
    walk->child = err ? 0 : walk->row.child;
    return err;
}

int row_walk_next(struct row_walk *walk)
{
    while (walk->levels_count > 0) {
        if (walk->child != 0) {
            push(walk, walk->child);
            walk->child = 0;
            walk->is_at_row = false;
        }
        const int err = next_in_directory(walk);
        if (err == -ENOENT) {
            /* Back to the name of this directory in the one above. */
            walk->path.size = top(walk)->path_bytes;
            walk->levels_count--;
        } else if (err || walk->row.heads_count > 0) {
            return err;
        }
    }
    return -ENOENT;
}
