/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_FOLLOWED_PRIV_H
#define STORE_FOLLOWED_PRIV_H

/*
 * followed: the rows of files outside that were adopted (store/adopt.h), by their paths. A row is
 * one holder of its file version for STORE_FOLLOW, so that a path counts once, however often it is
 * adopted, and is released once.
 *
 * Such a file is somebody's to change. So what is held for STORE_ORIGIN or STORE_COPY needs another
 * place than those in followed files: a hold without one is refused, and no other place is given up
 * while there is one.
 *
 * Threads: as index_priv.h.
 */

#include "hash/id.h"
#include "store/block_record_priv.h"
#include "store/index_priv.h"

struct followed {
    struct id file;
    uint64_t container; /* of the file outside; 0: its blocks lie in segments */
    bool is_held;       /* else it is being adopted, or that was interrupted */
};

/* -ENOENT. */
[[nodiscard]] int followed_get(struct kv_txn *txn, const char *path, struct followed *ret_row);
[[nodiscard]] int followed_put(struct kv_txn *txn, const char *path, const struct followed *row);

/* Gives back the holder, if the path is adopted with this container. The row stays until the places
 * are gone, so that somebody asks again for what a crash has interrupted. */
[[nodiscard]] int followed_release(struct store *store, struct kv_txn *txn, const char *path,
                                   uint64_t container);
/* The same, and forgets the path. */
[[nodiscard]] int followed_forget(struct store *store, struct kv_txn *txn, const char *path,
                                  uint64_t container);

/* True for a reason that needs a place outside of followed files. */
static inline bool followed_is_shunned(enum store_reason reason)
{
    return reason == STORE_ORIGIN || reason == STORE_COPY;
}

/* Whether the block has a place that is not in a followed file. */
[[nodiscard]] int followed_has_other_place(struct kv_txn *txn, const struct block_record *record,
                                           bool *ret_has);

#endif
