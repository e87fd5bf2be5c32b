/* SPDX-License-Identifier: Apache-2.0 */
#include "link/message.h"

#include "helpers.h"

#define PLAIN 1
#define OTHER 2

/* Messages as they came: each begins with its number, u32, and goes on as test_byte() has it. */
struct inbox {
    _Atomic unsigned count;
    _Atomic unsigned wrong_count;
    _Atomic uint64_t bytes;
    _Atomic uint64_t nonce;
};

static void on_message(void *context, const struct link_peer *peer, struct bytes bytes)
{
    struct inbox *inbox = context;
    inbox->nonce = peer->boot_nonce;
    if (bytes.size >= 4) {
        inbox->wrong_count += codec_get_le32(bytes.data) != inbox->count;
        for (size_t i = 4; i < bytes.size; i++) {
            inbox->wrong_count += bytes.data[i] != test_byte(i);
        }
    }
    inbox->bytes += bytes.size;
    inbox->count++;
}

struct pair {
    struct test_node *from;
    struct test_node *to;
    struct inbox inbox;       /* of `to` */
    struct inbox other_inbox; /* of its second service */
    struct inbox back_inbox;  /* of `from` */
};

static int setup(void **state)
{
    struct pair *pair = mem_alloc(sizeof *pair);
    const struct link_service services[] = {
        {.number = PLAIN, .context = &pair->inbox, .message = on_message},
        {.number = OTHER, .context = &pair->other_inbox, .message = on_message},
    };
    const struct link_service back = {
        .number = PLAIN, .context = &pair->back_inbox, .message = on_message};
    pair->from = test_node_new(1, (struct link_options){.services = &back, .services_count = 1});
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

struct results {
    _Atomic unsigned sent_count;
    _Atomic unsigned failed_count;
    _Atomic int err;
};

static void on_done(void *context, int err)
{
    struct results *results = context;
    if (err) {
        results->err = err;
        results->failed_count++;
    } else {
        results->sent_count++;
    }
}

static int send_one(struct test_node *from, const struct test_node *to, uint8_t service,
                    uint32_t number, size_t size, struct results *results)
{
    uint8_t *bytes = mem_alloc(size + 4);
    test_fill(bytes, size, 0);
    codec_put_le32(bytes, number);
    const struct link_message message = {.peer = to->id,
                                         .address = to->address,
                                         .service = service,
                                         .bytes = BYTES(bytes, size),
                                         .done = results ? on_done : NULL,
                                         .context = results};
    const int err = link_send_message(from->link, &message);
    free(bytes);
    return err;
}

static void messages_arrive_whole_and_in_order(void **state)
{
    struct pair *pair = *state;
    static const size_t sizes[] = {4, 5, 1000, 65536, 65532, 65531, 300000, LINK_MESSAGE_BYTES_MAX};
    struct results results = {0};
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < 200; i++) {
        const size_t size = sizes[i % ARRAY_SIZE(sizes)];
        int err;
        while ((err = send_one(pair->from, pair->to, PLAIN, i, size, &results)) == -EAGAIN) {
            test_nap();
        }
        assert_int_equal(err, 0);
        bytes += size;
    }
    WAIT_FOR(pair->inbox.count == 200);
    assert_int_equal(pair->inbox.wrong_count, 0);
    assert_int_equal(pair->inbox.bytes, bytes);
    assert_int_equal(pair->inbox.nonce, 100);
    WAIT_FOR(results.sent_count == 200);
    assert_int_equal(results.failed_count, 0);
    const struct link_counters counters = test_counters(pair->to);
    assert_int_equal(counters.messages_received, 200);
    assert_int_equal(counters.assembly_bytes, 0);
    assert_int_equal(counters.connected, 1);
}

static void empty_ones_arrive_too(void **state)
{
    struct pair *pair = *state;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(send_one(pair->from, pair->to, PLAIN, 0, 0, NULL), 0);
    }
    WAIT_FOR(pair->inbox.count == 3);
    assert_int_equal(pair->inbox.bytes, 0);
}

