/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What goes out of a connection. Streams that have something to send stand in a ring; each gets a
 * frame in turn, so that none waits for more than one frame of every other. Frames are gathered
 * into a batch of pieces that point at the bytes of the writes themselves, and a batch is one
 * system call, if the kernel takes it whole. A batch is small, so that who comes to the ring later
 * does not wait for long.
 */

#include "base/codec.h"
#include "base/list.h"
#include "link/connection_priv.h"

/* Batches of one connection before others get their turn. */
#define FLUSHES_MAX 8

void connection_add_control(struct connection *connection, enum frame_type type, uint32_t stream,
                            uint64_t value, size_t size)
{
    if (connection->state == CONNECTION_ENDED || connection->has_ended_writing) {
        return;
    }
    uint8_t frame[FRAME_HEADER_BYTES + 8];
    buf_add(&connection->control,
            BYTES(frame, frame_put_control(frame, type, stream, value, size)));
    connection->thread->counters.sent_frames++;
    if (type != FRAME_PING && type != FRAME_PONG) {
        connection->used_ms = thread_now_ms(connection->thread);
    }
    connection_set_dirty(connection);
}

bool connection_has_output(const struct connection *connection)
{
    return !connection->has_ended_writing &&
           (connection->batch.begin < connection->batch.count || connection->control.size > 0 ||
            connection->has_pong || connection->ready);
}

