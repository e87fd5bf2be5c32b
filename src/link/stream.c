/* SPDX-License-Identifier: Apache-2.0 */
#include "link/stream_priv.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/list.h"
#include "base/mem.h"
#include "link/connection_priv.h"
#include "link/link_priv.h"
#include "link/message_priv.h"

static size_t cost_of(size_t size_bytes)
{
    return size_bytes > LINK_WRITE_COST_BYTES ? size_bytes : LINK_WRITE_COST_BYTES;
}

void stream_hold(struct link_stream *stream)
{
    stream->refs_count++;
}

void stream_release(struct link_stream *stream)
{
    if (--stream->refs_count == 0) {
        CHECK(stream->is_closed && !stream->writes);
        buf_done(&stream->assembly.bytes);
        peer_release(stream->peer);
        free(stream);
    }
}

/* Commands: each holds the stream while it is in the inbox. */

static void post(struct link_stream *stream, struct command *command)
{
    stream_hold(stream);
    thread_post(stream->thread, command);
}

static void run_open(struct command *command)
{
    struct link_stream *stream = CONTAINER_OF(command, struct link_stream, open);
    struct peer *peer = stream->peer;
    struct connection *connection = peer->connection;
    stream->thread->counters.streams_opened++;
    stream->thread->counters.streams++;
    if (connection && connection->state == CONNECTION_OPEN) {
        stream_attach(stream, connection, connection_take_number(connection));
    } else {
        stream->is_pending = true;
        DL_APPEND(peer->pending_streams, stream);
        peer_want_connection(peer, &stream->address);
    }
    stream_release(stream);
}

static void run_end(struct command *command)
{
    struct link_stream *stream = CONTAINER_OF(command, struct link_stream, end);
    stream->is_ending = true;
    stream_wake(stream);
    stream_release(stream);
}

static void run_reset(struct command *command)
{
    struct link_stream *stream = CONTAINER_OF(command, struct link_stream, reset);
    stream_reset(stream, stream->reset_code);
    stream_release(stream);
}

static void run_grant(struct command *command)
{
    struct link_stream *stream = CONTAINER_OF(command, struct link_stream, grant);
    stream->is_grant_posted = false; /* before it is read: what comes after posts anew */
    stream_add_grant(stream, atomic_exchange(&stream->granted_bytes, 0));
    stream_release(stream);
}

static void run_write(struct command *command)
{
    struct write *write = CONTAINER_OF(command, struct write, command);
    stream_queue(write->stream, write);
}

/* On the thread. */

struct link_stream *stream_new(struct peer *peer, uint8_t service, bool is_messages, bool is_own)
{
    struct link_stream *stream = mem_alloc(sizeof *stream);
    stream->link = peer->link;
    stream->thread = peer->thread;
    stream->peer = peer_hold_again(peer);
    stream->service = service;
    stream->is_messages = is_messages;
    stream->is_own = is_own;
    stream->info.id = peer->id;
    stream->window_bytes = LINK_WINDOW_BYTES_DEFAULT;
    stream->refs_count = 1;
    stream->open.run = run_open;
    stream->end.run = run_end;
    stream->reset.run = run_reset;
    stream->grant.run = run_grant;
    return stream;
}

/* Where the connection counts it; NULL: nowhere. */
static uint32_t *place_in(struct link_stream *stream, struct connection *connection)
{
    if (stream->is_messages) {
        return NULL;
    }
    return stream->is_own ? &connection->own_streams_count : &connection->their_streams_count;
}

static struct link_stream **messages_of(struct link_stream *stream, struct connection *connection)
{
    return stream->is_own ? &connection->messages_to[stream->service]
                          : &connection->messages_from[stream->service];
}

