/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_PINS_PRIV_H
#define STORE_PINS_PRIV_H

/*
 * pins: who is busy with which block, and which blocks are on their way out.
 *
 * A removal marks the block first; the mark fails if the block is pinned. A pin set while the mark
 * stands is told so: the block counts as not here. Therefore: pin, then look, and what is seen
 * stays. Threads: any.
 */

#include <stdbool.h>
#include <stdint.h>

#include "hash/id.h"

struct pins;

struct pins *pins_new(void);
void pins_free(struct pins *pins);

/* False if the block is being removed at this moment (the pin counts all the same). Takes the mark
 * of an eviction off. */
bool pins_add(struct pins *pins, const struct id *id);
void pins_drop(struct pins *pins, const struct id *id);

/* True if the block is pinned at this moment. */
bool pins_is_busy(struct pins *pins, const struct id *id, uint64_t now_ms);

/* A pin that drops by itself. -EBUSY: the block is marked. */
[[nodiscard]] int pins_add_until(struct pins *pins, const struct id *id, uint64_t now_ms,
                                 uint64_t until_ms);

/* Marks for removal, or false if the block is pinned. Marking again is true again. */
bool pins_begin_removal(struct pins *pins, const struct id *id, uint64_t now_ms);
void pins_end_removal(struct pins *pins, const struct id *id);

/* Marks as a candidate of eviction; such a mark gives way to a pin. */
bool pins_mark_candidate(struct pins *pins, const struct id *id, uint64_t now_ms);
bool pins_is_candidate(struct pins *pins, const struct id *id);
void pins_unmark_candidate(struct pins *pins, const struct id *id);

#endif
