/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_DELIVER_PRIV_H
#define SIM_DELIVER_PRIV_H

/* What the deliver scenarios share: scenario_deliver.c, scenario_deliver_faults.c. */

#include "sim/run_priv.h"
#include "sim/swarm.h"

/* As the user told, and what is taken otherwise. */
struct sim_swarm_options deliver_options(const struct sim_run *run);
/* All begin at once, and each link is as full as it gets. */
uint64_t deliver_ideal_us(const struct sim_swarm_options *options);
/* Longer than this it takes never: it hangs. */
uint64_t deliver_hangs_us(const struct sim_swarm_options *options);
/* Adds what happened in `swarm`, which is over, to the report. */
void deliver_tell(struct sim_run *run, const struct sim_swarm *swarm);

#endif
