/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Peers that break the format, lie, flood or stop in the middle: node 1 is ours, node 2 is written
 * by hand. What they do ends their own stream at most, and nobody is given a wrong byte.
 */

#include "fake_source.h"

static void assert_malformed(struct scene *scene)
{
    WAIT_FOR(scene->us->seen->lost_count == 1);
    assert_int_equal(scene->us->seen->lost_why, BLOCKS_MALFORMED);
    WAIT_FOR(scene->fake.closed_count == 1);
    assert_int_equal(counters_of(scene->us).malformed, 1);
    assert_int_equal(counters_of(scene->us).sources, 0);
    WAIT_FOR(counters_of(scene->us).gather_bytes == 0);
}

/* ---- sources -----------------------------------------------------------------------------------
 */

static void wrong_bytes_are_bad_and_the_rest_goes_on(void **state)
{
    (void)state;
    struct scene *scene = scene_new((struct blocks_options){0});
    begin_source(scene, 1, 0, 3);
    say_block(scene, 1, 0, block_of(&scene->file, 0));
    say_block(scene, 1, 1, block_of(&scene->file, 0)); /* of another block */
    say_block(scene, 1, 2, block_of(&scene->file, 2));
    struct seen *seen = scene->us->seen;
    WAIT_FOR(seen->ends_count == 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(seen->ends[i].err, seen->ends[i].position == 1 ? -EBADMSG : 0);
    }
    assert_int_equal(counters_of(scene->us).bad_blocks, 1);
    assert_int_equal(seen->lost_count, 0);
    scene_free(scene);
}

static void a_wrong_size_is_bad_before_its_bytes_are_kept(void **state)
{
    (void)state;
    struct scene *scene = scene_new((struct blocks_options){0});
    begin_source(scene, 1, 0, 3);
    struct seen *seen = scene->us->seen;
    say_block(scene, 1, 0, BYTES(scene->file.data, BLOCK - 1));
    say_block(scene, 1, 1, BYTES(scene->file.data + BLOCK, BLOCK + 1));
    say_block(scene, 1, 2, block_of(&scene->file, 2));
    WAIT_FOR(seen->ends_count == 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(seen->ends[i].err, seen->ends[i].position == 2 ? 0 : -EBADMSG);
    }
    assert_int_equal(seen->delivered_count, 1);
    assert_int_equal(seen->lost_count, 0);
    scene_free(scene);
}

static void a_block_that_ends_early_is_never_whole(void **state)
{
    (void)state;
    struct scene *scene = scene_new((struct blocks_options){0});
    begin_source(scene, 1, 0, 1);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    transfer_frame_format(&(struct transfer_frame){.type = TRANSFER_BLOCK, .number = 1},
                          (uint32_t)BLOCK, &bytes);
    buf_add(&bytes, BYTES(scene->file.data, BLOCK / 2));
    say(scene, buf_bytes(&bytes));
    WAIT_FOR(scene->us->seen->received_bytes > 0);
    assert_int_equal(counters_of(scene->us).gather_bytes, BLOCK);
    link_stream_end(scene->fake.stream);
    WAIT_FOR(scene->us->seen->lost_count == 1);
    assert_int_equal(scene->us->seen->lost_why, BLOCKS_ENDED);
    assert_int_equal(scene->us->seen->ends_count, 0);
    WAIT_FOR(counters_of(scene->us).gather_bytes == 0);
    scene_free(scene);
}

static void a_block_that_was_not_asked_for_is_malformed(void **state)
{
    (void)state;
    struct scene *scene = scene_new((struct blocks_options){0});
    begin_source(scene, 1, 0, 1);
    say_block(scene, 2, 0, block_of(&scene->file, 0));
    assert_malformed(scene);
    assert_int_equal(scene->us->seen->delivered_count, 0);
    scene_free(scene);
}

static void the_same_block_twice_is_malformed(void **state)
{
    (void)state;
    struct scene *scene = scene_new((struct blocks_options){0});
    begin_source(scene, 1, 0, 2);
    say_block(scene, 1, 0, block_of(&scene->file, 0));
    say_block(scene, 1, 0, block_of(&scene->file, 0));
    assert_malformed(scene);
    WAIT_FOR(scene->us->seen->ends_count == 1);
    scene_free(scene);
}

