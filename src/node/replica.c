/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The replica's thread. It takes all that waits, hands it to tree_sync, and lets it apply the ops
 * that have gathered in one transaction: while that is synced, the next ones gather. So many
 * changes of others share a sync, as many changes of our own do.
 */

#include "node/replica_priv.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "node/network_priv.h"
#include "tree/vector.h"

/* So much is handed over before what has gathered is applied: a transaction of some megabytes. */
#define ROUND_MESSAGES_MAX 4096u
#define ROUND_BYTES_MAX ((size_t)8 * 1024 * 1024)

enum arrived_kind { ARRIVED_MESSAGE = 1, ARRIVED_BROADCAST = 2, ARRIVED_DIGESTS = 3 };

/* ---- what other threads bring ------------------------------------------------------------------
 */

void replica_wake(struct replica *replica)
{
    pthread_mutex_lock(&replica->lock);
    replica->has_news = true;
    pthread_cond_signal(&replica->news_came);
    pthread_mutex_unlock(&replica->lock);
}

static void put(struct replica *replica, enum arrived_kind kind, const struct node_id *from,
                struct bytes bytes)
{
    if (inbox_put(replica->inbox, (uint8_t)kind, from, bytes)) {
        replica_wake(replica);
    }
}

void replica_put_message(struct replica *replica, const struct node_id *from, struct bytes bytes)
{
    put(replica, ARRIVED_MESSAGE, from, bytes);
}

void replica_put_broadcast(struct replica *replica, const struct node_id *from,
                           struct bytes payload)
{
    put(replica, ARRIVED_BROADCAST, from, payload);
}

void replica_put_digests(struct replica *replica, const struct node_id *from,
                         const struct digests *digests)
{
    put(replica, ARRIVED_DIGESTS, from, BYTES((const uint8_t *)digests, sizeof *digests));
}

/* ---- local changes -----------------------------------------------------------------------------
 */

/* On the writer thread. */
static void own_changed(void *context)
{
    struct replica *replica = context;
    pthread_mutex_lock(&replica->lock);
    replica->has_changed = true;
    replica->has_news = true;
    pthread_cond_signal(&replica->news_came);
    pthread_mutex_unlock(&replica->lock);
}

/* ---- the loop ----------------------------------------------------------------------------------
 */

static void hand_over(struct replica *replica, const struct inbox_message *message)
{
    const struct bytes bytes = BYTES(message->bytes, message->size);
    const uint64_t now_us = network_now_us();
    struct digests digests;
    switch ((enum arrived_kind)message->kind) {
    case ARRIVED_MESSAGE:
        /* Of a stranger nothing is taken: a connection says by itself who it is from. */
        if (network_knows(replica->network, &message->from)) {
            tree_sync_message(replica->sync, now_us, &message->from, bytes);
        }
        break;
    case ARRIVED_BROADCAST:
        tree_sync_broadcast(replica->sync, now_us, &message->from, bytes);
        break;
    case ARRIVED_DIGESTS:
        CHECK(bytes.size == sizeof digests);
        memcpy(&digests, bytes.data, sizeof digests);
        tree_sync_digests(replica->sync, now_us, &message->from, &digests);
        break;
    }
}

static void take_arrived(struct replica *replica)
{
    struct inbox_message *message = inbox_take(replica->inbox);
    unsigned count = 0;
    size_t bytes = 0;
    while (message) {
        if (!replica->stopping) {
            hand_over(replica, message);
            count++;
            bytes += message->size;
        }
        message = inbox_next(message);
        if (count == ROUND_MESSAGES_MAX || bytes >= ROUND_BYTES_MAX) {
            tree_sync_apply(replica->sync, network_now_us());
            count = 0;
            bytes = 0;
        }
    }
    tree_sync_apply(replica->sync, network_now_us());
}

/* Waits for news, or until something is due. True: there are local changes among them. */
static bool wait_for_news(struct replica *replica)
{
    const uint64_t sync_us = tree_sync_next_us(replica->sync);
    const uint64_t asks_us = replica_asks_next_us(replica);
    const uint64_t due_us = sync_us < asks_us ? sync_us : asks_us;
    pthread_mutex_lock(&replica->lock);
    replica->counters = *tree_sync_counters(replica->sync);
    int err = 0;
    while (!replica->has_news && !err) {
        err = network_wait_until(&replica->news_came, &replica->lock, due_us);
    }
    const bool has_changed = replica->has_changed;
    replica->has_news = false;
    replica->has_changed = false;
    pthread_mutex_unlock(&replica->lock);
    return has_changed;
}

