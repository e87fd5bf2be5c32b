/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/place_priv.h"

#include "base/err.h"

static int write_count(struct place *place)
{
    if (!place->is_count_new) {
        return 0;
    }
    place->is_count_new = false;
    return directory_put(place->tree, place->txn, place->counted, &place->counted_row);
}

/* Keeps the row of another directory: the one in the table, or `row`. */
static int turn_count(struct place *place, uint64_t directory, const struct directory_row *row)
{
    if (place->counted == directory) {
        return 0;
    }
    int err = write_count(place);
    place->counted = 0;
    if (row) {
        place->counted_row = *row;
        place->is_count_new = true;
    } else if (!err) {
        err = directory_get(place->tree, place->txn, directory, &place->counted_row);
    }
    if (err) {
        return err == -ENOENT ? -EIO : err;
    }
    place->counted = directory;
    return place->tree->forgets ? write_count(place) : 0;
}

/* A directory without rows goes, and its name's row if nothing else is in that. *ret_went: so it
 * was, *ret_parent has a row less. */
static int remove_directory(struct place *place, uint64_t directory, uint64_t *ret_parent,
                            bool *ret_went)
{
    const struct directory_row *row = &place->counted_row;
    const struct bytes name = BYTES((const uint8_t *)row->name, row->name_bytes);
    place->counted = 0;
    place->is_count_new = false;
    way_leave(&place->way, directory);
    CLEANUP_ENTRY_ROW struct entry_row entry = {0};
    int err = directory_remove(place->tree, place->txn, directory);
    if (!err) {
        err = entry_get(place->tree, place->txn, row->parent, name, &entry);
    }
    if (err) {
        return err == -ENOENT ? -EIO : err;
    }
    entry.child = 0;
    *ret_parent = row->parent;
    *ret_went = entry.heads_count == 0;
    return *ret_went ? entry_remove(place->tree, place->txn, row->parent, name)
                     : entry_put(place->tree, place->txn, row->parent, name, &entry);
}

/* One row more (+1) or less in a directory. At 0 the directory goes, and so on upwards. */
static int count_rows(struct place *place, uint64_t directory, int by)
{
    for (;;) {
        int err = turn_count(place, directory, NULL);
        if (err) {
            return err;
        }
        place->counted_row.entries_count += (uint64_t)by;
        place->is_count_new = true;
        if (place->counted_row.entries_count > 0 || directory == DIRECTORY_ROOT) {
            return place->tree->forgets ? write_count(place) : 0;
        }
        bool went = false;
        err = remove_directory(place, directory, &directory, &went);
        if (err || !went) {
            return err;
        }
        by = -1;
    }
}

/* The directory below `name`, made if it is missing. */
static int enter_directory(struct place *place, uint64_t *directory, struct bytes name)
{
    CLEANUP_ENTRY_ROW struct entry_row entry = {0};
    int err = entry_get(place->tree, place->txn, *directory, name, &entry);
    const bool is_new = err == -ENOENT;
    if (err && !is_new) {
        return err;
    }
    if (entry.child == 0) {
        struct directory_row row = {.parent = *directory, .name_bytes = name.size};
        memcpy(row.name, name.data, name.size);
        entry.child = place->state->next_directory++;
        /* The row first: what it borrows ends with the next change. */
        err = entry_put(place->tree, place->txn, *directory, name, &entry);
        if (!err && is_new) {
            err = count_rows(place, *directory, 1);
        }
        if (!err) {
            err = turn_count(place, entry.child, &row);
        }
        if (err) {
            return err;
        }
    }
    *directory = entry.child;
    return 0;
}

int place_find(struct place *place, struct bytes path, bool makes, uint64_t *ret_directory,
               struct bytes *ret_name)
{
    struct bytes rest;
    uint64_t directory = way_back(&place->way, path, &rest);
    struct bytes name = path_next(&rest);
    while (rest.size > 0) {
        int err = 0;
        if (makes) {
            err = enter_directory(place, &directory, name);
        } else {
            CLEANUP_ENTRY_ROW struct entry_row entry = {0};
            err = entry_get(place->tree, place->txn, directory, name, &entry);
            directory = entry.child;
            err = !err && directory == 0 ? -ENOENT : err;
        }
        if (err) {
            return err;
        }
        way_enter(&place->way, path, rest, directory);
        name = path_next(&rest);
    }
    *ret_directory = directory;
    *ret_name = name;
    return 0;
}

int place_settle(struct place *place, uint64_t directory, struct bytes name,
                 const struct entry_row *row, struct place_before before)
{
    const bool has_heads = row->heads_count > 0;
    place->state->entries_count += (uint64_t)has_heads - (uint64_t)before.had_heads;
    if (has_heads || row->child != 0) {
        const int err = before.is_last ? entry_append(place->tree, place->txn, directory, name, row)
                                       : entry_put(place->tree, place->txn, directory, name, row);
        return err || before.existed ? err : count_rows(place, directory, 1);
    }
    if (!before.existed) {
        return 0;
    }
    const int err = entry_remove(place->tree, place->txn, directory, name);
    return err ? err : count_rows(place, directory, -1);
}

int place_end(struct place *place)
{
    return write_count(place);
}

void place_done(struct place *place)
{
    way_done(&place->way);
}
