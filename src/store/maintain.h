/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_MAINTAIN_H
#define STORE_MAINTAIN_H

/*
 * maintain: what a store does when nobody asks it for anything. Each function does a bounded piece
 * of work and tells what it did; the owner calls them from one thread of its choice, at its pace.
 */

#include "base/bytes.h"
#include "hash/id.h"
#include "store/store.h"

struct store_grace {
    uint64_t collect_ms; /* see STORE_COLLECT_GRACE_MS_DEFAULT */
    uint64_t punch_ms;   /* see STORE_PUNCH_GRACE_MS_DEFAULT */
};

/* Removes blocks and files that nobody has held for grace->collect_ms, at most `limit` rows of the
 * queue. Pinned blocks wait for the next time. *ret_removed: how many were removed; *ret_more:
 * rows that are due are left. */
[[nodiscard]] int store_collect(struct store *store, const struct store_grace *grace, size_t limit,
                                size_t *ret_removed, bool *ret_more);

/* Gives the bytes of removed blocks back to the file system: freed neighbours as one hole,
 * segments without a live block by unlinking them. At most `limit` ranges. */
[[nodiscard]] int store_reclaim(struct store *store, const struct store_grace *grace, size_t limit,
                                uint64_t *ret_ranges, bool *ret_more);

/* Moves the blocks out of the one segment that wastes most, if it wastes more than an eighth of
 * what it takes on the disk; pinned blocks stay. *ret_moved_bytes is 0 and *ret_more false if there
 * is none in which something can be moved. */
[[nodiscard]] int store_compact(struct store *store, uint64_t *ret_moved_bytes, bool *ret_more);

/* For who only reads, now and then: closes segments that the process that writes has removed, whose
 * room is taken as long as somebody has them open. */
void store_close_removed(struct store *store);

/* Collects, reclaims and compacts until nothing more is due. */
[[nodiscard]] int store_tidy(struct store *store, const struct store_grace *grace);

/* Eviction, in two steps, because a cached block may be the last copy there is: the caller asks
 * other nodes between the two. */
struct store_candidate {
    struct id id;
    uint32_t size_bytes;
};

/* Least recently used blocks that are here for STORE_CACHE alone, `bytes_wanted` of them or
 * `limit`. They are marked: a promise for one is refused from now on, a pin takes the mark off. */
[[nodiscard]] int store_evict_candidates(struct store *store, uint64_t bytes_wanted, size_t limit,
                                         struct store_candidate *ret_candidates, size_t *ret_count);

/* Evicts what is still marked and takes the mark off; tells how much that was. */
struct store_evicted {
    uint64_t blocks_count;
    uint64_t bytes;
};
[[nodiscard]] int store_evict(struct store *store, const struct id *ids, size_t count,
                              struct store_evicted *ret_evicted);

/* Takes the marks off without evicting. */
void store_evict_cancel(struct store *store, const struct id *ids, size_t count);
/* The same, and they count as used now: others come first for a while. Errors of a commit. */
[[nodiscard]] int store_evict_put_off(struct store *store, const struct id *ids, size_t count);

/* Scrub: reads everything in the order of the disk and compares it with its SHA-256. */
struct store_scrub_options {
    uint64_t bytes_per_second; /* 0: as fast as it goes */
    /* Each block found bad, and at the end each file version that lacks a block. May be NULL. */
    void (*bad_block)(void *context, const struct id *block);
    void (*hit_file)(void *context, const struct id *file, uint32_t blocks_lost);
    /* Asked between blocks: true ends the scrub early (-ECANCELED). May be NULL. */
    bool (*stop)(void *context);
    void *context;
};

struct store_scrub_report {
    uint64_t blocks_checked;
    uint64_t bytes_checked;
    uint64_t files_checked;     /* lists of blocks compared with their id */
    uint64_t blocks_bad;        /* found now */
    uint64_t blocks_unreadable; /* the disk gave an error; they stay, it may answer later */
    uint64_t files_hit;         /* lack at least one block, or their list is wrong */
};

/* Goes on behind what can't be read, and tells the first such error at the end. */
[[nodiscard]] int store_scrub(struct store *store, const struct store_scrub_options *options,
                              struct store_scrub_report *ret_report);

#endif
