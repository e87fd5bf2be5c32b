/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_CLUSTER_H
#define CLUSTER_CLUSTER_H

/*
 * cluster: who is here. Every node keeps the list of all members, true within seconds, by probing a
 * few of them, voting on those that are silent, and telling each other what changed.
 *
 * It is a pure state machine: the caller gives it the time, what arrived, and the seed of its
 * random numbers; it answers by calling its host (send this, this happened) before it returns. It
 * never blocks, opens nothing, and knows no clock: times are microseconds of the caller's monotonic
 * clock. The same inputs give the same outputs. A node drives one from its core thread, the
 * simulator ten thousand from one loop.
 *
 * After: SWIM (Das, Gupta, Motivala 2002); Lifeguard (Dadgar, Phillips, Currey 2018) for observers
 * that doubt themselves; Rapid (Suresh et al. 2018) for several observers that have to agree.
 * README.md tells how it works and where it deviates.
 *
 * Threads: one at a time. The host's functions must not call back into the cluster.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "wire/address.h"
#include "wire/datagram.h"
#include "wire/member.h"
#include "wire/node_id.h"

/* A member's observers (the next alive ones after it on the ring) and one random other member are
 * probed so often. */
#define CLUSTER_PROBE_MS 2000u
#define CLUSTER_OBSERVERS 3u
/* An answer to a probe is waited for at least so long, or twice the 99.9th percentile of answers.
 */
#define CLUSTER_ANSWER_MS_MIN 300u
#define CLUSTER_ANSWER_MS_MAX 2000u
/* The same for the receipt of a broadcast; half longer after each time. */
#define CLUSTER_RECEIPT_MS_MIN 60u
/* Unreachable without a break for so long: out of the ring; and back in it after as long alive,
 * twice that after each further time within an hour. */
#define CLUSTER_RING_LEAVE_MS 30000u
#define CLUSTER_RING_RETURN_MS 30000u
#define CLUSTER_RING_RETURN_MS_MAX 600000u
/* Not alive for so long: forgotten. */
#define CLUSTER_ROSTER_MS ((uint64_t)7 * 24 * 3600 * 1000)
/* One member that is not alive, and one seed, is asked so often. */
#define CLUSTER_HEAL_MS 5000u
/* A leave is told to others for so long at most. */
#define CLUSTER_LEAVE_MS 1000u
#define CLUSTER_SEEDS_MAX 64u

struct cluster;
struct member_pool;

/* What others know of a member, as seen from here. Borrowed until the next call that may change
 * the cluster. */
struct cluster_member {
    struct member_record record;
    bool is_self;
    bool in_ring;
    uint64_t since_us; /* when its status became what it is, as noticed here */
    uint64_t proof_us; /* when it last answered here; 0: never */
    uint32_t rtt_us;   /* of its last answer; 0: none yet */
};

enum cluster_event_kind {
    CLUSTER_JOINED = 1,      /* a member not known before, alive */
    CLUSTER_ALIVE = 2,       /* is back: was unreachable or had left */
    CLUSTER_UNREACHABLE = 3, /* not to be asked for anything */
    CLUSTER_LEFT = 4,        /* said good-bye */
    CLUSTER_UPDATED = 5,     /* still alive; address, zone or life changed */
    CLUSTER_FORGOTTEN = 6,   /* off the roster; the last event of this member */
    CLUSTER_RING_ENTERED = 7,
    CLUSTER_RING_LEFT = 8,
    CLUSTER_ISOLATED = 9,     /* nobody answers this node; `member` is itself */
    CLUSTER_CONNECTED = 10,   /* somebody does again */
    CLUSTER_INCARNATION = 11, /* ours was raised to member->record.version.incarnation: keep it */
    CLUSTER_CONFLICT = 12,    /* another node has our id and is older: this one has to stop */
    CLUSTER_LEAVE_DONE = 13,  /* everybody reachable was told, or the time for it is over */
};

struct cluster_event {
    enum cluster_event_kind kind;
    const struct cluster_member *member; /* never NULL */
    struct address other;                /* CLUSTER_CONFLICT: where the other one is */
};

struct cluster_host {
    /* One datagram of at most DATAGRAM_BYTES_MAX, which may be lost. */
    void (*send_datagram)(void *context, const struct address *to, struct bytes datagram);
    /* One message of at most MEMBER_SYNC_BYTES_MAX to a member, over a connection; it may be lost
     * with the connection. */
    void (*send_message)(void *context, const struct node_id *to, const struct address *address,
                         struct bytes message);
    void (*event)(void *context, const struct cluster_event *event);
    /* A member's digests of its version vector and its tree, as it just told; NULL: not wanted. */
    void (*digests)(void *context, const struct node_id *member, const struct digests *digests);
    /* A broadcast of a kind other than DATAGRAM_PAYLOAD_MEMBERS came, for the first time; NULL: not
     * wanted. */
    void (*broadcast)(void *context, const struct node_id *from, uint8_t kind,
                      struct bytes payload);
    void *context;
};

struct cluster_options {
    struct node_id id;
    uint64_t boot_nonce;     /* random, not 0, new at every start */
    uint64_t incarnation;    /* higher than any used before, as far as is known; at least 1 */
    struct address address;  /* where others reach this node */
    const char *name;        /* member_name_check() passes; copied */
    const char *zone;        /* likewise */
    uint64_t capacity_bytes; /* 0: not told */
    uint64_t random_seed;
    /* Where records of members are kept. Several clusters of one thread may share one, so that ten
     * thousand views of ten thousand members fit in memory; NULL: one of its own. */
    struct member_pool *pool;
    struct cluster_host host;
};

