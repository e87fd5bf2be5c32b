/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/run_priv.h"

/*
 * All that can go wrong, in an order that the seed decides. At the end everything that can be
 * mended is; after that, all views have to become equal and right.
 */

#define MEASURED_S 120u
#define GROUPS 4u
/* Everybody knows these; they run at the end. Who lost its disk, or joined while nobody was in
 * reach, has no other way in. */
#define SEEDS 3u
/* To notice what crashed last, then as after a partition. */
#define NOTICE_US (5 * SIM_US_PER_S)

static const uint32_t seeds[SEEDS] = {0, 1, 2};

struct chaos {
    struct sim_run *run;
    struct random *random;
    const struct chaos_options *options;
    uint32_t joiners;
    uint64_t acts;
};

static uint32_t any_slot(const struct chaos *chaos)
{
    return (uint32_t)random_below(chaos->random, sim_world_slots_count(chaos->run->world));
}

/* At least a half goes on running: less is another story. */
static bool may_lose_one(const struct chaos *chaos)
{
    return run_running_count(chaos->run) > chaos->run->nodes / 2 + 1;
}

static void act_stop(struct chaos *chaos)
{
    struct sim_world *world = chaos->run->world;
    if (may_lose_one(chaos)) {
        const uint32_t slot = run_pick(chaos->run);
        const uint64_t how = random_below(chaos->random, 5);
        if (how < 2) {
            sim_world_crash(world, slot);
        } else if (how < 4) {
            sim_world_pause(world, slot);
        } else {
            sim_world_leave(world, slot);
        }
    }
}

static void revive(struct chaos *chaos, uint32_t slot)
{
    struct sim_world *world = chaos->run->world;
    const enum sim_state state = sim_world_state(world, slot);
    if (state == SIM_PAUSED) {
        sim_world_resume(world, slot);
    } else if (state == SIM_CRASHED || state == SIM_LEFT) {
        const struct chaos_options *options = chaos->options;
        sim_world_start(world, slot,
                        options->disks[random_below(chaos->random, options->disks_count)]);
    }
}

static void act_revive(struct chaos *chaos)
{
    for (size_t i = 0; i < 4; i++) {
        revive(chaos, any_slot(chaos));
    }
}

static void act_network(struct chaos *chaos)
{
    struct sim_network *network = sim_world_network(chaos->run->world);
    struct random *random = chaos->random;
    const uint32_t slot = any_slot(chaos);
    switch (random_below(random, 6)) {
    case 0:
        sim_network_set_loss(network, (uint32_t)random_below(random, 100000));
        break;
    case 1:
        sim_network_set_duplicate(network, (uint32_t)random_below(random, 300000));
        sim_network_set_late(network, (uint32_t)random_below(random, 300000));
        break;
    case 2:
        sim_network_set_host_loss(network, slot, (uint32_t)random_below(random, SIM_PPM + 1), 0);
        break;
    case 3:
        sim_network_set_host_loss(network, slot, 0, (uint32_t)random_below(random, SIM_PPM + 1));
        break;
    case 4:
        sim_network_set_host_loss(network, slot, 0, 0);
        break;
    default:
        sim_network_set_link_loss(network, slot, any_slot(chaos), SIM_PPM);
        break;
    }
}

static void act_partition(struct chaos *chaos)
{
    struct sim_network *network = sim_world_network(chaos->run->world);
    struct random *random = chaos->random;
    if (random_below(random, 2) == 0) {
        sim_network_heal(network);
        return;
    }
    for (uint32_t slot = 0; slot < sim_world_slots_count(chaos->run->world); slot++) {
        sim_network_set_group(network, slot, (uint32_t)random_below(random, GROUPS));
    }
    /* One way or both. */
    for (size_t i = 0; i < GROUPS; i++) {
        sim_network_set_cut(network, (uint32_t)random_below(random, GROUPS),
                            (uint32_t)random_below(random, GROUPS), true);
    }
}

