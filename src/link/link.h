/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LINK_LINK_H
#define LINK_LINK_H

/*
 * link: the connections between this node and others (docs/LINK-FORMAT.md). Between two nodes that
 * have something to say stands one long-lived TCP connection with many streams (link/stream.h) and
 * messages (link/message.h) on it. It is opened when the first of them needs it, and closed when
 * nothing has been said for long.
 *
 * Threads: a link has loops of its own, each in a thread, and a peer belongs to one of them. Every
 * function here may be called from any thread and none blocks, but for link_close(). Callbacks come
 * on the thread of the peer concerned and must not block; callbacks of one peer never overlap.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "wire/address.h"
#include "wire/node_id.h"

struct link;
struct link_stream;
struct link_stream_handlers;

/* The first byte of a connection between nodes, by which the port's acceptor tells it from HTTP. */
#define LINK_FIRST_BYTE 0xA7

#define LINK_THREADS_MAX 64u
/* Numbers of services are 1 to LINK_SERVICES_MAX. */
#define LINK_SERVICES_MAX 31u
/* Connections at once; the node's files are the limit behind it. Beyond: refused as busy. */
#define LINK_CONNECTIONS_MAX_DEFAULT 8192u
/* Incoming ones that have not said who they are; for one more the oldest is closed, so that
 * silent strangers can't keep others out. */
#define LINK_HANDSHAKES_MAX 256u
/* Streams that each side may have open on one connection. Beyond: -EAGAIN here, reset there. */
#define LINK_PEER_STREAMS_MAX 1024u
/* From the start of a connection until both have said who they are. */
#define LINK_HANDSHAKE_MS_DEFAULT 5000u
/* Nothing heard for so long: a ping; and for as long again: the peer is taken for dead. */
#define LINK_KEEPALIVE_MS_DEFAULT 10000u
/* There is something to send, and the peer has taken no byte for so long: closed. */
#define LINK_STALL_MS_DEFAULT 30000u
/* No streams, and nothing said but pings: closed. */
#define LINK_IDLE_MS_DEFAULT 300000u

/* Why a connection was refused or has ended. Those up to LINK_REASON_WIRE_MAX are told to the
 * peer in these numbers; the others are ours. */
enum link_reason {
    LINK_REASON_NONE = 0,
    LINK_REASON_VERSION = 1,  /* another major version */
    LINK_REASON_OTHER_ID = 2, /* the peer is, or wants, somebody else */
    LINK_REASON_OWN_ID = 3,   /* it has our id */
    LINK_REASON_CROSSED = 4,  /* our own connection to it goes first */
    LINK_REASON_BUSY = 5,     /* too many connections */
    LINK_REASON_WIRE_MAX = 5,
    LINK_REASON_MALFORMED, /* bytes that are no preamble or frame, or break a rule of the format */
    LINK_REASON_CREDIT,    /* data beyond the credit */
    LINK_REASON_FLOOD,     /* asks for answers and does not read them */
    LINK_REASON_SLOW,      /* not connected, or no preamble, in time */
    LINK_REASON_SHED,      /* the oldest of too many handshakes */
    LINK_REASON_UNREACHABLE,  /* could not be connected to */
    LINK_REASON_LOST,         /* ended by the other side or the network */
    LINK_REASON_SILENT,       /* no answer to pings */
    LINK_REASON_STALLED,      /* takes no bytes */
    LINK_REASON_IDLE,         /* nothing to say */
    LINK_REASON_REPLACED,     /* the peer has come back by another connection */
    LINK_REASON_DISCONNECTED, /* link_disconnect() */
    LINK_REASON_STOPPED,      /* link_close() */
    LINK_REASONS_COUNT,
};

/* A stable name ("other_id"), for metrics. */
const char *link_reason_name(enum link_reason reason);

/* Who is at the other end; a plain value. */
struct link_peer {
    struct node_id id;
    uint64_t boot_nonce;
    struct address address; /* of the socket: the port is the peer's own only if `is_outgoing` */
    bool is_outgoing;       /* we opened the connection */
};

/* What a node offers to others under a number. Exactly one of the two callbacks is set. */
struct link_service {
    uint8_t number; /* 1 to LINK_SERVICES_MAX */
    void *context;

