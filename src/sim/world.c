/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/world.h"

#include <stdlib.h>

#include "base/mem.h"
#include "sim/world_priv.h"

struct sim_world *sim_world_new(const struct sim_world_options *options)
{
    CHECK(options->slots_max <= SIM_NODES_MAX);
    struct sim_world *world = mem_alloc(sizeof *world);
    world->protocol = options->protocol;
    world->engine = sim_engine_new();
    /* Streams of numbers of their own: a scenario that draws one more changes nothing else. */
    struct random seeds;
    random_init(&seeds, options->seed);
    random_init(&world->random, random_u64(&seeds));
    random_init(&world->births, random_u64(&seeds));
    struct sim_network_options network = options->network;
    network.hosts_max = options->slots_max;
    network.seed = random_u64(&seeds);
    world->network = sim_network_new(&network);
    const struct sim_streams_host host = {
        .deliver = world_deliver_message, .life = world_life, .context = world};
    world->streams = sim_streams_new(world->engine, world->network, &host);
    world->hosts_max = options->slots_max;
    world->hosts = mem_alloc_array(options->slots_max, sizeof *world->hosts);
    if (world->protocol->shared_new) {
        world->shared = world->protocol->shared_new(options->slots_max, random_u64(&seeds));
    }
    return world;
}

void sim_world_free(struct sim_world *world)
{
    if (!world) {
        return;
    }
    for (size_t i = 0; i < world->hosts_count; i++) {
        struct host *host = &world->hosts[i];
        world_end_node(world, host, SIM_EMPTY);
        disk_wipe(&world->disks, &host->disk);
        disk_wipe(&world->disks, &host->snapshot);
    }
    if (world->protocol->shared_free) {
        world->protocol->shared_free(world->shared);
    }
    sim_streams_free(world->streams);
    sim_network_free(world->network);
    sim_engine_free(world->engine);
    packet_pool_done(&world->packets);
    free(world->hosts);
    free(world);
}

struct sim_engine *sim_world_engine(struct sim_world *world)
{
    return world->engine;
}

struct sim_network *sim_world_network(struct sim_world *world)
{
    return world->network;
}

const struct sim_protocol *sim_world_protocol(const struct sim_world *world)
{
    return world->protocol;
}

void *sim_world_shared(const struct sim_world *world)
{
    return world->shared;
}

struct random *sim_world_random(struct sim_world *world)
{
    return &world->random;
}

uint64_t sim_world_now_us(const struct sim_world *world)
{
    return sim_engine_now_us(world->engine);
}

uint64_t sim_world_trace(const struct sim_world *world)
{
    return world->trace;
}

void sim_world_set_log(struct sim_world *world, FILE *log)
{
    world->log = log;
}

void world_log(const struct sim_world *world, uint32_t slot, const char *what, uint32_t of)
{
    if (!world->log) {
        return;
    }
    fprintf(world->log, "%.6f %u %s", (double)sim_world_now_us(world) / (double)SIM_US_PER_S, slot,
            what);
    if (of != UINT32_MAX) {
        fprintf(world->log, " %u", of);
    }
    fputc('\n', world->log);
}

void sim_world_observe(struct sim_world *world, const struct sim_observer *observer)
{
    CHECK(world->observers_count < OBSERVERS_MAX);
    world->observers[world->observers_count++] = *observer;
}

void sim_world_unobserve(struct sim_world *world, const void *context)
{
    size_t kept = 0;
    for (size_t i = 0; i < world->observers_count; i++) {
        if (world->observers[i].context != context) {
            world->observers[kept++] = world->observers[i];
        }
    }
    world->observers_count = kept;
}

uint32_t sim_world_add(struct sim_world *world)
{
    CHECK(world->hosts_count < world->hosts_max);
    const uint32_t slot = (uint32_t)world->hosts_count++;
    struct host *host = &world->hosts[slot];
    host->identity = slot;
    host->tick_at_us = SIM_TIME_MAX;
    host->storm_left = SIM_STORM_DATAGRAMS;
    return slot;
}

