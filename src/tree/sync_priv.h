/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_SYNC_PRIV_H
#define TREE_SYNC_PRIV_H

/*
 * The state of sync and what its parts call of each other:
 *
 *   sync.c           opening, what we have, digests of others, what is due
 *   sync_arrive.c    ops that came: applying them, waiting for their causes
 *   sync_spread.c    telling everybody of ours, hearing of others'
 *   sync_refused.c   logs of others that are refused
 *   sync_pull.c      comparing vectors, asking for ops
 *   sync_serve.c     answering others
 *   sync_await.c     who has an op on disk
 *   sync_snapshot.c  handing out and taking snapshots
 *   sync_diverge.c   other trees by the same vector
 */

#include "base/map.h"
#include "base/random.h"
#include "tree/sync.h"

#define MS UINT64_C(1000) /* in microseconds */
#define SECOND (1000 * MS)
#define NEVER UINT64_MAX

/* Members whose digests were heard last. A member hears from some ten in two rounds of probes. */
#define SYNC_PEERS_MAX 24u
/* Our own sums of late: who tells one of these is behind us, and asks us when it wants to. */
#define SYNC_PAST_MAX 64u
/* Peers of whom ops are wanted at a time. */
#define SYNC_PULLS_MAX 16u
/* Publishers that are waited for at a time; beyond, it is answered at once with nobody. */
#define SYNC_AWAITS_MAX 1024u
/* Nodes that one await asks. */
#define SYNC_AWAIT_MEMBERS_MAX (2 * TREE_SYNC_AWAIT_MAX)
/* Who wait for a snapshot that is being written. */
#define SYNC_ASKERS_MAX 64u

struct sync_own {
    uint64_t vector_sum;
    uint64_t tree_sum;
    uint8_t fingerprint[TREE_FINGERPRINT_BYTES];
    uint64_t ops_count;
    uint64_t entries_count;
    struct origin_id origin;
    uint64_t seq;
    struct id hash;
    bool is_merging;
};

struct sync_peer {
    struct node_id id;
    uint64_t vector_sum;
    uint64_t tree_sum;
    uint64_t heard_us;    /* 0: free */
    uint64_t differs_us;  /* since when the vectors differ; 0: they don't */
    uint64_t diverges_us; /* since when the trees differ with equal vectors; 0: they don't */
    uint64_t alarm_us;    /* that is not told before */
};

/* An op that came from elsewhere. */
struct arrived {
    struct dot dot;         /* known after the first try */
    struct dot missing;     /* the gate that it waits at */
    struct dot now_missing; /* as the last try found */
    struct node_id from;
    enum tree_verdict verdict;
    unsigned attempt;     /* of the job that looked at it last */
    bool is_early;        /* in the tables below */
    bool is_sent;         /* by `from` itself, which answers for it; else it came by broadcast */
    uint64_t since_us;    /* early since */
    uint64_t asked_us;    /* its causes were asked for last; 0: not yet */
    struct arrived *next; /* of those that miss the same */
    UT_hash_handle hh;    /* by dot */
    size_t size;
    uint8_t bytes[];
};

/* Early ops that miss the same one. */
struct gate {
    struct dot missing;
    struct arrived *first;
    UT_hash_handle hh;
};

/* Ops of one log that a peer is to send. */
struct pulled {
    struct origin_id origin;
    uint64_t after_seq; /* rises as ops come */
    uint64_t through_seq;
    uint64_t moved_us; /* when one was applied last, or it was asked for first */
};

/* What a peer is to send us. */
struct pull {
    struct node_id peer;
    struct pulled *lacks; /* in the order of origins */
    size_t lacks_count;
    size_t lacks_capacity;
    uint64_t deadline_us;
    uint64_t moved_us; /* when something of it was applied last, or it was asked for */
    bool is_repair;    /* found by comparing: it has all of it */
};

/* An op too long for a message, in the making; one at a time. */
struct assembly {
    struct dot dot;
    struct node_id from;
    size_t size; /* 0: none */
    struct buf bytes;
    uint64_t asked_bytes;
    uint64_t began_us;
    uint64_t deadline_us;
};

/* What a peer is to be told or sent as soon as it is here. */
struct wish {
    struct node_id peer;
    struct origin_id origin;
    uint64_t after_seq;
    uint64_t through_seq;
    uint64_t number; /* of an AWAIT */
    bool is_await;
    uint64_t deadline_us;
};

