/* SPDX-License-Identifier: Apache-2.0 */
#include "link/transport_priv.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "helpers.h"

/* What the kernel took and has not sent: little, or nobody would know when a block has left. Of one
 * system call it may take a piece more. */
#define UNSENT_BYTES_MAX (192 * 1024)

static const struct address anywhere;

static void wait_until(int fd, short events)
{
    struct pollfd waited = {.fd = fd, .events = events};
    assert_int_equal(poll(&waited, 1, WAIT_MS), 1);
}

/* Both ends of a connection over loopback, from `source`. */
static void connect_pair(struct transport *from, struct transport *to, const struct address *source)
{
    uint16_t port;
    const int listen_fd = test_listen(&port);
    const struct address address = test_address(port);
    assert_int_equal(transport_connect(from, &address, source), 0);
    wait_until(from->fd, POLLOUT);
    assert_int_equal(transport_connected(from), 0);
    transport_accept(to, accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
    assert_true(to->fd >= 0);
    close(listen_fd);
}

static void bytes_pass_until_the_end(void **state)
{
    (void)state;
    struct transport from, to;
    char data[100];
    connect_pair(&from, &to, &anywhere);
    assert_int_equal(transport_read(&to, data, sizeof data), -EAGAIN);
    const struct iovec pieces[] = {{(void *)(uintptr_t) "hello ", 6},
                                   {(void *)(uintptr_t) "you", 3}};
    assert_int_equal(transport_write(&from, pieces, 2), 9);
    wait_until(to.fd, POLLIN);
    assert_int_equal(transport_read(&to, data, sizeof data), 9);
    assert_memory_equal(data, "hello you", 9);
    transport_end(&from);
    wait_until(to.fd, POLLIN);
    assert_int_equal(transport_read(&to, data, sizeof data), 0);
    transport_close(&from);
    transport_close(&from);
    assert_int_equal(from.fd, -1);
    transport_close(&to);
}

static void a_full_socket_says_so_and_a_closed_one_too(void **state)
{
    (void)state;
    struct transport from, to;
    static char data[1 << 20];
    const struct iovec piece = {data, sizeof data};
    connect_pair(&from, &to, &anywhere);
    ssize_t sent;
    while ((sent = transport_write(&from, &piece, 1)) > 0) {
    }
    assert_int_equal(sent, -EAGAIN);
    int unsent_bytes = -1;
    assert_int_equal(ioctl(from.fd, SIOCOUTQNSD, &unsent_bytes), 0);
    assert_in_range(unsent_bytes, 1, UNSENT_BYTES_MAX);
    transport_close(&to); /* with bytes unread: a reset */
    wait_until(from.fd, POLLERR);
    assert_int_equal(transport_read(&from, data, sizeof data), -EPIPE);
    assert_int_equal(transport_write(&from, &piece, 1), -EPIPE);
    transport_close(&from);
}

static void it_comes_from_where_it_was_told_to(void **state)
{
    (void)state;
    struct transport from, to;
    struct address source = test_address(4); /* the port is not taken */
    source.ip[15] = 77;
    connect_pair(&from, &to, &source);
    const struct address seen = transport_peer(&to);
    assert_memory_equal(seen.ip, source.ip, sizeof seen.ip);
    assert_int_not_equal(seen.port, 4);
    transport_close(&from);
    transport_close(&to);
}

static void nobody_there_is_told(void **state)
{
    (void)state;
    struct transport transport = {.fd = -1};
    uint16_t port;
    close(test_listen(&port));
    const struct address address = test_address(port);
    assert_int_equal(transport_connect(&transport, &address, &anywhere), 0);
    wait_until(transport.fd, POLLOUT);
    assert_int_equal(transport_connected(&transport), -EIO);
    assert_int_equal(transport_peer(&transport).port, 0);
    transport_close(&transport);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_pass_until_the_end),
        cmocka_unit_test(a_full_socket_says_so_and_a_closed_one_too),
        cmocka_unit_test(it_comes_from_where_it_was_told_to),
        cmocka_unit_test(nobody_there_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
