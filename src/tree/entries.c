/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Entries are keyed by (number of the directory, name), so a path costs one lookup a name, a
 * listing is one range of the table, and keys stay short however deep the path. The numbers are
 * this database's own; two nodes with the same tree have different ones.
 */

#include "tree/entries_priv.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"

#define DIRECTORY_MODE 0755

bool row_is_directory(const struct entry_row *row)
{
    bool is_directory = row->child != 0;
    for (size_t i = 0; i < row->heads_count; i++) {
        is_directory = is_directory || row->heads[i].version.kind == TREE_DIRECTORY;
    }
    return is_directory;
}

bool row_has_file(const struct entry_row *row)
{
    bool has_file = false;
    for (size_t i = 0; i < row->heads_count; i++) {
        has_file = has_file || row->heads[i].version.kind != TREE_DIRECTORY;
    }
    return has_file;
}

/* NAME of NAME~file; empty if it does not end so. */
static struct bytes hidden_name(struct bytes name)
{
    const size_t suffix = sizeof HIDDEN_SUFFIX - 1;
    if (name.size <= suffix || memcmp(name.data + name.size - suffix, HIDDEN_SUFFIX, suffix) != 0) {
        return BYTES(NULL, 0);
    }
    return BYTES(name.data, name.size - suffix);
}

/* The last name: its own row, or that of the directory that hides a file of this name. */
static int find_last(const struct tree *tree, struct kv_txn *txn, struct spot *spot,
                     struct entry_row *ret_row)
{
    int err = entry_get(tree, txn, spot->directory, spot->name, ret_row);
    const struct bytes hidden = hidden_name(spot->name);
    if (err != -ENOENT || hidden.size == 0) {
        return err;
    }
    err = entry_get(tree, txn, spot->directory, hidden, ret_row);
    if (!err && row_is_directory(ret_row) && row_has_file(ret_row)) {
        spot->path.size -= spot->name.size - hidden.size;
        spot->name = hidden;
        spot->is_hidden_file = true;
        return 0;
    }
    if (!err) {
        entry_row_done(ret_row);
        ret_row->child = 0;
        err = -ENOENT;
    }
    return err;
}

/* A name on the way that has no row: a hidden file's name is no directory either. */
static int find_missing(const struct tree *tree, struct kv_txn *txn, uint64_t directory,
                        struct bytes name, bool *ret_blocked)
{
    const struct bytes hidden = hidden_name(name);
    if (hidden.size == 0) {
        return 0;
    }
    CLEANUP_ENTRY_ROW struct entry_row row = {0};
    const int err = entry_get(tree, txn, directory, hidden, &row);
    *ret_blocked = !err && row_is_directory(&row) && row_has_file(&row);
    return err == -ENOENT ? 0 : err;
}

int spot_find(const struct tree *tree, struct kv_txn *txn, struct way *way, struct bytes path,
              struct spot *ret_spot, struct entry_row *ret_row)
{
    struct bytes rest;
    struct spot spot = {.path = path};
    spot.directory = way_back(way, path, &rest);
    spot.name = path_next(&rest);
    while (rest.size > 0) {
        int err = entry_get(tree, txn, spot.directory, spot.name, ret_row);
        bool blocked = !err && !row_is_directory(ret_row);
        const uint64_t below = err ? 0 : ret_row->child;
        entry_row_done(ret_row);
        ret_row->child = 0;
        if (err == -ENOENT) {
            err = find_missing(tree, txn, spot.directory, spot.name, &blocked);
        }
        if (err || blocked) {
            return err ? err : -ENOTDIR;
        }
        spot.directory = below;
        if (spot.directory == 0) {
            struct bytes parent;
            path_split(path, &parent, &spot.name);
            *ret_spot = spot;
            return -ENOENT;
        }
        way_enter(way, path, rest, below);
        spot.name = path_next(&rest);
    }
    const int err = find_last(tree, txn, &spot, ret_row);
    *ret_spot = spot;
    return err;
}

int row_show(const struct tree *tree, struct kv_txn *txn, struct entry_row *row,
             bool is_hidden_file, struct tree_entry *ret_entry)
{
    struct head *directory = NULL;
    struct head *file = NULL;
    const int err = entry_shown(tree, txn, row, &directory, &file);
    if (err) {
        return err;
    }
    struct tree_entry entry = {.heads_count = (uint32_t)row->heads_count};
    if (row_is_directory(row) && !is_hidden_file) {
        entry.directory = row->child;
        entry.is_explicit = directory != NULL;
        entry.version = directory
                            ? directory->version
                            : (struct tree_version){.kind = TREE_DIRECTORY, .mode = DIRECTORY_MODE};
    } else if (file) {
        entry.is_explicit = true;
        entry.is_hidden_file = is_hidden_file;
        entry.version = file->version;
    } else {
        return -ENOENT;
    }
    *ret_entry = entry;
    return 0;
}

