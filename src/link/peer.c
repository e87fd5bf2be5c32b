/* SPDX-License-Identifier: Apache-2.0 */
#include "link/peer_priv.h"

#include "base/err.h"
#include "base/list.h"
#include "base/mem.h"
#include "link/connection_priv.h"
#include "link/crossing.h"
#include "link/link_priv.h"
#include "link/message_priv.h"
#include "link/stream_priv.h"

/* Ids are hashes, and peers stay with their threads however many there are. */
static struct link_thread *thread_of(struct link *link, const struct node_id *id)
{
    return &link->threads[id->bytes[NODE_ID_BYTES - 1] % link->threads_count];
}

/* Which of the peer's connections was the last is remembered for a while after it has ended: if
 * we come back at once, the peer may not have seen that end, and takes ours for one that crosses
 * its own (crossing.h). Both under the lock of the link. */

static void remember(const struct peer *peer)
{
    struct link *link = peer->link;
    if (peer->known_number > 0) {
        link->ended[link->ended_count++ % LINK_ENDED_MAX] =
            (struct ended_peer){peer->id, peer->known_nonce, peer->known_number};
    }
}

static void recall(struct peer *peer)
{
    const struct link *link = peer->link;
    const size_t oldest =
        link->ended_count > LINK_ENDED_MAX ? link->ended_count - LINK_ENDED_MAX : 0;
    for (size_t i = link->ended_count; i > oldest; i--) {
        const struct ended_peer *ended = &link->ended[(i - 1) % LINK_ENDED_MAX];
        if (node_id_equal(&ended->id, &peer->id)) {
            peer->known_nonce = ended->nonce;
            peer->known_number = ended->number;
            return;
        }
    }
}

struct peer *peer_hold(struct link *link, const struct node_id *id)
{
    struct peer *peer = NULL;
    pthread_mutex_lock(&link->lock);
    HASH_FIND(hh, link->peers, id, sizeof *id, peer);
    if (!peer) {
        peer = mem_alloc(sizeof *peer);
        peer->link = link;
        peer->id = *id;
        peer->info.id = *id;
        peer->thread = thread_of(link, id);
        recall(peer);
        HASH_ADD(hh, link->peers, id, sizeof peer->id, peer);
        link->refs_count++;
    }
    peer->refs_count++;
    pthread_mutex_unlock(&link->lock);
    return peer;
}

struct peer *peer_hold_again(struct peer *peer)
{
    pthread_mutex_lock(&peer->link->lock);
    peer->refs_count++;
    pthread_mutex_unlock(&peer->link->lock);
    return peer;
}

void peer_release(struct peer *peer)
{
    struct link *link = peer->link;
    pthread_mutex_lock(&link->lock);
    const bool is_last = --peer->refs_count == 0;
    if (is_last) {
        HASH_DELETE(hh, link->peers, peer);
        remember(peer);
    }
    pthread_mutex_unlock(&link->lock);
    if (is_last) {
        free(peer);
        link_let_go(link);
    }
}

static void set_listed(struct peer *peer, bool is_listed, const struct connection *connection)
{
    pthread_mutex_lock(&peer->link->lock);
    peer->is_listed = is_listed;
    peer->is_connected = connection != NULL;
    if (connection) {
        peer->info = connection->info;
    }
    peer->since_ms = thread_now_ms(peer->thread);
    pthread_mutex_unlock(&peer->link->lock);
}

/* A peer that waits is held. */
static void set_waiting(struct peer *peer, bool is_waiting)
{
    if (is_waiting == peer->is_waiting) {
        return;
    }
    peer->is_waiting = is_waiting;
    if (is_waiting) {
        peer_hold_again(peer);
        peer->wait_until_ms = thread_now_ms(peer->thread) + peer->link->options.handshake_ms;
        DL_APPEND(peer->thread->waiting, peer);
    } else {
        DL_DELETE(peer->thread->waiting, peer);
        peer_release(peer);
    }
}

