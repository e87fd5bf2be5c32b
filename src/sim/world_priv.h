/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_WORLD_PRIV_H
#define SIM_WORLD_PRIV_H

#include "base/mem.h"
#include "sim/disk_priv.h"
#include "sim/packet_priv.h"
#include "sim/stream.h"
#include "sim/world.h"

#define OBSERVERS_MAX 4u
/* Clocks begin here, so that one that is days behind is still above 0. */
#define CLOCK_BEGIN_MS (UINT64_C(100) * 24 * 3600 * 1000)
/* Messages that the kernel holds for a process that is paused (net.ipv4.tcp_rmem). */
#define STREAM_BUFFER_BYTES (6u * 1024 * 1024)

struct host {
    enum sim_state state;
    uint32_t identity;
    uint32_t lives;      /* how often it was started */
    void *node;          /* the protocol's; NULL if it does not run */
    uint64_t tick_at_us; /* when the next tick is planned; SIM_TIME_MAX: none */
    int64_t clock_offset_ms;
    int32_t clock_drift_ppm;
    uint32_t seeds[SIM_SEEDS_MAX];
    size_t seeds_count;
    struct disk disk;
    struct disk snapshot;
    struct packet *waiting; /* while it is paused */
    struct packet *waiting_last;
    uint64_t datagrams_waiting_bytes;
    uint64_t messages_waiting_bytes;
    struct sim_traffic traffic;
    uint64_t storm_left; /* datagrams that may be sent now */
    uint64_t storm_us;   /* when that was so */
};

struct sim_world {
    const struct sim_protocol *protocol;
    void *shared;
    struct sim_engine *engine;
    struct sim_network *network;
    struct sim_streams *streams;
    struct random random; /* of the scenario */
    struct random births; /* nonces and seeds of nodes */
    uint64_t trace;
    struct packet_pool packets;
    struct disks disks;
    struct host *hosts;
    size_t hosts_count;
    size_t hosts_max;
    struct sim_observer observers[OBSERVERS_MAX];
    size_t observers_count;
    FILE *log;
    void (*tap)(void *context, uint32_t from, uint32_t to, struct bytes datagram);
    void *tap_context;
};

/* Of world_node.c: what a message meets at its end. */
enum sim_stream_answer world_deliver_message(void *context, uint32_t from, uint32_t to,
                                             struct bytes message, uint64_t wire_bytes);
uint32_t world_life(void *context, uint32_t slot);
/* Frees the node and what waits for it. */
void world_end_node(struct sim_world *world, struct host *host, enum sim_state state);

/* A line of the log, if there is one; `of` UINT32_MAX: of nobody else. */
void world_log(const struct sim_world *world, uint32_t slot, const char *what, uint32_t of);

static inline struct host *world_host(const struct sim_world *world, uint32_t slot)
{
    CHECK(slot < world->hosts_count);
    return &world->hosts[slot];
}

#endif
