/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Sources: what we say to them, and how they come and go.
 *
 * A source is in the table from the first word to it until it is lost, or was idle. What is said in
 * between an end that was noticed here (too much awaited, nonsense that came) and the end of its
 * stream is dropped: `lost` follows it, and covers it.
 */

#include <stdlib.h>

#include "base/err.h"
#include "base/list.h"
#include "node/blocks_state_priv.h"

/* Of reset streams: frames that don't fit the format; of another major version. */
#define RESET_MALFORMED LINK_RESET_SERVICE
/* What is said and not taken by the link: 256 requests of the longest. */
#define OUT_BYTES_MAX ((size_t)2 * 1024 * 1024)

struct source *source_hold(struct source *source)
{
    source->refs_count++;
    return source;
}

static void forget_all(struct source *source)
{
    struct ask *ask;
    struct ask *next_ask;
    HASH_ITER(hh, source->asks, ask, next_ask)
    {
        HASH_DEL(source->asks, ask);
        free(ask);
    }
    struct request *request;
    struct request *next_request;
    HASH_ITER(hh, source->requests, request, next_request)
    {
        HASH_DEL(source->requests, request);
        free(request);
    }
    struct grower *grower;
    struct grower *next_grower;
    HASH_ITER(hh, source->growers, grower, next_grower)
    {
        HASH_DEL(source->growers, grower);
        free(grower);
    }
    source->awaited_count = 0;
}

void source_unhold(struct source *source)
{
    if (--source->refs_count > 0) {
        return;
    }
    CHECK(!source->is_listed && !source->is_waiting && !source->is_unsaid);
    source_free_room(source, source->room_bytes);
    forget_all(source);
    free(source->gathering.buffer);
    transfer_reader_done(&source->reader);
    buf_done(&source->held);
    buf_done(&source->out);
    link_stream_free(source->stream);
    free(source);
}

static void leave_lists(struct source *source)
{
    struct blocks *blocks = source->blocks;
    if (source->is_waiting) {
        DL_DELETE2(blocks->waiting, source, wait_prev, wait_next);
        source->is_waiting = false;
        source->room_bytes = 0; /* it was not given */
    }
    if (source->is_unsaid) {
        LL_DELETE2(blocks->unsaid, source, unsaid);
        source->is_unsaid = false;
    }
}

static void unlist(struct source *source)
{
    source->is_ending = true;
    leave_lists(source);
    if (source->is_listed) {
        source->is_listed = false;
        HASH_DEL(source->blocks->sources, source);
        source_unhold(source);
    }
}

void source_end(struct source *source, enum blocks_end why)
{
    if (!source->is_ending) {
        source->is_ending = true;
        source->why = why;
        leave_lists(source);
        link_stream_reset(source->stream,
                          why == BLOCKS_MALFORMED ? RESET_MALFORMED : LINK_RESET_CANCELED);
    }
}

/* Without a word: idle, or nobody is interested. */
static void dismiss(struct source *source)
{
    source->is_silent = true;
    if (!source->is_ending) {
        link_stream_reset(source->stream, LINK_RESET_CANCELED);
    }
    unlist(source);
}

/* `err` as of the stream's end. */
static void tell_lost(struct source *source, int err)
{
    struct blocks *blocks = source->blocks;
    const struct node_id peer = source->peer;
    pthread_mutex_lock(&blocks->ask_lock);
    const bool was_ours = source->is_ending;
    const bool is_silent = source->is_silent;
    enum blocks_end why = source->why;
    unlist(source);
    pthread_mutex_unlock(&blocks->ask_lock);
    if (!was_ours) {
        why = err == 0 || err == -ECANCELED ? BLOCKS_ENDED : BLOCKS_LOST;
    }
    if (!is_silent && blocks_enter(blocks)) {
        blocks->events.lost(blocks->context, &peer, why);
        blocks_leave(blocks);
    }
}

static void on_closed(void *context, struct link_stream *stream, int err, uint32_t code)
{
    struct source *source = context;
    struct blocks *blocks = source->blocks;
    (void)stream;
    (void)code;
    tell_lost(source, err);
    pthread_mutex_lock(&blocks->ask_lock);
    source_unhold(source);
    pthread_mutex_unlock(&blocks->ask_lock);
}

