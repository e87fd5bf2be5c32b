/* SPDX-License-Identifier: Apache-2.0 */

/* One connection from its first byte to its end, with strangers that break the rules. */

#include "helpers.h"

#define ECHO 1
#define HOLD 2
#define SINK 3

static void on_message(void *context, const struct link_peer *peer, struct bytes bytes)
{
    _Atomic unsigned *count = context;
    (void)peer;
    (void)bytes;
    (*count)++;
}

struct fixture {
    struct test_node *node;
    struct test_node *honest; /* its connection is to live through whatever others do */
    struct test_stream echo;
    struct test_stream hold;
    struct test_stream steady;
    struct link_stream *steady_stream;
    _Atomic unsigned messages_count;
};

/* Deadlines of `node`; 0: as usual. */
static struct fixture *setup_with(struct link_options options)
{
    struct fixture *fixture = mem_alloc(sizeof *fixture);
    fixture->echo = (struct test_stream){.echoes = true, .is_freed_when_closed = true};
    fixture->hold = (struct test_stream){.holds = true, .is_freed_when_closed = true};
    const struct link_service services[] = {
        {.number = ECHO, .context = &fixture->echo, .accept = test_on_accept},
        {.number = HOLD,
         .context = &fixture->hold,
         .accept = test_on_accept,
         .window_bytes = LINK_WINDOW_BYTES_MIN},
        {.number = SINK, .context = &fixture->messages_count, .message = on_message},
    };
    options.services = services;
    options.services_count = ARRAY_SIZE(services);
    fixture->node = test_node_new(5, options);
    fixture->honest = test_node_new(6, (struct link_options){0});
    fixture->steady_stream = test_open(fixture->honest, fixture->node, ECHO, &fixture->steady);
    assert_int_equal(
        link_stream_write(fixture->steady_stream, BYTES((uint8_t[1]){0}, 1), NULL, NULL), 0);
    WAIT_FOR(fixture->steady.received_bytes == 1);
    return fixture;
}

/* The honest one is still connected, by the same connection. */
static void check_and_free(struct fixture *fixture)
{
    const uint8_t byte = test_byte(1);
    fixture->echo.received_bytes = 1;
    assert_int_equal(link_stream_write(fixture->steady_stream, BYTES(&byte, 1), NULL, NULL), 0);
    WAIT_FOR(fixture->steady.received_bytes == 2);
    assert_int_equal(fixture->steady.closed_count, 0);
    assert_int_equal(fixture->steady.wrong_bytes, 0);
    assert_int_equal(test_counters(fixture->honest).connected, 1);
    link_stream_free(fixture->steady_stream);
    test_node_free(fixture->honest);
    test_node_free(fixture->node);
    free(fixture);
}

static uint64_t ended(const struct fixture *fixture, enum link_reason reason)
{
    return test_counters(fixture->node).ended[reason];
}

static void wrong_preambles_are_refused_with_a_reason(void **state)
{
    (void)state;
    struct fixture *fixture = setup_with((struct link_options){0});
    static const uint8_t reasons[] = {LINK_REASON_OTHER_ID, LINK_REASON_OWN_ID};
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
        struct preamble preamble = test_preamble(7, fixture->node);
        preamble.expected = i == 0 ? test_id(9) : fixture->node->id;
        preamble.id = i == 1 ? fixture->node->id : preamble.id;
        const int fd = test_connect(fixture->node);
        test_send_preamble(fd, &preamble);
        const struct preamble answer = test_receive_preamble(fd);
        assert_int_equal(answer.verdict, reasons[i]);
        assert_true(node_id_equal(&answer.id, &fixture->node->id));
        test_receive_end(fd);
        close(fd);
        assert_int_equal(ended(fixture, reasons[i]), 1);
    }
    const int fd = test_connect(fixture->node);
    test_send(fd,
              "\xA7"
              "artel\x02",
              7);
    assert_int_equal(test_receive_preamble(fd).verdict, LINK_REASON_VERSION);
    test_receive_end(fd);
    close(fd);
    assert_int_equal(ended(fixture, LINK_REASON_VERSION), 1);
    check_and_free(fixture);
}

