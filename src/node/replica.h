/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_REPLICA_H
#define NODE_REPLICA_H

/*
 * replica: keeps this node's tree the same as those of the other members: tree/sync.h with a
 * thread, the disk and the network. Its thread may wait for the disk, so it is not the core thread.
 *
 * Opened and closed by the network (node/network.h), which gives it what arrives.
 *
 * Threads: all functions from any thread, but for opening and closing.
 */

#include "node/node.h"
#include "tree/sync.h"

struct replica;

/* Told as soon as `count` other nodes have `dot` on disk, or after `wait_ms`: how many have it
 * then. Once, on the replica's thread, never before the call returns; also when the replica closes.
 */
typedef void (*replica_awaited_fn)(void *context, size_t count);
#define REPLICA_AWAIT_MS_MAX ((uint64_t)60 * 60 * 1000)
void replica_await(struct replica *replica, const struct dot *dot, size_t count, uint64_t wait_ms,
                   replica_awaited_fn done, void *context);

/* What other members say of their trees. */
struct replica_member {
    struct node_id id;
    bool has_answered; /* false: not within the time */
    struct tree_sync_state state;
};
/* Asks all members alive (some at a time) and tells what they said within `wait_ms`: once, on the
 * replica's thread, never before the call returns. `own` and `members` are borrowed for the call.
 */
typedef void (*replica_asked_fn)(void *context, const struct tree_sync_state *own,
                                 const struct replica_member *members, size_t count);
void replica_ask_all(struct replica *replica, uint64_t wait_ms, replica_asked_fn done,
                     void *context);

struct replica_summary {
    bool is_merging; /* a snapshot is being merged: the tree is not complete */
    /* Every member that spoke to us within NETWORK_AGREE_MS told our vector and our tree. */
    bool agrees;
    struct tree_sync_counters counters;
    uint64_t inbox_dropped; /* messages for which there was no room */
};
void replica_summarise(struct replica *replica, struct replica_summary *ret_summary);

#endif
