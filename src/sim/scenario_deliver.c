/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>

#include "sim/deliver_priv.h"

/*
 * A file goes from those that have it to those that want it, over links of one rate. What is ideal
 * is size over rate: all begin at once, and each link is as full as it gets.
 */

#define SIZE_BYTES ((uint64_t)64 * 1024 * 1024)
#define RATE_BYTES_PER_S UINT64_C(25000000)
#define DELAY_US UINT64_C(200)
/* Longer than this many times the ideal time, and some: it hangs. */
#define LIMIT_TIMES 20u
#define LIMIT_US (60 * SIM_US_PER_S)
/* What is promised, in hundredths of the ideal time; beside it, what does not depend on the size:
 * the way through the network of the first blocks. */
#define IDEAL_PERCENT 120u
#define IDEAL_PERCENT_MANY 130u
#define MANY_NODES 32u
#define START_US (200 * SIM_US_PER_MS)
#define COPIES_PERCENT 110u
#define KILL_PERCENT 130u
#define FROZEN_US (1500 * SIM_US_PER_MS)
#define DUPLICATE_PPM 5000u
#define KILLED_PERCENT 30u

struct deliver {
    struct sim_run *run;
    struct sim_swarm_options options;
    uint32_t holders_count;
    uint32_t receivers_count;
    unsigned kill_percent;
    uint32_t freeze_count;
};

struct delivered {
    bool all_done;
    uint64_t last_us;
    uint64_t median_us;
    double copies; /* that the first holder sent */
    double duplicate_share;
    double raced_share;
    uint64_t unfinished_count;
    struct sim_swarm_sums sums;
};

static uint64_t chosen(uint64_t value, uint64_t otherwise)
{
    return value > 0 ? value : otherwise;
}

struct sim_swarm_options deliver_options(const struct sim_run *run)
{
    const struct sim_delivery *delivery = &run->options->delivery;
    return (struct sim_swarm_options){
        .nodes_count = run->nodes,
        .seed = run->options->seed,
        .size_bytes = chosen(delivery->size_bytes, SIZE_BYTES),
        .block_bytes = delivery->block_bytes,
        .rate_bytes_per_s = chosen(delivery->rate_bytes_per_s, RATE_BYTES_PER_S),
        .delay_us = chosen(delivery->delay_us, DELAY_US),
    };
}

static struct deliver read_options(struct sim_run *run)
{
    const struct sim_delivery *delivery = &run->options->delivery;
    struct deliver deliver = {
        .run = run,
        .options = deliver_options(run),
        .holders_count = (uint32_t)chosen(delivery->holders_count, 1),
        .kill_percent = delivery->kill_percent,
        .freeze_count = delivery->freeze_count,
    };
    if (deliver.holders_count >= run->nodes) {
        deliver.holders_count = run->nodes - 1;
    }
    const uint32_t others = run->nodes - deliver.holders_count;
    deliver.receivers_count = (uint32_t)chosen(delivery->receivers_count, others);
    if (deliver.receivers_count > others) {
        deliver.receivers_count = others;
    }
    return deliver;
}

uint64_t deliver_ideal_us(const struct sim_swarm_options *options)
{
    const long double us =
        (long double)options->size_bytes * SIM_US_PER_S / (long double)options->rate_bytes_per_s;
    return (uint64_t)us;
}

uint64_t deliver_hangs_us(const struct sim_swarm_options *options)
{
    return LIMIT_TIMES * deliver_ideal_us(options) + LIMIT_US;
}

void deliver_tell(struct sim_run *run, const struct sim_swarm *swarm)
{
    struct sim_report *report = run->report;
    report->trace = report->trace * 31 + sim_swarm_trace(swarm);
    report->events_count += sim_swarm_events_count(swarm);
    report->virtual_us += sim_swarm_now_us(swarm);
}

static uint64_t ideal_us(const struct deliver *deliver)
{
    return deliver_ideal_us(&deliver->options);
}

static void disturb(const struct deliver *deliver, struct sim_swarm *swarm)
{
    struct random random;
    random_init(&random, deliver->options.seed + 1);
    const uint32_t kills = deliver->receivers_count * deliver->kill_percent / 100;
    uint32_t left = deliver->receivers_count;
    uint32_t wanted = kills + deliver->freeze_count;
    uint32_t done = 0;
    /* Each of those left with the same chance (Knuth, volume 2, 3.4.2, algorithm S). */
    for (uint32_t i = 0; i < deliver->receivers_count && wanted > 0; i++, left--) {
        if (random_below(&random, left) >= wanted) {
            continue;
        }
        wanted--;
        const uint32_t node = deliver->holders_count + i;
        if (done++ < kills) {
            sim_swarm_kill(swarm, node);
        } else {
            sim_swarm_freeze(swarm, node);
        }
    }
}

