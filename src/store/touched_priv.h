/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_TOUCHED_PRIV_H
#define STORE_TOUCHED_PRIV_H

/*
 * touched: which blocks were read lately, so that eviction can give them a second chance (the
 * CLOCK approximation of LRU, Corbato 1968) without a write for every read.
 *
 * A fixed table of bits by a piece of the id: a block that shares its bit with another is kept a
 * round too long, nothing worse. It is a file of the data directory, mapped by the process that
 * writes and by mounts, which read for themselves: so their reads count. Threads: any.
 */

#include <stdbool.h>

#include "hash/id.h"

struct touched;

/* Of this process alone. */
struct touched *touched_new(void);
/* From now on the table is the file TOUCHED_FILE in `dir_fd`, `makes`: made if it is missing.
 * Before others use `touched`. Where that can't be, it stays as it was: less is known then. */
#define TOUCHED_FILE "touched"
void touched_share(struct touched *touched, int dir_fd, bool makes);
void touched_free(struct touched *touched);

void touched_add(struct touched *touched, const struct id *id);

/* Whether it was read since the last question. */
bool touched_take(struct touched *touched, const struct id *id);

#endif
