/* SPDX-License-Identifier: Apache-2.0 */
#include "node/node.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "node/maintenance_priv.h"
#include "node/node_priv.h"
#include "store/hold.h"
#include "store/writer.h"
#include "tree/feed.h"
#include "tree/vector.h"
#include "wire/member.h"

/* What the tree asks of its host. */

/* A change that only moves on what was published elsewhere, wherever it is made, is no reason to
 * keep what came here by being read. Of what was published here it keeps hold: the version that it
 * replaces lets go in the end. */
static int host_hold(void *context, struct kv_txn *txn, const struct id *file, bool is_published)
{
    struct node *node = context;
    return is_published ? store_hold_in(node->store, txn, file, STORE_ORIGIN)
                        : store_hold_again_in(node->store, txn, file, STORE_ORIGIN);
}

static int host_release(void *context, struct kv_txn *txn, const struct id *file)
{
    struct node *node = context;
    return store_release_in(node->store, txn, file, STORE_ORIGIN);
}

static uint64_t host_now(void *context)
{
    const struct node *node = context;
    return store_now_ms(node->store);
}

struct open_job {
    struct store_job job;
    struct node *node;
    struct origin_id origin; /* of a tree that is made now */
    struct origin_id fresh;  /* that changes go to */
    uint64_t epoch;
    struct tree *tree;
};

static int open_apply(struct store_job *base, struct kv_txn *txn)
{
    struct open_job *job = CONTAINER_OF(base, struct open_job, job);
    const struct tree_host host = {
        .hold = host_hold,
        .release = host_release,
        .now_ms = host_now,
        .context = job->node,
    };
    tree_close(STEAL_PTR(job->tree));
    int err = tree_open(txn, STORE_TABLES, &host, &job->origin, job->epoch, &job->tree);
    if (!err) {
        err = tree_feed_renew(job->tree, txn, job->epoch);
    }
    return err ? err : tree_renew_origin(job->tree, txn, &job->fresh);
}

static int open_tree(struct node *node)
{
    struct open_job job = {.job = {.apply = open_apply}, .node = node};
    random_system(job.origin.bytes, ORIGIN_RANDOM_BYTES);
    random_system(job.fresh.bytes, ORIGIN_RANDOM_BYTES);
    origin_id_set_node(&job.origin, &node->id);
    origin_id_set_node(&job.fresh, &node->id);
    random_system(&job.epoch, sizeof job.epoch);
    job.epoch >>= 11; /* a number that JSON can carry exactly */
    const int err = store_submit_wait(node->store, &job.job);
    if (err) {
        tree_close(job.tree);
        return err;
    }
    node->tree = job.tree;
    return 0;
}

/* A machine can be called what a member can't be. */
static char *host_name(void)
{
    char name[HOST_NAME_MAX + 1];
    const bool is_known = gethostname(name, sizeof name) == 0;
    const bool is_fit = is_known && member_name_check(bytes_of_string(name)) == 0;
    return mem_copy_string(is_fit ? name : "node");
}

int node_open(const struct node_options *options, struct node **ret_node)
{
    struct node *node = mem_alloc(sizeof *node);
    node->data = mem_copy_string(options->data);
    node->name = options->name ? mem_copy_string(options->name) : host_name();
    node->zone = mem_copy_string(options->zone ? options->zone : "default");
    node->clock = options->clock ? options->clock : clock_real();
    node->scrub_bytes_per_second = options->scrub_bytes_per_second;
    pthread_mutex_init(&node->lock, NULL);
    pthread_mutex_init(&node->settled_lock, NULL);
    const struct store_options store_options = {
        .path = options->data,
        .clock = options->clock,
        .segment_bytes = options->segment_bytes,
        .extra_tables = tree_table_names,
        .extra_tables_count = TREE_TABLES,
    };
    int err = store_open(&store_options, &node->store);
    if (!err) {
        err = identity_open(options->data, &node->id);
    }
    if (!err) {
        err = open_tree(node);
    }
    if (!err) {
        err = maintenance_start(node, &node->maintenance);
    }
    if (err) {
        node_close(node);
        return err;
    }
    *ret_node = node;
    return 0;
}

void node_close(struct node *node)
{
    if (!node) {
        return;
    }
    maintenance_stop(node->maintenance);
    store_close(node->store);
    tree_close(node->tree);
    pthread_mutex_destroy(&node->settled_lock);
    pthread_mutex_destroy(&node->lock);
    free(node->zone);
    free(node->name);
    free(node->data);
    free(node);
}

