/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_SWARM_H
#define SIM_SWARM_H

/*
 * swarm: nodes that fetch one file from each other, with the scheduler of receivers and the slots
 * of sources as they are (src/transfer), over links with a rate each way. Blocks are sizes here.
 * An index that knows all holders stands for locate; members are believed alive until
 * SIM_SWARM_KNOWN_US after they are not.
 *
 * Threads: one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/engine.h"

#define SIM_SWARM_NEVER UINT64_MAX

struct sim_swarm;

struct sim_swarm_options {
    uint32_t nodes_count;
    uint64_t seed;
    uint64_t size_bytes;
    uint32_t block_bytes; /* 0: as files are cut */
    uint64_t rate_bytes_per_s;
    uint64_t delay_us;
};

/* All are up and have nothing; time begins at 0. */
struct sim_swarm *sim_swarm_new(const struct sim_swarm_options *options);
void sim_swarm_free(struct sim_swarm *swarm);

uint32_t sim_swarm_blocks_count(const struct sim_swarm *swarm);
uint64_t sim_swarm_now_us(const struct sim_swarm *swarm);
uint64_t sim_swarm_events_count(const struct sim_swarm *swarm);
/* A sum over all that arrived and when: equal for equal inputs. */
uint64_t sim_swarm_trace(const struct sim_swarm *swarm);

/* Before anything begins: it has all of it, or one block. */
void sim_swarm_fill(struct sim_swarm *swarm, uint32_t node);
void sim_swarm_give(struct sim_swarm *swarm, uint32_t node, uint32_t block);
/* It knows the list of blocks. */
void sim_swarm_know(struct sim_swarm *swarm, uint32_t node);
void sim_swarm_set_rate(struct sim_swarm *swarm, uint32_t node, uint64_t rate_bytes_per_s);

/* Begins to fetch, again if it was in vain; `publisher` is known to have it. */
void sim_swarm_start(struct sim_swarm *swarm, uint32_t node, uint32_t publisher);
/* Its process ends: others notice by their connections. Without: it falls silent. */
void sim_swarm_kill(struct sim_swarm *swarm, uint32_t node);
void sim_swarm_freeze(struct sim_swarm *swarm, uint32_t node);

/* From now on those reach each other that have the same number in `parts`, by node: between others
 * all falls silent, and what is on its way is lost. All the same: everyone does again. */
void sim_swarm_divide(struct sim_swarm *swarm, const uint32_t *parts);

/* Lets `us` pass, or less if all fetches have ended: false then. */
bool sim_swarm_run(struct sim_swarm *swarm, uint64_t us);
/* Lets `us` pass, whatever is fetched. After SIM_SWARM_KNOWN_US all know who is there. */
#define SIM_SWARM_KNOWN_US (2500 * SIM_US_PER_MS)
void sim_swarm_rest(struct sim_swarm *swarm, uint64_t us);

struct sim_swarm_node {
    bool is_up;
    bool is_complete;
    bool has_list; /* knows the list of blocks */
    bool has_ended;
    int err;               /* of the fetch, if it has ended */
    uint64_t took_us;      /* until it was complete; SIM_SWARM_NEVER */
    uint32_t blocks_count; /* that it has */
    uint64_t sent_bytes;
    uint64_t received_bytes; /* duplicates included */
    uint64_t duplicate_bytes;
    uint64_t raced_bytes; /* of these: while nothing else was to be asked for */
};
bool sim_swarm_has(const struct sim_swarm *swarm, uint32_t node, uint32_t block);
void sim_swarm_node(const struct sim_swarm *swarm, uint32_t node, struct sim_swarm_node *ret_node);

/* Of all nodes. */
struct sim_swarm_sums {
    uint64_t messages_count; /* without blocks */
    uint64_t requests;
    uint64_t refused;
    uint64_t insisted;
    uint64_t hedged;
    uint64_t raced;
    uint64_t cancelled;
};
struct sim_swarm_sums sim_swarm_sums(const struct sim_swarm *swarm);

#endif
