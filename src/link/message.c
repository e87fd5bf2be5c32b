/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Messages go one after the other, each behind its length, through one stream for each service and
 * direction. One that comes in whole is handed out from the read buffer; one that comes in pieces
 * is gathered first, in memory that grows with what has come and not with what was announced.
 */

#include "link/message_priv.h"

#include <stdlib.h>

#include "base/codec.h"
#include "base/err.h"
#include "base/list.h"
#include "base/mem.h"
#include "link/connection_priv.h"
#include "link/link_priv.h"

struct message_write {
    struct write write;
    struct peer *peer; /* held */
    struct address address;
    uint8_t service;
    void (*done)(void *context, int err);
    void *context;
    uint8_t bytes[]; /* the length, the message */
};

static size_t cost_of(size_t size_bytes)
{
    return size_bytes + LINK_WRITE_COST_BYTES;
}

static void finish(struct write *write, int err)
{
    struct message_write *message = CONTAINER_OF(write, struct message_write, write);
    struct peer *peer = message->peer;
    if (err) {
        peer->thread->counters.messages_failed++;
    } else {
        peer->thread->counters.messages_sent++;
    }
    peer->message_bytes -= cost_of(write->size_bytes);
    if (message->done) {
        message->done(message->context, err);
    }
    free(message);
    peer_release(peer);
}

static struct link_stream *stream_to(struct connection *connection, uint8_t service)
{
    struct link_stream *stream = connection->messages_to[service];
    if (!stream) {
        stream = stream_new(connection->peer, service, true, true);
        stream_attach(stream, connection, connection_take_number(connection));
    }
    return stream;
}

void message_send(struct connection *connection, struct write *write)
{
    const struct message_write *message = CONTAINER_OF(write, struct message_write, write);
    write->stream = stream_to(connection, message->service);
    stream_hold(write->stream);
    stream_queue(write->stream, write);
}

static void run_message(struct command *command)
{
    struct write *write = CONTAINER_OF(command, struct write, command);
    const struct message_write *message = CONTAINER_OF(write, struct message_write, write);
    struct peer *peer = message->peer;
    if (peer->connection && peer->connection->state == CONNECTION_OPEN) {
        message_send(peer->connection, write);
        return;
    }
    const struct address address = message->address;
    DL_APPEND(peer->pending_messages, write);
    peer_want_connection(peer, &address);
}

int link_send_message(struct link *link, const struct link_message *message)
{
    if (node_id_equal(&message->peer, &link->options.id) || message->service == 0 ||
        message->service > LINK_SERVICES_MAX) {
        return -EINVAL;
    }
    const size_t size = message->bytes.size;
    if (size > LINK_MESSAGE_BYTES_MAX) {
        return -EFBIG;
    }
    const size_t size_sent = size + sizeof(uint32_t);
    struct peer *peer = peer_hold(link, &message->peer);
    const size_t before = atomic_fetch_add(&peer->message_bytes, cost_of(size_sent));
    if (before + cost_of(size_sent) > LINK_PEER_MESSAGE_BYTES_MAX) {
        peer->message_bytes -= cost_of(size_sent);
        peer_release(peer);
        return -EAGAIN;
    }
    struct message_write *queued = mem_alloc(sizeof *queued + size_sent);
    queued->peer = peer;
    queued->address = message->address;
    queued->service = message->service;
    queued->done = message->done;
    queued->context = message->context;
    codec_put_le32(queued->bytes, (uint32_t)size);
    if (size > 0) {
        memcpy(queued->bytes + sizeof(uint32_t), message->bytes.data, size);
    }
    queued->write = (struct write){
        .command.run = run_message,
        .data = queued->bytes,
        .size_bytes = size_sent,
        .finish = finish,
    };
    thread_post(peer->thread, &queued->write.command);
    return 0;
}

/* Receiving. */

static void deliver(struct link_stream *stream, struct bytes bytes)
{
    const struct link_service *service = &stream->link->services[stream->service];
    stream->thread->counters.messages_received++;
    service->message(service->context, &stream->info, bytes);
}

void message_drop_assembly(struct link_stream *stream)
{
    stream->link->assembly_bytes -= stream->assembly.bytes.size;
    buf_done(&stream->assembly.bytes);
    stream->assembly = (struct assembly){0};
}

/* Takes the length off *bytes; false: more has to come. */
static bool take_head(struct assembly *assembly, struct bytes *bytes)
{
    const size_t missing = sizeof assembly->head - assembly->head_bytes;
    const size_t count = missing < bytes->size ? missing : bytes->size;
    if (count > 0) {
        memcpy(assembly->head + assembly->head_bytes, bytes->data, count);
        *bytes = BYTES(bytes->data + count, bytes->size - count);
        assembly->head_bytes += count;
        assembly->left_bytes = codec_get_le32(assembly->head);
    }
    return assembly->head_bytes == sizeof assembly->head;
}

/* One more piece of a message that does not come at once. */
static void gather(struct link_stream *stream, struct bytes piece)
{
    struct assembly *assembly = &stream->assembly;
    struct link *link = stream->link;
    if (!assembly->is_dropped && atomic_fetch_add(&link->assembly_bytes, piece.size) + piece.size >
                                     LINK_ASSEMBLY_BYTES_MAX) {
        link->assembly_bytes -= piece.size + assembly->bytes.size;
        buf_done(&assembly->bytes);
        assembly->is_dropped = true;
        stream->thread->counters.messages_dropped++;
    }
    if (!assembly->is_dropped) {
        buf_add(&assembly->bytes, piece);
    }
    assembly->left_bytes -= (uint32_t)piece.size;
}

int message_receive(struct link_stream *stream, struct bytes bytes)
{
    struct assembly *assembly = &stream->assembly;
    if (stream->is_own) {
        return -EPROTO; /* Messages go one way. */
    }
    while (take_head(assembly, &bytes)) {
        if (assembly->left_bytes > LINK_MESSAGE_BYTES_MAX) {
            return -EPROTO;
        }
        const size_t left = assembly->left_bytes;
        const struct bytes piece = BYTES(bytes.data, bytes.size < left ? bytes.size : left);
        const bool is_whole = piece.size == left;
        bytes = BYTES(bytes.data + piece.size, bytes.size - piece.size);
        if (is_whole && assembly->bytes.size == 0 && !assembly->is_dropped) {
            deliver(stream, piece);
        } else {
            gather(stream, piece);
        }
        if (!is_whole) {
            return 0;
        }
        if (assembly->bytes.size > 0 && !assembly->is_dropped) {
            deliver(stream, buf_bytes(&assembly->bytes));
        }
        message_drop_assembly(stream);
    }
    return 0;
}