struct store *node_store(struct node *node)
{
    return node->store;
}

const struct tree *node_tree(const struct node *node)
{
    return node->tree;
}

const struct node_id *node_identity(const struct node *node)
{
    return &node->id;
}

const char *node_name(const struct node *node)
{
    return node->name;
}

const char *node_zone(const struct node *node)
{
    return node->zone;
}

const char *node_data(const struct node *node)
{
    return node->data;
}

const struct clock *node_clock(const struct node *node)
{
    return node->clock;
}

struct node_counters *node_counters(struct node *node)
{
    return &node->counters;
}

int node_snapshot(struct node *node, struct kv_txn **ret_txn)
{
    return kv_read(store_kv(node->store), ret_txn);
}

int node_check_tree(struct node *node, bool *ret_matches)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct tree_summary kept = {0};
    uint8_t fingerprint[TREE_FINGERPRINT_BYTES];
    uint64_t entries_count = 0;
    int err = node_snapshot(node, &txn);
    if (!err) {
        err = tree_summary(node->tree, txn, &kept);
    }
    if (!err) {
        err = tree_recompute(node->tree, txn, fingerprint, &entries_count);
    }
    if (!err) {
        *ret_matches = entries_count == kept.entries_count &&
                       memcmp(fingerprint, kept.fingerprint, sizeof fingerprint) == 0;
    }
    return err;
}

void node_listen(struct node *node, void (*changed)(void *context), void *context)
{
    pthread_mutex_lock(&node->lock);
    node->changed = changed;
    node->changed_context = context;
    pthread_mutex_unlock(&node->lock);
}

void node_set_settled(struct node *node, bool (*is_settled)(void *context), void *context)
{
    pthread_mutex_lock(&node->settled_lock);
    node->is_settled = is_settled;
    node->settled_context = context;
    pthread_mutex_unlock(&node->settled_lock);
}

static int do_nothing(struct store_job *job, struct kv_txn *txn)
{
    (void)job;
    (void)txn;
    return 0;
}

static void tell_changed(struct node *node)
{
    pthread_mutex_lock(&node->lock);
    if (node->changed) {
        node->changed(node->changed_context);
    }
    pthread_mutex_unlock(&node->lock);
}

void node_listen_own(struct node *node, void (*changed)(void *context), void *context)
{
    /* Nothing is under way when it is taken away: what was asked for before is done. */
    struct store_job barrier = {.apply = do_nothing};
    const int err = store_submit_wait(node->store, &barrier);
    (void)err; /* also after a failed sync: then no change gets that far any more */
    node->own_changed = changed;
    node->own_changed_context = context;
}

struct write {
    struct store_job job;
    int (*apply)(void *context, struct kv_txn *txn);
    void *context;
};

static int write_apply(struct store_job *base, struct kv_txn *txn)
{
    struct write *write = CONTAINER_OF(base, struct write, job);
    return write->apply(write->context, txn);
}

int node_write(struct node *node, int (*apply)(void *context, struct kv_txn *txn), void *context)
{
    struct write write = {.job = {.apply = write_apply}, .apply = apply, .context = context};
    const int err = store_submit_wait(node->store, &write.job);
    if (!err) {
        tell_changed(node);
    }
    return err;
}

struct change {
    struct node *node;
    struct node_change change;
};

static int change_also(void *context, struct kv_txn *txn, const struct store_put_result *results)
{
    const struct change *change = context;
    return change->change.apply(change->change.context, change->node->tree, txn, results);
}

static void change_done(void *context, int err, const struct store_put_result *results)
{
    struct change *change = context;
    struct node *node = change->node;
    if (err) {
        node->counters.changes_failed++;
    } else {
        node->counters.changes++;
        if (node->own_changed) {
            node->own_changed(node->own_changed_context);
        }
        tell_changed(node);
    }
    change->change.done(change->change.context, err, results);
    free(change);
}

void node_change_async(struct node *node, const struct node_change *request)
{
    struct change *change = mem_alloc(sizeof *change);
    *change = (struct change){.node = node, .change = *request};
    const struct store_commit commit = {
        .puts = request->puts,
        .puts_count = request->puts_count,
        .also = change_also,
        .done = change_done,
        .context = change,
    };
    store_commit_async(node->store, &commit);
}