    /* A whole message came; `bytes` are borrowed for the call. */
    void (*message)(void *context, const struct link_peer *peer, struct bytes bytes);

    /* A peer opened `stream`. 0: it is ours now, and is given back with link_stream_free();
     * *ret_handlers (copied) and *ret_context are set. Negative: it is reset as refused, and is
     * not to be touched any more. */
    int (*accept)(void *context, const struct link_peer *peer, struct link_stream *stream,
                  struct link_stream_handlers *ret_handlers, void **ret_context);

    /* Credit of streams towards us: how much the peer may send before it is granted more. 0:
     * LINK_WINDOW_BYTES_DEFAULT. */
    uint32_t window_bytes;
};

struct link_options {
    struct node_id id;
    uint64_t boot_nonce;                 /* random, new at every start */
    struct address source;               /* outgoing connections come from its ip; all zeros: any */
    const struct link_service *services; /* copied */
    size_t services_count;
    unsigned threads; /* 0: one per core; below, 0 is the default above */
    unsigned connections_max;
    unsigned handshake_ms;
    unsigned keepalive_ms;
    unsigned stall_ms;
    unsigned idle_ms;

    /* Optional: a connection with `peer` stands, or has ended (why). A peer that comes back by a
     * second connection is told of twice in the order ended, stands. */
    void (*connected)(void *context, const struct link_peer *peer);
    void (*disconnected)(void *context, const struct link_peer *peer, enum link_reason reason);
    void *context;
};

/* Starts the threads. The caller owns *ret_link and gives it back to link_close(). -EINVAL: a
 * service that can't be; -EMFILE, -EAGAIN. */
[[nodiscard]] int link_open(const struct link_options *options, struct link **ret_link);

/* Ends all connections, streams and messages with their callbacks, and the threads; blocks until
 * they have. Nobody else may be calling the link. Streams that were not given back are valid until
 * they are. NULL is allowed. */
void link_close(struct link *link);

/* Takes over `fd`, a connected TCP socket on which the first byte that waits is LINK_FIRST_BYTE
 * (or may be: it is looked at again). Closes it if it is refused. */
void link_accept(struct link *link, int fd);

/* Ends the connection with `peer` at once, and all that waits for one. */
void link_disconnect(struct link *link, const struct node_id *peer);

/* Sums since link_open(), but for the first three. */
struct link_counters {
    uint64_t connections;               /* open now, handshakes included */
    uint64_t streams;                   /* open now, both sides' */
    uint64_t assembly_bytes;            /* held now, of messages that have come in part */
    uint64_t connected;                 /* handshakes that succeeded */
    uint64_t ended[LINK_REASONS_COUNT]; /* connections by how they ended, refused ones too */
    uint64_t sent_bytes;
    uint64_t received_bytes;
    uint64_t sent_frames;
    uint64_t received_frames;
    uint64_t unknown_frames;    /* of a newer version; skipped */
    uint64_t streams_opened;    /* by us */
    uint64_t streams_accepted;  /* opened by peers */
    uint64_t streams_refused;   /* opened by peers: no such service, too many, not wanted */
    uint64_t messages_sent;     /* given to the kernel */
    uint64_t messages_failed;   /* accepted here and not sent */
    uint64_t messages_received; /* given to a service */
    uint64_t messages_dropped;  /* received without a place to put them */
};

void link_read_counters(const struct link *link, struct link_counters *ret_counters);

struct link_peer_status {
    struct link_peer peer;
    bool is_connected;   /* false: connecting; then only the id of `peer` is known */
    uint64_t since_ms;   /* of uv_hrtime()'s clock: when it came to be connected, or began to */
    uint64_t sent_bytes; /* over this connection */
    uint64_t received_bytes;
    uint64_t queued_bytes; /* wait to be sent */
    uint32_t streams;
    uint32_t rtt_us; /* of the last ping; 0: none came back yet */
};

/* Up to `capacity` of the peers; returns how many there are. */
size_t link_list_peers(struct link *link, struct link_peer_status *ret_peers, size_t capacity);

#endif
