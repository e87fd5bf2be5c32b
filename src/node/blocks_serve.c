/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Receivers: their questions and our answers. What comes is put aside on the thread of the link and
 * looked at by a worker, in *turns*, since answers need the store. A receiver that asks faster than
 * we answer, or does not read our answers, gets no credit and waits.
 */

#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "node/blocks_state_priv.h"
#include "store/held.h"

/* With so many bytes of answers that the link did not take, no further frame is looked at. */
#define UNWRITTEN_BYTES_MAX ((size_t)256 * 1024)

#define RESET_MALFORMED LINK_RESET_SERVICE
#define RESET_VERSION (LINK_RESET_SERVICE + 1)

/* ---- what comes --------------------------------------------------------------------------------
 */

static void run_turn(struct work *work);

void receiver_want_turn(struct receiver *receiver)
{
    struct blocks *blocks = receiver->blocks;
    const bool has_some = receiver->in.size > 0 || receiver->read_bytes < receiver->reading.size;
    if (!receiver->is_queued && !receiver->is_closed && has_some && !blocks->is_stopped) {
        receiver->is_queued = true;
        receiver->refs_count++;
        workers_put(blocks->senders, &receiver->turn);
    }
}

static void on_data(void *context, struct link_stream *stream, struct bytes bytes)
{
    struct receiver *receiver = context;
    struct blocks *blocks = receiver->blocks;
    (void)stream;
    pthread_mutex_lock(&blocks->serve_lock);
    buf_add(&receiver->in, bytes);
    receiver_want_turn(receiver);
    pthread_mutex_unlock(&blocks->serve_lock);
}

void receiver_unhold(struct receiver *receiver)
{
    if (--receiver->refs_count > 0) {
        return;
    }
    CHECK(!receiver->is_listed && !receiver->subscriptions && !receiver->parked);
    link_stream_free(receiver->stream);
    transfer_reader_done(&receiver->reader);
    buf_done(&receiver->in);
    buf_done(&receiver->reading);
    buf_done(&receiver->out);
    pthread_mutex_destroy(&receiver->write_lock);
    free(receiver);
}

/* Nothing that he asked for is of interest any more. */
static void unlist(struct receiver *receiver)
{
    struct blocks *blocks = receiver->blocks;
    if (receiver->is_listed) {
        receiver->is_listed = false;
        HASH_DEL(blocks->receivers, receiver);
        upload_peer_lost(blocks->upload, blocks_now_us(), &receiver->peer);
        growth_unsubscribe_all(receiver);
    }
}

static void on_end(void *context, struct link_stream *stream)
{
    /* He reads no more either. */
    (void)context;
    link_stream_reset(stream, LINK_RESET_CANCELED);
}

static void on_closed(void *context, struct link_stream *stream, int err, uint32_t code)
{
    struct receiver *receiver = context;
    struct blocks *blocks = receiver->blocks;
    (void)stream;
    (void)err;
    (void)code;
    pthread_mutex_lock(&blocks->serve_lock);
    receiver->is_closed = true;
    unlist(receiver);
    pthread_mutex_unlock(&blocks->serve_lock);
    receiver_drop_parked(receiver);
    pthread_mutex_lock(&blocks->serve_lock);
    blocks_pump(blocks);
    receiver_unhold(receiver);
    pthread_mutex_unlock(&blocks->serve_lock);
}

