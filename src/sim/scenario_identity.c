/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/run_priv.h"

#define LIMIT_US (120 * SIM_US_PER_S)
#define OFFSET_MS_MAX (INT64_C(12) * 3600 * 1000)
/* A crystal is within 100 ppm; virtual machines are worse. */
#define DRIFT_PPM_MAX 500
#define STOP_LIMIT_US (30 * SIM_US_PER_S)

enum skew { NO_SKEW, OFFSETS, OFFSETS_AND_DRIFT };

/* A start, a crash and its end, with clocks that differ; the trace of it. */
static uint64_t live_with(struct sim_run *run, enum skew skew)
{
    run_world(run, 0);
    struct sim_world *world = run->world;
    struct random random;
    random_init(&random, run->options->seed);
    for (uint32_t slot = 0; slot < run->nodes; slot++) {
        const int64_t offset_ms =
            (int64_t)random_below(&random, 2 * OFFSET_MS_MAX + 1) - OFFSET_MS_MAX;
        const int32_t drift_ppm =
            (int32_t)random_below(&random, 2 * DRIFT_PPM_MAX + 1) - DRIFT_PPM_MAX;
        sim_world_set_clock(world, slot, skew == NO_SKEW ? 0 : offset_ms,
                            skew == OFFSETS_AND_DRIFT ? drift_ppm : 0);
    }
    if (run_ready(run)) {
        const uint32_t victim = run_pick(run);
        run_doubt(run, victim, true);
        sim_world_crash(world, victim);
        const uint64_t gone_us = run_until_agreed(run, LIMIT_US);
        sim_world_start(world, victim, SIM_DISK_KEPT);
        const uint64_t back_us = run_until_agreed(run, LIMIT_US);
        sim_world_run(world, 60 * SIM_US_PER_S);
        if (skew == OFFSETS_AND_DRIFT) {
            run_check_time(run, "crash-agreed", gone_us, run_heal_limit_us(run));
            run_check_time(run, "return-agreed", back_us, run_heal_limit_us(run));
            run_check_watch(run, true);
        }
    }
    const uint64_t trace = sim_world_trace(world);
    run_end_world(run);
    return trace;
}

static void run_skew(struct sim_run *run)
{
    const uint64_t without = live_with(run, NO_SKEW);
    const uint64_t with = live_with(run, OFFSETS);
    run_check(run, "clocks-12h-apart-change-nothing", without == with,
              "traces of the same life: %016llx and, with wrong clocks, %016llx",
              (unsigned long long)without, (unsigned long long)with);
    live_with(run, OFFSETS_AND_DRIFT);
}

const struct sim_scenario scenario_skew = {
    .name = "skew",
    .summary = "clocks up to twelve hours apart, that run fast and slow",
    .run = run_skew,
};

static bool is_not_running(void *context)
{
    const struct notice *notice = context;
    return sim_world_state(notice->world, notice->identity) != SIM_RUNNING;
}

static void run_clone(struct sim_run *run)
{
    run_world(run, 1);
    if (!run_ready(run)) {
        run_end_world(run);
        return;
    }
    struct sim_world *world = run->world;
    sim_world_run(world, 30 * SIM_US_PER_S);
    const uint32_t slot = run_pick(run);
    /* A restart within a second is no clone. */
    run_doubt(run, slot, true);
    sim_world_crash(world, slot);
    sim_world_run(world, 500 * SIM_US_PER_MS);
    sim_world_start(world, slot, SIM_DISK_KEPT);
    sim_world_run(world, 60 * SIM_US_PER_S);
    run_check(run, "restart-is-no-clone", sim_world_state(world, slot) == SIM_RUNNING,
              "the node that restarted %s",
              sim_world_state(world, slot) == SIM_RUNNING ? "runs" : "was stopped");

    const uint32_t clone = sim_world_add_clone(world, slot);
    const uint32_t seed = slot == 0 ? 1 : 0;
    sim_world_set_seeds(world, clone, &seed, 1);
    sim_world_start(world, clone, SIM_DISK_KEPT);
    struct notice waited = {.world = world, .identity = clone};
    const uint64_t begin_us = sim_world_now_us(world);
    const bool stopped =
        sim_world_run_until(world, begin_us + LIMIT_US, STEP_US, is_not_running, &waited);
    run_check_time(run, "clone-stopped", stopped ? sim_world_now_us(world) - begin_us : NEVER,
                   STOP_LIMIT_US);
    run_check_agreed(run, "agreed-after", run_heal_limit_us(run));
    sim_world_run(world, 60 * SIM_US_PER_S);
    run_check(run, "original-runs", sim_world_state(world, slot) == SIM_RUNNING,
              "the node that was there first %s",
              sim_world_state(world, slot) == SIM_RUNNING ? "runs" : "was stopped");
    run_check(run, "still-agreed", run_is_agreed(run), "a minute later");
    run_check(run, "one-was-stopped", run->watch->stopped_count == 1, "%llu were",
              (unsigned long long)run->watch->stopped_count);
    run_check_watch(run, true);
    run_end_world(run);
}

