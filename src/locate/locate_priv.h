/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOCATE_LOCATE_PRIV_H
#define LOCATE_LOCATE_PRIV_H

/*
 * The state of locate and what its parts call of each other:
 *
 *   locate.c   opening, members, messages, what is due
 *   ring.c     who owns what
 *   tell.c     what owners are still to be told, and their word that they have it
 *   walk.c     going through what is held here: sums, parts that differ, arcs with new owners
 *   index.c    what others told us
 *   lookup.c   finds: asking owners, former owners, publishers
 *   search.c   asking everyone; answering
 *   hint.c     what somebody said from outside
 */

#include "base/list.h"
#include "base/map.h"
#include "base/random.h"
#include "locate/locate.h"

#define MS UINT64_C(1000) /* in microseconds */
#define SECOND (1000 * MS)
#define NEVER UINT64_MAX

/* Rows or held content that one step looks at: less than a millisecond. */
#define STEP_ROWS 1024u
/* While the ring keeps changing, what waits until it is quiet waits so many times as long. */
#define UNQUIET 5u
#define NO_OWNER UINT32_MAX

/* A ring as it was at one time. */
struct point {
    struct ring_key key;
    uint32_t member;
    uint32_t owners[LOCATE_OWNERS]; /* of keys behind the point before, up to this one */
};

struct ring {
    struct point *points;
    size_t points_count;
    struct node_id *ids;
    size_t ids_count;
};

/* A message to an owner, waiting for its turn. */
struct batch {
    enum locate_message_type type; /* LOCATE_TELL, LOCATE_ARC, LOCATE_COMPARE */
    struct ring_key first;
    struct ring_key last;
    struct buf held; /* as on the wire */
    size_t held_count;
    struct batch *next;
};

enum drop_state {
    DROP_NONE = 0,
    DROP_WANTED,
    DROP_DONE, /* it has to tell us all again, should it come back */
};

/* A member other than this node; or one that was, until its rows are dropped. */
struct peer {
    struct node_id id;
    uint64_t life;
    bool is_listed;
    bool is_alive;
    bool in_ring;
    bool was_listed;         /* while the list is read */
    struct ring_key *points; /* LOCATE_POINTS; NULL: never in the ring */

    /* What we tell it. */
    struct batch *batches; /* the first one is under way if sent_us is not 0 */
    struct batch *batches_last;
    size_t batches_keys;
    uint64_t number; /* of the one under way */
    uint64_t sent_us;
    unsigned attempts;
    uint64_t flush_us;   /* a TELL that is not full waits until then */
    uint64_t compare_us; /* NEVER: not wanted */
    bool is_summing;     /* `sums` are being made */
    bool is_summed;      /* they are done, and under way or about to be */
    uint16_t dirty;      /* parts that changed since they began */
    unsigned doubts;     /* comparisons in a row with changes amidst */
    uint64_t sums[LOCATE_PARTS];
    uint16_t differs;  /* parts to be told as a whole */
    bool is_rewritten; /* `arc` is being made */
    struct batch *arc;

    /* What it told us. */
    uint64_t teller_life;
    uint64_t teller_number;
    uint64_t told_sums[LOCATE_PARTS];
    uint64_t rows_count;
    enum drop_state drop;
    UT_hash_handle hh;
};

/* Keys from `first` to `last` have these new owners. */
struct arc {
    struct ring_key first;
    struct ring_key last;
    struct node_id gained[LOCATE_OWNERS];
    size_t gained_count;
};

enum walk_kind { WALK_NONE = 0, WALK_ARC, WALK_PART, WALK_SUMS };

/* Through what is held here, one at a time. */
struct walk {
    enum walk_kind kind;
    struct ring_key next;
    struct ring_key last;
    unsigned part;
};

/* A member that was asked for a key. */
struct asked {
    struct node_id node;
    uint64_t asked_us;
    bool is_waiting;
    enum locate_outcome outcome; /* if not waiting */
};

enum rung { RUNG_OWNERS = 0, RUNG_FORMER, RUNG_PUBLISHERS, RUNG_LATE, RUNG_EVERYONE, RUNG_OVER };

struct lookup;

