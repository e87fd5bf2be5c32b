/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

/*
 * world: hosts on a network with a node on each, and all that can happen to them. One seed decides
 * everything: sim_world_trace() of two runs with the same inputs is the same number.
 *
 * Each host has a monotonic clock of its own, that began at some other time and may run fast or
 * slow; a disk, that keeps the node's incarnation and roster; and a socket buffer, where datagrams
 * wait while the process is paused.
 *
 * Nodes are stopped and freed only between events, never under the feet of a protocol that is
 * telling something: news (struct sim_observer) must not start, stop or pause nodes, but may ask
 * for it with sim_world_at().
 *
 * Threads: one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/random.h"
#include "sim/engine.h"
#include "sim/network.h"
#include "sim/protocol.h"

#define SIM_NODES_MAX 65535u
#define SIM_SEEDS_MAX 8u
/* IPv4 and UDP. */
#define SIM_HEADER_BYTES 28u
/* What the kernel gives a UDP socket (net.core.rmem_default of Linux), and what it counts for a
 * datagram beside its bytes. */
#define SIM_SOCKET_BYTES 212992u
#define SIM_SOCKET_DATAGRAM_BYTES 768u

/* Datagrams that a host sends: so many at once, and a second for long. No sane protocol comes near;
 * one in which two nodes answer each other for ever is stopped here, and counted. */
#define SIM_STORM_DATAGRAMS 20000u

struct sim_world;

enum sim_state {
    SIM_EMPTY = 0, /* never ran */
    SIM_RUNNING = 1,
    SIM_PAUSED = 2,
    SIM_LEAVING = 3, /* runs and says good-bye */
    SIM_LEFT = 4,
    SIM_CRASHED = 5,
    SIM_STOPPED = 6, /* by itself: somebody else is this node */
};

struct sim_traffic {
    uint64_t datagrams_sent;
    uint64_t datagram_bytes_sent; /* each with SIM_HEADER_BYTES */
    uint64_t datagrams_received;
    uint64_t datagram_bytes_received;
    uint64_t datagrams_dropped; /* by a socket buffer that was full */
    uint64_t datagrams_stormed; /* beyond SIM_STORM_DATAGRAMS: not sent */
    uint64_t messages_sent;
    uint64_t message_bytes_sent; /* without headers */
    uint64_t messages_received;
    uint64_t message_bytes_received;
};

struct sim_world_options {
    const struct sim_protocol *protocol;
    size_t slots_max; /* at most SIM_NODES_MAX */
    uint64_t seed;
    struct sim_network_options network; /* hosts_max and seed are set by the world */
};

struct sim_observer {
    /* What `slot` just told of `identity`. */
    void (*news)(void *context, uint32_t slot, enum sim_news news, uint32_t identity);
    void *context;
};

struct sim_world *sim_world_new(const struct sim_world_options *options);
void sim_world_free(struct sim_world *world);

struct sim_engine *sim_world_engine(struct sim_world *world);
struct sim_network *sim_world_network(struct sim_world *world);
const struct sim_protocol *sim_world_protocol(const struct sim_world *world);
/* What its nodes share; may be NULL. */
void *sim_world_shared(const struct sim_world *world);
/* For the choices of a scenario. */
struct random *sim_world_random(struct sim_world *world);
uint64_t sim_world_now_us(const struct sim_world *world);
/* A sum over everything that arrived so far, and when. */
uint64_t sim_world_trace(const struct sim_world *world);

/* Writes a line for all that happens to nodes and all that they tell: the time in seconds, the
 * slot, what, and of whom. NULL: no more. Borrowed. */
void sim_world_set_log(struct sim_world *world, FILE *log);

/* At most four at a time; called in the order in which they were added. */
void sim_world_observe(struct sim_world *world, const struct sim_observer *observer);
void sim_world_unobserve(struct sim_world *world, const void *context);

