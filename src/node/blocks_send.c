/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The bytes that leave. transfer/upload.h says which block is next; a worker opens a view of it,
 * which checks it, and queues it on the receiver's stream; when the system has taken the last byte
 * the view is closed and upload is told. The bytes go from the mapped segment to the socket.
 *
 * Several threads write to a stream, under its write_lock: answers, blocks, news. What the link
 * does not take waits here, small frames in `out`, blocks in `parked`; while something is parked,
 * everything waits behind it, but for a frame between two blocks.
 */

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/list.h"
#include "node/blocks_state_priv.h"

/* A block of up to so many bytes leaves in one piece with what stands before it, as a copy: that
 * costs less than two pieces and a view that is kept. */
#define PACKED_BYTES_MAX ((uint32_t)32 * 1024)
/* What is said in a turn goes out when there is so much of it. */
#define CORKED_BYTES_MAX ((size_t)64 * 1024)
/* Of one write of small frames. */
#define SLICE_BYTES ((size_t)1024 * 1024)
/* Of one write of a block, so that it is seen how a large one moves. */
#define PIECE_BYTES ((size_t)256 * 1024)

/* Nothing that was queued for a receiver has moved for so long: it is stuck, and what was begun for
 * it is given up as far as upload is concerned, so that others get its place. For still longer: its
 * stream is ended. */
static uint64_t stuck_us(const struct blocks *blocks)
{
    return blocks->stall_us / 5;
}

static uint64_t end_us(const struct blocks *blocks)
{
    return 6 * blocks->stall_us;
}

/* ---- the end of a block ------------------------------------------------------------------------
 */

static void finish(struct sending *sending, bool is_sent)
{
    struct receiver *receiver = sending->receiver;
    struct blocks *blocks = receiver->blocks;
    if (sending->has_view) {
        store_view_close(&sending->view);
    }
    pthread_mutex_lock(&blocks->serve_lock);
    for (size_t i = 0; i < sending->jobs_count; i++) {
        const struct upload_job *job = &sending->jobs[i];
        blocks->sums.sent_blocks += is_sent;
        blocks->sums.sent_bytes += is_sent ? job->size_bytes : 0;
        if (!sending->is_given_up) {
            upload_done(blocks->upload, blocks_now_us(), job, is_sent);
        }
    }
    if (sending->is_queued) {
        DL_DELETE2(receiver->queued, sending, queued_prev, queued_next);
    }
    blocks_pump(blocks);
    receiver_unhold(receiver);
    pthread_mutex_unlock(&blocks->serve_lock);
    buf_done(&sending->packed);
    free(sending);
}

/* On the thread of the link: the system has a piece, or it was dropped with the stream (`err`). */
static void on_released(void *context, int err)
{
    struct sending *sending = context;
    struct receiver *receiver = sending->receiver;
    struct blocks *blocks = receiver->blocks;
    pthread_mutex_lock(&blocks->serve_lock);
    const size_t left = sending->bytes.size - sending->released_bytes;
    sending->released_bytes += left < PIECE_BYTES ? left : PIECE_BYTES;
    const bool is_last = sending->released_bytes == sending->bytes.size;
    sending->is_dropped = sending->is_dropped || err;
    const bool is_sent = receiver->is_listed && !sending->is_dropped;
    receiver->moved_us = blocks_now_us();
    receiver->is_stuck = false;
    pthread_mutex_unlock(&blocks->serve_lock);
    if (is_last) {
        finish(sending, is_sent);
    }
}

/* ---- writing -----------------------------------------------------------------------------------
 */

/* Under write_lock, likewise below. 0; -EAGAIN: there will be room later; -EPIPE: closed. */
static int write_frames(struct receiver *receiver)
{
    struct buf *out = &receiver->out;
    while (out->size > 0) {
        const size_t size = out->size < SLICE_BYTES ? out->size : SLICE_BYTES;
        const int err = link_stream_write(receiver->stream, BYTES(out->data, size), NULL, NULL);
        if (err) {
            return err;
        }
        buf_consume(out, size);
    }
    return 0;
}

