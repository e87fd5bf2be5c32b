/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "sim/tree_run_priv.h"

/*
 * How long it takes from a put until the last node has it on disk. Few files, since each is kept by
 * each node of what may be ten thousand.
 */

#define PUBLICATIONS 100u
#define PUBLICATIONS_LARGE 40u
#define LARGE_NODES 2000u
#define FILES 8u
#define LIMIT_US (60 * SIM_US_PER_S)
#define LOSS_PPM 50000u
#define ZONES 5u
#define DISTANCE_US (40 * SIM_US_PER_MS)
/* What is promised. */
#define CLEAN_US (100 * SIM_US_PER_MS)
#define HARD_US (700 * SIM_US_PER_MS)

struct spread {
    struct tree_run tree;
    struct dot dot;
    uint8_t *has; /* by slot */
    size_t missing_count;
    uint64_t last_us;
};

static void on_durable(void *context, uint32_t slot)
{
    struct spread *spread = context;
    if (spread->missing_count == 0 || spread->has[slot]) {
        return;
    }
    struct kv_txn *txn = NULL;
    const struct tree *tree = sim_replicas_read(spread->tree.replicas, slot, &txn);
    struct vector_entry entry;
    const int err = tree_vector_get(tree, txn, &spread->dot.origin, &entry);
    CHECK(!err);
    kv_abort(txn);
    if (entry.seq >= spread->dot.seq) {
        spread->has[slot] = 1;
        spread->missing_count--;
        spread->last_us = sim_world_now_us(spread->tree.world);
    }
}

static bool is_everywhere(void *context)
{
    const struct spread *spread = context;
    return spread->missing_count == 0;
}

static uint64_t spread_one(struct spread *spread)
{
    struct sim_world *world = spread->tree.world;
    struct random *random = sim_world_random(world);
    sim_world_run(world, 100 * SIM_US_PER_MS + random_below(random, 200 * SIM_US_PER_MS));
    const uint64_t begin_us = sim_world_now_us(world);
    char path[32];
    snprintf(path, sizeof path, "file%llu", (unsigned long long)random_below(random, FILES));
    for (uint32_t slot = 0; slot < spread->tree.run->nodes; slot++) {
        spread->has[slot] = 0;
    }
    spread->missing_count = spread->tree.run->nodes;
    const bool is_put = tree_publish(&spread->tree, run_pick(spread->tree.run), path, &spread->dot);
    CHECK(is_put);
    return sim_world_run_until(world, begin_us + LIMIT_US, SIM_US_PER_MS, is_everywhere, spread)
               ? spread->last_us - begin_us
               : NEVER;
}

static void measure(struct spread *spread, const char *name, uint64_t limit_us)
{
    struct sim_run *run = spread->tree.run;
    struct samples samples = {0};
    uint64_t count = run->nodes > LARGE_NODES ? PUBLICATIONS_LARGE : PUBLICATIONS;
    count = run->options->duration_s ? run->options->duration_s : count;
    for (uint64_t i = 0; i < count; i++) {
        samples_add(&samples, spread_one(spread));
    }
    char text[SIM_NAME_CHARS];
    snprintf(text, sizeof text, "%s-last-p50", name);
    run_figure_time(run, text, samples_percentile(&samples, 50));
    snprintf(text, sizeof text, "%s-last-max", name);
    run_figure_time(run, text, samples_percentile(&samples, 100));
    snprintf(text, sizeof text, "%s-last-p99", name);
    run_check_time(run, text, samples_percentile(&samples, 99), limit_us);
    samples_done(&samples);
}

static void measure_all(struct spread *spread)
{
    struct sim_run *run = spread->tree.run;
    struct sim_network *network = sim_world_network(spread->tree.world);
    measure(spread, "clean", CLEAN_US);
    sim_network_set_loss(network, LOSS_PPM);
    measure(spread, "lossy", HARD_US);
    sim_network_set_loss(network, 0);
    for (uint32_t slot = 0; slot < run->nodes; slot++) {
        sim_network_set_zone(network, slot, slot % ZONES);
    }
    for (uint32_t i = 0; i < ZONES; i++) {
        for (uint32_t j = 0; j < i; j++) {
            sim_network_set_distance(network, i, j, DISTANCE_US);
        }
    }
    sim_world_run(spread->tree.world, 10 * SIM_US_PER_S);
    measure(spread, "zones", HARD_US);
}

static void run_tree_spread(struct sim_run *run)
{
    struct spread spread = {0};
    if (!tree_run_begin(&spread.tree, run, 0)) {
        return;
    }
    spread.has = mem_alloc_array(run->nodes, sizeof *spread.has);
    const struct sim_replica_observer observer = {.durable = on_durable, .context = &spread};
    sim_oracle_forward(spread.tree.oracle, &observer);
    if (run_ready(run)) {
        measure_all(&spread);
        tree_check_agreed(&spread.tree, "agreed-after", TREE_CONVERGE_US);
        tree_check_oracle(&spread.tree);
    }
    tree_run_end(&spread.tree);
    free(spread.has);
}

const struct sim_scenario scenario_tree_spread = {
    .name = "tree-spread",
    .summary = "files are published: until the last node has them; clean, lossy, in five zones",
    .run = run_tree_spread,
};
