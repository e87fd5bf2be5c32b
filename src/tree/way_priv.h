/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_WAY_PRIV_H
#define TREE_WAY_PRIV_H

/*
 * way: the directories on the way to the path that was looked for last. Paths that come one after
 * the other mostly share them, so that the next one costs a lookup for each name that differs, not
 * for each name that it has.
 *
 * A way belongs to one transaction, and what it says holds as long as none of its directories is
 * removed but by way_leave(): numbers are never used again, and no directory moves.
 */

#include "base/buf.h"
#include "base/bytes.h"

struct way_step {
    size_t path_bytes; /* of the directory's path, the beginning of the way's */
    uint64_t directory;
};

/* Zeroed: at the root. At most as many steps as a path has names. */
struct way {
    struct buf path;
    struct way_step *steps;
    size_t steps_count;
    size_t steps_capacity;
    bool forgets; /* every path starts at the root: what the tests compare with */
};

void way_done(struct way *way);
#define CLEANUP_WAY __attribute__((cleanup(way_done)))

/* Goes back to the last directory that `path` (checked, not the root) lies below, and gives its
 * number. *ret_rest: the names from there on, at least the last one. NULL: the root. */
uint64_t way_back(struct way *way, struct bytes path, struct bytes *ret_rest);

/* One name further, into `directory`: `rest` is what is left of `path` then, at least one name.
 * NULL is allowed. */
void way_enter(struct way *way, struct bytes path, struct bytes rest, uint64_t directory);

/* The directory is gone; nothing was below it. */
void way_leave(struct way *way, uint64_t directory);

#endif
