/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/tree_run_priv.h"

/*
 * Nodes that come back after eight days, when everybody has forgotten the logs of the time before.
 * One was cut off before it went, and made changes that nobody else has. The others made and
 * deleted what it still has. To simulate eight days of probes would take as long as they are dull:
 * the others are switched off, too, for most of it, and keep their disks.
 */

#define AWAY_US (UINT64_C(8) * 24 * 3600 * SIM_US_PER_S)
#define KEPT_MS (UINT64_C(7) * 24 * 3600 * 1000)
#define FILES 200u
#define CHANGES_PER_S 20u
#define WORK_US (20 * SIM_US_PER_S)

static void work(struct tree_run *tree)
{
    sim_workload_run(&tree->workload, WORK_US);
    sim_world_run(tree->world, WORK_US + SIM_US_PER_S);
}

static void crash_if_running(struct tree_run *tree, uint32_t slot)
{
    if (sim_world_state(tree->world, slot) == SIM_RUNNING) {
        sim_world_crash(tree->world, slot);
    }
}

/* Both sides go on after one was cut off; `cut` is, and changes things by itself. */
static void grow_apart(struct tree_run *tree, uint32_t cut, uint32_t gone)
{
    struct sim_network *network = sim_world_network(tree->world);
    sim_network_set_host_loss(network, cut, SIM_PPM, SIM_PPM);
    for (uint32_t i = 0; i < 20; i++) {
        sim_workload_change(&tree->workload, cut);
        sim_world_run(tree->world, 100 * SIM_US_PER_MS);
    }
    sim_world_run(tree->world, 5 * SIM_US_PER_S);
    sim_world_crash(tree->world, cut);
    sim_world_crash(tree->world, gone);
    sim_network_set_host_loss(network, cut, 0, 0);
    work(tree);
}

/* The nodes that were away start; all forget what is older than a week, when is drawn. */
static void come_back(struct tree_run *tree, uint32_t cut, uint32_t gone)
{
    sim_world_start(tree->world, cut, SIM_DISK_KEPT);
    sim_world_start(tree->world, gone, SIM_DISK_KEPT);
    if (random_below(sim_world_random(tree->world), 2) == 0) {
        tree_expire_all(tree, KEPT_MS); /* also who has ops that nobody else has seen */
    }
    tree_check_agreed(tree, "converged", TREE_CONVERGE_US);
}

static void run_tree_absent(struct sim_run *run)
{
    struct tree_run tree;
    if (!tree_run_begin(&tree, run, 0)) {
        return;
    }
    tree.workload.pause_us = SIM_US_PER_S / CHANGES_PER_S;
    if (run_ready(run)) {
        const uint32_t cut = run_pick(run);
        const uint32_t gone = (cut + 1) % run->nodes;
        tree_fill(&tree, FILES);
        work(&tree);
        grow_apart(&tree, cut, gone);
        for (uint32_t slot = 0; slot < run->nodes; slot++) {
            crash_if_running(&tree, slot);
        }
        sim_world_run(tree.world, AWAY_US);
        for (uint32_t slot = 0; slot < run->nodes; slot++) {
            if (slot != cut && slot != gone) {
                sim_world_start(tree.world, slot, SIM_DISK_KEPT);
            }
        }
        sim_world_run(tree.world, 20 * SIM_US_PER_S);
        tree_expire_all(&tree, KEPT_MS);
        work(&tree);
        sim_workload_run(&tree.workload, 3 * SIM_US_PER_S);
        come_back(&tree, cut, gone);
        work(&tree);
        tree_check_agreed(&tree, "goes-on", TREE_CONVERGE_US);
        run_check(run, "snapshot-was-merged", sim_oracle_figures(tree.oracle)->merges > 0, "%llu",
                  (unsigned long long)sim_oracle_figures(tree.oracle)->merges);
        tree_check_oracle(&tree);
    }
    tree_run_end(&tree);
}

const struct sim_scenario scenario_tree_absent = {
    .name = "tree-absent",
    .summary = "two nodes are away for eight days, one with changes of its own; logs are forgotten",
    .run = run_tree_absent,
};