/* The source says nothing more: what we asked for is answered, or never will be. */
static void on_end(void *context, struct link_stream *stream)
{
    struct source *source = context;
    (void)stream;
    pthread_mutex_lock(&source->blocks->ask_lock);
    if (!source->is_silent) {
        source_end(source, BLOCKS_ENDED);
    }
    pthread_mutex_unlock(&source->blocks->ask_lock);
}

static void fail(struct work *work)
{
    struct source *source = CONTAINER_OF(work, struct source, fail);
    struct blocks *blocks = source->blocks;
    tell_lost(source, -EIO);
    pthread_mutex_lock(&blocks->ask_lock);
    source_unhold(source);
    pthread_mutex_unlock(&blocks->ask_lock);
}

/* ---- saying ------------------------------------------------------------------------------------
 */

static void write_out(struct source *source)
{
    while (source->out.size > 0 && !source->is_ending) {
        const size_t size =
            source->out.size < LINK_WRITE_BYTES_MAX ? source->out.size : LINK_WRITE_BYTES_MAX;
        if (link_stream_write(source->stream, BYTES(source->out.data, size), NULL, NULL) != 0) {
            return; /* it is writable later, or closed soon */
        }
        buf_consume(&source->out, size);
    }
}

static void on_writable(void *context, struct link_stream *stream)
{
    struct source *source = context;
    (void)stream;
    pthread_mutex_lock(&source->blocks->ask_lock);
    write_out(source);
    pthread_mutex_unlock(&source->blocks->ask_lock);
}

static void open_stream(struct source *source)
{
    struct blocks *blocks = source->blocks;
    struct link_stream_options options = {
        .peer = source->peer,
        .service = SERVICE_BLOCKS,
        .handlers = {.data = source_on_data,
                     .end = on_end,
                     .writable = on_writable,
                     .closed = on_closed},
        .context = source,
        .window_bytes = BLOCKS_WINDOW_BYTES,
    };
    source->refs_count = 2; /* of the table; of the stream, or of the work */
    const bool is_too_many = HASH_COUNT(blocks->sources) > BLOCKS_SOURCES_MAX;
    int err = -EAGAIN;
    if (!is_too_many &&
        blocks->find_member(blocks->member_context, &source->peer, &options.address)) {
        err = link_stream_open(blocks->link, &options, &source->stream);
    }
    if (err) {
        source->is_ending = true;
        source->why = is_too_many ? BLOCKS_LIMIT : BLOCKS_LOST;
        source->fail.run = fail;
        workers_put(blocks->deliverers, &source->fail);
    }
}

static struct source *find_source(struct blocks *blocks, const struct node_id *peer)
{
    struct source *source = NULL;
    HASH_FIND(hh, blocks->sources, peer, sizeof *peer, source);
    return source;
}

/* How often sources are looked at: four times in the shortest of their times. */
static uint64_t look_us(const struct blocks *blocks)
{
    return (blocks->idle_us < blocks->stall_us ? blocks->idle_us : blocks->stall_us) / 4;
}

/* The source to be told something, or NULL: what was to be said is dropped. */
static struct source *source_to_tell(struct blocks *blocks, const struct node_id *peer)
{
    struct source *source = find_source(blocks, peer);
    if (!source) {
        source = mem_alloc(sizeof *source);
        source->blocks = blocks;
        source->peer = *peer;
        source->is_listed = true;
        source->resume.run = source_resume;
        source->heard_us = blocks_now_us();
        transfer_reader_init(&source->reader, false);
        transfer_frame_prefix(&source->out);
        HASH_ADD(hh, blocks->sources, peer, sizeof source->peer, source);
        open_stream(source);
        blocks_set_timer(blocks, blocks_now_us() + look_us(blocks));
    }
    return source->is_ending ? NULL : source;
}

