/* SPDX-License-Identifier: Apache-2.0 */
#include "link/link.h"

#include "helpers.h"

#define SINK 1
#define ECHO 2

struct sink {
    _Atomic unsigned count;
    _Atomic unsigned failed_count;
    _Atomic unsigned connected_count;
    _Atomic unsigned disconnected_count;
    _Atomic int reason;
    _Atomic unsigned lost_count;
    struct test_stream echo;
};

static void on_message(void *context, const struct link_peer *peer, struct bytes bytes)
{
    struct sink *sink = context;
    (void)peer;
    (void)bytes;
    sink->count++;
}

static void on_connected(void *context, const struct link_peer *peer)
{
    struct sink *sink = context;
    (void)peer;
    sink->connected_count++;
}

static void on_disconnected(void *context, const struct link_peer *peer, enum link_reason reason)
{
    struct sink *sink = context;
    (void)peer;
    sink->reason = (int)reason;
    sink->lost_count += reason != LINK_REASON_IDLE;
    sink->disconnected_count++;
}

static struct test_node *node_with(uint8_t number, struct sink *sink, struct link_options options)
{
    const struct link_service services[] = {
        {.number = SINK, .context = sink, .message = on_message},
        {.number = ECHO, .context = &sink->echo, .accept = test_on_accept},
    };
    sink->echo.echoes = true;
    sink->echo.is_freed_when_closed = true;
    options.services = services;
    options.services_count = ARRAY_SIZE(services);
    options.connected = on_connected;
    options.disconnected = on_disconnected;
    options.context = sink;
    return test_node_new(number, options);
}

static void on_done(void *context, int err)
{
    struct sink *sink = context;
    sink->failed_count += err != 0;
}

static void send_to(struct test_node *from, struct sink *own, const struct test_node *to)
{
    const struct link_message message = {.peer = to->id,
                                         .address = to->address,
                                         .service = SINK,
                                         .bytes = bytes_of_string("hello"),
                                         .done = on_done,
                                         .context = own};
    assert_int_equal(link_send_message(from->link, &message), 0);
}

static void senseless_services_are_refused(void **state)
{
    (void)state;
    struct sink sink = {0};
    const struct link_service services[][2] = {
        {{.number = 1, .message = on_message}, {.number = 1, .message = on_message}},
        {{.number = 1}, {.number = 2, .message = on_message}},
        {{.number = 0, .message = on_message}, {.number = 2, .message = on_message}},
        {{.number = LINK_SERVICES_MAX + 1, .message = on_message},
         {.number = 2, .message = on_message}},
        {{.number = 1, .message = on_message, .accept = test_on_accept},
         {.number = 2, .message = on_message}},
        {{.number = 1, .message = on_message, .window_bytes = 1},
         {.number = 2, .message = on_message}},
    };
    for (size_t i = 0; i < ARRAY_SIZE(services); i++) {
        struct link *link = NULL;
        const struct link_options options = {
            .services = services[i], .services_count = 2, .context = &sink};
        assert_int_equal(link_open(&options, &link), -EINVAL);
        assert_null(link);
    }
}

/* Both speak first, at the same moment, again and again: one connection, and nothing is lost. */
static void connections_that_cross_lose_nothing(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 100; round++) {
        struct sink low_sink = {0};
        struct sink high_sink = {0};
        struct test_node *low = node_with(1, &low_sink, (struct link_options){0});
        struct test_node *high = node_with(2, &high_sink, (struct link_options){0});
        for (unsigned i = 0; i < 5; i++) {
            send_to(low, &low_sink, high);
            send_to(high, &high_sink, low);
        }
        WAIT_FOR(low_sink.count == 5 && high_sink.count == 5);
        WAIT_FOR(test_counters(low).connections == 1 && test_counters(high).connections == 1);
        assert_int_equal(low_sink.failed_count + high_sink.failed_count, 0);
        assert_int_equal(low_sink.connected_count, 1);
        assert_int_equal(high_sink.connected_count, 1);
        test_node_free(low);
        test_node_free(high);
    }
}