/* Figures; all since the start. */
struct cluster_counters {
    uint64_t datagrams_received;
    uint64_t datagrams_refused; /* malformed, of another version, from a stranger */
    uint64_t datagrams_sent;
    uint64_t datagram_bytes_sent; /* without IP and UDP headers */
    uint64_t datagram_bytes_received;
    uint64_t messages_sent;
    uint64_t message_bytes_sent;
    uint64_t message_bytes_received;
    uint64_t messages_refused;
    uint64_t probes_sent;
    uint64_t probes_unanswered;
    uint64_t alerts;      /* votes begun here */
    uint64_t accusations; /* members said to be unreachable by a vote begun here */
    uint64_t refutations; /* by this node, of what was said of itself */
    uint64_t broadcasts_begun;
    uint64_t broadcasts_forwarded;
    uint64_t broadcast_parts_resent;    /* no receipt came in time */
    uint64_t broadcast_parts_lost;      /* nor after all attempts */
    uint64_t broadcast_parts_unwatched; /* too many under way: sent once, receipt or not */
    uint64_t welcomes_withheld;         /* from strangers that came faster than they are answered */
    uint64_t syncs_begun;
    uint64_t updates_refused; /* an incarnation far ahead, a list beyond MEMBERS_MAX */
};

struct member_pool *member_pool_new(void);
/* Every cluster that uses it is gone. NULL is allowed. */
void member_pool_free(struct member_pool *pool);

/* A cluster of one member: itself. The time of the first call is the time of its start. */
struct cluster *cluster_new(const struct cluster_options *options, uint64_t now_us);
void cluster_free(struct cluster *cluster);

/* Addresses to join through, at most CLUSTER_SEEDS_MAX (more are left out); those given before are
 * forgotten. Names are the caller's affair: it resolves them again and again while
 * cluster_is_alone() says so. Joining goes on until one answers; later each is asked now and then,
 * so that networks which were apart grow together. Copied. */
void cluster_set_seeds(struct cluster *cluster, const struct address *seeds, size_t seeds_count);

/* True while it knows no other member that is alive. */
bool cluster_is_alone(const struct cluster *cluster);
/* True while nobody answers although there are members. Then cluster_walk() shows all others as
 * unreachable. */
bool cluster_is_isolated(const struct cluster *cluster);

/* What arrived. Whatever is in it, nothing worse happens than a refusal that is counted. */
void cluster_receive_datagram(struct cluster *cluster, uint64_t now_us, const struct address *from,
                              struct bytes datagram);
void cluster_receive_message(struct cluster *cluster, uint64_t now_us, const struct node_id *from,
                             struct bytes message);

/* Does what is due. To be called at cluster_next_us() or soon after; a call that comes late by much
 * is taken as a sign that this process was held up, and its own doubts about others as worthless
 * for a while. So hand over what has arrived before calling it. */
void cluster_tick(struct cluster *cluster, uint64_t now_us);
uint64_t cluster_next_us(const struct cluster *cluster);

/* Says good-bye: for good (MEMBER_LEFT), or because the process stops and may be back soon
 * (MEMBER_UNREACHABLE: others know at once, and the ring waits for it as for a lost one).
 * CLUSTER_LEAVE_DONE comes by a tick, within CLUSTER_LEAVE_MS and at once if there is nobody to
 * tell. After that it answers nobody. A second call does nothing. */
void cluster_leave(struct cluster *cluster, uint64_t now_us, enum member_status status);

/* What is told in probes of the version vector and the tree. */
void cluster_set_digests(struct cluster *cluster, uint64_t vector, uint64_t tree);

/* Tells all members alive: each gets `payload` (at most DATAGRAM_PAYLOAD_BYTES_MAX) at least once
 * unless it is lost on the way with all its retries; N - 1 datagrams over all, log8 N steps.
 * `kind`: not DATAGRAM_PAYLOAD_MEMBERS. */
void cluster_broadcast(struct cluster *cluster, uint64_t now_us, uint8_t kind,
                       struct bytes payload);

/* The roster as bytes, to be kept on disk, and back. Restoring comes before anything else and takes
 * those members as unproven. -EPROTO: not a roster; nothing was taken. The age of a status is kept;
 * the time between saving and restoring does not count. */
void cluster_save(const struct cluster *cluster, struct buf *ret_bytes);
[[nodiscard]] int cluster_restore(struct cluster *cluster, uint64_t now_us, struct bytes saved);

/* Itself included. */
size_t cluster_count(const struct cluster *cluster, enum member_status status);
/* The sum over all members' versions: equal views have equal digests. */
uint64_t cluster_digest(const struct cluster *cluster);
/* Incremented whenever a member's version or place in the ring changed here. */
uint64_t cluster_change_count(const struct cluster *cluster);
/* False: no such member. */
bool cluster_find(const struct cluster *cluster, const struct node_id *id,
                  struct cluster_member *ret_member);
/* All members in the order of their ids, until `visit` gives false. */
void cluster_walk(const struct cluster *cluster,
                  bool (*visit)(void *context, const struct cluster_member *member), void *context);
const struct cluster_counters *cluster_counters(const struct cluster *cluster);

#endif