static void measure(const struct deliver *deliver, const struct sim_swarm *swarm,
                    struct delivered *ret)
{
    struct samples times = {0};
    uint64_t received = 0;
    uint64_t duplicate = 0;
    uint64_t raced = 0;
    for (uint32_t i = 0; i < deliver->receivers_count; i++) {
        struct sim_swarm_node node;
        sim_swarm_node(swarm, deliver->holders_count + i, &node);
        received += node.received_bytes;
        duplicate += node.duplicate_bytes;
        raced += node.raced_bytes;
        if (node.is_up && node.took_us == SIM_SWARM_NEVER) {
            ret->unfinished_count++;
        } else if (node.is_up) {
            samples_add(&times, node.took_us);
        }
    }
    struct sim_swarm_node publisher;
    sim_swarm_node(swarm, 0, &publisher);
    ret->all_done = ret->unfinished_count == 0;
    ret->last_us = samples_percentile(&times, 100);
    ret->median_us = samples_percentile(&times, 50);
    ret->copies = (double)publisher.sent_bytes / (double)deliver->options.size_bytes;
    ret->duplicate_share = received > 0 ? (double)duplicate / (double)received : 0;
    ret->raced_share = received > 0 ? (double)raced / (double)received : 0;
    ret->sums = sim_swarm_sums(swarm);
    samples_done(&times);
}

/* One delivery; `is_disturbed`: in the middle of it, nodes are killed and frozen. */
static struct delivered deliver_once(const struct deliver *deliver, bool is_disturbed)
{
    struct delivered delivered = {0};
    struct sim_swarm *swarm = sim_swarm_new(&deliver->options);
    for (uint32_t i = 0; i < deliver->holders_count; i++) {
        sim_swarm_fill(swarm, i);
    }
    for (uint32_t i = 0; i < deliver->receivers_count; i++) {
        sim_swarm_start(swarm, deliver->holders_count + i, i % deliver->holders_count);
    }
    bool is_going_on = true;
    if (is_disturbed) {
        is_going_on = sim_swarm_run(swarm, ideal_us(deliver) / 2);
        disturb(deliver, swarm);
    }
    if (is_going_on) {
        (void)sim_swarm_run(swarm, deliver_hangs_us(&deliver->options));
    }
    measure(deliver, swarm, &delivered);
    deliver_tell(deliver->run, swarm);
    sim_swarm_free(swarm);
    return delivered;
}

static void tell(const struct deliver *deliver, const struct delivered *delivered)
{
    struct sim_run *run = deliver->run;
    const double ideal = (double)ideal_us(deliver);
    const double receivers = deliver->receivers_count;
    run_figure(run, "ideal", "s", ideal / (double)SIM_US_PER_S);
    run_figure_time(run, "last", delivered->last_us);
    run_figure_time(run, "median", delivered->median_us);
    if (delivered->last_us != NEVER) {
        run_figure(run, "last-over-ideal", "", (double)delivered->last_us / ideal);
        run_figure(run, "sum-of-rates", "MB/s",
                   (double)deliver->options.size_bytes * receivers / (double)delivered->last_us);
    }
    run_figure(run, "publisher-sent", "copies", delivered->copies);
    run_figure(run, "duplicates", "%", 100 * delivered->duplicate_share);
    run_figure(run, "duplicates-in-the-end-race", "%", 100 * delivered->raced_share);
    run_figure(run, "messages", "per node", (double)delivered->sums.messages_count / receivers);
    run_figure(run, "requests", "per node", (double)delivered->sums.requests / receivers);
    run_figure(run, "refused", "per node", (double)delivered->sums.refused / receivers);
    run_figure(run, "insisted", "per node", (double)delivered->sums.insisted / receivers);
    run_figure(run, "hedged", "per node", (double)delivered->sums.hedged / receivers);
    run_figure(run, "raced", "per node", (double)delivered->sums.raced / receivers);
}

/* How long the delivery may take: a share more than the ideal, and the start, in which the first
 * blocks find their way: a few steps for each doubling of who has them. */