struct find {
    uint64_t number;
    enum locate_depth depth;
    struct lookup *lookup;
    uint64_t told_version;
    struct find *prev; /* of the same lookup */
    struct find *next;
    UT_hash_handle hh; /* by number */
};

#define CANDIDATES_MAX 24u

struct lookup {
    struct ring_key key;
    uint64_t serial; /* names it in messages */
    enum rung rung;
    struct find *finds;
    struct node_id candidates[CANDIDATES_MAX]; /* of this rung, to be asked still */
    size_t candidates_count;
    struct node_id publishers[CANDIDATES_MAX / 2];
    size_t publishers_count;
    struct asked *asked;
    size_t asked_count;
    size_t asked_capacity;
    uint64_t last_asked_us;
    struct locate_held_by *holders;
    size_t holders_count;
    size_t holders_capacity;
    uint64_t version; /* of the holders */
    uint64_t wake_us;
    bool is_ready; /* to be stepped by the next tick */
    bool is_searched;
    struct locate_answer *answers; /* once it was searched */
    size_t answers_count;
    UT_hash_handle hh; /* by key */
    UT_hash_handle hh_serial;
};

struct target {
    struct node_id node;
    bool is_waiting;
    enum locate_outcome outcome; /* LOCATE_DENIED: answered */
};

/* A WHO_HAS that is under way. */
struct search {
    uint64_t number; /* 0: free */
    uint64_t serials[LOCATE_SEARCH_KEYS_MAX];
    struct ring_key keys[LOCATE_SEARCH_KEYS_MAX];
    size_t keys_count;
    struct target *targets; /* by node */
    size_t targets_count;
    size_t waiting_count;
    size_t asked_again; /* targets looked at for being asked directly */
    uint64_t again_us;
    uint64_t end_us;
};

#define SEARCHES_MAX 4u
#define HINT_NODES_MAX 8u
#define TRIPS_KEPT 128u

struct hint {
    struct ring_key key;
    struct node_id nodes[HINT_NODES_MAX];
    uint64_t until_us[HINT_NODES_MAX];
    size_t nodes_count;
    UT_hash_handle hh; /* in the order of the last one said */
};

struct locate {
    struct node_id id;
    uint64_t life;
    struct random random;
    struct locate_host host;
    struct locate_counters counters;
    uint64_t now_us;
    uint64_t begun_us;
    struct peer *peers;
    struct ring_key own_points[LOCATE_POINTS];
    struct ring *ring;
    bool ring_changes;   /* while members are read */
    struct ring *former; /* NULL: it did not change lately */
    uint64_t former_until_us;
    uint64_t former_end_us; /* however often the ring changes meanwhile */

    /* tell.c */
    uint64_t next_number;
    uint64_t peers_due_us;

    /* walk.c */
    struct arc *arcs;
    size_t arcs_first;
    size_t arcs_count; /* behind the first */
    size_t arcs_capacity;
    struct walk walk;
    uint64_t walk_due_us;
    uint64_t compare_us; /* all, regularly */

    /* index.c */
    bool is_loading;
    struct locate_row load_next;
    bool is_purging;
    struct locate_row purge_next;
    uint64_t purge_us;     /* NEVER: nothing to purge */
    uint64_t purge_end_us; /* it is put off no longer */
    struct peer *dropping; /* its rows are being dropped from `drop_next` on */
    struct locate_row drop_next;
    bool drops_wanted;
    uint64_t index_due_us;

    /* lookup.c */
    struct lookup *lookups;
    struct lookup *lookups_by_serial;
    struct find *finds;
    uint64_t next_serial;
    uint64_t *ready; /* serials */
    size_t ready_count;
    size_t ready_capacity;
    uint64_t lookups_due_us;
    uint32_t trips_us[TRIPS_KEPT];
    size_t trips_count;
    uint64_t next_owner_us; /* how long one is waited for before another is asked */

    /* search.c */
    struct search searches[SEARCHES_MAX];
    uint64_t *wanted; /* serials that wait for a search */
    size_t wanted_first;
    size_t wanted_count;
    size_t wanted_capacity;
    uint64_t search_us; /* none begins before */
    uint64_t searches_due_us;

    struct hint *hints;
};

