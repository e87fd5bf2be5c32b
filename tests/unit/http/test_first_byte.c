/* SPDX-License-Identifier: Apache-2.0 */

/* One port for people and for other nodes: a server on loopback, told apart by the first byte. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <ftw.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "http/server.h"
#include "node/network.h"

#define LIMIT_S 30

struct fixture {
    char dir[64];
    struct node *node;
    struct network *network;
    struct server *server;
    _Atomic int link_fd; /* handed over; -1: none yet */
    _Atomic unsigned links_count;
};

static void take_link(void *context, int fd)
{
    struct fixture *fixture = context;
    fixture->link_fd = fd;
    fixture->links_count++;
}

static struct fixture *setup(bool takes_links, unsigned header_ms)
{
    struct fixture *fixture = mem_alloc(sizeof *fixture);
    strcpy(fixture->dir, "/tmp/artel-first-byte-XXXXXX");
    assert_non_null(mkdtemp(fixture->dir));
    fixture->link_fd = -1;
    const struct node_options node = {.data = fixture->dir};
    assert_int_equal(node_open(&node, &fixture->node), 0);
    struct network_options network = {0};
    assert_int_equal(address_parse("127.0.0.1:0", &network.listen), 0);
    assert_int_equal(network_open(fixture->node, &network, &fixture->network), 0);
    const struct server_options options = {
        .listen = "127.0.0.1:0",
        .header_ms = header_ms,
        .version = "test",
        .network = fixture->network,
        .accept_link = takes_links ? take_link : NULL,
        .link_context = fixture,
    };
    assert_int_equal(server_start(fixture->node, &options, &fixture->server), 0);
    return fixture;
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *where)
{
    (void)stat;
    (void)type;
    (void)where;
    return remove(path);
}

static void free_fixture(struct fixture *fixture)
{
    server_stop(fixture->server);
    network_close(fixture->network);
    node_close(fixture->node);
    if (fixture->link_fd >= 0) {
        close(fixture->link_fd);
    }
    nftw(fixture->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(fixture);
}

static int connect_to(const struct fixture *fixture)
{
    const char *colon = strrchr(server_address(fixture->server), ':');
    const struct timeval limit = {.tv_sec = LIMIT_S};
    struct sockaddr_in in = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        .sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10)),
    };
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    return fd;
}

static void send_text(int fd, const char *text, size_t size)
{
    assert_int_equal(send(fd, text, size, MSG_NOSIGNAL), size);
}

/* A whole request and its answer. */
static void check_http(int fd)
{
    static const char request[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    char answer[1000] = {0};
    size_t size = 0;
    send_text(fd, request, sizeof request - 1);
    while (!strstr(answer, "\r\n\r\nok\n")) {
        const ssize_t got = recv(fd, answer + size, sizeof answer - 1 - size, 0);
        assert_true(got > 0);
        size += (size_t)got;
    }
    assert_memory_equal(answer, "HTTP/1.1 200", 12);
}

static void check_ended(int fd)
{
    char byte;
    const ssize_t got = recv(fd, &byte, 1, 0);
    assert_true(got == 0 || (got < 0 && errno == ECONNRESET));
}

static void wait_for_links(const struct fixture *fixture, unsigned count)
{
    for (int i = 0; i < LIMIT_S * 1000 && fixture->links_count < count; i++) {
        usleep(1000);
    }
    assert_int_equal(fixture->links_count, count);
}

static void a_node_is_handed_over_with_all_it_said(void **state)
{
    (void)state;
    struct fixture *fixture = setup(true, 0);
    const int fd = connect_to(fixture);
    send_text(fd,
              "\xA7"
              "artel",
              6);
    wait_for_links(fixture, 1);
    char said[6] = {0};
    assert_int_equal(recv(fixture->link_fd, said, sizeof said, MSG_WAITALL), 6);
    assert_memory_equal(said,
                        "\xA7"
                        "artel",
                        6);
    send_text(fixture->link_fd, "hello", 5);
    char heard[5];
    assert_int_equal(recv(fd, heard, sizeof heard, MSG_WAITALL), 5);
    close(fd);
    free_fixture(fixture);
}

static void silent_ones_keep_nobody_waiting(void **state)
{
    (void)state;
    struct fixture *fixture = setup(true, 0);
    int silent[20];
    for (size_t i = 0; i < ARRAY_SIZE(silent); i++) {
        silent[i] = connect_to(fixture);
    }
    const int fd = connect_to(fixture);
    check_http(fd);
    check_http(fd);
    close(silent[0]);      /* has gone without a word */
    check_http(silent[1]); /* speaks at last */
    send_text(silent[2], "\xA7", 1);
    wait_for_links(fixture, 1);
    check_http(fd);
    close(fd);
    for (size_t i = 1; i < ARRAY_SIZE(silent); i++) {
        close(silent[i]);
    }
    free_fixture(fixture);
}

static void silence_has_a_deadline_and_idleness_another(void **state)
{
    (void)state;
    struct fixture *fixture = setup(true, 200);
    const int idle = connect_to(fixture);
    check_http(idle);
    const int silent = connect_to(fixture);
    check_ended(silent);
    close(silent);
    check_http(idle); /* between requests it may take its time */
    close(idle);
    free_fixture(fixture);
}

static void without_a_link_nodes_are_sent_away(void **state)
{
    (void)state;
    struct fixture *fixture = setup(false, 0);
    const int fd = connect_to(fixture);
    send_text(fd,
              "\xA7"
              "artel",
              6);
    check_ended(fd);
    close(fd);
    const int other = connect_to(fixture);
    check_http(other);
    close(other);
    free_fixture(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_is_handed_over_with_all_it_said),
        cmocka_unit_test(silent_ones_keep_nobody_waiting),
        cmocka_unit_test(silence_has_a_deadline_and_idleness_another),
        cmocka_unit_test(without_a_link_nodes_are_sent_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
