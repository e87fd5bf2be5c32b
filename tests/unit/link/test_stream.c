/* SPDX-License-Identifier: Apache-2.0 */
#include "link/stream.h"

#include "helpers.h"

#define ECHO 1
#define HOLD 2
#define REFUSE 3

/* Two nodes; `to` offers an echo, one that grants nothing, and one that takes no stream. */
struct pair {
    struct test_node *from;
    struct test_node *to;
    struct test_stream echo;
    struct test_stream hold;
};

static int refuse(void *context, const struct link_peer *peer, struct link_stream *stream,
                  struct link_stream_handlers *ret_handlers, void **ret_context)
{
    (void)context;
    (void)peer;
    (void)stream;
    (void)ret_handlers;
    (void)ret_context;
    return -EACCES;
}

static int setup(void **state)
{
    struct pair *pair = mem_alloc(sizeof *pair);
    pair->echo = (struct test_stream){.echoes = true, .is_freed_when_closed = true};
    pair->hold = (struct test_stream){.holds = true, .is_freed_when_closed = true};
    const struct link_service services[] = {
        {.number = ECHO, .context = &pair->echo, .accept = test_on_accept},
        {.number = HOLD,
         .context = &pair->hold,
         .accept = test_on_accept,
         .window_bytes = 2 * LINK_WINDOW_BYTES_MIN},
        {.number = REFUSE, .accept = refuse},
    };
    pair->from = test_node_new(1, (struct link_options){0});
    pair->to = test_node_new(
        2, (struct link_options){.services = services, .services_count = ARRAY_SIZE(services)});
    *state = pair;
    return 0;
}

static int teardown(void **state)
{
    struct pair *pair = *state;
    test_node_free(pair->from);
    test_node_free(pair->to);
    free(pair);
    return 0;
}

/* Writes `size` bytes of the test content, waiting when there is no room. */
static void write_all(struct link_stream *stream, struct test_stream *test, size_t size,
                      size_t piece_bytes)
{
    uint8_t *data = mem_alloc(piece_bytes);
    for (size_t at = 0; at < size;) {
        const size_t count = size - at < piece_bytes ? size - at : piece_bytes;
        const unsigned writables_count = test->writables_count;
        test_fill(data, count, at);
        const int err = link_stream_write(stream, BYTES(data, count), NULL, NULL);
        if (err == -EAGAIN) {
            WAIT_FOR(test->writables_count > writables_count);
            continue;
        }
        assert_int_equal(err, 0);
        at += count;
    }
    free(data);
}

static void bytes_go_there_and_back(void **state)
{
    struct pair *pair = *state;
    static const size_t sizes[] = {1, 1000, 65536, 65537, 3000000, 20000000};
    static const size_t pieces[] = {1, 7, 65536, 1000, 4096, 1000000};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct test_stream test = {0};
        pair->echo.received_bytes = 0;
        struct link_stream *stream = test_open(pair->from, pair->to, ECHO, &test);
        write_all(stream, &test, sizes[i], pieces[i]);
        link_stream_end(stream);
        WAIT_FOR(test.closed_count == 1);
        assert_int_equal(test.err, 0);
        assert_int_equal(test.received_bytes, sizes[i]);
        assert_int_equal(test.wrong_bytes, 0);
        assert_int_equal(test.ends_count, 1);
        assert_int_equal(link_stream_write(stream, bytes_of_string("x"), NULL, NULL), -EPIPE);
        link_stream_free(stream);
    }
    assert_int_equal(test_counters(pair->from).connected, 1);
}

static void borrowed_bytes_are_released_once(void **state)
{
    struct pair *pair = *state;
    struct test_stream test = {0};
    const size_t size = 3000000;
    uint8_t *data = mem_alloc(size);
    test_fill(data, size, 0);
    struct link_stream *stream = test_open(pair->from, pair->to, ECHO, &test);
    assert_int_equal(link_stream_write(stream, BYTES(data, 1000000), test_on_release, &test), 0);
    assert_int_equal(
        link_stream_write(stream, BYTES(data + 1000000, 2000000), test_on_release, &test), 0);
    link_stream_end(stream);
    WAIT_FOR(test.closed_count == 1);
    assert_int_equal(test.releases_count, 2);
    assert_int_equal(test.dropped_count, 0);
    assert_int_equal(test.received_bytes, size);
    assert_int_equal(test.wrong_bytes, 0);
    link_stream_free(stream);
    free(data);
}