static void *run(void *argument)
{
    struct replica *replica = argument;
    bool has_changed = false;
    pthread_mutex_lock(&replica->lock);
    while (!replica->is_started && !replica->stopping) {
        pthread_cond_wait(&replica->news_came, &replica->lock);
    }
    pthread_mutex_unlock(&replica->lock);
    while (!replica->stopping) {
        if (has_changed) {
            tree_sync_changed(replica->sync, network_now_us());
        }
        take_arrived(replica);
        replica_spool_due(replica, network_now_us());
        replica_asks_due(replica, network_now_us());
        const uint64_t now_us = network_now_us();
        if (now_us >= tree_sync_next_us(replica->sync)) {
            tree_sync_tick(replica->sync, now_us);
        }
        has_changed = wait_for_news(replica);
    }
    return NULL;
}

/* ---- opening and closing -----------------------------------------------------------------------
 */

int replica_open(struct network *network, struct replica **ret_replica)
{
    static const struct inbox_limits limits = {
        REPLICA_INBOX_BYTES_MAX,
        REPLICA_INBOX_MESSAGES_MAX,
        REPLICA_INBOX_SHARES,
    };
    struct replica *replica = mem_alloc(sizeof *replica);
    replica->node = network->node;
    replica->network = network;
    replica->dir_fd = -1;
    replica->spool.fd = -1;
    replica->spool.new_fd = -1;
    replica->arrival.fd = -1;
    replica->next_number = 1;
    uint64_t seed = 0;
    random_system(&seed, sizeof seed);
    random_init(&replica->random, seed);
    pthread_mutex_init(&replica->lock, NULL);
    clock_init_condition(&replica->news_came);
    replica->inbox = inbox_new(&limits);
    int err = file_open_at(AT_FDCWD, node_data(network->node), O_RDONLY | O_DIRECTORY, 0,
                           &replica->dir_fd);
    if (!err) {
        err = replica_files_open(replica);
    }
    if (err) {
        replica_free(replica);
        return err;
    }
    const struct tree_sync_options options = {
        .tree = node_tree(network->node),
        .id = *node_identity(network->node),
        .random_seed = random_u64(&replica->random),
        .host = replica_host(replica),
    };
    replica->sync = tree_sync_new(&options, network_now_us());
    if (pthread_create(&replica->thread, NULL, run, replica) != 0) {
        replica_free(replica);
        return -EAGAIN;
    }
    replica->has_thread = true;
    node_listen_own(network->node, own_changed, replica);
    *ret_replica = replica;
    return 0;
}

void replica_start(struct replica *replica)
{
    pthread_mutex_lock(&replica->lock);
    replica->is_started = true;
    pthread_cond_signal(&replica->news_came);
    pthread_mutex_unlock(&replica->lock);
}

void replica_stop(struct replica *replica)
{
    if (!replica) {
        return;
    }
    replica->stopping = true;
    if (replica->has_thread) {
        replica_wake(replica);
        pthread_join(replica->thread, NULL);
        replica->has_thread = false;
    }
    node_listen_own(replica->node, NULL, NULL);
    replica_asks_end(replica);
    replica_files_close(replica);
}

void replica_free(struct replica *replica)
{
    if (!replica) {
        return;
    }
    tree_sync_free(replica->sync);
    replica_files_close(replica);
    inbox_free(replica->inbox);
    if (replica->dir_fd >= 0) {
        close(replica->dir_fd);
    }
    pthread_cond_destroy(&replica->news_came);
    pthread_mutex_destroy(&replica->lock);
    free(replica);
}

/* ---- what others read --------------------------------------------------------------------------
 */

void replica_summarise(struct replica *replica, struct replica_summary *ret_summary)
{
    struct network_summary network;
    network_summarise(replica->network, &network);
    struct tree_summary tree = {0};
    struct kv_txn *txn = NULL;
    if (node_snapshot(replica->node, &txn) == 0 &&
        tree_summary(node_tree(replica->node), txn, &tree) != 0) {
        tree.is_merging = false;
    }
    kv_abort(txn);
    *ret_summary = (struct replica_summary){
        .is_merging = tree.is_merging,
        .agrees = network.trees_agree && !tree.is_merging,
        .inbox_dropped = inbox_dropped(replica->inbox),
    };
    pthread_mutex_lock(&replica->lock);
    ret_summary->counters = replica->counters;
    pthread_mutex_unlock(&replica->lock);
}
