/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A draft goes out as what it is at one moment: its bytes are locked while they are copied or sent,
 * and the number of that change is kept. If it was changed again meanwhile it stays dirty, and goes
 * out once more at the next close.
 *
 * Many small files go as one tar stream, which the node makes one transaction of.
 */

#include "fuse/publish.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "fuse/draft.h"
#include "fuse/file.h"
#include "fuse/removals.h"
#include "fuse/send.h"

/* What may wait; who closes more waits. A node publishes as many in a second or less. */
#define QUEUE_FILES_MAX 8192u
#define QUEUE_BYTES_MAX ((uint64_t)128 * 1024 * 1024)
/* What goes at once: long enough to be worth a transaction, short enough to be soon. */
#define BATCH_FILES 512u
#define BATCH_BYTES ((uint64_t)16 * 1024 * 1024)
/* Room in the ring for all that may wait and for a batch that comes back. */
#define QUEUE_PLACES (QUEUE_FILES_MAX + BATCH_FILES)
/* Between attempts while the node does not take anything. */
#define RETRY_MS 500u
/* For a node that is frozen, once, before what is left is given up at the end. */
#define LAST_WAIT_MS 5000u

struct publisher {
    pthread_t thread;
    pthread_cond_t wake;  /* something was queued, or it ends */
    struct inode **queue; /* a ring; each is pinned and its draft referenced */
    size_t queue_first;
    size_t queue_count;
    uint64_t queue_bytes;
    uint64_t pushed;            /* to the queue, ever */
    uint64_t popped;            /* and taken from it */
    uint64_t ended;             /* of those, the first so many are through */
    struct send_job *in_flight; /* whoever sends them */
    int failure;                /* why the node took nothing the last time */
    bool is_ending;
    bool has_lost;
};

/* ---- under mount.lock -------------------------------------------------------------------------
 */

static void push(struct publisher *publisher, struct inode *inode)
{
    const size_t at = (publisher->queue_first + publisher->queue_count) % QUEUE_PLACES;
    CHECK(publisher->queue_count < QUEUE_PLACES);
    publisher->queue[at] = inode;
    publisher->queue_count++;
    publisher->pushed++;
    publisher->queue_bytes += inode->shape.size_bytes;
    inodes_pin(inode);
    inode->draft->is_queued = true;
    inode->draft->references++;
    pthread_cond_signal(&publisher->wake);
}

static struct inode *pop(struct publisher *publisher)
{
    struct inode *inode = publisher->queue[publisher->queue_first];
    publisher->queue_first = (publisher->queue_first + 1) % QUEUE_PLACES;
    publisher->queue_count--;
    publisher->popped++;
    if (publisher->queue_count == 0) {
        publisher->queue_bytes = 0;
    } else if (publisher->queue_bytes > inode->shape.size_bytes) {
        publisher->queue_bytes -= inode->shape.size_bytes;
    }
    inode->draft->is_queued = false;
    return inode;
}

static bool has_room(const struct publisher *publisher)
{
    return publisher->queue_count < QUEUE_FILES_MAX - BATCH_FILES &&
           publisher->queue_bytes < QUEUE_BYTES_MAX;
}

/* `job` is what `inode` has now; its draft is referenced and the inode pinned by it. */
static void begin_job(struct mount *mount, struct inode *inode, struct send_job *job)
{
    *job = (struct send_job){.inode = inode, .draft = inode->draft};
    inode->draft->is_in_flight = true;
    DL_APPEND(mount->publisher->in_flight, job);
}

/* What the tree does not take is taken back: the name is what it is in the tree, nothing or the
 * version before. */
static void discard(struct mount *mount, struct inode *inode, struct draft *draft, int err)
{
    const struct bytes name = inode_name(inode);
    CLEANUP_FREE char *text = mem_format("%.*s", (int)name.size, (const char *)name.data);
    log_error("mount_publish_failed", KV("name", text), KV("error", err_text(err)));
    mount->publisher->has_lost = true;
    draft->published = draft->changed;
    if (inode->parent) {
        inodes_detach(&mount->inodes, inode);
    }
    mount->changes++;
}

static bool is_passing(int err)
{
    return err == -ENOTCONN || err == -EIO || err == -ENOSPC;
}

