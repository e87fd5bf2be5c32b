/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/run_priv.h"

/*
 * What is promised of membership, in one life of one network: in a large one the start costs the
 * most, so it is paid once.
 */

#define START_SPREAD_US (100 * SIM_US_PER_MS)
#define START_LIMIT_US (600 * SIM_US_PER_S)
#define REST_US (10 * SIM_US_PER_S)
#define IDLE_S 60u
#define CRASHES 20u
#define HOLD_US (60 * SIM_US_PER_S)

static void run_table(struct sim_run *run)
{
    run_world(run, 0);
    const uint64_t took_us = run_boot(run, START_SPREAD_US, START_LIMIT_US);
    run_check_time(run, "cold-start", took_us, run_cold_start_limit_us(run));
    if (took_us != NEVER) {
        sim_world_run(run->world, REST_US);
        measure_idle(run, IDLE_S);
        measure_crashes(run, run->options->duration_s ? run->options->duration_s : CRASHES);
        run_check_watch(run, true);
        measure_halves(run, HOLD_US);
    }
    run_end_world(run);
}

const struct sim_scenario scenario_table = {
    .name = "table",
    .summary =
        "cold start, idle, crashes (--duration of them), halves: what is promised, in one run",
    .run = run_table,
};