/* What stands before the bytes of a block. */
static void format_head(const struct upload_job *job, struct buf *ret_head)
{
    const struct transfer_frame frame = {
        .type = TRANSFER_BLOCK, .number = job->number, .position = job->position};
    transfer_frame_format(&frame, job->size_bytes, ret_head);
}

static int write_head(struct receiver *receiver, struct sending *sending)
{
    CLEANUP_BUF struct buf head = BUF_INIT;
    format_head(&sending->jobs[0], &head);
    return link_stream_write(receiver->stream, buf_bytes(&head), NULL, NULL);
}

/* 0: all of it is with the link, and not ours any more. */
static int write_block(struct receiver *receiver, struct sending *sending)
{
    if (sending->has_view && !sending->is_head_written) {
        const int err = write_head(receiver, sending);
        if (err) {
            return err;
        }
        sending->is_head_written = true;
    }
    const size_t size = sending->bytes.size;
    for (size_t at = sending->written_bytes; at < size;) {
        const size_t piece = size - at < PIECE_BYTES ? size - at : PIECE_BYTES;
        /* Before the write: with the last piece it may be gone when that returns. */
        sending->written_bytes = at + piece;
        const int err = link_stream_write(receiver->stream, BYTES(sending->bytes.data + at, piece),
                                          on_released, sending);
        if (err) {
            sending->written_bytes = at;
            return err;
        }
        at += piece;
    }
    return 0;
}

static void flush(struct receiver *receiver)
{
    for (;;) {
        struct sending *sending = receiver->parked;
        int err = 0;
        if (!sending || (!sending->is_head_written && sending->written_bytes == 0)) {
            err = write_frames(receiver);
        }
        if (err || !sending) {
            return;
        }
        LL_DELETE(receiver->parked, sending);
        if (write_block(receiver, sending) != 0) {
            LL_PREPEND(receiver->parked, sending);
            return;
        }
    }
}

void receiver_say(struct receiver *receiver, struct bytes frames)
{
    pthread_mutex_lock(&receiver->write_lock);
    buf_add(&receiver->out, frames);
    if (!receiver->is_corked || receiver->out.size >= CORKED_BYTES_MAX) {
        flush(receiver);
    }
    pthread_mutex_unlock(&receiver->write_lock);
}

void receiver_cork(struct receiver *receiver)
{
    pthread_mutex_lock(&receiver->write_lock);
    receiver->is_corked = true;
    pthread_mutex_unlock(&receiver->write_lock);
}

void receiver_uncork(struct receiver *receiver)
{
    pthread_mutex_lock(&receiver->write_lock);
    receiver->is_corked = false;
    flush(receiver);
    pthread_mutex_unlock(&receiver->write_lock);
}

size_t receiver_unwritten_bytes(struct receiver *receiver)
{
    pthread_mutex_lock(&receiver->write_lock);
    const size_t bytes_count = receiver->out.size;
    pthread_mutex_unlock(&receiver->write_lock);
    return bytes_count;
}

void receiver_on_writable(void *context, struct link_stream *stream)
{
    struct receiver *receiver = context;
    (void)stream;
    pthread_mutex_lock(&receiver->write_lock);
    flush(receiver);
    pthread_mutex_unlock(&receiver->write_lock);
    growth_catch_up(receiver);
    pthread_mutex_lock(&receiver->blocks->serve_lock);
    receiver_want_turn(receiver);
    pthread_mutex_unlock(&receiver->blocks->serve_lock);
}

