/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "sim/run_priv.h"

#define MEASURED_S 60u
#define LIMIT_US (120 * SIM_US_PER_S)
#define CAUGHT_MAX 512u
#define HOSTILE_BYTES_MAX 1472u
/* To each node; a flood of ten times as much to one. */
#define HOSTILE_PER_S 20u

/* Datagrams that passed. */
struct caught {
    size_t count;
    uint64_t seen;
    struct random random;
    struct {
        uint8_t data[HOSTILE_BYTES_MAX];
        size_t size_bytes;
        uint32_t from;
    } datagrams[CAUGHT_MAX];
};

/* Keeps a sample that is even over time (reservoir, Vitter 1985). */
static void catch (void *context, uint32_t from, uint32_t to, struct bytes datagram)
{
    (void)to;
    struct caught *caught = context;
    size_t at = (size_t)random_below(&caught->random, ++caught->seen);
    if (caught->count < CAUGHT_MAX) {
        at = caught->count++;
    }
    if (at < CAUGHT_MAX && datagram.size <= HOSTILE_BYTES_MAX) {
        memcpy(caught->datagrams[at].data, datagram.data, datagram.size);
        caught->datagrams[at].size_bytes = datagram.size;
        caught->datagrams[at].from = from;
    }
}

/* One datagram of the enemy's, into `ret_data`; its size. *ret_from: as whom it comes. */
static size_t make_hostile(const struct sim_run *run, const struct caught *caught,
                           struct random *random, uint8_t ret_data[HOSTILE_BYTES_MAX],
                           uint32_t *ret_from)
{
    const struct sim_protocol *protocol = sim_world_protocol(run->world);
    *ret_from = (uint32_t)random_below(random, run->nodes);
    const uint64_t kind = random_below(random, protocol->forge ? 6 : 5);
    if (kind == 5) {
        CLEANUP_BUF struct buf forged = BUF_INIT;
        protocol->forge(sim_world_shared(run->world), random,
                        (uint32_t)random_below(random, run->nodes), &forged);
        CHECK(forged.size <= HOSTILE_BYTES_MAX);
        memcpy(ret_data, forged.data, forged.size);
        return forged.size;
    }
    if (kind == 0 || caught->count == 0) {
        const size_t size_bytes = (size_t)random_below(random, HOSTILE_BYTES_MAX + 1);
        random_fill(random, ret_data, size_bytes);
        return size_bytes;
    }
    const size_t at = (size_t)random_below(random, caught->count);
    size_t size_bytes = caught->datagrams[at].size_bytes;
    memcpy(ret_data, caught->datagrams[at].data, size_bytes);
    if (kind == 1) { /* replayed, as if from where it came */
        *ret_from = caught->datagrams[at].from;
    } else if (kind == 2) { /* cut short */
        size_bytes = (size_t)random_below(random, size_bytes + 1);
    } else if (kind == 3) { /* of another version, with bytes behind */
        ret_data[size_bytes > 1 ? 1 : 0] = (uint8_t)(2 + random_below(random, 254));
    } else { /* the end is garbage */
        const size_t kept = size_bytes < 4 ? size_bytes : 4;
        random_fill(random, ret_data + kept, size_bytes - kept);
    }
    return size_bytes;
}

static void attack(struct sim_run *run, const struct caught *caught, struct random *random)
{
    const uint64_t seconds = run->options->duration_s ? run->options->duration_s : MEASURED_S;
    const uint32_t flooded = run_pick(run);
    uint8_t data[HOSTILE_BYTES_MAX];
    uint32_t from = 0;
    uint64_t sent = 0;
    for (uint64_t step = 0; step < seconds * HOSTILE_PER_S; step++) {
        for (uint32_t slot = 0; slot < run->nodes; slot++) {
            const uint32_t count = slot == flooded ? 10 : 1;
            for (uint32_t i = 0; i < count; i++) {
                const size_t size_bytes = make_hostile(run, caught, random, data, &from);
                sim_world_inject(run->world, from, slot, BYTES(data, size_bytes));
                sent++;
            }
        }
        sim_world_run(run->world, SIM_US_PER_S / HOSTILE_PER_S);
    }
    run_figure(run, "hostile-datagrams", "", (double)sent);
}

static void run_hostile(struct sim_run *run)
{
    run_world(run, 1);
    struct caught *caught = mem_alloc(sizeof *caught);
    struct random random;
    random_init(&random, run->options->seed ^ 0x5eed);
    random_init(&caught->random, run->options->seed);
    sim_world_tap(run->world, catch, caught);
    if (run_ready(run)) {
        /* So that what it caught speaks of deaths and returns too. */
        const uint32_t slot = run_pick(run);
        run_doubt(run, slot, true);
        sim_world_crash(run->world, slot);
        run_until_agreed(run, LIMIT_US);
        sim_world_start(run->world, slot, SIM_DISK_KEPT);
        run_until_agreed(run, LIMIT_US);
        sim_world_run(run->world, 40 * SIM_US_PER_S);
        run_doubt(run, slot, false);
        sim_world_tap(run->world, NULL, NULL);
        attack(run, caught, &random);
        run_check(run, "views-unchanged", run_is_agreed(run), "after the attack");
        sim_world_run(run->world, 30 * SIM_US_PER_S);
        run_check(run, "views-stay-unchanged", run_is_agreed(run), "30 s later");
        run_check(run, "none-stopped", run->watch->stopped_count == 0, "%llu were",
                  (unsigned long long)run->watch->stopped_count);
        run_check_watch(run, true);
    }
    free(caught);
    run_end_world(run);
}

const struct sim_scenario scenario_hostile = {
    .name = "hostile",
    .summary = "datagrams that are random, cut, replayed, of other versions, forged, in floods",
    .run = run_hostile,
};