static void end_job(struct mount *mount, struct send_job *job)
{
    struct inode *inode = job->inode;
    struct draft *draft = job->draft;
    draft->is_in_flight = false;
    DL_DELETE(mount->publisher->in_flight, job);
    draft->err = job->is_gone ? 0 : job->err;
    if (!job->err && !job->is_gone) {
        draft->published = job->changed;
        draft->is_new = false;
        inode->shape.file_id = job->id;
        mount->changes++;
    }
    draft_settle(inode);
    inodes_unpin(&mount->inodes, inode);
    draft_drop(draft);
    pthread_cond_broadcast(&mount->settled);
    send_job_done(job);
}

/* ---- one at once ------------------------------------------------------------------------------
 */

struct inode *publish_wait(struct mount *mount, uint64_t number)
{
    for (;;) {
        struct inode *inode = inodes_find(&mount->inodes, number);
        if (!inode || !inode->draft || !inode->draft->is_in_flight) {
            return inode;
        }
        pthread_cond_wait(&mount->settled, &mount->lock);
    }
}

void publish_hold(struct mount *mount, struct busy_name *busy)
{
    pthread_mutex_lock(&mount->lock);
    busy->next = mount->busy;
    mount->busy = busy;
    pthread_mutex_unlock(&mount->lock);
}

void publish_let_go(struct mount *mount, const struct busy_name *busy)
{
    pthread_mutex_lock(&mount->lock);
    struct busy_name **at = &mount->busy;
    while (*at != busy) {
        at = &(*at)->next;
    }
    *at = busy->next;
    pthread_cond_broadcast(&mount->settled);
    pthread_mutex_unlock(&mount->lock);
}

bool publish_is_held(const struct mount *mount, const struct inode *inode)
{
    for (; mount->busy && inode->parent; inode = inode->parent) {
        for (const struct busy_name *at = mount->busy; at; at = at->next) {
            if (at->parent == inode->parent->number && bytes_equal(at->name, inode_name(inode))) {
                return true;
            }
        }
    }
    return false;
}

static bool is_any_held(const struct mount *mount)
{
    const struct send_job *job = NULL;
    DL_FOREACH(mount->publisher->in_flight, job)
    {
        if (publish_is_held(mount, job->inode)) {
            return true;
        }
    }
    return false;
}

void publish_pause(struct mount *mount)
{
    pthread_mutex_lock(&mount->lock);
    while (is_any_held(mount)) {
        pthread_cond_wait(&mount->settled, &mount->lock);
    }
    pthread_mutex_unlock(&mount->lock);
}

/* Under mount.lock: what had its name is still on its way out of the tree. */
static bool waits_for_removal(const struct mount *mount, const struct inode *inode)
{
    return inode->parent && removals_have(mount, inode->parent->number, inode_name(inode));
}

/* Under mount.lock, which is given back meanwhile: waits until nothing stands in the way of the
 * file. NULL: it went. -ENOTCONN, -ENOSPC, -EIO: it may take long. */
static int wait_for_way(struct mount *mount, uint64_t number, struct inode **ret_inode)
{
    struct inode *inode = publish_wait(mount, number);
    while (inode && (publish_is_held(mount, inode) || waits_for_removal(mount, inode))) {
        const int err = waits_for_removal(mount, inode) ? removals_err(mount) : 0;
        if (err) {
            return err;
        }
        if (waits_for_removal(mount, inode)) {
            removals_hurry(mount);
        }
        pthread_cond_wait(&mount->settled, &mount->lock);
        inode = publish_wait(mount, number);
    }
    *ret_inode = inode;
    return 0;
}

int publish_now(struct mount *mount, uint64_t number)
{
    struct send_job job;
    struct inode *inode = NULL;
    pthread_mutex_lock(&mount->lock);
    const int held = wait_for_way(mount, number, &inode);
    const bool is_dirty = inode && inode->draft && draft_is_dirty(inode->draft);
    if (is_dirty) {
        inodes_pin(inode);
        inode->draft->references++;
        begin_job(mount, inode, &job);
    }
    pthread_mutex_unlock(&mount->lock);
    if (!is_dirty) {
        return held;
    }
    send_one(mount, &job);
    const int err = job.is_gone ? 0 : job.err;
    pthread_mutex_lock(&mount->lock);
    end_job(mount, &job);
    pthread_mutex_unlock(&mount->lock);
    draft_reap(mount);
    return err;
}

