/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "sim/run_priv.h"

#define HOLD_S 60u
/* Until each side has come to terms; not promised anywhere. */
#define SPLIT_LIMIT_US (120 * SIM_US_PER_S)
#define PARTS_MAX 3u

struct part {
    const uint8_t *parts; /* by slot */
    uint8_t part;
};

static bool is_in_part(void *context, uint32_t slot)
{
    const struct part *part = context;
    return part->parts[slot] == part->part;
}

struct split {
    struct sim_run *run;
    const uint8_t *parts;
    uint8_t parts_count;
};

static bool is_each_agreed(void *context)
{
    const struct split *split = context;
    for (uint8_t i = 0; i < split->parts_count; i++) {
        struct part part = {.parts = split->parts, .part = i};
        if (!run_is_agreed_among(split->run, is_in_part, &part)) {
            return false;
        }
    }
    return true;
}

/* `shares`: of a hundred nodes, how many are in each part but the last. */
static void split_and_heal(struct sim_run *run, const char *name, const uint32_t *shares,
                           uint8_t parts_count, uint64_t hold_us)
{
    struct sim_world *world = run->world;
    struct sim_network *network = sim_world_network(world);
    uint8_t *parts = mem_alloc_array(run->nodes, sizeof *parts);
    for (uint32_t slot = 0; slot < run->nodes; slot++) {
        uint32_t drawn = (uint32_t)random_below(sim_world_random(world), 100);
        while (parts[slot] + 1 < parts_count && drawn >= shares[parts[slot]]) {
            drawn -= shares[parts[slot]++];
        }
        sim_network_set_group(network, slot, parts[slot]);
        run_doubt(run, slot, true);
    }
    for (uint32_t i = 0; i < parts_count; i++) {
        for (uint32_t j = 0; j < parts_count; j++) {
            sim_network_set_cut(network, i, j, i != j);
        }
    }
    struct split split = {.run = run, .parts = parts, .parts_count = parts_count};
    const uint64_t begin_us = sim_world_now_us(world);
    char text[SIM_NAME_CHARS];
    if (sim_world_run_until(world, begin_us + SPLIT_LIMIT_US, STEP_US, is_each_agreed, &split)) {
        snprintf(text, sizeof text, "%s-parted-agreed", name);
        run_figure_time(run, text, sim_world_now_us(world) - begin_us);
    }
    if (sim_world_now_us(world) < begin_us + hold_us) {
        sim_world_run(world, begin_us + hold_us - sim_world_now_us(world));
    }
    sim_network_heal(network);
    snprintf(text, sizeof text, "%s-healed", name);
    run_check_agreed(run, text, run_heal_limit_us(run));
    sim_world_run(world, 5 * SIM_US_PER_S);
    free(parts);
}

void measure_halves(struct sim_run *run, uint64_t hold_us)
{
    static const uint32_t halves[] = {50};
    split_and_heal(run, "halves", halves, 2, hold_us);
}

static void run_partition(struct sim_run *run)
{
    static const uint32_t thirds[] = {33, 33};
    static const uint32_t minority[] = {10};
    const uint64_t hold_us =
        (run->options->duration_s ? run->options->duration_s : HOLD_S) * SIM_US_PER_S;
    run_world(run, 0);
    if (run_ready(run)) {
        measure_halves(run, hold_us);
        split_and_heal(run, "thirds", thirds, PARTS_MAX, hold_us / 4);
        split_and_heal(run, "minority", minority, 2, hold_us / 2);
        for (uint32_t slot = 0; slot < run->nodes; slot++) {
            run_doubt(run, slot, false);
        }
        sim_world_run(run->world, 30 * SIM_US_PER_S);
        run_check_watch(run, true);
    }
    run_end_world(run);
}

const struct sim_scenario scenario_partition = {
    .name = "partition",
    .summary = "the network falls into halves, thirds, a minority, and heals",
    .run = run_partition,
};