static void both_directions_and_services_share_one_connection(void **state)
{
    struct pair *pair = *state;
    for (uint32_t i = 0; i < 50; i++) {
        assert_int_equal(send_one(pair->from, pair->to, PLAIN, i, 1000, NULL), 0);
        assert_int_equal(send_one(pair->from, pair->to, OTHER, i, 100, NULL), 0);
        assert_int_equal(send_one(pair->to, pair->from, PLAIN, i, 5000, NULL), 0);
    }
    WAIT_FOR(pair->inbox.count == 50 && pair->other_inbox.count == 50 &&
             pair->back_inbox.count == 50);
    assert_int_equal(
        pair->inbox.wrong_count + pair->other_inbox.wrong_count + pair->back_inbox.wrong_count, 0);
    assert_int_equal(test_counters(pair->from).connected, 1);
    assert_int_equal(test_counters(pair->to).connected, 1);
}

static void nobody_there_is_told(void **state)
{
    struct pair *pair = *state;
    struct results results = {0};
    struct test_node nobody = {.id = test_id(9), .address = test_address(1)};
    assert_int_equal(send_one(pair->from, &nobody, PLAIN, 0, 10, &results), 0);
    assert_int_equal(send_one(pair->from, &nobody, PLAIN, 1, 10, &results), 0);
    WAIT_FOR(results.failed_count == 2);
    assert_int_equal(results.err, -EIO);
    assert_int_equal(test_counters(pair->from).messages_failed, 2);
    assert_int_equal(link_list_peers(pair->from->link, NULL, 0), 0);
}

static void somebody_else_there_is_told(void **state)
{
    struct pair *pair = *state;
    struct results results = {0};
    struct test_node other = {.id = test_id(9), .address = pair->to->address};
    assert_int_equal(send_one(pair->from, &other, PLAIN, 0, 10, &results), 0);
    WAIT_FOR(results.failed_count == 1);
    assert_int_equal(results.err, -EACCES);
    assert_int_equal(test_counters(pair->from).ended[LINK_REASON_OTHER_ID], 1);
    assert_int_equal(test_counters(pair->to).ended[LINK_REASON_OTHER_ID], 1);
    assert_int_equal(pair->inbox.count, 0);
}

static void what_nobody_takes_is_told(void **state)
{
    struct pair *pair = *state;
    struct results results = {0};
    /* More than goes out without being asked for. */
    assert_int_equal(send_one(pair->from, pair->to, 9, 0, 500000, &results), 0);
    WAIT_FOR(results.failed_count == 1);
    assert_int_equal(results.err, -ECANCELED);
}

static void the_queue_is_bounded(void **state)
{
    struct pair *pair = *state;
    struct results results = {0};
    pair->to->is_deaf = true;
    unsigned count = 0;
    while (send_one(pair->from, pair->to, PLAIN, count, 1000000, &results) == 0) {
        count++;
        assert_true(count <= 9);
    }
    assert_int_equal(count, 8);
    assert_int_equal(
        send_one(pair->from, pair->to, PLAIN, count, LINK_MESSAGE_BYTES_MAX + 1, &results), -EFBIG);
    assert_int_equal(send_one(pair->from, pair->from, PLAIN, count, 4, &results), -EINVAL);
    assert_int_equal(send_one(pair->from, pair->to, 0, count, 4, &results), -EINVAL);
    pair->to->is_deaf = false;
    WAIT_FOR(pair->inbox.count == count);
    assert_int_equal(pair->inbox.wrong_count, 0);
    WAIT_FOR(results.sent_count == count);
    assert_int_equal(results.failed_count, 0);
}

static void disconnecting_drops_what_waits(void **state)
{
    struct pair *pair = *state;
    struct results results = {0};
    pair->to->is_deaf = true;
    assert_int_equal(send_one(pair->from, pair->to, PLAIN, 0, 1000, &results), 0);
    WAIT_FOR(link_list_peers(pair->from->link, NULL, 0) == 1);
    link_disconnect(pair->from->link, &pair->to->id);
    WAIT_FOR(results.failed_count == 1);
    assert_int_equal(results.err, -ECANCELED);
    pair->to->is_deaf = false;
    assert_int_equal(send_one(pair->from, pair->to, PLAIN, 0, 1000, &results), 0);
    WAIT_FOR(pair->inbox.count == 1);
}