static void a_refused_block_may_not_come(void **state)
{
    (void)state;
    struct scene *scene = scene_new((struct blocks_options){0});
    begin_source(scene, 1, 0, 2);
    say_frame(scene, &(struct transfer_frame){
                         .type = TRANSFER_REFUSED, .number = 1, .why = TRANSFER_REFUSED_BUSY});
    WAIT_FOR(scene->us->seen->refusals_count == 1);
    say_block(scene, 1, 0, block_of(&scene->file, 0));
    assert_malformed(scene);
    scene_free(scene);
}

static void what_was_canceled_may_come_once(void **state)
{
    (void)state;
    struct scene *scene = scene_new((struct blocks_options){0});
    begin_source(scene, 1, 0, 1);
    blocks_cancel(scene->us->blocks, &scene->other->node->id, 1);
    begin_source(scene, 2, 1, 2); /* sent after the cancel */
    say_block(scene, 1, 0, block_of(&scene->file, 0));
    say_block(scene, 2, 0, block_of(&scene->file, 1));
    WAIT_FOR(scene->us->seen->ends_count == 1);
    assert_int_equal(scene->us->seen->ends[0].number, 2);
    assert_int_equal(counters_of(scene->us).wasted_bytes, BLOCK);
    assert_int_equal(scene->us->seen->lost_count, 0);
    say_block(scene, 1, 0, block_of(&scene->file, 0));
    assert_malformed(scene);
    scene_free(scene);
}

static void endless_bodies_are_malformed(void **state)
{
    (void)state;
    static const struct {
        uint8_t type;
        uint32_t size;
    } heads[] = {
        {TRANSFER_BLOCK, UINT32_MAX},
        {TRANSFER_BLOCK, 16 * 1024 * 1024 + 7},
        {TRANSFER_OFFER, UINT32_MAX},
        {TRANSFER_MORE, 1024 * 1024},
        {99, 1024 * 1024},
        {TRANSFER_REQUEST, 37}, /* is for us to say */
    };
    for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
        struct scene *scene = scene_new((struct blocks_options){0});
        begin_source(scene, 1, 0, 1);
        say_raw(scene, heads[i].type, heads[i].size);
        assert_malformed(scene);
        scene_free(scene);
    }
}

static void random_bytes_are_malformed_or_nothing(void **state)
{
    (void)state;
    struct random random;
    random_init(&random, test_seed("random_bytes_are_malformed_or_nothing"));
    for (size_t i = 0; i < 20; i++) {
        struct scene *scene = scene_new((struct blocks_options){0});
        begin_source(scene, 1, 0, 2);
        uint8_t bytes[4096];
        random_fill(&random, bytes, sizeof bytes);
        say(scene, BYTES(bytes, sizeof bytes));
        link_stream_end(scene->fake.stream);
        WAIT_FOR(scene->us->seen->lost_count == 1);
        assert_int_equal(scene->us->seen->delivered_count, 0);
        scene_free(scene);
    }
}

static void answers_that_nobody_asked_for_are_ignored(void **state)
{
    (void)state;
    struct scene *scene = scene_new((struct blocks_options){0});
    begin_source(scene, 1, 0, 1);
    const uint8_t index[] = {1, 0, 0, 0};
    say_frame(scene, &(struct transfer_frame){.type = TRANSFER_OFFER,
                                              .number = 9,
                                              .state = TRANSFER_COMPLETE,
                                              .metadata = bytes_of_string("lies")});
    say_frame(scene, &(struct transfer_frame){.type = TRANSFER_MORE,
                                              .file = scene->file.id,
                                              .list = BYTES(index, sizeof index)});
    say_frame(scene, &(struct transfer_frame){
                         .type = TRANSFER_REFUSED, .number = 9, .why = TRANSFER_REFUSED_BAD});
    say_frame(scene, &(struct transfer_frame){.type = TRANSFER_REFUSED,
                                              .number = 1,
                                              .position = 1,
                                              .why = TRANSFER_REFUSED_BAD});
    say_block(scene, 1, 0, block_of(&scene->file, 0));
    WAIT_FOR(scene->us->seen->ends_count == 1);
    assert_int_equal(scene->us->seen->offers_count, 0);
    assert_int_equal(scene->us->seen->more_count, 0);
    assert_int_equal(scene->us->seen->refusals_count, 0);
    assert_int_equal(scene->us->seen->lost_count, 0);
    scene_free(scene);
}

