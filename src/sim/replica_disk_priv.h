/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_REPLICA_DISK_PRIV_H
#define SIM_REPLICA_DISK_PRIV_H

/*
 * replica_disk: what a host's disk holds of the tree, in memory: the tables, and the file in which
 * a snapshot is received. It outlives the node.
 *
 * A write is on disk some time after it was committed; a crash before takes it back. Transactions
 * of a memory kv are versions that share what is equal, so one for each write costs little.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "kv/kv.h"
#include "tree/tree.h"

/* Writes that can be taken back at a time. */
#define REPLICA_UNDO_MAX 64u

/* How it was before a write. */
struct replica_undo {
    struct kv_txn *before;
    uint64_t durable_us; /* when that write is on disk */
};

struct replica_disk {
    struct kv *kv; /* NULL: was never used */
    struct tree *tree;
    struct kv *copy; /* for a roll-back; NULL: none */
    struct replica_undo undos[REPLICA_UNDO_MAX];
    size_t undos_count;
    size_t torn_depth; /* so many writes that are on disk can be taken back, too */
    struct buf inbox;
    struct id inbox_id;
    bool has_inbox;
};

/* An empty tree whose writer is `origin`. */
void replica_disk_make(struct replica_disk *disk, const struct tree_host *host,
                       const struct origin_id *origin, uint64_t epoch);
/* Local changes go to a new log from now on. */
void replica_disk_renew(struct replica_disk *disk, const struct origin_id *origin);
/* Begins a write; replica_disk_written() or replica_disk_not_written() ends it. */
struct kv_txn *replica_disk_write(struct replica_disk *disk, uint64_t now_us);
void replica_disk_written(struct replica_disk *disk, struct kv_txn *txn, uint64_t durable_us);
void replica_disk_not_written(struct replica_disk *disk, struct kv_txn *txn);
struct kv_txn *replica_disk_read(const struct replica_disk *disk);

/* The process ends: what is not on disk yet never is. */
void replica_disk_crash(struct replica_disk *disk, const struct tree_host *host, uint64_t now_us);
/* The last `writes_count` writes are not there, as far as they can be taken back. */
void replica_disk_tear(struct replica_disk *disk, const struct tree_host *host,
                       size_t writes_count);
/* Keeps a copy, and puts it back; without one the disk is empty. */
void replica_disk_keep(struct replica_disk *disk);
void replica_disk_roll_back(struct replica_disk *disk, const struct tree_host *host);
/* Nothing is there any more. Also at the end. */
void replica_disk_wipe(struct replica_disk *disk);

#endif
