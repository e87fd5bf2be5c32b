/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_REPLICA_PRIV_H
#define NODE_REPLICA_PRIV_H

/*
 * The state of the replica, what the network calls of it, and what its parts call of each other:
 *
 *   replica.c        opening, the thread and its loop, what arrives, local changes
 *   replica_host.c   what tree_sync asks: the network, the tree, what happened
 *   replica_files.c  snapshots on the disk, on their way out and in
 *   replica_asks.c   who waits for others to have an op, or for what they say of their trees
 */

#include <pthread.h>
#include <stdatomic.h>

#include "base/map.h"
#include "base/random.h"
#include "node/inbox_priv.h"
#include "node/replica.h"

struct network;

/* What waits for the replica's thread. A burst of a thousand broadcasts from each of sixteen nodes,
 * and as many bytes as eight members send for one question each. */
#define REPLICA_INBOX_MESSAGES_MAX 16384u
#define REPLICA_INBOX_BYTES_MAX ((size_t)32 * 1024 * 1024)
#define REPLICA_INBOX_SHARES 4u

struct replica_await {
    struct dot dot;
    size_t count;
    uint64_t wait_ms;
    replica_awaited_fn done;
    void *context;
    uint64_t number;
    struct replica_await *next; /* of those that were not taken yet */
    UT_hash_handle hh;          /* of the others, by number */
};

struct replica_ask {
    replica_asked_fn done;
    void *context;
    uint64_t wait_ms;
    uint64_t number;
    uint64_t deadline_us;
    uint64_t more_us; /* then so many more may be without an answer */
    size_t window;    /* that may be without an answer */
    struct replica_member *members;
    size_t members_count;
    size_t asked_count;
    size_t answered_count;
    struct replica_ask *next;
};

/* A snapshot on its way out. */
struct replica_spool {
    pthread_t thread;
    bool is_running;
    bool has_thread; /* to be joined */
    _Atomic bool is_over;
    int fd; /* of what was written last and is handed out; -1: nothing */
    int new_fd;
    int err;
    struct id id;
    uint64_t bytes;
};

/* A snapshot on its way in. */
struct replica_arrival {
    int fd; /* -1: none */
    struct id id;
    uint64_t bytes;
};

struct replica {
    struct node *node;
    struct network *network;
    struct inbox *inbox;
    struct tree_sync *sync;
    int dir_fd;
    pthread_t thread;
    bool has_thread;
    _Atomic bool stopping;

    pthread_mutex_t lock; /* over all down to the next empty line */
    pthread_cond_t news_came;
    bool is_started;
    bool has_news;
    bool has_changed; /* local changes were committed */
    struct replica_await *new_awaits;
    struct replica_ask *new_asks;
    struct tree_sync_counters counters;

    /* The replica's thread's alone, after opening. */
    struct random random;
    uint64_t next_number;
    struct replica_await *awaits;
    struct replica_ask *asks;
    struct replica_spool spool;
    struct replica_arrival arrival;
    uint64_t log_window_us;
    unsigned log_lines;
};

/* Opens and closes: the network, in this order. After replica_open() the tree's local changes are
 * looked at (node_listen_own()); after replica_stop() nothing is called any more, and what comes
 * until replica_free() is left lying. -EAGAIN: no thread to be had; -EIO, -EMFILE. NULL is allowed
 * for the last two. */
[[nodiscard]] int replica_open(struct network *network, struct replica **ret_replica);
void replica_start(struct replica *replica);
void replica_stop(struct replica *replica);
void replica_free(struct replica *replica);

/* What arrives; copied, from any thread, without blocking. */
void replica_put_message(struct replica *replica, const struct node_id *from, struct bytes bytes);
void replica_put_broadcast(struct replica *replica, const struct node_id *from,
                           struct bytes payload);
void replica_put_digests(struct replica *replica, const struct node_id *from,
                         const struct digests *digests);

/* replica.c */

void replica_wake(struct replica *replica);

/* replica_host.c */

struct tree_sync_host replica_host(struct replica *replica);

/* replica_files.c */

/* Removes what an earlier life has left and nobody needs. */
[[nodiscard]] int replica_files_open(struct replica *replica);
/* Waits for a snapshot that is being written; it ends soon, since `stopping` is set. */
void replica_files_close(struct replica *replica);
/* Tells tree_sync of a snapshot that is written. */
void replica_spool_due(struct replica *replica, uint64_t now_us);
void replica_spool(void *context);
int replica_spool_read(void *context, uint64_t offset, void *ret_bytes, size_t size);
void replica_spool_drop(void *context);
int replica_arrival_open(void *context, const struct id *id, uint64_t *ret_bytes);
int replica_arrival_append(void *context, struct bytes bytes);
int replica_arrival_read(void *context, uint64_t offset, void *ret_bytes, size_t size);
bool replica_arrival_find(void *context, struct id *ret_id, uint64_t *ret_bytes);
void replica_arrival_drop(void *context);

/* replica_asks.c */

/* Takes what other threads have asked, and asks on. */
void replica_asks_due(struct replica *replica, uint64_t now_us);
uint64_t replica_asks_next_us(const struct replica *replica);
void replica_answer_await(struct replica *replica, uint64_t number, size_t count);
void replica_answer_ask(struct replica *replica, uint64_t number, const struct node_id *member,
                        const struct tree_sync_state *state);
/* Answers all that wait. */
void replica_asks_end(struct replica *replica);

#endif
