/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/run_priv.h"

#define CRASHES 20u
#define LIMIT_US (120 * SIM_US_PER_S)
/* Nothing is promised of many at once; but a third of a site gone is when it matters. */
#define MASS_LIMIT_US (15 * SIM_US_PER_S)

static void crash_one(struct sim_run *run, struct samples *all, struct samples *first)
{
    struct sim_world *world = run->world;
    /* At any point of anybody's period. */
    sim_world_run(world, 3 * SIM_US_PER_S + random_below(sim_world_random(world), SIM_US_PER_S));
    const uint32_t slot = run_pick(run);
    const uint64_t begin_us = sim_world_now_us(world);
    struct notice notice;
    run_doubt(run, slot, true);
    run_notice_begin(run, &notice, slot, sim_world_identity(world, slot), false);
    sim_world_crash(world, slot);
    const uint64_t took_us = run_notice_wait(run, &notice, LIMIT_US);
    samples_add(all, took_us);
    if (notice.first_us != NEVER) {
        samples_add(first, notice.first_us - begin_us);
    }
    run_notice_end(run, &notice);
    sim_world_start(world, slot, SIM_DISK_KEPT);
    run_until_agreed(run, LIMIT_US);
    sim_world_run(world, SIM_US_PER_S);
    run_doubt(run, slot, false);
}

void measure_crashes(struct sim_run *run, uint64_t count)
{
    struct samples all = {0};
    struct samples first = {0};
    for (uint64_t i = 0; i < count; i++) {
        crash_one(run, &all, &first);
    }
    const uint64_t p99_limit_us = (run->nodes <= 1000 ? 3500 : 4000) * SIM_US_PER_MS;
    run_check_time(run, "noticed-by-all-p50", samples_percentile(&all, 50), 2 * SIM_US_PER_S);
    run_check_time(run, "noticed-by-all-p99", samples_percentile(&all, 99), p99_limit_us);
    run_figure_time(run, "noticed-by-first-p50", samples_percentile(&first, 50));
    run_figure(run, "crashes", "", (double)all.count);
    samples_done(&all);
    samples_done(&first);
}

static void run_crash(struct sim_run *run)
{
    const uint64_t crashes = run->options->duration_s ? run->options->duration_s / 10 : CRASHES;
    run_world(run, 0);
    if (run_ready(run)) {
        measure_crashes(run, crashes ? crashes : 1);
        run_check_watch(run, true);
    }
    run_end_world(run);
}

const struct sim_scenario scenario_crash = {
    .name = "crash",
    .summary = "random members crash, one at a time: until all others have noticed",
    .run = run_crash,
};

static void run_mass_crash(struct sim_run *run)
{
    run_world(run, 0);
    if (run_ready(run)) {
        const uint32_t victims = run->nodes * 3 / 10;
        for (uint32_t i = 0; i < victims; i++) {
            const uint32_t slot = run_pick(run);
            run_doubt(run, slot, true);
            sim_world_crash(run->world, slot);
        }
        run_check_agreed(run, "noticed-by-all", MASS_LIMIT_US);
        sim_world_run(run->world, 60 * SIM_US_PER_S);
        run_check(run, "still-agreed", run_is_agreed(run), "%zu nodes a minute later",
                  run_running_count(run));
        run_check_watch(run, true);
    }
    run_end_world(run);
}

const struct sim_scenario scenario_mass_crash = {
    .name = "mass-crash",
    .summary = "three of ten members crash at the same time",
    .run = run_mass_crash,
};