/* What an offer says is handed on as it is; who asked checks it. */
static void a_lying_offer_is_handed_on(void **state)
{
    (void)state;
    struct scene *scene = scene_new((struct blocks_options){0});
    ask(scene->us, scene->other, 4, TRANSFER_ASK_METADATA, &scene->file.id);
    WAIT_FOR(scene->fake.frames_count == 1);
    say_prefix(scene);
    const size_t size = FILE_METADATA_TEXT_BYTES_MAX;
    CLEANUP_FREE uint8_t *text = mem_alloc(size);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    transfer_frame_format(&(struct transfer_frame){.type = TRANSFER_OFFER,
                                                   .number = 4,
                                                   .state = TRANSFER_COMPLETE,
                                                   .metadata = BYTES(text, size)},
                          0, &bytes);
    say(scene, buf_bytes(&bytes));
    WAIT_FOR(scene->us->seen->offers_count == 1);
    assert_int_equal(scene->us->seen->offers[0].text.size, size);
    /* A second answer to the same question is none. */
    say(scene, buf_bytes(&bytes));
    say_frame(scene, &(struct transfer_frame){.type = TRANSFER_OFFER, .number = 4});
    begin_source(scene, 1, 0, 1);
    say_block(scene, 1, 0, block_of(&scene->file, 0));
    WAIT_FOR(scene->us->seen->ends_count == 1);
    assert_int_equal(scene->us->seen->offers_count, 1);
    WAIT_FOR(counters_of(scene->us).gather_bytes == 0);
    scene_free(scene);
}

/* One begins a block and stops; others wait for the room that it takes. */
static void who_keeps_the_room_and_stops_is_ended(void **state)
{
    (void)state;
    struct scene *scene =
        scene_new((struct blocks_options){.stall_ms = 200, .gather_bytes_max = BLOCK});
    struct side *honest = world_add(&scene->world, (struct blocks_options){0});
    put_bytes(honest->scratch->store, STORE_ORIGIN, BYTES(scene->file.data, scene->file.size));
    begin_source(scene, 1, 0, 1);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    transfer_frame_format(&(struct transfer_frame){.type = TRANSFER_BLOCK, .number = 1},
                          (uint32_t)BLOCK, &bytes);
    buf_add(&bytes, BYTES(scene->file.data, 1000));
    say(scene, buf_bytes(&bytes));
    WAIT_FOR(counters_of(scene->us).gather_bytes == BLOCK);
    request(scene->us, honest, 1, true, &scene->file, 3, 6);
    WAIT_FOR(scene->us->seen->lost_count == 1);
    assert_int_equal(scene->us->seen->lost_why, BLOCKS_STALLED);
    WAIT_FOR(scene->us->seen->ends_count == 3);
    assert_int_equal(scene->us->seen->wrong_count, 0);
    assert_int_equal(counters_of(scene->us).stalled, 1);
    WAIT_FOR(counters_of(scene->us).gather_bytes == 0);
    side_stop(honest);
    seen_free(honest->seen);
    assert_int_equal(scratch_tear_down((void **)&honest->scratch), 0);
    scene_free(scene);
}

/* ---- receivers ---------------------------------------------------------------------------------
 */

/* The fake asks us. */
static void begin_receiver(struct scene *scene, bool holds)
{
    struct link_stream *stream = NULL;
    scene->fake.holds = holds;
    transfer_reader_init(&scene->fake.reader, false);
    const struct link_stream_options options = {.peer = scene->us->node->id,
                                                .address = scene->us->node->address,
                                                .service = SERVICE_BLOCKS,
                                                .handlers = fake_handlers,
                                                .context = &scene->fake};
    assert_ok(link_stream_open(scene->other->node->link, &options, &stream));
    scene->fake.stream = stream;
    say_prefix(scene);
}

static void a_receiver_that_talks_nonsense_is_ended(void **state)
{
    (void)state;
    static const struct {
        uint8_t type;
        uint32_t size;
    } heads[] = {
        {TRANSFER_BLOCK, 100}, {TRANSFER_ASK, 38}, {TRANSFER_REQUEST, UINT32_MAX}, {99, 1 << 20}};
    for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
        struct scene *scene = scene_new((struct blocks_options){0});
        begin_receiver(scene, false);
        say_raw(scene, heads[i].type, heads[i].size);
        WAIT_FOR(scene->fake.closed_count == 1);
        assert_int_equal(scene->fake.code, LINK_RESET_SERVICE);
        WAIT_FOR(counters_of(scene->us).receivers == 0);
        assert_int_equal(counters_of(scene->us).malformed, 1);
        scene_free(scene);
    }
}