static void a_restarted_peer_takes_the_place_of_its_old_self(void **state)
{
    (void)state;
    struct sink sink = {0};
    struct test_node *node = node_with(1, &sink, (struct link_options){0});
    const int old = test_stranger(7, node);
    struct preamble preamble = test_preamble(7, node);
    preamble.boot_nonce++;
    const int anew = test_connect(node);
    test_send_preamble(anew, &preamble);
    assert_int_equal(test_receive_preamble(anew).verdict, 0);
    test_receive_end(old);
    assert_int_equal(test_counters(node).ended[LINK_REASON_REPLACED], 1);
    assert_int_equal(sink.connected_count, 2);
    assert_int_equal(sink.disconnected_count, 1);
    assert_int_equal(sink.reason, LINK_REASON_REPLACED);
    struct link_peer_status status;
    assert_int_equal(link_list_peers(node->link, &status, 1), 1);
    assert_int_equal(status.peer.boot_nonce, 701);
    close(old);
    close(anew);
    test_node_free(node);
}

/* The peer lost our connection and comes by its own, while we believe ours to stand. */
static void a_peer_that_lost_our_connection_is_taken(void **state)
{
    (void)state;
    struct sink sink = {0};
    struct test_node *node = node_with(1, &sink, (struct link_options){0});
    struct test_node stranger = {.id = test_id(7)};
    uint16_t port;
    const int listen_fd = test_listen(&port);
    stranger.address = test_address(port);
    send_to(node, &sink, &stranger);
    const int ours = accept(listen_fd, NULL, NULL);
    const struct preamble question = test_receive_preamble(ours);
    assert_int_equal(question.number, 1);
    struct preamble answer = test_preamble(7, node);
    test_send_preamble(ours, &answer);
    WAIT_FOR(sink.connected_count == 1);

    /* One that was sent before it can have seen ours: refused. */
    struct preamble preamble = test_preamble(7, node);
    int fd = test_connect(node);
    test_send_preamble(fd, &preamble);
    assert_int_equal(test_receive_preamble(fd).verdict, LINK_REASON_CROSSED);
    close(fd);
    assert_int_equal(sink.disconnected_count, 0);

    preamble.known_nonce = 100;
    preamble.known_number = question.number;
    fd = test_connect(node);
    test_send_preamble(fd, &preamble);
    assert_int_equal(test_receive_preamble(fd).verdict, 0);
    test_receive_end(ours);
    assert_int_equal(sink.reason, LINK_REASON_REPLACED);
    close(fd);
    close(ours);
    close(listen_fd);
    test_node_free(node);
}

/* We end the peer's connection and come back at once: it must be told that we had it. */
static void what_we_had_is_remembered(void **state)
{
    (void)state;
    struct sink sink = {0};
    struct test_node *node = node_with(1, &sink, (struct link_options){0});
    struct test_node stranger = {.id = test_id(7)};
    uint16_t port;
    const int listen_fd = test_listen(&port);
    stranger.address = test_address(port);
    struct preamble preamble = test_preamble(7, node);
    preamble.number = 5;
    const int theirs = test_connect(node);
    test_send_preamble(theirs, &preamble);
    assert_int_equal(test_receive_preamble(theirs).known_number, 0);
    link_disconnect(node->link, &stranger.id);
    test_receive_end(theirs);
    WAIT_FOR(test_counters(node).connections == 0);
    send_to(node, &sink, &stranger);
    const int ours = accept(listen_fd, NULL, NULL);
    const struct preamble question = test_receive_preamble(ours);
    assert_int_equal(question.known_number, 5);
    assert_int_equal(question.known_nonce, 700);
    close(theirs);
    close(ours);
    close(listen_fd);
    test_node_free(node);
}

