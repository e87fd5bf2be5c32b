/* SPDX-License-Identifier: Apache-2.0 */
#include "link/connection_priv.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/list.h"
#include "base/mem.h"
#include "link/link_priv.h"

/* Reads of one connection before others get their turn. */
#define READS_MAX 4
/* A number that a stream can't have any more; before it comes, a new connection begins. */
#define NUMBER_MAX (UINT32_MAX - 16)

static void on_poll(uv_poll_t *poll, int status, int events);

static struct connection *new_connection(struct link_thread *thread, bool is_outgoing)
{
    struct connection *connection = mem_alloc(sizeof *connection);
    connection->link = thread->link;
    connection->thread = thread;
    connection->transport.fd = -1;
    connection->is_outgoing = is_outgoing;
    connection->next_number = is_outgoing ? 1 : 2;
    connection->started_ms = thread_now_ms(thread);
    connection->heard_ms = connection->started_ms;
    connection->progress_ms = connection->started_ms;
    connection->used_ms = connection->started_ms;
    connection->pinged_ms = connection->started_ms;
    connection->link->connections_count++;
    return connection;
}

/* Its handle is closed, or never was open. */
static void free_connection(struct connection *connection)
{
    transport_close(&connection->transport);
    connection->link->connections_count--;
    if (connection->peer) {
        peer_release(connection->peer);
    }
    buf_done(&connection->control);
    buf_done(&connection->batch.control);
    free(connection);
}

static void on_closed(uv_handle_t *handle)
{
    free_connection(handle->data);
}

static void watch(struct connection *connection, int events)
{
    if (connection->events != events) {
        connection->events = events;
        CHECK(uv_poll_start(&connection->poll, events, on_poll) == 0);
    }
}

/* -EMFILE or -EIO: the loop can't watch it; nothing has changed. */
static int start_watching(struct connection *connection, int events)
{
    const int err =
        uv_poll_init_socket(&connection->thread->loop, &connection->poll, connection->transport.fd);
    if (err) {
        return err_from_errno(-err);
    }
    connection->poll.data = connection;
    connection->events = 0;
    watch(connection, events);
    return 0;
}

static void count_end(struct link_thread *thread, enum link_reason reason)
{
    thread->counters.ended[reason]++;
}

static bool is_standing(const struct connection *connection)
{
    return connection->state == CONNECTION_OPEN || connection->state == CONNECTION_DRAINING;
}

static void leave_list(struct connection *connection)
{
    struct link_thread *thread = connection->thread;
    if (connection->state == CONNECTION_ASKING) {
        DL_DELETE(thread->handshakes, connection);
        thread->handshakes_count--;
    } else {
        DL_DELETE(thread->connections, connection);
    }
}

static void close_streams(struct connection *connection)
{
    struct link_stream *stream;
    struct link_stream *next;
    HASH_ITER(hh, connection->streams, stream, next)
    {
        stream_close(stream, -EPIPE, LINK_RESET_LOST);
    }
}

void connection_end(struct connection *connection, enum link_reason reason)
{
    if (!connection || connection->state == CONNECTION_ENDED) {
        return;
    }
    const bool was_open = is_standing(connection);
    leave_list(connection);
    connection->state = CONNECTION_ENDED;
    if (connection->is_dirty) {
        DL_DELETE2(connection->thread->dirty, connection, dirty_prev, dirty_next);
        connection->is_dirty = false;
    }
    count_end(connection->thread, reason);
    uv_close((uv_handle_t *)&connection->poll, on_closed);
    connection_drop_batch(connection);
    close_streams(connection);
    if (was_open && connection->link->options.disconnected) {
        connection->link->options.disconnected(connection->link->options.context, &connection->info,
                                               reason);
    }
    if (connection->peer && connection->peer->connection == connection) {
        peer_lost_connection(connection->peer, was_open, reason);
    }
}

static void add_preamble(struct connection *connection, const struct node_id *expected,
                         enum link_reason verdict, struct buf *ret_bytes)
{
    const struct link_options *options = &connection->link->options;
    const struct peer *peer = connection->peer;
    const struct preamble preamble = {
        .verdict = (uint8_t)verdict,
        .id = options->id,
        .boot_nonce = options->boot_nonce,
        .expected = *expected,
        .number = connection->number,
        .known_nonce = peer ? peer->known_nonce : 0,
        .known_number = peer ? peer->known_number : 0,
    };
    preamble_format(&preamble, ret_bytes);
}

