/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/tree_run_priv.h"

/*
 * Changes of few names, at random nodes, while all goes wrong that can; then all is mended, and all
 * have to come to one tree, that of all changes that survived anywhere.
 */

#define MEASURED_S 60u
#define CHANGES_PER_S 20u
#define TORN_WRITES 8u
/* A copy of a disk, that may be put back later, is made so often. */
#define COPY_US (SIM_US_PER_S / 2)

static void churn(struct tree_run *tree, const enum sim_disk *disks, size_t disks_count)
{
    struct sim_run *run = tree->run;
    const struct chaos_options options = {
        .seconds = run->options->duration_s ? run->options->duration_s : MEASURED_S,
        .disks = disks,
        .disks_count = disks_count,
    };
    tree->workload.pause_us = SIM_US_PER_S / CHANGES_PER_S;
    if (chaos_ready(run)) {
        sim_workload_run(&tree->workload, options.seconds * SIM_US_PER_S);
        chaos_live(run, &options);
        tree_check_agreed(tree, "converged", TREE_CONVERGE_US);
        sim_world_run(tree->world, 30 * SIM_US_PER_S);
        run_check(run, "still-agreed", sim_oracle_is_agreed(tree->oracle), "half a minute later");
        tree_check_oracle(tree);
        run_figure(run, "changes-tried", "", (double)tree->workload.tries);
    }
}

static void run_tree_churn(struct sim_run *run)
{
    static const enum sim_disk disks[] = {SIM_DISK_KEPT};
    struct tree_run tree;
    if (tree_run_begin(&tree, run, CHAOS_JOINERS_MAX)) {
        churn(&tree, disks, ARRAY_SIZE(disks));
        tree_run_end(&tree);
    }
}

const struct sim_scenario scenario_tree_churn = {
    .name = "tree-churn",
    .summary = "changes everywhere under crashes, pauses, loss, partitions; then all is mended",
    .run = run_tree_churn,
};

static void copy_a_disk(void *context, uint64_t argument)
{
    (void)argument;
    struct tree_run *tree = context;
    struct random *random = sim_world_random(tree->world);
    const uint32_t slot = (uint32_t)random_below(random, sim_world_slots_count(tree->world));
    sim_world_snapshot_disk(tree->world, slot);
    sim_world_at(tree->world, sim_world_now_us(tree->world) + random_below(random, 2 * COPY_US),
                 copy_a_disk, tree, 0);
}

static void run_tree_disks(struct sim_run *run)
{
    static const enum sim_disk disks[] = {SIM_DISK_KEPT, SIM_DISK_LOST, SIM_DISK_ROLLED_BACK,
                                          SIM_DISK_TORN};
    struct tree_run tree;
    if (tree_run_begin(&tree, run, CHAOS_JOINERS_MAX)) {
        sim_replicas_set_torn(tree.replicas, TORN_WRITES);
        sim_world_at(tree.world, 0, copy_a_disk, &tree, 0);
        churn(&tree, disks, ARRAY_SIZE(disks));
        tree_run_end(&tree);
    }
}

const struct sim_scenario scenario_tree_disks = {
    .name = "tree-disks",
    .summary = "the same, and nodes come back with disks that are empty, old, or lost a bit",
    .run = run_tree_disks,
};
