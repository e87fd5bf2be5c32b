/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/run_priv.h"

#define START_SPREAD_US (100 * SIM_US_PER_MS)
#define LIMIT_US (600 * SIM_US_PER_S)
/* Machines of a site come back within so long after a power cut. */
#define POWER_SPREAD_US (10 * SIM_US_PER_S)

static void run_cold_start(struct sim_run *run)
{
    run_world(run, 0);
    const uint64_t took_us = run_boot(run, START_SPREAD_US, LIMIT_US);
    const struct sim_traffic total = sim_world_traffic_total(run->world);
    run_check_time(run, "cold-start", took_us, run_cold_start_limit_us(run));
    run_figure(run, "bytes-sent-per-node", "B",
               (double)(total.datagram_bytes_sent + total.message_bytes_sent) / run->nodes);
    run_figure(run, "datagrams-sent-per-node", "", (double)total.datagrams_sent / run->nodes);
    sim_world_run(run->world, 10 * SIM_US_PER_S);
    run_check_watch(run, true);
    run_end_world(run);
}

const struct sim_scenario scenario_cold_start = {
    .name = "cold-start",
    .summary = "all start at once and know one of them: until all see all",
    .run = run_cold_start,
};

static void start(void *context, uint64_t argument)
{
    struct sim_run *run = context;
    sim_world_start(run->world, (uint32_t)argument, SIM_DISK_KEPT);
}

static void restart_all(struct sim_run *run)
{
    struct sim_world *world = run->world;
    for (uint32_t slot = 0; slot < run->nodes; slot++) {
        sim_world_crash(world, slot);
    }
    for (uint32_t slot = 0; slot < run->nodes; slot++) {
        const uint64_t delay_us = random_below(sim_world_random(world), POWER_SPREAD_US);
        sim_world_at(world, sim_world_now_us(world) + delay_us, start, run, slot);
    }
    sim_world_run(world, POWER_SPREAD_US);
    run_check_agreed(run, "after-power-cut", run_cold_start_limit_us(run));
}

/* A tenth of the nodes, one after the other, each down for a second, as an upgrade does it. */
static void restart_rolling(struct sim_run *run)
{
    struct sim_world *world = run->world;
    for (uint32_t slot = 0; slot < run->nodes; slot++) {
        run_doubt(run, slot, slot < (run->nodes + 9) / 10);
    }
    for (uint32_t slot = 0; slot < (run->nodes + 9) / 10; slot++) {
        sim_world_crash(world, slot);
        sim_world_run(world, SIM_US_PER_S);
        sim_world_start(world, slot, SIM_DISK_KEPT);
        sim_world_run(world, SIM_US_PER_S);
    }
    run_check_agreed(run, "after-rolling-restart", run_heal_limit_us(run));
}

static void run_mass_restart(struct sim_run *run)
{
    run_world(run, 0);
    if (run_ready(run)) {
        for (uint32_t slot = 0; slot < run->nodes; slot++) {
            run_doubt(run, slot, true);
        }
        restart_all(run);
        sim_world_run(run->world, 10 * SIM_US_PER_S);
        restart_rolling(run);
        run_check_watch(run, true);
    }
    run_end_world(run);
}

const struct sim_scenario scenario_mass_restart = {
    .name = "mass-restart",
    .summary = "all crash and come back within 10 s; then a tenth one after the other",
    .run = run_mass_restart,
};
