/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Group commit. The thread takes all jobs that are waiting (up to a bound), applies them to one
 * transaction, syncs the segments, commits, and answers. While it syncs, the next group gathers,
 * so the group grows with the load and the cost of a sync is shared.
 *
 * A job that fails before it has changed anything is left out. One that fails half-way spoils the
 * transaction (there are no nested ones): it is begun anew without that job.
 *
 * After a failed sync the kernel may have dropped the pages and forgotten the error, so nothing
 * that is written later can be trusted to reach the disk (Rebello et al., "Can Applications
 * Recover from fsync Failures?", USENIX ATC 2020). All writes are refused until a restart, which
 * reads from the disk what is really there.
 */

#include "store/writer_priv.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/held_priv.h"
#include "store/index_priv.h"
#include "store/segments_priv.h"
#include "store/store_priv.h"

struct writer {
    struct store *store;
    pthread_t thread;
    _Atomic bool failed;

    pthread_mutex_t lock; /* over all below */
    pthread_cond_t work;
    pthread_cond_t room;
    struct store_job *first;
    struct store_job *last;
    size_t queued;
    bool stopping;
};

/* Takes up to STORE_GROUP_JOBS_MAX jobs off the queue, waiting for the first; NULL at the end. */
static struct store_job *take_group(struct writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    while (!writer->first && !writer->stopping) {
        pthread_cond_wait(&writer->work, &writer->lock);
    }
    struct store_job *group = writer->first;
    struct store_job *last = NULL;
    for (size_t count = 0; writer->first && count < STORE_GROUP_JOBS_MAX; count++) {
        last = writer->first;
        writer->first = last->next;
        writer->queued--;
    }
    if (last) {
        last->next = NULL;
    }
    if (!writer->first) {
        writer->last = NULL;
    }
    pthread_cond_broadcast(&writer->room);
    pthread_mutex_unlock(&writer->lock);
    return group;
}

/* Applies the jobs that have not failed. -ERESTART: one failed half-way. */
static int apply_group(struct store_job *group, struct kv_txn *txn)
{
    for (struct store_job *job = group; job; job = job->next) {
        if (job->err) {
            continue;
        }
        const uint64_t before = kv_changes(txn);
        job->err = job->apply(job, txn);
        if (job->err && kv_changes(txn) != before) {
            return -ERESTART;
        }
    }
    return 0;
}

static int apply_until_clean(struct writer *writer, struct store_job *group,
                             struct kv_txn **ret_txn)
{
    for (;;) {
        CLEANUP(kv_abort) struct kv_txn *txn = NULL;
        held_forget(writer->store);
        int err = kv_write(writer->store->kv, &txn);
        if (err) {
            return err;
        }
        err = apply_group(group, txn);
        if (err == -ERESTART) {
            continue;
        }
        err = index_set_number(txn, META_CLOCK, store_now_ms(writer->store));
        if (err) {
            return err;
        }
        *ret_txn = STEAL_PTR(txn);
        return 0;
    }
}

static void fail(struct writer *writer, const char *what, int err)
{
    if (!writer->failed) {
        log_error("store_failed", KV("what", what), KV("error", err_name(err)),
                  KV("effect", "writes are refused until a restart"));
    }
    writer->failed = true;
}

/* The outcome for the whole group; jobs may have failed on their own besides. */
static int commit_group(struct writer *writer, struct store_job *group)
{
    if (writer->failed) {
        return -ENOTRECOVERABLE;
    }
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = apply_until_clean(writer, group, &txn);
    if (err) {
        return err;
    }
    /* Bytes before the names that lead to them. */
    err = segments_sync(writer->store->segments);
    if (err) {
        fail(writer, "segment sync", err);
        return -EIO;
    }
    err = kv_commit(STEAL_PTR(txn));
    if (err == -EIO) {
        fail(writer, "index commit", err);
    }
    return err;
}

static void *run(void *argument)
{
    struct writer *writer = argument;
    for (struct store_job *group = take_group(writer); group; group = take_group(writer)) {
        const int err = commit_group(writer, group);
        if (err) {
            held_forget(writer->store);
        } else {
            held_tell(writer->store);
        }
        while (group) {
            /* Read first: the job is its owner's again once it is answered. */
            struct store_job *job = group;
            group = job->next;
            job->done(job, job->err ? job->err : err);
        }
    }
    return NULL;
}

int writer_start(struct store *store, struct writer **ret_writer)
{
    struct writer *writer = mem_alloc(sizeof *writer);
    writer->store = store;
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->work, NULL);
    pthread_cond_init(&writer->room, NULL);
    if (pthread_create(&writer->thread, NULL, run, writer) != 0) {
        free(writer);
        return -EAGAIN;
    }
    *ret_writer = writer;
    return 0;
}

void writer_stop(struct writer *writer)
{
    if (!writer) {
        return;
    }
    pthread_mutex_lock(&writer->lock);
    writer->stopping = true;
    pthread_cond_signal(&writer->work);
    pthread_mutex_unlock(&writer->lock);
    pthread_join(writer->thread, NULL);
    pthread_cond_destroy(&writer->room);
    pthread_cond_destroy(&writer->work);
    pthread_mutex_destroy(&writer->lock);
    free(writer);
}

bool writer_has_failed(const struct writer *writer)
{
    return writer->failed;
}

void store_submit(struct store *store, struct store_job *job)
{
    struct writer *writer = store->writer;
    CHECK(writer);
    job->err = 0;
    job->next = NULL;
    pthread_mutex_lock(&writer->lock);
    /* A job that is queued in answer to another can't wait for the thread that answers. */
    while (writer->queued >= STORE_QUEUE_JOBS_MAX &&
           !pthread_equal(pthread_self(), writer->thread)) {
        pthread_cond_wait(&writer->room, &writer->lock);
    }
    if (writer->last) {
        writer->last->next = job;
    } else {
        writer->first = job;
    }
    writer->last = job;
    writer->queued++;
    pthread_cond_signal(&writer->work);
    pthread_mutex_unlock(&writer->lock);
}

struct waiting {
    pthread_mutex_t lock;
    pthread_cond_t answered;
    struct store_job *job;
    store_apply_fn apply;
    struct store_job proxy;
    bool done;
    int err;
};

static int waiting_apply(struct store_job *proxy, struct kv_txn *txn)
{
    const struct waiting *waiting = CONTAINER_OF(proxy, struct waiting, proxy);
    return waiting->apply(waiting->job, txn);
}

static void waiting_done(struct store_job *proxy, int err)
{
    struct waiting *waiting = CONTAINER_OF(proxy, struct waiting, proxy);
    pthread_mutex_lock(&waiting->lock);
    waiting->err = err;
    waiting->done = true;
    pthread_cond_signal(&waiting->answered);
    pthread_mutex_unlock(&waiting->lock);
}

int store_submit_wait(struct store *store, struct store_job *job)
{
    if (!store->writer) {
        return -EROFS;
    }
    struct waiting waiting = {
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .answered = PTHREAD_COND_INITIALIZER,
        .job = job,
        .apply = job->apply,
        .proxy = {.apply = waiting_apply, .done = waiting_done},
    };
    store_submit(store, &waiting.proxy);
    pthread_mutex_lock(&waiting.lock);
    while (!waiting.done) {
        pthread_cond_wait(&waiting.answered, &waiting.lock);
    }
    pthread_mutex_unlock(&waiting.lock);
    pthread_mutex_destroy(&waiting.lock);
    pthread_cond_destroy(&waiting.answered);
    return waiting.err;
}
