/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KV_KV_H
#define KV_KV_H

/*
 * kv: ordered tables of byte strings with snapshots and atomic, durable transactions.
 *
 * Two implementations of one interface: LMDB on disk (kv_open), and a persistent treap in memory
 * for the simulator and tests (kv_open_memory). Keys are ordered as memcmp() orders.
 *
 * Threads: any number of readers, each with its own transaction, beside one writer; who writes is
 * for the caller to arrange (a second kv_write waits for the first). A read transaction is used by
 * one thread at a time; a write transaction ends in the thread that began it (its lock is that
 * thread's). Readers never wait for the writer, nor it for them. A process opens a directory at
 * most once at a time, and a forked child does not use what its parent opened.
 *
 * Borrowed memory: bytes that kv_get() or a cursor hands out live until the transaction ends, and
 * in a write transaction until its next change.
 *
 * Errors: -EINVAL (a key, a value or the number of tables is outside its limits), -ENOENT, -EIO
 * (the file can't be read, written or synced, or is damaged), -ENOSPC (disk or map full), -EACCES,
 * -EROFS, -EPROTONOSUPPORT (not our version of the file), -EAGAIN (too many readers at once),
 * -ENOTRECOVERABLE (kv_write after a commit failed with -EIO, until the next kv_open). After any
 * but -EINVAL, -ENOENT and -EEXIST a transaction answers everything with that error.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/cleanup.h"

#define KV_KEY_BYTES_MAX 511          /* LMDB's own limit; an empty key is not allowed either */
#define KV_VALUE_BYTES_MAX UINT32_MAX /* LMDB's own; over 2 KB a value has pages of its own */
#define KV_TABLES_MAX 32              /* tables of one environment */
#define KV_READERS_MAX 1024           /* read transactions open at once, all processes together */
#define KV_MAP_BYTES_DEFAULT ((uint64_t)1 << 40) /* address space; the file grows as needed */

struct kv;        /* an environment: a set of tables */
struct kv_txn;    /* a transaction over all of them */
struct kv_cursor; /* a position in one table */

/* A table by its number, the place of its name in kv_options.tables. */
typedef unsigned kv_table;

struct kv_options {
    const char *const *tables; /* names; each is created if it is not there (unless read-only) */
    size_t tables_count;       /* at most KV_TABLES_MAX */
    const char *path;          /* an existing directory; not used by kv_open_memory() */
    uint64_t map_bytes;        /* 0: KV_MAP_BYTES_DEFAULT; the database can't outgrow it */
    bool read_only;            /* open beside the process that writes; not for kv_open_memory() */
    bool no_sync;              /* for what is thrown away after an unclean stop */
};

/* -ENOENT if the directory is not there, or, read-only, the database or one of its tables. When
 * the default map is more address space than the process may have, a half of it is tried, and so
 * on down to 16 GiB; -ENOMEM if that, or the map_bytes asked for, is too much. */
[[nodiscard]] int kv_open(const struct kv_options *options, struct kv **ret_kv);
/* Empty each time. map_bytes limits keys, values and 128 bytes for each. -EINVAL if read_only. */
[[nodiscard]] int kv_open_memory(const struct kv_options *options, struct kv **ret_kv);
/* All transactions must have ended. NULL is allowed. */
void kv_close(struct kv *kv);

/* A number that is another one after each commit that changes anything, by whatever process: while
 * it stays, what was looked for in vain is not there yet. Costs as much as a snapshot. */
uint64_t kv_version(struct kv *kv);

/* A snapshot of now. Keep it short (10 ms): pages that it can see are not reused meanwhile. */
[[nodiscard]] int kv_read(struct kv *kv, struct kv_txn **ret_txn);

/* The number of the commit that a snapshot shows, above 0: between two with the same number nothing
 * was changed. Not for write transactions. */
uint64_t kv_snapshot(struct kv_txn *txn);

/* The write transaction; waits while another one is open. */
[[nodiscard]] int kv_write(struct kv *kv, struct kv_txn **ret_txn);

/* Makes the changes visible and (unless no_sync) durable, and ends the transaction whatever the
 * answer is. After an error none of the changes is visible in this process. */
[[nodiscard]] int kv_commit(struct kv_txn *txn);

/* Ends the transaction without effect; for readers the only end. NULL is allowed. */
void kv_abort(struct kv_txn *txn);
CLEANUP_DEFINE(kv_abort, struct kv_txn)

/* -ENOENT if the key is not there. */
[[nodiscard]] int kv_get(struct kv_txn *txn, kv_table table, struct bytes key,
                         struct bytes *ret_value);

/* Inserts or replaces. `key` and `value` may not point into memory borrowed from `txn`. */
[[nodiscard]] int kv_put(struct kv_txn *txn, kv_table table, struct bytes key, struct bytes value);

/* As kv_put() for a key after all others of the table: faster, pages are filled whole. -EEXIST if
 * it is not. */
[[nodiscard]] int kv_append(struct kv_txn *txn, kv_table table, struct bytes key,
                            struct bytes value);

/* -ENOENT if the key is not there. */
[[nodiscard]] int kv_delete(struct kv_txn *txn, kv_table table, struct bytes key);

/* How many keys the table has. */
[[nodiscard]] int kv_count(struct kv_txn *txn, kv_table table, uint64_t *ret_count);

/* How many puts, appends and deletes this write transaction has carried out. */
uint64_t kv_changes(const struct kv_txn *txn);

/* Cursors. One begins before the first key; it is closed before its transaction ends. After a
 * change of its table in the same transaction only kv_seek* may be called on it. Outputs are
 * untouched on failure; -ENOENT is the end in that direction, and there the cursor stays: kv_next()
 * goes to the first key after a kv_seek_before() that found nothing, and nowhere otherwise. */
[[nodiscard]] int kv_cursor_open(struct kv_txn *txn, kv_table table, struct kv_cursor **ret_cursor);
void kv_cursor_close(struct kv_cursor *cursor);
CLEANUP_DEFINE(kv_cursor_close, struct kv_cursor)

/* To the first key >= `key`; an empty `key` is before all. */
[[nodiscard]] int kv_seek(struct kv_cursor *cursor, struct bytes key, struct bytes *ret_key,
                          struct bytes *ret_value);
/* To the last key < `key`; an empty `key` is after all. */
[[nodiscard]] int kv_seek_before(struct kv_cursor *cursor, struct bytes key, struct bytes *ret_key,
                                 struct bytes *ret_value);
[[nodiscard]] int kv_next(struct kv_cursor *cursor, struct bytes *ret_key, struct bytes *ret_value);

#endif