/* A further host, with a node of its own identity that has not started yet; the number of it. */
uint32_t sim_world_add(struct sim_world *world);
/* A further host, with a copy of what is on the disk of `slot`. */
uint32_t sim_world_add_clone(struct sim_world *world, uint32_t slot);
size_t sim_world_slots_count(const struct sim_world *world);

/* What its clock shows beside the world's, and how many millionths it runs fast, which is above
 * minus half a million. Before it starts. */
void sim_world_set_clock(struct sim_world *world, uint32_t slot, int64_t offset_ms,
                         int32_t drift_ppm);
void sim_world_set_seeds(struct sim_world *world, uint32_t slot, const uint32_t *seeds,
                         size_t seeds_count);

/* Starts a node that does not run. */
void sim_world_start(struct sim_world *world, uint32_t slot, enum sim_disk disk);
/* The machine is gone, without a word. */
void sim_world_crash(struct sim_world *world, uint32_t slot);
/* Nothing runs; what arrives waits in the socket buffer or is dropped. Then: first what arrived,
 * then a tick, late. */
void sim_world_pause(struct sim_world *world, uint32_t slot);
void sim_world_resume(struct sim_world *world, uint32_t slot);
/* Says good-bye and ends. */
void sim_world_leave(struct sim_world *world, uint32_t slot);
/* Tells all others something; the protocol can. */
void sim_world_broadcast(struct sim_world *world, uint32_t slot);
/* Something else happens to the node of `slot`, which is up: `call` is given it, and its clock. */
void sim_world_call(struct sim_world *world, uint32_t slot,
                    void (*call)(void *context, void *node, uint64_t now_us), void *context);
/* Keeps what SIM_DISK_ROLLED_BACK goes back to. */
void sim_world_snapshot_disk(struct sim_world *world, uint32_t slot);

/* A datagram that nobody's protocol made, as if `from` had sent it; it takes its way through the
 * network. */
void sim_world_inject(struct sim_world *world, uint32_t from, uint32_t to, struct bytes datagram);
/* Gives a sample of the datagrams that pass; NULL ends it. */
void sim_world_tap(struct sim_world *world,
                   void (*tap)(void *context, uint32_t from, uint32_t to, struct bytes datagram),
                   void *context);

enum sim_state sim_world_state(const struct sim_world *world, uint32_t slot);
uint32_t sim_world_identity(const struct sim_world *world, uint32_t slot);
/* RUNNING or LEAVING: it receives and ticks. */
bool sim_world_is_up(const struct sim_world *world, uint32_t slot);
/* The node of `slot` for the functions of the protocol; NULL if it does not run. */
void *sim_world_node(const struct sim_world *world, uint32_t slot);
const struct sim_traffic *sim_world_traffic(const struct sim_world *world, uint32_t slot);
/* Of all slots. */
struct sim_traffic sim_world_traffic_total(const struct sim_world *world);

/* Calls `run` at a time of the world, between events of nodes. */
void sim_world_at(struct sim_world *world, uint64_t at_us,
                  void (*run)(void *context, uint64_t argument), void *context, uint64_t argument);
void sim_world_run(struct sim_world *world, uint64_t for_us);
/* Runs until `is_done` says so, asked every `step_us`, at most up to `until_us`; whether it was. */
bool sim_world_run_until(struct sim_world *world, uint64_t until_us, uint64_t step_us,
                         bool (*is_done)(void *context), void *context);

/* For protocols, while they are called. To a slot that does not exist: lost. `wire_bytes` is what
 * it counts as, without headers of IP. */
void sim_send_datagram(struct sim_world *world, uint32_t from, uint32_t to, struct bytes datagram,
                       uint64_t wire_bytes);
void sim_send_message(struct sim_world *world, uint32_t from, uint32_t to, struct bytes message,
                      uint64_t wire_bytes);
void sim_tell(struct sim_world *world, uint32_t slot, enum sim_news news, uint32_t identity,
              uint64_t value);

#endif
