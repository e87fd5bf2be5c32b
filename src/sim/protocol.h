/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_PROTOCOL_H
#define SIM_PROTOCOL_H

/*
 * protocol: what stands between a membership protocol and the simulated network. A protocol is told
 * what arrived and that time has passed, on its node's own monotonic clock, in microseconds; it
 * sends and tells through the world (sim/world.h: sim_send_datagram(), sim_send_message(),
 * sim_tell()), before it returns.
 *
 * Nodes are addressed by *slot*, the number of a host. Who a node is, is its *identity*: usually
 * the number of the slot where it first ran; a clone has that of another.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/random.h"

struct sim_world;

/* What became of a node's disk before it starts. */
enum sim_disk {
    SIM_DISK_KEPT = 1,
    SIM_DISK_LOST = 2,        /* but not the key */
    SIM_DISK_ROLLED_BACK = 3, /* to the last sim_world_snapshot_disk() */
    SIM_DISK_TORN = 4,        /* it lied: what it said last to have written is not there */
};

/* What a node knows when it starts. Borrowed for the call. */
struct sim_birth {
    struct sim_world *world;
    void *shared;
    uint32_t slot;
    uint32_t identity;
    uint64_t boot_nonce;
    uint64_t incarnation; /* higher than the disk has seen; 1 without a disk */
    uint64_t random_seed;
    const uint32_t *seeds; /* slots to join through */
    size_t seeds_count;
    struct bytes roster; /* as saved; empty: none */
    enum sim_disk disk;
};

/* What a node tells of another, or of itself (the last but one five). */
enum sim_news {
    SIM_SEES_ALIVE = 1,
    SIM_SEES_UNREACHABLE = 2,
    SIM_SEES_LEFT = 3,
    SIM_SEES_FORGOTTEN = 4,
    SIM_RING_ENTERED = 5,
    SIM_RING_LEFT = 6,
    SIM_ISOLATED = 7,
    SIM_CONNECTED = 8,
    SIM_INCARNATION = 9, /* `value` has to be kept on disk */
    SIM_CONFLICT = 10,   /* it has to stop */
    SIM_LEAVE_DONE = 11,
    SIM_HEARD = 12, /* a broadcast that the other began */
};

struct sim_protocol {
    const char *name;
    /* Has a ring that members leave later than they become unreachable. */
    bool has_ring;
    /* What all nodes of a world share; NULL functions: nothing. `nodes_max`: identities at most. */
    void *(*shared_new)(size_t nodes_max, uint64_t seed);
    void (*shared_free)(void *shared);
    /* Nodes may keep more on a disk than world and roster: it is here that a copy is made of it.
     * NULL: they do not. */
    void (*snapshot_disk)(void *shared, uint32_t slot);

    void *(*node_new)(const struct sim_birth *birth, uint64_t now_us);
    void (*node_free)(void *node);
    void (*receive_datagram)(void *node, uint64_t now_us, uint32_t from_slot,
                             struct bytes datagram);
    void (*receive_message)(void *node, uint64_t now_us, uint32_t from_slot, uint32_t from_identity,
                            struct bytes message);
    void (*tick)(void *node, uint64_t now_us);
    /* When it wants to tick; UINT64_MAX: never. */
    uint64_t (*next_us)(const void *node);
    /* Ends with SIM_LEAVE_DONE. */
    void (*leave)(void *node, uint64_t now_us);
    /* Tells all others something, which they tell as SIM_HEARD; NULL: it can't. */
    void (*broadcast)(void *node, uint64_t now_us);
    /* Appends its roster. */
    void (*save)(const void *node, struct buf *ret_bytes);

    /* Appends a datagram as somebody makes it who knows how they look, and what stands in those
     * that everybody can see, but hears none: about `identity`, and not to be believed. NULL: none.
     */
    void (*forge)(const void *shared, struct random *random, uint32_t identity,
                  struct buf *ret_bytes);

    /* Its view. Equal views have equal digests. */
    uint64_t (*digest)(const void *node);
    size_t (*alive_count)(const void *node); /* itself included */
    bool (*sees_alive)(const void *node, uint32_t identity);
};

/* artel's own, src/cluster. */
const struct sim_protocol *sim_protocol_artel(void);
/* SWIM with memberlist's published parameters, to compare it with. */
const struct sim_protocol *sim_protocol_swim(void);

#endif