int entry_find(const struct tree *tree, struct kv_txn *txn, struct way *way, struct bytes path,
               struct tree_entry *ret_entry)
{
    if (path.size == 0) {
        *ret_entry = (struct tree_entry){
            .version = {.kind = TREE_DIRECTORY, .mode = DIRECTORY_MODE},
            .directory = DIRECTORY_ROOT,
        };
        return 0;
    }
    struct spot spot;
    CLEANUP_ENTRY_ROW struct entry_row row = {0};
    const int err = spot_find(tree, txn, way, path, &spot, &row);
    return err ? err : row_show(tree, txn, &row, spot.is_hidden_file, ret_entry);
}

int tree_find(const struct tree *tree, struct kv_txn *txn, struct bytes path,
              struct tree_entry *ret_entry)
{
    return entry_find(tree, txn, NULL, path, ret_entry);
}

/* Fills what one row shows: the plain name, or the hidden file with `is_hidden_file`. */
static int fill_listed(const struct tree *tree, struct kv_txn *txn, struct bytes name,
                       struct entry_row *row, bool is_hidden_file, struct tree_listed *ret_listed)
{
    const int err = row_show(tree, txn, row, is_hidden_file, &ret_listed->entry);
    if (err) {
        return err;
    }
    ret_listed->name = name;
    return 0;
}

/* After NAME comes its hidden file, unless a row of that very name exists, which is told in its own
 * place; -ENOENT: none. */
static int list_hidden(const struct tree *tree, struct kv_txn *txn, uint64_t directory,
                       struct bytes name, struct tree_listed *ret_listed)
{
    CLEANUP_ENTRY_ROW struct entry_row row = {0};
    int err = entry_get(tree, txn, directory, name, &row);
    if (err) {
        return err;
    }
    if (!row_is_directory(&row) || !row_has_file(&row)) {
        return -ENOENT;
    }
    /* `name` may stand in the caller's ret_listed, which is not written before it was read. */
    const size_t suffix = sizeof HIDDEN_SUFFIX - 1;
    uint8_t shown[PATH_NAME_BYTES_MAX + sizeof HIDDEN_SUFFIX];
    memcpy(shown, name.data, name.size);
    memcpy(shown + name.size, HIDDEN_SUFFIX, suffix);
    const struct bytes shown_name = BYTES(shown, name.size + suffix);
    if (shown_name.size > PATH_NAME_BYTES_MAX) {
        return -ENOENT;
    }
    CLEANUP_ENTRY_ROW struct entry_row same = {0};
    err = entry_get(tree, txn, directory, shown_name, &same);
    if (err != -ENOENT) {
        return err ? err : -ENOENT;
    }
    memcpy(ret_listed->buffer, shown, shown_name.size);
    const struct bytes kept = BYTES((const uint8_t *)ret_listed->buffer, shown_name.size);
    return fill_listed(tree, txn, kept, &row, true, ret_listed);
}

/* The row behind `after`. */
static int list_row(const struct tree *tree, struct kv_txn *txn, struct kv_cursor *cursor,
                    uint64_t directory, struct bytes after, struct tree_listed *ret_listed)
{
    uint8_t key_bytes[ENTRY_KEY_BYTES_MAX + 1];
    /* No name is longer; what comes after a longer one comes after its beginning. */
    after.size = after.size < PATH_NAME_BYTES_MAX ? after.size : PATH_NAME_BYTES_MAX;
    struct bytes from = entry_key(directory, after, key_bytes);
    if (after.size > 0) {
        key_bytes[from.size++] = 0; /* the least key behind it */
    }
    struct bytes key;
    struct bytes value;
    int err = kv_seek(cursor, from, &key, &value);
    if (err) {
        return err;
    }
    if (key.size < 9) {
        return -EIO;
    }
    if (memcmp(key.data, key_bytes, 8) != 0) {
        return -ENOENT;
    }
    CLEANUP_ENTRY_ROW struct entry_row row = {0};
    err = entry_decode(value, &row);
    return err ? err
               : fill_listed(tree, txn, BYTES(key.data + 8, key.size - 8), &row, false, ret_listed);
}

static int list_next(const struct tree *tree, struct kv_txn *txn, struct kv_cursor *cursor,
                     uint64_t directory, struct bytes after, struct tree_listed *ret_listed)
{
    if (after.size > 0) {
        const int err = list_hidden(tree, txn, directory, after, ret_listed);
        if (err != -ENOENT) {
            return err;
        }
    }
    /* A name that only shows a hidden file has no row: the listing goes on behind its directory. */
    const struct bytes hidden = hidden_name(after);
    if (hidden.size > 0) {
        CLEANUP_ENTRY_ROW struct entry_row row = {0};
        const int err = entry_get(tree, txn, directory, after, &row);
        if (err == -ENOENT) {
            after = hidden;
        } else if (err) {
            return err;
        }
    }
    return list_row(tree, txn, cursor, directory, after, ret_listed);
}

int tree_list_next(const struct tree *tree, struct kv_txn *txn, uint64_t directory,
                   struct bytes after, struct tree_listed *ret_listed)
{
    if (directory == 0) {
        return -ENOENT; /* nothing lives below */
    }
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    const int err = kv_cursor_open(txn, tree_table(tree, TREE_ENTRIES), &cursor);
    return err ? err : list_next(tree, txn, cursor, directory, after, ret_listed);
}
