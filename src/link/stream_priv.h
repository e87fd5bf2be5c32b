/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LINK_STREAM_PRIV_H
#define LINK_STREAM_PRIV_H

#include "base/buf.h"
#include "base/map.h"
#include "link/frame.h"
#include "link/stream.h"
#include "link/thread_priv.h"

struct connection;
struct peer;

/* Bytes to be sent, from the call that brought them until the kernel has them. */
struct write {
    struct command command;
    struct link_stream *stream; /* held */
    const uint8_t *data;
    size_t size_bytes;
    size_t taken_bytes;  /* are in the batch, or were */
    size_t pieces_count; /* of it in the batch */
    bool is_queued;
    int err; /* to finish with */
    /* Called once; frees the write. */
    void (*finish)(struct write *write, int err);
    struct write *prev;
    struct write *next;
};

/* A message that comes in pieces. */
struct assembly {
    uint8_t head[4];
    size_t head_bytes;
    uint32_t left_bytes; /* to come */
    bool is_dropped;     /* there was no room */
    struct buf bytes;
};

struct link_stream {
    struct link *link;
    struct link_thread *thread;
    struct peer *peer; /* held */
    uint8_t service;
    bool is_messages; /* of messages: ours alone, no user has it */
    bool is_own;      /* opened by us */
    uint32_t window_bytes;
    struct link_stream_handlers handlers;
    void *context;
    struct link_peer info; /* under the lock of the link */

    /* Any thread's. */
    _Atomic unsigned refs_count;
    _Atomic size_t queued_bytes;
    _Atomic uint64_t granted_bytes; /* by the user, not looked at yet */
    _Atomic bool is_grant_posted;
    _Atomic bool is_end_asked;
    _Atomic bool is_reset_asked;
    _Atomic bool is_quiet; /* no callback but `closed` any more */
    _Atomic bool is_closed;
    _Atomic bool wants_writable;
    _Atomic uint32_t reset_code;
    struct command open;
    struct command end;
    struct command reset;
    struct command grant;

    /* The thread's. */
    struct address address; /* to connect to */
    struct connection *connection;
    uint32_t number;
    UT_hash_handle hh;
    bool is_open_sent;
    bool is_ending;
    bool is_end_sent;
    bool has_ended; /* the other side */
    bool is_ready;
    bool is_pending;
    struct write *writes;
    size_t writes_count; /* unfinished, in the batch too */
    uint64_t send_credit_bytes;
    uint64_t receive_credit_bytes; /* may still come */
    uint64_t held_bytes;           /* came and were not granted again */
    uint64_t grant_bytes;          /* to be told */
    struct assembly assembly;
    struct link_stream *prev; /* ring of the ready, or list of the pending */
    struct link_stream *next;
};

/* All on the thread of the peer. */

/* A stream that `connection` brings or takes; held once by the connection. */
struct link_stream *stream_new(struct peer *peer, uint8_t service, bool is_messages, bool is_own);
void stream_hold(struct link_stream *stream);
void stream_release(struct link_stream *stream);

/* Puts it on an open connection, under `number`. */
void stream_attach(struct link_stream *stream, struct connection *connection, uint32_t number);
/* It may have something to send now. */
void stream_wake(struct link_stream *stream);
bool stream_has_output(const struct link_stream *stream);
/* Credit to be told that is worth a frame. */
bool stream_owes_credit(const struct link_stream *stream);
void stream_queue(struct link_stream *stream, struct write *write);
/* Has been sent, or dropped: finishes it and lets go. */
void stream_finish_write(struct write *write, int err);
/* Closes it if both sides have ended and all was sent. */
void stream_check_end(struct link_stream *stream);
/* Takes it off its connection, drops what waits, and calls `closed`. */
void stream_close(struct link_stream *stream, int err, uint32_t code);
/* Tells the other side `code`, and closes it. */
void stream_reset(struct link_stream *stream, uint32_t code);
/* Data came. -EOVERFLOW: beyond the credit; -EPROTO: beyond the end. */
[[nodiscard]] int stream_receive(struct link_stream *stream, struct bytes bytes);
void stream_receive_end(struct link_stream *stream);
void stream_add_grant(struct link_stream *stream, uint64_t bytes_count);

#endif
