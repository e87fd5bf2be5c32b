/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What comes from sources. The bytes of a block are copied once, from the link's buffer to that of
 * the block; when it is whole, a worker delivers it.
 *
 * A source reads on the thread of its link. When a block begins for which there is no room, it is
 * *held*: what still comes (a window of the stream at most, since nothing is granted any more) is
 * put aside, and a worker reads on when others have given back room. So one thread reads a source
 * at a time, and the order of what comes is kept.
 */

#include <stdlib.h>

#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "node/blocks_state_priv.h"

/* `received` is called for so many bytes, or after so long. */
#define TELL_BYTES ((size_t)64 * 1024)
#define TELL_US ((uint64_t)20 * 1000)

/* ---- room --------------------------------------------------------------------------------------
 */

/* Buffers of these sizes are kept for the next block. Fresh memory costs as much as the copy. */
static const size_t spare_sizes[BLOCKS_SPARE_CLASSES] = {
    (size_t)16 * 1024,       (size_t)256 * 1024,       (size_t)1024 * 1024,
    (size_t)4 * 1024 * 1024, (size_t)16 * 1024 * 1024,
};
#define SPARE_BYTES_MAX ((size_t)32 * 1024 * 1024)
/* Below it malloc() itself keeps what was given back; and between the first two sizes, too. */
#define SPARE_BYTES_MIN ((size_t)4 * 1024)
#define SPARE_BYTES_LARGE ((size_t)64 * 1024)

static unsigned class_of(size_t size)
{
    unsigned class = 0;
    while (spare_sizes[class] < size) {
        class ++;
    }
    return class;
}

static bool is_spared(size_t size)
{
    return size >= SPARE_BYTES_MIN && (size <= spare_sizes[0] || size >= SPARE_BYTES_LARGE);
}

static uint8_t *take_buffer(struct blocks *blocks, size_t size)
{
    if (!is_spared(size)) {
        return mem_alloc(size);
    }
    const unsigned class = class_of(size);
    pthread_mutex_lock(&blocks->ask_lock);
    struct spare *spare = blocks->spares[class];
    if (spare) {
        blocks->spares[class] = spare->next;
        blocks->spare_bytes -= spare_sizes[class];
    }
    pthread_mutex_unlock(&blocks->ask_lock);
    return spare ? (uint8_t *)spare : mem_alloc_aligned(4096, spare_sizes[class]);
}

/* Under ask_lock. */
static void give_buffer(struct blocks *blocks, uint8_t *buffer, size_t size)
{
    const unsigned class = class_of(size);
    if (!buffer || !is_spared(size) || blocks->spare_bytes + spare_sizes[class] > SPARE_BYTES_MAX) {
        free(buffer);
        return;
    }
    struct spare *spare = (struct spare *)(void *)buffer;
    spare->next = blocks->spares[class];
    blocks->spares[class] = spare;
    blocks->spare_bytes += spare_sizes[class];
}

void blocks_free_spares(struct blocks *blocks)
{
    pthread_mutex_lock(&blocks->ask_lock);
    for (unsigned class = 0; class < BLOCKS_SPARE_CLASSES; class ++) {
        while (blocks->spares[class]) {
            struct spare *spare = blocks->spares[class];
            blocks->spares[class] = spare->next;
            free(spare);
        }
    }
    blocks->spare_bytes = 0;
    pthread_mutex_unlock(&blocks->ask_lock);
}

static bool has_room(const struct blocks *blocks, size_t bytes_count)
{
    return blocks->gather_bytes == 0 ||
           blocks->gather_bytes + bytes_count <= blocks->gather_bytes_max;
}

/* Gives room to those that wait, in their order. */
static void serve_waiting(struct blocks *blocks)
{
    while (!blocks->is_stopped && blocks->waiting &&
           has_room(blocks, blocks->waiting->room_bytes)) {
        struct source *source = blocks->waiting;
        DL_DELETE2(blocks->waiting, source, wait_prev, wait_next);
        source->is_waiting = false;
        blocks->gather_bytes += source->room_bytes;
        source_hold(source);
        workers_put(blocks->deliverers, &source->resume);
    }
}

void source_free_room(struct source *source, size_t bytes_count)
{
    source->blocks->gather_bytes -= bytes_count;
    serve_waiting(source->blocks);
}