struct chain {
    struct pair *pair;
    _Atomic uint32_t number;
};

static void send_next(void *context, int err)
{
    struct chain *chain = context;
    uint8_t bytes[4];
    const uint32_t number = chain->number++;
    if (err || number >= 300) {
        return;
    }
    codec_put_le32(bytes, number);
    const struct link_message message = {.peer = chain->pair->to->id,
                                         .address = chain->pair->to->address,
                                         .service = PLAIN,
                                         .bytes = BYTES(bytes, sizeof bytes),
                                         .done = send_next,
                                         .context = chain};
    (void)!link_send_message(chain->pair->from->link, &message);
}

/* What a callback asks for is done without waiting for something else to happen. */
static void each_done_sends_the_next(void **state)
{
    struct pair *pair = *state;
    struct chain chain = {.pair = pair};
    send_next(&chain, 0);
    WAIT_FOR(pair->inbox.count == 300);
    assert_int_equal(pair->inbox.wrong_count, 0);
    WAIT_FOR(chain.number == 301);
}

static void a_length_that_cannot_be_ends_the_connection(void **state)
{
    struct pair *pair = *state;
    const int fd = test_stranger(7, pair->to);
    uint8_t length[4];
    codec_put_le32(length, LINK_MESSAGE_BYTES_MAX + 1);
    test_send_open(fd, 1, PLAIN, FRAME_KIND_MESSAGES);
    test_send_frame(fd, FRAME_DATA, 1, 0, length, sizeof length);
    test_receive_end(fd);
    close(fd);
    assert_int_equal(test_counters(pair->to).ended[LINK_REASON_MALFORMED], 1);
    assert_int_equal(pair->inbox.count, 0);
}

static void an_announced_length_takes_no_memory(void **state)
{
    struct pair *pair = *state;
    const int fd = test_stranger(7, pair->to);
    uint8_t bytes[4 + 10] = {0};
    codec_put_le32(bytes, LINK_MESSAGE_BYTES_MAX);
    test_send_open(fd, 1, PLAIN, FRAME_KIND_MESSAGES);
    test_send_frame(fd, FRAME_DATA, 1, 0, bytes, sizeof bytes);
    WAIT_FOR(test_counters(pair->to).assembly_bytes == 10);
    close(fd);
    WAIT_FOR(test_counters(pair->to).assembly_bytes == 0);
    assert_int_equal(pair->inbox.count, 0);
}

static void messages_go_one_way(void **state)
{
    struct pair *pair = *state;
    const int fd = test_stranger(7, pair->to);
    struct test_node stranger = {.id = test_id(7)};
    struct frame frame = {0};
    uint8_t payload[2000];
    assert_int_equal(send_one(pair->to, &stranger, PLAIN, 0, 1000, NULL), 0);
    do {
        assert_true(test_receive_frame(fd, &frame, payload, sizeof payload));
    } while (frame.type != FRAME_DATA);
    assert_int_equal(frame.length, 1004);
    test_send_frame(fd, FRAME_DATA, frame.stream, 0, payload, 8);
    test_receive_end(fd);
    close(fd);
    assert_int_equal(test_counters(pair->to).ended[LINK_REASON_MALFORMED], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_arrive_whole_and_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(empty_ones_arrive_too, setup, teardown),
        cmocka_unit_test_setup_teardown(both_directions_and_services_share_one_connection, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(nobody_there_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(somebody_else_there_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(what_nobody_takes_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(the_queue_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(disconnecting_drops_what_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(each_done_sends_the_next, setup, teardown),
        cmocka_unit_test_setup_teardown(a_length_that_cannot_be_ends_the_connection, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_announced_length_takes_no_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(messages_go_one_way, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
