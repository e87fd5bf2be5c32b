/* SPDX-License-Identifier: Apache-2.0 */
#include "link/udp.h"

#include "helpers.h"

struct end {
    struct udp *udp;
    unsigned count;
    size_t last_size;
    struct address from;
    bool answers;
    bool closes;
};

static void on_received(void *context, const struct address *from, struct bytes bytes)
{
    struct end *end = context;
    end->count++;
    end->last_size = bytes.size;
    end->from = *from;
    if (end->answers) {
        udp_send(end->udp, from, bytes);
    }
    if (end->closes) {
        udp_close(end->udp);
        end->udp = NULL;
    }
}

struct fixture {
    uv_loop_t loop;
    uv_timer_t guard;
    struct end a;
    struct end b;
};

static void on_guard(uv_timer_t *guard)
{
    (void)guard;
    fail_msg("waited in vain");
}

static struct address loopback(bool is_ipv6)
{
    if (is_ipv6) {
        struct address address = {.port = 0};
        address.ip[15] = 1;
        return address;
    }
    return test_address(0);
}

static struct fixture *setup_at(struct address a, struct address b)
{
    struct fixture *fixture = mem_alloc(sizeof *fixture);
    assert_int_equal(uv_loop_init(&fixture->loop), 0);
    assert_int_equal(uv_timer_init(&fixture->loop, &fixture->guard), 0);
    assert_int_equal(uv_timer_start(&fixture->guard, on_guard, WAIT_MS, 0), 0);
    assert_int_equal(udp_open(&fixture->loop, &a, on_received, &fixture->a, &fixture->a.udp), 0);
    assert_int_equal(udp_open(&fixture->loop, &b, on_received, &fixture->b, &fixture->b.udp), 0);
    return fixture;
}

static void free_fixture(struct fixture *fixture)
{
    udp_close(fixture->a.udp);
    udp_close(fixture->b.udp);
    uv_close((uv_handle_t *)&fixture->guard, NULL);
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&fixture->loop), 0);
    free(fixture);
}

#define RUN_UNTIL(fixture, condition)                                                              \
    while (!(condition)) {                                                                         \
        uv_run(&(fixture)->loop, UV_RUN_ONCE);                                                     \
    }

static struct udp_counters counters_of(const struct end *end)
{
    struct udp_counters counters;
    udp_read_counters(end->udp, &counters);
    return counters;
}

static void send_bytes(struct end *from, const struct address *to, size_t size)
{
    static uint8_t data[2 * UDP_BYTES_MAX];
    udp_send(from->udp, to, BYTES(data, size));
}

static void datagrams_come_and_are_answered(void **state)
{
    (void)state;
    for (int is_ipv6 = 0; is_ipv6 < 2; is_ipv6++) {
        struct fixture *fixture = setup_at(loopback(is_ipv6), loopback(is_ipv6));
        const struct address a = udp_address(fixture->a.udp);
        const struct address b = udp_address(fixture->b.udp);
        assert_true(b.port != 0);
        fixture->b.answers = true;
        send_bytes(&fixture->a, &b, UDP_BYTES_MAX);
        RUN_UNTIL(fixture, fixture->a.count == 1);
        assert_int_equal(fixture->a.last_size, UDP_BYTES_MAX);
        assert_true(address_equal(&fixture->b.from, &a));
        assert_true(address_equal(&fixture->a.from, &b));
        assert_int_equal(counters_of(&fixture->b).received, 1);
        assert_int_equal(counters_of(&fixture->b).received_bytes, UDP_BYTES_MAX);
        assert_int_equal(counters_of(&fixture->b).sent_bytes, UDP_BYTES_MAX);
        free_fixture(fixture);
    }
}

static void the_address_of_all_takes_both_families(void **state)
{
    (void)state;
    struct fixture *fixture = setup_at((struct address){0}, loopback(false));
    struct address to = loopback(false);
    to.port = udp_address(fixture->a.udp).port;
    fixture->a.answers = true;
    send_bytes(&fixture->b, &to, 5);
    RUN_UNTIL(fixture, fixture->b.count == 1);
    const struct address b = udp_address(fixture->b.udp);
    assert_true(address_equal(&fixture->a.from, &b));
    free_fixture(fixture);
}

