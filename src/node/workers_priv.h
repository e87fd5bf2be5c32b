/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_WORKERS_PRIV_H
#define NODE_WORKERS_PRIV_H

/*
 * workers: some threads that run what is put before them, in the order in which it came. For what
 * waits for the disk for longer than those of libuv's pool should, which others need too.
 *
 * The queue has no bound of its own: who puts has one of what it puts.
 */

struct workers;

/* Embedded in what is to be done; `run` may free it. */
struct work {
    void (*run)(struct work *work);
    struct work *next;
};

/* 0: one thread per core, two at least. -EAGAIN: no thread to be had. */
[[nodiscard]] int workers_open(unsigned count, struct workers **ret_workers);

/* From any thread, also from within a run. */
void workers_put(struct workers *workers, struct work *work);

/* Runs all that was put, also what that puts, and ends the threads. NULL is allowed. */
void workers_close(struct workers *workers);

#endif