/* Says why and ends. The kernel has room for the first bytes of a connection. */
static void refuse(struct connection *connection, enum link_reason reason)
{
    static const struct node_id nobody;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    add_preamble(connection, &nobody, reason, &bytes);
    const struct iovec piece = {.iov_base = bytes.data, .iov_len = bytes.size};
    (void)!transport_write(&connection->transport, &piece, 1);
    connection_end(connection, reason);
}

static void open_connection(struct connection *connection, const struct preamble *theirs)
{
    const struct link_options *options = &connection->link->options;
    connection->state = CONNECTION_OPEN;
    connection->info = (struct link_peer){
        .id = theirs->id,
        .boot_nonce = theirs->boot_nonce,
        .address = transport_peer(&connection->transport),
        .is_outgoing = connection->is_outgoing,
    };
    transport_set_user_timeout(&connection->transport, options->stall_ms);
    connection->pinged_ms = thread_now_ms(connection->thread);
    connection->thread->counters.connected++;
    if (options->connected) {
        options->connected(options->context, &connection->info);
    }
    peer_opened(connection->peer, connection);
    connection_set_dirty(connection);
}

/* On the thread of its peer: takes its place, or is refused. */
static void meet_peer(struct connection *connection)
{
    struct peer *peer = connection->peer;
    struct connection *standing = peer->connection;
    if (!peer_takes(peer, &connection->asked)) {
        refuse(connection, LINK_REASON_CROSSED);
        return;
    }
    peer->connection = connection;
    if (standing) {
        connection_end(standing,
                       is_standing(standing) ? LINK_REASON_REPLACED : LINK_REASON_CROSSED);
    }
    add_preamble(connection, &connection->asked.id, LINK_REASON_NONE, &connection->control);
    open_connection(connection, &connection->asked);
}

/* It has come over from the thread that accepted it. */
static void run_move(struct command *command)
{
    struct connection *connection = CONTAINER_OF(command, struct connection, move);
    struct link_thread *thread = connection->peer->thread;
    connection->thread = thread;
    if (thread->is_stopped || start_watching(connection, UV_READABLE) != 0) {
        count_end(thread, LINK_REASON_STOPPED);
        free_connection(connection);
        return;
    }
    DL_APPEND(thread->connections, connection);
    meet_peer(connection);
}

static void on_left(uv_handle_t *handle)
{
    struct connection *connection = handle->data;
    connection->move.run = run_move;
    thread_post(connection->peer->thread, &connection->move);
}

/* Its preamble is here, and good. */
static void find_peer(struct connection *connection)
{
    struct link_thread *thread = connection->thread;
    connection->number = connection->asked.number;
    connection->peer = peer_hold(connection->link, &connection->asked.id);
    leave_list(connection);
    connection->state = CONNECTION_MOVING;
    if (connection->peer->thread == thread) {
        DL_APPEND(thread->connections, connection);
        meet_peer(connection);
    } else {
        uv_close((uv_handle_t *)&connection->poll, on_left);
    }
}

/* What the other side said, from the point of view of one that it opened. */
static void receive_question(struct connection *connection)
{
    const struct preamble *asked = &connection->asked;
    const struct node_id *own = &connection->link->options.id;
    if (node_id_equal(&asked->id, own)) {
        refuse(connection, LINK_REASON_OWN_ID);
    } else if (!node_id_equal(&asked->expected, own)) {
        refuse(connection, LINK_REASON_OTHER_ID);
    } else if (asked->verdict != 0) {
        connection_end(connection, LINK_REASON_MALFORMED);
    } else {
        find_peer(connection);
    }
}

/* The answer to ours. */
static void receive_answer(struct connection *connection)
{
    const struct preamble *answer = &connection->asked;
    const struct link_options *options = &connection->link->options;
    if (answer->verdict != 0) {
        connection_end(connection, answer->verdict <= LINK_REASON_WIRE_MAX
                                       ? (enum link_reason)answer->verdict
                                       : LINK_REASON_BUSY);
    } else if (!node_id_equal(&answer->id, &connection->peer->id)) {
        connection_end(connection, LINK_REASON_OTHER_ID);
    } else if (!node_id_equal(&answer->expected, &options->id)) {
        connection_end(connection, LINK_REASON_MALFORMED);
    } else {
        open_connection(connection, answer);
    }
}