static void another_major_version_is_told_so(void **state)
{
    (void)state;
    struct scene *scene = scene_new((struct blocks_options){0});
    struct link_stream *stream = NULL;
    transfer_reader_init(&scene->fake.reader, false);
    const struct link_stream_options options = {.peer = scene->us->node->id,
                                                .address = scene->us->node->address,
                                                .service = SERVICE_BLOCKS,
                                                .handlers = fake_handlers,
                                                .context = &scene->fake};
    assert_ok(link_stream_open(scene->other->node->link, &options, &stream));
    scene->fake.stream = stream;
    const uint8_t prefix[] = {TRANSFER_MAJOR + 1, 0};
    say(scene, BYTES(prefix, sizeof prefix));
    WAIT_FOR(scene->fake.closed_count == 1);
    assert_int_equal(scene->fake.code, LINK_RESET_SERVICE + 1);
    scene_free(scene);
}

static void a_stranger_gets_no_stream(void **state)
{
    (void)state;
    struct scene *scene = scene_new((struct blocks_options){0});
    struct test_node *stranger = test_node_new(NEVER_ADDRESS, (struct link_options){0});
    struct test_stream test = {0};
    struct link_stream *stream = test_open(stranger, scene->us->node, SERVICE_BLOCKS, &test);
    WAIT_FOR(test.closed_count == 1);
    assert_int_equal(test.code, LINK_RESET_REFUSED);
    assert_int_equal(counters_of(scene->us).receivers, 0);
    link_stream_free(stream);
    test_node_free(stranger);
    scene_free(scene);
}

/* A question is 43 bytes, the answer several hundred: without a bound its asker could make us hold
 * as many as he likes. */
static void who_asks_and_does_not_read_is_not_answered_on(void **state)
{
    (void)state;
    struct scene *scene = scene_new((struct blocks_options){0});
    struct side *honest = world_add(&scene->world, (struct blocks_options){0});
    put_bytes(scene->us->scratch->store, STORE_ORIGIN, BYTES(scene->file.data, scene->file.size));
    begin_receiver(scene, true);
    CLEANUP_BUF struct buf train = BUF_INIT;
    for (uint32_t i = 0; i < 1000; i++) {
        transfer_frame_format(&(struct transfer_frame){.type = TRANSFER_ASK,
                                                       .number = i,
                                                       .flags = TRANSFER_ASK_METADATA,
                                                       .file = scene->file.id},
                              0, &train);
    }
    uint64_t said_bytes = 0;
    while (link_stream_write(scene->fake.stream, buf_bytes(&train), NULL, NULL) == 0) {
        said_bytes += train.size;
    }
    /* Its window is full, and what it says stays with it. */
    WAIT_FOR(scene->fake.got_bytes >= LINK_WINDOW_BYTES_DEFAULT);
    ask(honest, scene->us, 1, TRANSFER_ASK_METADATA, &scene->file.id);
    request(honest, scene->us, 2, true, &scene->file, 0, 4);
    WAIT_FOR(honest->seen->offers_count == 1 && honest->seen->ends_count == 4);
    assert_int_equal(scene->fake.got_bytes, LINK_WINDOW_BYTES_DEFAULT);
    assert_true(link_stream_queued_bytes(scene->fake.stream) > said_bytes / 4);
    struct link_peer_status peers[4];
    const size_t count = link_list_peers(scene->us->node->link, peers, ARRAY_SIZE(peers));
    for (size_t i = 0; i < count; i++) {
        assert_true(peers[i].queued_bytes <= 6 * MIB);
    }
    side_stop(honest);
    seen_free(honest->seen);
    assert_int_equal(scratch_tear_down((void **)&honest->scratch), 0);
    scene_free(scene);
}

/* The fake requests all blocks some times over, in requests from `number` on. -EPIPE: its stream
 * was ended. */
