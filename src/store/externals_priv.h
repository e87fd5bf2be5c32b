/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_EXTERNALS_PRIV_H
#define STORE_EXTERNALS_PRIV_H

/*
 * externals: files outside the data directory whose bytes serve as blocks, as long as they are
 * what they were when they were registered. Inode, size, mtime and ctime tell; who changes a file
 * without changing one of them is caught by the CRCs.
 *
 * Of a followed file the ctime alone may differ: whoever follows gives it more names and other
 * modes, and those that look at it need not wait until it is compared anew. A block of it is
 * compared with its SHA-256 then, each time.
 */

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "kv/kv.h"
#include "store/block_record_priv.h"
#include "store/store.h"

struct file_identity {
    uint64_t device; /* of the registration, for people; not compared */
    uint64_t inode;
    uint64_t size_bytes;
    int64_t mtime_ns;
    int64_t ctime_ns;
};

struct external {
    struct file_identity identity;
    uint64_t blocks_count; /* places that lead into it */
    bool withdrawn;
    bool is_followed; /* see followed_priv.h; else it was put in place */
    char path[PATH_MAX];
};

void file_identity_of(const struct stat *stat, struct file_identity *ret_identity);
bool file_identity_equal(const struct file_identity *a, const struct file_identity *b);

/* True if they differ in nothing but the ctime. */
bool file_identity_is_touched(const struct file_identity *a, const struct file_identity *b);

/* Registers a file that has no places yet; *ret_container is its number for locations. */
[[nodiscard]] int externals_add(struct kv_txn *txn, const struct file_identity *identity,
                                const char *path, bool is_followed, uint64_t *ret_container);

/* The file was seen to hold the same bytes with another identity. -ENOENT. */
[[nodiscard]] int externals_renew(struct kv_txn *txn, uint64_t container,
                                  const struct file_identity *identity);

/* From now on nothing is read from it; externals_withdraw() does the rest. -ENOENT. */
[[nodiscard]] int externals_end(struct kv_txn *txn, uint64_t container);

/* -ENOENT. */
[[nodiscard]] int externals_get(struct kv_txn *txn, uint64_t container,
                                struct external *ret_external);

/* Changes the number of places; at 0 the row goes. A missing row is not an error for -1. */
[[nodiscard]] int externals_count(struct kv_txn *txn, uint64_t container, int by);

/* Reads from `offset_bytes` of a block on; -ESTALE: the file is no longer what it was, and is
 * withdrawn now. */
[[nodiscard]] int externals_read(struct store *store, const struct location *location,
                                 uint32_t offset_bytes, void *data, uint32_t size_bytes);

/* Drops all places in the file, a few at a time, and what a followed one is held for; waits for
 * it. */
[[nodiscard]] int externals_withdraw(struct store *store, uint64_t container);

#endif
