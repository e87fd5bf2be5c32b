/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_NODE_REAL_NODES_H
#define TESTS_UNIT_NODE_REAL_NODES_H

/* Nodes of this process on ports of 127.0.0.1, and a way to wait for what they call back. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/fetch.h"
#include "node/network.h"

#define SOON_MS 60000u

struct one {
    const struct clock *clock; /* NULL: clock_real() */
    uint64_t cache_bytes;      /* when it is started again */
    char dir[32];
    int listen_fd;
    pthread_t acceptor;
    struct node *node;
    struct network *network;
};

static inline int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info;
    (void)kind;
    (void)walk;
    return remove(path);
}

/* What src/http does in a node: connections of others come by TCP on the same port. */
static inline void *accept_all(void *argument)
{
    struct one *one = argument;
    for (;;) {
        const int fd = accept4(one->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            return NULL; /* close_one() */
        }
        network_accept(one->network, fd);
    }
}

/* False: somebody else has that port. */
static inline bool listen_at(struct one *one, uint16_t port)
{
    const struct sockaddr_in place = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    one->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(one->listen_fd >= 0);
    if (bind(one->listen_fd, (const struct sockaddr *)&place, sizeof place) != 0) {
        close(one->listen_fd);
        return false;
    }
    assert_int_equal(listen(one->listen_fd, 16), 0);
    return true;
}

/* `join`: NULL, or whom to join. */
static inline void start_one(struct one *one, const char *join)
{
    const struct node_options options = {
        .data = one->dir, .segment_bytes = (uint64_t)1 << 20, .clock = one->clock};
    assert_int_equal(node_open(&options, &one->node), 0);
    struct network_options network = {
        .join = join, .link_threads = 1, .cache_bytes = one->cache_bytes};
    assert_int_equal(address_parse("127.0.0.1:0", &network.listen), 0);
    for (;;) {
        assert_int_equal(network_open(one->node, &network, &one->network), 0);
        if (listen_at(one, network_address(one->network).port)) {
            break;
        }
        network_close(one->network);
    }
    assert_int_equal(pthread_create(&one->acceptor, NULL, accept_all, one), 0);
    network_start(one->network);
}

static inline void open_one_of(struct one *one, const char *join, const struct clock *clock)
{
    one->clock = clock;
    one->cache_bytes = 0;
    snprintf(one->dir, sizeof one->dir, "/tmp/test-node.XXXXXX");
    assert_non_null(mkdtemp(one->dir));
    start_one(one, join);
}

static inline void open_one(struct one *one, const char *join)
{
    open_one_of(one, join, NULL);
}

static inline void stop_one(struct one *one)
{
    shutdown(one->listen_fd, SHUT_RDWR);
    pthread_join(one->acceptor, NULL);
    close(one->listen_fd);
    network_close(one->network);
    node_close(one->node);
}

static inline void close_one(struct one *one)
{
    stop_one(one);
    nftw(one->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        const uint64_t begin_ms = clock_monotonic_ms(clock_real());                                \
        while (!(condition)) {                                                                     \
            assert_true(clock_monotonic_ms(clock_real()) - begin_ms < SOON_MS);                    \
            usleep(1000);                                                                          \
        }                                                                                          \
    } while (0)

static inline size_t alive_count(const struct one *one)
{
    struct network_summary summary;
    network_summarise(one->network, &summary);
    return summary.alive_count;
}

/* The store of the second one goes by `clock`. */
static inline void open_pair_of(struct one pair[2], const struct clock *clock)
{
    char join[ADDRESS_TEXT_CHARS + 1];
    open_one(&pair[0], NULL);
    const struct address address = network_address(pair[0].network);
    address_format(&address, join);
    open_one_of(&pair[1], join, clock);
    WAIT_FOR(alive_count(&pair[0]) == 2 && alive_count(&pair[1]) == 2);
}

static inline void open_pair(struct one pair[2])
{
    open_pair_of(pair, NULL);
}

struct waiting {
    pthread_mutex_t lock;
    pthread_cond_t came;
    int answers;
};

#define WAITING_INIT                                                                               \
    {                                                                                              \
        .lock = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER                        \
    }

static inline void answer(struct waiting *waiting)
{
    pthread_mutex_lock(&waiting->lock);
    waiting->answers++;
    pthread_cond_signal(&waiting->came);
    pthread_mutex_unlock(&waiting->lock);
}

static inline void wait_for_answers(struct waiting *waiting, int answers)
{
    pthread_mutex_lock(&waiting->lock);
    while (waiting->answers < answers) {
        pthread_cond_wait(&waiting->came, &waiting->lock);
    }
    assert_int_equal(waiting->answers, answers);
    pthread_mutex_unlock(&waiting->lock);
}

static inline struct fetch_counters counters_of(const struct one *one)
{
    struct fetch_counters counters;
    fetch_read_counters(network_fetch(one->network), &counters);
    return counters;
}

/* The first is started again, with a limit that nothing is below. */
static inline void limit(struct one pair[2])
{
    char join[ADDRESS_TEXT_CHARS + 1];
    const struct address address = network_address(pair[1].network);
    address_format(&address, join);
    stop_one(&pair[0]);
    pair[0].cache_bytes = 1;
    start_one(&pair[0], join);
}

#endif
