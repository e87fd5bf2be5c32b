/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/tree_run_priv.h"

/*
 * A disk is put back when nobody is there to tell what it has forgotten: the only one who knows is
 * away, and no roster has it, since it met none but the maker, while that was cut off. Were the log
 * to go on where the disk ends, two branches of it would come to be, of which one is refused when
 * the witness returns.
 */

#define FILES 20u
#define CHANGES 5u

static void change(struct tree_run *tree, uint32_t slot)
{
    for (uint32_t made = 0; made < CHANGES;) {
        made += sim_workload_change(&tree->workload, slot) ? 1 : 0;
        sim_world_run(tree->world, 50 * SIM_US_PER_MS);
    }
    sim_world_run(tree->world, SIM_US_PER_S);
}

/* `maker` and a new node are by themselves: what one makes, only the other gets. The slot of it. */
static uint32_t branch(struct tree_run *tree, uint32_t maker)
{
    struct sim_network *network = sim_world_network(tree->world);
    const uint32_t witness = sim_world_add(tree->world);
    sim_network_set_group(network, maker, 1);
    sim_network_set_group(network, witness, 1);
    sim_network_set_cut(network, 0, 1, true);
    sim_network_set_cut(network, 1, 0, true);
    sim_world_set_seeds(tree->world, witness, &maker, 1);
    sim_world_start(tree->world, witness, SIM_DISK_KEPT);
    sim_world_run(tree->world, 10 * SIM_US_PER_S);
    change(tree, maker);
    sim_world_crash(tree->world, witness);
    sim_world_crash(tree->world, maker);
    sim_network_heal(network);
    return witness;
}

static void run_tree_fork(struct sim_run *run)
{
    struct tree_run tree;
    if (!tree_run_begin(&tree, run, 1)) {
        return;
    }
    if (run_ready(run)) {
        const uint32_t maker = run_pick(run);
        tree_fill(&tree, FILES);
        change(&tree, maker);
        sim_world_run(tree.world, 10 * SIM_US_PER_S);
        sim_world_snapshot_disk(tree.world, maker);
        const uint32_t witness = branch(&tree, maker);
        sim_world_run(tree.world, 10 * SIM_US_PER_S);
        sim_world_start(tree.world, maker, SIM_DISK_ROLLED_BACK);
        sim_world_run(tree.world, 20 * SIM_US_PER_S);
        change(&tree, maker);
        tree_check_agreed(&tree, "goes-on-without-the-witness", TREE_CONVERGE_US);
        sim_world_start(tree.world, witness, SIM_DISK_KEPT);
        sim_world_run(tree.world, SIM_US_PER_S);
        tree_check_agreed(&tree, "converged", TREE_CONVERGE_US);
        sim_world_run(tree.world, 30 * SIM_US_PER_S);
        run_check(run, "still-agreed", sim_oracle_is_agreed(tree.oracle), "half a minute later");
        tree_check_oracle(&tree);
    }
    tree_run_end(&tree);
}

const struct sim_scenario scenario_tree_fork = {
    .name = "tree-fork",
    .summary = "a disk is put back when the only one who knows better is away, and returns",
    .run = run_tree_fork,
};
