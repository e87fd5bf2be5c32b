/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_ARTEL_H
#define SIM_ARTEL_H

/*
 * artel: nodes that have a tree beside their list of members, and what a scenario does with them.
 * The worlds here are those of sim_protocol_artel_tree().
 *
 * Threads: one.
 */

#include "sim/replica.h"
#include "sim/world.h"

/* artel's own: src/cluster, and src/tree with its sync. */
const struct sim_protocol *sim_protocol_artel_tree(void);

/* The trees of a world. */
struct sim_replicas *sim_artel_replicas(const struct sim_world *world);

/* sim_replica_change() at `slot`, which is up. */
[[nodiscard]] int sim_artel_change(struct sim_world *world, uint32_t slot,
                                   sim_replica_change_fn change, void *context,
                                   struct dot *ret_dot);
/* sim_replica_expire() at `slot`, which is up. */
void sim_artel_expire(struct sim_world *world, uint32_t slot, uint64_t age_ms);

/* What no sane node says: a message of the tree, a broadcast of the tree, from `from`. */
void sim_artel_send_tree(struct sim_world *world, uint32_t from, uint32_t to, struct bytes message);
void sim_artel_broadcast_tree(struct sim_world *world, uint32_t from, struct bytes payload);

#endif
