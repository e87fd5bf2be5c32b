/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_BLOCKS_PRIV_H
#define NODE_BLOCKS_PRIV_H

/*
 * blocks: what one node asks of another about a file, and the bytes that come back, over streams of
 * the link (docs/WIRE-FORMAT.md, "Blocks"). Both sides of it: this node asks others, in the order
 * of who calls the functions here, and answers others by itself, from the store, in the order that
 * transfer/upload.h says.
 *
 * There is one stream for each pair of receiver and source. The receiver opens it with the first
 * thing that it says, and ends it when nothing was said or is awaited for BLOCKS_IDLE_MS.
 *
 *     blocks_open -> link_open with blocks_service() -> blocks_start -> ...
 *     blocks_stop -> link_close -> blocks_free
 *
 * Threads: every function from any thread, and none blocks but for open, stop, free. Callbacks come
 * on threads of the link or of workers, several at a time, but never two of one peer's stream but
 * for the ends of its blocks (`deliver`, `block`); never inside a call that caused them, and never
 * after blocks_stop(). They may call anything here but the last two.
 *
 * Memory: blocks on their way in are gathered in BLOCKS_GATHER_BYTES_MAX in sum, and what does not
 * fit waits at its source, but for a window of each stream. On the way out only small blocks are
 * copied.
 */

#include <stdbool.h>
#include <stdint.h>

#include "hash/id.h"
#include "link/link.h"
#include "store/store.h"
#include "transfer/transfer.h"
#include "wire/node_id.h"
#include "wire/transfer_frame.h"

struct blocks;

/* The service of the link. */
#define SERVICE_BLOCKS 4

#define BLOCKS_IDLE_MS 15000u
/* Blocks that are being received or wait for `deliver`: sixteen of the largest. */
#define BLOCKS_GATHER_BYTES_MAX ((size_t)256 * 1024 * 1024)
/* Who begins to send a block and stops in the middle, while others wait for the room that it takes:
 * its stream is reset. A receiver that takes nothing of what was sent to it in a fifth of this time
 * is sent no more until it does, so that it keeps nobody waiting; in six times, it loses its
 * stream. */
#define BLOCKS_STALL_MS 5000u
/* Credit of a stream towards us: 10 Gbit/s at a round trip of 1.6 ms. */
#define BLOCKS_WINDOW_BYTES ((uint32_t)2 * 1024 * 1024)
/* Streams that we have open at once. Beyond: the peer is lost at once. */
#define BLOCKS_SOURCES_MAX 512u
/* Of requests to one peer, blocks that have not come yet and were not refused; beyond: lost. */
#define BLOCKS_PEER_AWAITED_MAX 65536u
/* Of one peer, questions about files without an answer; beyond: lost. */
#define BLOCKS_PEER_ASKS_MAX 65536u

/* What a peer has of a file; borrowed for the call. */
struct blocks_offer {
    uint32_t number; /* of the ask */
    struct id file;
    enum transfer_state state;
    struct bytes metadata_text;   /* unchecked; empty: none */
    struct bytes have;            /* of TRANSFER_PARTIAL; likewise */
    const struct node_id *others; /* who lately fetched this file itself */
    size_t others_count;
};

enum blocks_end {
    BLOCKS_LOST,      /* the connection, or it could not be made */
    BLOCKS_ENDED,     /* by the peer, as when it stops; or it does not offer the service */
    BLOCKS_MALFORMED, /* it broke a rule of the format; worth a name in the log */
    BLOCKS_STALLED,   /* see BLOCKS_STALL_MS */
    BLOCKS_LIMIT,     /* one of the limits above */
};

/* What happens. None may block, but for `deliver`, which runs on workers. */
struct blocks_events {
    /* The answer to an ask. */
    void (*offer)(void *context, const struct node_id *peer, struct blocks_offer *offer);
    /* A file that was asked about with TRANSFER_ASK_GROWTH has grown by these blocks. */
    void (*more)(void *context, const struct node_id *peer, const struct id *file,
                 const uint32_t *indices, size_t count);
    /*
     * A block came whole, `bytes` of the size that was asked for; on a worker, several at a time.
     * Checks (SHA-256) and writes it: 0, -EBADMSG (the bytes are wrong), or what the disk says.
     * Blocks of one peer may come to their end in another order than they were sent in.
     */
    int (*deliver)(void *context, const struct node_id *peer, const struct id *file, uint32_t index,
                   const struct id *block, struct bytes bytes);
    /* The end of a block that was requested, once for each of them unless it is refused, canceled
     * or the peer is lost: what `deliver` said; -EBADMSG also if it has not the size asked for. */
    void (*block)(void *context, const struct node_id *peer, uint32_t number, uint16_t position,
                  int err, uint32_t size_bytes);
    void (*refused)(void *context, const struct node_id *peer, uint32_t number, uint16_t position,
                    enum transfer_refusal why, const struct node_id *others, size_t others_count);
    /* So many bytes of blocks came since the last time; for measuring: a remainder may be told
     * with what comes next. */
    void (*received)(void *context, const struct node_id *peer, size_t bytes_count);
    /* The stream is gone, and with it all that was asked on it: no answer comes any more but for
     * blocks that came whole before (those have their `block` earlier or later). The next call
     * begins anew. Not told when it was idle. */
    void (*lost)(void *context, const struct node_id *peer, enum blocks_end why);
    /* A peer asked us about this file and fetches it itself (TRANSFER_ASK_FETCHING): it will have
     * parts of it, if it has none yet. */
    void (*asked)(void *context, const struct node_id *peer, const struct id *file);
};

