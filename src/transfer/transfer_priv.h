/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TRANSFER_TRANSFER_PRIV_H
#define TRANSFER_TRANSFER_PRIV_H

/*
 * The state of transfer and what its parts call of each other:
 *
 *   transfer.c  fetches from start to end, and what is due
 *   source.c    who is asked for a file, and what each has
 *   seek.c      looking for more of them; giving up
 *   pick.c      which block from whom
 *   flight.c    requests on their way, and what came of them
 *   peer.c      what is known of each member: rates, lateness, bad blocks
 *   status.c    telling
 */

#include "base/list.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/random.h"
#include "transfer/bucket.h"
#include "transfer/status.h"
#include "transfer/transfer.h"

#define MS UINT64_C(1000)
#define SECOND (1000 * MS)
#define NEVER UINT64_MAX
#define NO_BLOCK UINT32_MAX

/* A sample of the rate of a peer or a fetch takes so long: a few blocks on a slow link, not a
 * moment's luck. Of all together: shorter, as the window follows it. */
#define RATE_US (100 * MS)
#define RATE_ALL_US (20 * MS)
/* Of what happened lately: a mean that an eighth of it changes with each sample. */
#define MEAN_SHARE 8u

/* How fast bytes come; only time in which some are awaited counts. */
struct rate {
    uint64_t since_us; /* 0: none are awaited */
    uint64_t us;       /* of the sample that is being taken */
    uint64_t bytes;
    uint64_t per_s; /* 0: not known */
};

struct fetch;
struct source;
struct request;

/* A member that is asked for something. */
struct peer {
    /* What each look at its sources reads, together. */
    bool is_alive;
    bool is_near;
    bool is_late; /* silent for too long, although blocks are on their way */
    uint32_t on_way_count;
    uint64_t on_way_bytes;
    uint64_t limit_bytes; /* so much may be on its way from it */
    uint64_t busy_until_us;
    uint64_t shunned_until_us;
    struct rate rate;
    struct node_id id;
    struct request *requests; /* in order of sending */
    uint64_t heard_us;        /* its last sign of life */
    uint64_t busy_pause_us;
    uint32_t redirects; /* in a row */
    uint64_t wait_us;   /* mean from request to block; 0: not known */
    uint32_t bad_count;
    uint32_t sources_count; /* it is one of so many fetches */
    struct peer *prev;      /* of those that something is on its way from */
    struct peer *next;
    UT_hash_handle hh;
};

/* A peer as a source of one file. */
struct source {
    struct peer *peer;
    struct fetch *fetch;
    uint32_t place; /* among the sources of the fetch */
    enum transfer_state state;
    uint32_t have_words;
    uint64_t *have;  /* bits; not used if it is complete */
    uint64_t *given; /* bits: it gave these to others lately; NULL: none */
    bool is_asked;   /* an ASK is under way */
    bool is_answered;
    bool asked_metadata;
    bool has_no_list;  /* it was asked for the list of blocks in vain */
    bool is_following; /* it tells us of its growth */
    uint32_t ask_number;
    uint64_t asked_us;
    unsigned tries;              /* lost before it answered, so often in a row */
    uint8_t *denials;            /* by block: refused so often as not there; NULL: none */
    struct transfer_source told; /* for people */
    UT_hash_handle hh;           /* by ask_number, while is_asked */
};

struct candidate {
    struct node_id node;
    bool is_complete;
    unsigned tries;    /* that failed */
    uint64_t after_us; /* not to be asked before */
};

/* The same block, wanted by another fetch. */
struct waiter {
    struct flight *flight;
    struct fetch *fetch;
    uint32_t index;
    struct waiter *prev; /* of the flight */
    struct waiter *next;
    struct waiter *fetch_prev; /* of the fetch */
    struct waiter *fetch_next;
};