void peer_fail_pending(struct peer *peer, int err)
{
    peer_hold_again(peer);
    set_waiting(peer, false);
    set_listed(peer, false, NULL);
    /* What is added by a callback comes by the inbox, and so after this. */
    while (peer->pending_streams) {
        stream_close(peer->pending_streams, err, LINK_RESET_LOST);
    }
    while (peer->pending_messages) {
        struct write *write = peer->pending_messages;
        DL_DELETE(peer->pending_messages, write);
        write->finish(write, err);
    }
    peer_release(peer);
}

static void connect_now(struct peer *peer)
{
    set_listed(peer, true, NULL);
    connection_connect(peer);
}

void peer_want_connection(struct peer *peer, const struct address *address)
{
    if (peer->thread->is_stopped) {
        peer_fail_pending(peer, -ECANCELED);
        return;
    }
    peer->address = *address;
    if (!peer->connection && !peer->is_waiting) {
        connect_now(peer);
    }
}

static void send_pending(struct peer *peer, struct connection *connection)
{
    while (connection->state == CONNECTION_OPEN && peer->pending_streams) {
        struct link_stream *stream = peer->pending_streams;
        stream_attach(stream, connection, connection_take_number(connection));
    }
    while (connection->state == CONNECTION_OPEN && peer->pending_messages) {
        struct write *write = peer->pending_messages;
        DL_DELETE(peer->pending_messages, write);
        message_send(connection, write);
    }
}

void peer_opened(struct peer *peer, struct connection *connection)
{
    peer->connection = connection;
    peer->sent_bytes = 0;
    peer->received_bytes = 0;
    peer->rtt_us = 0;
    set_listed(peer, true, connection);
    set_waiting(peer, false);
    if (!connection->is_outgoing) {
        peer->known_number = connection->number;
        peer->known_nonce = connection->info.boot_nonce;
    }
    send_pending(peer, connection);
}

static int err_of(enum link_reason reason)
{
    switch ((int)reason) {
    case LINK_REASON_SLOW:
        return -ETIMEDOUT;
    case LINK_REASON_VERSION:
    case LINK_REASON_OTHER_ID:
    case LINK_REASON_OWN_ID:
    case LINK_REASON_CROSSED:
    case LINK_REASON_BUSY:
        return -EACCES;
    case LINK_REASON_DISCONNECTED:
    case LINK_REASON_STOPPED:
        return -ECANCELED;
    default:
        return -EIO;
    }
}

void peer_lost_connection(struct peer *peer, bool was_open, enum link_reason reason)
{
    peer->connection = NULL;
    const bool goes_on = (peer->pending_streams || peer->pending_messages) &&
                         !peer->thread->is_stopped && reason != LINK_REASON_DISCONNECTED;
    if (goes_on && was_open) {
        connect_now(peer); /* It came up while the other drained. */
    } else if (goes_on && reason == LINK_REASON_CROSSED) {
        set_waiting(peer, true);
    } else {
        peer_fail_pending(peer, err_of(reason));
    }
}

bool peer_takes(struct peer *peer, const struct preamble *incoming)
{
    const struct connection *connection = peer->connection;
    if (!connection) {
        return true;
    }
    const struct crossing_standing standing = {
        .own_id = peer->link->options.id,
        .own_nonce = peer->link->options.boot_nonce,
        .is_outgoing = connection->is_outgoing,
        .is_asked = connection->state != CONNECTION_CONNECTING,
        .is_established =
            connection->state == CONNECTION_OPEN || connection->state == CONNECTION_DRAINING,
        .boot_nonce = connection->info.boot_nonce,
        .number = connection->number,
    };
    return crossing_takes(&standing, incoming);
}

void peer_tick(struct peer *peer, uint64_t now_ms)
{
    if (now_ms >= peer->wait_until_ms) {
        peer_fail_pending(peer, -EACCES);
    }
}
