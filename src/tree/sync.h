/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_SYNC_H
#define TREE_SYNC_H

/*
 * sync: keeps this tree the same as those of all other nodes.
 *
 * What is changed here is broadcast; what was lost on the way, or happened while nodes could not
 * talk to each other, is found by comparing version vectors, and pulled from whoever has it, as ops
 * or as a snapshot. (Bayou's anti-entropy, Petersen et al. 1997; broadcast as in Bimodal Multicast,
 * Birman et al. 1999.) README.md tells the whole of it.
 *
 * A state machine that gets the time, what arrived, and a seed, and calls its host before it
 * returns. It opens nothing and knows no clock; but its host reads and writes the tree for it, so a
 * call may take as long as a disk does: a node has a thread for it. Times are microseconds of the
 * caller's monotonic clock.
 *
 * Threads: one at a time. The host's functions must not call back into it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "tree/remote.h"
#include "tree/snapshot.h"
#include "tree/tree.h"
#include "wire/datagram.h"
#include "wire/node_id.h"
#include "wire/tree_message.h"

/* Vectors that differ for so long are compared. */
#define TREE_SYNC_DIFFERS_MS 1000u
/* Ops that came before their causes: beyond, they are dropped and pulled again later. */
#define TREE_SYNC_EARLY_MAX 4096u
#define TREE_SYNC_EARLY_BYTES_MAX ((size_t)64 * 1024 * 1024)
/* A peer that does not answer for so long is given up; another one is asked. */
#define TREE_SYNC_ANSWER_MS 5000u
/* What others ask to be told or sent as soon as it is here: beyond, the oldest of who asks for most
 * is forgotten. */
#define TREE_SYNC_WISHES_MAX 4096u
#define TREE_SYNC_WISH_MS 30000u

/* Others whose word can be waited for (tree_sync_await()). */
#define TREE_SYNC_AWAIT_MAX 32u

struct tree_sync;

enum tree_sync_event_kind {
    TREE_SYNC_APPLIED = 1, /* ops of others were applied; `count` of them */
    TREE_SYNC_AWAITED = 2, /* the await `number` has come to an end: `count` others have it */
    TREE_SYNC_STATE = 3,   /* `member` answered the state question `number`: `state` */
    TREE_SYNC_FORK = 4, /* `member` has, or sent an op of, a log that is not the one known here */
    TREE_SYNC_REFUSED = 5,  /* `member` sent what can't be */
    TREE_SYNC_DIVERGED = 6, /* alarm: same vector as `member`, other tree; being repaired */
    TREE_SYNC_MERGE_BEGUN = 7,
    TREE_SYNC_MERGE_DONE = 8,
    TREE_SYNC_FAILED = 9, /* reading or writing the tree failed with `err`; tried again later */
};

struct tree_sync_state {
    uint64_t vector_sum;
    uint8_t fingerprint[TREE_FINGERPRINT_BYTES];
    uint64_t ops_count;
    uint64_t entries_count;
};

struct tree_sync_event {
    enum tree_sync_event_kind kind;
    struct node_id member;
    uint64_t number;
    uint64_t count;
    struct tree_sync_state state;
    int err;
};

struct tree_sync_host {
    /* To every member alive, at most DATAGRAM_PAYLOAD_BYTES_MAX; nearly always arrives. */
    void (*broadcast)(void *context, struct bytes payload);
    /* To one member, over a connection, at most TREE_MESSAGE_BYTES_MAX; in order, or lost with the
     * connection. */
    void (*send)(void *context, const struct node_id *to, struct bytes message);
    /* A member alive other than this node, any one; false: there is none. */
    bool (*pick)(void *context, struct node_id *ret_member);

    /* A snapshot of the database. */
    int (*read)(void *context, struct kv_txn **ret_txn);
    /* Runs `job` in a write transaction and makes it durable; 0, the error of the job, or of the
     * commit. The job may be run again for another try. */
    int (*write)(void *context, int (*job)(void *job_context, struct kv_txn *txn),
                 void *job_context);