/* Gathers the preamble; takes its bytes off *input. */
static void receive_preamble(struct connection *connection, struct bytes *input)
{
    const size_t room = sizeof connection->preamble_bytes - connection->preamble_size;
    const size_t count = input->size < room ? input->size : room;
    const size_t before = connection->preamble_size;
    memcpy(connection->preamble_bytes + before, input->data, count);
    connection->preamble_size += count;

    size_t size = 0;
    const int err = preamble_parse(BYTES(connection->preamble_bytes, connection->preamble_size),
                                   &connection->asked, &size);
    if (err == -EAGAIN) {
        *input = BYTES(input->data, 0);
        return;
    }
    if (err == -EPROTONOSUPPORT && !connection->is_outgoing) {
        refuse(connection, LINK_REASON_VERSION);
        return;
    }
    if (err) {
        connection_end(connection, err == -EPROTO ? LINK_REASON_MALFORMED : LINK_REASON_VERSION);
        return;
    }
    *input = BYTES(input->data + (size - before), input->size - (size - before));
    if (connection->is_outgoing) {
        receive_answer(connection);
    } else if (input->size > 0) {
        connection_end(connection, LINK_REASON_MALFORMED); /* It has not been answered yet. */
    } else {
        receive_question(connection);
    }
}

static void receive(struct connection *connection, struct bytes bytes)
{
    connection->heard_ms = thread_now_ms(connection->thread);
    connection->thread->counters.received_bytes += bytes.size;
    if (connection->peer) {
        connection->peer->received_bytes += bytes.size;
    }
    if (connection->state == CONNECTION_ASKED || connection->state == CONNECTION_ASKING) {
        receive_preamble(connection, &bytes);
    }
    if (bytes.size > 0 && is_standing(connection)) {
        connection_receive(connection, bytes);
    }
}

/* The other side will send no more. */
static void receive_eof(struct connection *connection)
{
    const bool is_expected = connection->state == CONNECTION_DRAINING &&
                             connection->own_streams_count + connection->their_streams_count == 0;
    connection_end(connection, is_expected ? LINK_REASON_IDLE : LINK_REASON_LOST);
}

static bool is_reading(const struct connection *connection)
{
    return is_standing(connection) || connection->state == CONNECTION_ASKED ||
           connection->state == CONNECTION_ASKING;
}

static void on_readable(struct connection *connection)
{
    struct link_thread *thread = connection->thread;
    for (int i = 0; i < READS_MAX && is_reading(connection); i++) {
        const ssize_t size =
            transport_read(&connection->transport, thread->read_buffer, THREAD_READ_BYTES);
        if (size == -EAGAIN) {
            return;
        }
        if (size <= 0) {
            receive_eof(connection);
            return;
        }
        receive(connection, BYTES(thread->read_buffer, (size_t)size));
        if ((size_t)size < THREAD_READ_BYTES) {
            return; /* The poll tells if there is more. */
        }
    }
}

static void on_connected(struct connection *connection)
{
    if (transport_connected(&connection->transport) != 0) {
        connection_end(connection, LINK_REASON_UNREACHABLE);
        return;
    }
    connection->state = CONNECTION_ASKED;
    add_preamble(connection, &connection->peer->id, LINK_REASON_NONE, &connection->control);
    connection_flush(connection);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct connection *connection = poll->data;
    if (connection->state == CONNECTION_CONNECTING) {
        on_connected(connection);
        return;
    }
    if (status < 0) {
        receive_eof(connection);
        return;
    }
    if (events & UV_READABLE) {
        on_readable(connection);
    }
    if ((events & UV_WRITABLE) && is_reading(connection)) {
        connection_flush(connection);
    }
}

void connection_wait_writable(struct connection *connection, bool is_waiting)
{
    watch(connection, is_waiting ? UV_READABLE | UV_WRITABLE : UV_READABLE);
}

