/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "sim/run_priv.h"

#define MEASURED_S 300u
#define PAUSE_MS_MAX 29000u
/* Between two pauses of one node. Two with a second between them are one longer pause to whoever
 * slept through that second. */
#define AWAKE_US (15 * SIM_US_PER_S)

static void resume(void *context, uint64_t argument)
{
    struct sim_run *run = context;
    sim_world_resume(run->world, (uint32_t)argument);
}

/* `rested_us`: when each node may be paused again. */
static void pause_one(struct sim_run *run, struct samples *pauses, uint64_t *rested_us)
{
    struct random *random = sim_world_random(run->world);
    const uint32_t slot = run_pick(run);
    if (sim_world_now_us(run->world) < rested_us[slot]) {
        return;
    }
    const uint64_t pause_us = (1 + random_below(random, PAUSE_MS_MAX)) * SIM_US_PER_MS;
    rested_us[slot] = sim_world_now_us(run->world) + pause_us + AWAKE_US;
    run_doubt(run, slot, true);
    samples_add(pauses, pause_us);
    sim_world_pause(run->world, slot);
    sim_world_at(run->world, sim_world_now_us(run->world) + pause_us, resume, run, slot);
}

struct ring_count {
    uint64_t left_count;
};

static void on_news(void *context, uint32_t slot, enum sim_news news, uint32_t identity)
{
    struct ring_count *count = context;
    (void)slot;
    (void)identity;
    count->left_count += news == SIM_RING_LEFT ? 1 : 0;
}

/* Who was paused may not, when it wakes up, accuse those who were not. */
static void on_accusation(void *context, uint32_t slot, enum sim_news news, uint32_t identity)
{
    struct sim_run *run = context;
    if (news == SIM_SEES_UNREACHABLE && !run->watch->is_doubtful[identity] &&
        run->watch->is_doubtful[sim_world_identity(run->world, slot)]) {
        run->watch->accused_count++;
        run->watch->last_accused = identity;
        run->watch->last_accuser = slot;
        run->watch->last_us = sim_world_now_us(run->world);
    }
}

static void run_pause(struct sim_run *run)
{
    const uint64_t seconds = run->options->duration_s ? run->options->duration_s : MEASURED_S;
    struct samples pauses = {0};
    struct ring_count count = {0};
    uint64_t *rested_us = mem_alloc_array(run->nodes, sizeof *rested_us);
    run_world(run, 0);
    if (run_ready(run)) {
        const struct sim_observer ring = {.news = on_news, .context = &count};
        const struct sim_observer accusation = {.news = on_accusation, .context = run};
        sim_world_observe(run->world, &ring);
        sim_world_observe(run->world, &accusation);
        /* Some four of a hundred are asleep at any time. */
        const uint64_t every_us = 400 * SIM_US_PER_S / run->nodes;
        const uint64_t end_us = sim_world_now_us(run->world) + seconds * SIM_US_PER_S;
        while (sim_world_now_us(run->world) < end_us) {
            if (run_running_count(run) > 2 * (size_t)run->nodes / 3) {
                pause_one(run, &pauses, rested_us);
            }
            sim_world_run(run->world, every_us);
        }
        sim_world_run(run->world, PAUSE_MS_MAX * SIM_US_PER_MS);
        run_figure(run, "pauses", "", (double)pauses.count);
        run_figure_time(run, "pause-p50", samples_percentile(&pauses, 50));
        run_check(run, "none-leaves-ring", count.left_count == 0, "%llu left a node's ring",
                  (unsigned long long)count.left_count);
        run_check_watch(run, true);
        run_check_agreed(run, "agreed-after", run_heal_limit_us(run));
        sim_world_unobserve(run->world, &count);
    }
    free(rested_us);
    samples_done(&pauses);
    run_end_world(run);
}

const struct sim_scenario scenario_pause = {
    .name = "pause",
    .summary = "nodes stand still for up to 29 s: none leaves the ring",
    .run = run_pause,
};
