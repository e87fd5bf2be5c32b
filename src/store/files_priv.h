/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_FILES_PRIV_H
#define STORE_FILES_PRIV_H

/*
 * files: the rows of file versions: their lists of blocks and who holds them.
 *
 * The first FILE_PART_BLOCKS blocks stand in the row itself, the others in rows of so many, so that
 * no value is large.
 */

#include "hash/id.h"
#include "kv/kv.h"
#include "store/hold.h"
#include "wire/file_metadata.h"

#define FILE_PART_BLOCKS 48

struct file_row {
    uint64_t length_bytes;
    uint32_t blocks_count;
    uint32_t holders[STORE_REASONS];
    uint64_t unreferenced_since_ms; /* 0: held, or not in the queue */
};

/* -ENOENT. */
[[nodiscard]] int files_get(struct kv_txn *txn, const struct id *id, struct file_row *ret_row);
[[nodiscard]] int files_decode(struct bytes value, struct file_row *ret_row);

/* The list of blocks; the caller gives it to file_metadata_done(). -ENOENT; -EIO: damaged. */
[[nodiscard]] int files_load(struct kv_txn *txn, const struct id *id,
                             struct file_metadata *ret_metadata);

/* Adds the file if it is not there, held by nobody yet. The caller holds it in the same apply. */
[[nodiscard]] int files_add(struct kv_txn *txn, const struct id *id,
                            const struct file_metadata *metadata);

/* Adds a file that is not there, held once for the reason. Its blocks are, and have places. */
[[nodiscard]] int files_add_held(struct store *store, struct kv_txn *txn, const struct id *id,
                                 const struct file_metadata *metadata, enum store_reason reason);

/* 0 if every block of the list has a good place, else -EAGAIN. */
[[nodiscard]] int files_check(struct kv_txn *txn, const struct file_metadata *metadata);

/* One holder more. -EAGAIN: a block has no good place, or for STORE_ORIGIN and STORE_COPY none but
 * in followed files (followed_priv.h); nothing was changed then. */
[[nodiscard]] int files_hold(struct store *store, struct kv_txn *txn, const struct id *id,
                             enum store_reason reason);
/* The first holder of a file whose blocks count it already: the caller saw to that. */
[[nodiscard]] int files_hold_counted(struct store *store, struct kv_txn *txn, const struct id *id,
                                     enum store_reason reason);
/* One holder less; -ENOENT: there is none for `reason`. */
[[nodiscard]] int files_release(struct store *store, struct kv_txn *txn, const struct id *id,
                                enum store_reason reason);

/* Puts the file into the queue of what nobody holds, if that is so. */
[[nodiscard]] int files_settle(struct store *store, struct kv_txn *txn, const struct id *id);

/* Takes a file that nobody holds out of the queue again: an intake needs it. */
[[nodiscard]] int files_unqueue(struct kv_txn *txn, const struct id *id);

bool files_is_held(const struct file_row *row);

/* Forgets a file that nobody holds. */
[[nodiscard]] int files_remove(struct kv_txn *txn, const struct id *id);

#endif