static void what_is_no_preamble_is_closed(void **state)
{
    (void)state;
    struct fixture *fixture = setup_with((struct link_options){0});
    int fd = test_connect(fixture->node);
    test_send(fd, "GET / HTTP/1.1\r\n\r\n", 18);
    test_receive_end(fd);
    close(fd);
    assert_int_equal(ended(fixture, LINK_REASON_MALFORMED), 1);

    /* More than the preamble, before it is answered. */
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    const struct preamble preamble = test_preamble(7, fixture->node);
    preamble_format(&preamble, &bytes);
    buf_add_byte(&bytes, 0);
    fd = test_connect(fixture->node);
    test_send(fd, bytes.data, bytes.size);
    test_receive_end(fd);
    close(fd);
    assert_int_equal(ended(fixture, LINK_REASON_MALFORMED), 2);
    check_and_free(fixture);
}

static void a_preamble_in_single_bytes_is_taken(void **state)
{
    (void)state;
    struct fixture *fixture = setup_with((struct link_options){0});
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    const struct preamble preamble = test_preamble(7, fixture->node);
    preamble_format(&preamble, &bytes);
    const int fd = test_connect(fixture->node);
    for (size_t i = 0; i < bytes.size; i++) {
        test_send(fd, bytes.data + i, 1);
        test_nap();
    }
    const struct preamble answer = test_receive_preamble(fd);
    assert_int_equal(answer.verdict, 0);
    assert_int_equal(answer.boot_nonce, 500);
    close(fd);
    check_and_free(fixture);
}

static void a_slow_handshake_has_a_deadline(void **state)
{
    (void)state;
    struct fixture *fixture = setup_with((struct link_options){.handshake_ms = 100});
    const int silent = test_connect(fixture->node);
    const int slow = test_connect(fixture->node);
    test_send(slow,
              "\xA7"
              "art",
              4);
    test_receive_end(silent);
    test_receive_end(slow);
    close(silent);
    close(slow);
    assert_int_equal(ended(fixture, LINK_REASON_SLOW), 2);
    check_and_free(fixture);
}

static void silent_strangers_do_not_keep_others_out(void **state)
{
    (void)state;
    struct fixture *fixture = setup_with((struct link_options){.handshake_ms = 600000});
    static int silent[LINK_HANDSHAKES_MAX + 20];
    for (size_t i = 0; i < ARRAY_SIZE(silent); i++) {
        silent[i] = test_connect(fixture->node);
    }
    WAIT_FOR(ended(fixture, LINK_REASON_SHED) == 20);
    test_receive_end(silent[0]);
    close(test_stranger(7, fixture->node));
    for (size_t i = 0; i < ARRAY_SIZE(silent); i++) {
        close(silent[i]);
    }
    check_and_free(fixture);
}

static void too_many_connections_are_refused(void **state)
{
    (void)state;
    struct fixture *fixture = setup_with((struct link_options){.connections_max = 3});
    const int first = test_stranger(7, fixture->node);
    const int second = test_stranger(8, fixture->node);
    const int third = test_connect(fixture->node);
    test_receive_end(third);
    assert_int_equal(ended(fixture, LINK_REASON_BUSY), 1);
    close(first);
    WAIT_FOR(test_counters(fixture->node).connections == 2);
    close(test_stranger(9, fixture->node));
    close(second);
    close(third);
    check_and_free(fixture);
}

struct bad_frame {
    const char *name;
    uint8_t type;
    uint32_t stream;
    uint8_t flags;
    uint32_t length;
    enum link_reason reason;
};

static void broken_rules_end_the_connection(void **state)
{
    (void)state;
    static const struct bad_frame frames[] = {
        {"too long", FRAME_DATA, 1, 0, FRAME_PAYLOAD_BYTES_MAX + 1, LINK_REASON_MALFORMED},
        {"data of no stream", FRAME_DATA, 1, 0, 1, LINK_REASON_MALFORMED},
        {"data of our stream", FRAME_DATA, 2, 0, 1, LINK_REASON_MALFORMED},
        {"credit of no stream", FRAME_CREDIT, 5, 0, 4, LINK_REASON_MALFORMED},
        {"reset of no stream", FRAME_RESET, 5, 0, 4, LINK_REASON_MALFORMED},
        {"our number opened", FRAME_OPEN, 2, 0, 2, LINK_REASON_MALFORMED},
    };
    struct fixture *fixture = setup_with((struct link_options){0});
    static uint8_t zeros[FRAME_PAYLOAD_BYTES_MAX + 1];
    for (size_t i = 0; i < ARRAY_SIZE(frames); i++) {
        const uint64_t before = ended(fixture, frames[i].reason);
        const int fd = test_stranger(7, fixture->node);
        /* The header suffices; a payload that is not read would become a reset. */
        const size_t size = frames[i].length > FRAME_PAYLOAD_BYTES_MAX ? 0 : frames[i].length;
        uint8_t header[FRAME_HEADER_BYTES];
        const struct frame frame = {.length = frames[i].length,
                                    .stream = frames[i].stream,
                                    .type = frames[i].type,
                                    .flags = frames[i].flags};
        frame_put(header, &frame);
        test_send(fd, header, sizeof header);
        test_send(fd, zeros, size);
        test_receive_end(fd);
        close(fd);
        if (ended(fixture, frames[i].reason) != before + 1) {
            fail_msg("%s", frames[i].name);
        }
    }
    check_and_free(fixture);
}

