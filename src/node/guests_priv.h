/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_GUESTS_PRIV_H
#define NODE_GUESTS_PRIV_H

/*
 * guests: blocks that are here for promises alone (store_promise()): another node may have evicted
 * its own since they are here, and nothing here needs them any more.
 *
 * Who promised and who was promised are not remembered: nodes come and go, promises are handed on
 * when a guest is evicted, and the same block may be evicted by many. What counts is whether a node
 * holds a file that names the block, and has it not. So all members are asked (NEED), those too
 * that are not alive just now. If each of them says that it does not, the promises have ended, and
 * the block is collected; else it stays, and they are asked again later.
 *
 * A guest is asked about GUESTS_AGE_MS after it became one, or was last promised, at the earliest:
 * by then who evicts because of the promise has done so, and knows that it needs it. Nobody is
 * asked before this node once agreed with others since its start: then it knows who they are.
 *
 * Costs: every GUESTS_PAUSE_MS a look at each row of cached blocks; for each 256 guests a message
 * of 8 KiB to each member, one such round every five seconds.
 *
 * Threads: the fetch thread; what waits for the disk is done by workers.
 */

#include "node/fetch_priv.h"

/* In the time of the store. The first is twice what a promise is given for. */
#define GUESTS_AGE_MS ((uint64_t)20 * 60 * 1000)
#define GUESTS_PAUSE_MS ((uint64_t)10 * 60 * 1000)

struct guests;

struct guests *guests_new(struct fetch *fetch);
/* Nothing is begun any more; what workers have still to bring is taken. */
void guests_end(struct guests *guests);
/* No worker is at it. NULL is allowed. */
void guests_free(struct guests *guests);

/* True: it was one of theirs. */
bool guests_message(struct guests *guests, const struct node_id *from, struct bytes bytes);
void guests_due(struct guests *guests);
uint64_t guests_next_us(const struct guests *guests);

struct guests_counters {
    uint64_t needed_blocks; /* that stayed */
    uint64_t ended_blocks;
};
const struct guests_counters *guests_counters(const struct guests *guests);

#endif
