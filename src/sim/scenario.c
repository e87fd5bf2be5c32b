/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/scenario.h"

#include <string.h>

#include "base/mem.h"
#include "sim/run_priv.h"

static const struct sim_scenario *const scenarios[] = {
    &scenario_cold_start,
    &scenario_idle,
    &scenario_crash,
    &scenario_join,
    &scenario_leave,
    &scenario_loss,
    &scenario_pause,
    &scenario_bad_node,
    &scenario_partition,
    &scenario_skew,
    &scenario_clone,
    &scenario_lost_disk,
    &scenario_mass_restart,
    &scenario_mass_crash,
    &scenario_hostile,
    &scenario_chaos,
    &scenario_table,
    &scenario_broadcast,
    &scenario_tree_spread,
    &scenario_tree_churn,
    &scenario_tree_partition,
    &scenario_tree_absent,
    &scenario_tree_disks,
    &scenario_tree_fork,
    &scenario_tree_forged,
    &scenario_tree_join,
    &scenario_deliver,
    &scenario_deliver_kill,
    &scenario_deliver_freeze,
    &scenario_deliver_holders,
    &scenario_deliver_scattered,
    &scenario_deliver_parts,
    &scenario_deliver_orphans,
};

const struct sim_scenario *const *sim_scenarios(size_t *ret_count)
{
    *ret_count = ARRAY_SIZE(scenarios);
    return scenarios;
}

const struct sim_scenario *sim_scenario_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(scenarios); i++) {
        if (strcmp(scenarios[i]->name, name) == 0) {
            return scenarios[i];
        }
    }
    return NULL;
}

void sim_scenario_run(const struct sim_scenario *scenario,
                      const struct sim_scenario_options *options, struct sim_report *ret_report)
{
    CHECK(options->nodes_count >= 3 && options->nodes_count <= SIM_SCENARIO_NODES_MAX);
    memset(ret_report, 0, sizeof *ret_report);
    struct sim_run run = {.options = options,
                          .protocol = options->protocol,
                          .report = ret_report,
                          .nodes = options->nodes_count};
    scenario->run(&run);
    CHECK(!run.world);
}