static int request_much(struct scene *scene, uint32_t number)
{
    CLEANUP_BUF struct buf list = BUF_INIT;
    for (size_t i = 0; i < BLOCKS; i++) {
        transfer_frame_put_id(&list, &scene->file.metadata.blocks[i].id);
    }
    CLEANUP_BUF struct buf requests = BUF_INIT;
    for (uint32_t i = 0; i < 50; i++) {
        transfer_frame_format(&(struct transfer_frame){.type = TRANSFER_REQUEST,
                                                       .number = number + i,
                                                       .flags = TRANSFER_REQUEST_INSIST,
                                                       .list = buf_bytes(&list)},
                              0, &requests);
    }
    return link_stream_write(scene->fake.stream, buf_bytes(&requests), NULL, NULL);
}

/* The fake requests much and takes nothing. */
static void begin_deaf_receiver(struct scene *scene)
{
    put_bytes(scene->us->scratch->store, STORE_ORIGIN, BYTES(scene->file.data, scene->file.size));
    begin_receiver(scene, true);
    assert_ok(request_much(scene, 0));
    WAIT_FOR(scene->fake.got_bytes > 4 * KIB);
}

static void who_does_not_read_keeps_nobody_else_waiting(void **state)
{
    (void)state;
    struct scene *scene = scene_new((struct blocks_options){.stall_ms = 2000});
    struct side *honest = world_add(&scene->world, (struct blocks_options){0});
    begin_deaf_receiver(scene);
    /* Who is busy is asked again, as always. */
    size_t asked = 0;
    for (uint32_t number = 1; honest->seen->ends_count < 3; number++) {
        assert_true(number < 1000);
        request(honest, scene->us, number, true, &scene->file, 0, 3);
        asked += 3;
        WAIT_FOR(honest->seen->ends_count + honest->seen->refusals_count == asked);
        test_nap();
    }
    assert_int_equal(honest->seen->wrong_count, 0);
    assert_int_equal(scene->fake.closed_count, 0);
    side_stop(honest);
    seen_free(honest->seen);
    assert_int_equal(scratch_tear_down((void **)&honest->scratch), 0);
    scene_free(scene);
}

/* What was still to be sent when its stream went did not leave, and is not counted. */
static void what_is_dropped_with_a_stream_was_not_sent(void **state)
{
    (void)state;
    struct scene *scene = scene_new((struct blocks_options){.stall_ms = 60000});
    begin_deaf_receiver(scene);
    WAIT_FOR(scene->fake.got_bytes == LINK_WINDOW_BYTES_DEFAULT);
    link_stream_reset(scene->fake.stream, LINK_RESET_CANCELED);
    WAIT_FOR(counters_of(scene->us).receivers == 0);
    WAIT_FOR(counters_of(scene->us).upload_queued == 0);
    assert_in_range(counters_of(scene->us).sent_bytes, 1, LINK_WINDOW_BYTES_DEFAULT);
    scene_free(scene);
}

static void who_does_not_read_for_long_is_ended(void **state)
{
    (void)state;
    struct scene *scene = scene_new((struct blocks_options){.stall_ms = 20});
    begin_deaf_receiver(scene);
    /* Until it has a window full of blocks: on a slow machine it seems to be stuck before that, and
     * what it asks for then is refused. */
    for (uint32_t number = 50; scene->fake.closed_count == 0; number += 50) {
        const int err = request_much(scene, number);
        assert_true(err == 0 || err == -EAGAIN || err == -EPIPE);
        assert_true(number < 50 * WAIT_MS); /* a millisecond each, at least */
        test_nap();
    }
    assert_int_equal(counters_of(scene->us).stalled, 1);
    WAIT_FOR(counters_of(scene->us).receivers == 0);
    WAIT_FOR(counters_of(scene->us).upload_queued == 0);
    scene_free(scene);
}

/* He wants to know of the growth of files, and does not read what he is told: no more is kept for
 * him than a little, and when he reads he hears of all. */