void stream_attach(struct link_stream *stream, struct connection *connection, uint32_t number)
{
    if (stream->is_pending) {
        DL_DELETE(stream->peer->pending_streams, stream);
        stream->is_pending = false;
    }
    pthread_mutex_lock(&stream->link->lock);
    stream->info = connection->info;
    pthread_mutex_unlock(&stream->link->lock);
    stream->connection = connection;
    stream->number = number;
    stream->is_open_sent = !stream->is_own;
    stream->send_credit_bytes = LINK_WINDOW_BYTES_MIN;
    stream->receive_credit_bytes = LINK_WINDOW_BYTES_MIN;
    stream->grant_bytes = stream->window_bytes - LINK_WINDOW_BYTES_MIN;
    HASH_ADD(hh, connection->streams, number, sizeof stream->number, stream);
    uint32_t *count = place_in(stream, connection);
    if (count) {
        (*count)++;
        stream->peer->streams_count++;
    } else {
        *messages_of(stream, connection) = stream;
    }
    if (!stream->is_own && !stream->is_messages) {
        stream->thread->counters.streams++;
    }
    stream_wake(stream);
}

static void detach(struct link_stream *stream)
{
    struct connection *connection = stream->connection;
    if (stream->is_pending) {
        DL_DELETE(stream->peer->pending_streams, stream);
        stream->is_pending = false;
    }
    if (!connection) {
        return;
    }
    HASH_DEL(connection->streams, stream);
    if (stream->is_ready) {
        DL_DELETE(connection->ready, stream);
        stream->is_ready = false;
    }
    uint32_t *count = place_in(stream, connection);
    if (count) {
        (*count)--;
        stream->peer->streams_count--;
    } else {
        *messages_of(stream, connection) = NULL;
    }
    stream->connection = NULL;
    connection_set_dirty(connection); /* It may have waited for this one's end. */
}

bool stream_owes_credit(const struct link_stream *stream)
{
    /* In quarters of the window, so that small reads do not cost a frame each; or at once, if the
     * other side can hardly send any more. */
    const uint64_t worthwhile = stream->window_bytes / 4;
    return stream->grant_bytes > 0 && !stream->has_ended &&
           (stream->grant_bytes >= worthwhile || stream->receive_credit_bytes < worthwhile);
}

bool stream_has_output(const struct link_stream *stream)
{
    return !stream->is_open_sent || stream_owes_credit(stream) ||
           (stream->writes && stream->send_credit_bytes > 0) ||
           (!stream->writes && stream->is_ending && !stream->is_end_sent);
}

void stream_wake(struct link_stream *stream)
{
    struct connection *connection = stream->connection;
    if (connection && !stream->is_ready && stream_has_output(stream)) {
        if (!connection_has_output(connection)) {
            connection->progress_ms = thread_now_ms(stream->thread);
        }
        stream->is_ready = true;
        DL_APPEND(connection->ready, stream);
        connection_set_dirty(connection);
    }
}

void stream_queue(struct link_stream *stream, struct write *write)
{
    stream->writes_count++;
    if (stream->is_closed) {
        stream_finish_write(write, -EPIPE);
        return;
    }
    write->is_queued = true;
    DL_APPEND(stream->writes, write);
    stream_wake(stream);
}

static void tell_writable(struct link_stream *stream)
{
    if (!stream->is_closed && stream->queued_bytes < LINK_STREAM_QUEUE_BYTES_MAX / 2 &&
        stream->peer->queued_bytes < LINK_PEER_QUEUE_BYTES_MAX / 2 &&
        atomic_exchange(&stream->wants_writable, false) && !stream->is_quiet &&
        stream->handlers.writable) {
        stream->handlers.writable(stream->context, stream);
    }
}

/* The peer as a whole was full: all that were refused may write again. */
static void tell_all_writable(struct connection *connection)
{
    struct link_stream *stream;
    struct link_stream *next;
    HASH_ITER(hh, connection->streams, stream, next)
    {
        tell_writable(stream);
    }
}

