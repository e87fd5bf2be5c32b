/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LINK_CONNECTION_PRIV_H
#define LINK_CONNECTION_PRIV_H

/*
 * connection: one TCP connection, from its preamble to its end. All of it on one thread, but that
 * one which comes in moves to the thread of its peer once it is known who that is.
 */

#include "base/buf.h"
#include "link/frame.h"
#include "link/peer_priv.h"
#include "link/stream_priv.h"
#include "link/transport_priv.h"

enum connection_state {
    CONNECTION_CONNECTING, /* by us */
    CONNECTION_ASKED,      /* by us: our preamble is sent */
    CONNECTION_ASKING,     /* by the other: its preamble is awaited */
    CONNECTION_MOVING,     /* to the thread of its peer */
    CONNECTION_OPEN,
    CONNECTION_DRAINING, /* a goodbye was sent or has come: nothing new */
    CONNECTION_ENDED,    /* only the handle is still to be closed */
};

/* Frames that go into one system call, and the bytes of one stream's turn: 0.5 ms at 1 Gbit/s. */
#define BATCH_FRAMES_MAX 32u
#define BATCH_PIECES_MAX 96u
#define BATCH_FRAME_BYTES ((uint32_t)64 * 1024)
#define BATCH_BYTES_MAX ((size_t)512 * 1024)
/* Of one frame, from as many writes. */
#define BATCH_FRAME_PIECES_MAX 16u
/* Before the data of a frame: OPEN, CREDIT, the header of DATA. */
#define BATCH_HEAD_BYTES_MAX (3 * FRAME_HEADER_BYTES + 2 + 4)
/* Answers that wait to be sent. A peer that keeps the rules can't cause so many: each is 16 bytes,
 * and one for each stream that it may open. */
#define CONNECTION_CONTROL_BYTES_MAX ((size_t)64 * 1024)

/* What is being sent: frames whose headers have said what follows. */
struct batch {
    struct iovec pieces[BATCH_PIECES_MAX];
    struct write *owners[BATCH_PIECES_MAX]; /* of the bytes of a piece; NULL: the batch itself */
    size_t begin;
    size_t count;
    size_t frames_count;
    struct buf control;
    uint8_t heads[BATCH_FRAMES_MAX][BATCH_HEAD_BYTES_MAX];
};

struct connection {
    struct link *link;
    struct link_thread *thread;
    struct peer *peer; /* held; NULL: not known yet */
    struct transport transport;
    uv_poll_t poll;
    int events; /* that the poll asks for */
    enum connection_state state;
    bool is_outgoing;
    bool has_said_goodbye;
    bool has_heard_goodbye;
    bool has_ended_writing;
    bool is_dirty;
    uint64_t number; /* its opener's */
    struct link_peer info;
    struct command move;

    struct preamble asked; /* what an incoming one said */
    uint8_t preamble_bytes[PREAMBLE_BYTES_MAX];
    size_t preamble_size;
    struct frame_reader reader;

    struct link_stream *streams; /* by number */
    uint32_t own_streams_count;  /* without those of messages; likewise below */
    uint32_t their_streams_count;
    uint32_t next_number;      /* of ours */
    uint32_t last_number;      /* of theirs */
    struct link_stream *ready; /* have something to send; a ring */
    struct link_stream *messages_to[LINK_SERVICES_MAX + 1];
    struct link_stream *messages_from[LINK_SERVICES_MAX + 1];
    struct buf control; /* frames that are of no stream, or of one that has gone */
    struct batch batch;

    uint64_t started_ms;
    uint64_t heard_ms;    /* bytes came */
    uint64_t progress_ms; /* bytes went, or began to wait */
    uint64_t used_ms;     /* a frame other than pings came or went */
    uint64_t pinged_ms;
    uint64_t pinged_ns; /* uv_hrtime(), which is the token too */
    uint64_t pong_token;
    bool has_pong;

    struct connection *prev; /* in one of the thread's lists */
    struct connection *next;
    struct connection *dirty_prev;
    struct connection *dirty_next;
};

/* A socket that somebody else opened; taken over. */
void connection_accept(struct link_thread *thread, int fd);
/* Connects to peer->address, and is peer->connection then. Not possible: the peer is told as if it
 * had been tried. */
void connection_connect(struct peer *peer);

/* Ends it, with all its streams. NULL-safe and idempotent; its memory goes later. */
void connection_end(struct connection *connection, enum link_reason reason);
/* Ends it as soon as all has been said. */
void connection_say_goodbye(struct connection *connection);
/* Begins its deadlines anew, but for that of the handshake. */
void connection_forgive(struct connection *connection, uint64_t now_ms);
/* Looks at the deadlines. */
void connection_tick(struct connection *connection, uint64_t now_ms);

/* There is something to send: flushed in this round of the loop. */
void connection_set_dirty(struct connection *connection);
/* Whether it is to be flushed as soon as the kernel has room. */
void connection_wait_writable(struct connection *connection, bool is_waiting);
/* For a stream of ours. After the last that there is, the connection drains. */
uint32_t connection_take_number(struct connection *connection);
/* Sends what there is to send, as far as the kernel takes it. (send.c) */
void connection_flush(struct connection *connection);
/* Adds a frame without data. */
void connection_add_control(struct connection *connection, enum frame_type type, uint32_t stream,
                            uint64_t value, size_t size);
/* True if something waits to be sent. */
bool connection_has_output(const struct connection *connection);
/* Drops what is in the batch. */
void connection_drop_batch(struct connection *connection);
/* Frames that came. (receive.c) */
void connection_receive(struct connection *connection, struct bytes bytes);
/* `number` is one that the peer gives to its streams. */
bool connection_is_theirs(const struct connection *connection, uint32_t number);

#endif