static void who_does_not_read_news_hears_them_later(void **state)
{
    (void)state;
    enum { FILES = IS_SANITIZED ? 4 : 24 }; /* the latter would fill a queue without bound */
    struct scene *scene = scene_new((struct blocks_options){0});
    begin_receiver(scene, true);
    struct id files[FILES] = {0};
    for (uint32_t i = 0; i < FILES; i++) {
        files[i].bytes[0] = (uint8_t)(i + 1);
        say_frame(scene, &(struct transfer_frame){.type = TRANSFER_ASK,
                                                  .number = i,
                                                  .flags = TRANSFER_ASK_GROWTH,
                                                  .file = files[i]});
    }
    WAIT_FOR(scene->fake.frames_count == FILES);
    uint64_t unsaid_bytes = 0;
    for (uint32_t i = 0; i < FILE_METADATA_BLOCKS_MAX; i++) {
        for (uint32_t j = 0; j < FILES; j++) {
            blocks_came(scene->us->blocks, &files[j], i);
        }
        const uint64_t bytes = i % 1000 == 0 ? counters_of(scene->us).unsaid_bytes : 0;
        unsaid_bytes = bytes > unsaid_bytes ? bytes : unsaid_bytes;
    }
    WAIT_FOR(scene->fake.got_bytes == LINK_WINDOW_BYTES_DEFAULT);
    test_nap();
    assert_in_range(counters_of(scene->us).unsaid_bytes, 0, 2 * MIB);
    assert_in_range(unsaid_bytes, 0, 2 * MIB);
    scene->fake.holds = false;
    link_stream_grant(scene->fake.stream, LINK_WINDOW_BYTES_DEFAULT);
    WAIT_FOR(scene->fake.told_count == (size_t)FILES * FILE_METADATA_BLOCKS_MAX);
    scene_free(scene);
}

static void a_second_stream_of_a_receiver_replaces_the_first(void **state)
{
    (void)state;
    struct scene *scene = scene_new((struct blocks_options){0});
    begin_receiver(scene, false);
    say_frame(scene, &(struct transfer_frame){.type = TRANSFER_ASK, .file = scene->file.id});
    WAIT_FOR(scene->fake.frames_count == 1);
    struct fake second = {.frames_count = 0};
    struct fake *first = &scene->fake;
    struct link_stream *stream = NULL;
    transfer_reader_init(&second.reader, false);
    const struct link_stream_options options = {.peer = scene->us->node->id,
                                                .address = scene->us->node->address,
                                                .service = SERVICE_BLOCKS,
                                                .handlers = fake_handlers,
                                                .context = &second};
    assert_ok(link_stream_open(scene->other->node->link, &options, &stream));
    WAIT_FOR(first->closed_count == 1);
    WAIT_FOR(counters_of(scene->us).receivers == 1);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    transfer_frame_prefix(&bytes);
    transfer_frame_format(&(struct transfer_frame){.type = TRANSFER_ASK, .file = scene->file.id}, 0,
                          &bytes);
    assert_ok(link_stream_write(stream, buf_bytes(&bytes), NULL, NULL));
    WAIT_FOR(second.frames_count == 1);
    link_stream_reset(stream, LINK_RESET_CANCELED);
    WAIT_FOR(second.closed_count == 1);
    link_stream_free(stream);
    transfer_reader_done(&second.reader);
    scene_free(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_bytes_are_bad_and_the_rest_goes_on),
        cmocka_unit_test(a_wrong_size_is_bad_before_its_bytes_are_kept),
        cmocka_unit_test(a_block_that_ends_early_is_never_whole),
        cmocka_unit_test(a_block_that_was_not_asked_for_is_malformed),
        cmocka_unit_test(the_same_block_twice_is_malformed),
        cmocka_unit_test(a_refused_block_may_not_come),
        cmocka_unit_test(what_was_canceled_may_come_once),
        cmocka_unit_test(endless_bodies_are_malformed),
        cmocka_unit_test(random_bytes_are_malformed_or_nothing),
        cmocka_unit_test(answers_that_nobody_asked_for_are_ignored),
        cmocka_unit_test(a_lying_offer_is_handed_on),
        cmocka_unit_test(who_keeps_the_room_and_stops_is_ended),
        cmocka_unit_test(a_receiver_that_talks_nonsense_is_ended),
        cmocka_unit_test(another_major_version_is_told_so),
        cmocka_unit_test(a_stranger_gets_no_stream),
        cmocka_unit_test(who_asks_and_does_not_read_is_not_answered_on),
        cmocka_unit_test(who_does_not_read_keeps_nobody_else_waiting),
        cmocka_unit_test(what_is_dropped_with_a_stream_was_not_sent),
        cmocka_unit_test(who_does_not_read_for_long_is_ended),
        cmocka_unit_test(who_does_not_read_news_hears_them_later),
        cmocka_unit_test(a_second_stream_of_a_receiver_replaces_the_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