struct blocks_options {
    struct store *store;
    struct blocks_events events;
    void *context; /* of the events */

    /* Where a member is reached. False: it is not known; such a peer gets no stream here either.
     * May be called with locks of `blocks` held; may not block, nor call back. */
    bool (*find_member)(void *context, const struct node_id *id, struct address *ret_address);
    void *member_context;

    uint64_t upload_bytes_per_second; /* 0: as fast as it goes */
    unsigned workers;                 /* of each kind; 0: one per core, two at least */
    unsigned idle_ms;                 /* 0: BLOCKS_IDLE_MS */
    unsigned stall_ms;                /* 0: BLOCKS_STALL_MS */
    size_t gather_bytes_max;          /* 0: BLOCKS_GATHER_BYTES_MAX */
};

/* -EAGAIN: no thread to be had. The caller gives *ret_blocks to blocks_free(). */
[[nodiscard]] int blocks_open(const struct blocks_options *options, struct blocks **ret_blocks);
/* For the options of the link, which is closed before blocks_free(). */
struct link_service blocks_service(struct blocks *blocks);
/* From now on it asks and answers. */
void blocks_start(struct blocks *blocks, struct link *link);
/* Waits for the callbacks under way; none comes after it. What is asked after it is dropped. */
void blocks_stop(struct blocks *blocks);
/* NULL is allowed. */
void blocks_free(struct blocks *blocks);

/*
 * Asking. Nothing here fails: who can't be reached is `lost`. What is said to a peer is gathered
 * and goes out with blocks_flush(), many in one piece: call it when there is nothing more to say
 * for now. (More than BLOCKS_GATHERED_BYTES goes out by itself.) Numbers are the caller's, one
 * never used twice with one peer while the first is without all its answers; those of asks and of
 * requests are apart.
 */
#define BLOCKS_GATHERED_BYTES ((size_t)64 * 1024)
/* `flags`: of enum transfer_ask_flags. */
void blocks_ask(struct blocks *blocks, const struct node_id *peer, uint32_t number, uint8_t flags,
                const struct id *file);
/* No growth any more. */
void blocks_stop_growth(struct blocks *blocks, const struct node_id *peer, const struct id *file);
/* 1 to TRANSFER_REQUEST_BLOCKS_MAX blocks; `insists`: not to be sent to others. */
void blocks_request(struct blocks *blocks, const struct node_id *peer, uint32_t number,
                    bool insists, const struct id *file, const struct transfer_part *parts,
                    size_t parts_count);
/* What has not come whole is not awaited any more: no event comes for it, but for blocks that have
 * come whole and are with `deliver`. */
void blocks_cancel(struct blocks *blocks, const struct node_id *peer, uint32_t number);
/* As if it had been lost, without the event; a stalled or lying source. */
void blocks_drop(struct blocks *blocks, const struct node_id *peer);
void blocks_flush(struct blocks *blocks);

/* Answering: block `index` of the file, which is on its way here, can be read from now on, for
 * those who want to know of growth. To be called after each block that was written. */
void blocks_came(struct blocks *blocks, const struct id *file, uint32_t index);
/* The file is gone on with, and these of its blocks are here (bit i % 8 of byte i / 8): what was
 * said of others is not true any more; they are told again when they come. */
void blocks_set_have(struct blocks *blocks, const struct id *file, struct bytes have);
/* A limit for all that leaves here, 0: none. */
void blocks_limit_upload(struct blocks *blocks, uint64_t bytes_per_second);

/* Sums since blocks_open(), but for the first five. */
struct blocks_counters {
    uint64_t sources;       /* streams that we opened, now */
    uint64_t receivers;     /* streams that others opened, now */
    uint64_t gather_bytes;  /* taken of BLOCKS_GATHER_BYTES_MAX now */
    uint64_t upload_queued; /* blocks that others wait for now */
    uint64_t unsaid_bytes;  /* of answers and news that their streams have not taken, now */
    uint64_t received_blocks;
    uint64_t received_bytes; /* of whole blocks */
    uint64_t wasted_bytes;   /* of blocks that came and were not awaited (any more) */
    uint64_t bad_blocks;     /* -EBADMSG */
    uint64_t sent_blocks;
    uint64_t sent_bytes;
    uint64_t refused_blocks; /* to others */
    uint64_t malformed;      /* streams, both sides */
    uint64_t stalled;
};
void blocks_read_counters(struct blocks *blocks, struct blocks_counters *ret_counters);

#endif
