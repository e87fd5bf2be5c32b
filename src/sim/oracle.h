/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_ORACLE_H
#define SIM_ORACLE_H

/*
 * oracle: knows every op that was ever on a disk, and what came of it, and says whether the trees
 * of a world are what they have to be:
 *
 *   - equal vectors, equal fingerprints; and the fingerprint is that of the entries;
 *   - all trees are the pure merge of the ops in their logs: a path's heads are the changes of it
 *     that none of the others names in its context. So nothing that was deleted is there, and
 *     nothing is lost that was not replaced;
 *   - every change that was acknowledged, and whose node's disk was not lost or rolled back since,
 *     is in the logs of all;
 *   - no two ops have one name;
 *   - a watcher of the feed of each node sees the ops of each writer without a gap, or a gap that
 *     is announced.
 *
 * It reads feeds as watchers do, and shares nothing with the code that merges.
 */

#include "sim/artel.h"

#define ORACLE_TEXT_CHARS 160u

struct sim_oracle;

/* Watches the replicas of `world`, which has room for `slots_max`, until it is freed,
 * which is before the world ends. */
struct sim_oracle *sim_oracle_new(struct sim_world *world, size_t slots_max);
void sim_oracle_free(struct sim_oracle *oracle);
/* Also told what happens; called after the oracle has taken it in. */
void sim_oracle_forward(struct sim_oracle *oracle, const struct sim_replica_observer *observer);

/* That sync tells of forks is no fault in this story: somebody lies. */
void sim_oracle_allow_fork_events(struct sim_oracle *oracle);

/* `slot` made `dot`: it is acknowledged when it is on disk, and has to last from then on. */
void sim_oracle_made(struct sim_oracle *oracle, uint32_t slot, const struct dot *dot);

/* What always holds, looked at now: nodes of equal vectors have equal fingerprints. With
 * `recompute`, also the sums of one node that is drawn. */
void sim_oracle_look(struct sim_oracle *oracle, bool recompute);
/* All running nodes have one vector and one tree, and none is merging. */
bool sim_oracle_is_agreed(const struct sim_oracle *oracle);
/* All of it, once all agree. */
void sim_oracle_judge(struct sim_oracle *oracle);

/* What was found to be wrong; the first of each kind in words. */
enum sim_fault {
    SIM_FAULT_FINGERPRINT = 0, /* equal vectors, other fingerprints, or not that of the entries */
    SIM_FAULT_MERGE = 1,       /* heads are not what the logs make */
    SIM_FAULT_LOST = 2,        /* an acknowledged change is in no log */
    SIM_FAULT_NAME = 3,        /* one name for two ops */
    SIM_FAULT_WATCHER = 4,     /* a gap, or an op twice */
    SIM_FAULT_SYNC = 5,        /* sync told of a fork, a divergence or a failure */
    SIM_FAULTS = 6,
};
struct sim_oracle_fault {
    uint64_t count;
    char text[ORACLE_TEXT_CHARS];
};
const struct sim_oracle_fault *sim_oracle_faults(const struct sim_oracle *oracle,
                                                 enum sim_fault fault);

struct sim_oracle_figures {
    uint64_t ops;          /* different ones */
    uint64_t acknowledged; /* changes */
    uint64_t forks;        /* names of more than one op */
    uint64_t gaps;         /* told to watchers */
    uint64_t merges;       /* snapshots that were merged */
    uint64_t fork_events;
    uint64_t refused_events;
    uint64_t diverged_events;
    uint64_t failed_events;
};
const struct sim_oracle_figures *sim_oracle_figures(const struct sim_oracle *oracle);

#endif
