/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_TOUCHED_PRIV_H
#define STORE_TOUCHED_PRIV_H

/*
 * touched: which blocks were read lately, so that eviction can give them a second chance (the
 * CLOCK approximation of LRU, Corbato 1968) without a write for every read.
 *
 * A fixed table of bits by a piece of the id: a block that shares its bit with another is kept a
 * round too long, nothing worse. Threads: any.
 */

#include <stdbool.h>

#include "hash/id.h"

struct touched;

struct touched *touched_new(void);
void touched_free(struct touched *touched);

void touched_add(struct touched *touched, const struct id *id);

/* Whether it was read since the last question. */
bool touched_take(struct touched *touched, const struct id *id);

#endif
