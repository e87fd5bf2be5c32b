/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_WRITER_H
#define STORE_WRITER_H

/*
 * writer: the one thread that changes the index. Jobs come through a bounded queue; many go into
 * one transaction, the segments are synced, the transaction is committed, then all are answered
 * (group commit, Gray and Reuter 1992, section 9.4.7). Whoever is answered 0 is durable.
 */

#include "kv/kv.h"

struct store;
struct store_job;

/* Makes the job's changes in `txn`. May be called again if the transaction had to be begun anew
 * because of another job, so it changes nothing but `txn`. An error fails this job alone. */
typedef int (*store_apply_fn)(struct store_job *job, struct kv_txn *txn);

/* The outcome, once, on the writer thread, outside any transaction; it should be quick. The job
 * is the caller's again. */
typedef void (*store_done_fn)(struct store_job *job, int err);

/* Embed it; it stays where it is until done() is called. */
struct store_job {
    store_apply_fn apply;
    store_done_fn done;
    int err;                /* the writer's */
    struct store_job *next; /* the writer's */
};

/* Jobs waiting at most; at the bound store_submit() waits, since its callers can. */
#define STORE_QUEUE_JOBS_MAX 8192
/* Jobs in one transaction at most, so that the first of them does not wait too long. */
#define STORE_GROUP_JOBS_MAX 4096

/*
 * Queues `job`; waits while the queue is full. done() tells the outcome:
 *
 *   what apply() answered, or for the whole group
 *   -ENOSPC            the index did not fit on the disk; nothing was changed
 *   -EIO               a write or sync failed; nothing of it may be relied on
 *   -ENOTRECOVERABLE   an earlier sync failed
 *
 * The store must be open for writing.
 */
void store_submit(struct store *store, struct store_job *job);

/* The same for a caller that waits; `job->done` is not used. Not from the writer thread. Also
 * -EROFS: the store is open for reading only. */
[[nodiscard]] int store_submit_wait(struct store *store, struct store_job *job);

#endif
