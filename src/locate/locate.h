/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LOCATE_LOCATE_H
#define LOCATE_LOCATE_H

/*
 * locate: who holds it. A hash table over all nodes with one hop: everybody knows everybody, so
 * who keeps the word about a key, its owners, is computed (consistent hashing, Karger et al. 1997;
 * the ring of Chord, Stoica et al. 2001; one hop, Gupta, Liskov, Rodrigues 2003). What owners keep
 * is soft state; the holders are the truth, and everyone is asked before "nobody has it" is said.
 * README.md tells the whole of it.
 *
 * A state machine that gets the time, what arrived, and a seed, and calls its host before it
 * returns. It opens nothing and knows no clock, but its host reads and writes an index for it and
 * looks into the store. Times are microseconds of the caller's monotonic clock.
 *
 * Threads: one at a time. The host's functions must not call back into it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "wire/locate_message.h"
#include "wire/node_id.h"
#include "wire/ring_key.h"

/* A member stands at so many points of the ring: the first 160 bits of SHA-256(id, index u8). */
#define LOCATE_POINTS 16u
/* Owners of a key: the first so many distinct members at or after it. */
#define LOCATE_OWNERS 3u
/* Who owned a key before a change of the ring is asked too, and keeps what it knew, so long. */
#define LOCATE_FORMER_MS 60000u
/* The next owner is asked after so long without an answer, or twice the 99th percentile. */
#define LOCATE_NEXT_MS_MIN 30u
#define LOCATE_NEXT_MS_MAX 500u
/* A search among all that are alive ends after so long, whoever is silent. */
#define LOCATE_SEARCH_MS 3000u
/* Everything told to an owner is compared with it so often. */
#define LOCATE_COMPARE_MS 3600000u
/* locate_hint(): gone after so long; beyond the number, the oldest goes. */
#define LOCATE_HINT_MS 3600000u
#define LOCATE_HINTS_MAX 65536u
/* Keys that are looked for at a time, and who waits for them; beyond: -EBUSY. */
#define LOCATE_LOOKUPS_MAX 65536u
#define LOCATE_FINDS_MAX 262144u
/* Holders that are told of one key; of more, the first that are heard of. */
#define LOCATE_HOLDERS_MAX 256u
/* Rows that are taken from others; beyond, they are refused and counted: the keys are still found
 * by asking everyone. */
#define LOCATE_ROWS_MAX 100000000u
/* The roster may have 10,000 members and some. */
#define LOCATE_MEMBERS_MAX 16384u

struct locate;

/* What is in the index: `holder` said that it has content with this key. */
struct locate_row {
    struct ring_key key;
    struct node_id holder;
    enum locate_state state; /* not LOCATE_NONE */
};

struct locate_member {
    struct node_id id;
    uint64_t life; /* another one: it was started anew (its boot nonce) */
    bool is_alive;
    bool in_ring;
};

enum locate_outcome {
    LOCATE_HAS_COMPLETE = 1, /* said so itself */
    LOCATE_HAS_PARTIAL = 2,
    LOCATE_DENIED = 3,
    LOCATE_SILENT = 4,      /* believed alive, but did not answer in time */
    LOCATE_UNREACHABLE = 5, /* not alive: was not asked */
};

struct locate_answer {
    struct node_id node;
    enum locate_outcome outcome;
};

/* What is known up to now. Lists are borrowed for the call. */
struct locate_found {
    struct ring_key key;
    /* Members alive that have it, by their own word or an owner's; this node is among them if it
     * has it. One that denies it later leaves the list. At most LOCATE_HOLDERS_MAX. */
    const struct locate_held_by *holders;
    size_t holders_count;
    /* No more will come of this find. */
    bool is_final;
    /* With is_final: what came of each member that was or should have been asked. Without any
     * holder, and with none in it that is silent or unreachable: nobody has it. */
    const struct locate_answer *answers;
    size_t answers_count;
    bool asked_everyone;
};

enum locate_depth {
    /* Owners, former owners, the publisher, everyone, until one other than this node has it
     * complete. */
    LOCATE_UNTIL_COMPLETE = 1,
    /* Everyone in any case: holders that were told of did not have it, or are not enough. */
    LOCATE_EVERYONE = 2,
    /* Owners, former owners and the publisher, all of them; never everyone. */
    LOCATE_INDEX = 3,
};

struct locate_host {
    /* To one member, over a connection, at most LOCATE_MESSAGE_BYTES_MAX; in order, or lost with
     * the connection. */
    void (*send)(void *context, const struct node_id *to, struct bytes message);
    /* To every member alive, as DATAGRAM_PAYLOAD_LOCATE, at most DATAGRAM_PAYLOAD_BYTES_MAX; nearly
     * always arrives. */
    void (*broadcast)(void *context, struct bytes payload);
    /* Of the find `number`; not called within locate_find(). */
    void (*found)(void *context, uint64_t number, const struct locate_found *found);

    /* What this node has. State of one key; LOCATE_NONE also if it can't be told. */
    enum locate_state (*state)(void *context, const struct ring_key *key);
    /* What it has from `first` to `last`, both included, `first` not above `last`: the first
     * `limit` of it, in ascending order; fewer mean that this was all. -EIO: tried again later. */
    int (*held)(void *context, const struct ring_key *first, const struct ring_key *last,
                struct locate_held *ret_held, size_t limit, size_t *ret_count);

