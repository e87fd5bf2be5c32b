/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_NODE_H
#define NODE_NODE_H

/*
 * node: one running artel: the store and the tree in one data directory, who it is, and the work
 * that goes on behind the requests (collection, compaction, forgetting old versions, scrub).
 *
 * Front ends (src/http) call in here and are told of changes by a callback. Threads: any.
 */

#include <stdatomic.h>

#include "kv/kv.h"
#include "node/identity.h"
#include "store/put.h"
#include "store/store.h"
#include "tree/tree.h"

/* Replaced and deleted versions, and the feed, are kept so long (store time). */
#define NODE_HISTORY_MS ((uint64_t)7 * 24 * 3600 * 1000)

struct node_options {
    const char *data;                /* the data directory */
    const char *name;                /* for people; NULL: the host's name */
    const char *zone;                /* NULL: "default"; both as member_name_check() takes them */
    uint64_t scrub_bytes_per_second; /* of the slow scrub that never ends; 0: none */
    uint64_t segment_bytes;          /* as in struct store_options */
    const struct clock *clock;       /* NULL: clock_real() */
};

struct node;

/* Errors of store_open(); -EPROTO: the key file is damaged. */
[[nodiscard]] int node_open(const struct node_options *options, struct node **ret_node);
/* Waits for what is under way. NULL is allowed. */
void node_close(struct node *node);

struct store *node_store(struct node *node);
const struct tree *node_tree(const struct node *node);
const struct node_id *node_identity(const struct node *node);
const char *node_name(const struct node *node);
const char *node_zone(const struct node *node);
const char *node_data(const struct node *node);
const struct clock *node_clock(const struct node *node);

/* A snapshot of tree and store; kv_abort() ends it. Keep it short. */
[[nodiscard]] int node_snapshot(struct node *node, struct kv_txn **ret_txn);

/* Computes fingerprint and count of the tree anew from its entries and compares them with those
 * that are kept. Takes time with the size of the tree, in one snapshot. */
[[nodiscard]] int node_check_tree(struct node *node, bool *ret_matches);

/* A change of the tree, with the puts that it names, in one transaction. */
struct node_change {
    struct store_put *const *puts; /* taken; may be none */
    size_t puts_count;
    /* In the transaction; may be called again for another try, so it changes nothing but `txn` and
     * what it answers. An error ends the change, nothing of it happened. */
    int (*apply)(void *context, const struct tree *tree, struct kv_txn *txn,
                 const struct store_put_result *results);
    /* Durable, or not done. Once, on the writer thread, never before the call returns. */
    void (*done)(void *context, int err, const struct store_put_result *results);
    void *context;
};
void node_change_async(struct node *node, const struct node_change *change);

/* A change that was made elsewhere: `apply` in a transaction of its own, as that of a node_change.
 * Waits until it is durable; 0, what `apply` answered, or an error of store_submit_wait(). Not from
 * the writer thread. */
[[nodiscard]] int node_write(struct node *node, int (*apply)(void *context, struct kv_txn *txn),
                             void *context);

/* Called after each commit of a node_change, before its `done`, on the writer thread. One listener,
 * set before the first change and taken away (NULL) after the last. */
void node_listen_own(struct node *node, void (*changed)(void *context), void *context);

/* Called after each commit that changed the tree, on the writer thread or that of node_write(). One
 * listener, set before the first change and taken away (NULL) before it ends. */
void node_listen(struct node *node, void (*changed)(void *context), void *context);

/* Tells whether this node knows what others do: asked by the maintenance, which forgets what no
 * path names only after it was once so. NULL takes it away, and it is not called any more when that
 * returns. */
void node_set_settled(struct node *node, bool (*is_settled)(void *context), void *context);

/* Figures for /metrics. */
struct node_counters {
    _Atomic uint64_t changes;
    _Atomic uint64_t changes_failed;
    _Atomic uint64_t collected;
    _Atomic uint64_t copies_released;
    _Atomic uint64_t cached_released;
    _Atomic uint64_t scrubbed_bytes;
    _Atomic uint64_t scrub_bad;
};
struct node_counters *node_counters(struct node *node);

#endif