void stream_finish_write(struct write *write, int err)
{
    struct link_stream *stream = write->stream;
    struct peer *peer = stream->peer;
    const size_t cost = stream->is_messages ? 0 : cost_of(write->size_bytes);
    stream->queued_bytes -= cost;
    peer->queued_bytes -= cost;
    write->finish(write, err);
    stream->writes_count--;
    tell_writable(stream);
    if (peer->is_crowded && peer->queued_bytes < LINK_PEER_QUEUE_BYTES_MAX / 2) {
        peer->is_crowded = false;
        if (stream->connection) {
            tell_all_writable(stream->connection);
        }
    }
    stream_check_end(stream);
    stream_release(stream);
}

void stream_check_end(struct link_stream *stream)
{
    if (!stream->is_closed && stream->is_end_sent && stream->has_ended &&
        stream->writes_count == 0) {
        stream_close(stream, 0, LINK_RESET_NONE);
    }
}

static void drop_writes(struct link_stream *stream, int err)
{
    while (stream->writes) {
        struct write *write = stream->writes;
        DL_DELETE(stream->writes, write);
        write->is_queued = false;
        write->err = err;
        if (write->pieces_count == 0) {
            stream_finish_write(write, err);
        }
    }
}

void stream_close(struct link_stream *stream, int err, uint32_t code)
{
    if (stream->is_closed) {
        return;
    }
    stream_hold(stream);
    stream->is_closed = true;
    detach(stream);
    drop_writes(stream, err);
    message_drop_assembly(stream);
    if (!stream->is_messages) {
        stream->thread->counters.streams--;
        stream->peer->own_streams_count -= stream->is_own;
    }
    if (stream->handlers.closed) {
        stream->handlers.closed(stream->context, stream, err, code);
    }
    stream_release(stream);
    stream_release(stream); /* the connection's */
}

void stream_reset(struct link_stream *stream, uint32_t code)
{
    if (stream->is_closed) {
        return;
    }
    if (stream->connection && stream->is_open_sent) {
        connection_add_control(stream->connection, FRAME_RESET, stream->number, code, 4);
    }
    stream_close(stream, -ECANCELED, code);
}

int stream_receive(struct link_stream *stream, struct bytes bytes)
{
    if (stream->has_ended) {
        return -EPROTO;
    }
    if (bytes.size > stream->receive_credit_bytes) {
        return -EOVERFLOW;
    }
    stream->receive_credit_bytes -= bytes.size;
    stream->held_bytes += bytes.size;
    if (stream->is_messages) {
        const int err = message_receive(stream, bytes);
        stream_add_grant(stream, bytes.size);
        return err;
    }
    if (!stream->is_quiet && stream->handlers.data) {
        stream->handlers.data(stream->context, stream, bytes);
    }
    return 0;
}

void stream_receive_end(struct link_stream *stream)
{
    stream->has_ended = true;
    if (!stream->is_quiet && stream->handlers.end) {
        stream->handlers.end(stream->context, stream);
    }
    if (stream->is_messages) {
        stream->is_ending = true; /* Nothing goes back. */
        stream_wake(stream);
    }
    stream_check_end(stream);
}

void stream_add_grant(struct link_stream *stream, uint64_t bytes_count)
{
    CHECK(bytes_count <= stream->held_bytes);
    stream->held_bytes -= bytes_count;
    stream->grant_bytes += bytes_count;
    stream_wake(stream);
}

/* From any thread. */

int link_stream_open(struct link *link, const struct link_stream_options *options,
                     struct link_stream **ret_stream)
{
    const uint32_t window_bytes =
        options->window_bytes ? options->window_bytes : LINK_WINDOW_BYTES_DEFAULT;
    if (node_id_equal(&options->peer, &link->options.id) || options->service == 0 ||
        options->service > LINK_SERVICES_MAX || !options->handlers.closed ||
        window_bytes < LINK_WINDOW_BYTES_MIN || window_bytes > LINK_WINDOW_BYTES_MAX) {
        return -EINVAL;
    }
    struct peer *peer = peer_hold(link, &options->peer);
    if (peer->own_streams_count++ >= LINK_PEER_STREAMS_MAX) {
        peer->own_streams_count--;
        peer_release(peer);
        return -EAGAIN;
    }
    struct link_stream *stream = stream_new(peer, options->service, false, true);
    peer_release(peer);
    stream->address = options->address;
    stream->handlers = options->handlers;
    stream->context = options->context;
    stream->window_bytes = window_bytes;
    stream_hold(stream);
    *ret_stream = stream;
    post(stream, &stream->open);
    return 0;
}

