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

/* Promises another node to keep the block: it is neither evicted nor collected for `duration_ms`
 * (at most STORE_PROMISE_MS_MAX), and stays as cache beyond that when nothing here needs it any
 * more, until store_promise_end(); also across restarts. (Not if its only place is an external
 * file, which is somebody else's.) -EBUSY: it is being evicted here, ask somebody else; -ENOENT:
 * not here, not durable yet, held by nobody any more, or here in followed files alone; errors of
 * store_submit_wait(). */
#define STORE_PROMISE_MS_MAX ((uint64_t)10 * 60 * 1000)
[[nodiscard]] int store_promise(struct store *store, const struct id *id, uint64_t duration_ms);
/* The same for many by one commit; an answer for each. */
void store_promise_all(struct store *store, const struct id *ids, size_t count,
                       uint64_t duration_ms, int *ret_errs);

/* The next blocks that are here for promises alone, since `age_ms` at least, up to `limit`, behind
 * *position (zero: from the first one on), which is moved on. After 0 there may be more, even if
 * none was found now; -ENOENT: there are none beyond those told. */
struct store_promised {
    uint64_t since_ms;
    struct id id;
};
#define STORE_PROMISED_ROWS ((size_t)4096) /* looked at in one call */
[[nodiscard]] int store_promised_next(struct store *store, struct store_promised *position,
                                      uint64_t age_ms, size_t limit, struct id *ret_ids,
                                      size_t *ret_count);
/* A file that is held here names the block, and it is not here. Also if that can't be told. */
bool store_lacks_block(struct store *store, const struct id *id);
/* Of these, those that are still here for promises alone: nobody needs them, and they are held no
 * more, unless they were promised again within STORE_PROMISE_MS_MAX; *ret_count: how many. */
[[nodiscard]] int store_promise_end(struct store *store, const struct id *ids, size_t count,
                                    size_t *ret_count);
/* They are needed: as if they were promised now, and used. */
[[nodiscard]] int store_promise_renew(struct store *store, const struct id *ids, size_t count);

#endif
