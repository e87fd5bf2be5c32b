/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What comes in on a connection, frame by frame. Whatever a peer sends costs us at most what is
 * bounded in connection_priv.h and stream.h; what breaks a rule ends the connection.
 */

#include "base/codec.h"
#include "link/connection_priv.h"
#include "link/link_priv.h"

/* More credit than any window makes no sense. */
#define CREDIT_BYTES_MAX ((uint64_t)2 * LINK_WINDOW_BYTES_MAX)

static struct link_stream *find_stream(const struct connection *connection, uint32_t number)
{
    struct link_stream *stream = NULL;
    HASH_FIND(hh, connection->streams, &number, sizeof number, stream);
    return stream;
}

/* A stream with this number was opened once; what still comes for it was on its way when it was
 * closed here. */
static bool was_opened(const struct connection *connection, uint32_t number)
{
    return connection_is_theirs(connection, number) ? number <= connection->last_number
                                                    : number < connection->next_number;
}

static void refuse_stream(struct connection *connection, uint32_t number, enum link_reset code)
{
    connection->thread->counters.streams_refused++;
    connection_add_control(connection, FRAME_RESET, number, code, 4);
}

static const struct link_service *find_service(const struct connection *connection, uint8_t number,
                                               unsigned kind)
{
    if (number > LINK_SERVICES_MAX || kind > FRAME_KIND_MESSAGES) {
        return NULL;
    }
    const struct link_service *service = &connection->link->services[number];
    const bool is_offered =
        kind == FRAME_KIND_MESSAGES ? service->message != NULL : service->accept != NULL;
    return is_offered ? service : NULL;
}

/* Asks the service; false: it does not want the stream. */
static bool offer(struct link_stream *stream, const struct link_service *service)
{
    struct link_stream_handlers handlers = {0};
    void *context = NULL;
    stream_hold(stream); /* the service's, or given back below */
    if (service->accept(service->context, &stream->info, stream, &handlers, &context) != 0) {
        stream_release(stream);
        return false;
    }
    CHECK(handlers.closed != NULL);
    stream->handlers = handlers;
    stream->context = context;
    return true;
}

static void accept_stream(struct connection *connection, uint32_t number,
                          const struct link_service *service, bool is_messages)
{
    struct link_stream *stream = stream_new(connection->peer, service->number, is_messages, false);
    stream->window_bytes =
        service->window_bytes ? service->window_bytes : LINK_WINDOW_BYTES_DEFAULT;
    stream_attach(stream, connection, number);
    if (!is_messages && !offer(stream, service)) {
        connection->thread->counters.streams_refused++;
        stream_reset(stream, LINK_RESET_REFUSED);
        return;
    }
    connection->thread->counters.streams_accepted += !is_messages;
}

static int receive_open(struct connection *connection, const struct frame_piece *piece)
{
    const uint32_t number = piece->frame.stream;
    const uint8_t service_number = piece->bytes.data[0];
    const unsigned kind = piece->bytes.data[1];
    if (!connection_is_theirs(connection, number) || number <= connection->last_number) {
        return -EPROTO;
    }
    connection->last_number = number;
    const struct link_service *service = find_service(connection, service_number, kind);
    if (!service) {
        refuse_stream(connection, number, LINK_RESET_NO_SERVICE);
        return 0;
    }
    const bool is_messages = kind == FRAME_KIND_MESSAGES;
    const bool is_full = is_messages ? connection->messages_from[service_number] != NULL
                                     : connection->their_streams_count >= LINK_PEER_STREAMS_MAX;
    if (is_full) {
        refuse_stream(connection, number, LINK_RESET_LIMIT);
        return 0;
    }
    accept_stream(connection, number, service, is_messages);
    return 0;
}

static int receive_data(struct link_stream *stream, const struct frame_piece *piece)
{
    if (piece->bytes.size > 0) {
        const int err = stream_receive(stream, piece->bytes);
        if (err) {
            return err;
        }
    }
    if (piece->is_last && (piece->frame.flags & FRAME_FLAG_END) && !stream->is_closed) {
        if (stream->has_ended) {
            return -EPROTO;
        }
        stream_receive_end(stream);
    }
    return 0;
}

static int receive_credit(struct link_stream *stream, const struct frame_piece *piece)
{
    stream->send_credit_bytes += codec_get_le32(piece->bytes.data);
    if (stream->send_credit_bytes > CREDIT_BYTES_MAX) {
        return -EPROTO;
    }
    stream_wake(stream);
    return 0;
}

static int receive_for_stream(struct connection *connection, const struct frame_piece *piece)
{
    struct link_stream *stream = find_stream(connection, piece->frame.stream);
    if (!stream) {
        return was_opened(connection, piece->frame.stream) ? 0 : -EPROTO;
    }
    stream_hold(stream);
    int err = 0;
    if (piece->frame.type == FRAME_DATA) {
        err = receive_data(stream, piece);
    } else if (piece->frame.type == FRAME_CREDIT) {
        err = receive_credit(stream, piece);
    } else {
        stream_close(stream, -ECANCELED, codec_get_le32(piece->bytes.data));
    }
    stream_release(stream);
    return err;
}

static void receive_pong(struct connection *connection, const struct frame_piece *piece)
{
    if (codec_get_le64(piece->bytes.data) == connection->pinged_ns) {
        const uint64_t rtt_us = (uv_hrtime() - connection->pinged_ns) / 1000;
        connection->peer->rtt_us = rtt_us < UINT32_MAX ? (uint32_t)rtt_us + 1 : UINT32_MAX;
    }
}

static int dispatch(struct connection *connection, const struct frame_piece *piece)
{
    switch (piece->frame.type) {
    case FRAME_OPEN:
        return receive_open(connection, piece);
    case FRAME_DATA:
    case FRAME_CREDIT:
    case FRAME_RESET:
        return receive_for_stream(connection, piece);
    case FRAME_PING:
        connection->pong_token = codec_get_le64(piece->bytes.data);
        connection->has_pong = true;
        connection_set_dirty(connection);
        return 0;
    case FRAME_PONG:
        receive_pong(connection, piece);
        return 0;
    case FRAME_GOODBYE:
        connection->state = CONNECTION_DRAINING;
        connection->has_heard_goodbye = true;
        connection_set_dirty(connection);
        return 0;
    default:
        connection->thread->counters.unknown_frames++;
        return 0;
    }
}

void connection_receive(struct connection *connection, struct bytes bytes)
{
    struct frame_piece piece;
    int got;
    while ((got = frame_read(&connection->reader, &bytes, &piece)) > 0) {
        connection->thread->counters.received_frames += piece.is_last;
        if (piece.frame.type != FRAME_PING && piece.frame.type != FRAME_PONG) {
            connection->used_ms = thread_now_ms(connection->thread);
        }
        const int err = dispatch(connection, &piece);
        if (err) {
            connection_end(connection,
                           err == -EOVERFLOW ? LINK_REASON_CREDIT : LINK_REASON_MALFORMED);
        } else if (connection->control.size > CONNECTION_CONTROL_BYTES_MAX) {
            connection_end(connection, LINK_REASON_FLOOD);
        }
        if (connection->state == CONNECTION_ENDED) {
            return;
        }
    }
    if (got < 0) {
        connection_end(connection, LINK_REASON_MALFORMED);
    }
}