void link_stream_free(struct link_stream *stream)
{
    if (stream) {
        if (!stream->is_closed) {
            link_stream_reset(stream, LINK_RESET_CANCELED);
        }
        stream_release(stream);
    }
}

struct user_write {
    struct write write;
    link_release *release;
    void *context;
    uint8_t copy[];
};

static void finish_user_write(struct write *write, int err)
{
    struct user_write *user = CONTAINER_OF(write, struct user_write, write);
    if (user->release) {
        user->release(user->context, err);
    }
    free(user);
}

static bool is_full(const struct link_stream *stream)
{
    return stream->queued_bytes >= LINK_STREAM_QUEUE_BYTES_MAX ||
           stream->peer->queued_bytes >= LINK_PEER_QUEUE_BYTES_MAX;
}

/* 0, or -EAGAIN and `writable` will be called. */
static int check_room(struct link_stream *stream)
{
    if (!is_full(stream)) {
        return 0;
    }
    stream->wants_writable = true;
    if (stream->peer->queued_bytes >= LINK_PEER_QUEUE_BYTES_MAX) {
        stream->peer->is_crowded = true;
    }
    /* If all was sent between the look and the wish, nobody would see the wish. */
    if (!is_full(stream) && atomic_exchange(&stream->wants_writable, false)) {
        return 0;
    }
    return -EAGAIN;
}

int link_stream_write(struct link_stream *stream, struct bytes bytes, link_release *release,
                      void *context)
{
    if (bytes.size == 0 || bytes.size > LINK_WRITE_BYTES_MAX) {
        return bytes.size ? -EFBIG : -EINVAL;
    }
    if (stream->is_closed || stream->is_end_asked || stream->is_reset_asked) {
        return -EPIPE;
    }
    const int err = check_room(stream);
    if (err) {
        return err;
    }
    struct user_write *user = mem_alloc(sizeof *user + (release ? 0 : bytes.size));
    user->release = release;
    user->context = context;
    if (!release) {
        memcpy(user->copy, bytes.data, bytes.size);
    }
    user->write = (struct write){
        .command.run = run_write,
        .stream = stream,
        .data = release ? bytes.data : user->copy,
        .size_bytes = bytes.size,
        .finish = finish_user_write,
    };
    stream->queued_bytes += cost_of(bytes.size);
    stream->peer->queued_bytes += cost_of(bytes.size);
    post(stream, &user->write.command);
    return 0;
}

size_t link_stream_queued_bytes(const struct link_stream *stream)
{
    return stream->queued_bytes;
}

void link_stream_end(struct link_stream *stream)
{
    if (!stream->is_closed && !atomic_exchange(&stream->is_end_asked, true)) {
        post(stream, &stream->end);
    }
}

void link_stream_reset(struct link_stream *stream, uint32_t code)
{
    if (!stream->is_closed && !atomic_exchange(&stream->is_reset_asked, true)) {
        stream->reset_code = code;
        stream->is_quiet = true;
        post(stream, &stream->reset);
    }
}

void link_stream_grant(struct link_stream *stream, size_t bytes_count)
{
    if (stream->is_closed || bytes_count == 0) {
        return;
    }
    stream->granted_bytes += bytes_count;
    if (!atomic_exchange(&stream->is_grant_posted, true)) {
        post(stream, &stream->grant);
    }
}

struct link_peer link_stream_peer(const struct link_stream *stream)
{
    pthread_mutex_lock(&stream->link->lock);
    const struct link_peer peer = stream->info;
    pthread_mutex_unlock(&stream->link->lock);
    return peer;
}
