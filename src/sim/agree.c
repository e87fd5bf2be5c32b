/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whether all views are equal and right. Digests tell whether they are equal, in a step for each
 * node; one of them is then compared with the truth.
 */

#include <stdio.h>

#include "sim/run_priv.h"

/* For how long agreement is waited for where it should have come long before. */
#define AGREE_LIMIT_US (300 * SIM_US_PER_S)

bool run_is_agreed_among(struct sim_run *run, bool (*is_in)(void *context, uint32_t slot),
                         void *context)
{
    struct sim_world *world = run->world;
    const struct sim_protocol *protocol = sim_world_protocol(world);
    const uint32_t count = (uint32_t)sim_world_slots_count(world);
    const void *first = NULL;
    uint64_t digest = 0;
    size_t alive = 0;
    size_t running = 0;
    for (uint32_t slot = 0; slot < count; slot++) {
        if (sim_world_state(world, slot) != SIM_RUNNING || (is_in && !is_in(context, slot))) {
            continue;
        }
        const void *node = sim_world_node(world, slot);
        if (!first) {
            first = node;
            digest = protocol->digest(node);
            alive = protocol->alive_count(node);
        } else if (protocol->digest(node) != digest) {
            return false;
        }
        running++;
    }
    if (running != alive) {
        return false;
    }
    /* They are as many as they see, so they see each other if the first sees them all. */
    for (uint32_t slot = 0; slot < count; slot++) {
        if (sim_world_state(world, slot) == SIM_RUNNING && (!is_in || is_in(context, slot)) &&
            !protocol->sees_alive(first, sim_world_identity(world, slot))) {
            return false;
        }
    }
    return running > 0;
}

bool run_is_agreed(struct sim_run *run)
{
    return run_is_agreed_among(run, NULL, NULL);
}

static bool is_agreed(void *context)
{
    return run_is_agreed(context);
}

uint64_t run_until_agreed(struct sim_run *run, uint64_t limit_us)
{
    const uint64_t begin_us = sim_world_now_us(run->world);
    const bool done = sim_world_run_until(run->world, begin_us + limit_us, STEP_US, is_agreed, run);
    return done ? sim_world_now_us(run->world) - begin_us : NEVER;
}

/* How many that run `slot` does not see, and how many it sees that do not; one of each. */
struct difference {
    size_t missing;
    uint32_t one_missing;
    size_t extra;
    uint32_t one_extra;
};

static struct difference compare(const struct sim_run *run, uint32_t slot)
{
    struct sim_world *world = run->world;
    const struct sim_protocol *protocol = sim_world_protocol(world);
    const void *node = sim_world_node(world, slot);
    struct difference found = {0};
    for (uint32_t other = 0; other < sim_world_slots_count(world); other++) {
        const bool is_seen = protocol->sees_alive(node, sim_world_identity(world, other));
        const bool runs = sim_world_state(world, other) == SIM_RUNNING;
        if (runs && !is_seen) {
            found.missing++;
            found.one_missing = other;
        } else if (!runs && is_seen && sim_world_identity(world, other) == other) {
            found.extra++;
            found.one_extra = other;
        }
    }
    return found;
}

/* All see who runs; so they differ in who does not, or in versions. */
static void describe_digests(const struct sim_run *run, char text[SIM_TEXT_CHARS])
{
    struct sim_world *world = run->world;
    const struct sim_protocol *protocol = sim_world_protocol(world);
    uint32_t first = UINT32_MAX;
    uint32_t last_other = 0;
    size_t others = 0;
    for (uint32_t slot = 0; slot < sim_world_slots_count(world); slot++) {
        if (sim_world_state(world, slot) != SIM_RUNNING) {
            continue;
        }
        first = first == UINT32_MAX ? slot : first;
        if (protocol->digest(sim_world_node(world, slot)) !=
            protocol->digest(sim_world_node(world, first))) {
            others++;
            last_other = slot;
        }
    }
    const size_t alive =
        first == UINT32_MAX ? 0 : protocol->alive_count(sim_world_node(world, first));
    if (others > 0) {
        snprintf(text, SIM_TEXT_CHARS, "; digests: %zu nodes (%u) have another than %u", others,
                 last_other, first);
    } else if (alive != run_running_count(run)) {
        snprintf(text, SIM_TEXT_CHARS, "; %u counts %zu alive, %zu are", first, alive,
                 run_running_count(run));
    }
}

void run_describe(struct sim_run *run, char ret_text[SIM_TEXT_CHARS])
{
    size_t wrong = 0;
    uint32_t worst_slot = 0;
    struct difference worst = {0};
    ret_text[0] = 0;
    for (uint32_t slot = 0; slot < sim_world_slots_count(run->world); slot++) {
        if (sim_world_state(run->world, slot) != SIM_RUNNING) {
            continue;
        }
        const struct difference found = compare(run, slot);
        const size_t differs = found.missing + found.extra;
        wrong += differs > 0 ? 1 : 0;
        if (differs > worst.missing + worst.extra) {
            worst = found;
            worst_slot = slot;
        }
    }
    if (wrong > 0) {
        snprintf(ret_text, SIM_TEXT_CHARS,
                 "; %zu nodes of %zu are wrong, most %u: lacks %zu (%u), has %zu too many (%u)",
                 wrong, run_running_count(run), worst_slot, worst.missing, worst.one_missing,
                 worst.extra, worst.one_extra);
    }
    if (ret_text[0] == 0) {
        describe_digests(run, ret_text);
    }
}

void run_check_agreed(struct sim_run *run, const char *name, uint64_t limit_us)
{
    const double limit_s = (double)limit_us / (double)SIM_US_PER_S;
    const uint64_t us = run_until_agreed(run, AGREE_LIMIT_US);
    run_figure_time(run, name, us);
    if (us != NEVER) {
        run_check(run, name, us <= limit_us, "%.2f s; at most %.1f s",
                  (double)us / (double)SIM_US_PER_S, limit_s);
        return;
    }
    char text[SIM_TEXT_CHARS];
    run_describe(run, text);
    run_check(run, name, false, "never; at most %.1f s%s", limit_s, text);
}
