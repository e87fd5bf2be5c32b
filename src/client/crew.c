/* SPDX-License-Identifier: Apache-2.0 */
#include "client/crew.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/mem.h"

struct crew {
    struct crew_options options;
    pthread_t threads[CREW_THREADS];
    size_t threads_count;

    pthread_mutex_t lock; /* over all below */
    pthread_cond_t changed;
    void *queue[CREW_QUEUE_MAX]; /* a ring */
    size_t first;
    size_t queued;
    size_t running;
    bool is_closed;
};

/* The next job, or NULL when there will be none. */
static void *take(struct crew *crew)
{
    void *job = NULL;
    pthread_mutex_lock(&crew->lock);
    while (!crew->queued && !crew->is_closed) {
        pthread_cond_wait(&crew->changed, &crew->lock);
    }
    if (crew->queued) {
        job = crew->queue[crew->first];
        crew->first = (crew->first + 1) % CREW_QUEUE_MAX;
        crew->queued--;
        crew->running++;
        pthread_cond_broadcast(&crew->changed);
    }
    pthread_mutex_unlock(&crew->lock);
    return job;
}

static void *work(void *argument)
{
    struct crew *crew = argument;
    void *state = crew->options.begin(crew->options.context);
    for (void *job = take(crew); job; job = take(crew)) {
        crew->options.run(state, job);
        pthread_mutex_lock(&crew->lock);
        crew->running--;
        pthread_cond_broadcast(&crew->changed);
        pthread_mutex_unlock(&crew->lock);
    }
    crew->options.end(state);
    return NULL;
}

struct crew *crew_new(const struct crew_options *options)
{
    struct crew *crew = mem_alloc(sizeof *crew);
    crew->options = *options;
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->changed, NULL);
    while (crew->threads_count < CREW_THREADS &&
           pthread_create(&crew->threads[crew->threads_count], NULL, work, crew) == 0) {
        crew->threads_count++;
    }
    if (crew->threads_count == 0) {
        mem_out_of_memory();
    }
    return crew;
}

void crew_add(struct crew *crew, void *job)
{
    pthread_mutex_lock(&crew->lock);
    while (crew->queued == CREW_QUEUE_MAX) {
        pthread_cond_wait(&crew->changed, &crew->lock);
    }
    crew->queue[(crew->first + crew->queued++) % CREW_QUEUE_MAX] = job;
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->lock);
}

void crew_wait(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    while (crew->queued || crew->running) {
        pthread_cond_wait(&crew->changed, &crew->lock);
    }
    pthread_mutex_unlock(&crew->lock);
}

void crew_free(struct crew *crew)
{
    if (!crew) {
        return;
    }
    pthread_mutex_lock(&crew->lock);
    crew->is_closed = true;
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->lock);
    for (size_t i = 0; i < crew->threads_count; i++) {
        pthread_join(crew->threads[i], NULL);
    }
    pthread_cond_destroy(&crew->changed);
    pthread_mutex_destroy(&crew->lock);
    free(crew);
}
