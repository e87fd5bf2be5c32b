/* SPDX-License-Identifier: Apache-2.0 */
#include "node/unnamed_priv.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/node_priv.h"
#include "store/hold.h"
#include "store/writer.h"

/* Rows of one snapshot, and files looked at, before a nap of so many times as long. */
#define PIECE_ROWS 2048u
#define NAP_TIMES 4u
#define NAP_NS_MAX 100000000u
/* Changes that are read outside before the last of them, at most so many, are read within the
 * transaction that releases. */
#define LAST_CHANGES 256u
#define CATCH_UP_TIMES 64u
/* Files of one transaction, and holders of one file. */
#define RELEASE_FILES 256u
#define RELEASE_HOLDERS 1024u

/* Ids in ascending order, and which of them a head names; of suspects also which of them somebody
 * has wanted since. */
struct sought {
    struct id *ids;
    bool *are_named;
    bool *are_wanted;
    size_t count;
};

struct unnamed {
    struct node *node;
    const _Atomic bool *stopping;
    bool was_settled;
    struct id after; /* files up to this one were looked at */
    bool is_within;  /* not all were */
    uint64_t next_ms;
    pthread_mutex_t lock; /* over what others see: `suspects` but for are_named */
    struct sought suspects;
    uint64_t suspected_ms;
};

struct unnamed *unnamed_new(struct node *node, const _Atomic bool *stopping)
{
    struct unnamed *unnamed = mem_alloc(sizeof *unnamed);
    unnamed->node = node;
    unnamed->stopping = stopping;
    pthread_mutex_init(&unnamed->lock, NULL);
    return unnamed;
}

static void sought_done(struct sought *sought)
{
    free(sought->ids);
    free(sought->are_named);
    free(sought->are_wanted);
    *sought = (struct sought){0};
}

void unnamed_free(struct unnamed *unnamed)
{
    if (!unnamed) {
        return;
    }
    sought_done(&unnamed->suspects);
    pthread_mutex_destroy(&unnamed->lock);
    free(unnamed);
}

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct id));
}

/* NULL: it is not among them. */
static const struct id *find(const struct sought *sought, const struct id *file)
{
    return sought->count > 0
               ? bsearch(file, sought->ids, sought->count, sizeof *sought->ids, compare_ids)
               : NULL;
}

static void cross_out(void *context, const struct id *file)
{
    struct sought *sought = context;
    const struct id *found = find(sought, file);
    if (found) {
        sought->are_named[found - sought->ids] = true;
    }
}

void unnamed_want(struct unnamed *unnamed, const struct id *file)
{
    pthread_mutex_lock(&unnamed->lock);
    const struct id *found = find(&unnamed->suspects, file);
    if (found) {
        unnamed->suspects.are_wanted[found - unnamed->suspects.ids] = true;
    }
    pthread_mutex_unlock(&unnamed->lock);
}

static void set_suspects(struct unnamed *unnamed, struct sought *suspects)
{
    pthread_mutex_lock(&unnamed->lock);
    sought_done(&unnamed->suspects);
    unnamed->suspects = *suspects;
    pthread_mutex_unlock(&unnamed->lock);
}

static void forget_suspects(struct unnamed *unnamed)
{
    set_suspects(unnamed, &(struct sought){0});
}

static void drop_named(struct sought *sought)
{
    size_t count = 0;
    for (size_t i = 0; i < sought->count; i++) {
        if (!sought->are_named[i]) {
            sought->are_named[count] = false;
            sought->ids[count++] = sought->ids[i];
        }
    }
    sought->count = count;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Others want the disk and the processor, too. */
static void nap(uint64_t worked_ns)
{
    const uint64_t ns = NAP_TIMES * worked_ns < NAP_NS_MAX ? NAP_TIMES * worked_ns : NAP_NS_MAX;
    const struct timespec pause = {.tv_nsec = (long)ns};
    nanosleep(&pause, NULL);
}

static int summarise(const struct unnamed *unnamed, struct tree_summary *ret_summary)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    const int err = node_snapshot(unnamed->node, &txn);
    return err ? err : tree_summary(unnamed->node->tree, txn, ret_summary);
}

