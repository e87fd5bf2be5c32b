/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_EVICT_PRIV_H
#define NODE_EVICT_PRIV_H

/*
 * evict: what is here as cache alone is kept below a limit, and makes room on a full disk; but what
 * nobody else has is not evicted.
 *
 * When there is too much of it, the least recently used blocks are marked as candidates
 * (store/maintain.h); their holders are looked up in the index, and two of them asked to promise
 * that they have the block and keep it for ten minutes. What somebody promised is evicted; the rest
 * counts as used now, so that others come first. A node refuses to promise what it has marked
 * itself, so of two that would evict the same block at the same time neither does; they try again
 * after different times. What nobody else has stays, whatever the limit. A promise lasts as long as
 * it is needed (guests_priv.h).
 *
 * Threads: the fetch thread; what waits for the disk is done by workers.
 */

#include "node/fetch_priv.h"

struct evict;

/* `cache_bytes` 0: no limit, and nothing is evicted; promises are given all the same. */
struct evict *evict_new(struct fetch *fetch, uint64_t cache_bytes);
/* Ends what it looks for; afterwards only what workers have still to bring is taken. */
void evict_end(struct evict *evict);
/* No worker is at it. NULL is allowed. */
void evict_free(struct evict *evict);

/* True: it was one about promises. */
bool evict_message(struct evict *evict, const struct node_id *from, struct bytes bytes);
void evict_due(struct evict *evict);
/* The disk is full: some blocks more shall go, whatever the limit is, if there is one. Tells the
 * fetch->evict_rounds with which that was tried; 0: there is no limit, nothing is evicted. */
uint64_t evict_want_room(struct evict *evict);
uint64_t evict_next_us(const struct evict *evict);

struct evict_counters {
    uint64_t evicted_blocks;
    uint64_t evicted_bytes;
    uint64_t refused_blocks;  /* nobody promised to keep them */
    uint64_t promised_blocks; /* to others */
};
const struct evict_counters *evict_counters(const struct evict *evict);

#endif
