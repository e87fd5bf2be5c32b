/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/tree_run_priv.h"

#define HOLD_S 30u
#define ROUNDS 3u
#define CHANGES_PER_S 20u

/* Falls into two parts for a while; both write the same names. */
static void part_and_heal(struct tree_run *tree, const char *name, uint32_t share)
{
    struct sim_run *run = tree->run;
    struct sim_network *network = sim_world_network(tree->world);
    const uint64_t hold_us =
        (run->options->duration_s ? run->options->duration_s : HOLD_S) * SIM_US_PER_S;
    for (uint32_t slot = 0; slot < run->nodes; slot++) {
        const bool is_in = random_below(sim_world_random(tree->world), 100) < share;
        sim_network_set_group(network, slot, is_in ? 0 : 1);
    }
    sim_network_set_cut(network, 0, 1, true);
    sim_network_set_cut(network, 1, 0, true);
    sim_workload_run(&tree->workload, hold_us);
    sim_world_run(tree->world, hold_us);
    sim_network_heal(network);
    tree_check_agreed(tree, name, TREE_CONVERGE_US);
    sim_world_run(tree->world, 5 * SIM_US_PER_S);
}

static void run_tree_partition(struct sim_run *run)
{
    static const char *const names[ROUNDS] = {"halves-converged", "minority-converged",
                                              "again-converged"};
    static const uint32_t shares[ROUNDS] = {50, 10, 50};
    struct tree_run tree;
    if (!tree_run_begin(&tree, run, 0)) {
        return;
    }
    tree.workload.pause_us = SIM_US_PER_S / CHANGES_PER_S;
    if (run_ready(run)) {
        for (size_t i = 0; i < ROUNDS; i++) {
            part_and_heal(&tree, names[i], shares[i]);
        }
        tree_check_oracle(&tree);
    }
    tree_run_end(&tree);
}

const struct sim_scenario scenario_tree_partition = {
    .name = "tree-partition",
    .summary = "halves of the network change the same names; then they meet",
    .run = run_tree_partition,
};
