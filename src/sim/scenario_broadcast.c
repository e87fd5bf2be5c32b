/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "sim/run_priv.h"

#define BROADCASTS 200u
#define LOSS_PPM 50000u
/* Until the estimate of round trips has seen some loss. */
#define SETTLE_US (60 * SIM_US_PER_S)
#define PAUSE_US (200 * SIM_US_PER_MS)
#define LIMIT_US (2 * SIM_US_PER_S)
#define P99_LIMIT_US (700 * SIM_US_PER_MS)

/* Who heard the broadcast of one node. */
struct hearing {
    struct sim_world *world;
    uint32_t origin; /* its identity */
    uint8_t *has;    /* by slot */
    size_t missing_count;
    uint64_t last_us;
    uint64_t twice_count;
};

static void on_news(void *context, uint32_t slot, enum sim_news news, uint32_t identity)
{
    struct hearing *hearing = context;
    if (news != SIM_HEARD || identity != hearing->origin) {
        return;
    }
    if (hearing->has[slot]) {
        hearing->twice_count++;
        return;
    }
    hearing->has[slot] = 1;
    hearing->missing_count--;
    hearing->last_us = sim_world_now_us(hearing->world);
}

static bool is_heard(void *context)
{
    const struct hearing *hearing = context;
    return hearing->missing_count == 0;
}

/* How long it took until the last node heard it; NEVER: somebody did not. */
static uint64_t broadcast_once(struct sim_run *run, uint64_t *twice_count)
{
    struct sim_world *world = run->world;
    const uint32_t origin = run_pick(run);
    const uint64_t begin_us = sim_world_now_us(world);
    struct hearing hearing = {
        .world = world,
        .origin = sim_world_identity(world, origin),
        .has = mem_alloc_array(sim_world_slots_count(world), sizeof *hearing.has),
        .missing_count = run_running_count(run) - 1,
    };
    const struct sim_observer observer = {.news = on_news, .context = &hearing};
    sim_world_observe(world, &observer);
    sim_world_broadcast(world, origin);
    const bool done = sim_world_run_until(world, begin_us + LIMIT_US, STEP_US, is_heard, &hearing);
    sim_world_run(world, PAUSE_US);
    sim_world_unobserve(world, &hearing);
    *twice_count += hearing.twice_count;
    free(hearing.has);
    return done ? hearing.last_us - begin_us : NEVER;
}

static void run_broadcast(struct sim_run *run)
{
    const uint64_t count = run->options->duration_s ? run->options->duration_s : BROADCASTS;
    struct samples heard = {0};
    uint64_t twice_count = 0;
    run_world(run, 0);
    if (run_ready(run) && sim_world_protocol(run->world)->broadcast) {
        if (run->options->loss_ppm == SIM_LOSS_DEFAULT) {
            sim_network_set_loss(sim_world_network(run->world), LOSS_PPM);
        }
        sim_world_run(run->world, SETTLE_US);
        for (uint64_t i = 0; i < count; i++) {
            samples_add(&heard, broadcast_once(run, &twice_count));
        }
        run_figure_time(run, "heard-by-all-p50", samples_percentile(&heard, 50));
        run_check_time(run, "heard-by-all-p99", samples_percentile(&heard, 99), P99_LIMIT_US);
        run_figure_time(run, "heard-by-all-max", samples_percentile(&heard, 100));
        run_figure(run, "broadcasts", "", (double)heard.count);
        run_figure(run, "heard-twice", "", (double)twice_count);
    }
    samples_done(&heard);
    run_end_world(run);
}

const struct sim_scenario scenario_broadcast = {
    .name = "broadcast",
    .summary = "5% of all datagrams are lost: until the last node heard what one tells all",
    .run = run_broadcast,
};
