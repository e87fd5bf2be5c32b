/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "sim/deliver_priv.h"

/*
 * What must hold when nodes fail while a file is fetched: whatever those that are left and reach
 * each other have together, each of them gets; and only if a block, or the list, is with none of
 * them does any of them hear that nobody has it.
 */

#define PARTS_MAX 3u
#define COPIES_MAX 4u
#define GONE_PERCENT_MAX 50u
/* Of those that have something, so many know the list of blocks, besides one. */
#define LISTED_PERCENT 30u
#define DISTURBED_PERCENT 130u
#define STEP_SHORT_US SIM_US_PER_MS

struct faults {
    struct sim_run *run;
    struct sim_swarm_options options;
    struct sim_swarm *swarm;
    struct random random;
    uint32_t *parts;
    bool *gone;
    bool *is_denied; /* by node: it may hear that nobody has it */
};

static struct faults faults_new(struct sim_run *run)
{
    struct faults faults = {.run = run, .options = deliver_options(run)};
    const uint32_t count = faults.options.nodes_count;
    random_init(&faults.random, faults.options.seed);
    faults.swarm = sim_swarm_new(&faults.options);
    faults.parts = mem_alloc_array(count, sizeof *faults.parts);
    faults.gone = mem_alloc_array(count, sizeof *faults.gone);
    faults.is_denied = mem_alloc_array(count, sizeof *faults.is_denied);
    return faults;
}

static void faults_end(struct faults *faults)
{
    deliver_tell(faults->run, faults->swarm);
    sim_swarm_free(faults->swarm);
    free(faults->parts);
    free(faults->gone);
    free(faults->is_denied);
}

static bool flip(struct faults *faults)
{
    return random_below(&faults->random, 2) == 0;
}

static void scatter(struct faults *faults)
{
    const uint32_t nodes = faults->options.nodes_count;
    const uint64_t copies_max = 1 + random_below(&faults->random, COPIES_MAX);
    for (uint32_t block = 0; block < sim_swarm_blocks_count(faults->swarm); block++) {
        for (uint64_t i = 1 + random_below(&faults->random, copies_max); i > 0; i--) {
            sim_swarm_give(faults->swarm, (uint32_t)random_below(&faults->random, nodes), block);
        }
    }
    const uint32_t listed = (uint32_t)random_below(&faults->random, nodes);
    for (uint32_t i = 0; i < nodes; i++) {
        if (i == listed || random_below(&faults->random, 100) < LISTED_PERCENT) {
            /* With a block: who has nothing but the list is not known to have anything. */
            const uint32_t blocks = sim_swarm_blocks_count(faults->swarm);
            sim_swarm_give(faults->swarm, i, (uint32_t)random_below(&faults->random, blocks));
            sim_swarm_know(faults->swarm, i);
        }
    }
}

static void fail(struct faults *faults)
{
    const uint32_t nodes = faults->options.nodes_count;
    const uint64_t percent = random_below(&faults->random, GONE_PERCENT_MAX + 1);
    for (uint32_t i = 0; i < nodes; i++) {
        if (random_below(&faults->random, 100) < percent) {
            faults->gone[i] = true;
            sim_swarm_kill(faults->swarm, i);
        }
    }
    const uint64_t parts_count = 1 + random_below(&faults->random, PARTS_MAX);
    for (uint32_t i = 0; i < nodes; i++) {
        faults->parts[i] = (uint32_t)random_below(&faults->random, parts_count);
    }
    sim_swarm_divide(faults->swarm, faults->parts);
}

static void heal(struct faults *faults)
{
    for (uint32_t i = 0; i < faults->options.nodes_count; i++) {
        faults->parts[i] = 0;
    }
    sim_swarm_divide(faults->swarm, faults->parts);
}

/* All that have not got it begin, some a little later. */
static void start(struct faults *faults)
{
    const uint32_t nodes = faults->options.nodes_count;
    for (uint32_t i = 0; i < nodes; i++) {
        struct sim_swarm_node node;
        sim_swarm_node(faults->swarm, i, &node);
        if (faults->gone[i] || node.took_us != SIM_SWARM_NEVER) {
            continue;
        }
        sim_swarm_start(faults->swarm, i, (uint32_t)random_below(&faults->random, nodes));
        if (flip(faults)) {
            (void)sim_swarm_run(faults->swarm, random_below(&faults->random, 20 * STEP_SHORT_US));
        }
    }
}

static bool is_whole(const struct faults *faults, uint32_t part)
{
    bool is_listed = false;
    for (uint32_t i = 0; i < faults->options.nodes_count; i++) {
        struct sim_swarm_node node;
        sim_swarm_node(faults->swarm, i, &node);
        is_listed |= !faults->gone[i] && faults->parts[i] == part && node.has_list;
    }
    for (uint32_t block = 0; is_listed && block < sim_swarm_blocks_count(faults->swarm); block++) {
        bool is_somewhere = false;
        for (uint32_t i = 0; i < faults->options.nodes_count && !is_somewhere; i++) {
            is_somewhere = !faults->gone[i] && faults->parts[i] == part &&
                           sim_swarm_has(faults->swarm, i, block);
        }
        is_listed = is_somewhere;
    }
    return is_listed;
}

