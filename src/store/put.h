/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_PUT_H
#define STORE_PUT_H

/*
 * put: the content of one file on its way into the store.
 *
 *     store_put_begin -> store_put_write* | store_put_fd | store_put_in_place | store_put_block*
 *                     -> store_put_commit (or store_put_abort)
 *
 * Bytes are cut, hashed, compared with what is here, and written as they come; memory does not
 * grow with the size of the file beyond its list of blocks. Nothing can be seen of the file before
 * the commit, and all of it after. Blocks of a put that was given up are collected later.
 *
 * Threads: one thread at a time per put. store_put_fd() of a large file uses libuv's worker pool.
 */

#include "base/bytes.h"
#include "hash/id.h"
#include "store/store.h"

struct kv_txn;
struct store_put;

/* -EROFS, -ENOTRECOVERABLE (see store_status.failed). */
[[nodiscard]] int store_put_begin(struct store *store, enum store_reason reason,
                                  struct store_put **ret_put);

/* Asked by who writes, when there is no room for a block, before -ENOSPC is: true: some was made,
 * or may have been; it is tried again then. */
typedef bool (*store_put_room_fn)(void *context);
void store_put_set_room(struct store_put *put, store_put_room_fn make_room, void *context);

/* Appends bytes. -ENOSPC, -EIO, -EFBIG (the file would pass CHUNK_FILE_BYTES_MAX). After an error
 * only store_put_abort() may be called; the same holds for the three below. */
[[nodiscard]] int store_put_write(struct store_put *put, struct bytes data);

/* Appends one whole block, cut elsewhere and by whatever rule, of 1 to CHUNK_BLOCK_BYTES_MAX bytes.
 * The caller has seen that `id` is its SHA-256: it is believed. Not after the others. */
[[nodiscard]] int store_put_block(struct store_put *put, const struct id *id, struct bytes data);

/* Appends all that `fd` gives, from its position to its end. A regular file of more than one block
 * is read and hashed by all cores. The caller keeps `fd`. Also -ESTALE: the file shrank. */
[[nodiscard]] int store_put_fd(struct store_put *put, int fd);

/* Registers the regular file `path` (absolute) as the place of its own blocks: nothing is copied.
 * The put must be empty until then. The file is synced first. When somebody changes it later, its
 * blocks are withdrawn, see store/read.h. Also -ENOENT, -EACCES, -EISDIR, -EINVAL (no regular
 * file), -ESTALE (it changed while it was read), -ENAMETOOLONG. */
[[nodiscard]] int store_put_in_place(struct store_put *put, const char *path);

struct store_put_result {
    struct id id;
    uint64_t length_bytes;
    uint64_t new_bytes; /* written; the rest was here already or is in place */
};

/* What becomes of the puts, and of what. */
struct store_commit {
    struct store_put *const *puts; /* taken, puts_count of them; the array itself is borrowed */
    size_t puts_count;
    /* Hold each file for the reason of its put, once however often it is put. Without it a file is
     * collected unless somebody else, also() for one, holds it. */
    bool hold;
    /* More changes in the same transaction, or NULL; as store_apply_fn in store/writer.h. */
    int (*also)(void *context, struct kv_txn *txn, const struct store_put_result *results);
    /* On the writer thread, exactly once, never before store_commit_async() returns. The results,
     * one a put, are borrowed for the call; NULL on failure. */
    void (*done)(void *context, int err, const struct store_put_result *results);
    void *context;
};

/* Makes the files known and durable, all of them or none. -EAGAIN: a block was found damaged
 * meanwhile, put it again; what also() answers; errors of store_submit(). */
void store_commit_async(struct store *store, const struct store_commit *commit);

/* One put, held. */
typedef void (*store_put_done_fn)(void *context, int err, const struct store_put_result *result);
void store_put_commit_async(struct store_put *put, store_put_done_fn done, void *context);

/* The same, waiting. */
[[nodiscard]] int store_put_commit(struct store_put *put, struct store_put_result *ret_result);

/* Gives up; NULL is allowed. */
void store_put_abort(struct store_put *put);

#endif