static void say(struct source *source, const struct transfer_frame *frame)
{
    struct blocks *blocks = source->blocks;
    transfer_frame_format(frame, 0, &source->out);
    source->used_us = blocks_now_us();
    if (source->out.size >= BLOCKS_GATHERED_BYTES) {
        write_out(source);
    }
    if (source->out.size > OUT_BYTES_MAX) {
        source_end(source, BLOCKS_LIMIT);
    } else if (source->out.size > 0 && !source->is_unsaid) {
        source->is_unsaid = true;
        LL_PREPEND2(blocks->unsaid, source, unsaid);
    }
}

/* Takes the lock; false: too late, and it is not taken. */
static bool begin(struct blocks *blocks)
{
    if (!blocks_enter(blocks)) {
        return false;
    }
    pthread_mutex_lock(&blocks->ask_lock);
    return true;
}

static void end(struct blocks *blocks)
{
    pthread_mutex_unlock(&blocks->ask_lock);
    blocks_leave(blocks);
}

static void add_grower(struct source *source, const struct id *file)
{
    struct grower *grower = NULL;
    HASH_FIND(hh, source->growers, file, sizeof *file, grower);
    if (!grower) {
        grower = mem_alloc(sizeof *grower);
        grower->file = *file;
        HASH_ADD(hh, source->growers, file, sizeof grower->file, grower);
    }
}

bool source_forget_grower(struct source *source, const struct id *file)
{
    struct grower *grower = NULL;
    HASH_FIND(hh, source->growers, file, sizeof *file, grower);
    if (grower) {
        HASH_DEL(source->growers, grower);
        free(grower);
    }
    return grower != NULL;
}

void blocks_ask(struct blocks *blocks, const struct node_id *peer, uint32_t number, uint8_t flags,
                const struct id *file)
{
    if (!begin(blocks)) {
        return;
    }
    struct source *source = source_to_tell(blocks, peer);
    if (source && HASH_COUNT(source->asks) >= BLOCKS_PEER_ASKS_MAX) {
        source_end(source, BLOCKS_LIMIT);
    } else if (source) {
        struct ask *ask = NULL;
        HASH_FIND(hh, source->asks, &number, sizeof number, ask);
        if (!ask) {
            ask = mem_alloc(sizeof *ask);
            ask->number = number;
            HASH_ADD(hh, source->asks, number, sizeof ask->number, ask);
        }
        ask->file = *file;
        ask->wants_metadata = flags & TRANSFER_ASK_METADATA;
        if (flags & TRANSFER_ASK_GROWTH) {
            add_grower(source, file);
        }
        say(source, &(struct transfer_frame){
                        .type = TRANSFER_ASK, .number = number, .flags = flags, .file = *file});
    }
    end(blocks);
}

void blocks_stop_growth(struct blocks *blocks, const struct node_id *peer, const struct id *file)
{
    if (!begin(blocks)) {
        return;
    }
    struct source *source = find_source(blocks, peer);
    if (source && !source->is_ending && source_forget_grower(source, file)) {
        say(source, &(struct transfer_frame){.type = TRANSFER_STOP, .file = *file});
    }
    end(blocks);
}

static void say_request(struct source *source, const struct request *request, bool insists)
{
    CLEANUP_BUF struct buf list = BUF_INIT;
    for (size_t i = 0; i < request->wanted_count; i++) {
        transfer_frame_put_id(&list, &request->wanted[i].block);
    }
    say(source, &(struct transfer_frame){
                    .type = TRANSFER_REQUEST,
                    .number = request->number,
                    .flags = insists ? TRANSFER_REQUEST_INSIST : 0,
                    .list = buf_bytes(&list),
                });
}

void blocks_request(struct blocks *blocks, const struct node_id *peer, uint32_t number,
                    bool insists, const struct id *file, const struct transfer_part *parts,
                    size_t parts_count)
{
    CHECK(parts_count > 0 && parts_count <= TRANSFER_REQUEST_BLOCKS_MAX);
    if (!begin(blocks)) {
        return;
    }
    struct source *source = source_to_tell(blocks, peer);
    if (source && source->awaited_count + parts_count > BLOCKS_PEER_AWAITED_MAX) {
        source_end(source, BLOCKS_LIMIT);
    } else if (source) {
        struct request *request =
            mem_alloc(sizeof *request + parts_count * sizeof request->wanted[0]);
        request->number = number;
        request->file = *file;
        request->wanted_count = parts_count;
        request->left_count = parts_count;
        for (size_t i = 0; i < parts_count; i++) {
            request->wanted[i] = (struct wanted){
                .block = parts[i].id, .index = parts[i].index, .size_bytes = parts[i].size_bytes};
        }
        HASH_ADD(hh, source->requests, number, sizeof request->number, request);
        source->awaited_count += parts_count;
        say_request(source, request, insists);
    }
    end(blocks);
}

