/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_ARRIVING_H
#define HTTP_ARRIVING_H

/*
 * arriving: a file version of which not all is here, while an answer needs it: a reader of
 * node/fetch.h that wakes the connection when something came.
 *
 * Threads: those of libmicrohttpd, for one request in turn.
 */

#include "http/request_priv.h"
#include "http/wait.h"
#include "node/fetch.h"

/* One file version. Not to be copied but by handing it on. */
struct arriving {
    const struct request *request; /* alive while its answer is being read */
    struct id id;
    struct origin_id writer; /* whose change of the tree names the file */
    bool has_writer;
    struct arriving_reader *reader; /* NULL: nothing lacked so far */
    /* A part of it is read: the blocks behind are wanted in their order. Else all of it is, and
     * only the first block that lacks is, and one that has not come for a second: when many fetch
     * all of a file at once, each brings another part of it to all. */
    bool is_part;
    enum { ARRIVING_AT_FIRST, ARRIVING_FIRST, ARRIVING_WAITS, ARRIVING_HURRIES } want;
    uint32_t wanted;         /* the block that it is about */
    uint64_t waits_since_ms; /* for that */
    uint32_t block;          /* that was looked for last */
    unsigned again_count;    /* how often it had come, and was not here */
};

/* `writer` may be NULL. Nothing is fetched yet. The caller gives it to arriving_done(). */
void arriving_init(struct arriving *arriving, const struct request *request, const struct id *id,
                   const struct origin_id *writer);
void arriving_done(struct arriving *arriving);

/* Begins to fetch it, if it has not. -EBUSY. */
[[nodiscard]] int arriving_open(struct arriving *arriving);

/* The list of blocks, borrowed until the next call of arriving_again() or arriving_done(). Begins
 * to fetch. -EAGAIN: not here yet: arriving_sleep(); else an error of struct fetch_result. */
[[nodiscard]] int arriving_metadata(struct arriving *arriving,
                                    const struct file_metadata **ret_metadata);

/* Whether block `index` of `blocks_count` has come. As arriving_metadata(). */
[[nodiscard]] int arriving_block(struct arriving *arriving, size_t blocks_count, size_t index);

/* The same for a block that the store was asked for in vain: 0: it is to be asked again. -EBADMSG:
 * the block comes and goes. */
[[nodiscard]] int arriving_again(struct arriving *arriving, size_t blocks_count, size_t index);

/* Whether all blocks have come, in whatever order they come; `next` is 0 at first, and kept from
 * one call to the next. As arriving_metadata(). */
[[nodiscard]] int arriving_all(struct arriving *arriving, uint32_t *next);

/* As wait_sleep(), after -EAGAIN. */
enum wait_outcome arriving_sleep(struct arriving *arriving, struct request *request);

/*
 * An answer that can't begin before something has come. It hangs from request->state; the endpoint
 * has arrival_go_on() as its end() and resumed(), and arrival_done() as its done().
 */
struct arrival {
    struct arriving *arriving; /* a part of what is around it */
    /* 0: it has answered; -EAGAIN: not enough is here yet; else it won't come, and arrival_go_on()
     * answers that. */
    int (*look)(struct request *request, struct arrival *arrival);
    /* Frees it and what is around it. */
    void (*free)(struct arrival *arrival);
    struct bytes path; /* of the file in the directory that was asked for; borrowed, or empty */
};

void arrival_go_on(struct request *request);
void arrival_done(struct request *request);

/* The answer if `err` came of a file: where it was looked for, and who could not be asked. */
void arrival_answer_failure(struct request *request, const struct arrival *arrival, int err);

#endif
