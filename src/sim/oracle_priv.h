/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_ORACLE_PRIV_H
#define SIM_ORACLE_PRIV_H

/*
 *   oracle.c         what happens: feeds, acknowledgements, agreement, faults
 *   oracle_merge.c   the pure merge of logs, and a tree against it
 */

#include "base/map.h"
#include "sim/oracle.h"

/* An op that was on a disk. */
struct known_op {
    struct dot dot; /* the key */
    struct id hash;
    struct known_op *other; /* of the same name */
    uint32_t slot;          /* whose disk it was on first */
    bool is_in_logs;        /* judge: everybody has it */
    UT_hash_handle hh;
    struct tree_op_parsed parsed; /* borrows from the bytes */
    uint8_t bytes[];
};

/* Writers, numbered as they are met. */
struct known_origin {
    struct origin_id id;
    uint32_t number;
    UT_hash_handle hh;
};

/* How far a watcher has come in one log. */
struct seen {
    uint64_t seq;
    uint32_t gaps_count; /* that it had been told of by then */
};

/* Reads the feed of one node. */
struct watcher {
    uint64_t cursor;
    uint32_t gaps_count;
    uint32_t disks_count; /* disks before the one that it has */
    struct seen *seen;    /* by number of writer */
    size_t seen_count;
    struct dot *pending; /* made here, not on disk yet */
    size_t pending_count;
};

struct promise {
    const struct known_op *op;
    uint32_t slot;
    uint32_t disks_count;
};

struct sim_oracle {
    struct sim_world *world;
    struct sim_replicas *replicas;
    struct sim_replica_observer forward;
    struct known_op *ops;
    struct known_origin *origins;
    struct watcher *watchers; /* by slot */
    size_t slots_max;
    struct promise *promises;
    size_t promises_count;
    size_t promises_capacity;
    bool allows_fork_events;
    struct sim_oracle_fault faults[SIM_FAULTS];
    struct sim_oracle_figures figures;
};

void oracle_fault(struct sim_oracle *oracle, enum sim_fault fault, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* NULL: there is no such op. */
struct known_op *oracle_find(const struct sim_oracle *oracle, const struct dot *dot,
                             const struct id *hash);
/* Marks what is in the logs of `slot`, and compares its tree with what these make. */
void oracle_check_merge(struct sim_oracle *oracle, uint32_t slot);

#endif