/* Reads all rows. */
static int look_at_rows(const struct unnamed *unnamed, struct sought *sought)
{
    CLEANUP_BUF struct buf position = BUF_INIT;
    int err = 0;
    while (!err) {
        if (*unnamed->stopping) {
            return -ECANCELED;
        }
        const uint64_t begin_ns = now_ns();
        struct kv_txn *txn = NULL;
        err = node_snapshot(unnamed->node, &txn);
        if (!err) {
            err = tree_named(unnamed->node->tree, txn, &position, PIECE_ROWS, cross_out, sought);
        }
        kv_abort(txn);
        nap(now_ns() - begin_ns);
    }
    return err == -ENOENT ? 0 : err;
}

/* ---- who is suspected --------------------------------------------------------------------------
 */

/* The next files that others let come here. */
static int list_held(struct unnamed *unnamed, struct sought *ret_sought)
{
    struct sought sought = {
        .ids = mem_alloc_array(UNNAMED_WINDOW, sizeof *sought.ids),
        .are_named = mem_alloc_array(UNNAMED_WINDOW, sizeof *sought.are_named),
    };
    int err = 0;
    uint64_t begin_ns = now_ns();
    for (uint64_t i = 1; !err && sought.count < UNNAMED_WINDOW; i++) {
        struct store_file_info info;
        err = store_next_file(unnamed->node->store, unnamed->is_within ? &unnamed->after : NULL,
                              &info);
        if (!err) {
            unnamed->is_within = true;
            unnamed->after = info.id;
            if (info.holders[STORE_COPY] > 0 || info.holders[STORE_CACHE] > 0) {
                sought.ids[sought.count++] = info.id;
            }
        }
        if (*unnamed->stopping) {
            err = -ECANCELED;
        }
        if (i % PIECE_ROWS == 0) {
            nap(now_ns() - begin_ns);
            begin_ns = now_ns();
        }
    }
    if (err == -ENOENT) {
        unnamed->is_within = false;
        err = 0;
    }
    *ret_sought = sought;
    return err;
}

static int suspect(struct unnamed *unnamed)
{
    const uint64_t now_ms = store_now_ms(unnamed->node->store);
    struct sought sought;
    int err = list_held(unnamed, &sought);
    if (!err && sought.count > 0) {
        err = look_at_rows(unnamed, &sought);
    }
    if (err) {
        sought_done(&sought);
        return err;
    }
    if (!unnamed->is_within) {
        unnamed->next_ms = now_ms + UNNAMED_PAUSE_MS;
    }
    drop_named(&sought);
    if (sought.count == 0) {
        sought_done(&sought);
        return 0;
    }
    sought.are_wanted = mem_alloc_array(sought.count, sizeof *sought.are_wanted);
    set_suspects(unnamed, &sought);
    unnamed->suspected_ms = now_ms;
    return 0;
}

/* ---- and released ------------------------------------------------------------------------------
 */

struct release_job {
    struct store_job job;
    struct unnamed *unnamed;
    struct sought *sought;
    size_t first; /* of them, and how many */
    size_t count;
    uint64_t position;                     /* of the feed: all changes up to it were seen */
    size_t released_counts[STORE_REASONS]; /* files, by what they were held for */
};

static int release_for(struct release_job *job, struct kv_txn *txn, const struct id *file,
                       enum store_reason reason)
{
    struct store *store = job->unnamed->node->store;
    unsigned released_count = 0;
    int err = 0;
    while (!err && released_count < RELEASE_HOLDERS) {
        err = store_release_in(store, txn, file, reason);
        released_count += !err;
    }
    job->released_counts[reason] += released_count > 0;
    return err == -ENOENT ? 0 : err;
}

static int release_file(struct release_job *job, struct kv_txn *txn, const struct id *file)
{
    const int err = release_for(job, txn, file, STORE_COPY);
    return err ? err : release_for(job, txn, file, STORE_CACHE);
}

/* Who wants it says so first and then looks whether it is held: he is seen here, or does not find
 * it any more. */
static bool is_wanted(struct unnamed *unnamed, size_t index)
{
    pthread_mutex_lock(&unnamed->lock);
    const bool is = unnamed->suspects.are_wanted[index];
    pthread_mutex_unlock(&unnamed->lock);
    return is;
}