static uint64_t limit_of(const struct deliver *deliver)
{
    const unsigned percent =
        deliver->receivers_count > MANY_NODES / 2 ? IDEAL_PERCENT_MANY : IDEAL_PERCENT;
    const double steps = log2((double)deliver->receivers_count + 1);
    return ideal_us(deliver) * percent / 100 + START_US +
           (uint64_t)(steps * 20.0 * (double)deliver->options.delay_us);
}

static void check_all(const struct deliver *deliver, const struct delivered *delivered,
                      const char *name)
{
    run_check(deliver->run, name, delivered->all_done, "%llu of %u did not get it",
              (unsigned long long)delivered->unfinished_count, deliver->receivers_count);
}

static void check_duplicates(const struct deliver *deliver, const struct delivered *delivered)
{
    const double share = delivered->duplicate_share - delivered->raced_share;
    run_check(deliver->run, "few-duplicates", share * 1e6 <= DUPLICATE_PPM,
              "%.3f %% outside the end race; at most %.1f %%", 100 * share, DUPLICATE_PPM / 1e4);
}

static void run_deliver(struct sim_run *run)
{
    const struct deliver deliver = read_options(run);
    const struct delivered calm = deliver_once(&deliver, false);
    tell(&deliver, &calm);
    check_all(&deliver, &calm, "all-get-it");
    run_check_time(run, "time", calm.last_us, limit_of(&deliver));
    check_duplicates(&deliver, &calm);
    if (deliver.holders_count == 1 && deliver.receivers_count > 1) {
        run_check(run, "publisher-sends-once", calm.copies * 100 <= COPIES_PERCENT,
                  "%.3f copies; at most %.2f", calm.copies, COPIES_PERCENT / 100.0);
    }
    if (deliver.kill_percent == 0 && deliver.freeze_count == 0) {
        return;
    }
    const struct delivered hurt = deliver_once(&deliver, true);
    check_all(&deliver, &hurt, "others-get-it");
    run_figure(run, "disturbed-duplicates", "%", 100 * hurt.duplicate_share);
    run_figure(run, "disturbed-hedged", "per node",
               (double)hurt.sums.hedged / deliver.receivers_count);
    uint64_t limit_us = calm.last_us;
    limit_us = deliver.kill_percent > 0 ? limit_us * KILL_PERCENT / 100 : limit_us;
    limit_us += deliver.freeze_count > 0 ? FROZEN_US : 0;
    run_check_time(run, "time-disturbed", hurt.last_us, limit_us);
}

const struct sim_scenario scenario_deliver = {
    .name = "deliver",
    .summary = "a file goes to all (--size, --rate, --delay, --kill, ...): how long it takes",
    .run = run_deliver,
};

/* 30% of the receivers are killed in the middle. */
static void run_deliver_kill(struct sim_run *run)
{
    struct deliver deliver = read_options(run);
    deliver.kill_percent = deliver.kill_percent > 0 ? deliver.kill_percent : KILLED_PERCENT;
    const struct delivered calm = deliver_once(&deliver, false);
    check_all(&deliver, &calm, "all-get-it");
    run_figure_time(run, "undisturbed", calm.last_us);
    const struct delivered hurt = deliver_once(&deliver, true);
    check_all(&deliver, &hurt, "others-get-it");
    run_check_time(run, "time-disturbed", hurt.last_us, calm.last_us * KILL_PERCENT / 100);
}

const struct sim_scenario scenario_deliver_kill = {
    .name = "deliver-kill",
    .summary = "30% of those that fetch are killed in the middle; the others finish",
    .run = run_deliver_kill,
};

/* One of those that fetch freezes in the middle. */
static void run_deliver_freeze(struct sim_run *run)
{
    struct deliver deliver = read_options(run);
    deliver.freeze_count = deliver.freeze_count > 0 ? deliver.freeze_count : 1;
    const struct delivered calm = deliver_once(&deliver, false);
    check_all(&deliver, &calm, "all-get-it");
    run_figure_time(run, "undisturbed", calm.last_us);
    const struct delivered hurt = deliver_once(&deliver, true);
    check_all(&deliver, &hurt, "others-get-it");
    run_check_time(run, "time-disturbed", hurt.last_us, calm.last_us + FROZEN_US);
}

const struct sim_scenario scenario_deliver_freeze = {
    .name = "deliver-freeze",
    .summary = "one of those that fetch freezes in the middle; it costs the others little",
    .run = run_deliver_freeze,
};