static void numbers_of_streams_only_rise(void **state)
{
    (void)state;
    struct fixture *fixture = setup_with((struct link_options){0});
    const int fd = test_stranger(7, fixture->node);
    test_send_open(fd, 9, HOLD, FRAME_KIND_STREAM);
    test_send_open(fd, 7, HOLD, FRAME_KIND_STREAM);
    test_receive_end(fd);
    close(fd);
    assert_int_equal(ended(fixture, LINK_REASON_MALFORMED), 1);
    WAIT_FOR(fixture->hold.closed_count == 1);
    check_and_free(fixture);
}

static void data_beyond_the_credit_ends_the_connection(void **state)
{
    (void)state;
    struct fixture *fixture = setup_with((struct link_options){0});
    uint8_t *data = mem_alloc(LINK_WINDOW_BYTES_MIN);
    test_fill(data, LINK_WINDOW_BYTES_MIN, 0);
    const int fd = test_stranger(7, fixture->node);
    test_send_open(fd, 1, HOLD, FRAME_KIND_STREAM);
    test_send_frame(fd, FRAME_DATA, 1, 0, data, LINK_WINDOW_BYTES_MIN);
    WAIT_FOR(fixture->hold.received_bytes == LINK_WINDOW_BYTES_MIN);
    assert_int_equal(fixture->hold.closed_count, 0);
    test_send_frame(fd, FRAME_DATA, 1, 0, data, 1);
    test_receive_end(fd);
    close(fd);
    free(data);
    assert_int_equal(ended(fixture, LINK_REASON_CREDIT), 1);
    assert_int_equal(fixture->hold.received_bytes, LINK_WINDOW_BYTES_MIN);
    check_and_free(fixture);
}

static void data_after_the_end_ends_the_connection(void **state)
{
    (void)state;
    struct fixture *fixture = setup_with((struct link_options){0});
    const int fd = test_stranger(7, fixture->node);
    test_send_open(fd, 1, HOLD, FRAME_KIND_STREAM);
    test_send_frame(fd, FRAME_DATA, 1, FRAME_FLAG_END, NULL, 0);
    test_send_frame(fd, FRAME_DATA, 1, 0, "x", 1);
    test_receive_end(fd);
    close(fd);
    assert_int_equal(ended(fixture, LINK_REASON_MALFORMED), 1);
    check_and_free(fixture);
}

static void endless_credit_ends_the_connection(void **state)
{
    (void)state;
    struct fixture *fixture = setup_with((struct link_options){0});
    const uint8_t most[] = {255, 255, 255, 255};
    const int fd = test_stranger(7, fixture->node);
    test_send_open(fd, 1, HOLD, FRAME_KIND_STREAM);
    test_send_frame(fd, FRAME_CREDIT, 1, 0, most, sizeof most);
    test_receive_end(fd);
    close(fd);
    assert_int_equal(ended(fixture, LINK_REASON_MALFORMED), 1);
    check_and_free(fixture);
}

static void frames_of_a_newer_version_are_skipped(void **state)
{
    (void)state;
    struct fixture *fixture = setup_with((struct link_options){0});
    static uint8_t payload[5000];
    struct frame frame = {0};
    const int fd = test_stranger(7, fixture->node);
    test_send_frame(fd, 77, 12345, 255, payload, sizeof payload);
    test_send_frame(fd, FRAME_PING, 0, 0, "12345678", 8);
    assert_true(test_receive_frame(fd, &frame, payload, sizeof payload));
    assert_int_equal(frame.type, FRAME_PONG);
    assert_memory_equal(payload, "12345678", 8);
    assert_int_equal(test_counters(fixture->node).unknown_frames, 1);
    close(fd);
    check_and_free(fixture);
}

