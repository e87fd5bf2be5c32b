/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_FETCH_H
#define NODE_FETCH_H

/*
 * fetch: finds content in the network and brings it here. It joins locate/locate.h (who has it),
 * transfer/transfer.h (which block from whom, when) and the streams between nodes with the store,
 * in a thread of its own; what waits for the disk is done by workers.
 *
 * Opened and closed by the network (node/network.h), as long as which it lives.
 *
 * Threads: all functions from any thread; none waits for the network or for a write, but
 * fetch_stored() and fetch_reader_state() read indexes. Callbacks come on the fetch thread, never
 * before the call returns that asked for them, must not block, and may call anything here. Each
 * `done` comes exactly once, at the latest (-ECANCELED) when the network closes.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hash/id.h"
#include "locate/locate.h"
#include "node/node.h"
#include "transfer/copies.h"
#include "wire/file_metadata.h"

struct fetch;

/* ---- who has it --------------------------------------------------------------------------------
 */

#define FETCH_LOCATES_MAX 4096u
#define FETCH_LOCATE_MS_MAX ((uint64_t)60 * 1000)

struct fetch_locate_options {
    struct ring_key key;             /* ring_key_of() a file or block id */
    const struct node_id *publisher; /* asked after the owners; NULL: not known */
    enum locate_depth depth;
    uint64_t wait_ms; /* at most FETCH_LOCATE_MS_MAX; what is known then is told */
};

/* `found` is borrowed for the call: holders, and, if it is final, what came of each member that was
 * asked. Not final: `wait_ms` were over before. NULL with an error: -EBUSY (FETCH_LOCATES_MAX),
 * -ECANCELED. */
typedef void (*fetch_located_fn)(void *context, int err, const struct locate_found *found);
void fetch_locate(struct fetch *fetch, const struct fetch_locate_options *options,
                  fetch_located_fn done, void *context);

/* As locate_hint(). */
void fetch_hint(struct fetch *fetch, const struct ring_key *key, const struct node_id *node);

/* What this node keeps about a key: as locate_stored(); the first `limit`. -EIO. */
[[nodiscard]] int fetch_stored(struct fetch *fetch, const struct ring_key *key,
                               struct locate_held_by *ret_holders, size_t limit, size_t *ret_count);

/* ---- bringing files here -----------------------------------------------------------------------
 */

/* Files that are fetched or wait for it; beyond: -EBUSY. */
#define FETCH_FILES_MAX 65536u
/* A file that only readers wanted is fetched on for so long after the last one has gone. What came
 * of it, and of a file that could not be had, is kept for a while: a later fetch goes on with it.
 * Not of more files than so, and of none when the disk is full: the oldest go first. */
#define FETCH_LINGER_MS 5000u
#define FETCH_ASIDE_MS ((uint64_t)6 * 3600 * 1000)
#define FETCH_ASIDES_MAX 1024u

/* How a fetch went. 0: the file is here, whole and durable, and held for the reason that was asked
 * for. -ENOENT: all that could have it said that they have not. -EHOSTUNREACH: not found, but some
 * could not be asked: `answers` tells which. -ECANCELED: fetch_stop(), or the network closes.
 * -EBUSY: FETCH_FILES_MAX. -EIO, -ENOTRECOVERABLE: this node's disk. A full disk ends no fetch: it
 * waits for room; but readers do not wait for that. */
struct fetch_result {
    struct id file;
    int err;
    const struct locate_answer *answers; /* borrowed for the call */
    size_t answers_count;
};
typedef void (*fetch_done_fn)(void *context, const struct fetch_result *result);

struct fetch_options {
    struct id file;
    const struct node_id *publisher; /* asked first; NULL: not known */
    enum store_reason reason; /* STORE_FOLLOW, STORE_COPY or STORE_CACHE; of several the first */
};

/* Begins, or joins a fetch of this file that is under way: it goes on until the file is here,
 * nobody has it, or it is stopped; also after a restart of this node, without `done` then (which
 * may be NULL), unless it is a file of at most one small block, of which nothing is kept until it
 * is whole. */
void fetch_start(struct fetch *fetch, const struct fetch_options *options, fetch_done_fn done,
                 void *context);

/* The same without `done`, and tells whether it goes on: 0; -EBUSY: FETCH_FILES_MAX; -ECANCELED:
 * the node ends; an error of the disk. Waits for the fetch thread. */
[[nodiscard]] int fetch_begin(struct fetch *fetch, const struct fetch_options *options);
/* The same for many, each as `options` but for its id. *ret_count is set on failure too: so many
 * of the first go on. */
[[nodiscard]] int fetch_begin_all(struct fetch *fetch, const struct fetch_options *options,
                                  const struct id *files, size_t files_count, size_t *ret_count);