static void add_piece(struct batch *batch, const void *data, size_t size, struct write *owner)
{
    batch->pieces[batch->count] =
        (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    batch->owners[batch->count] = owner;
    batch->count++;
}

/* The bytes of the stream's next DATA frame, as pieces; returns how many. */
static uint32_t gather_data(struct link_stream *stream, struct batch *batch)
{
    uint32_t left = stream->send_credit_bytes < BATCH_FRAME_BYTES
                        ? (uint32_t)stream->send_credit_bytes
                        : BATCH_FRAME_BYTES;
    uint32_t gathered = 0;
    for (unsigned i = 0; i < BATCH_FRAME_PIECES_MAX && left > 0 && stream->writes; i++) {
        struct write *write = stream->writes;
        const size_t rest = write->size_bytes - write->taken_bytes;
        const uint32_t count = rest < left ? (uint32_t)rest : left;
        add_piece(batch, write->data + write->taken_bytes, count, write);
        write->pieces_count++;
        write->taken_bytes += count;
        if (write->taken_bytes == write->size_bytes) {
            DL_DELETE(stream->writes, write);
            write->is_queued = false;
        }
        gathered += count;
        left -= count;
    }
    stream->send_credit_bytes -= gathered;
    return gathered;
}

static size_t put_open(struct link_stream *stream, uint8_t *head)
{
    const unsigned kind = stream->is_messages ? FRAME_KIND_MESSAGES : FRAME_KIND_STREAM;
    stream->is_open_sent = true;
    return frame_put_control(head, FRAME_OPEN, stream->number, stream->service | kind << 8, 2);
}

static size_t put_credit(struct link_stream *stream, uint8_t *head)
{
    const uint64_t bytes_count = stream->grant_bytes;
    stream->receive_credit_bytes += bytes_count;
    stream->grant_bytes = 0;
    return frame_put_control(head, FRAME_CREDIT, stream->number, bytes_count, 4);
}

/* What the stream has to say now: up to one frame of each kind. Returns the bytes of it. */
static size_t add_stream(struct connection *connection, struct link_stream *stream)
{
    struct batch *batch = &connection->batch;
    struct thread_counters *counters = &connection->thread->counters;
    uint8_t *head = batch->heads[batch->frames_count++];
    size_t head_bytes = 0;
    if (!stream->is_open_sent) {
        head_bytes += put_open(stream, head);
        counters->sent_frames++;
    }
    if (stream_owes_credit(stream)) {
        head_bytes += put_credit(stream, head + head_bytes);
        counters->sent_frames++;
    }
    const size_t head_at = batch->count;
    add_piece(batch, head, 0, NULL); /* its size is known below */
    const uint32_t data_bytes = gather_data(stream, batch);
    const bool is_end = stream->is_ending && !stream->is_end_sent && !stream->writes;
    if (data_bytes > 0 || is_end) {
        const struct frame frame = {
            .length = data_bytes,
            .stream = stream->number,
            .type = FRAME_DATA,
            .flags = is_end ? FRAME_FLAG_END : 0,
        };
        frame_put(head + head_bytes, &frame);
        head_bytes += FRAME_HEADER_BYTES;
        stream->is_end_sent = is_end;
        counters->sent_frames++;
    }
    batch->pieces[head_at].iov_len = head_bytes;
    return head_bytes + data_bytes;
}

static void take_turns(struct connection *connection)
{
    struct batch *batch = &connection->batch;
    size_t bytes = 0;
    while (connection->ready && bytes < BATCH_BYTES_MAX && batch->frames_count < BATCH_FRAMES_MAX &&
           batch->count + 1 + BATCH_FRAME_PIECES_MAX <= BATCH_PIECES_MAX) {
        struct link_stream *stream = connection->ready;
        DL_DELETE(connection->ready, stream);
        stream->is_ready = false;
        bytes += add_stream(connection, stream);
        if (stream_has_output(stream)) {
            DL_APPEND(connection->ready, stream);
            stream->is_ready = true;
        } else if (stream->is_end_sent) {
            stream_check_end(stream);
        }
    }
    if (bytes > 0) {
        connection->used_ms = thread_now_ms(connection->thread);
    }
}

static void fill_batch(struct connection *connection)
{
    struct batch *batch = &connection->batch;
    batch->begin = 0;
    batch->count = 0;
    batch->frames_count = 0;
    buf_clear(&batch->control);
    if (connection->has_pong) {
        connection->has_pong = false;
        connection_add_control(connection, FRAME_PONG, 0, connection->pong_token,
                               sizeof connection->pong_token);
    }
    if (connection->control.size > 0) {
        const struct buf emptied = batch->control;
        batch->control = connection->control;
        connection->control = emptied;
        add_piece(batch, batch->control.data, batch->control.size, NULL);
    }
    take_turns(connection);
}

/* A piece has been sent, or is dropped. */
static void let_go(struct write *write, int err)
{
    if (write && --write->pieces_count == 0 && !write->is_queued) {
        stream_finish_write(write, write->err ? write->err : err);
    }
}

static void advance(struct connection *connection, size_t sent_bytes)
{
    struct batch *batch = &connection->batch;
    connection->thread->counters.sent_bytes += sent_bytes;
    connection->peer->sent_bytes += sent_bytes;
    connection->progress_ms = thread_now_ms(connection->thread);
    while (batch->begin < batch->count && sent_bytes >= batch->pieces[batch->begin].iov_len) {
        sent_bytes -= batch->pieces[batch->begin].iov_len;
        let_go(batch->owners[batch->begin++], 0);
    }
    if (sent_bytes > 0) {
        struct iovec *piece = &batch->pieces[batch->begin];
        piece->iov_base = (uint8_t *)piece->iov_base + sent_bytes;
        piece->iov_len -= sent_bytes;
    }
}

void connection_drop_batch(struct connection *connection)
{
    struct batch *batch = &connection->batch;
    while (batch->begin < batch->count) {
        let_go(batch->owners[batch->begin++], -EPIPE);
    }
}

/* After a goodbye from the other side: it waits for our end. */
static void end_writing_if_done(struct connection *connection)
{
    if (connection->state == CONNECTION_DRAINING && connection->has_heard_goodbye &&
        !connection->has_ended_writing && connection->own_streams_count == 0 &&
        connection->their_streams_count == 0) {
        connection->has_ended_writing = true;
        transport_end(&connection->transport);
    }
}

void connection_flush(struct connection *connection)
{
    struct batch *batch = &connection->batch;
    for (int i = 0; i < FLUSHES_MAX; i++) {
        if (batch->begin == batch->count) {
            if (!connection_has_output(connection)) {
                connection_wait_writable(connection, false);
                end_writing_if_done(connection);
                return;
            }
            fill_batch(connection);
        }
        const ssize_t sent = transport_write(&connection->transport, batch->pieces + batch->begin,
                                             batch->count - batch->begin);
        if (sent == -EAGAIN) {
            break;
        }
        if (sent < 0) {
            connection_end(connection, LINK_REASON_LOST);
            return;
        }
        advance(connection, (size_t)sent);
    }
    connection_wait_writable(connection, true);
}