void receiver_drop_parked(struct receiver *receiver)
{
    struct blocks *blocks = receiver->blocks;
    pthread_mutex_lock(&receiver->write_lock);
    struct sending *parked = receiver->parked;
    receiver->parked = NULL;
    pthread_mutex_unlock(&receiver->write_lock);
    while (parked) {
        struct sending *sending = parked;
        parked = sending->next;
        /* Its pieces that are with the link come back by themselves. */
        pthread_mutex_lock(&blocks->serve_lock);
        sending->bytes.size = sending->written_bytes;
        const bool is_last = sending->released_bytes == sending->bytes.size;
        pthread_mutex_unlock(&blocks->serve_lock);
        if (is_last) {
            finish(sending, false);
        }
    }
}

/* ---- a block -----------------------------------------------------------------------------------
 */

static int open_view(struct blocks *blocks, const struct upload_job *job,
                     struct store_view *ret_view)
{
    const int err = store_view_open(blocks->store, &job->block, ret_view);
    if (!err && ret_view->bytes.size != job->size_bytes) {
        /* The same block has the same size; what else came out of the store is no answer. */
        store_view_close(ret_view);
        return -EBADMSG;
    }
    return err;
}

static void refuse(struct receiver *receiver, const struct upload_job *job, int err)
{
    receiver_refuse(receiver, job,
                    err == -ENOENT ? TRANSFER_REFUSED_NOT_HERE : TRANSFER_REFUSED_BAD);
}

/* Small blocks: heads and bytes in one piece. What can't be read is refused, and left out. */
static void pack(struct sending *sending)
{
    struct blocks *blocks = sending->receiver->blocks;
    size_t packed_count = 0;
    for (size_t i = 0; i < sending->jobs_count; i++) {
        const struct upload_job job = sending->jobs[i];
        struct store_view view;
        const int err = open_view(blocks, &job, &view);
        if (err) {
            refuse(sending->receiver, &job, err);
            pthread_mutex_lock(&blocks->serve_lock);
            upload_done(blocks->upload, blocks_now_us(), &job, false);
            pthread_mutex_unlock(&blocks->serve_lock);
            continue;
        }
        format_head(&job, &sending->packed);
        buf_add(&sending->packed, view.bytes);
        store_view_close(&view);
        sending->jobs[packed_count++] = job;
    }
    sending->jobs_count = packed_count;
    sending->bytes = buf_bytes(&sending->packed);
}

static void view(struct sending *sending)
{
    struct receiver *receiver = sending->receiver;
    const int err = open_view(receiver->blocks, &sending->jobs[0], &sending->view);
    if (err) {
        refuse(receiver, &sending->jobs[0], err);
        return;
    }
    sending->has_view = true;
    sending->bytes = sending->view.bytes;
}

/* Under serve_lock. */
static void add_queued(struct receiver *receiver, struct sending *sending)
{
    if (!receiver->queued) {
        receiver->moved_us = blocks_now_us();
        blocks_set_timer(receiver->blocks, receiver->moved_us + stuck_us(receiver->blocks));
    }
    sending->is_queued = true;
    DL_APPEND2(receiver->queued, sending, queued_prev, queued_next);
}

/* True if it is with the link, or parked. */
static bool queue(struct sending *sending)
{
    struct receiver *receiver = sending->receiver;
    struct blocks *blocks = receiver->blocks;
    pthread_mutex_lock(&blocks->serve_lock);
    const bool is_closed = receiver->is_closed;
    if (!is_closed) {
        /* Parked with the lock held: who closes the stream finds it. */
        pthread_mutex_lock(&receiver->write_lock);
        LL_APPEND(receiver->parked, sending);
        pthread_mutex_unlock(&receiver->write_lock);
        receiver->refs_count++;
        add_queued(receiver, sending);
    }
    pthread_mutex_unlock(&blocks->serve_lock);
    if (is_closed) {
        return false;
    }
    pthread_mutex_lock(&receiver->write_lock);
    flush(receiver);
    pthread_mutex_unlock(&receiver->write_lock);
    pthread_mutex_lock(&blocks->serve_lock);
    receiver_unhold(receiver);
    pthread_mutex_unlock(&blocks->serve_lock);
    return true;
}

