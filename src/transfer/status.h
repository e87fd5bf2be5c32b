/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TRANSFER_STATUS_H
#define TRANSFER_STATUS_H

/*
 * status: how far a fetch is, what it waits for, and what each source did for it.
 *
 * Threads: as transfer.h.
 */

#include "transfer/transfer.h"

enum transfer_phase {
    TRANSFER_QUEUED = 1,     /* TRANSFER_RUNNING_MAX others are at work */
    TRANSFER_SEEKING = 2,    /* nobody has given the list of blocks yet */
    TRANSFER_OPENING = 3,    /* the intake is begun */
    TRANSFER_FETCHING = 4,   /* blocks come */
    TRANSFER_COMMITTING = 5, /* all are here */
};

enum transfer_waits_for {
    TRANSFER_WAITS_FOR_NOTHING = 0,
    TRANSFER_WAITS_FOR_TURN = 1,    /* other fetches go first */
    TRANSFER_WAITS_FOR_HOLDERS = 2, /* is looking for somebody who has what lacks */
    TRANSFER_WAITS_FOR_ANSWERS = 3, /* asked, and no answer yet */
    TRANSFER_WAITS_FOR_BLOCKS = 4,  /* requested; on their way */
    TRANSFER_WAITS_FOR_SOURCES = 5, /* all that have what lacks are busy */
    TRANSFER_WAITS_FOR_DISK = 6,    /* intake, commit */
    TRANSFER_WAITS_FOR_SPACE = 7,   /* the disk is full */
    TRANSFER_WAITS_FOR_RATE = 8,    /* the limit of rate_bytes_per_s */
};

struct transfer_status {
    enum transfer_phase phase;
    enum transfer_waits_for waits_for;
    int err; /* why it does not go on, though it will (-ENOSPC); 0 */
    int priority;
    bool has_metadata;
    uint64_t length_bytes;
    uint64_t here_bytes;
    uint32_t blocks_count;
    uint32_t blocks_here;
    uint32_t blocks_on_way;
    uint32_t blocks_nowhere; /* no source known has them */
    uint32_t sources_count;
    uint64_t started_us;
    uint64_t received_bytes;  /* of blocks that were right, by this fetch */
    uint64_t duplicate_bytes; /* came twice */
    uint64_t raced_bytes;     /* of these: in the race at the end */
    uint32_t hedged_count;    /* blocks asked for elsewhere because they were late */
    uint32_t refused_count;
    uint32_t bad_count;
    uint64_t rate_bytes_per_s; /* lately */
};
/* False: it is not known. */
bool transfer_status(const struct transfer *transfer, uint64_t now_us, const struct id *file,
                     struct transfer_status *ret_status);

struct transfer_source {
    struct node_id node;
    enum transfer_state state;
    bool is_near;
    bool is_answered; /* it has said what it has */
    bool is_late;     /* silent, although asked */
    bool is_shunned;
    uint64_t bytes;            /* right ones, of this file */
    uint64_t rate_bytes_per_s; /* of all that comes from it; 0: not known */
    uint64_t waited_us;        /* mean from request to block */
    uint32_t on_way;           /* blocks */
    uint32_t blocks;
    uint32_t refused_busy;
    uint32_t refused_not_here;
    uint32_t late;
    uint32_t bad;
};
/* Visits all sources that are or were asked for this file. */
void transfer_visit_sources(const struct transfer *transfer, const struct id *file,
                            void (*visit)(void *context, const struct transfer_source *source),
                            void *context);

struct transfer_counters {
    uint64_t fetches_started;
    uint64_t fetches_done;
    uint64_t fetches_failed;
    uint64_t blocks_received;
    uint64_t bytes_received;
    uint64_t duplicate_bytes;
    uint64_t raced_bytes; /* of these */
    uint64_t requests;
    uint64_t hedged;
    uint64_t raced;
    uint64_t refused;
    uint64_t insisted;
    uint64_t cancelled;
    uint64_t bad_blocks;
    uint64_t peers_shunned;
    uint64_t fetches_count;    /* now */
    uint64_t running_count;    /* now */
    uint64_t on_way_bytes;     /* now */
    uint64_t window_bytes;     /* now */
    uint64_t rate_bytes_per_s; /* now */
};
const struct transfer_counters *transfer_counters(struct transfer *transfer);

#endif