struct await {
    struct dot dot;
    uint64_t number; /* the caller's */
    uint64_t wire_number;
    size_t wanted_count;
    size_t has_count;
    uint64_t deadline_us;
    uint64_t ask_us; /* more are asked then */
    size_t asked_count;
    struct node_id asked[SYNC_AWAIT_MEMBERS_MAX];
    bool has[SYNC_AWAIT_MEMBERS_MAX];
};

enum fetch_state {
    FETCH_NONE = 0,
    FETCH_ASKED,
    FETCH_RECEIVING,
    FETCH_MERGING,
};

/* A snapshot that is on its way here. */
struct fetch {
    enum fetch_state state;
    struct node_id peer;
    struct tree_merge_options merge;
    uint64_t bytes;
    uint64_t received_bytes;
    uint64_t asked_bytes;
    uint64_t began_us;
    uint64_t deadline_us;
    unsigned attempts;
    uint64_t not_before_us; /* another try */
    struct node_id left;    /* who sent a part of one; it is asked once more until then */
    uint64_t left_until_us;
    struct tree_snapshot *snapshot;
};

/* A snapshot that is handed out. */
struct spooled {
    bool is_under_way;
    bool is_here;
    struct id id;
    uint64_t bytes;
    uint64_t made_us;
    uint64_t read_us;
    struct node_id askers[SYNC_ASKERS_MAX];
    size_t askers_count;
};

struct tree_sync {
    const struct tree *tree;
    struct node_id id;
    struct random random;
    struct tree_sync_host host;
    struct tree_sync_counters counters;
    uint64_t now_us;
    struct sync_own own;
    uint64_t past[SYNC_PAST_MAX];
    unsigned past_next;
    struct sync_peer peers[SYNC_PEERS_MAX];
    uint64_t retry_us; /* something failed with the disk: nothing is tried before */
    bool is_stale;     /* `own` could not be read */

    /* sync_arrive.c */
    struct arrived **incoming;
    size_t incoming_count;
    size_t incoming_capacity;
    struct arrived *early; /* by dot */
    struct gate *gates;    /* by what is missing */
    size_t early_bytes;
    uint64_t early_due_us;
    unsigned attempts;

    /* sync_refused.c */
    struct refusal *refusals; /* by peer and log */

    /* sync_spread.c */
    struct dot spread;       /* the last of our ops that was told */
    uint64_t spread_span_us; /* begin of the span that passes */
    unsigned spread_count;

    /* sync_pull.c */
    struct pull pulls[SYNC_PULLS_MAX];
    size_t pulls_count;
    struct assembly assembly;
    struct node_id compared; /* SUMS went there */
    uint64_t compared_us;    /* when; 0: nothing is awaited */
    uint64_t compare_us;     /* not before */

    /* sync_serve.c, sync_await.c */
    struct buf served; /* the long op that was asked for last, in pieces */
    struct dot served_dot;
    uint64_t served_us;
    struct wish *wishes;
    size_t wishes_count;
    size_t wishes_capacity;
    struct wisher *wishers;
    struct await *awaits;
    size_t awaits_count;
    size_t awaits_capacity;
    uint64_t next_number;

    /* sync_snapshot.c */
    struct fetch fetch;
    struct spooled spooled;

    /* sync_diverge.c */
    uint64_t repaired_us; /* when a repair was begun last */
    uint64_t repair_pause_us;
    struct tree_miscount miscount;
};

static inline bool dot_equal(const struct dot *a, const struct dot *b)
{
    return a->seq == b->seq && origin_id_equal(&a->origin, &b->origin);
}

/* sync.c */

/* Reads what we have after a change of the tree, and tells it. */
void sync_refresh(struct tree_sync *sync);
/* A failure of the disk: told once, tried again after a while. */
void sync_failed(struct tree_sync *sync, int err);
bool sync_is_past(const struct tree_sync *sync, uint64_t vector_sum);
void sync_event(struct tree_sync *sync, enum tree_sync_event_kind kind,
                const struct node_id *member, uint64_t count);
void sync_send(struct tree_sync *sync, const struct node_id *to, struct bytes message);
/* A message without a list. */
void sync_send_message(struct tree_sync *sync, const struct node_id *to,
                       const struct tree_message *message);
/* How far we are in the log of `origin`. 0 if that can't be read, either. */
uint64_t sync_seq_of(struct tree_sync *sync, struct kv_txn *txn, const struct origin_id *origin);
/* Our tree changed: what waits for that is done. */
void sync_advanced(struct tree_sync *sync);