/* When all fetches are over: what each part had together did not change since it came about. */
static void check_answers(struct faults *faults, const char *name)
{
    bool whole[PARTS_MAX];
    for (uint32_t part = 0; part < PARTS_MAX; part++) {
        whole[part] = is_whole(faults, part);
    }
    unsigned wrong = 0;
    unsigned hanging = 0;
    unsigned fetched = 0;
    unsigned denied = 0;
    for (uint32_t i = 0; i < faults->options.nodes_count; i++) {
        struct sim_swarm_node node;
        sim_swarm_node(faults->swarm, i, &node);
        if (faults->gone[i]) {
            continue;
        }
        const bool has_got = node.has_ended && node.err == 0;
        hanging += !node.has_ended;
        wrong += node.has_ended && has_got != whole[faults->parts[i]] && !has_got;
        wrong += has_got && !node.is_complete;
        wrong +=
            node.has_ended && node.err != 0 && node.err != -ENOENT && node.err != -EHOSTUNREACH;
        fetched += has_got;
        denied += node.has_ended && !has_got;
    }
    run_figure(faults->run, name, "fetched", fetched);
    run_check(faults->run, name, wrong == 0 && hanging == 0,
              "%u wrong answers, %u never ended; %u fetched, %u denied", wrong, hanging, fetched,
              denied);
}

static void run_deliver_parts(struct sim_run *run)
{
    struct faults faults = faults_new(run);
    const uint64_t limit_us = deliver_hangs_us(&faults.options);
    scatter(&faults);
    if (flip(&faults)) {
        fail(&faults);
        start(&faults);
    } else {
        start(&faults);
        (void)sim_swarm_run(faults.swarm,
                            random_below(&faults.random, deliver_ideal_us(&faults.options)));
        fail(&faults);
    }
    (void)sim_swarm_run(faults.swarm, limit_us);
    check_answers(&faults, "in-parts");
    heal(&faults);
    sim_swarm_rest(faults.swarm, SIM_SWARM_KNOWN_US);
    start(&faults);
    (void)sim_swarm_run(faults.swarm, limit_us);
    check_answers(&faults, "together-again");
    faults_end(&faults);
}

const struct sim_scenario scenario_deliver_parts = {
    .name = "deliver-parts",
    .summary = "blocks lie scattered, nodes die, the rest is in parts: each gets what its part has",
    .run = run_deliver_parts,
};

/* Whether the receivers have each block once, at least. */
static bool has_left(const struct sim_swarm *swarm, uint32_t nodes)
{
    for (uint32_t block = 0; block < sim_swarm_blocks_count(swarm); block++) {
        bool is_somewhere = false;
        for (uint32_t i = 1; i < nodes && !is_somewhere; i++) {
            is_somewhere = sim_swarm_has(swarm, i, block);
        }
        if (!is_somewhere) {
            return false;
        }
    }
    return true;
}

/* How long it takes until the last has it; NEVER. */
static uint64_t deliver_from_one(struct sim_run *run, const struct sim_swarm_options *options,
                                 bool dies)
{
    struct sim_swarm *swarm = sim_swarm_new(options);
    sim_swarm_fill(swarm, 0);
    for (uint32_t i = 1; i < options->nodes_count; i++) {
        sim_swarm_start(swarm, i, 0);
    }
    while (dies && !has_left(swarm, options->nodes_count) && sim_swarm_run(swarm, STEP_SHORT_US)) {
    }
    if (dies) {
        run_figure_time(run, "one-copy-has-left", sim_swarm_now_us(swarm));
        sim_swarm_kill(swarm, 0);
    }
    (void)sim_swarm_run(swarm, deliver_hangs_us(options));
    uint64_t last_us = 0;
    for (uint32_t i = 1; i < options->nodes_count; i++) {
        struct sim_swarm_node node;
        sim_swarm_node(swarm, i, &node);
        last_us = node.took_us > last_us ? node.took_us : last_us; /* NEVER is the most */
    }
    deliver_tell(run, swarm);
    sim_swarm_free(swarm);
    return last_us;
}

static void run_deliver_orphans(struct sim_run *run)
{
    const struct sim_swarm_options options = deliver_options(run);
    const uint64_t calm_us = deliver_from_one(run, &options, false);
    const uint64_t hurt_us = deliver_from_one(run, &options, true);
    run_figure_time(run, "undisturbed", calm_us);
    run_check_time(run, "time-disturbed", hurt_us, calm_us / 100 * DISTURBED_PERCENT);
}

const struct sim_scenario scenario_deliver_orphans = {
    .name = "deliver-orphans",
    .summary = "the publisher is killed when one copy has left it; all finish",
    .run = run_deliver_orphans,
};