static void act_join(struct chaos *chaos)
{
    if (chaos->joiners < CHAOS_JOINERS_MAX) {
        chaos->joiners++;
        const uint32_t slot = sim_world_add(chaos->run->world);
        sim_world_set_seeds(chaos->run->world, slot, seeds, SEEDS);
        sim_world_start(chaos->run->world, slot, SIM_DISK_KEPT);
    }
}

static void act(struct chaos *chaos)
{
    const uint64_t drawn = random_below(chaos->random, 100);
    chaos->acts++;
    if (drawn < 35) {
        act_stop(chaos);
    } else if (drawn < 60) {
        act_revive(chaos);
    } else if (drawn < 82) {
        act_network(chaos);
    } else if (drawn < 94) {
        act_partition(chaos);
    } else if (drawn < 97) {
        act_join(chaos);
    } else {
        const uint32_t slot = any_slot(chaos);
        sim_world_snapshot_disk(chaos->run->world, slot);
    }
}

/* What can be mended is; nodes that crashed or left stay away, but for a half of them, and
 * the seeds. */
static void mend(struct chaos *chaos)
{
    struct sim_world *world = chaos->run->world;
    struct sim_network *network = sim_world_network(world);
    const uint32_t slots = (uint32_t)sim_world_slots_count(world);
    sim_network_heal(network);
    sim_network_set_loss(network, 0);
    sim_network_set_duplicate(network, 0);
    sim_network_set_late(network, 0);
    sim_network_clear_links(network);
    for (uint32_t slot = 0; slot < slots; slot++) {
        sim_network_set_host_loss(network, slot, 0, 0);
        const bool is_chosen = random_below(chaos->random, 2) == 0;
        if (slot < SEEDS || sim_world_state(world, slot) == SIM_PAUSED || is_chosen) {
            revive(chaos, slot);
        }
    }
}

bool chaos_ready(struct sim_run *run)
{
    for (uint32_t slot = 0; slot < run->nodes; slot++) {
        sim_world_set_seeds(run->world, slot, seeds, SEEDS);
    }
    return run_ready(run);
}

void chaos_live(struct sim_run *run, const struct chaos_options *options)
{
    struct sim_world *world = run->world;
    struct chaos chaos = {.run = run, .random = sim_world_random(world), .options = options};
    const uint64_t end_us = sim_world_now_us(world) + options->seconds * SIM_US_PER_S;
    /* In a large network more happens at a time. */
    const uint64_t pause_us = 200 * SIM_US_PER_S / (100 + run->nodes);
    while (sim_world_now_us(world) < end_us) {
        act(&chaos);
        sim_world_run(world, random_below(chaos.random, 2 * pause_us));
    }
    if (run->options->log) {
        fputs("# all is mended\n", run->options->log);
    }
    mend(&chaos);
    run_figure(run, "acts", "", (double)chaos.acts);
    run_figure(run, "running-at-end", "", (double)run_running_count(run));
}

static void run_chaos(struct sim_run *run)
{
    static const enum sim_disk disks[] = {SIM_DISK_KEPT, SIM_DISK_KEPT, SIM_DISK_LOST,
                                          SIM_DISK_ROLLED_BACK};
    const struct chaos_options options = {
        .seconds = run->options->duration_s ? run->options->duration_s : MEASURED_S,
        .disks = disks,
        .disks_count = ARRAY_SIZE(disks),
    };
    run_world(run, CHAOS_JOINERS_MAX);
    if (!chaos_ready(run)) {
        run_end_world(run);
        return;
    }
    chaos_live(run, &options);
    run_check_agreed(run, "agreed-after", NOTICE_US + run_heal_limit_us(run));
    sim_world_run(run->world, 60 * SIM_US_PER_S);
    run_check(run, "still-agreed", run_is_agreed(run), "%zu nodes a minute later",
              run_running_count(run));
    run_check(run, "none-stopped", run->watch->stopped_count == 0, "%llu nodes were",
              (unsigned long long)run->watch->stopped_count);
    run_end_world(run);
}

const struct sim_scenario scenario_chaos = {
    .name = "chaos",
    .summary = "crashes, pauses, partitions, loss, lost disks, all at random; then all is mended",
    .run = run_chaos,
};
