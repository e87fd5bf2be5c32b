/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_TREE_RUN_PRIV_H
#define SIM_TREE_RUN_PRIV_H

/*
 * tree_run: what stories about the tree are written with, beside run_priv.h: an oracle, a workload,
 * and checks.
 */

#include "sim/oracle.h"
#include "sim/run_priv.h"
#include "sim/workload.h"

/* All converge so soon after the last fault. */
#define TREE_CONVERGE_US (15 * SIM_US_PER_S)

struct tree_run {
    struct sim_run *run;
    struct sim_world *world;
    struct sim_replicas *replicas;
    struct sim_oracle *oracle;
    struct sim_workload workload;
    uint64_t members_agreed_us; /* while agreement is waited for */
};

/* A world whose nodes have trees, none started; with what always holds looked at every second.
 * False: the protocol has none; a check says so, and there is no world. */
bool tree_run_begin(struct tree_run *tree, struct sim_run *run, uint32_t spare);
/* The world's end, with figures. */
void tree_run_end(struct tree_run *tree);

/* Runs until all agree; checks that it took at most `limit_us`. */
void tree_check_agreed(struct tree_run *tree, const char *name, uint64_t limit_us);
/* All that the oracle knows of; once all agree, at the end. */
void tree_check_oracle(struct tree_run *tree);

/* A put of a file with random content. */
bool tree_publish(struct tree_run *tree, uint32_t slot, const char *path, struct dot *ret_dot);
/* So many small files, at random nodes, and time for them to spread. */
void tree_fill(struct tree_run *tree, uint32_t files_count);
/* Every node that runs forgets what ended more than `age_ms` ago. */
void tree_expire_all(struct tree_run *tree, uint64_t age_ms);

#endif