int receiver_on_accept(void *context, const struct link_peer *peer, struct link_stream *stream,
                       struct link_stream_handlers *ret_handlers, void **ret_context)
{
    struct blocks *blocks = context;
    struct address address;
    if (!blocks->is_open || !blocks->find_member(blocks->member_context, &peer->id, &address)) {
        return -EACCES;
    }
    struct receiver *receiver = mem_alloc(sizeof *receiver);
    receiver->blocks = blocks;
    receiver->peer = peer->id;
    receiver->stream = stream;
    receiver->refs_count = 1;
    receiver->is_listed = true;
    receiver->turn.run = run_turn;
    transfer_reader_init(&receiver->reader, true);
    transfer_frame_prefix(&receiver->out);
    pthread_mutex_init(&receiver->write_lock, NULL);
    struct receiver *before = NULL;
    pthread_mutex_lock(&blocks->serve_lock);
    HASH_FIND(hh, blocks->receivers, &peer->id, sizeof peer->id, before);
    if (before) {
        /* He has given up the other one, or should. */
        unlist(before);
        link_stream_reset(before->stream, LINK_RESET_CANCELED);
    }
    HASH_ADD(hh, blocks->receivers, peer, sizeof receiver->peer, receiver);
    pthread_mutex_unlock(&blocks->serve_lock);
    *ret_handlers = (struct link_stream_handlers){
        .data = on_data, .end = on_end, .writable = receiver_on_writable, .closed = on_closed};
    *ret_context = receiver;
    return 0;
}

/* ---- questions about files ---------------------------------------------------------------------
 */

struct answer {
    struct transfer_frame offer;
    struct file_metadata metadata;
    struct buf text;
    struct buf have;
    struct buf others;
};

static void answer_done(struct answer *answer)
{
    file_metadata_done(&answer->metadata);
    buf_done(&answer->text);
    buf_done(&answer->have);
    buf_done(&answer->others);
}

static void name_others(struct receiver *receiver, const struct transfer_frame *ask,
                        struct answer *answer)
{
    struct blocks *blocks = receiver->blocks;
    const bool is_fetching = ask->flags & TRANSFER_ASK_FETCHING;
    struct node_id others[UPLOAD_ASKERS_NAMED];
    pthread_mutex_lock(&blocks->serve_lock);
    const size_t count = upload_asked(blocks->upload, blocks_now_us(), &ask->file,
                                      is_fetching ? &receiver->peer : NULL, others);
    pthread_mutex_unlock(&blocks->serve_lock);
    for (size_t i = 0; i < count && i < TRANSFER_ASKERS_MAX; i++) {
        transfer_frame_put_node(&answer->others, &others[i]);
    }
    answer->offer.list = buf_bytes(&answer->others);
    if (is_fetching) {
        blocks->events.asked(blocks->context, &receiver->peer, &ask->file);
    }
}

static bool is_here_whole(const struct receiver *receiver, const struct id *file)
{
    enum store_held_state state = STORE_HELD_NONE;
    return store_held_state(receiver->blocks->store, file, &state) == 0 &&
           state == STORE_HELD_COMPLETE;
}

/* What is here of the file. What can't be read is not here. Of a file that is not whole the list of
 * blocks may be all that is here: that is worth telling, and so is what came just now, of which
 * store_held_state() knows only after the next flush. */
static void look_at_file(struct receiver *receiver, const struct transfer_frame *ask, bool is_whole,
                         struct answer *answer)
{
    struct store *store = receiver->blocks->store;
    struct transfer_frame *offer = &answer->offer;
    const bool wants_text = ask->flags & TRANSFER_ASK_METADATA;
    if ((wants_text || !is_whole) &&
        store_file_metadata(store, &ask->file, &answer->metadata) != 0) {
        return;
    }
    if (wants_text) {
        file_metadata_format(&answer->metadata, &answer->text);
        offer->metadata = buf_bytes(&answer->text);
    }
    offer->state = is_whole ? TRANSFER_COMPLETE : TRANSFER_PARTIAL;
    if (!is_whole) {
        growth_have(receiver, &ask->file, &answer->metadata, &answer->have);
        offer->bitmap = buf_bytes(&answer->have);
    }
}

