/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_NETWORK_PRIV_H
#define NODE_NETWORK_PRIV_H

/*
 * The state of the network and what its parts call of each other:
 *
 *   network.c       opening, starting, closing
 *   network_core.c  the core thread: a turn of its loop, what the cluster asks of its host
 *   network_save.c  the file `members`
 *   network_read.c  what other threads ask
 *   network_tree.c  what the replica and the fetch ask, on their threads
 */

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "base/clock.h"
#include "node/inbox_priv.h"
#include "node/members_file.h"
#include "node/network.h"
#include "node/seeds.h"

struct random;

/* The services of the link: messages of the members' lists, of the tree, about who holds what, and
 * about who shall keep what. The streams of blocks have another (node/blocks_priv.h). */
#define SERVICE_MEMBERS 1
#define SERVICE_TREE 2
#define SERVICE_LOCATE 3
#define SERVICE_KEEP 5
/* Members that told their digest last. In NETWORK_AGREE_MS some twenty do. */
#define TOLD_MAX 64u

struct told {
    struct node_id id;
    struct digests digests;
    uint64_t at_us;     /* 0: free */
    bool had_same_tree; /* as we, when it was told */
};

/* Somebody who waits for the end of a leave. */
struct leaver {
    void (*done)(void *context);
    void *context;
    struct leaver *next;
};

struct save {
    uv_work_t work;
    bool is_under_way;
    bool is_urgent;        /* a new incarnation is to be kept at once */
    uint64_t change_count; /* of the cluster, when it was last written */
    uint64_t due_us;       /* not before */
    uint64_t incarnation;  /* what the worker writes */
    struct buf roster;     /* likewise */
    int err;               /* how it went */
    bool is_failing;       /* and that was logged */
};

struct network {
    struct node *node;
    struct address address;
    int dir_fd;
    uv_loop_t loop;
    uv_async_t wake;
    uv_timer_t timer;
    uv_check_t check;
    uv_idle_t again;
    bool has_loop;
    bool has_handles; /* the four above */
    pthread_t thread;
    bool has_thread;
    struct udp *udp;
    struct link *link;
    struct inbox *inbox;
    struct inbox *outbox; /* broadcasts of the replica and the fetch */
    struct replica *replica;
    struct fetch *fetch;
    struct member_events *events;
    void (*ended)(void *context, enum network_end why, const struct address *other);
    void *ended_context;
    _Atomic bool stopping;
    _Atomic uint64_t saves;
    _Atomic uint64_t saves_failed;

    /* The core thread's alone. */
    struct seeds *seeds; /* NULL: nobody to join */
    uint64_t look_up_us;
    unsigned datagrams_in_turn;
    unsigned turns_behind;
    uint64_t told_events; /* the newest that was logged and told to the listener */
    uint64_t log_window_us;
    unsigned log_lines;
    struct save save;
    bool is_restoring;    /* what the roster brings is no news */
    bool members_changed; /* the fetch is to be told */
    bool has_conflict;
    struct address conflict_address;
    bool has_ended; /* `ended` was called */

    /* Changed by the core thread under the lock, so it reads without. Held for one datagram,
     * message or tick, and by readers while they copy. */
    pthread_mutex_t lock;
    struct cluster *cluster;
    int64_t wall_offset_us; /* what the wall clock is ahead of uv_hrtime() */
    struct told told[TOLD_MAX];
    struct digests own; /* of vector and tree; that of members is not kept here */
    bool has_left;
    bool has_writer; /* that was looked for last: of a directory it is often the same one */
    struct origin_id writer_origin;
    struct node_id writer;

    pthread_mutex_t ask_lock; /* over the four below */
    pthread_cond_t started;
    bool is_started;
    struct leaver *leavers;
    enum member_status leave_as; /* 0: nobody has asked */
    bool leave_is_begun;

    pthread_mutex_t listen_lock; /* over the two below, held during a call */
    void (*changed)(void *context);
    void *changed_context;
};

/* Before the machine's start lies more than CLUSTER_ROSTER_MS, so that whatever became of a member
 * lately has a time, also on a machine that has just started. */
#define NETWORK_BEFORE_START_US ((CLUSTER_ROSTER_MS + (uint64_t)24 * 3600 * 1000) * 1000)

static inline uint64_t network_now_us(void)
{
    return uv_hrtime() / 1000 + NETWORK_BEFORE_START_US;
}

/* As clock_wait_until(), of network_now_us(). */
static inline int network_wait_until(pthread_cond_t *condition, pthread_mutex_t *lock,
                                     uint64_t until_us)
{
    const bool is_ever = until_us == UINT64_MAX;
    const uint64_t before_us = is_ever ? 0 : NETWORK_BEFORE_START_US; /* since uv_hrtime() began */
    return clock_wait_until(condition, lock, until_us > before_us ? until_us - before_us : 0);
}

/* network_core.c */

struct cluster_host network_host(struct network *network);
void network_received(void *context, const struct address *from, struct bytes bytes);
void network_message(void *context, const struct link_peer *peer, struct bytes bytes);
void network_tree_message(void *context, const struct link_peer *peer, struct bytes bytes);
void network_locate_message(void *context, const struct link_peer *peer, struct bytes bytes);
void network_keep_message(void *context, const struct link_peer *peer, struct bytes bytes);
void network_seeds_found(void *context, const struct address *addresses, size_t count);
/* One round of the loop: takes what came, does what is due, sets the timer. */
void network_turn(struct network *network);

/* network_tree.c: from any thread. */

/* By the core thread, soon; dropped and counted if too many wait. */
void network_broadcast(struct network *network, enum datagram_payload kind, struct bytes payload);
/* To a member, if it is known; dropped if too much waits for it. */
void network_send(struct network *network, uint8_t service, const struct node_id *to,
                  struct bytes message);
bool network_knows(struct network *network, const struct node_id *id);
/* Where a member is reached; false: it is not known. */
bool network_find_address(struct network *network, const struct node_id *id,
                          struct address *ret_address);

/* A member, but for this node, as those see it who ask it for something. */
struct network_peer {
    struct node_id id;
    uint64_t boot_nonce;
    bool is_alive;
    bool in_ring;
    bool is_near; /* in our zone */
};
/* All of them; the caller frees *ret_peers. *ret_change: as network_change_count() then. */
size_t network_peers(struct network *network, struct network_peer **ret_peers,
                     uint64_t *ret_change);
/* Another one if anything changed about a member. */
uint64_t network_change_count(struct network *network);
/* Any one that is alive, but for this node. False: there is none. */
bool network_pick(struct network *network, struct random *random, struct node_id *ret_member);
/* What is told in probes. */
void network_set_digests(struct network *network, uint64_t vector, uint64_t tree);

/* network_read.c */

/* Others told their trees lately, and all of them had ours: for node_set_settled(). */
bool network_is_settled(void *network);

/* network_save.c */

/* Reads the file; *ret_incarnation is one that was never used before, and is kept already. The
 * roster is borrowed from `buf`, for network_restore(). Block. */
void network_load(struct network *network, struct buf *buf, uint64_t *ret_incarnation,
                  struct bytes *ret_roster);
void network_restore(struct network *network, uint64_t now_us, struct bytes roster);
/* Writes the roster if that is due. */
void network_save_due(struct network *network, uint64_t now_us);
uint64_t network_save_next_us(const struct network *network);
/* The last time, on the caller's thread; the loop has ended. */
void network_save_last(struct network *network);

#endif
