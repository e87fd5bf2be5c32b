/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_PLACE_PRIV_H
#define TREE_PLACE_PRIV_H

/*
 * place: the places of rows: the directories on the way to a row are made when it comes, and go
 * when the last row below them has gone.
 *
 * Directories exist as long as a row lives in them: the row of a directory counts its rows, the
 * first creates it, the last takes it away, upwards as far as that goes.
 *
 * Changes one after the other mostly follow each other as the rows of the table do. So the way to
 * the last path is kept, and the row of the directory that was counted last, which is written when
 * another one is counted or the place ends: a change costs the same however deep its path is.
 */

#include "tree/rows_priv.h"
#include "tree/way_priv.h"

/* For one transaction; zeroed but for the first three. Nothing else changes rows of entries or
 * directories meanwhile. */
struct place {
    const struct tree *tree;
    struct kv_txn *txn;
    struct tree_state *state; /* next_directory and entries_count are counted in it */
    struct way way;
    uint64_t counted; /* directory whose row is below; 0: none */
    bool is_count_new;
    struct directory_row counted_row;
};

/* The directory that the row of `path` is in, and its name there. -ENOENT: it does not exist, and
 * is not made without `makes`. */
[[nodiscard]] int place_find(struct place *place, struct bytes path, bool makes,
                             uint64_t *ret_directory, struct bytes *ret_name);

/* How a row was, before it was changed. */
struct place_before {
    bool existed;
    bool had_heads;
    bool is_last; /* it did not exist, and will probably be the last of its table */
};
/* Writes the row, or takes it away if nothing is left in it, and keeps the counts. */
[[nodiscard]] int place_settle(struct place *place, uint64_t directory, struct bytes name,
                               const struct entry_row *row, struct place_before before);

/* Writes what is left. */
[[nodiscard]] int place_end(struct place *place);
void place_done(struct place *place);
#define CLEANUP_PLACE __attribute__((cleanup(place_done)))

#endif