static void one_that_reads_nothing_blocks_no_other(void **state)
{
    struct pair *pair = *state;
    struct test_stream stuck = {0};
    struct test_stream test = {0};
    uint8_t *data = mem_alloc(1000000);
    test_fill(data, 1000000, 0);
    struct link_stream *held = test_open(pair->from, pair->to, HOLD, &stuck);
    assert_int_equal(link_stream_write(held, BYTES(data, 1000000), test_on_release, &stuck), 0);
    WAIT_FOR(pair->hold.received_bytes == 2 * LINK_WINDOW_BYTES_MIN);

    struct link_stream *stream = test_open(pair->from, pair->to, ECHO, &test);
    write_all(stream, &test, 5000000, 100000);
    link_stream_end(stream);
    WAIT_FOR(test.closed_count == 1);
    assert_int_equal(test.received_bytes, 5000000);
    assert_int_equal(pair->hold.received_bytes, 2 * LINK_WINDOW_BYTES_MIN);
    assert_int_equal(stuck.releases_count, 0);

    link_stream_grant(pair->hold.stream, 1000);
    link_stream_grant(pair->hold.stream, LINK_WINDOW_BYTES_MIN);
    WAIT_FOR(pair->hold.received_bytes == 3 * LINK_WINDOW_BYTES_MIN + 1000);
    assert_int_equal(pair->hold.wrong_bytes, 0);
    link_stream_reset(held, 300);
    WAIT_FOR(stuck.closed_count == 1 && pair->hold.closed_count == 1);
    WAIT_FOR(stuck.releases_count == 1);
    assert_int_equal(stuck.dropped_count, 1);
    assert_int_equal(test.dropped_count, 0);
    assert_int_equal(pair->hold.code, 300);
    assert_int_equal(pair->hold.err, -ECANCELED);
    link_stream_free(held);
    link_stream_free(stream);
    free(data);
}

static void a_full_queue_refuses_and_tells_when_there_is_room(void **state)
{
    struct pair *pair = *state;
    struct test_stream test = {0};
    uint8_t *data = mem_alloc(1000000);
    test_fill(data, 1000000, 0);
    struct link_stream *stream = test_open(pair->from, pair->to, HOLD, &test);
    int err;
    size_t written = 0;
    while ((err = link_stream_write(stream, BYTES(data, 1000000), NULL, NULL)) == 0) {
        written += 1000000;
        assert_true(written <= LINK_STREAM_QUEUE_BYTES_MAX + 1000000 + 2 * LINK_WINDOW_BYTES_MIN);
    }
    assert_int_equal(err, -EAGAIN);
    assert_true(link_stream_queued_bytes(stream) >= LINK_STREAM_QUEUE_BYTES_MAX / 2);
    assert_int_equal(test.writables_count, 0);
    uint64_t granted = 0;
    while (granted < written) {
        WAIT_FOR(pair->hold.received_bytes > granted);
        const uint64_t more = pair->hold.received_bytes - granted;
        link_stream_grant(pair->hold.stream, more);
        granted += more;
    }
    WAIT_FOR(test.writables_count == 1);
    assert_int_equal(link_stream_write(stream, BYTES(data, 10), NULL, NULL), 0);
    link_stream_free(stream);
    WAIT_FOR(test.closed_count == 1 && pair->hold.closed_count == 1);
    free(data);
}

static void too_small_writes_are_bounded_in_number(void **state)
{
    struct pair *pair = *state;
    struct test_stream test = {0};
    struct link_stream *stream = test_open(pair->from, pair->to, HOLD, &test);
    size_t count = 0;
    while (link_stream_write(stream, bytes_of_string("x"), NULL, NULL) == 0) {
        count++;
        assert_true(count < 10 * LINK_STREAM_QUEUE_BYTES_MAX / LINK_WRITE_COST_BYTES);
    }
    assert_int_equal(link_stream_write(stream, BYTES(NULL, 0), NULL, NULL), -EINVAL);
    static const uint8_t byte;
    assert_int_equal(link_stream_write(stream, BYTES(&byte, LINK_WRITE_BYTES_MAX + 1), NULL, NULL),
                     -EFBIG);
    link_stream_free(stream);
    WAIT_FOR(test.closed_count == 1);
}

static void what_nobody_offers_is_reset(void **state)
{
    struct pair *pair = *state;
    struct test_stream none = {0};
    struct test_stream refused = {0};
    struct link_stream *first = test_open(pair->from, pair->to, 9, &none);
    struct link_stream *second = test_open(pair->from, pair->to, REFUSE, &refused);
    WAIT_FOR(none.closed_count == 1 && refused.closed_count == 1);
    assert_int_equal(none.err, -ECANCELED);
    assert_int_equal(none.code, LINK_RESET_NO_SERVICE);
    assert_int_equal(refused.err, -ECANCELED);
    assert_int_equal(refused.code, LINK_RESET_REFUSED);
    assert_int_equal(test_counters(pair->to).streams_refused, 2);
    link_stream_free(first);
    link_stream_free(second);
}

