/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_EXTERNALS_PRIV_H
#define STORE_EXTERNALS_PRIV_H

/*
 * externals: files outside the data directory whose bytes serve as blocks, as long as they are
 * what they were when they were registered. Inode, size, mtime and ctime tell; who changes a file
 * without changing one of them is caught by the CRCs.
 */

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "kv/kv.h"
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
    char path[PATH_MAX];
};

void file_identity_of(const struct stat *stat, struct file_identity *ret_identity);
bool file_identity_equal(const struct file_identity *a, const struct file_identity *b);

/* Registers a file that has no places yet; *ret_container is its number for locations. */
[[nodiscard]] int externals_add(struct kv_txn *txn, const struct file_identity *identity,
                                const char *path, uint64_t *ret_container);

/* -ENOENT. */
[[nodiscard]] int externals_get(struct kv_txn *txn, uint64_t container,
                                struct external *ret_external);

/* Changes the number of places; at 0 the row goes. A missing row is not an error for -1. */
[[nodiscard]] int externals_count(struct kv_txn *txn, uint64_t container, int by);

/* Reads from the file; -ESTALE: it is no longer what it was, and is withdrawn now. */
[[nodiscard]] int externals_read(struct store *store, uint64_t container, uint64_t offset_bytes,
                                 void *data, uint32_t size_bytes);

/* Drops all places in the file, a few at a time; waits for it. */
[[nodiscard]] int externals_withdraw(struct store *store, uint64_t container);

#endif