const struct sim_scenario scenario_clone = {
    .name = "clone",
    .summary = "a second node with the key of one that runs: it has to stop, the first goes on",
    .run = run_clone,
};

/* Crashes `slot`, leaves it down for `down_us`, and starts it with what became of its disk. */
static void come_back(struct sim_run *run, uint32_t slot, const char *name, enum sim_disk disk,
                      uint64_t down_us)
{
    sim_world_crash(run->world, slot);
    sim_world_run(run->world, down_us);
    sim_world_start(run->world, slot, disk);
    run_check_agreed(run, name, run_heal_limit_us(run));
    sim_world_run(run->world, 5 * SIM_US_PER_S);
}

/* The same after it said good-bye. */
static void leave_and_come_back(struct sim_run *run, uint32_t slot, const char *name,
                                enum sim_disk disk)
{
    sim_world_leave(run->world, slot);
    sim_world_run(run->world, 5 * SIM_US_PER_S);
    sim_world_start(run->world, slot, disk);
    run_check_agreed(run, name, run_heal_limit_us(run));
    sim_world_run(run->world, 5 * SIM_US_PER_S);
}

/* The same, and when it comes back it reaches nobody at first. */
static void cut_and_come_back(struct sim_run *run, uint32_t slot)
{
    struct sim_network *network = sim_world_network(run->world);
    sim_world_crash(run->world, slot);
    sim_world_run(run->world, 40 * SIM_US_PER_S);
    sim_network_set_host_loss(network, slot, SIM_PPM, SIM_PPM);
    sim_world_start(run->world, slot, SIM_DISK_LOST);
    sim_world_run(run->world, 20 * SIM_US_PER_S);
    sim_network_set_host_loss(network, slot, 0, 0);
    run_check_agreed(run, "disk-lost-and-cut-off", run_heal_limit_us(run));
    sim_world_run(run->world, 5 * SIM_US_PER_S);
}

static void run_lost_disk(struct sim_run *run)
{
    run_world(run, 0);
    if (!run_ready(run)) {
        run_end_world(run);
        return;
    }
    struct sim_world *world = run->world;
    const uint32_t slot = run_pick(run);
    run_doubt(run, slot, true);
    sim_world_snapshot_disk(world, slot);
    /* Each pause makes it refute, so that its incarnation is above what an old disk says. */
    for (size_t i = 0; i < 3; i++) {
        sim_world_pause(world, slot);
        sim_world_run(world, 6 * SIM_US_PER_S);
        sim_world_resume(world, slot);
        run_until_agreed(run, LIMIT_US);
    }
    come_back(run, slot, "disk-lost-at-once", SIM_DISK_LOST, 300 * SIM_US_PER_MS);
    come_back(run, slot, "disk-lost", SIM_DISK_LOST, 10 * SIM_US_PER_S);
    come_back(run, slot, "disk-lost-out-of-ring", SIM_DISK_LOST, 60 * SIM_US_PER_S);
    come_back(run, slot, "disk-rolled-back-at-once", SIM_DISK_ROLLED_BACK, 300 * SIM_US_PER_MS);
    come_back(run, slot, "disk-rolled-back", SIM_DISK_ROLLED_BACK, 10 * SIM_US_PER_S);
    leave_and_come_back(run, slot, "left-disk-kept", SIM_DISK_KEPT);
    leave_and_come_back(run, slot, "left-disk-lost", SIM_DISK_LOST);
    leave_and_come_back(run, slot, "left-disk-rolled-back", SIM_DISK_ROLLED_BACK);
    cut_and_come_back(run, slot);
    run_check(run, "is-itself", run->watch->stopped_count == 0, "%llu nodes were stopped",
              (unsigned long long)run->watch->stopped_count);
    run_check_watch(run, true);
    run_end_world(run);
}

const struct sim_scenario scenario_lost_disk = {
    .name = "lost-disk",
    .summary = "a node comes back without its disk, or with an older one, crashed or left",
    .run = run_lost_disk,
};
