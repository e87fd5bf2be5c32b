/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_RETIRE_PRIV_H
#define STORE_RETIRE_PRIV_H

/*
 * retire: the end of segments.
 */

#include <stddef.h>
#include <stdint.h>

#include "store/index_priv.h"

/* Ends appends to segments that are mostly dead, cuts the tails of ended ones, and unlinks those
 * in which nothing lives. */
[[nodiscard]] int segments_retire(struct store *store);

/* Segments in the order of their numbers, from `from` on, out of TABLE_SEGMENTS or TABLE_OPEN. */
#define SEGMENTS_BATCH ((size_t)256)
struct segment_entry {
    uint64_t number;
    struct segment_row row;
};
[[nodiscard]] int segments_list(struct store *store, enum index_table table, uint64_t from,
                                struct segment_entry ret_entries[SEGMENTS_BATCH],
                                size_t *ret_count);

#endif
