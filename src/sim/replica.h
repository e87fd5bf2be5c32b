/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_REPLICA_H
#define SIM_REPLICA_H

/*
 * replica: the tree of each node of a world: tree/sync.h, unchanged, over tables in memory, on the
 * virtual clock; and the disks, which outlive nodes.
 *
 * It does what a node's thread for the tree does: what arrives waits in its inbox; it is handed
 * over when the thread has time; a write takes a while, and meanwhile nothing is done, and what was
 * sent waits until the write is on disk. A crash takes back what was not.
 *
 * Threads: one.
 */

#include "sim/protocol.h"
#include "tree/sync.h"

struct sim_replicas; /* of a world */
struct sim_replica;  /* of a node that runs */

/* Who watches all trees of a world. */
struct sim_replica_observer {
    /* All that the node has written is on disk now. */
    void (*durable)(void *context, uint32_t slot);
    void (*event)(void *context, uint32_t slot, const struct tree_sync_event *event);
    /* A node has begun with such a disk; a node has ended. */
    void (*started)(void *context, uint32_t slot, enum sim_disk disk);
    void (*ended)(void *context, uint32_t slot);
    void *context;
};

struct sim_replicas *sim_replicas_new(size_t slots_max, uint64_t seed);
void sim_replicas_free(struct sim_replicas *replicas);
/* NULL: nobody. Copied. */
void sim_replicas_observe(struct sim_replicas *replicas,
                          const struct sim_replica_observer *observer);
/* How long a write takes, uniform between these; 1 to 5 ms at first. */
void sim_replicas_set_sync(struct sim_replicas *replicas, uint32_t least_us, uint32_t most_us);
/* So many writes, which the disk said to have written, SIM_DISK_TORN may lose; 0 at first. */
void sim_replicas_set_torn(struct sim_replicas *replicas, size_t writes_count);

void sim_replicas_snapshot_disk(struct sim_replicas *replicas, uint32_t slot);
/* What is on the disk of `slot`, also while it does not run: a transaction that the caller aborts.
 * NULL: nothing. */
const struct tree *sim_replicas_read(const struct sim_replicas *replicas, uint32_t slot,
                                     struct kv_txn **ret_txn);
/* The node that runs on `slot`; NULL: none. */
struct sim_replica *sim_replicas_find(const struct sim_replicas *replicas, uint32_t slot);

/* How a replica reaches others. */
struct sim_replica_host {
    void (*broadcast)(void *context, uint64_t now_us, struct bytes payload);
    void (*send)(void *context, const struct node_id *to, struct bytes message);
    bool (*pick)(void *context, struct random *random, struct node_id *ret_member);
    void (*digests)(void *context, uint64_t vector, uint64_t tree);
    void *context;
};

struct sim_replica_options {
    struct sim_replicas *replicas;
    const struct sim_birth *birth;
    struct node_id id;
    struct sim_replica_host host;
};

struct sim_replica *sim_replica_new(const struct sim_replica_options *options, uint64_t now_us);
/* As a crash: what is not on disk is lost. */
void sim_replica_free(struct sim_replica *replica);

/* What arrived; it is looked at by the next sim_replica_work(). */
void sim_replica_broadcast(struct sim_replica *replica, const struct node_id *from,
                           struct bytes payload);
void sim_replica_message(struct sim_replica *replica, const struct node_id *from,
                         struct bytes message);
void sim_replica_digests(struct sim_replica *replica, const struct node_id *from,
                         const struct digests *digests);
/* Does what is to be done and what is due. */
void sim_replica_work(struct sim_replica *replica, uint64_t now_us);
uint64_t sim_replica_next_us(const struct sim_replica *replica);

/* A change made at this node, in a write transaction; its error or 0. It is acknowledged when all
 * is durable next. */
typedef int (*sim_replica_change_fn)(void *context, const struct tree *tree, struct kv_txn *txn,
                                     struct dot *ret_dot);
[[nodiscard]] int sim_replica_change(struct sim_replica *replica, uint64_t now_us,
                                     sim_replica_change_fn change, void *context,
                                     struct dot *ret_dot);
/* Forgets what ended `age_ms` ago. */
void sim_replica_expire(struct sim_replica *replica, uint64_t now_us, uint64_t age_ms);

const struct tree_sync_counters *sim_replica_counters(const struct sim_replica *replica);

#endif