    /* Begins to write a snapshot of the tree to a file, beside everything else;
     * tree_sync_spooled() comes later, once. The one before it can be read until then. */
    void (*spool)(void *context);
    /* Reads from the file that was spooled last. 0, -EIO. */
    int (*spool_read)(void *context, uint64_t offset, void *ret_bytes, size_t size);
    /* The spooled file is not needed any more. */
    void (*spool_drop)(void *context);

    /* The file in which a snapshot is received; it outlives the process. `id` names it: another
     * one, or none, begins empty. Answers how much of it is there already. */
    int (*inbox_open)(void *context, const struct id *id, uint64_t *ret_bytes);
    int (*inbox_append)(void *context, struct bytes bytes);
    int (*inbox_read)(void *context, uint64_t offset, void *ret_bytes, size_t size);
    /* True and its name, if there is one from before. */
    bool (*inbox_find)(void *context, struct id *ret_id, uint64_t *ret_bytes);
    void (*inbox_drop)(void *context);

    /* Digests to be told in pings. */
    void (*digests)(void *context, uint64_t vector, uint64_t tree);
    void (*event)(void *context, const struct tree_sync_event *event);
    void *context;
};

struct tree_sync_options {
    const struct tree *tree;
    struct node_id id;
    uint64_t random_seed;
    struct tree_sync_host host;
};

struct tree_sync_counters {
    uint64_t ops_applied;      /* of others */
    uint64_t ops_known;        /* came again */
    uint64_t ops_early;        /* came before their causes */
    uint64_t ops_dropped;      /* early ones for which there was no room */
    uint64_t ops_refused;      /* malformed, beyond limits, of a later version */
    uint64_t ops_forked;       /* do not continue the log that is known here, or are others */
    uint64_t messages_refused; /* malformed */
    uint64_t messages_received;
    uint64_t message_bytes_received;
    uint64_t messages_sent;
    uint64_t message_bytes_sent;
    uint64_t broadcasts; /* begun here */
    uint64_t pulls;      /* comparisons of vectors begun here */
    uint64_t snapshots_served;
    uint64_t snapshots_merged;
    uint64_t divergences;
};

struct tree_sync *tree_sync_new(const struct tree_sync_options *options, uint64_t now_us);
/* What is awaited never ends. NULL is allowed. */
void tree_sync_free(struct tree_sync *sync);

/* What arrived: a broadcast's payload, handed on by `from`; a message of a member; what a member
 * told with a ping. Nothing worse than a refusal happens whatever is in it. */
void tree_sync_broadcast(struct tree_sync *sync, uint64_t now_us, const struct node_id *from,
                         struct bytes payload);
void tree_sync_message(struct tree_sync *sync, uint64_t now_us, const struct node_id *from,
                       struct bytes message);
void tree_sync_digests(struct tree_sync *sync, uint64_t now_us, const struct node_id *from,
                       const struct digests *digests);
/* Ops that came are gathered by the three above, and applied together by this one: to be called
 * when nothing more is waiting to be handed over, and when enough was. */
void tree_sync_apply(struct tree_sync *sync, uint64_t now_us);

/* Local changes were committed. */
void tree_sync_changed(struct tree_sync *sync, uint64_t now_us);

/* The host's spool() has ended; `id` is the SHA-256 of the file. */
void tree_sync_spooled(struct tree_sync *sync, uint64_t now_us, int err, const struct id *id,
                       uint64_t bytes);

/* Tells TREE_SYNC_AWAITED when `count` others (at most TREE_SYNC_AWAIT_MAX) have `dot` on disk, or
 * at `deadline_us`, or at once if too many wait already. */
void tree_sync_await(struct tree_sync *sync, uint64_t now_us, const struct dot *dot, size_t count,
                     uint64_t deadline_us, uint64_t number);

/* Asks a member for its state: TREE_SYNC_STATE comes if it answers. */
void tree_sync_ask(struct tree_sync *sync, uint64_t now_us, const struct node_id *member,
                   uint64_t number);

/* Does what is due. */
void tree_sync_tick(struct tree_sync *sync, uint64_t now_us);
uint64_t tree_sync_next_us(const struct tree_sync *sync);

const struct tree_sync_counters *tree_sync_counters(const struct tree_sync *sync);

#endif