/* Gives up a fetch of this file, for all that wait for it: -ECANCELED. What came is dropped. One
 * that is not fetched is ignored. */
void fetch_stop(struct fetch *fetch, const struct id *file);

/* Room on a full disk, for a put: what is kept though nobody waits for it goes, the oldest first,
 * and cached blocks that others promise to keep, if their number of bytes is limited. True: there
 * may be some now; called again, it makes more. Waits for the disk and for others, some seconds at
 * most; not from the fetch thread, its workers, or the writer thread. */
bool fetch_make_room(struct fetch *fetch);

/* ---- copies that others keep ------------------------------------------------------------------
 */

#define FETCH_COPIES_MAX COPIES_NODES_MAX
#define FETCH_COPIES_MS_MAX ((uint64_t)24 * 3600 * 1000)

/* Others are asked to fetch these files and to hold them as copies: `count` of them, one of each
 * other zone first. */
struct fetch_copies_options {
    const struct id *files; /* copied; at most COPIES_FILES_MAX, of more nothing is asked */
    size_t files_count;
    size_t count; /* 1 to FETCH_COPIES_MAX */
    uint64_t wait_ms;
};
/* So many others hold all of the files, durable: as many as were wanted, or as there were when the
 * time was over or nobody was left to ask; what goes on goes on. */
typedef void (*fetch_copied_fn)(void *context, size_t count);
void fetch_copies(struct fetch *fetch, const struct fetch_copies_options *options,
                  fetch_copied_fn done, void *context);
/* Of those with this context: nobody waits for it any more. `done` comes soon, unless it was called
 * already. The context may not be another one's before this returns. */
void fetch_copies_cancel(struct fetch *fetch, void *context);

/* ---- reading while it comes --------------------------------------------------------------------
 *
 * A reader keeps a fetch going and tells it which blocks are wanted first; the bytes of those that
 * are here are read by store/read.h. A block that was here and is not there for that any more (it
 * was lost, or evicted after the fetch was over) has to be fetched by another reader.
 *
 * One thread at a time for each reader, which may be another one each time.
 */

struct fetch_reader;

#define FETCH_READERS_MAX 16384u

struct fetch_reader_options {
    struct id file;
    const struct node_id *publisher;
    /* Something that fetch_reader_metadata() or fetch_reader_state() tell has changed: once, and
     * again only after one of them was called. It must not call any function of this reader. It
     * may still come while fetch_reader_close() is under way, but not after it. */
    void (*changed)(void *context);
    void *context;
};

/* -EBUSY: FETCH_READERS_MAX or FETCH_FILES_MAX. The caller gives *ret_reader to
 * fetch_reader_close(). */
[[nodiscard]] int fetch_reader_open(struct fetch *fetch, const struct fetch_reader_options *options,
                                    struct fetch_reader **ret_reader);

/* The list of blocks, checked against the file's id; borrowed until the reader is closed. -EAGAIN:
 * not here yet; an error of struct fetch_result: it won't come. */
[[nodiscard]] int fetch_reader_metadata(struct fetch_reader *reader,
                                        const struct file_metadata **ret_metadata);

/* Blocks `first` to `first + count - 1` are read next, in this order: they go before everything
 * else, and some more behind them are fetched ahead. Replaces what was said before; a
 * `count` of 0 takes it back. Without it the blocks come in an order that suits the network. */
void fetch_reader_want(struct fetch_reader *reader, uint32_t first, uint32_t count);

/* Of block `index` (below blocks_count): 0: it is here, readable by store/read.h; -EAGAIN: not yet;
 * an error of struct fetch_result: it won't come. -ENOSPC: there is no room for it; another reader
 * finds out whether there is some now. */
[[nodiscard]] int fetch_reader_state(struct fetch_reader *reader, uint32_t index);

/* After such an error: what came of the members that were or should have been asked; borrowed
 * until the reader is closed. */
size_t fetch_reader_answers(struct fetch_reader *reader, const struct locate_answer **ret_answers);

/* NULL is allowed. `changed` is not called any more when it returns, so it may not be called with a
 * lock that that takes. The fetch hears of it soon after. */
void fetch_reader_close(struct fetch_reader *reader);

/* ---- what goes on, for people ------------------------------------------------------------------
 */

enum fetch_state {
    FETCH_SEARCHING = 1, /* nobody is known who has what lacks */
    FETCH_RUNNING,
    FETCH_NO_SPACE,   /* waits for room on this disk */
    FETCH_COMMITTING, /* all is here and is being made durable */
};
/* "searching", "running", "no_space", "committing". */
const char *fetch_state_name(enum fetch_state state);