struct wanted *source_find_wanted(struct source *source, uint32_t number, uint16_t position,
                                  struct request **ret_request)
{
    struct request *request = NULL;
    HASH_FIND(hh, source->requests, &number, sizeof number, request);
    if (!request || position >= request->wanted_count || request->wanted[position].is_over) {
        return NULL;
    }
    *ret_request = request;
    return &request->wanted[position];
}

static void drop_request(struct source *source, struct request *request)
{
    source->awaited_count -= request->left_count;
    HASH_DEL(source->requests, request);
    free(request);
}

void source_answered(struct source *source, struct request *request, struct wanted *wanted)
{
    wanted->is_over = true;
    request->left_count--;
    source->awaited_count--;
    source->used_us = blocks_now_us();
    if (request->left_count == 0) {
        drop_request(source, request);
    }
}

void blocks_cancel(struct blocks *blocks, const struct node_id *peer, uint32_t number)
{
    if (!begin(blocks)) {
        return;
    }
    struct source *source = find_source(blocks, peer);
    struct request *request = NULL;
    if (source && !source->is_ending) {
        HASH_FIND(hh, source->requests, &number, sizeof number, request);
        if (source->gathering.number == number) {
            source->gathering.is_canceled = true;
        }
    }
    if (request) {
        for (size_t i = 0; i < request->wanted_count; i++) {
            source->canceled_bytes +=
                request->wanted[i].is_over ? 0 : request->wanted[i].size_bytes;
        }
        drop_request(source, request);
        say(source, &(struct transfer_frame){.type = TRANSFER_CANCEL, .number = number});
    }
    end(blocks);
}

void blocks_drop(struct blocks *blocks, const struct node_id *peer)
{
    if (!begin(blocks)) {
        return;
    }
    struct source *source = find_source(blocks, peer);
    if (source) {
        dismiss(source);
    }
    end(blocks);
}

void blocks_flush(struct blocks *blocks)
{
    if (!begin(blocks)) {
        return;
    }
    while (blocks->unsaid) {
        struct source *source = blocks->unsaid;
        LL_DELETE2(blocks->unsaid, source, unsaid);
        source->is_unsaid = false;
        write_out(source);
    }
    end(blocks);
}

/* ---- time --------------------------------------------------------------------------------------
 */

static bool is_idle(const struct source *source, uint64_t now_us)
{
    return !source->is_ending && !source->asks && !source->growers && source->awaited_count == 0 &&
           source->room_bytes == 0 && now_us > source->used_us + source->blocks->idle_us;
}

/* It has begun to send something, and others wait for the room that it keeps. */
static bool is_stalled(const struct source *source, uint64_t now_us)
{
    return !source->is_ending && source->room_bytes > 0 && !source->is_held &&
           source->blocks->waiting && now_us > source->heard_us + source->blocks->stall_us;
}

uint64_t blocks_tend_sources(struct blocks *blocks, uint64_t now_us)
{
    pthread_mutex_lock(&blocks->ask_lock);
    struct source *source;
    struct source *next;
    HASH_ITER(hh, blocks->sources, source, next)
    {
        if (is_idle(source, now_us)) {
            dismiss(source);
        } else if (is_stalled(source, now_us)) {
            blocks->sums.stalled++;
            source_end(source, BLOCKS_STALLED);
        }
    }
    const bool has_some = blocks->sources != NULL;
    pthread_mutex_unlock(&blocks->ask_lock);
    if (!has_some) {
        blocks_free_spares(blocks);
    }
    return has_some ? now_us + look_us(blocks) : UINT64_MAX;
}