static void a_flood_of_opens_is_bounded(void **state)
{
    (void)state;
    struct fixture *fixture = setup_with((struct link_options){0});
    const int fd = test_stranger(7, fixture->node);
    for (uint32_t i = 0; i < LINK_PEER_STREAMS_MAX + 10; i++) {
        test_send_open(fd, 2 * i + 1, HOLD, FRAME_KIND_STREAM);
    }
    WAIT_FOR(test_counters(fixture->node).streams_refused == 10);
    assert_int_equal(test_counters(fixture->node).streams, LINK_PEER_STREAMS_MAX + 1);
    struct frame frame = {0};
    uint8_t payload[16];
    do {
        assert_true(test_receive_frame(fd, &frame, payload, sizeof payload));
    } while (frame.type != FRAME_RESET);
    assert_int_equal(codec_get_le32(payload), LINK_RESET_LIMIT);
    assert_int_equal(frame.stream, 2 * LINK_PEER_STREAMS_MAX + 1);
    close(fd);
    WAIT_FOR(test_counters(fixture->node).streams == 1);
    check_and_free(fixture);
}

static void who_asks_and_never_reads_is_closed(void **state)
{
    (void)state;
    struct fixture *fixture = setup_with((struct link_options){0});
    const int fd = test_stranger(7, fixture->node);
    /* Each open costs an answer; none is read. A blocked send ends with the connection. */
    CLEANUP_BUF struct buf opens = BUF_INIT;
    const uint8_t nothing[] = {30, FRAME_KIND_STREAM};
    for (uint32_t i = 0; i < 2000; i++) {
        const struct frame frame = {.length = 2, .stream = 0, .type = FRAME_OPEN};
        frame_put(buf_extend(&opens, FRAME_HEADER_BYTES), &frame);
        buf_add(&opens, BYTES(nothing, sizeof nothing));
    }
    uint32_t number = 1;
    ssize_t sent = 1;
    while (sent > 0) {
        for (uint32_t i = 0; i < 2000; i++, number += 2) {
            codec_put_le32(opens.data + (size_t)i * 14 + 4, number);
        }
        for (size_t at = 0; at < opens.size && sent > 0;) {
            sent = send(fd, opens.data + at, opens.size - at, MSG_NOSIGNAL);
            at += sent > 0 ? (size_t)sent : 0;
        }
    }
    close(fd);
    WAIT_FOR(ended(fixture, LINK_REASON_FLOOD) == 1);
    check_and_free(fixture);
}

static void pings_are_answered_once_however_many(void **state)
{
    (void)state;
    struct fixture *fixture = setup_with((struct link_options){0});
    const int fd = test_stranger(7, fixture->node);
    CLEANUP_BUF struct buf pings = BUF_INIT;
    for (uint64_t i = 0; i < 10000; i++) {
        (void)frame_put_control(buf_extend(&pings, 20), FRAME_PING, 0, i, 8);
    }
    test_send(fd, pings.data, pings.size);
    struct frame frame = {0};
    uint8_t payload[8];
    do {
        assert_true(test_receive_frame(fd, &frame, payload, sizeof payload));
        assert_int_equal(frame.type, FRAME_PONG);
    } while (codec_get_le64(payload) != 9999);
    close(fd);
    check_and_free(fixture);
}

static void a_dead_peer_is_noticed(void **state)
{
    (void)state;
    struct fixture *fixture = setup_with((struct link_options){.keepalive_ms = 100});
    const int fd = test_stranger(7, fixture->node);
    struct frame frame = {0};
    uint8_t payload[8];
    assert_true(test_receive_frame(fd, &frame, payload, sizeof payload));
    assert_int_equal(frame.type, FRAME_PING);
    test_receive_end(fd); /* No answer is given. */
    close(fd);
    assert_int_equal(ended(fixture, LINK_REASON_SILENT), 1);
    check_and_free(fixture);
}

static void a_ping_measures_the_round_trip(void **state)
{
    (void)state;
    struct fixture *fixture = setup_with((struct link_options){.keepalive_ms = 50});
    struct link_peer_status status;
    do {
        WAIT_FOR(link_list_peers(fixture->node->link, &status, 1) == 1);
    } while (status.rtt_us == 0);
    assert_true(node_id_equal(&status.peer.id, &fixture->honest->id));
    assert_true(status.is_connected);
    assert_int_equal(status.streams, 1);
    check_and_free(fixture);
}