/* Under mount.lock: why nothing can be published at present. */
static int failure_of(const struct mount *mount)
{
    const int err = removals_err(mount);
    return err ? err : mount->publisher->failure;
}

/* Under mount.lock, which is given back meanwhile. */
static int wait_for_room(struct mount *mount)
{
    while (!has_room(mount->publisher)) {
        const int err = failure_of(mount);
        if (err) {
            return err;
        }
        pthread_cond_wait(&mount->settled, &mount->lock);
    }
    return 0;
}

int publish_closed(struct mount *mount, uint64_t number)
{
    pthread_mutex_lock(&mount->lock);
    int err = wait_for_room(mount);
    struct inode *inode = inodes_find(&mount->inodes, number);
    struct draft *draft = inode ? inode->draft : NULL;
    const bool is_dirty = draft && draft_is_dirty(draft);
    const bool is_large = is_dirty && inode->shape.size_bytes > STAGING_MEMORY_BYTES;
    if (!is_dirty) {
        err = 0;
    } else if (!err && !is_large && !draft->is_queued && !mount->publisher->is_ending) {
        push(mount->publisher, inode);
    }
    if (is_dirty && !is_large && !err) {
        err = failure_of(mount);
    }
    pthread_mutex_unlock(&mount->lock);
    return is_large && !err ? publish_now(mount, number) : err;
}

void publish_released(struct mount *mount, uint64_t number)
{
    pthread_mutex_lock(&mount->lock);
    struct inode *inode = inodes_find(&mount->inodes, number);
    struct draft *draft = inode ? inode->draft : NULL;
    if (draft && draft_is_dirty(draft) && !draft->is_queued && inode->parent) {
        /* BATCH_FILES places are for these. */
        if (mount->publisher->queue_count < QUEUE_FILES_MAX && !mount->publisher->is_ending) {
            push(mount->publisher, inode);
        } else {
            discard(mount, inode, draft, -ENOTCONN);
        }
    }
    pthread_mutex_unlock(&mount->lock);
}

int publish_all(struct mount *mount)
{
    struct publisher *publisher = mount->publisher;
    int err = 0;
    pthread_mutex_lock(&mount->lock);
    /* What is closed while this waits is not meant. */
    const uint64_t last = publisher->pushed;
    while (!err && publisher->ended < last) {
        err = failure_of(mount);
        if (!err) {
            pthread_cond_wait(&mount->settled, &mount->lock);
        }
    }
    pthread_mutex_unlock(&mount->lock);
    const int kept = removals_wait(mount);
    return err ? err : kept;
}

/* ---- many ------------------------------------------------------------------------------------
 */

/* The next batch. Under mount.lock. */
static size_t take_batch(struct mount *mount, struct send_job jobs[BATCH_FILES])
{
    struct publisher *publisher = mount->publisher;
    uint64_t bytes = 0;
    size_t count = 0;
    while (publisher->queue_count > 0 && count < BATCH_FILES && bytes < BATCH_BYTES) {
        struct inode *inode = publisher->queue[publisher->queue_first];
        if (inode->draft->is_in_flight || publish_is_held(mount, inode) ||
            waits_for_removal(mount, inode)) {
            /* Somebody else sends it, or names change: what is taken already goes first. */
            if (count > 0) {
                break;
            }
            pthread_cond_wait(&mount->settled, &mount->lock);
            continue;
        }
        inode = pop(publisher);
        struct draft *draft = inode->draft;
        if (!draft_is_dirty(draft)) {
            draft_settle(inode);
            draft_drop(draft);
            inodes_unpin(&mount->inodes, inode);
            continue;
        }
        begin_job(mount, inode, &jobs[count++]);
        bytes += inode->shape.size_bytes;
    }
    return count;
}