uint32_t sim_world_add_clone(struct sim_world *world, uint32_t slot)
{
    const uint32_t clone = sim_world_add(world);
    struct host *host = &world->hosts[clone];
    const struct host *other = world_host(world, slot);
    host->identity = other->identity;
    disk_copy(&world->disks, &host->disk, &other->disk);
    return clone;
}

size_t sim_world_slots_count(const struct sim_world *world)
{
    return world->hosts_count;
}

void sim_world_set_clock(struct sim_world *world, uint32_t slot, int64_t offset_ms,
                         int32_t drift_ppm)
{
    struct host *host = world_host(world, slot);
    CHECK(!host->node && offset_ms > -(int64_t)CLOCK_BEGIN_MS && drift_ppm > -500000);
    host->clock_offset_ms = offset_ms;
    host->clock_drift_ppm = drift_ppm;
}

void sim_world_set_seeds(struct sim_world *world, uint32_t slot, const uint32_t *seeds,
                         size_t seeds_count)
{
    struct host *host = world_host(world, slot);
    CHECK(seeds_count <= SIM_SEEDS_MAX);
    for (size_t i = 0; i < seeds_count; i++) {
        host->seeds[i] = seeds[i];
    }
    host->seeds_count = seeds_count;
}

void sim_world_snapshot_disk(struct sim_world *world, uint32_t slot)
{
    struct host *host = world_host(world, slot);
    disk_copy(&world->disks, &host->snapshot, &host->disk);
    if (world->protocol->snapshot_disk) {
        world->protocol->snapshot_disk(world->shared, slot);
    }
}

void sim_world_tap(struct sim_world *world,
                   void (*tap)(void *context, uint32_t from, uint32_t to, struct bytes datagram),
                   void *context)
{
    world->tap = tap;
    world->tap_context = context;
}

enum sim_state sim_world_state(const struct sim_world *world, uint32_t slot)
{
    return world_host(world, slot)->state;
}

uint32_t sim_world_identity(const struct sim_world *world, uint32_t slot)
{
    return world_host(world, slot)->identity;
}

bool sim_world_is_up(const struct sim_world *world, uint32_t slot)
{
    const enum sim_state state = world_host(world, slot)->state;
    return state == SIM_RUNNING || state == SIM_LEAVING;
}

void *sim_world_node(const struct sim_world *world, uint32_t slot)
{
    return world_host(world, slot)->node;
}

const struct sim_traffic *sim_world_traffic(const struct sim_world *world, uint32_t slot)
{
    return &world_host(world, slot)->traffic;
}

struct sim_traffic sim_world_traffic_total(const struct sim_world *world)
{
    struct sim_traffic total = {0};
    for (size_t i = 0; i < world->hosts_count; i++) {
        const struct sim_traffic *one = &world->hosts[i].traffic;
        total.datagrams_sent += one->datagrams_sent;
        total.datagram_bytes_sent += one->datagram_bytes_sent;
        total.datagrams_received += one->datagrams_received;
        total.datagram_bytes_received += one->datagram_bytes_received;
        total.datagrams_dropped += one->datagrams_dropped;
        total.datagrams_stormed += one->datagrams_stormed;
        total.messages_sent += one->messages_sent;
        total.message_bytes_sent += one->message_bytes_sent;
        total.messages_received += one->messages_received;
        total.message_bytes_received += one->message_bytes_received;
    }
    return total;
}

void sim_world_at(struct sim_world *world, uint64_t at_us,
                  void (*run)(void *context, uint64_t argument), void *context, uint64_t argument)
{
    sim_engine_at(world->engine, at_us, run, context, argument);
}

void sim_world_run(struct sim_world *world, uint64_t for_us)
{
    sim_engine_run_until(world->engine, sim_engine_now_us(world->engine) + for_us);
}

bool sim_world_run_until(struct sim_world *world, uint64_t until_us, uint64_t step_us,
                         bool (*is_done)(void *context), void *context)
{
    bool done = is_done(context);
    while (!done && sim_world_now_us(world) < until_us) {
        const uint64_t next_us = sim_world_now_us(world) + step_us;
        sim_engine_run_until(world->engine, next_us < until_us ? next_us : until_us);
        done = is_done(context);
    }
    return done;
}
