/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_WORKLOAD_H
#define SIM_WORKLOAD_H

/*
 * workload: random changes of few names at random nodes, so that they meet: files, directories and
 * links are made, replaced, deleted, moved, and whole directories put at once.
 */

#include "sim/oracle.h"
#include "tree/change.h"

struct sim_workload {
    struct sim_world *world;
    struct sim_oracle *oracle;
    struct random random;
    uint64_t pause_us; /* between two changes, on average; 0: none are made */
    size_t tops_count; /* names at the top; below, there are always the same few */
    uint64_t tries;    /* changes that were tried */
    uint64_t made;     /* and were not refused for what was there */
    uint64_t until_us;
};

/* One random change at `slot`, which runs. False: it made no sense there. */
bool sim_workload_change(struct sim_workload *workload, uint32_t slot);
/* Changes at random nodes that run, from now on, for so long. */
void sim_workload_run(struct sim_workload *workload, uint64_t for_us);

#endif