/* Under mount.lock. Why nothing passes at present; 0. */
static int end_batch(struct mount *mount, struct send_job *jobs, size_t count)
{
    struct publisher *publisher = mount->publisher;
    int failure = 0;
    for (size_t i = 0; i < count; i++) {
        struct inode *inode = jobs[i].inode;
        struct draft *draft = jobs[i].draft;
        const int err = jobs[i].is_gone ? 0 : jobs[i].err;
        inodes_pin(inode);
        draft->references++;
        end_job(mount, &jobs[i]);
        if (err && inode->writers > 0 && !publisher->is_ending) {
            /* Who has it open is told by fsync, and goes on writing; its last close tries again. */
        } else if (err && (!is_passing(err) || publisher->is_ending)) {
            failure = is_passing(err) ? err : failure;
            discard(mount, inode, draft, err);
        } else if (err && !draft->is_queued) {
            failure = err;
            push(publisher, inode);
        }
        draft_settle(inode);
        draft_drop(draft);
        inodes_unpin(&mount->inodes, inode);
    }
    return failure;
}

static void refuse(struct send_job *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        jobs[i].err = -ENOTCONN;
    }
}

static void wait_ms(struct mount *mount, struct publisher *publisher, unsigned ms)
{
    const uint64_t until_us = (clock_monotonic_ms(clock_real()) + ms) * 1000;
    while (!publisher->is_ending &&
           clock_wait_until(&publisher->wake, &mount->lock, until_us) == 0) {
    }
}

/* A node that has not answered may do so in this moment. Under mount.lock. */
static void await_node(struct mount *mount)
{
    const uint64_t until_us = (clock_monotonic_ms(clock_real()) + LAST_WAIT_MS) * 1000;
    while (mount->is_silent && clock_wait_until(&mount->settled, &mount->lock, until_us) == 0) {
    }
}

static void *publisher_main(void *context)
{
    struct mount *mount = context;
    struct publisher *publisher = mount->publisher;
    struct send_job *jobs = mem_alloc_array(BATCH_FILES, sizeof *jobs);
    /* At the end one batch tells for all: each might wait as long for an answer. */
    bool is_given_up = false;
    pthread_mutex_lock(&mount->lock);
    for (;;) {
        while (publisher->queue_count == 0 && !publisher->is_ending) {
            pthread_cond_wait(&publisher->wake, &mount->lock);
        }
        if (publisher->queue_count == 0) {
            break;
        }
        const size_t count = take_batch(mount, jobs);
        const bool is_last_try = publisher->is_ending;
        if (is_last_try && !is_given_up) {
            await_node(mount);
        }
        pthread_mutex_unlock(&mount->lock);
        if (is_given_up) {
            refuse(jobs, count);
        } else {
            send_many(mount, jobs, count);
        }
        pthread_mutex_lock(&mount->lock);
        publisher->failure = end_batch(mount, jobs, count);
        is_given_up = is_last_try && publisher->failure;
        publisher->ended = publisher->popped;
        pthread_cond_broadcast(&mount->settled);
        pthread_mutex_unlock(&mount->lock);
        draft_reap(mount);
        pthread_mutex_lock(&mount->lock);
        if (publisher->failure) {
            wait_ms(mount, publisher, RETRY_MS);
        }
    }
    pthread_mutex_unlock(&mount->lock);
    free(jobs);
    return NULL;
}

int publisher_start(struct mount *mount)
{
    struct publisher *publisher = mem_alloc(sizeof *publisher);
    publisher->queue = mem_alloc_array(QUEUE_PLACES, sizeof(struct inode *));
    clock_init_condition(&publisher->wake);
    mount->publisher = publisher;
    if (pthread_create(&publisher->thread, NULL, publisher_main, mount) != 0) {
        mount->publisher = NULL;
        free(publisher->queue);
        free(publisher);
        return -EAGAIN;
    }
    return 0;
}

int publisher_stop(struct mount *mount)
{
    struct publisher *publisher = mount->publisher;
    if (!publisher) {
        return 0;
    }
    pthread_mutex_lock(&mount->lock);
    publisher->is_ending = true;
    pthread_cond_signal(&publisher->wake);
    pthread_mutex_unlock(&mount->lock);
    pthread_join(publisher->thread, NULL);
    const int err = publisher->has_lost ? -EIO : 0;
    pthread_cond_destroy(&publisher->wake);
    free(publisher->queue);
    free(publisher);
    mount->publisher = NULL;
    return err;
}