/* Under ask_lock. False: the source is held, and `left` is put before what it holds. */
static bool take_room(struct source *source, size_t bytes_count, struct bytes left)
{
    struct blocks *blocks = source->blocks;
    source->room_bytes = bytes_count;
    if (!blocks->waiting && has_room(blocks, bytes_count)) {
        blocks->gather_bytes += bytes_count;
        return true;
    }
    source->is_held = true;
    source->is_waiting = true;
    DL_APPEND2(blocks->waiting, source, wait_prev, wait_next);
    struct buf held = BUF_INIT;
    buf_add(&held, left);
    buf_add(&held, buf_bytes(&source->held));
    buf_done(&source->held);
    source->held = held;
    return false;
}

/* ---- blocks ------------------------------------------------------------------------------------
 */

/* A block that came whole. */
struct arrival {
    struct work work;
    struct source *source;
    struct gathering block;
};

static void deliver(struct work *work)
{
    struct arrival *arrival = CONTAINER_OF(work, struct arrival, work);
    struct source *source = arrival->source;
    struct blocks *blocks = source->blocks;
    const struct gathering *block = &arrival->block;
    if (blocks_enter(blocks)) {
        const int err =
            blocks->events.deliver(blocks->context, &source->peer, &block->file, block->index,
                                   &block->block, BYTES(block->buffer, block->size_bytes));
        blocks->sums.bad_blocks += err == -EBADMSG;
        blocks->events.block(blocks->context, &source->peer, block->number, block->position, err,
                             block->size_bytes);
        blocks_leave(blocks);
    }
    pthread_mutex_lock(&blocks->ask_lock);
    give_buffer(blocks, block->buffer, block->size_bytes);
    source_free_room(source, block->size_bytes);
    source_unhold(source);
    pthread_mutex_unlock(&blocks->ask_lock);
    free(arrival);
}

static void end_block(struct source *source)
{
    struct blocks *blocks = source->blocks;
    struct gathering *gathering = &source->gathering;
    pthread_mutex_lock(&blocks->ask_lock);
    if (gathering->is_skipped) {
        pthread_mutex_unlock(&blocks->ask_lock);
        return;
    }
    struct arrival *arrival = NULL;
    const size_t room_bytes = source->room_bytes;
    source->room_bytes = 0;
    if (gathering->is_canceled) {
        blocks->sums.wasted_bytes += gathering->size_bytes;
        give_buffer(blocks, gathering->buffer, gathering->size_bytes);
        source_free_room(source, room_bytes);
    } else {
        arrival = mem_alloc(sizeof *arrival);
        arrival->work.run = deliver;
        arrival->source = source_hold(source);
        arrival->block = *gathering;
    }
    *gathering = (struct gathering){.is_skipped = true};
    pthread_mutex_unlock(&blocks->ask_lock);
    if (arrival) {
        blocks->sums.received_blocks++;
        blocks->sums.received_bytes += arrival->block.size_bytes;
        workers_put(blocks->deliverers, &arrival->work);
    }
}

/* Nobody asked for it, or not any more. False: nobody ever did. */
static bool skip_block(struct source *source, uint32_t size_bytes)
{
    source->blocks->sums.wasted_bytes += size_bytes;
    if (size_bytes > source->canceled_bytes) {
        return false;
    }
    source->canceled_bytes -= size_bytes;
    return true;
}

enum begun { BEGUN_GOES_ON, BEGUN_HELD, BEGUN_MALFORMED, BEGUN_WRONG_SIZE };

/* Under ask_lock. */
static enum begun look_at_block(struct source *source, const struct transfer_piece *piece,
                                struct bytes left)
{
    const struct transfer_frame *frame = &piece->frame;
    struct gathering *gathering = &source->gathering;
    *gathering = (struct gathering){.is_skipped = true};
    if (source->is_ending) {
        return BEGUN_GOES_ON;
    }
    struct request *request = NULL;
    struct wanted *wanted = source_find_wanted(source, frame->number, frame->position, &request);
    if (!wanted) {
        return skip_block(source, piece->size_bytes) ? BEGUN_GOES_ON : BEGUN_MALFORMED;
    }
    if (wanted->size_bytes != piece->size_bytes) {
        source_answered(source, request, wanted);
        return BEGUN_WRONG_SIZE;
    }
    *gathering = (struct gathering){
        .number = frame->number,
        .position = frame->position,
        .file = request->file,
        .block = wanted->block,
        .index = wanted->index,
        .size_bytes = wanted->size_bytes,
    };
    source_answered(source, request, wanted);
    return take_room(source, gathering->size_bytes, left) ? BEGUN_GOES_ON : BEGUN_HELD;
}