    /* The index: what others told this node, one row for each (key, holder). It may be lost, then
     * wholly, and only while there is no locate. Writes may be gathered as long as reads see them.
     *
     * Sets the state of a row, LOCATE_NONE deletes it; tells what it was, LOCATE_NONE if it was not
     * there. -EIO, -ENOSPC: as it was; counted, and repaired later. */
    int (*row_set)(void *context, const struct locate_row *row, enum locate_state *ret_old);
    /* Rows from (`from->key`, `from->holder`), which is included, on, ordered by key and holder; of
     * `holder` alone unless that is NULL. The first `limit` of them; fewer mean the end. -EIO. */
    int (*rows)(void *context, const struct locate_row *from, const struct node_id *holder,
                struct locate_row *ret_rows, size_t limit, size_t *ret_count);
    void *context;
};

struct locate_options {
    struct node_id id;
    uint64_t random_seed; /* another one at every start */
    struct locate_host host;
};

/* All since the start but those marked *now*. */
struct locate_counters {
    uint64_t messages_received;
    uint64_t message_bytes_received;
    uint64_t messages_sent;
    uint64_t message_bytes_sent;
    uint64_t messages_refused; /* malformed, of another version, of a stranger */
    uint64_t finds;
    uint64_t lookups;         /* finds of one key share one */
    uint64_t lookups_failed;  /* ended without a holder */
    uint64_t searches;        /* among all; up to LOCATE_SEARCH_KEYS_MAX keys each */
    uint64_t searches_silent; /* members that did not answer one */
    uint64_t keys_told;       /* announced to owners, and acknowledged */
    uint64_t messages_again;  /* not acknowledged in time */
    uint64_t queues_dropped;  /* too much for an owner: compared later */
    uint64_t compared;        /* answers to our fingerprints */
    uint64_t parts_differed;  /* sixteenths of them in which the owner knew otherwise */
    uint64_t rows_refused;    /* LOCATE_ROWS_MAX, or the index failed */
    uint64_t rows_dropped;    /* not ours any more, or of a member that went */
    uint64_t host_errors;     /* of held() and rows() */
    uint64_t rows_count;      /* now */
    uint64_t queued_keys;     /* now: to be told to owners */
    uint64_t lookups_running; /* now */
    uint64_t hints_count;     /* now */
    uint64_t peers_count;     /* now: other members, and those that were and are remembered */
};

/* With an index as the host finds it, and no members but itself. */
struct locate *locate_new(const struct locate_options *options, uint64_t now_us);
/* Finds never end. NULL is allowed. */
void locate_free(struct locate *locate);

/* All members known, this node among them or not, in any order, once each; more than
 * LOCATE_MEMBERS_MAX are left out. To be called whenever the list changed: who is alive matters at
 * once, who stands in the ring moves rows. This node itself always counts as alive and in the ring.
 * Copied. */
void locate_set_members(struct locate *locate, uint64_t now_us, const struct locate_member *members,
                        size_t members_count);

/* What arrived; nothing worse than a refusal happens whatever is in it. */
void locate_message(struct locate *locate, uint64_t now_us, const struct node_id *from,
                    struct bytes message);
void locate_broadcast(struct locate *locate, uint64_t now_us, struct bytes payload);

/* What this node has changed to these states, in this order (LOCATE_NONE: gone). Any number. */
void locate_changed(struct locate *locate, uint64_t now_us, const struct locate_held *held,
                    size_t held_count);
/* Some changes could not be told: everything is compared with all owners soon. */
void locate_changes_lost(struct locate *locate, uint64_t now_us);

struct locate_find {
    struct ring_key key;
    uint64_t number; /* the caller's; no other find has it */
    enum locate_depth depth;
    const struct node_id *publisher; /* asked after the owners; NULL: not known */
};

/* Host's found() tells, as often as there is something new, the last time with is_final, unless it
 * is cancelled before. Several finds of one key share what is learnt. -EBUSY: too many run. */
[[nodiscard]] int locate_find(struct locate *locate, uint64_t now_us,
                              const struct locate_find *find);
/* found() is not called for it again. A number that is not known is ignored. */
void locate_cancel(struct locate *locate, uint64_t number);

/* Somebody says that `node` may have it: it is asked after the publisher. Kept at this node alone,
 * for LOCATE_HINT_MS; said again, it is kept from then on. */
void locate_hint(struct locate *locate, uint64_t now_us, const struct ring_key *key,
                 const struct node_id *node);

/* Visits what this node keeps about a key until `visit` gives false: rows of the index, then hints
 * (LOCATE_NONE as their state). -EIO. */
[[nodiscard]] int locate_stored(struct locate *locate, uint64_t now_us, const struct ring_key *key,
                                bool (*visit)(void *context, const struct locate_held_by *holder),
                                void *context);

/* The owners of a key as this node sees the ring, the first one first; how many. */
size_t locate_owners(const struct locate *locate, const struct ring_key *key,
                     struct node_id ret_owners[LOCATE_OWNERS]);

/* Does what is due; a call takes at most a few milliseconds and may leave more to do at once. */
void locate_tick(struct locate *locate, uint64_t now_us);
uint64_t locate_next_us(const struct locate *locate);

const struct locate_counters *locate_counters(const struct locate *locate);

#endif