static void take_ask(struct receiver *receiver, const struct transfer_frame *ask)
{
    struct blocks *blocks = receiver->blocks;
    const bool wants_growth = ask->flags & TRANSFER_ASK_GROWTH;
    __attribute__((cleanup(answer_done))) struct answer answer = {
        .offer = {.type = TRANSFER_OFFER, .number = ask->number}};
    bool is_whole = is_here_whole(receiver, &ask->file);
    if (wants_growth && !is_whole) {
        /* Before the look, so that nothing falls between. */
        pthread_mutex_lock(&blocks->serve_lock);
        if (receiver->is_listed) {
            growth_subscribe(receiver, &ask->file);
        }
        pthread_mutex_unlock(&blocks->serve_lock);
        is_whole = is_here_whole(receiver, &ask->file);
    }
    name_others(receiver, ask, &answer);
    look_at_file(receiver, ask, is_whole, &answer);
    CLEANUP_BUF struct buf frame = BUF_INIT;
    transfer_frame_format(&answer.offer, 0, &frame);
    receiver_say(receiver, buf_bytes(&frame));
    if (wants_growth && answer.offer.state == TRANSFER_COMPLETE) {
        growth_forget(receiver, &ask->file); /* nothing more can come */
    } else if (wants_growth) {
        growth_activate(receiver, &ask->file);
    }
}

static void take_stop(struct receiver *receiver, const struct transfer_frame *stop)
{
    struct blocks *blocks = receiver->blocks;
    struct subscription *subscription = NULL;
    pthread_mutex_lock(&blocks->serve_lock);
    HASH_FIND(hh, receiver->subscriptions, &stop->file, sizeof stop->file, subscription);
    if (subscription) {
        growth_unsubscribe(subscription);
    }
    pthread_mutex_unlock(&blocks->serve_lock);
}

/* ---- requests of blocks ------------------------------------------------------------------------
 */

static void format_refusal(const struct upload_job *job, enum transfer_refusal why,
                           const struct node_id *others, size_t others_count, struct buf *ret_frame)
{
    CLEANUP_BUF struct buf list = BUF_INIT;
    for (size_t i = 0; i < others_count && i < TRANSFER_OTHERS_MAX; i++) {
        transfer_frame_put_node(&list, &others[i]);
    }
    const struct transfer_frame frame = {.type = TRANSFER_REFUSED,
                                         .number = job->number,
                                         .position = job->position,
                                         .why = why,
                                         .list = buf_bytes(&list)};
    transfer_frame_format(&frame, 0, ret_frame);
}

void receiver_refuse(struct receiver *receiver, const struct upload_job *job,
                     enum transfer_refusal why)
{
    CLEANUP_BUF struct buf frame = BUF_INIT;
    format_refusal(job, why, NULL, 0, &frame);
    receiver->blocks->sums.refused_blocks++;
    receiver_say(receiver, buf_bytes(&frame));
}

static void take_request(struct receiver *receiver, const struct transfer_frame *request)
{
    struct blocks *blocks = receiver->blocks;
    const bool insists = request->flags & TRANSFER_REQUEST_INSIST;
    struct upload_job jobs[TRANSFER_REQUEST_BLOCKS_MAX];
    size_t count = 0;
    CLEANUP_BUF struct buf refusals = BUF_INIT;
    struct bytes list = request->list;
    struct upload_job job = {.peer = receiver->peer, .number = request->number};
    for (; transfer_frame_next_id(&list, &job.block); job.position++) {
        if (store_block_size(blocks->store, &job.block, &job.size_bytes) == 0) {
            jobs[count++] = job;
        } else {
            blocks->sums.refused_blocks++;
            format_refusal(&job, TRANSFER_REFUSED_NOT_HERE, NULL, 0, &refusals);
        }
    }
    pthread_mutex_lock(&blocks->serve_lock);
    for (size_t i = 0; i < count && receiver->is_listed; i++) {
        struct node_id others[UPLOAD_GIVEN_TO_MAX];
        size_t others_count = 0;
        if (upload_request(blocks->upload, blocks_now_us(), &jobs[i], insists, others,
                           &others_count) == UPLOAD_BUSY) {
            blocks->sums.refused_blocks++;
            format_refusal(&jobs[i], TRANSFER_REFUSED_BUSY, others, others_count, &refusals);
        }
    }
    blocks_pump(blocks);
    pthread_mutex_unlock(&blocks->serve_lock);
    if (refusals.size > 0) {
        receiver_say(receiver, buf_bytes(&refusals));
    }
}