struct fetch_info {
    struct id file;
    enum fetch_state state;
    enum store_reason reason;
    bool has_metadata; /* the next four are known */
    uint64_t length_bytes;
    uint64_t here_bytes;
    uint32_t blocks_count;
    uint32_t here_count;
    uint64_t running_ms; /* since it began, in this life of the node */
    uint64_t received_bytes;
    uint64_t rate_bytes_per_second; /* lately */
    uint32_t sources_count;
    uint32_t readers_count;
};

struct fetch_list_options {
    const struct id *after; /* in the order of ids; NULL: from the first on */
    size_t limit;
    bool only_read; /* those that somebody reads */
};
/* How many were written to ret_infos, of `limit`. */
size_t fetch_list(struct fetch *fetch, const struct fetch_list_options *options,
                  struct fetch_info *ret_infos);

/* One source of one fetch. */
struct fetch_source {
    struct node_id node;
    bool is_complete;
    bool is_shunned;          /* gave bad blocks too often */
    uint64_t received_bytes;  /* of this file */
    uint32_t blocks_count;    /* likewise */
    uint32_t in_flight_count; /* blocks that were asked for and have not come */
    uint32_t refused_count;   /* busy */
    uint32_t not_here_count;  /* it turned out not to have what it was asked for */
    uint32_t late_count;      /* blocks that were asked for elsewhere, too */
    uint32_t bad_count;       /* blocks whose bytes were wrong */
    uint64_t waited_ms;       /* in which it was asked and sent nothing */
    uint64_t rate_bytes_per_second;
};

#define FETCH_SOURCES_MAX 64u
/* Of members that have it, or could not be asked, so many are told of. */
#define FETCH_ANSWERS_MAX 32u

/* A fetch that goes on, or one of the last FETCH_PAST_MAX that ended. */
struct fetch_explanation {
    struct fetch_info info;
    bool is_over;
    int err;               /* if it is over: as in struct fetch_result */
    const char *waits_for; /* static, for people: what it waits for just now; "" if for nothing */
    /* Of those that were looked for last: first those that could not be asked, then those that
     * have it; none of one that is here. */
    uint32_t answers_count;
    struct locate_answer answers[FETCH_ANSWERS_MAX];
    uint32_t sources_count;
    struct fetch_source sources[FETCH_SOURCES_MAX]; /* those that gave most first */
};
#define FETCH_PAST_MAX 256u

/* -ENOENT: not fetched lately. */
[[nodiscard]] int fetch_explain(struct fetch *fetch, const struct id *file,
                                struct fetch_explanation *ret_explanation);

/* Members that gave blocks with wrong bytes and are not asked for content for a while, the last
 * ones; how many. Does not wait for the fetch thread. */
#define FETCH_SHUNNED_MAX 64u
size_t fetch_shunned(struct fetch *fetch, struct node_id ret_nodes[FETCH_SHUNNED_MAX]);

/* For /metrics. */
struct fetch_counters {
    struct locate_counters locate;
    uint64_t messages_dropped; /* locate's, for which there was no room */
    uint64_t files_running;    /* now */
    uint64_t files_aside;      /* not wanted now, of which something is kept */
    uint64_t files_fetched;
    uint64_t files_failed;
    uint64_t files_stopped;
    uint64_t readers; /* now */
    uint64_t surveys; /* now */
    uint64_t evicted_blocks;
    uint64_t evicted_bytes;
    uint64_t evict_refused_blocks; /* that no other node promised to keep */
    uint64_t promised_blocks;      /* to others, which may have evicted them then */
    /* Kept for others alone: those that somebody still needed, or who could not be asked; and those
     * that nobody did. */
    uint64_t guests_needed_blocks;
    uint64_t guests_ended_blocks;
    uint64_t blocks_received;
    uint64_t bytes_received;
    uint64_t blocks_bad;
    uint64_t blocks_hedged;   /* asked for elsewhere too, since they were late */
    uint64_t duplicate_bytes; /* of blocks that came twice */
    uint64_t raced_bytes;     /* of these: when nothing else was to be asked for any more */
    uint64_t shunned;  /* times that a member had given so many of these that it is not asked */
    uint64_t no_space; /* times that the disk was full */

    uint64_t wasted_bytes; /* of blocks that came and were not wanted any more */
    uint64_t receivers;    /* streams on which others ask, now */
    uint64_t given_queued; /* blocks that others wait for, now */
    uint64_t given_blocks; /* that others got from here */
    uint64_t given_bytes;
    uint64_t given_refused;     /* blocks that others were sent elsewhere for */
    uint64_t streams_stalled;   /* ended since nothing moved on them */
    uint64_t streams_malformed; /* ended since what came on them broke the format */
};
void fetch_read_counters(struct fetch *fetch, struct fetch_counters *ret_counters);

#endif