static void streams_have_a_limit(void **state)
{
    struct pair *pair = *state;
    static struct test_stream tests[LINK_PEER_STREAMS_MAX];
    static struct link_stream *streams[LINK_PEER_STREAMS_MAX];
    memset(tests, 0, sizeof tests);
    for (size_t i = 0; i < LINK_PEER_STREAMS_MAX; i++) {
        streams[i] = test_open(pair->from, pair->to, HOLD, &tests[i]);
    }
    const struct link_stream_options options = {.peer = pair->to->id,
                                                .address = pair->to->address,
                                                .service = HOLD,
                                                .handlers = test_handlers(),
                                                .context = &tests[0]};
    struct link_stream *more = NULL;
    assert_int_equal(link_stream_open(pair->from->link, &options, &more), -EAGAIN);
    assert_null(more);
    WAIT_FOR(test_counters(pair->to).streams_accepted == LINK_PEER_STREAMS_MAX);
    link_stream_free(streams[0]);
    WAIT_FOR(tests[0].closed_count == 1);
    struct test_stream test = {0};
    struct link_stream *again = test_open(pair->from, pair->to, HOLD, &test);
    WAIT_FOR(test_counters(pair->to).streams_accepted == LINK_PEER_STREAMS_MAX + 1);
    for (size_t i = 1; i < LINK_PEER_STREAMS_MAX; i++) {
        link_stream_free(streams[i]);
    }
    link_stream_free(again);
    WAIT_FOR(test_counters(pair->to).streams == 0);
    assert_int_equal(test_counters(pair->to).streams_refused, 0);
}

static void a_lost_connection_closes_its_streams(void **state)
{
    struct pair *pair = *state;
    struct test_stream test = {0};
    struct link_stream *stream = test_open(pair->from, pair->to, HOLD, &test);
    assert_int_equal(link_stream_write(stream, bytes_of_string("x"), test_on_release, &test), 0);
    WAIT_FOR(pair->hold.received_bytes == 1);
    assert_int_equal(link_stream_peer(stream).boot_nonce, 200);
    link_disconnect(pair->to->link, &pair->from->id);
    WAIT_FOR(test.closed_count == 1 && pair->hold.closed_count == 1);
    assert_int_equal(test.err, -EPIPE);
    assert_int_equal(test.code, LINK_RESET_LOST);
    assert_int_equal(pair->hold.err, -EPIPE);
    assert_int_equal(test.releases_count, 1);
    assert_int_equal(link_stream_write(stream, bytes_of_string("x"), NULL, NULL), -EPIPE);
    link_stream_end(stream);
    link_stream_grant(stream, 0);
    link_stream_free(stream);
}

static void nobody_there_is_an_error_of_the_stream(void **state)
{
    struct pair *pair = *state;
    struct test_stream test = {0};
    const struct link_stream_options options = {.peer = test_id(9),
                                                .address = test_address(1),
                                                .service = ECHO,
                                                .handlers = test_handlers(),
                                                .context = &test};
    struct link_stream *stream = NULL;
    assert_int_equal(link_stream_open(pair->from->link, &options, &stream), 0);
    assert_int_equal(link_stream_write(stream, bytes_of_string("x"), test_on_release, &test), 0);
    WAIT_FOR(test.closed_count == 1);
    assert_int_equal(test.err, -EIO);
    WAIT_FOR(test.releases_count == 1);
    link_stream_free(stream);
}

static void senseless_streams_are_refused(void **state)
{
    struct pair *pair = *state;
    struct test_stream test = {0};
    const struct link_stream_options good = {.peer = pair->to->id,
                                             .address = pair->to->address,
                                             .service = ECHO,
                                             .handlers = test_handlers(),
                                             .context = &test};
    struct link_stream *stream = NULL;
    struct link_stream_options options = good;
    options.peer = pair->from->id;
    assert_int_equal(link_stream_open(pair->from->link, &options, &stream), -EINVAL);
    options = good;
    options.service = 0;
    assert_int_equal(link_stream_open(pair->from->link, &options, &stream), -EINVAL);
    options = good;
    options.service = LINK_SERVICES_MAX + 1;
    assert_int_equal(link_stream_open(pair->from->link, &options, &stream), -EINVAL);
    options = good;
    options.window_bytes = LINK_WINDOW_BYTES_MAX + 1;
    assert_int_equal(link_stream_open(pair->from->link, &options, &stream), -EINVAL);
    assert_null(stream);
}

static void a_handle_outlives_the_link(void **state)
{
    struct pair *pair = *state;
    struct test_stream test = {0};
    struct test_node *node = test_node_new(3, (struct link_options){0});
    struct link_stream *stream = test_open(node, pair->to, HOLD, &test);
    assert_int_equal(link_stream_write(stream, bytes_of_string("x"), test_on_release, &test), 0);
    test_node_free(node);
    assert_int_equal(test.closed_count, 1);
    assert_int_equal(test.releases_count, 1);
    assert_int_equal(link_stream_write(stream, bytes_of_string("x"), NULL, NULL), -EPIPE);
    link_stream_reset(stream, LINK_RESET_CANCELED);
    link_stream_free(stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_go_there_and_back, setup, teardown),
        cmocka_unit_test_setup_teardown(borrowed_bytes_are_released_once, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_reads_nothing_blocks_no_other, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_queue_refuses_and_tells_when_there_is_room, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(too_small_writes_are_bounded_in_number, setup, teardown),
        cmocka_unit_test_setup_teardown(what_nobody_offers_is_reset, setup, teardown),
        cmocka_unit_test_setup_teardown(streams_have_a_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_connection_closes_its_streams, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_there_is_an_error_of_the_stream, setup, teardown),
        cmocka_unit_test_setup_teardown(senseless_streams_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_handle_outlives_the_link, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