/* locate.c */
struct peer *peer_find(const struct locate *locate, const struct node_id *id);
/* Finds or adds one that is on no list. */
struct peer *peer_enter(struct locate *locate, const struct node_id *id);
void peer_remove(struct locate *locate, struct peer *peer);
bool peer_is_alive(const struct locate *locate, const struct node_id *id);
void locate_send(struct locate *locate, const struct node_id *to, struct bytes message);
void locate_send_message(struct locate *locate, const struct node_id *to,
                         const struct locate_message *message);
/* Deadline of whatever is due at `us`, if sooner. */
void due_sooner(uint64_t *due_us, uint64_t us);

/* ring.c */
void ring_points(const struct node_id *id, struct ring_key ret_points[LOCATE_POINTS]);
/* Of this node and all peers in the ring. */
struct ring *ring_new(const struct locate *locate);
void ring_free(struct ring *ring);
/* The first point at or after `key`. */
size_t ring_find(const struct ring *ring, const struct ring_key *key);
size_t ring_owners(const struct ring *ring, const struct ring_key *key,
                   struct node_id ret_owners[LOCATE_OWNERS]);
bool ring_is_owner(const struct ring *ring, const struct ring_key *key, const struct node_id *node);

/* tell.c */
void tell_queue(struct locate *locate, struct peer *peer, const struct locate_held *held);
struct batch *batch_new(enum locate_message_type type);
void batch_free(struct batch *batch);
void batch_add(struct batch *batch, const struct locate_held *held);
/* Takes `batch`. */
void tell_push(struct locate *locate, struct peer *peer, struct batch *batch);
void tell_drop(struct locate *locate, struct peer *peer);
void tell_alive(struct locate *locate, struct peer *peer);
void tell_taken(struct locate *locate, struct peer *peer, const struct locate_message *message);
/* So much waits, of owners that take it, that nothing should be added that can wait. */
bool tell_is_full(const struct locate *locate);
void tell_due(struct locate *locate);

/* walk.c */
void compare_soon(struct locate *locate, struct peer *peer);
void walk_changed(struct locate *locate, struct peer *peer, const struct locate_held *held);
void walk_ring_changed(struct locate *locate, const struct ring *old);
/* `peer` is not to be walked for any more. */
void walk_forget(struct peer *peer);
void walk_due(struct locate *locate);
void walk_done(struct locate *locate);
unsigned part_of(const struct ring_key *key);
uint64_t held_sum(const struct ring_key *key, enum locate_state state);

/* index.c */
void index_begin(struct locate *locate);
void index_tell(struct locate *locate, struct peer *peer, const struct locate_message *message);
void index_compare(struct locate *locate, struct peer *peer, const struct locate_message *message);
void index_due(struct locate *locate);
/* Members came or went, or the ring changed. */
void index_members_changed(struct locate *locate, bool ring_changed);
/* Visits the rows of a key until `visit` gives false. */
int index_visit(struct locate *locate, const struct ring_key *key,
                bool (*visit)(void *context, const struct locate_held_by *holder), void *context);

/* lookup.c */
struct lookup *lookup_find(const struct locate *locate, uint64_t serial);
void lookup_ready(struct locate *locate, struct lookup *lookup);
/* `node` itself says what it has. */
void lookup_answered(struct lookup *lookup, const struct node_id *node, enum locate_state state);
void lookup_found(struct locate *locate, const struct node_id *from,
                  const struct locate_message *message);
/* Goes on as far as it can; `lookup` may be gone after it. */
void lookup_step(struct locate *locate, struct lookup *lookup);
void lookup_lost(struct locate *locate, const struct node_id *node);
void lookup_due(struct locate *locate);
void lookup_done(struct locate *locate);

/* search.c */
void search_want(struct locate *locate, struct lookup *lookup);
void search_have(struct locate *locate, const struct node_id *from,
                 const struct locate_message *message);
void search_answer(struct locate *locate, const struct locate_message *message);
void search_answer_find(struct locate *locate, const struct node_id *from,
                        const struct locate_message *message);
void search_lost(struct locate *locate, const struct node_id *node);
void search_due(struct locate *locate);
void search_done(struct locate *locate);

/* hint.c */
size_t hint_nodes(struct locate *locate, const struct ring_key *key,
                  struct node_id ret_nodes[HINT_NODES_MAX]);
void hint_done(struct locate *locate);

#endif
