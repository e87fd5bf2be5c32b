/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LINK_STREAM_H
#define LINK_STREAM_H

/*
 * stream: bytes in order, both ways, between a node and a service of another. Many share one
 * connection, take turns on it frame by frame, and can't block each other: a side may send no more
 * than the other has granted it credit for.
 *
 *     link_stream_open()  ->  writes ... link_stream_end()     both sides; a direction that has
 *     data, data, ... end ->  closed                           ended stays ended
 *
 * Threads: all functions from any thread; those of one stream that change the same thing (write,
 * end, reset) one at a time. Callbacks come on the link thread of the peer, never inside a call
 * that caused them, and may call anything here.
 */

#include <stdint.h>

#include "base/bytes.h"
#include "link/link.h"

/* Unless a service says otherwise. 10 Gbit/s at a round trip of 0.8 ms. */
#define LINK_WINDOW_BYTES_DEFAULT ((uint32_t)1024 * 1024)
/* Both sides have so much when a stream is opened, without asking; a window is not smaller. */
#define LINK_WINDOW_BYTES_MIN ((uint32_t)64 * 1024)
#define LINK_WINDOW_BYTES_MAX ((uint32_t)64 * 1024 * 1024)
/* A block of the store with room for a header. */
#define LINK_WRITE_BYTES_MAX ((size_t)17 * 1024 * 1024)
/* A stream with so much waiting to be sent takes no further write (-EAGAIN), so that what waits is
 * at most this and one write more. */
#define LINK_STREAM_QUEUE_BYTES_MAX ((size_t)4 * 1024 * 1024)
/* The same for all streams of a peer. */
#define LINK_PEER_QUEUE_BYTES_MAX ((size_t)64 * 1024 * 1024)
/* What a write counts for at least; it bounds the number of small ones. */
#define LINK_WRITE_COST_BYTES ((size_t)256)

/* Why a stream is reset; told to the other side. Services have their own from
 * LINK_RESET_SERVICE on. */
enum link_reset {
    LINK_RESET_NONE = 0,
    LINK_RESET_CANCELED = 1,   /* no longer wanted */
    LINK_RESET_NO_SERVICE = 2, /* nobody offers this service */
    LINK_RESET_REFUSED = 3,    /* the service did not take it */
    LINK_RESET_LIMIT = 4,      /* too many streams */
    LINK_RESET_LOST = 5,       /* never sent: there is no connection (any more) */
    LINK_RESET_SERVICE = 256,
};

/* Each may be NULL but `closed`. `context` is that of the opening. */
struct link_stream_handlers {
    /* `bytes` (at least 1) came, borrowed for the call. They count against the credit until
     * link_stream_grant(). */
    void (*data)(void *context, struct link_stream *stream, struct bytes bytes);
    /* The other side has sent all that it will. */
    void (*end)(void *context, struct link_stream *stream);
    /* After a write was refused with -EAGAIN: less than half of the bound is waiting now. */
    void (*writable)(void *context, struct link_stream *stream);
    /* The last callback, once. err 0: both sides ended. -ECANCELED: reset by either side, `code`
     * says why. -EPIPE: the connection was lost, code LINK_RESET_LOST. -EACCES, -ETIMEDOUT, -EIO:
     * it never came to be (refused by the peer, took too long, no way there). The handle is valid
     * until link_stream_free(). */
    void (*closed)(void *context, struct link_stream *stream, int err, uint32_t code);
};

struct link_stream_options {
    struct node_id peer;
    struct address address; /* to connect to, if no connection stands */
    uint8_t service;
    struct link_stream_handlers handlers; /* copied */
    void *context;
    uint32_t window_bytes; /* credit that the other side gets; 0: LINK_WINDOW_BYTES_DEFAULT */
};

/* Opens a stream, and a connection if need be; may be written to at once. The caller owns
 * *ret_stream and gives it back with link_stream_free(). -EAGAIN: the peer has
 * LINK_PEER_STREAMS_MAX of ours open; -EINVAL: our own id, no service, a window out of bounds. */
[[nodiscard]] int link_stream_open(struct link *link, const struct link_stream_options *options,
                                   struct link_stream **ret_stream);

/* Gives the handle back, at any time, also from within its callbacks; NULL is allowed. A stream
 * that is not closed is reset as canceled, and its `closed` still comes. */
void link_stream_free(struct link_stream *stream);

/* Called once when the bytes of a write are with the kernel (`err` 0), or some of them were dropped
 * (the stream was reset or lost: as `closed`); on the link thread. */
typedef void link_release(void *context, int err);

/* Queues `bytes` to be sent. With `release` they are borrowed until it is called, and go to the
 * socket without being copied; without (NULL) they are copied now. -EAGAIN: too much is waiting;
 * `writable` will come. -EPIPE: the stream is closed, or was ended here. -EFBIG: more than
 * LINK_WRITE_BYTES_MAX. A refused write has no release. */
[[nodiscard]] int link_stream_write(struct link_stream *stream, struct bytes bytes,
                                    link_release *release, void *context);

/* Waits to be sent (each write counts LINK_WRITE_COST_BYTES at least). */
size_t link_stream_queued_bytes(const struct link_stream *stream);

/* Nothing more will be written. */
void link_stream_end(struct link_stream *stream);

/* Gives up both directions: what waits is dropped, the other side is told `code`, `closed` comes.
 * No `data` comes any more, if called on the link thread at once. */
void link_stream_reset(struct link_stream *stream, uint32_t code);

/* `bytes_count` of the data received were consumed: the other side may send as many again. Never
 * more in sum than were received. */
void link_stream_grant(struct link_stream *stream, size_t bytes_count);

/* Who is at the other end. Of a stream that we opened, all but the id is known once data came. */
struct link_peer link_stream_peer(const struct link_stream *stream);

#endif
