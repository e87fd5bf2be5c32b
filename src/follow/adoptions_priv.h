/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FOLLOW_ADOPTIONS_PRIV_H
#define FOLLOW_ADOPTIONS_PRIV_H

/*
 * adoptions: which files of the directory a node of this machine is to take for its copy of their
 * blocks (POST /files), or no more. A durable queue that is written with the places, in the order
 * of their changes, and beside it a way through all places for a node that knows nothing of them.
 *
 * Of a path and a content only the last word counts, so there are at most as many as there are
 * places, and as many as have gone since. Words about different contents of a path may come in any
 * order: a path holds one content at a time, and only that content can be released. So all that is
 * to be adopted goes before what is to be released: what has moved is never without a place.
 *
 * Nothing is queued before adoptions_begin(), or after adoptions_end().
 *
 * Threads: adoptions_add() is the engine's, all else the adopter's; adoptions_are_made() anybody's.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hash/id.h"
#include "kv/kv.h"

/* What a node takes in one request. */
#define ADOPTION_BATCH_MAX 256u
/* Attempts at one: with the pauses between them a quarter of an hour at least, which is longer than
 * a node keeps a block for another one that evicts its own. */
#define ADOPTION_ATTEMPTS_MAX 12u

struct adoptions;

struct adoption {
    uint64_t number;   /* in the queue; 0: found on the way through all places */
    unsigned attempts; /* so far */
    bool is_release;
    bool is_learnt; /* the node was asked for its list of blocks; kept through all attempts */
    bool is_again;  /* for adoptions_settle(): another attempt, unless there were too many */
    struct id id;
    uint64_t size_bytes;
    char *path; /* below the directory */
};

struct adoption_batch {
    struct adoption all[ADOPTION_BATCH_MAX];
    size_t count;
    bool is_way; /* all of it was found on the way through the places; it may hold none */
    bool is_way_over;
    struct id way_to; /* the key of the last place that was looked at */
};

#define ADOPTION_BATCH_INIT ((struct adoption_batch){.count = 0})
void adoption_batch_done(struct adoption_batch *batch);
#define CLEANUP_ADOPTION_BATCH __attribute__((cleanup(adoption_batch_done)))

/* `kv` stays open; its tables are those of tables_priv.h. */
[[nodiscard]] int adoptions_open(struct kv *kv, struct adoptions **ret_adoptions);
void adoptions_close(struct adoptions *adoptions);

bool adoptions_are_made(const struct adoptions *adoptions);

/* Adds one, or replaces the word before about that content of that path. `number`, `attempts` and
 * `is_again` do not count. Part of `txn`. */
[[nodiscard]] int adoptions_add(struct adoptions *adoptions, struct kv_txn *txn,
                                const struct adoption *adoption);

/* Who has adopted so far, as adoptions_begin() was told. The caller frees it; NULL: nobody. */
char *adoptions_adopter(const struct adoptions *adoptions);
/* It is another one: all places are to be adopted. */
[[nodiscard]] int adoptions_begin(struct adoptions *adoptions, const char *adopter);
/* It is the same under another name. */
[[nodiscard]] int adoptions_rename(struct adoptions *adoptions, const char *adopter);
/* It is nobody: the queue is emptied. */
[[nodiscard]] int adoptions_end(struct adoptions *adoptions);

/* What is to be done now, in the order of its coming; *ret_batch is the caller's to be done with.
 * None, and no is_way: nothing, until something is added, or adoptions_due_ms(). */
[[nodiscard]] int adoptions_take(struct adoptions *adoptions, uint64_t now_ms,
                                 struct adoption_batch *ret_batch);
/* When the next one that failed is due, as of the last adoptions_take(); or UINT64_MAX. */
uint64_t adoptions_due_ms(const struct adoptions *adoptions);
/* The first `count` of the batch were tried. */
[[nodiscard]] int adoptions_settle(struct adoptions *adoptions, const struct adoption_batch *batch,
                                   size_t count);

#endif