/* A block that was asked for; of two at most. */
struct flight {
    struct id id;
    struct fetch *fetch;
    uint32_t index;
    uint32_t size_bytes;
    struct request *legs[2]; /* the older first */
    uint16_t positions[2];
    unsigned legs_count;
    uint64_t first_us;
    bool is_raced; /* for the second: not because the first was late */
    struct waiter *waiters;
    struct flight *prev; /* of the fetch, in order */
    struct flight *next;
    UT_hash_handle hh;
};

struct part {
    struct flight *flight; /* NULL: it is answered */
    uint32_t size_bytes;
};

struct request {
    uint32_t number;
    uint32_t parts_count;
    uint32_t left_count;
    bool insists;   /* a redirect is no answer to it */
    bool is_hedged; /* it took too long: others may be asked */
    uint64_t sent_us;
    struct peer *peer;
    struct fetch *fetch;
    struct request *prev; /* of the peer */
    struct request *next;
    struct request *fetch_prev; /* of the fetch */
    struct request *fetch_next;
    UT_hash_handle hh;
    struct part parts[];
};

enum seek_state { SEEK_NONE = 0, SEEK_RUNNING, SEEK_DONE };

/* A search for a block, for all fetches that look for it. */
struct block_find {
    struct id id;
    bool is_everyone;
    struct block_seek *seeks;
    UT_hash_handle hh; /* by id */
};

/* One of them. */
struct block_seek {
    struct block_find *find;
    struct fetch *fetch;
    uint32_t index;
    struct block_seek *prev; /* of the find */
    struct block_seek *next;
    struct block_seek *fetch_prev; /* of the fetch */
    struct block_seek *fetch_next;
};

struct reader {
    uint64_t number;
    uint32_t first;
    uint32_t count;
};

/* Blocks that may be asked for again: so many are looked for one by one at a source that had
 * nothing; if there are more, it is looked through. */
#define RETURNED_KEPT 16u

struct fetch {
    struct id id;
    enum transfer_phase phase;
    int priority;
    int err; /* why it waits */
    uint64_t started_us;
    uint64_t moved_us; /* something came */
    uint64_t pause_us; /* until then */
    uint64_t wake_us;
    bool is_ready;   /* may be something can be asked for */
    bool wants_room; /* something is still to be asked for */
    bool has_publisher;
    struct node_id publisher;
    struct node_id metadata_from;
    bool has_metadata_from;

    const struct file_metadata *metadata;
    uint32_t blocks_count;
    uint32_t words_count;
    uint32_t block_bytes_max;
    uint64_t *here;       /* bits */
    uint64_t *need;       /* bits: to be asked for */
    uint16_t *holders;    /* by block: partial sources that have it */
    uint32_t *first_same; /* by block: the first with the same id; NULL: all differ */
    uint32_t *next_same;  /* by block: the next one; NO_BLOCK behind the last */
    uint64_t *refused_us; /* by block: first said to have been given to others; NULL: none */
    uint64_t version;     /* grows with each block that may be asked for again */
    uint32_t returned[RETURNED_KEPT]; /* the last of them; of version v at v % RETURNED_KEPT */
    uint32_t need_count;
    uint32_t here_count;
    uint32_t copying_count; /* waiters, and copies under way */
    uint64_t here_bytes;
    uint32_t complete_count; /* sources that have all */

    struct source **sources;
    uint64_t *source_keys; /* the first 64 bits of their ids: looked at much more often */
    uint64_t *source_dry;  /* the version for which they had nothing to be asked for; 0: none */
    size_t sources_count;
    size_t sources_capacity;
    uint64_t replaced_us; /* a source made room for another */
    uint64_t silent_us;   /* when sources that do not answer are looked for */
    struct candidate *candidates;
    size_t candidates_count;
    size_t candidates_capacity;
    struct request *requests;
    struct waiter *waiters; /* for flights of others */
    struct flight *flights;
    uint32_t flights_count;

    enum seek_state seek;
    bool seek_everyone;
    uint64_t seek_us; /* when it began or ended */
    size_t unasked_count;
    struct block_seek *block_seeks;
    uint32_t block_seeks_count;
    uint64_t *sought;    /* bits: looked for singly in this round, and not found; NULL: none */
    uint32_t seek_next;  /* the first block to be looked at for that */
    uint32_t vain_count; /* looked for in vain in this round */
    uint64_t sought_us;  /* when the last search for a single block ended */

