/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_ARRIVALS_PRIV_H
#define STORE_ARRIVALS_PRIV_H

/*
 * arrivals: blocks that intakes have written and the index does not name yet, so that they can be
 * read before the flush that makes them durable.
 *
 * What the index does not name may be given back to the disk without a look at the pins, for
 * instance because a put has named another copy first. Who copies sees that by the CRC, as always,
 * and finds the other copy when it looks again; a view holds the range.
 *
 * Threads: any.
 */

#include "base/map.h"
#include "store/block_record_priv.h"
#include "store/put_priv.h"

struct arrivals;

/* One block on its way. The same block may be there several times, by several intakes. */
struct arrival {
    struct id id;
    struct new_block *block; /* NULL: it was here already; it is pinned instead */
    bool is_spare;           /* nobody needs the block; its range is given back */
    UT_hash_handle hh;       /* of what can be read */
};

struct arrivals *arrivals_new(void);
void arrivals_free(struct arrivals *arrivals);

/* `arrival` is borrowed until it is removed. */
void arrivals_add(struct arrivals *arrivals, struct arrival *arrival);
/* After the commit that names it, so that who does not find it here finds it there. */
void arrivals_remove(struct arrivals *arrivals, struct arrival *arrival);

/* -ENOENT. A record without holders. */
[[nodiscard]] int arrivals_find(struct arrivals *arrivals, const struct id *id,
                                struct block_record *ret_record);

/* The same, and holds its range (segments_hold()): what the record tells of stays as it is until
 * the hold is settled. With -ENOENT there is none. */
[[nodiscard]] int arrivals_hold(struct arrivals *arrivals, const struct id *id,
                                struct segments *segments, struct block_record *ret_record,
                                struct reservation *ret_hold);

/* Grows with each removal: a lookup in the index and here that found nothing while it grew has to
 * be made again. */
uint64_t arrivals_removed(const struct arrivals *arrivals);

#endif