/* -EAGAIN: too much has changed to look at it here. */
static int release_apply(struct store_job *base, struct kv_txn *txn)
{
    struct release_job *job = CONTAINER_OF(base, struct release_job, job);
    struct node *node = job->unnamed->node;
    struct tree_summary summary;
    uint64_t position = job->position;
    memset(job->released_counts, 0, sizeof job->released_counts);
    int err = tree_summary(node->tree, txn, &summary);
    if (!err && summary.is_merging) {
        return -ESTALE;
    }
    if (!err) {
        err = tree_named_since(node->tree, txn, &position, LAST_CHANGES, cross_out, job->sought);
    }
    if (err != -ENOENT) {
        return err ? err : -EAGAIN;
    }
    err = 0;
    for (size_t i = job->first; !err && i < job->first + job->count; i++) {
        if (!job->sought->are_named[i] && !is_wanted(job->unnamed, i)) {
            err = release_file(job, txn, &job->sought->ids[i]);
        }
    }
    return err;
}

/* Reads the changes since *position. */
static int catch_up(const struct unnamed *unnamed, struct sought *sought, uint64_t *position)
{
    int err = 0;
    while (!err && !*unnamed->stopping) {
        CLEANUP(kv_abort) struct kv_txn *txn = NULL;
        err = node_snapshot(unnamed->node, &txn);
        if (!err) {
            err = tree_named_since(unnamed->node->tree, txn, position, LAST_CHANGES, cross_out,
                                   sought);
        }
    }
    return err == -ENOENT ? 0 : err ? err : -ECANCELED;
}

static int release_some(struct unnamed *unnamed, struct release_job *job)
{
    int err = -EAGAIN;
    for (unsigned i = 0; err == -EAGAIN && i < CATCH_UP_TIMES; i++) {
        err = catch_up(unnamed, job->sought, &job->position);
        if (!err) {
            err = store_submit_wait(unnamed->node->store, &job->job);
        }
    }
    const uint64_t copies = err ? 0 : job->released_counts[STORE_COPY];
    const uint64_t cached = err ? 0 : job->released_counts[STORE_CACHE];
    unnamed->node->counters.copies_released += copies;
    unnamed->node->counters.cached_released += cached;
    if (copies + cached > 0) {
        log_info("unnamed_released", KV("copies", copies), KV("cached", cached));
    }
    return err;
}

/* The suspects are looked for once more, and those that are not found let go of. */
static int release(struct unnamed *unnamed, const struct tree_summary *begin)
{
    struct sought *sought = &unnamed->suspects;
    int err = look_at_rows(unnamed, sought);
    for (size_t first = 0; !err && first < sought->count; first += RELEASE_FILES) {
        const size_t left = sought->count - first;
        struct release_job job = {
            .job = {.apply = release_apply},
            .unnamed = unnamed,
            .sought = sought,
            .first = first,
            .count = left < RELEASE_FILES ? left : RELEASE_FILES,
            .position = begin->feed_last,
        };
        err = release_some(unnamed, &job);
    }
    forget_suspects(unnamed);
    /* Too much was going on; they are found again. */
    return err == -ESTALE || err == -EAGAIN ? 0 : err;
}

static bool is_settled(struct unnamed *unnamed)
{
    struct node *node = unnamed->node;
    pthread_mutex_lock(&node->settled_lock);
    if (!unnamed->was_settled && node->is_settled) {
        unnamed->was_settled = node->is_settled(node->settled_context);
    }
    pthread_mutex_unlock(&node->settled_lock);
    return unnamed->was_settled;
}

int unnamed_round(struct unnamed *unnamed)
{
    struct tree_summary summary;
    if (!is_settled(unnamed)) {
        return 0;
    }
    int err = summarise(unnamed, &summary);
    if (err) {
        return err;
    }
    const uint64_t now_ms = store_now_ms(unnamed->node->store);
    if (summary.is_merging) {
        forget_suspects(unnamed);
    } else if (unnamed->suspects.count > 0) {
        const bool is_due = now_ms >= unnamed->suspected_ms + UNNAMED_GRACE_MS;
        err = is_due ? release(unnamed, &summary) : 0;
    } else if (unnamed->is_within || now_ms >= unnamed->next_ms) {
        err = suspect(unnamed);
    }
    return err == -ECANCELED ? 0 : err;
}