static void take_cancel(struct receiver *receiver, const struct transfer_frame *cancel)
{
    struct blocks *blocks = receiver->blocks;
    pthread_mutex_lock(&blocks->serve_lock);
    if (receiver->is_listed) {
        upload_cancel(blocks->upload, blocks_now_us(), &receiver->peer, cancel->number);
        blocks_pump(blocks);
    }
    pthread_mutex_unlock(&blocks->serve_lock);
}

/* ---- turns -------------------------------------------------------------------------------------
 */

static void take_frame(struct receiver *receiver, const struct transfer_frame *frame)
{
    if (frame->type == TRANSFER_ASK) {
        take_ask(receiver, frame);
    } else if (frame->type == TRANSFER_STOP) {
        take_stop(receiver, frame);
    } else if (frame->type == TRANSFER_REQUEST) {
        take_request(receiver, frame);
    } else if (frame->type == TRANSFER_CANCEL) {
        take_cancel(receiver, frame);
    }
}

static void break_off(struct receiver *receiver, int err)
{
    struct blocks *blocks = receiver->blocks;
    char hex[NODE_ID_HEX_CHARS + 1];
    node_id_format(&receiver->peer, hex);
    blocks->sums.malformed++;
    log_warn("blocks_malformed", KV("peer", (const char *)hex), KV("reason", err_name(err)));
    link_stream_reset(receiver->stream, err == -EPROTONOSUPPORT ? RESET_VERSION : RESET_MALFORMED);
}

/* Looks at what it took. False: it was nonsense. */
static bool look(struct receiver *receiver)
{
    struct buf *reading = &receiver->reading;
    while (receiver->read_bytes < reading->size &&
           receiver_unwritten_bytes(receiver) <= UNWRITTEN_BYTES_MAX) {
        struct bytes left =
            BYTES(reading->data + receiver->read_bytes, reading->size - receiver->read_bytes);
        struct transfer_piece piece = {0};
        const int got = transfer_reader_next(&receiver->reader, &left, &piece);
        if (got < 0) {
            break_off(receiver, got);
            return false;
        }
        if (got == TRANSFER_READ_FRAME) {
            take_frame(receiver, &piece.frame);
        }
        const size_t read_bytes = reading->size - left.size;
        link_stream_grant(receiver->stream, read_bytes - receiver->read_bytes);
        receiver->read_bytes = read_bytes;
    }
    return true;
}

static void run_turn(struct work *work)
{
    struct receiver *receiver = CONTAINER_OF(work, struct receiver, turn);
    struct blocks *blocks = receiver->blocks;
    pthread_mutex_lock(&blocks->serve_lock);
    if (receiver->read_bytes == receiver->reading.size) {
        buf_clear(&receiver->reading);
        receiver->read_bytes = 0;
        const struct buf emptied = receiver->reading;
        receiver->reading = receiver->in;
        receiver->in = emptied;
    }
    pthread_mutex_unlock(&blocks->serve_lock);
    bool goes_on = false;
    if (blocks_enter(blocks)) {
        receiver_cork(receiver);
        goes_on = look(receiver);
        receiver_uncork(receiver);
        blocks_leave(blocks);
    }
    pthread_mutex_lock(&blocks->serve_lock);
    receiver->is_queued = false;
    /* Full or not is asked after the mark is gone: whoever makes room sees that a turn is wanted.
     */
    if (goes_on && receiver_unwritten_bytes(receiver) <= UNWRITTEN_BYTES_MAX) {
        receiver_want_turn(receiver);
    }
    receiver_unhold(receiver);
    pthread_mutex_unlock(&blocks->serve_lock);
}