    struct reader *readers;
    size_t readers_count;
    uint64_t received_bytes;
    uint64_t duplicate_bytes;
    uint64_t raced_bytes;
    uint32_t hedged_count;
    uint32_t refused_count;
    uint32_t bad_count;
    struct rate rate;

    struct fetch *prev; /* of its queue */
    struct fetch *next;
    UT_hash_handle hh;
};

#define PRIORITIES (TRANSFER_PRIORITY_MAX + 1)
#define RATES_KEPT 8u

struct transfer {
    struct node_id id;
    struct random random;
    struct transfer_host host;
    struct transfer_counters counters;
    uint64_t now_us;
    uint64_t due_us;

    struct transfer_member *members; /* by id */
    size_t members_count;
    struct peer *peers;
    struct peer *working; /* something is on its way from them */
    struct fetch *fetches;
    struct fetch *queued[PRIORITIES];
    struct fetch *running[PRIORITIES];
    size_t running_count;

    struct source *asks;      /* by number */
    struct request *requests; /* by number */
    struct flight *flights;   /* by block id */
    struct block_find *block_finds;
    uint32_t next_number;
    uint64_t late_us; /* when peers are looked at */

    struct rate rate;
    uint64_t rates[RATES_KEPT]; /* the last ones */
    size_t rates_count;
    uint64_t wait_us;       /* mean from request to block; 0: not known */
    uint64_t wait_least_us; /* of this period and the last one */
    uint64_t wait_least_before_us;
    uint64_t wait_period_us;
    uint64_t on_way_bytes;
    bool has_room; /* less is on its way than before */

    struct bucket limit; /* of what is asked for */
};

static inline bool bit_get(const uint64_t *bits, uint32_t index)
{
    return bits[index / 64] >> (index % 64) & 1;
}

static inline void bit_set(uint64_t *bits, uint32_t index)
{
    bits[index / 64] |= UINT64_C(1) << (index % 64);
}

static inline void bit_clear(uint64_t *bits, uint32_t index)
{
    bits[index / 64] &= ~(UINT64_C(1) << (index % 64));
}

static inline uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline void due_sooner(uint64_t *due_us, uint64_t at_us)
{
    *due_us = least(*due_us, at_us);
}

/* transfer.c */
struct fetch *transfer_fetch_find(const struct transfer *transfer, const struct id *id);
/* It is looked at by the next tick. */
void transfer_fetch_ready(struct transfer *transfer, struct fetch *fetch);
/* The same, but what comes within a millisecond is looked at together, while blocks come anyway. */
void transfer_fetch_ready_soon(struct transfer *transfer, struct fetch *fetch);
/* It is looked at then. */
void transfer_fetch_wake(struct transfer *transfer, struct fetch *fetch, uint64_t at_us);
/* Waits for `pause_us`, because of `err`. */
void transfer_fetch_pause(struct transfer *transfer, struct fetch *fetch, int err,
                          uint64_t pause_us);
/* A block is here, however it came; its flights are over already. */
void transfer_fetch_block_here(struct transfer *transfer, struct fetch *fetch, uint32_t index);
/* A block is to be asked for (again), unless it is here. */
void transfer_fetch_block_needed(struct transfer *transfer, struct fetch *fetch, uint32_t index);
void transfer_fetch_end(struct transfer *transfer, struct fetch *fetch, int err);
void transfer_fetch_changed(struct transfer *transfer, const struct fetch *fetch);

/* source.c */
struct source *source_find(const struct fetch *fetch, const struct node_id *node);
/* NULL: not alive, shunned, this node itself, or too many are. */
struct source *source_add(struct transfer *transfer, struct fetch *fetch,
                          const struct node_id *node, size_t sources_max);
