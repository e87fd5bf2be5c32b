/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LINK_PEER_PRIV_H
#define LINK_PEER_PRIV_H

/*
 * peer: what there is of one other node: its connection, and what waits for one. It exists as long
 * as somebody holds it: a connection, a stream, a message on its way.
 */

#include <stdatomic.h>

#include "base/map.h"
#include "link/link.h"
#include "link/preamble.h"
#include "link/thread_priv.h"

struct connection;
struct write;

struct peer {
    struct link *link;
    struct node_id id;
    struct link_thread *thread;

    /* Under the lock of the link. */
    UT_hash_handle hh;
    size_t refs_count;
    bool is_listed;
    bool is_connected;
    struct link_peer info;
    uint64_t since_ms;

    /* Any thread's. */
    _Atomic uint64_t sent_bytes;
    _Atomic uint64_t received_bytes;
    _Atomic uint32_t rtt_us;
    _Atomic uint32_t streams_count;
    _Atomic uint32_t own_streams_count; /* that we opened */
    _Atomic size_t queued_bytes;        /* by streams */
    _Atomic size_t message_bytes;       /* by messages */
    _Atomic bool is_crowded;            /* a write was refused because of `queued_bytes` */

    /* The thread's. */
    struct connection *connection;       /* that stands, or is being made */
    struct address address;              /* where to connect to */
    uint64_t known_number;               /* of its connections, the last that we took */
    uint64_t known_nonce;                /* and in which life of it */
    struct link_stream *pending_streams; /* for a connection */
    struct write *pending_messages;
    bool is_waiting; /* until wait_until_ms, for the peer's own connection */
    uint64_t wait_until_ms;
    struct peer *prev;
    struct peer *next;
};

/* The peer with this id, held by the caller. From any thread. */
struct peer *peer_hold(struct link *link, const struct node_id *id);
struct peer *peer_hold_again(struct peer *peer);
void peer_release(struct peer *peer);

/* The rest on the peer's thread. */

/* There is something pending, for which `address` is where to connect to: sees to a connection. */
void peer_want_connection(struct peer *peer, const struct address *address);
/* `connection` is open and the peer's: sends off what is pending. */
void peer_opened(struct peer *peer, struct connection *connection);
/* The connection of the peer, which had been open or not, is none any more. */
void peer_lost_connection(struct peer *peer, bool was_open, enum link_reason reason);
/* Whether a connection that came in is to be its connection. */
bool peer_takes(struct peer *peer, const struct preamble *incoming);
/* Fails all that is pending. */
void peer_fail_pending(struct peer *peer, int err);
/* Looks whether the wait is over. */
void peer_tick(struct peer *peer, uint64_t now_ms);

#endif
