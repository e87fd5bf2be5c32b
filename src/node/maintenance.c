/* SPDX-License-Identifier: Apache-2.0 */
#include "node/maintenance_priv.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/node_priv.h"
#include "node/unnamed_priv.h"
#include "store/maintain.h"
#include "store/writer.h"
#include "tree/change.h"

/* A round every so often; each does a bounded piece of work. */
#define ROUND_MS 5000
#define COLLECT_ROWS 4096
#define RECLAIM_RANGES 4096
#define EXPIRE_ROWS 1024
/* Who asks for room waits so long for what is going on. */
#define GIVE_WAIT_MS 1000
/* Rounds between two scrubs of everything: the disk decays slowly, and others want it too. */
#define SCRUB_PAUSE_ROUNDS (24 * 3600 * 1000 / ROUND_MS)

struct maintenance {
    struct node *node;
    pthread_t thread;
    pthread_t scrubber;
    bool has_scrubber;
    struct unnamed *unnamed;
    pthread_mutex_t lock; /* over all down to `stopping` */
    pthread_cond_t wake;
    pthread_cond_t is_given;
    uint64_t asked_count; /* how often room was asked for */
    uint64_t given_count; /* so often before it was last looked for */
    bool has_given;       /* then: something was given back */
    _Atomic bool stopping;
};

static uint64_t us_from_now(uint64_t ms)
{
    return (clock_monotonic_ms(clock_real()) + ms) * 1000;
}

/* Waits for the next round; true: the node ends. */
static bool pause_rounds(struct maintenance *maintenance, uint64_t rounds)
{
    const uint64_t until_us = us_from_now(rounds * ROUND_MS);
    pthread_mutex_lock(&maintenance->lock);
    while (!maintenance->stopping &&
           clock_wait_until(&maintenance->wake, &maintenance->lock, until_us) == 0) {
    }
    pthread_mutex_unlock(&maintenance->lock);
    return maintenance->stopping;
}

static void report(const char *what, int err)
{
    if (err && err != -ENOTRECOVERABLE) { /* that one was reported when it happened */
        log_warn("maintenance_failed", KV("what", what), KV("error", err_name(err)));
    }
}

struct expire_job {
    struct store_job job;
    struct node *node;
    uint64_t before_ms;
    bool more;
};

static int expire_apply(struct store_job *base, struct kv_txn *txn)
{
    struct expire_job *job = CONTAINER_OF(base, struct expire_job, job);
    return tree_expire(job->node->tree, txn, job->before_ms, EXPIRE_ROWS, &job->more);
}

static void expire(struct maintenance *maintenance)
{
    struct node *node = maintenance->node;
    const uint64_t now_ms = store_now_ms(node->store);
    if (now_ms <= NODE_HISTORY_MS) {
        return;
    }
    struct expire_job job = {
        .job = {.apply = expire_apply},
        .node = node,
        .before_ms = now_ms - NODE_HISTORY_MS,
        .more = true,
    };
    int err = 0;
    while (!err && job.more && !maintenance->stopping) {
        err = store_submit_wait(node->store, &job.job);
    }
    report("expire", err);
}

static void tidy(struct maintenance *maintenance)
{
    struct store *store = maintenance->node->store;
    const struct store_grace grace = {
        .collect_ms = STORE_COLLECT_GRACE_MS_DEFAULT,
        .punch_ms = STORE_PUNCH_GRACE_MS_DEFAULT,
    };
    bool more = true;
    for (size_t removed = 1; more && removed > 0 && !maintenance->stopping;) {
        const int err = store_collect(store, &grace, COLLECT_ROWS, &removed, &more);
        report("collect", err);
        maintenance->node->counters.collected += err ? 0 : removed;
        more = more && !err;
    }
    more = true;
    for (uint64_t ranges = 1; more && ranges > 0 && !maintenance->stopping;) {
        const int err = store_reclaim(store, &grace, RECLAIM_RANGES, &ranges, &more);
        report("reclaim", err);
        more = more && !err;
    }
    uint64_t moved_bytes = 0;
    report("compact", store_compact(store, &moved_bytes, &more));
}

/* The graces save work: who puts again what was just removed, and who reads it, does a little more
 * without them. True: something was given back. */
static bool give_back(struct maintenance *maintenance)
{
    struct store *store = maintenance->node->store;
    const struct store_grace none = {0};
    size_t removed = 0;
    uint64_t ranges = 0;
    bool more = true;
    bool has_given = false;
    while (more && !maintenance->stopping) {
        const int err = store_collect(store, &none, COLLECT_ROWS, &removed, &more);
        report("collect", err);
        maintenance->node->counters.collected += err ? 0 : removed;
        more = more && !err && removed > 0;
    }
    more = true;
    while (more && !maintenance->stopping) {
        const int err = store_reclaim(store, &none, RECLAIM_RANGES, &ranges, &more);
        report("reclaim", err);
        has_given = has_given || (!err && ranges > 0);
        more = more && !err && ranges > 0;
    }
    return has_given;
}

