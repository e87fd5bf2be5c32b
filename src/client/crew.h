/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CREW_H
#define CLIENT_CREW_H

/*
 * crew: threads that take jobs off a bounded queue, so that many small requests wait for the
 * node's disk together instead of one after the other.
 */

#include <stddef.h>

/* What a node commits in one group comes from requests that are under way at once. */
#define CREW_THREADS 16
/* Jobs found and not taken yet: enough that no thread waits for more. */
#define CREW_QUEUE_MAX 256

struct crew;

struct crew_options {
    /* Each thread has a state of its own; both are called in it. */
    void *(*begin)(void *context);
    void (*end)(void *state);
    /* Does a job and frees it. */
    void (*run)(void *state, void *job);
    void *context;
};

struct crew *crew_new(const struct crew_options *options);
/* Waits while the queue is full. */
void crew_add(struct crew *crew, void *job);
/* Waits until all jobs are done and no new one begins before the next crew_add(). */
void crew_wait(struct crew *crew);
/* The same, and ends the threads. NULL is allowed. */
void crew_free(struct crew *crew);

#endif