static enum begun begin_block(struct source *source, const struct transfer_piece *piece,
                              struct bytes left)
{
    struct blocks *blocks = source->blocks;
    pthread_mutex_lock(&blocks->ask_lock);
    const enum begun begun = look_at_block(source, piece, left);
    pthread_mutex_unlock(&blocks->ask_lock);
    if (begun == BEGUN_WRONG_SIZE) {
        blocks->sums.bad_blocks++;
        blocks->sums.wasted_bytes += piece->size_bytes;
        blocks->events.block(blocks->context, &source->peer, piece->frame.number,
                             piece->frame.position, -EBADMSG, piece->size_bytes);
        return BEGUN_GOES_ON;
    }
    return begun;
}

static void tell_received(struct source *source)
{
    struct blocks *blocks = source->blocks;
    const uint64_t now_us = blocks_now_us();
    if (source->untold_bytes >= TELL_BYTES ||
        (source->untold_bytes > 0 && now_us >= source->told_us + TELL_US)) {
        blocks->events.received(blocks->context, &source->peer, source->untold_bytes);
        source->untold_bytes = 0;
        source->told_us = now_us;
    }
}

static void add_bytes(struct source *source, const struct transfer_piece *piece)
{
    struct gathering *gathering = &source->gathering;
    source->untold_bytes += piece->bytes.size;
    if (!gathering->is_skipped) {
        if (!gathering->buffer) {
            gathering->buffer = take_buffer(source->blocks, gathering->size_bytes);
        }
        memcpy(gathering->buffer + gathering->filled_bytes, piece->bytes.data, piece->bytes.size);
        gathering->filled_bytes += (uint32_t)piece->bytes.size;
    }
    if (piece->is_last) {
        /* First, so that who measures knows of the bytes before the block. */
        tell_received(source);
        end_block(source);
    }
}

/* ---- other frames ------------------------------------------------------------------------------
 */

static size_t read_nodes(struct bytes list, struct node_id *ret_nodes, size_t capacity)
{
    size_t count = 0;
    while (count < capacity && transfer_frame_next_node(&list, &ret_nodes[count])) {
        count++;
    }
    return count;
}

static void take_offer(struct source *source, const struct transfer_frame *frame)
{
    struct blocks *blocks = source->blocks;
    struct ask *ask = NULL;
    pthread_mutex_lock(&blocks->ask_lock);
    HASH_FIND(hh, source->asks, &frame->number, sizeof frame->number, ask);
    if (ask) {
        HASH_DEL(source->asks, ask);
        source->used_us = blocks_now_us();
        if (frame->state == TRANSFER_COMPLETE) {
            source_forget_grower(source, &ask->file); /* it has nothing more to tell */
        }
    }
    pthread_mutex_unlock(&blocks->ask_lock);
    if (!ask) {
        return;
    }
    struct node_id others[TRANSFER_ASKERS_MAX];
    struct blocks_offer offer = {
        .number = frame->number,
        .file = ask->file,
        .state = frame->state,
        .metadata_text = ask->wants_metadata ? frame->metadata : BYTES(NULL, 0),
        .have = frame->bitmap,
        .others = others,
        .others_count = read_nodes(frame->list, others, TRANSFER_ASKERS_MAX),
    };
    free(ask);
    blocks->events.offer(blocks->context, &source->peer, &offer);
}

static void take_more(struct source *source, const struct transfer_frame *frame)
{
    struct blocks *blocks = source->blocks;
    struct grower *grower = NULL;
    pthread_mutex_lock(&blocks->ask_lock);
    HASH_FIND(hh, source->growers, &frame->file, sizeof frame->file, grower);
    const bool is_wanted = grower != NULL;
    pthread_mutex_unlock(&blocks->ask_lock);
    if (!is_wanted) {
        return;
    }
    uint32_t indices[TRANSFER_MORE_MAX];
    size_t count = 0;
    struct bytes list = frame->list;
    while (transfer_frame_next_index(&list, &indices[count])) {
        count++;
    }
    blocks->events.more(blocks->context, &source->peer, &frame->file, indices, count);
}

static void take_refusal(struct source *source, const struct transfer_frame *frame)
{
    struct blocks *blocks = source->blocks;
    struct request *request = NULL;
    pthread_mutex_lock(&blocks->ask_lock);
    struct wanted *wanted = source_find_wanted(source, frame->number, frame->position, &request);
    if (wanted) {
        source_answered(source, request, wanted);
    }
    pthread_mutex_unlock(&blocks->ask_lock);
    if (!wanted) {
        return;
    }
    struct node_id others[TRANSFER_OTHERS_MAX];
    const size_t count = read_nodes(frame->list, others, TRANSFER_OTHERS_MAX);
    blocks->events.refused(blocks->context, &source->peer, frame->number, frame->position,
                           frame->why, others, count);
}

