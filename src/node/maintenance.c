/* SPDX-License-Identifier: Apache-2.0 */
#include "node/maintenance_priv.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

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
/* Rounds between two scrubs of everything: the disk decays slowly, and others want it too. */
#define SCRUB_PAUSE_ROUNDS (24 * 3600 * 1000 / ROUND_MS)

struct maintenance {
    struct node *node;
    pthread_t thread;
    pthread_t scrubber;
    bool has_scrubber;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    _Atomic bool stopping;
};

/* Waits for the next round; true: the node ends. */
static bool pause_rounds(struct maintenance *maintenance, uint64_t rounds)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    const uint64_t wait_ms = rounds * ROUND_MS;
    until.tv_sec += (time_t)(wait_ms / 1000);
    pthread_mutex_lock(&maintenance->lock);
    while (!maintenance->stopping &&
           pthread_cond_timedwait(&maintenance->wake, &maintenance->lock, &until) == 0) {
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

static void *run(void *argument)
{
    struct maintenance *maintenance = argument;
    struct unnamed *unnamed = unnamed_new(maintenance->node, &maintenance->stopping);
    while (!pause_rounds(maintenance, 1)) {
        report("release", unnamed_round(unnamed));
        tidy(maintenance);
        expire(maintenance);
    }
    unnamed_free(unnamed);
    return NULL;
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
    pthread_mutex_init(&maintenance->lock, NULL);
    clock_init_condition(&maintenance->wake);
    if (pthread_create(&maintenance->thread, NULL, run, maintenance) != 0) {
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
    pthread_mutex_unlock(&maintenance->lock);
    pthread_join(maintenance->thread, NULL);
    if (maintenance->has_scrubber) {
        pthread_join(maintenance->scrubber, NULL);
    }
    pthread_cond_destroy(&maintenance->wake);
    pthread_mutex_destroy(&maintenance->lock);
    free(maintenance);
}