/* More holders never make it slower. */
#define HOLDERS_MAX 8u
static void run_deliver_holders(struct sim_run *run)
{
    static const char *const names[] = {"1-holder", "2-holders", "4-holders", "8-holders"};
    struct deliver deliver = read_options(run);
    deliver.options.nodes_count = HOLDERS_MAX + 1;
    deliver.receivers_count = 1;
    uint64_t before_us = NEVER;
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        deliver.holders_count = 1u << i;
        const struct delivered delivered = deliver_once(&deliver, false);
        check_all(&deliver, &delivered, "gets-it");
        check_duplicates(&deliver, &delivered);
        const uint64_t limit_us = before_us == NEVER ? limit_of(&deliver) : before_us / 10 * 11;
        run_check_time(run, names[i], delivered.last_us, limit_us);
        before_us = delivered.last_us < before_us ? delivered.last_us : before_us;
    }
}

const struct sim_scenario scenario_deliver_holders = {
    .name = "deliver-holders",
    .summary = "one node fetches from 1, 2, 4 and 8 holders: more are never slower",
    .run = run_deliver_holders,
};

/* The oracle of availability: blocks lie scattered over nodes, some of which are killed. If those
 * that are left have all blocks together, everyone gets the file; if not, everyone hears so. */
static bool scatter(struct sim_swarm *swarm, const struct deliver *deliver, struct random *random,
                    bool *gone)
{
    const uint32_t nodes = deliver->options.nodes_count;
    bool is_whole = true;
    for (uint32_t i = 0; i < nodes; i++) {
        gone[i] = random_below(random, 100) < KILLED_PERCENT;
    }
    for (uint32_t block = 0; block < sim_swarm_blocks_count(swarm); block++) {
        bool is_somewhere = false;
        const uint64_t copies = 1 + random_below(random, 4);
        for (uint64_t i = 0; i < copies; i++) {
            const uint32_t node = (uint32_t)random_below(random, nodes);
            sim_swarm_give(swarm, node, block);
            is_somewhere |= !gone[node];
        }
        /* So that the other case comes up too, in large files. */
        if (!is_somewhere && deliver->options.seed % 2 == 0) {
            for (uint32_t node = 0; node < nodes && !is_somewhere; node++) {
                if (!gone[node]) {
                    sim_swarm_give(swarm, node, block);
                    is_somewhere = true;
                }
            }
        }
        is_whole &= is_somewhere;
    }
    return is_whole;
}

static void run_deliver_scattered(struct sim_run *run)
{
    const struct deliver deliver = read_options(run);
    const uint32_t nodes = deliver.options.nodes_count;
    struct random random;
    random_init(&random, deliver.options.seed);
    struct sim_swarm *swarm = sim_swarm_new(&deliver.options);
    bool *gone = mem_alloc_array(nodes, sizeof *gone);
    bool is_whole = scatter(swarm, &deliver, &random, gone);
    /* Somebody who knows the list of blocks; without one nothing can be fetched. */
    bool is_listed = false;
    for (uint32_t i = 0; i < nodes; i++) {
        sim_swarm_know(swarm, i);
        is_listed |= !gone[i];
    }
    is_whole &= is_listed;
    for (uint32_t i = 0; i < nodes; i++) {
        if (gone[i]) {
            sim_swarm_kill(swarm, i);
        }
    }
    for (uint32_t i = 0; i < nodes; i++) {
        if (!gone[i]) {
            sim_swarm_start(swarm, i, (i + 1) % nodes);
        }
    }
    (void)sim_swarm_run(swarm, deliver_hangs_us(&deliver.options));
    uint64_t wrong = 0;
    uint64_t last_us = 0;
    for (uint32_t i = 0; i < nodes; i++) {
        struct sim_swarm_node node;
        sim_swarm_node(swarm, i, &node);
        wrong += !gone[i] && (!node.has_ended || (node.err == 0) != is_whole);
        last_us =
            !gone[i] && node.has_ended && node.took_us != SIM_SWARM_NEVER && node.took_us > last_us
                ? node.took_us
                : last_us;
    }
    run_figure(run, "together-whole", "", is_whole ? 1 : 0);
    run_figure_time(run, "last", last_us);
    run_check(run, "fetched-if-it-exists", wrong == 0, "%llu of %u nodes; the file is %s",
              (unsigned long long)wrong, nodes, is_whole ? "there" : "not whole");
    deliver_tell(run, swarm);
    free(gone);
    sim_swarm_free(swarm);
}

const struct sim_scenario scenario_deliver_scattered = {
    .name = "deliver-scattered",
    .summary = "blocks lie scattered, 30% of nodes are gone: fetched if and only if it is there",
    .run = run_deliver_scattered,
};