void connection_accept(struct link_thread *thread, int fd)
{
    const struct link_options *options = &thread->link->options;
    struct connection *connection = new_connection(thread, false);
    transport_accept(&connection->transport, fd);
    if (thread->link->connections_count > options->connections_max || thread->is_stopped ||
        start_watching(connection, UV_READABLE) != 0) {
        count_end(thread, thread->is_stopped ? LINK_REASON_STOPPED : LINK_REASON_BUSY);
        free_connection(connection);
        return;
    }
    connection->state = CONNECTION_ASKING;
    if (thread->handshakes_count >= LINK_HANDSHAKES_MAX / thread->link->threads_count) {
        connection_end(thread->handshakes, LINK_REASON_SHED);
    }
    DL_APPEND(thread->handshakes, connection);
    thread->handshakes_count++;
}

void connection_connect(struct peer *peer)
{
    struct link_thread *thread = peer->thread;
    const struct link_options *options = &thread->link->options;
    struct connection *connection = new_connection(thread, true);
    connection->number = ++thread->link->connections_opened;
    connection->peer = peer_hold_again(peer);
    if (peer->address.port == 0 ||
        transport_connect(&connection->transport, &peer->address, &options->source) != 0 ||
        start_watching(connection, UV_WRITABLE) != 0) {
        count_end(thread, LINK_REASON_UNREACHABLE);
        peer_lost_connection(peer, false, LINK_REASON_UNREACHABLE);
        free_connection(connection);
        return;
    }
    connection->state = CONNECTION_CONNECTING;
    DL_APPEND(thread->connections, connection);
    peer->connection = connection;
}

void connection_say_goodbye(struct connection *connection)
{
    connection->state = CONNECTION_DRAINING;
    connection->has_said_goodbye = true;
    connection_add_control(connection, FRAME_GOODBYE, 0, 0, 0);
}

void connection_set_dirty(struct connection *connection)
{
    if (!connection->is_dirty && is_standing(connection)) {
        connection->is_dirty = true;
        DL_APPEND2(connection->thread->dirty, connection, dirty_prev, dirty_next);
    }
}

uint32_t connection_take_number(struct connection *connection)
{
    const uint32_t number = connection->next_number;
    connection->next_number += 2;
    if (connection->next_number > NUMBER_MAX && connection->state == CONNECTION_OPEN) {
        connection_say_goodbye(connection);
    }
    return number;
}

bool connection_is_theirs(const struct connection *connection, uint32_t number)
{
    return number % 2 == (connection->is_outgoing ? 0 : 1);
}

static bool is_over(uint64_t since_ms, unsigned limit_ms, uint64_t now_ms)
{
    return now_ms >= since_ms + limit_ms;
}

static void ping(struct connection *connection, uint64_t now_ms)
{
    connection->pinged_ms = now_ms;
    connection->pinged_ns = uv_hrtime();
    connection_add_control(connection, FRAME_PING, 0, connection->pinged_ns,
                           sizeof connection->pinged_ns);
}

static void tick_standing(struct connection *connection, uint64_t now_ms)
{
    const struct link_options *options = &connection->link->options;
    const bool is_free = connection->own_streams_count + connection->their_streams_count == 0;
    if (is_over(connection->heard_ms, 2 * options->keepalive_ms, now_ms)) {
        connection_end(connection, LINK_REASON_SILENT);
    } else if (connection_has_output(connection) &&
               is_over(connection->progress_ms, options->stall_ms, now_ms)) {
        connection_end(connection, LINK_REASON_STALLED);
    } else if (connection->state == CONNECTION_DRAINING) {
        if (is_free && is_over(connection->used_ms, options->handshake_ms, now_ms)) {
            connection_end(connection, LINK_REASON_IDLE);
        }
    } else if (is_free && !connection_has_output(connection) &&
               is_over(connection->used_ms, options->idle_ms, now_ms)) {
        connection_say_goodbye(connection);
    } else if (is_over(connection->pinged_ms, options->keepalive_ms, now_ms)) {
        ping(connection, now_ms);
    }
}

void connection_forgive(struct connection *connection, uint64_t now_ms)
{
    connection->heard_ms = now_ms;
    connection->progress_ms = now_ms;
}

void connection_tick(struct connection *connection, uint64_t now_ms)
{
    if (is_standing(connection)) {
        tick_standing(connection, now_ms);
    } else if (connection->state != CONNECTION_ENDED &&
               is_over(connection->started_ms, connection->link->options.handshake_ms, now_ms)) {
        connection_end(connection, LINK_REASON_SLOW);
    }
}
