/* SPDX-License-Identifier: Apache-2.0 */
#include "node/workers_priv.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

#define THREADS_MAX 64u

struct workers {
    pthread_mutex_t lock; /* over all down to `threads` */
    pthread_cond_t came;
    struct work *first;
    struct work *last;
    unsigned busy_count;
    bool is_closing;
    pthread_t threads[THREADS_MAX];
    unsigned threads_count;
};

static struct work *take(struct workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    /* What is run now may put more, so nobody goes before the last has nothing left. */
    while (!workers->first && !(workers->is_closing && workers->busy_count == 0)) {
        pthread_cond_wait(&workers->came, &workers->lock);
    }
    struct work *work = workers->first;
    if (work) {
        workers->first = work->next;
        workers->busy_count++;
    }
    pthread_mutex_unlock(&workers->lock);
    return work;
}

static void *run(void *argument)
{
    struct workers *workers = argument;
    for (struct work *work = take(workers); work; work = take(workers)) {
        work->run(work);
        pthread_mutex_lock(&workers->lock);
        workers->busy_count--;
        if (workers->is_closing) {
            pthread_cond_broadcast(&workers->came);
        }
        pthread_mutex_unlock(&workers->lock);
    }
    return NULL;
}

int workers_open(unsigned count, struct workers **ret_workers)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (count == 0) {
        count = cores > 2 ? (unsigned)cores : 2;
    }
    struct workers *workers = mem_alloc(sizeof *workers);
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->came, NULL);
    for (unsigned i = 0; i < count && i < THREADS_MAX; i++) {
        if (pthread_create(&workers->threads[i], NULL, run, workers) != 0) {
            workers_close(workers);
            return -EAGAIN;
        }
        workers->threads_count++;
    }
    *ret_workers = workers;
    return 0;
}

void workers_put(struct workers *workers, struct work *work)
{
    work->next = NULL;
    pthread_mutex_lock(&workers->lock);
    if (workers->first) {
        workers->last->next = work;
    } else {
        workers->first = work;
    }
    workers->last = work;
    pthread_cond_signal(&workers->came);
    pthread_mutex_unlock(&workers->lock);
}

void workers_close(struct workers *workers)
{
    if (!workers) {
        return;
    }
    pthread_mutex_lock(&workers->lock);
    workers->is_closing = true;
    pthread_cond_broadcast(&workers->came);
    pthread_mutex_unlock(&workers->lock);
    for (unsigned i = 0; i < workers->threads_count; i++) {
        pthread_join(workers->threads[i], NULL);
    }
    pthread_cond_destroy(&workers->came);
    pthread_mutex_destroy(&workers->lock);
    free(workers);
}