/* sync_arrive.c */

/* `is_sent`: by `from` over a connection. */
void arrive(struct tree_sync *sync, const struct node_id *from, struct bytes op, bool is_sent);
void arrive_due(struct tree_sync *sync);
/* After the vector was raised by a snapshot. */
void arrive_again(struct tree_sync *sync);
void arrive_done(struct tree_sync *sync);

/* sync_refused.c */

/* `peer` sent an op that was refused. False: its log is left alone already. */
bool refused_note(struct tree_sync *sync, const struct node_id *peer, const struct dot *dot);
/* Nothing of this log is to be asked for of `peer`, for now. */
bool refused_is(const struct tree_sync *sync, const struct node_id *peer,
                const struct origin_id *origin);
/* An op of `peer` that stands behind one that was refused. */
bool refused_is_behind(const struct tree_sync *sync, const struct node_id *peer,
                       const struct dot *dot);
/* It goes on with the log that is known here, after all. */
void refused_was_applied(struct tree_sync *sync, const struct node_id *peer,
                         const struct origin_id *origin);
void refused_done(struct tree_sync *sync);

/* sync_spread.c */

void spread_due(struct tree_sync *sync);
void spread_received(struct tree_sync *sync, const struct node_id *from,
                     const struct tree_message *message);
uint64_t spread_next_us(const struct tree_sync *sync);

/* sync_pull.c */

/* Compares vectors with a peer whose sum differs, if nothing else of that kind is under way. */
void pull_compare(struct tree_sync *sync, const struct node_id *peer);
/* What a comparison has found is on its way, and holds others back until then. 0: nothing does. */
uint64_t pull_repairs_until_us(const struct tree_sync *sync);
void pull_received_part(struct tree_sync *sync, const struct node_id *from,
                        const struct tree_message *part);
void pull_received_ops(struct tree_sync *sync, const struct node_id *from,
                       const struct tree_message *ops);
void pull_received_large(struct tree_sync *sync, const struct node_id *from,
                         const struct tree_message *large);
void pull_received_piece(struct tree_sync *sync, const struct node_id *from,
                         const struct tree_message *piece);
/* Asks `peer` for the ops of `origin` that we lack, up to `through_seq`, which it has or is about
 * to have. */
void pull_from(struct tree_sync *sync, const struct node_id *peer, const struct origin_id *origin,
               uint64_t through_seq);
/* An op that `peer` sent was applied: what is asked of it comes. */
void pull_moved(struct tree_sync *sync, const struct node_id *peer, const struct origin_id *origin);
/* What `peer` sends of this log is refused: no more of it. */
void pull_drop(struct tree_sync *sync, const struct node_id *peer, const struct origin_id *origin);
/* What comes can't be kept: nothing is asked for any more, for a while. */
void pull_stop(struct tree_sync *sync);
void pull_due(struct tree_sync *sync);
uint64_t pull_next_us(const struct tree_sync *sync);

/* sync_serve.c */

void serve_sums(struct tree_sync *sync, const struct node_id *from,
                const struct tree_message *sums);
void serve_want(struct tree_sync *sync, const struct node_id *from,
                const struct tree_message *want);
void serve_piece_want(struct tree_sync *sync, const struct node_id *from,
                      const struct tree_message *want);
void serve_await(struct tree_sync *sync, const struct node_id *from,
                 const struct tree_message *await);
void serve_state(struct tree_sync *sync, const struct node_id *from, uint64_t number);
/* What was wished for and is here now. */
void serve_wishes(struct tree_sync *sync);
void serve_due(struct tree_sync *sync);
void serve_done(struct tree_sync *sync);

/* sync_await.c */

void await_received_has(struct tree_sync *sync, const struct node_id *from, uint64_t number);
void await_due(struct tree_sync *sync);
uint64_t await_next_us(const struct tree_sync *sync);

/* sync_snapshot.c */

void snapshot_begin(struct tree_sync *sync);
void snapshot_fetch(struct tree_sync *sync, const struct node_id *peer, enum tree_merge_mode mode);
void snapshot_received(struct tree_sync *sync, const struct node_id *from,
                       const struct tree_message *message);
void snapshot_due(struct tree_sync *sync);
uint64_t snapshot_next_us(const struct tree_sync *sync);
void snapshot_done(struct tree_sync *sync);

/* sync_diverge.c */

/* `peer` has told the same vector as ours. */
void diverge_look(struct tree_sync *sync, struct sync_peer *peer);

#endif
