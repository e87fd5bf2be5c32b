/* SPDX-License-Identifier: Apache-2.0 */

/* What goes out, as a stranger sees it: the order of frames, their sizes, and their credit. */

#include "helpers.h"

#define BYTES_EACH ((size_t)1000000)
#define STREAMS 4

struct fixture {
    struct test_node *node;
    struct test_node stranger;
    int fd;
    struct test_stream tests[STREAMS];
    struct link_stream *streams[STREAMS];
    uint8_t *data;
};

static int setup(void **state)
{
    struct fixture *fixture = mem_alloc(sizeof *fixture);
    fixture->node = test_node_new(5, (struct link_options){.keepalive_ms = 600000});
    fixture->stranger.id = test_id(7);
    fixture->fd = test_stranger(7, fixture->node);
    fixture->data = mem_alloc(BYTES_EACH);
    test_fill(fixture->data, BYTES_EACH, 0);
    for (size_t i = 0; i < STREAMS; i++) {
        fixture->streams[i] = test_open(fixture->node, &fixture->stranger, 1, &fixture->tests[i]);
    }
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < STREAMS; i++) {
        link_stream_free(fixture->streams[i]);
    }
    test_node_free(fixture->node);
    close(fixture->fd);
    free(fixture->data);
    free(fixture);
    return 0;
}

static void give_credit(int fd, uint32_t stream, uint32_t bytes_count)
{
    uint8_t payload[4];
    codec_put_le32(payload, bytes_count);
    test_send_frame(fd, FRAME_CREDIT, stream, 0, payload, sizeof payload);
}

static struct frame next_data(int fd)
{
    static uint8_t payload[FRAME_PAYLOAD_BYTES_MAX];
    struct frame frame = {0};
    do {
        assert_true(test_receive_frame(fd, &frame, payload, sizeof payload));
    } while (frame.type != FRAME_DATA);
    return frame;
}

static void write_to(struct fixture *fixture, size_t i)
{
    assert_int_equal(link_stream_write(fixture->streams[i], BYTES(fixture->data, BYTES_EACH),
                                       test_on_release, &fixture->tests[i]),
                     0);
}

static void each_sends_what_it_has_credit_for(void **state)
{
    struct fixture *fixture = *state;
    uint64_t sent[2 * STREAMS + 2] = {0};
    for (size_t i = 0; i < STREAMS; i++) {
        write_to(fixture, i);
    }
    for (size_t i = 0; i < STREAMS; i++) {
        const struct frame frame = next_data(fixture->fd);
        sent[frame.stream] += frame.length;
    }
    for (uint32_t number = 2; number <= 2 * STREAMS; number += 2) {
        assert_int_equal(sent[number], LINK_WINDOW_BYTES_MIN);
    }
    give_credit(fixture->fd, 4, 1000);
    const struct frame frame = next_data(fixture->fd);
    assert_int_equal(frame.stream, 4);
    assert_int_equal(frame.length, 1000);
    assert_int_equal(fixture->tests[1].releases_count, 0);
}

/* With credit for all, no stream gets far ahead of another. */
static void streams_take_turns(void **state)
{
    struct fixture *fixture = *state;
    uint64_t sent[2 * STREAMS + 2] = {0};
    for (uint32_t i = 0; i < STREAMS; i++) {
        write_to(fixture, i);
    }
    for (uint32_t i = 0; i < STREAMS; i++) {
        (void)next_data(fixture->fd);
    }
    /* All credit in one piece, so that all streams may go on at the same moment. */
    CLEANUP_BUF struct buf credit = BUF_INIT;
    for (uint32_t number = 2; number <= 2 * STREAMS; number += 2) {
        (void)frame_put_control(buf_extend(&credit, 16), FRAME_CREDIT, number, BYTES_EACH, 4);
    }
    test_send(fixture->fd, credit.data, credit.size);
    const uint64_t left = BYTES_EACH - LINK_WINDOW_BYTES_MIN;
    uint64_t all = 0;
    while (all < STREAMS * left) {
        const struct frame frame = next_data(fixture->fd);
        assert_true(frame.length <= 65536);
        sent[frame.stream] += frame.length;
        all += frame.length;
        for (uint32_t number = 2; number <= 2 * STREAMS; number += 2) {
            assert_true(sent[number] + 65536 >= sent[frame.stream] || sent[number] == left);
        }
    }
    for (size_t i = 0; i < STREAMS; i++) {
        WAIT_FOR(fixture->tests[i].releases_count == 1);
    }
}

static void small_writes_share_a_frame(void **state)
{
    struct fixture *fixture = *state;
    /* Without credit they queue up. */
    assert_int_equal(link_stream_write(fixture->streams[0],
                                       BYTES(fixture->data, LINK_WINDOW_BYTES_MIN), NULL, NULL),
                     0);
    assert_int_equal(next_data(fixture->fd).length, LINK_WINDOW_BYTES_MIN);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(
            link_stream_write(fixture->streams[0], BYTES(fixture->data, 7), NULL, NULL), 0);
    }
    link_stream_end(fixture->streams[0]);
    WAIT_FOR(link_stream_queued_bytes(fixture->streams[0]) == 10 * LINK_WRITE_COST_BYTES);
    give_credit(fixture->fd, 2, 1000);
    const struct frame frame = next_data(fixture->fd);
    assert_int_equal(frame.length, 70);
    assert_int_equal(frame.flags, FRAME_FLAG_END);
}

/* The other side reads late, and says nothing that would wake us. */
static void what_the_kernel_did_not_take_goes_later(void **state)
{
    struct fixture *fixture = *state;
    const size_t size = LINK_WRITE_BYTES_MAX;
    struct test_stream *test = &fixture->tests[0];
    uint8_t *data = mem_alloc(size);
    assert_int_equal(
        link_stream_write(fixture->streams[0], BYTES(data, size), test_on_release, test), 0);
    size_t received = next_data(fixture->fd).length;
    give_credit(fixture->fd, 2, (uint32_t)size);
    WAIT_FOR(test_counters(fixture->node).sent_bytes > 2 * LINK_WINDOW_BYTES_MIN);
    assert_int_equal(test->releases_count, 0);
    while (received < size) {
        received += next_data(fixture->fd).length;
    }
    WAIT_FOR(test->releases_count == 1);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_sends_what_it_has_credit_for, setup, teardown),
        cmocka_unit_test_setup_teardown(streams_take_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(what_the_kernel_did_not_take_goes_later, setup, teardown),
        cmocka_unit_test_setup_teardown(small_writes_share_a_frame, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
