/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TRANSFER_UPLOAD_H
#define TRANSFER_UPLOAD_H

/*
 * upload: the giving side: which of the blocks that others asked for is sent next, who is told to
 * go elsewhere, and where to.
 *
 * A source takes only as many requests as it can serve soon; beyond that it says *busy*, and the
 * receiver asks somebody else. A block that was given lately is not given again while there is
 * something else to give: whoever asks for it hears who got it (super-seeding, Hoffman 2003, by
 * redirects). So the first copy of each block leaves a publisher about once, and the receivers do
 * the rest. Among the receivers that wait, bytes are shared evenly (deficit round robin,
 * Shreedhar and Varghese 1995).
 *
 * Pure: it gets the time and what happened, and says what to do. Times are microseconds of the
 * caller's monotonic clock.
 *
 * Threads: one at a time; the caller may hold a lock of its own.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hash/id.h"
#include "wire/node_id.h"

/* Taken and not yet begun or done: at least so many blocks, whatever their size, and at least so
 * many bytes, whatever their number; or what leaves in UPLOAD_WAIT_MS at the rate seen lately.
 * Fewer would leave the link idle between two requests, more would let receivers wait here for what
 * they could have elsewhere. */
#define UPLOAD_BLOCKS_MIN 5u
#define UPLOAD_BYTES_MIN ((uint64_t)5 * 256 * 1024)
#define UPLOAD_WAIT_MS 50u
#define UPLOAD_BYTES_MAX ((uint64_t)256 * 1024 * 1024)
/* Requests are never more than these, however small, those of all receivers together; their bytes
 * are bounded for each of them. */
#define UPLOAD_JOBS_MAX 65536u
/* Being sent at a time: what leaves in UPLOAD_SENDING_MS; beyond that, the next block begins when
 * the ones before it should have left at the rate seen lately. So a block has the link for itself,
 * and can be passed on soon, unless its receiver takes it slowly. So many at most then. */
#define UPLOAD_SENDING_MS 5u
#define UPLOAD_SENDING_MAX 4u
/* Receivers of a block that are remembered and named, and how long; blocks that are. */
#define UPLOAD_GIVEN_TO_MAX 8u
#define UPLOAD_GIVEN_MS 20000u
#define UPLOAD_GIVEN_BLOCKS_MAX 65536u
/* Askers of a file that are remembered and named, and how long; files that are. */
#define UPLOAD_ASKERS_NAMED 32u
#define UPLOAD_ASKERS_KEPT 256u
#define UPLOAD_ASKER_MS 60000u
#define UPLOAD_FILES_MAX 65536u

struct upload;

struct upload_options {
    uint64_t random_seed;
    uint64_t rate_bytes_per_s; /* 0: as fast as it goes */
};

struct upload *upload_new(const struct upload_options *options, uint64_t now_us);
/* NULL is allowed. */
void upload_free(struct upload *upload);

/* From now on; 0: as fast as it goes. */
void upload_set_rate(struct upload *upload, uint64_t now_us, uint64_t rate_bytes_per_s);

/* One block that a receiver asked for. */
struct upload_job {
    struct node_id peer;
    uint32_t number; /* of its request, unique among those of this peer */
    uint16_t position;
    struct id block;
    uint32_t size_bytes;
};

enum upload_verdict {
    UPLOAD_TAKEN = 1, /* upload_next() gives it, unless it is cancelled */
    UPLOAD_BUSY = 2,  /* the receiver is to be told, with the members named */
};

/* A block that is here is asked for. With UPLOAD_BUSY: members that were given that very block and
 * are not `job->peer`, the latest first, maybe none. `insists`: it has asked those, or takes this
 * node for one of many that have a part: then no block is kept from it because others got it. */
enum upload_verdict upload_request(struct upload *upload, uint64_t now_us,
                                   const struct upload_job *job, bool insists,
                                   struct node_id ret_given_to[UPLOAD_GIVEN_TO_MAX],
                                   size_t *ret_given_to_count);

/* What is to be sent now; false: nothing, or enough is being sent. To be called until it is false
 * after each upload_request() and upload_done(), and at upload_next_us(). Each job ends with
 * upload_done(). */
bool upload_next(struct upload *upload, uint64_t now_us, struct upload_job *ret_job);
/* When upload_next() may have something that it has not now; UINT64_MAX: only after a call. */
uint64_t upload_next_us(const struct upload *upload);

/* A job has left: the system has taken its last bytes. `is_sent` false: it was not sent whole (the
 * block turned out bad or gone, the stream ended, it was cancelled meanwhile). */
void upload_done(struct upload *upload, uint64_t now_us, const struct upload_job *job,
                 bool is_sent);

/* What is waiting of this request is forgotten; how many blocks were. What is being sent goes on
 * and ends with upload_done(). */
size_t upload_cancel(struct upload *upload, uint64_t now_us, const struct node_id *peer,
                     uint32_t number);
/* The same for all that the peer asked for; nobody is sent to it any more. */
void upload_peer_lost(struct upload *upload, uint64_t now_us, const struct node_id *peer);

/* `peer` asks for a file because it fetches it: remembered. Names others that did so lately, a
 * random choice of them; for the OFFER. `peer` NULL: only names. */
size_t upload_asked(struct upload *upload, uint64_t now_us, const struct id *file,
                    const struct node_id *peer, struct node_id ret_others[UPLOAD_ASKERS_NAMED]);

struct upload_counters {
    uint64_t blocks_sent;
    uint64_t bytes_sent;
    uint64_t blocks_failed;    /* not sent whole */
    uint64_t blocks_again;     /* of those sent: given before, lately, to somebody */
    uint64_t refused_busy;     /* too much waited */
    uint64_t refused_given;    /* redirected to others */
    uint64_t insisted;         /* taken because the receiver insisted */
    uint64_t cancelled;        /* before they were begun */
    uint64_t waiting_count;    /* now */
    uint64_t waiting_bytes;    /* now */
    uint64_t sending_count;    /* now */
    uint64_t receivers_count;  /* now: with something waiting or being sent */
    uint64_t rate_bytes_per_s; /* now: seen lately */
};

const struct upload_counters *upload_counters(const struct upload *upload);

#endif
