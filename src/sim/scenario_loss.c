/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "sim/run_priv.h"

#define MEASURED_S 600u
/* A node is bad for so long: enough to leave the ring, come back and leave again, if it did. */
#define BAD_US (180 * SIM_US_PER_S)

static void run_loss(struct sim_run *run)
{
    const uint64_t seconds = run->options->duration_s ? run->options->duration_s : MEASURED_S;
    run_world(run, 0);
    if (!run_ready(run)) {
        run_end_world(run);
        return;
    }
    struct sim_network *network = sim_world_network(run->world);
    const struct watch *watch = run->watch;
    sim_network_set_loss(network, 10000);
    sim_world_run(run->world, seconds * SIM_US_PER_S);
    run_figure(run, "node-seconds-each", "s", (double)run->nodes * (double)seconds);
    run_figure(run, "healthy-unreachable-at-1%", "", (double)watch->accused_count);
    run_check_watch(run, true);

    const uint64_t before = watch->accused_count;
    sim_network_set_loss(network, 50000);
    sim_world_run(run->world, seconds * SIM_US_PER_S);
    run_figure(run, "healthy-unreachable-at-5%", "", (double)(watch->accused_count - before));
    run_check(run, "none-leaves-ring-at-5%", watch->ring_left_count == 0, "%llu did",
              (unsigned long long)watch->ring_left_count);

    sim_network_set_loss(network, 0);
    run_check_agreed(run, "agreed-after", run_heal_limit_us(run));
    run_end_world(run);
}

const struct sim_scenario scenario_loss = {
    .name = "loss",
    .summary = "1% of all datagrams are lost for long, then 5%: nobody healthy is thrown out",
    .run = run_loss,
};

/* How often one member came into or left the rings of others. */
struct ring_watch {
    uint32_t identity;
    uint32_t *changes; /* by slot */
};

static void on_ring_news(void *context, uint32_t slot, enum sim_news news, uint32_t identity)
{
    struct ring_watch *watch = context;
    if (identity == watch->identity && (news == SIM_RING_ENTERED || news == SIM_RING_LEFT)) {
        watch->changes[slot]++;
    }
}

struct bad_kind {
    const char *name;
    uint32_t out_ppm;
    uint32_t in_ppm;
    uint32_t up_ms; /* flapping; 0: bad all the time */
    uint32_t down_ms;
};

static void run_bad(struct sim_run *run, uint32_t slot, const struct bad_kind *kind)
{
    struct sim_network *network = sim_world_network(run->world);
    const uint64_t end_us = sim_world_now_us(run->world) + BAD_US;
    while (sim_world_now_us(run->world) < end_us) {
        sim_network_set_host_loss(network, slot, kind->out_ppm, kind->in_ppm);
        sim_world_run(run->world, kind->up_ms ? kind->down_ms * SIM_US_PER_MS : BAD_US);
        if (kind->up_ms) {
            sim_network_set_host_loss(network, slot, 0, 0);
            sim_world_run(run->world, kind->up_ms * SIM_US_PER_MS);
        }
    }
}

static void judge_bad(struct sim_run *run, const struct bad_kind *kind)
{
    const uint32_t slot = run_pick(run);
    struct ring_watch watch = {.identity = sim_world_identity(run->world, slot)};
    watch.changes = mem_alloc_array(sim_world_slots_count(run->world), sizeof *watch.changes);
    const struct sim_observer observer = {.news = on_ring_news, .context = &watch};
    run_doubt(run, slot, true);
    sim_world_observe(run->world, &observer);
    run_bad(run, slot, kind);
    sim_world_unobserve(run->world, &watch);
    uint32_t most = 0;
    for (uint32_t other = 0; other < run->nodes; other++) {
        most = other != slot && watch.changes[other] > most ? watch.changes[other] : most;
    }
    free(watch.changes);
    char name[SIM_NAME_CHARS];
    snprintf(name, sizeof name, "%s-changes-ring-once", kind->name);
    run_check(run, name, most <= 1, "%u times at most, in one node's view", most);
    sim_network_set_host_loss(sim_world_network(run->world), slot, 0, 0);
    snprintf(name, sizeof name, "%s-mended-agreed", kind->name);
    run_check_agreed(run, name, run_heal_limit_us(run));
    sim_world_run(run->world, 10 * SIM_US_PER_S);
    run_doubt(run, slot, false);
}

static void run_bad_node(struct sim_run *run)
{
    static const struct bad_kind kinds[] = {
        {.name = "80%-loss", .out_ppm = 800000, .in_ppm = 800000},
        {.name = "50%-loss", .out_ppm = 500000, .in_ppm = 500000},
        {.name = "deaf", .in_ppm = SIM_PPM},
        {.name = "mute", .out_ppm = SIM_PPM},
        {.name = "flaps-fast",
         .out_ppm = SIM_PPM,
         .in_ppm = SIM_PPM,
         .up_ms = 3000,
         .down_ms = 4000},
        {.name = "flaps", .out_ppm = SIM_PPM, .in_ppm = SIM_PPM, .up_ms = 20000, .down_ms = 20000},
        {.name = "flaps-slow",
         .out_ppm = SIM_PPM,
         .in_ppm = SIM_PPM,
         .up_ms = 25000,
         .down_ms = 35000},
    };
    run_world(run, 0);
    if (run_ready(run)) {
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
            judge_bad(run, &kinds[i]);
        }
        run_check_watch(run, true);
    }
    run_end_world(run);
}

const struct sim_scenario scenario_bad_node = {
    .name = "bad-node",
    .summary = "one node loses most datagrams, hears or says nothing, or flaps",
    .run = run_bad_node,
};
