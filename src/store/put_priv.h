/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_PUT_PRIV_H
#define STORE_PUT_PRIV_H

#include <pthread.h>

#include "base/buf.h"
#include "store/block_record_priv.h"
#include "store/externals_priv.h"
#include "store/put.h"
#include "store/segments_priv.h"
#include "wire/file_metadata.h"

/* A block on its way into the index. */
struct new_block {
    struct id id;
    uint32_t size_bytes;
    bool written; /* into the reservation; else it is in the file outside */
    uint64_t file_offset_bytes;
    struct reservation reservation;
    uint32_t crcs[]; /* block_spans() of them */
};

struct store_put {
    struct store *store;
    enum store_reason reason;
    struct file_metadata metadata;
    struct buf window; /* what has come and is not cut yet */
    uint64_t new_bytes;
    store_put_room_fn make_room; /* or NULL */
    void *room_context;

    struct id *pinned; /* every block of the file, once an occurrence */
    size_t pinned_count;
    size_t pinned_capacity;

    struct new_block **pending; /* not given to the writer yet */
    size_t pending_count;
    size_t pending_capacity;
    uint64_t pending_bytes;

    char *in_place_path; /* NULL: bytes are copied */
    struct file_identity in_place_identity;

    pthread_mutex_t lock; /* over the two below */
    pthread_cond_t flushed;
    size_t flushes; /* jobs with blocks of ours under way */
    int flush_err;  /* the first failure of one, or of the last cut */
};

/* The outcome of one block. */
struct ingested {
    struct id id;
    uint32_t size_bytes;
    bool pinned;
    struct new_block *block; /* NULL: was here already */
};

/* Hashes `data`, pins the block, and writes it unless it is here or in place. Any thread; changes
 * nothing in `put`. */
[[nodiscard]] int put_ingest(const struct store_put *put, struct bytes data,
                             uint64_t file_offset_bytes, struct ingested *ret_ingested);

/* Takes over what put_ingest() made, whatever it answered: the pin and the block are the put's to
 * release. Only the put's thread. */
void put_adopt(struct store_put *put, const struct ingested *ingested);

/* Names a written block in the index, or its range as a dead one if another copy is named already.
 * `held_soon`: a hold of it follows in the same apply. Only the writer thread. (In commit.c.) */
[[nodiscard]] int put_add_written(struct store *store, struct kv_txn *txn,
                                  const struct new_block *block, bool held_soon);

/* Gives the writer what is pending if that is much. (In commit.c.) */
void put_flush_if_full(struct store_put *put);

/* Cuts and adds what is left in the window: it is the end of the file. */
[[nodiscard]] int put_write_rest(struct store_put *put);

/* The content of a regular file of `size_bytes` from `begin_bytes` on, hashed and written by the
 * worker pool; appends its blocks to the metadata. (In ingest.c.) */
[[nodiscard]] int ingest_file(struct store_put *put, int fd, uint64_t begin_bytes,
                              uint64_t size_bytes);

#endif