void source_drop(struct transfer *transfer, struct source *source);
/* What it said that it has is not believed any more. */
void source_distrust(struct source *source);
/* It may be asked for the list of blocks. */
bool source_may_have_list(const struct transfer *transfer, const struct source *source);
void source_ask(struct transfer *transfer, struct source *source);
/* Its stream is gone: dropped, and asked again after a while if there is hope. */
void source_lost(struct transfer *transfer, struct source *source);
void source_add_candidate(struct transfer *transfer, struct fetch *fetch,
                          const struct node_id *node, bool is_complete);
/* Asks of candidates as many as there is room for. */
void source_ask_candidates(struct transfer *transfer, struct fetch *fetch);
/* It has, or has not, a block. */
void source_has(struct source *source, uint32_t index);
void source_has_not(struct source *source, uint32_t index);
/* It refused a block that it was said to have. True: so often that it lies. */
bool source_denies(struct source *source, uint32_t index);
bool source_has_denied(const struct source *source, uint32_t index);
/* The list of blocks has become known. */
void source_sized(struct source *source);
bool source_knows(const struct source *source, uint32_t index);
/* Whether there is room for one more, or one that need not be. */
bool source_has_room(const struct transfer *transfer, const struct fetch *fetch);
/* Whether it has a block that lacks here. */
bool source_is_useful(const struct source *source);

/* seek.c */
/* Looks for sources as far as that makes sense now; true: the fetch has ended. */
bool seek_step(struct transfer *transfer, struct fetch *fetch);
void seek_end(struct transfer *transfer, struct fetch *fetch);

/* pick.c */
/* Requests what can be; sets the time of the next look. */
void pick_blocks(struct transfer *transfer, struct fetch *fetch);
bool pick_has_room(const struct transfer *transfer, const struct fetch *fetch);
bool pick_is_usable(const struct transfer *transfer, const struct source *source);

/* flight.c */
struct flight *flight_find(const struct transfer *transfer, const struct id *block);
/* Requests blocks of `source`; those that fly already get a second leg. */
void flight_request(struct transfer *transfer, struct source *source, const uint32_t *indices,
                    size_t count, bool insists, bool is_race);
/* The fetch waits for it, which flies for another one. */
void flight_wait(struct flight *flight, struct fetch *fetch, uint32_t index);
/* Late parts of blocks that are here are called off. */
void flight_end_late(struct transfer *transfer, struct fetch *fetch);
/* Nothing of the fetch is on its way any more. */
void flight_drop_all(struct transfer *transfer, struct fetch *fetch);
/* Nothing from this peer is. */
void flight_drop_peer(struct transfer *transfer, struct peer *peer);
/* May be asked for elsewhere. */
void flight_release(struct transfer *transfer, struct request *request);

/* peer.c */
const struct transfer_member *member_find(const struct transfer *transfer,
                                          const struct node_id *node);
struct peer *transfer_peer_find(const struct transfer *transfer, const struct node_id *node);
/* NULL: it must not be asked. */
struct peer *transfer_peer_take(struct transfer *transfer, const struct node_id *node);
/* Frees it if nothing needs it. */
void transfer_peer_unuse(struct transfer *transfer, struct peer *peer);
bool transfer_peer_is_shunned(const struct transfer *transfer, const struct peer *peer);
void transfer_peer_is_heard(struct transfer *transfer, struct peer *peer);
void transfer_peer_is_bad(struct transfer *transfer, struct peer *peer);
void transfer_peer_is_busy(struct transfer *transfer, struct peer *peer);
/* Requests that take too long are released. */
void transfer_peer_look_for_late(struct transfer *transfer);
/* After so long without a sign a peer is late. */
uint64_t transfer_peer_patience_us(const struct transfer *transfer);
void rate_begin(struct rate *rate, uint64_t now_us);
void rate_end(struct rate *rate, uint64_t now_us);
/* True: a sample of `sample_us` is full, and `per_s` another one. */
bool rate_add(struct rate *rate, uint64_t now_us, uint64_t bytes, uint64_t sample_us);

#endif