static void nobody_answers_in_time(void **state)
{
    (void)state;
    struct sink sink = {0};
    struct test_node *node = node_with(1, &sink, (struct link_options){.handshake_ms = 100});
    struct test_node mute = {.id = test_id(7)};
    uint16_t port;
    const int listen_fd = test_listen(&port);
    mute.address = test_address(port);
    send_to(node, &sink, &mute);
    WAIT_FOR(sink.failed_count == 1);
    assert_int_equal(test_counters(node).ended[LINK_REASON_SLOW], 1);
    close(listen_fd);
    test_node_free(node);
}

/* Refused as crossed, and then the peer's own connection does not come. */
static void a_crossing_that_leads_nowhere_has_a_deadline(void **state)
{
    (void)state;
    struct sink sink = {0};
    struct test_node *node = node_with(9, &sink, (struct link_options){.handshake_ms = 100});
    struct test_node peer = {.id = test_id(7)};
    uint16_t port;
    const int listen_fd = test_listen(&port);
    peer.address = test_address(port);
    send_to(node, &sink, &peer);
    const int fd = accept(listen_fd, NULL, NULL);
    (void)test_receive_preamble(fd);
    struct preamble answer = test_preamble(7, node);
    answer.verdict = LINK_REASON_CROSSED;
    test_send_preamble(fd, &answer);
    WAIT_FOR(sink.failed_count == 1);
    assert_int_equal(test_counters(node).ended[LINK_REASON_CROSSED], 1);
    close(fd);
    close(listen_fd);
    test_node_free(node);
}

/* Idle connections end on both sides and are opened again, while messages keep coming. */
static void idle_connections_lose_nothing(void **state)
{
    (void)state;
    const struct link_options options = {.idle_ms = 4};
    struct sink low_sink = {0};
    struct sink high_sink = {0};
    struct test_node *low = node_with(1, &low_sink, options);
    struct test_node *high = node_with(2, &high_sink, options);
    unsigned count = 0;
    const uint64_t until_ms = test_now_ms() + WAIT_MS;
    while (test_counters(low).ended[LINK_REASON_IDLE] < 20) {
        assert_true(test_now_ms() < until_ms);
        send_to(low, &low_sink, high);
        send_to(high, &high_sink, low);
        count++;
        for (unsigned i = 0; i < count % 13; i++) {
            test_nap();
        }
    }
    WAIT_FOR(low_sink.count == count && high_sink.count == count);
    assert_int_equal(low_sink.failed_count + high_sink.failed_count, 0);
    assert_int_equal(low_sink.lost_count + high_sink.lost_count, 0);
    test_node_free(low);
    test_node_free(high);
}

static void an_open_stream_keeps_the_connection(void **state)
{
    (void)state;
    struct sink low_sink = {0};
    struct sink high_sink = {0};
    struct test_stream test = {0};
    struct test_node *low = node_with(1, &low_sink, (struct link_options){.idle_ms = 4});
    struct test_node *high = node_with(2, &high_sink, (struct link_options){.idle_ms = 4});
    struct link_stream *stream = test_open(low, high, ECHO, &test);
    for (unsigned i = 0; i < 100; i++) {
        test_nap();
    }
    const uint8_t byte = test_byte(0);
    assert_int_equal(link_stream_write(stream, BYTES(&byte, 1), NULL, NULL), 0);
    WAIT_FOR(test.received_bytes == 1);
    assert_int_equal(low_sink.disconnected_count, 0);
    link_stream_end(stream);
    WAIT_FOR(low_sink.disconnected_count == 1 && high_sink.disconnected_count == 1);
    assert_int_equal(low_sink.reason, LINK_REASON_IDLE);
    assert_int_equal(high_sink.reason, LINK_REASON_IDLE);
    link_stream_free(stream);
    test_node_free(low);
    test_node_free(high);
}

/* Many nodes that all speak to all, from several threads, while connections are cut. */
#define NODES 6

struct crowd {
    struct test_node *nodes[NODES];
    struct sink sinks[NODES];
    _Atomic bool is_over;
};

struct speaker {
    struct crowd *crowd;
    unsigned number;
    unsigned sent_count;
};