static void who_takes_no_bytes_is_closed(void **state)
{
    (void)state;
    struct fixture *fixture =
        setup_with((struct link_options){.stall_ms = 200, .keepalive_ms = 600000});
    struct test_stream test = {0};
    const int fd = test_stranger(7, fixture->node);
    const uint8_t credit[] = {0, 0, 0, 4};
    const struct test_node stranger = {.id = test_id(7)};
    struct link_stream *stream = test_open(fixture->node, &stranger, ECHO, &test);
    struct frame frame = {0};
    uint8_t payload[8];
    assert_true(test_receive_frame(fd, &frame, payload, sizeof payload));
    assert_int_equal(frame.type, FRAME_OPEN);
    test_send_frame(fd, FRAME_CREDIT, frame.stream, 0, credit, sizeof credit);
    uint8_t *data = mem_alloc(LINK_WRITE_BYTES_MAX);
    WAIT_FOR(test.closed_count == 1 || (link_stream_write(stream, BYTES(data, LINK_WRITE_BYTES_MAX),
                                                          test_on_release, &test) != 0 &&
                                        test.closed_count == 1));
    assert_int_equal(test.err, -EPIPE);
    assert_int_equal(ended(fixture, LINK_REASON_STALLED), 1);
    link_stream_free(stream);
    close(fd);
    check_and_free(fixture);
    free(data);
}

static void an_idle_connection_says_goodbye(void **state)
{
    (void)state;
    struct fixture *fixture = setup_with((struct link_options){.idle_ms = 50});
    const int fd = test_stranger(7, fixture->node);
    struct frame frame = {0};
    uint8_t payload[8];
    assert_true(test_receive_frame(fd, &frame, payload, sizeof payload));
    assert_int_equal(frame.type, FRAME_GOODBYE);
    /* What was on its way is still heard. */
    test_send_open(fd, 1, SINK, FRAME_KIND_MESSAGES);
    test_send_frame(fd, FRAME_DATA, 1, 0, "\3\0\0\0abc", 7);
    WAIT_FOR(fixture->messages_count == 1);
    close(fd);
    WAIT_FOR(ended(fixture, LINK_REASON_IDLE) == 1);
    check_and_free(fixture);
}

static void random_bytes_harm_nobody(void **state)
{
    (void)state;
    struct fixture *fixture = setup_with((struct link_options){0});
    uint32_t seed = 12345;
    for (unsigned i = 0; i < 200; i++) {
        uint8_t noise[300];
        const int fd = i % 2 ? test_connect(fixture->node) : test_stranger(7, fixture->node);
        for (size_t at = 0; at < sizeof noise; at++) {
            seed = seed * 1664525 + 1013904223;
            noise[at] = (uint8_t)(seed >> 24);
        }
        if (i % 4 == 0) { /* so that more than the first header is looked at */
            codec_put_le32(noise, 2);
            codec_put_le32(noise + 4, 1);
            noise[8] = FRAME_OPEN;
            noise[12] = HOLD;
            noise[13] = 0;
        }
        test_send(fd, noise, sizeof noise);
        close(fd);
    }
    WAIT_FOR(test_counters(fixture->node).connections == 1);
    check_and_free(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_preambles_are_refused_with_a_reason),
        cmocka_unit_test(what_is_no_preamble_is_closed),
        cmocka_unit_test(a_preamble_in_single_bytes_is_taken),
        cmocka_unit_test(a_slow_handshake_has_a_deadline),
        cmocka_unit_test(silent_strangers_do_not_keep_others_out),
        cmocka_unit_test(too_many_connections_are_refused),
        cmocka_unit_test(broken_rules_end_the_connection),
        cmocka_unit_test(numbers_of_streams_only_rise),
        cmocka_unit_test(data_beyond_the_credit_ends_the_connection),
        cmocka_unit_test(data_after_the_end_ends_the_connection),
        cmocka_unit_test(endless_credit_ends_the_connection),
        cmocka_unit_test(frames_of_a_newer_version_are_skipped),
        cmocka_unit_test(a_flood_of_opens_is_bounded),
        cmocka_unit_test(who_asks_and_never_reads_is_closed),
        cmocka_unit_test(pings_are_answered_once_however_many),
        cmocka_unit_test(a_dead_peer_is_noticed),
        cmocka_unit_test(a_ping_measures_the_round_trip),
        cmocka_unit_test(who_takes_no_bytes_is_closed),
        cmocka_unit_test(an_idle_connection_says_goodbye),
        cmocka_unit_test(random_bytes_harm_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