static void long_and_empty_ones_are_dropped(void **state)
{
    (void)state;
    struct fixture *fixture = setup_at(loopback(false), loopback(false));
    const struct address b = udp_address(fixture->b.udp);
    send_bytes(&fixture->a, &b, UDP_BYTES_MAX + 1);
    send_bytes(&fixture->a, &b, 0);
    assert_int_equal(counters_of(&fixture->a).dropped_long, 2);
    assert_int_equal(counters_of(&fixture->a).sent, 0);

    static uint8_t data[9000];
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons(b.port)};
    for (size_t size = 0; size < 3; size++) {
        static const size_t sizes[] = {UDP_BYTES_MAX + 1, 9000, 0};
        assert_int_equal(sendto(fd, data, sizes[size], 0, (struct sockaddr *)&in, sizeof in),
                         sizes[size]);
    }
    close(fd);
    send_bytes(&fixture->a, &b, 3);
    RUN_UNTIL(fixture, fixture->b.count == 1);
    assert_int_equal(fixture->b.last_size, 3);
    assert_int_equal(counters_of(&fixture->b).dropped_long, 3);
    free_fixture(fixture);
}

static void nobody_there_stops_nothing(void **state)
{
    (void)state;
    struct fixture *fixture = setup_at(loopback(false), loopback(false));
    const struct address b = udp_address(fixture->b.udp);
    uint16_t port;
    const int fd = test_listen(&port); /* of TCP: nobody has it for UDP */
    struct address nobody = test_address(port);
    for (unsigned i = 0; i < 20; i++) {
        send_bytes(&fixture->a, &nobody, 10); /* answered by ICMP */
        uv_run(&fixture->loop, UV_RUN_NOWAIT);
    }
    nobody.port = 0;
    send_bytes(&fixture->a, &nobody, 10);
    struct address other_family = loopback(true);
    other_family.port = port;
    send_bytes(&fixture->a, &other_family, 10);
    assert_int_equal(counters_of(&fixture->a).send_errors, 2);
    fixture->b.answers = true;
    send_bytes(&fixture->a, &b, 10);
    RUN_UNTIL(fixture, fixture->a.count == 1);
    close(fd);
    free_fixture(fixture);
}

static void many_come_in_one_go(void **state)
{
    (void)state;
    struct fixture *fixture = setup_at(loopback(false), loopback(false));
    const struct address b = udp_address(fixture->b.udp);
    assert_true(counters_of(&fixture->b).receive_buffer_bytes > 0);
    for (unsigned i = 0; i < 100; i++) {
        send_bytes(&fixture->a, &b, 100 + i);
    }
    RUN_UNTIL(fixture, fixture->b.count == 100);
    assert_int_equal(fixture->b.last_size, 199);
    assert_int_equal(counters_of(&fixture->a).dropped_full, 0);
    free_fixture(fixture);
}

static void it_can_be_closed_by_its_own_callback(void **state)
{
    (void)state;
    struct fixture *fixture = setup_at(loopback(false), loopback(false));
    const struct address b = udp_address(fixture->b.udp);
    fixture->b.closes = true;
    for (unsigned i = 0; i < 10; i++) {
        send_bytes(&fixture->a, &b, 10);
    }
    RUN_UNTIL(fixture, fixture->b.count == 1);
    uv_run(&fixture->loop, UV_RUN_NOWAIT);
    assert_int_equal(fixture->b.count, 1);
    assert_null(fixture->b.udp);
    free_fixture(fixture);
}

static void a_taken_port_and_a_foreign_address_are_errors(void **state)
{
    (void)state;
    struct fixture *fixture = setup_at(loopback(false), loopback(false));
    const struct address taken = udp_address(fixture->a.udp);
    struct address foreign = test_address(0);
    struct udp *udp = NULL;
    foreign.ip[12] = 192; /* 192.0.2.1, of documentation (RFC 5737) */
    foreign.ip[14] = 2;
    assert_int_equal(udp_open(&fixture->loop, &taken, on_received, NULL, &udp), -EBUSY);
    assert_int_equal(udp_open(&fixture->loop, &foreign, on_received, NULL, &udp), -EINVAL);
    assert_null(udp);
    free_fixture(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(datagrams_come_and_are_answered),
        cmocka_unit_test(the_address_of_all_takes_both_families),
        cmocka_unit_test(long_and_empty_ones_are_dropped),
        cmocka_unit_test(nobody_there_stops_nothing),
        cmocka_unit_test(many_come_in_one_go),
        cmocka_unit_test(it_can_be_closed_by_its_own_callback),
        cmocka_unit_test(a_taken_port_and_a_foreign_address_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
