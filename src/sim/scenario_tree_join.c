/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/tree_run_priv.h"

/*
 * Empty nodes join a network that has forgotten its logs, so that they need a snapshot, while
 * others move and delete directories. One is switched off and on again while it takes its snapshot;
 * at the end, so is one that others may be taking theirs from.
 */

#define FILES 400u
#define JOINS 4u
#define CHANGES_PER_S 40u

static void join_one(struct tree_run *tree, uint32_t number)
{
    struct sim_run *run = tree->run;
    struct random *random = sim_world_random(tree->world);
    const uint32_t helper = run_pick(run);
    sim_workload_run(&tree->workload, 5 * SIM_US_PER_S);
    const uint32_t slot = run_join(run, helper);
    if (number % 2 == 1) {
        sim_world_run(tree->world, random_below(random, 3 * SIM_US_PER_S));
        sim_world_crash(tree->world, slot);
        sim_world_run(tree->world, random_below(random, SIM_US_PER_S));
        sim_world_start(tree->world, slot, SIM_DISK_KEPT);
    } else if (number == 2) {
        sim_world_run(tree->world, random_below(random, 3 * SIM_US_PER_S));
        sim_world_crash(tree->world, helper);
        sim_world_run(tree->world, 5 * SIM_US_PER_S);
        sim_world_start(tree->world, helper, SIM_DISK_KEPT);
    }
    if (sim_world_now_us(tree->world) < tree->workload.until_us) {
        sim_world_run(tree->world, tree->workload.until_us - sim_world_now_us(tree->world));
    }
}

static void run_tree_join(struct sim_run *run)
{
    static const char *const names[JOINS] = {"joined", "joined-with-a-break", "joined-by-another",
                                             "joined-again"};
    struct tree_run tree;
    if (!tree_run_begin(&tree, run, JOINS)) {
        return;
    }
    tree.workload.pause_us = SIM_US_PER_S / CHANGES_PER_S;
    if (run_ready(run)) {
        tree_fill(&tree, FILES);
        for (uint32_t i = 0; i < JOINS; i++) {
            tree_expire_all(&tree, 0);
            join_one(&tree, i);
            tree_check_agreed(&tree, names[i], TREE_CONVERGE_US);
            sim_world_run(tree.world, 2 * SIM_US_PER_S);
        }
        run_check(run, "snapshots-were-merged", sim_oracle_figures(tree.oracle)->merges >= JOINS,
                  "%llu", (unsigned long long)sim_oracle_figures(tree.oracle)->merges);
        tree_check_oracle(&tree);
    }
    tree_run_end(&tree);
}

const struct sim_scenario scenario_tree_join = {
    .name = "tree-join",
    .summary = "empty nodes join by snapshot while others move and delete, with breaks",
    .run = run_tree_join,
};