static void take_frame(struct source *source, const struct transfer_frame *frame)
{
    struct blocks *blocks = source->blocks;
    if (frame->type == TRANSFER_OFFER) {
        take_offer(source, frame);
    } else if (frame->type == TRANSFER_MORE) {
        take_more(source, frame);
    } else if (frame->type == TRANSFER_REFUSED) {
        take_refusal(source, frame);
    }
    if (source->room_bytes > 0) {
        pthread_mutex_lock(&blocks->ask_lock);
        source_free_room(source, source->room_bytes);
        source->room_bytes = 0;
        pthread_mutex_unlock(&blocks->ask_lock);
    }
}

/* ---- reading -----------------------------------------------------------------------------------
 */

static bool begin_large(struct source *source, uint32_t size_bytes, struct bytes left)
{
    pthread_mutex_lock(&source->blocks->ask_lock);
    const bool goes_on = source->is_ending || take_room(source, size_bytes, left);
    pthread_mutex_unlock(&source->blocks->ask_lock);
    return goes_on;
}

/* Told by `lost`; what exactly was wrong is for who looks closely. */
static void break_off(struct source *source, const char *reason)
{
    struct blocks *blocks = source->blocks;
    char hex[NODE_ID_HEX_CHARS + 1];
    node_id_format(&source->peer, hex);
    pthread_mutex_lock(&blocks->ask_lock);
    blocks->sums.malformed += !source->is_ending;
    source_end(source, BLOCKS_MALFORMED);
    pthread_mutex_unlock(&blocks->ask_lock);
    log_debug("blocks_malformed", KV("peer", (const char *)hex), KV("reason", reason));
}

/* Reads on until `*bytes` is used up. False: it is held, or has ended. */
static bool read_on(struct source *source, struct bytes *bytes)
{
    for (;;) {
        struct transfer_piece piece = {0};
        const int got = transfer_reader_next(&source->reader, bytes, &piece);
        enum begun begun = BEGUN_GOES_ON;
        switch (got) {
        case TRANSFER_READ_NOTHING:
            tell_received(source);
            return true;
        case TRANSFER_READ_FRAME:
            take_frame(source, &piece.frame);
            break;
        case TRANSFER_READ_LARGE:
            begun = begin_large(source, piece.size_bytes, *bytes) ? BEGUN_GOES_ON : BEGUN_HELD;
            break;
        case TRANSFER_READ_BLOCK_BEGIN:
            begun = begin_block(source, &piece, *bytes);
            break;
        case TRANSFER_READ_BLOCK_BYTES:
            add_bytes(source, &piece);
            break;
        default:
            break_off(source, err_name(got));
            return false;
        }
        if (begun == BEGUN_MALFORMED) {
            break_off(source, "unasked");
        }
        if (begun != BEGUN_GOES_ON) {
            return false;
        }
    }
}

static bool read_some(struct source *source, struct bytes bytes)
{
    struct bytes left = bytes;
    const bool goes_on = read_on(source, &left);
    /* Unless it goes on, somebody else may be reading already. */
    link_stream_grant(source->stream, bytes.size - left.size);
    return goes_on;
}

void source_on_data(void *context, struct link_stream *stream, struct bytes bytes)
{
    struct source *source = context;
    struct blocks *blocks = source->blocks;
    (void)stream;
    if (!blocks_enter(blocks)) {
        return;
    }
    pthread_mutex_lock(&blocks->ask_lock);
    const bool is_read = !source->is_ending && !source->is_held;
    source->heard_us = blocks_now_us();
    if (source->is_held && !source->is_ending) {
        buf_add(&source->held, bytes);
    }
    pthread_mutex_unlock(&blocks->ask_lock);
    if (is_read) {
        (void)read_some(source, bytes);
    }
    blocks_leave(blocks);
}

void source_resume(struct work *work)
{
    struct source *source = CONTAINER_OF(work, struct source, resume);
    struct blocks *blocks = source->blocks;
    const bool is_open = blocks_enter(blocks);
    bool goes_on = true;
    while (goes_on) {
        pthread_mutex_lock(&blocks->ask_lock);
        CLEANUP_BUF struct buf bytes = source->held;
        source->held = BUF_INIT;
        goes_on = is_open && !source->is_ending && bytes.size > 0;
        source->is_held = goes_on;
        source->heard_us = blocks_now_us();
        pthread_mutex_unlock(&blocks->ask_lock);
        goes_on = goes_on && read_some(source, buf_bytes(&bytes));
    }
    if (is_open) {
        blocks_leave(blocks);
    }
    pthread_mutex_lock(&blocks->ask_lock);
    source_unhold(source);
    pthread_mutex_unlock(&blocks->ask_lock);
}
