/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_FETCH_FILES_PRIV_H
#define NODE_FETCH_FILES_PRIV_H

/*
 * Files that are fetched, those that wait for them, and those that read them: what the parts of it
 * know of each other.
 *
 *   fetch_files.c    files, from their beginning to their end
 *   fetch_host.c     what transfer asks; finds on its behalf
 *   fetch_events.c   what comes from blocks
 *   fetch_reader.c   readers
 *   fetch_aside.c    what is left of files that nobody waits for
 *   fetch_report.c   what goes on, for people
 *
 * Threads: the fetch thread, but for what is said to be under the lock.
 */

#include "node/fetch_content_priv.h"
#include "transfer/status.h"
#include "transfer/transfer.h"

/* Below TRANSFER_PRIORITY_READER, which is that of readers. */
#define FETCH_PRIORITY_FILE 3

/* Somebody who waits for a file. */
struct fetch_waiter {
    fetch_done_fn done; /* may be NULL */
    fetch_done_fn full; /* each time that it begins to wait for room, -ENOSPC; may be NULL */
    void *context;
    struct fetch_waiter *next;
};

struct fetch_file {
    struct id id;
    enum store_reason reason;
    struct node_id publisher;
    bool has_publisher;
    bool is_resumed;   /* wanted by an earlier life */
    bool is_resuming;  /* that is what is being opened */
    bool is_opened;    /* its list of blocks is known */
    bool is_full;      /* the disk was, when last looked */
    uint64_t full_us;  /* since then; 0: it was not */
    bool is_refusing;  /* its readers are about to be told that */
    bool is_settling;  /* transfer is through with it, and it is being committed */
    bool is_reported;  /* fetch_report_keep() was called for that */
    uint64_t retry_us; /* that failed, and is tried again; UINT64_MAX: it did not */
    bool is_taking;    /* it is here already, or is held for one more reason */
    bool is_over;      /* it waits to be freed */
    struct content *content;
    struct fetch_waiter *waiters;
    struct fetch_reader *readers;
    uint32_t readers_count;
    unsigned retries_count;
    uint64_t begun_us;
    uint64_t linger_us;            /* the last reader has gone; UINT64_MAX: it goes on */
    struct locate_answer *answers; /* of the last find that came to its end */
    size_t answers_count;
    struct fetch_news ends; /* fetch_later() */
    UT_hash_handle hh;
};

struct fetch_reader {
    struct fetch *fetch;
    struct fetch_reader_options options;
    struct node_id publisher;
    struct fetch_news opens; /* fetch_post(), likewise the next one */
    struct fetch_news closes;

    pthread_mutex_t lock;    /* over these */
    struct content *content; /* whose list of blocks is known */
    int err;
    struct locate_answer *answers;
    size_t answers_count;
    bool is_told;    /* and has not looked since */
    bool is_closing; /* and is not told any more */

    struct fetch_file *file; /* NULL: not (any more) fetched */
    bool is_noticed;         /* `changed` is called at the end of this turn */
    bool is_closed;          /* and then it is freed */
    struct fetch_news notices;
    struct fetch_reader *prev;
    struct fetch_reader *next;
};

/* fetch_files.c */

struct fetch_file *fetch_file_find(struct fetch *fetch, const struct id *id);
/* Finds or begins; the caller adds who wants it. -EBUSY, -ECANCELED. */
[[nodiscard]] int fetch_file_begin(struct fetch *fetch, const struct id *id,
                                   const struct node_id *publisher, enum store_reason reason,
                                   int priority, struct fetch_file **ret_file);
/* A reader has left it: is anybody left? */
void fetch_file_left(struct fetch *fetch, struct fetch_file *file);
/* Transfer sees it otherwise. */
void fetch_file_changed(struct fetch *fetch, struct fetch_file *file);

/* As fetch_start(), on the fetch thread, but not within what transfer or locate call. `waiter` is
 * copied; its functions are called later; none if this fails: -EBUSY, -ECANCELED. */
[[nodiscard]] int fetch_join(struct fetch *fetch, const struct fetch_options *options,
                             const struct fetch_waiter *waiter);
/* Takes back what was joined with this context, without a word; if nobody else wants the file, it
 * is dropped. False: it is over already, and `done` was called or will be. */
bool fetch_leave(struct fetch *fetch, const struct id *id, void *context);

/* Transfer has all blocks: makes it a file. */
void fetch_file_commit(struct fetch *fetch, struct fetch_file *file);
/* Transfer has ended it. */
void fetch_file_ended(struct fetch *fetch, struct fetch_file *file, int err);

/* It is over: everybody is told; it is freed later. */
void fetch_file_end(struct fetch *fetch, struct fetch_file *file, int err);
/* Gives it up before its end, and ends it. */
void fetch_file_stop(struct fetch *fetch, struct fetch_file *file, enum content_end how);
void fetch_files_end(struct fetch *fetch);
void fetch_files_due(struct fetch *fetch);
uint64_t fetch_files_next_us(const struct fetch *fetch);
/* Goes on with what an earlier life has left. */
void fetch_files_resume(struct fetch *fetch);

/* fetch_host.c */

struct transfer_host fetch_transfer_host(struct fetch *fetch);
void fetch_seeks_end(struct fetch *fetch);

/* fetch_events.c */

struct blocks_events fetch_blocks_events(void);

/* fetch_reader.c */

/* The list of blocks is known; blocks came; it is over. */
void fetch_readers_notice(struct fetch *fetch, struct fetch_file *file);
void fetch_readers_end(struct fetch *fetch, struct fetch_file *file, int err);
/* It goes on, and they are not to wait for that. Not within what transfer calls. */
void fetch_readers_refuse(struct fetch *fetch, struct fetch_file *file, int err);

/* fetch_aside.c */

/* What came of the file is kept for a while. */
void fetch_aside_add(struct fetch *fetch, const struct id *id);
/* It is fetched again; nothing happens if nothing was left of it. */
void fetch_aside_take(struct fetch *fetch, const struct id *id);
/* Takes the oldest off the list; what came of it stays for the caller to forget. */
bool fetch_aside_take_oldest(struct fetch *fetch, struct id *ret_id);
/* The disk is full: nothing of such files is kept. */
void fetch_asides_forget(struct fetch *fetch);
/* Forgets those that are due. */
void fetch_asides_due(struct fetch *fetch, uint64_t now_us);
uint64_t fetch_asides_next_us(const struct fetch *fetch);
size_t fetch_asides_count(const struct fetch *fetch);
/* Frees the list; what is left stays on the disk. */
void fetch_asides_free(struct fetch *fetch);

/* fetch_report.c */

/* How the fetch of this file goes; false: it is not being fetched. */
bool fetch_report_running(struct fetch *fetch, const struct id *id, struct fetch_info *ret_info);
/* `file` is about to end: what can be told of it is kept. */
void fetch_report_keep(struct fetch *fetch, const struct fetch_file *file, int err);
void fetch_report_free(struct fetch *fetch);

#endif
