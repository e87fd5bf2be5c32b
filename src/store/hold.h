/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_HOLD_H
#define STORE_HOLD_H

/*
 * hold: what is kept, and why.
 *
 * A file version is kept while it is held for some reason. A file that is held for a reason holds
 * each of its blocks for it. What nobody holds is collected after a grace time; holding it again
 * before that keeps it.
 *
 * A pin keeps one block from collection, eviction and compaction for as long as somebody is busy
 * with it. Pins live in memory: a restart ends them all.
 */

#include "hash/id.h"
#include "store/store.h"

/* One more holder for `reason`. -ENOENT: the file is not known, or a block of it is not here. */
[[nodiscard]] int store_hold(struct store *store, const struct id *file, enum store_reason reason);

/* One holder less. -ENOENT: the file is not held for `reason`. */
[[nodiscard]] int store_release(struct store *store, const struct id *file,
                                enum store_reason reason);

/* Copies into segments what of the file stands in followed files alone (store/adopt.h), so that it
 * can be held for STORE_ORIGIN or STORE_COPY. 0 if there is nothing to copy. store_hold() does that
 * by itself. -ENOENT: the file is not known, or a block of it is not here; errors of a put. */
[[nodiscard]] int store_own(struct store *store, const struct id *file);

/* The same two as above inside a job of the caller's, in its transaction. -ENOENT also if
 * store_own() has to be called first. */
struct kv_txn;
[[nodiscard]] int store_hold_in(struct store *store, struct kv_txn *txn, const struct id *file,
                                enum store_reason reason);
[[nodiscard]] int store_release_in(struct store *store, struct kv_txn *txn, const struct id *file,
                                   enum store_reason reason);
/* One more holder for a reason for which it has one already. -ENOENT: it has none. */
[[nodiscard]] int store_hold_again_in(struct store *store, struct kv_txn *txn,
                                      const struct id *file, enum store_reason reason);

struct store_file_info {
    struct id id;
    uint64_t length_bytes;
    uint32_t blocks_count;
    uint32_t holders[STORE_REASONS];
    bool is_held; /* for any of them; else it is on its way in (store/intake.h), or out */
};

/* -ENOENT. */
[[nodiscard]] int store_file_info(struct store *store, const struct id *file,
                                  struct store_file_info *ret_info);

/* The next known file version after `after` in the order of ids (NULL: the first). -ENOENT: no
 * more. */
[[nodiscard]] int store_next_file(struct store *store, const struct id *after,
                                  struct store_file_info *ret_info);

/* Pins `id`, here or not: what is seen of it from now on stays. False: it is being removed at this
 * moment, and what is seen may still go. Every pin is given back by store_unpin(). */
bool store_pin(struct store *store, const struct id *id);
void store_unpin(struct store *store, const struct id *id);

/* Promises another node to keep the block for `duration_ms` (at most STORE_PROMISE_MS_MAX).
 * -EBUSY: it is being evicted here, ask somebody else; -ENOENT: not here, not durable yet, held by
 * nobody any more, or here in followed files alone. */
#define STORE_PROMISE_MS_MAX ((uint64_t)10 * 60 * 1000)
[[nodiscard]] int store_promise(struct store *store, const struct id *id, uint64_t duration_ms);

#endif
