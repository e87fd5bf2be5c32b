/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

/*
 * store: blocks and the lists of blocks that make file versions, kept on one disk so that none is
 * lost and none is ever wrong.
 *
 * This header opens and closes a store and tells its state. Beside it:
 *
 *   store/put.h       bytes go in            store/read.h      bytes come out
 *   store/intake.h    content from others    store/held.h      what is here, by key
 *   store/hold.h      what is kept, and why  store/maintain.h  collection, compaction, scrub
 *   store/writer.h    changes of the index as jobs, committed in groups
 *
 * Threads: every function may be called from any thread unless it says otherwise. All but the
 * *_async ones block on the disk.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"

/* Bytes of one segment file; a new one is begun when the next block would not fit. A block that is
 * longer than a segment has one to itself. Small ones suit small disks, where they give space back
 * sooner, and tests; each is a file, so there must not be too many of them. Each that is open is
 * mapped as a whole, so they must not be too large. */
#define STORE_SEGMENT_BYTES_DEFAULT ((uint64_t)1024 * 1024 * 1024)
#define STORE_SEGMENT_BYTES_MIN ((uint64_t)64 * 1024)
#define STORE_SEGMENT_BYTES_MAX ((uint64_t)64 * 1024 * 1024 * 1024)
/* Free disk space that puts leave alone, so that the index can always take a removal. */
#define STORE_RESERVE_BYTES_DEFAULT ((uint64_t)16 * 1024 * 1024)
/* How long the bytes of a removed block stay where they are, for readers on their way. */
#define STORE_PUNCH_GRACE_MS_DEFAULT ((uint64_t)60 * 1000)
/* How long a block that no file names any more stays, for a put that may name it again. */
#define STORE_COLLECT_GRACE_MS_DEFAULT ((uint64_t)15 * 60 * 1000)

/* Each so many bytes of a block are guarded by a checksum of their own: what is read begins and
 * ends best at a multiple of this. A property of the format. */
#define STORE_SPAN_BYTES ((uint32_t)64 * 1024)

/* Why a block or file is here. The order is the precedence: only what is here for no other reason
 * than STORE_CACHE may be evicted. */
enum store_reason {
    STORE_ORIGIN, /* published here */
    STORE_FOLLOW, /* a follower of this node wants it */
    STORE_COPY,   /* this node was asked to keep it */
    STORE_CACHE,  /* came by in a fetch */
};
#define STORE_REASONS 4
/* "origin", "follow", "copy", "cache". */
const char *store_reason_name(enum store_reason reason);

struct store;

struct store_options {
    const char *path; /* the data directory; made if it is missing and its parent exists */
    bool read_only;   /* read beside the process that writes; nothing is changed */
    /* read_only: many read at random. What was checked is remembered, so that a small piece costs
     * no more than that, and what is read counts as read for the eviction of the process that
     * writes. */
    bool serves_reads;
    bool must_exist;           /* make no new store: -ENOENT if there is none */
    const struct clock *clock; /* NULL: clock_real() */
    /* 0: STORE_SEGMENT_BYTES_DEFAULT. Of segments that are begun from now on; it may differ from
     * one opening to the next. */
    uint64_t segment_bytes;
    uint64_t reserve_bytes;   /* 0: STORE_RESERVE_BYTES_DEFAULT */
    uint64_t index_map_bytes; /* 0: KV_MAP_BYTES_DEFAULT */
    /* Tables of others in the same environment, so that their changes and ours commit together.
     * They come behind STORE_TABLES. */
    const char *const *extra_tables;
    size_t extra_tables_count;
};

/* Tables of the index: the first number that extra tables have. */
#define STORE_TABLES 14u

/*
 * Opens the store at options->path; the caller gives *ret_store to store_close(). Takes a time
 * that does not depend on how much the store holds.
 *
 *   -EBUSY            another process has it open for writing (store_owner() tells which)
 *   -EPROTONOSUPPORT  a format of another version
 *   -ENOTEMPTY        a directory with something else in it
 *   -EBADMSG          a store whose index is gone
 *   -ENOTDIR, -ENOENT no such directory; no store in it (read_only, must_exist)
 *   -EROFS, -EACCES   can't be written; nothing was changed
 *   -EINVAL           segment_bytes is outside its limits
 *   -ENOMEM           the address space is limited, and the index does not fit in
 *   -ENOSPC, -EIO, -EMFILE
 */
[[nodiscard]] int store_open(const struct store_options *options, struct store **ret_store);

/* Waits for the jobs under way and closes. All puts, intakes and views must have ended. NULL is
 * allowed. */
void store_close(struct store *store);

/* The environment of the index, for snapshots of the extra tables; it is closed with the store. */
struct kv *store_kv(struct store *store);

/* Milliseconds that this store has been open, all sessions together: a clock that only goes up. */
uint64_t store_now_ms(const struct store *store);

/* The process that holds the store at `path`, 0 if that can't be told. */
long store_owner(const char *path);

/* The version of the format in `path`'s `format` file, 0 if there is none or it is not ours. */
unsigned store_format_found(const char *path);

/* The version that this program reads and writes. */
#define STORE_FORMAT 1u

struct store_status {
    uint64_t blocks_count; /* known, lost ones included */
    uint64_t files_count;  /* file versions known */
    uint64_t lost_count;   /* blocks that a file names and of which no good copy is here */
    uint64_t segments_count;
    uint64_t live_bytes;         /* of blocks in segments */
    uint64_t allocated_bytes;    /* that the segments take on the disk */
    uint64_t externals_count;    /* files outside that blocks are read from */
    uint64_t unreferenced_count; /* rows waiting for collection */
    uint64_t dead_ranges_count;  /* ranges waiting to be given back */
    uint64_t cache_bytes;        /* of blocks that may be evicted */
    uint64_t corrupt_count;      /* blocks found wrong and dropped since the start */
    uint64_t withdrawn_count;    /* external files found changed since the start */
    bool failed;                 /* a sync failed: writes are refused until a restart */
};

/* Takes time with the number of segments, not of blocks. */
[[nodiscard]] int store_status(struct store *store, struct store_status *ret_status);

/* The figures of a status by the names that programs know them by. The first STORE_FIGURES_KEPT
 * tell what is on the disk, the others what happened since the start. */
struct store_figure {
    const char *name;
    uint64_t value;
};
#define STORE_FIGURES 12
#define STORE_FIGURES_KEPT 10
void store_figures(const struct store_status *status, struct store_figure figures[STORE_FIGURES]);

#endif
