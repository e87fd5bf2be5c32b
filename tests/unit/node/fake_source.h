/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_NODE_FAKE_SOURCE_H
#define TESTS_UNIT_NODE_FAKE_SOURCE_H

/* A node of ours, 1, that asks another one for blocks, 2, whose every word is the test's. */

#include "blocks_helpers.h"

#define FRAMES_MAX 64u

/* The other side: what it heard, and the stream that it has. */
struct fake {
    struct link_stream *_Atomic stream;
    _Atomic uint64_t got_bytes;
    _Atomic unsigned closed_count;
    _Atomic uint32_t code;
    _Atomic bool holds; /* grants nothing */
    struct transfer_reader reader;
    struct transfer_frame frames[FRAMES_MAX]; /* without lists and bytes */
    _Atomic size_t told_count;                /* blocks of growth */
    _Atomic size_t frames_count;
};

static inline void fake_data(void *context, struct link_stream *stream, struct bytes bytes)
{
    struct fake *fake = context;
    fake->got_bytes += bytes.size;
    if (!fake->holds) {
        link_stream_grant(stream, bytes.size);
    }
    struct transfer_piece piece;
    int got;
    while ((got = transfer_reader_next(&fake->reader, &bytes, &piece)) > 0) {
        if (got == TRANSFER_READ_FRAME && piece.frame.type == TRANSFER_MORE) {
            fake->told_count += piece.frame.list.size / sizeof(uint32_t);
        } else if (got == TRANSFER_READ_FRAME && fake->frames_count < FRAMES_MAX) {
            fake->frames[fake->frames_count] = piece.frame;
            fake->frames_count++;
        }
    }
    MUST(got == 0);
}

static inline void fake_closed(void *context, struct link_stream *stream, int err, uint32_t code)
{
    struct fake *fake = context;
    (void)stream;
    (void)err;
    fake->code = code;
    fake->closed_count++;
}

static const struct link_stream_handlers fake_handlers = {.data = fake_data, .closed = fake_closed};

static inline int fake_accept(void *context, const struct link_peer *peer,
                              struct link_stream *stream, struct link_stream_handlers *ret_handlers,
                              void **ret_context)
{
    struct fake *fake = context;
    (void)peer;
    MUST(!fake->stream); /* no test has two */
    transfer_reader_init(&fake->reader, true);
    fake->stream = stream;
    *ret_handlers = fake_handlers;
    *ret_context = fake;
    return 0;
}

struct scene {
    struct world world;
    struct side *us;
    struct side *other;
    struct fake fake;
    struct coming file;
};

static inline struct scene *scene_new(struct blocks_options options)
{
    struct scene *scene = mem_alloc(sizeof *scene);
    scene->us = world_add(&scene->world, options);
    scene->other = &scene->world.sides[1];
    const struct link_service service = {
        .number = SERVICE_BLOCKS, .context = &scene->fake, .accept = fake_accept};
    scene->other->node =
        test_node_new(2, (struct link_options){.services = &service, .services_count = 1});
    scene->world.count = 2;
    make_coming(&scene->file, 7, SIZE);
    return scene;
}

static inline void scene_free(struct scene *scene)
{
    scene->us->seen->is_slow = false;
    side_stop(scene->us);
    side_stop(scene->other);
    link_stream_free(scene->fake.stream);
    (void)store_intake_close(scene->us->seen->to);
    seen_free(scene->us->seen);
    assert_int_equal(scratch_tear_down((void **)&scene->us->scratch), 0);
    transfer_reader_done(&scene->fake.reader);
    coming_done(&scene->file);
    free(scene);
}

static inline void say(struct scene *scene, struct bytes bytes)
{
    WAIT_FOR(link_stream_write(scene->fake.stream, bytes, NULL, NULL) == 0);
}

static inline void say_prefix(struct scene *scene)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    transfer_frame_prefix(&bytes);
    say(scene, buf_bytes(&bytes));
}

static inline void say_frame(struct scene *scene, const struct transfer_frame *frame)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    transfer_frame_format(frame, 0, &bytes);
    say(scene, buf_bytes(&bytes));
}

static inline void say_block(struct scene *scene, uint32_t number, uint16_t position,
                             struct bytes bytes)
{
    CLEANUP_BUF struct buf head = BUF_INIT;
    transfer_frame_format(
        &(struct transfer_frame){.type = TRANSFER_BLOCK, .number = number, .position = position},
        (uint32_t)bytes.size, &head);
    buf_add(&head, bytes);
    say(scene, buf_bytes(&head));
}

static inline void say_raw(struct scene *scene, uint8_t type, uint32_t size)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    field_put_u8(&bytes, type);
    field_put_u8(&bytes, 0);
    field_put_u32(&bytes, size);
    say(scene, buf_bytes(&bytes));
}

/* We ask the fake for blocks, and it has heard of it. */
static inline void begin_source(struct scene *scene, uint32_t number, uint32_t begin, uint32_t end)
{
    const size_t before = scene->fake.frames_count;
    request(scene->us, scene->other, number, false, &scene->file, begin, end);
    WAIT_FOR(scene->fake.frames_count > before &&
             scene->fake.frames[scene->fake.frames_count - 1].number == number);
    if (before == 0) {
        say_prefix(scene);
    }
}

#endif