static void send_blocks(struct work *work)
{
    struct sending *sending = CONTAINER_OF(work, struct sending, work);
    if (sending->jobs[0].size_bytes <= PACKED_BYTES_MAX) {
        pack(sending);
    } else {
        view(sending);
    }
    if (sending->bytes.size == 0 || !queue(sending)) {
        finish(sending, false);
    }
}

static struct sending *begin_sending(struct receiver *receiver)
{
    struct sending *sending = mem_alloc(sizeof *sending);
    sending->work.run = send_blocks;
    sending->receiver = receiver;
    receiver->refs_count++;
    return sending;
}

/* The small block goes with those that were taken just before. */
static bool fits(const struct sending *sending, const struct receiver *receiver,
                 const struct upload_job *job)
{
    return sending && sending->receiver == receiver && sending->jobs_count < SENDING_JOBS_MAX &&
           job->size_bytes <= PACKED_BYTES_MAX && sending->jobs[0].size_bytes <= PACKED_BYTES_MAX;
}

void blocks_pump(struct blocks *blocks)
{
    struct upload_job job;
    struct sending *sending = NULL; /* is not with the workers yet */
    while (!blocks->is_stopped && upload_next(blocks->upload, blocks_now_us(), &job)) {
        struct receiver *receiver = NULL;
        HASH_FIND(hh, blocks->receivers, &job.peer, sizeof job.peer, receiver);
        if (!receiver || receiver->is_stuck) {
            upload_done(blocks->upload, blocks_now_us(), &job, false);
            if (receiver) {
                receiver_refuse(receiver, &job, TRANSFER_REFUSED_BUSY);
            }
            continue;
        }
        if (!fits(sending, receiver, &job)) {
            if (sending) {
                workers_put(blocks->senders, &sending->work);
            }
            sending = begin_sending(receiver);
        }
        sending->jobs[sending->jobs_count++] = job;
    }
    if (sending) {
        workers_put(blocks->senders, &sending->work);
    }
    const uint64_t next_us = upload_next_us(blocks->upload);
    if (next_us != UINT64_MAX) {
        blocks_set_timer(blocks, next_us);
    }
}

/* ---- time --------------------------------------------------------------------------------------
 */

static void give_up(struct receiver *receiver, uint64_t now_us)
{
    struct sending *sending;
    receiver->is_stuck = true;
    DL_FOREACH2(receiver->queued, sending, queued_next)
    {
        for (size_t i = 0; i < sending->jobs_count && !sending->is_given_up; i++) {
            upload_done(receiver->blocks->upload, now_us, &sending->jobs[i], false);
        }
        sending->is_given_up = true;
    }
}

uint64_t blocks_tend_receivers(struct blocks *blocks, uint64_t now_us)
{
    uint64_t next_us = UINT64_MAX;
    pthread_mutex_lock(&blocks->serve_lock);
    struct receiver *receiver;
    struct receiver *next;
    HASH_ITER(hh, blocks->receivers, receiver, next)
    {
        if (!receiver->queued) {
            continue;
        }
        if (!receiver->is_stuck && now_us >= receiver->moved_us + stuck_us(blocks)) {
            give_up(receiver, now_us);
        } else if (receiver->is_stuck && now_us >= receiver->moved_us + end_us(blocks)) {
            blocks->sums.stalled++;
            link_stream_reset(receiver->stream, LINK_RESET_CANCELED);
            receiver->moved_us = now_us;
        }
        const uint64_t due_us =
            receiver->moved_us + (receiver->is_stuck ? end_us(blocks) : stuck_us(blocks));
        next_us = due_us < next_us ? due_us : next_us;
    }
    blocks_pump(blocks);
    pthread_mutex_unlock(&blocks->serve_lock);
    return next_us;
}
