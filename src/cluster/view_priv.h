/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_VIEW_PRIV_H
#define CLUSTER_VIEW_PRIV_H

/*
 * view: the list of all members as one node sees it, sorted by id, which is their order on the
 * ring. Ids are hashes, so their first byte spreads them evenly over MEMBER_BUCKETS small sorted
 * arrays; finding, adding and counting cost a look at one of them and a walk over the buckets'
 * counts. Each bucket keeps the sum of a hash of each version in it, which is what two nodes
 * compare.
 */

#include "cluster/pool_priv.h"
#include "wire/member_sync.h"

/* In the ring, out of it because it was silent, or out of it because it left. */
enum ring_place { RING_IN = 0, RING_OUT = 1, RING_GONE = 2 };

struct entry {
    struct record *record;
    uint64_t since_us;
    uint64_t proof_us;
    uint32_t rtt_us;
    uint8_t status;          /* enum member_status */
    uint8_t ring;            /* enum ring_place */
    uint8_t ring_departures; /* for silence, lately */
    bool is_restored;        /* from our own disk, and nothing heard of it since */
};

struct bucket {
    struct entry *entries;
    uint32_t count;
    uint32_t capacity;
    uint64_t digest;
};

struct view {
    struct member_pool *pool;
    /* Of each bucket; beside each other, since to find a place on the ring is to add them up. */
    uint32_t alive_counts[MEMBER_BUCKETS];
    struct bucket buckets[MEMBER_BUCKETS];
    size_t count;
    size_t alive_count;
    uint64_t digest;
};

void view_init(struct view *view, struct member_pool *pool);
void view_done(struct view *view);

/* Borrowed until the next addition or removal; NULL: no such member. */
struct entry *view_find(const struct view *view, const struct node_id *id);
/* Adds a member that is not there, taking over the reference to `record`. */
struct entry *view_add(struct view *view, struct record *record, enum member_status status);
/* Puts a new record and status in place of the old; takes over the reference. */
void view_replace(struct view *view, struct entry *entry, struct record *record,
                  enum member_status status);
void view_remove(struct view *view, struct entry *entry);

/* The first entry of a bucket that is not before `id`: an index, maybe its count. */
size_t view_lower(const struct bucket *bucket, const struct node_id *id);

static inline size_t view_bucket_of(const struct node_id *id)
{
    return id->bytes[0];
}

/* Alive members are numbered in the order of the ring, from 0. */

/* How many alive ones have an id lower than `id`. */
size_t view_rank(const struct view *view, const struct node_id *id);
/* The alive one with number `rank`, below view->alive_count. */
struct entry *view_at_rank(const struct view *view, size_t rank);

static inline struct member_version entry_version(const struct entry *entry)
{
    return (struct member_version){entry->record->incarnation, entry->record->boot_nonce,
                                   (enum member_status)entry->status};
}

static inline bool entry_is_alive(const struct entry *entry)
{
    return entry->status == MEMBER_ALIVE;
}

#endif