/* Until the next round, gives back whenever somebody asks. True: the node ends. */
static bool pause_and_give(struct maintenance *maintenance)
{
    const uint64_t until_us = us_from_now(ROUND_MS);
    int over = 0;
    pthread_mutex_lock(&maintenance->lock);
    while (!maintenance->stopping && !over) {
        if (maintenance->given_count == maintenance->asked_count) {
            over = clock_wait_until(&maintenance->wake, &maintenance->lock, until_us);
            continue;
        }
        const uint64_t asked_count = maintenance->asked_count;
        pthread_mutex_unlock(&maintenance->lock);
        const bool has_given = give_back(maintenance);
        pthread_mutex_lock(&maintenance->lock);
        maintenance->given_count = asked_count;
        maintenance->has_given = has_given;
        pthread_cond_broadcast(&maintenance->is_given);
    }
    pthread_mutex_unlock(&maintenance->lock);
    return maintenance->stopping;
}

static void *run(void *argument)
{
    struct maintenance *maintenance = argument;
    while (!pause_and_give(maintenance)) {
        report("release", unnamed_round(maintenance->unnamed));
        tidy(maintenance);
        expire(maintenance);
    }
    return NULL;
}

void maintenance_hurry(struct maintenance *maintenance)
{
    pthread_mutex_lock(&maintenance->lock);
    maintenance->asked_count++;
    pthread_cond_broadcast(&maintenance->wake);
    pthread_mutex_unlock(&maintenance->lock);
}

bool maintenance_give_back(struct maintenance *maintenance)
{
    const uint64_t until_us = us_from_now(GIVE_WAIT_MS);
    pthread_mutex_lock(&maintenance->lock);
    const uint64_t number = ++maintenance->asked_count;
    pthread_cond_broadcast(&maintenance->wake);
    int over = 0;
    while (maintenance->given_count < number && !maintenance->stopping && !over) {
        over = clock_wait_until(&maintenance->is_given, &maintenance->lock, until_us);
    }
    const bool has_given = maintenance->given_count >= number && maintenance->has_given;
    pthread_mutex_unlock(&maintenance->lock);
    return has_given;
}

static bool is_stopping(void *context)
{
    const struct maintenance *maintenance = context;
    return maintenance->stopping;
}

static void on_bad_block(void *context, const struct id *block)
{
    (void)block; /* the store has logged it */
    struct maintenance *maintenance = context;
    maintenance->node->counters.scrub_bad++;
}

static void *run_scrubber(void *argument)
{
    struct maintenance *maintenance = argument;
    const struct store_scrub_options options = {
        .bytes_per_second = maintenance->node->scrub_bytes_per_second,
        .bad_block = on_bad_block,
        .stop = is_stopping,
        .context = maintenance,
    };
    while (!pause_rounds(maintenance, SCRUB_PAUSE_ROUNDS)) {
        struct store_scrub_report scrubbed = {0};
        const int err = store_scrub(maintenance->node->store, &options, &scrubbed);
        report("scrub", err == -ECANCELED ? 0 : err);
        maintenance->node->counters.scrubbed_bytes += scrubbed.bytes_checked;
    }
    return NULL;
}

int maintenance_start(struct node *node, struct maintenance **ret_maintenance)
{
    struct maintenance *maintenance = mem_alloc(sizeof *maintenance);
    maintenance->node = node;
    maintenance->unnamed = unnamed_new(node, &maintenance->stopping);
    pthread_mutex_init(&maintenance->lock, NULL);
    clock_init_condition(&maintenance->wake);
    clock_init_condition(&maintenance->is_given);
    if (pthread_create(&maintenance->thread, NULL, run, maintenance) != 0) {
        unnamed_free(maintenance->unnamed);
        free(maintenance);
        return -EAGAIN;
    }
    maintenance->has_scrubber =
        node->scrub_bytes_per_second > 0 &&
        pthread_create(&maintenance->scrubber, NULL, run_scrubber, maintenance) == 0;
    *ret_maintenance = maintenance;
    return 0;
}

void maintenance_stop(struct maintenance *maintenance)
{
    if (!maintenance) {
        return;
    }
    pthread_mutex_lock(&maintenance->lock);
    maintenance->stopping = true;
    pthread_cond_broadcast(&maintenance->wake);
    pthread_cond_broadcast(&maintenance->is_given);
    pthread_mutex_unlock(&maintenance->lock);
    pthread_join(maintenance->thread, NULL);
    if (maintenance->has_scrubber) {
        pthread_join(maintenance->scrubber, NULL);
    }
    pthread_cond_destroy(&maintenance->is_given);
    pthread_cond_destroy(&maintenance->wake);
    pthread_mutex_destroy(&maintenance->lock);
    unnamed_free(maintenance->unnamed);
    free(maintenance);
}

void maintenance_want(struct maintenance *maintenance, const struct id *file)
{
    unnamed_want(maintenance->unnamed, file);
}
