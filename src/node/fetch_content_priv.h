/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_FETCH_CONTENT_PRIV_H
#define NODE_FETCH_CONTENT_PRIV_H

/*
 * content: a file on its way here, as it lies in the store: its list of blocks, and the intake that
 * they are put into. What waits for the disk is done by workers.
 *
 * A file of at most one small block has no intake, which costs a sync before and one after: its
 * bytes are written, and many such files become known by one commit. What was fetched of one is
 * lost by a crash before that.
 *
 * Threads: the fetch thread, but for content_deliver() (any), and what is said to be under the
 * lock. Contents are counted: readers have theirs after the fetch is over.
 */

#include <pthread.h>
#include <stdatomic.h>

#include "node/fetch_priv.h"
#include "node/workers_priv.h"
#include "store/intake.h"
#include "store/put.h"
#include "wire/file_metadata.h"

/* Of one block up to so long: as fixed chunking cuts it. */
#define CONTENT_SMALL_BYTES ((uint64_t)256 * 1024)
/* Small files of one commit. */
#define CONTENT_BATCH_FILES ((size_t)2048)
#define CONTENT_BATCH_BYTES ((uint64_t)64 * 1024 * 1024)

enum content_end {
    CONTENT_KEEP = 1,  /* it goes on in a later life */
    CONTENT_DROP = 2,  /* what came is dropped */
    CONTENT_ASIDE = 3, /* what came is kept, though nobody waits for it (fetch_aside.c) */
};

struct content {
    struct fetch *fetch;
    struct id id;
    enum store_reason reason;
    atomic_uint references;
    struct content *next; /* of a batch */
    bool is_opening;      /* a worker is at it */
    bool opens_again;     /* and then again, with `text` */
    struct buf text;
    atomic_bool is_read; /* by readers, who are told of what comes */
    atomic_bool is_told; /* that is on its way to the fetch thread */

    /* Made by a worker, and not changed any more once fetch_content_opened() was told of it. */
    bool has_metadata;
    bool is_small;
    struct file_metadata metadata;

    pthread_mutex_t lock; /* over the rest */
    struct store_intake *intake;
    struct store_put *put; /* of a small one: its bytes */
    unsigned uses;         /* deliveries under way */
    bool is_closed;        /* none begins any more */
    bool is_done;          /* it is a file */
    bool commits; /* as soon as no delivery is under way; a small one: its put is in a batch */
    bool is_committing;       /* the intake is the store's meanwhile */
    enum content_end ends_as; /* likewise; 0: it does not end */
    uint8_t *have;            /* STORE_INTAKE_HAVE_BYTES() */

    UT_hash_handle hh;
};

/* Findable by content_deliver() until it ends. */
struct content *content_new(struct fetch *fetch, const struct id *id, enum store_reason reason);
struct content *content_reference(struct content *content);
/* NULL is allowed. */
void content_release(struct content *content);

/* Checks `text` (borrowed; empty: what is known of it already, or what the store knows) and opens
 * the intake, or looks again at what it has. Answered by fetch_content_opened(), later. */
void content_open(struct content *content, struct bytes text);
/* Makes a file that is here already be held for the reason, and learns its list of blocks; what was
 * left of an earlier fetch of it is ended. Answered by fetch_content_committed(): -ENOENT if it is
 * not here after all. */
void content_take(struct content *content);
/* Copies a block that is in the store into the intake. Answered by fetch_content_copied(). */
void content_copy(struct content *content, uint32_t index);
/* Makes it a file. Answered by fetch_content_committed(). */
void content_commit(struct content *content);
/* No delivery comes in any more; the intake is closed, set aside or dropped. */
void content_end(struct content *content, enum content_end how);
/* Commits the small files that have gathered, if it is time for that; and when it will be. */
void contents_due(struct fetch *fetch);
uint64_t contents_next_us(const struct fetch *fetch);
/* Forgets those that wait for that. */
void contents_end(struct fetch *fetch);

/* A block came: 0, -EBADMSG, -ECANCELED (nobody waits for it), or what the disk says. */
int content_deliver(struct fetch *fetch, const struct id *file, uint32_t index,
                    const struct id *block, struct bytes bytes);
/* From any thread: true if the file is being fetched. */
bool content_is_coming(struct fetch *fetch, const struct id *id);
/* True if block `index` can be read. */
bool content_has(struct content *content, uint32_t index);
bool content_is_done(struct content *content);

/* The answers, in fetch_files.c, on the fetch thread. `have` is borrowed. */
void fetch_content_opened(struct fetch *fetch, struct content *content, int err,
                          const uint8_t *have);
void fetch_content_came(struct fetch *fetch, struct content *content); /* with `is_read` */
void fetch_content_copied(struct fetch *fetch, struct content *content, uint32_t index, int err);
void fetch_content_committed(struct fetch *fetch, struct content *content, int err);

#endif