static void *speak(void *argument)
{
    struct speaker *speaker = argument;
    struct crowd *crowd = speaker->crowd;
    struct test_node *own = crowd->nodes[speaker->number];
    struct test_stream tests[NODES];
    struct link_stream *streams[NODES];
    memset(tests, 0, sizeof tests);
    for (unsigned round = 0; round < 100; round++) {
        for (unsigned to = 0; to < NODES; to++) {
            if (to == speaker->number) {
                continue;
            }
            send_to(own, &crowd->sinks[speaker->number], crowd->nodes[to]);
            memset(&tests[to], 0, sizeof tests[to]);
            streams[to] = test_open(own, crowd->nodes[to], ECHO, &tests[to]);
            (void)!link_stream_write(streams[to], bytes_of_string("abc"), NULL, NULL);
            link_stream_end(streams[to]);
        }
        if (round % 10 == 9) {
            const unsigned cut = (speaker->number + round / 10) % NODES;
            link_disconnect(own->link, &crowd->nodes[cut]->id);
        }
        struct link_peer_status peers[NODES];
        (void)link_list_peers(own->link, peers, NODES);
        (void)test_counters(own);
        for (unsigned to = 0; to < NODES; to++) {
            if (to != speaker->number) {
                while (tests[to].closed_count == 0) {
                    test_nap();
                }
                link_stream_free(streams[to]);
            }
        }
    }
    return NULL;
}

static uint64_t finished_messages(const struct test_node *node)
{
    const struct link_counters counters = test_counters(node);
    return counters.messages_sent + counters.messages_failed;
}

static void all_speak_to_all(void **state)
{
    (void)state;
    static struct crowd crowd;
    memset(&crowd, 0, sizeof crowd);
    pthread_t threads[NODES];
    struct speaker speakers[NODES];
    for (unsigned i = 0; i < NODES; i++) {
        crowd.nodes[i] = node_with((uint8_t)(i + 1), &crowd.sinks[i], (struct link_options){0});
        crowd.sinks[i].echo.is_freed_when_closed = true;
    }
    for (unsigned i = 0; i < NODES; i++) {
        speakers[i] = (struct speaker){.crowd = &crowd, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, speak, &speakers[i]), 0);
    }
    for (unsigned i = 0; i < NODES; i++) {
        pthread_join(threads[i], NULL);
    }
    for (unsigned i = 0; i < NODES; i++) {
        WAIT_FOR(finished_messages(crowd.nodes[i]) == 100u * (NODES - 1));
        WAIT_FOR(test_counters(crowd.nodes[i]).streams == 0);
        assert_int_equal(test_counters(crowd.nodes[i]).ended[LINK_REASON_MALFORMED], 0);
        assert_int_equal(test_counters(crowd.nodes[i]).ended[LINK_REASON_CREDIT], 0);
    }
    for (unsigned i = 0; i < NODES; i++) {
        test_node_free(crowd.nodes[i]);
    }
}

static void each_reason_has_a_name(void **state)
{
    (void)state;
    for (int a = 0; a < LINK_REASONS_COUNT; a++) {
        for (int b = 0; b < a; b++) {
            assert_string_not_equal(link_reason_name((enum link_reason)a),
                                    link_reason_name((enum link_reason)b));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(senseless_services_are_refused),
        cmocka_unit_test(connections_that_cross_lose_nothing),
        cmocka_unit_test(a_restarted_peer_takes_the_place_of_its_old_self),
        cmocka_unit_test(a_peer_that_lost_our_connection_is_taken),
        cmocka_unit_test(what_we_had_is_remembered),
        cmocka_unit_test(nobody_answers_in_time),
        cmocka_unit_test(a_crossing_that_leads_nowhere_has_a_deadline),
        cmocka_unit_test(idle_connections_lose_nothing),
        cmocka_unit_test(an_open_stream_keeps_the_connection),
        cmocka_unit_test(all_speak_to_all),
        cmocka_unit_test(each_reason_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
