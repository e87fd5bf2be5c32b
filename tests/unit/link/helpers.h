/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_LINK_HELPERS_H
#define TESTS_UNIT_LINK_HELPERS_H

/*
 * helpers: nodes with a link and a listening socket, all in this process on loopback; and strangers
 * that speak to them through a plain socket.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/codec.h"
#include "base/mem.h"
#include "link/frame.h"
#include "link/link.h"
#include "link/message.h"
#include "link/preamble.h"
#include "link/stream.h"

#define WAIT_MS 30000

static inline uint64_t test_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static inline void test_nap(void)
{
    const struct timespec nap = {.tv_nsec = 1000000};
    nanosleep(&nap, NULL);
}

/* Fails unless `condition` comes true within WAIT_MS. */
#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        const uint64_t until_ms_ = test_now_ms() + WAIT_MS;                                        \
        while (!(condition)) {                                                                     \
            if (test_now_ms() > until_ms_) {                                                       \
                fail_msg("waited in vain for: %s", #condition);                                    \
            }                                                                                      \
            test_nap();                                                                            \
        }                                                                                          \
    } while (0)

static inline struct node_id test_id(uint8_t number)
{
    struct node_id id;
    memset(id.bytes, number, sizeof id.bytes);
    return id;
}

static inline struct address test_address(uint16_t port)
{
    struct address address = {.port = port};
    address.ip[10] = address.ip[11] = 0xff;
    address.ip[12] = 127;
    address.ip[15] = 1;
    return address;
}

struct test_node {
    struct node_id id;
    struct link *link;
    int listen_fd;
    struct address address;
    pthread_t acceptor;
    _Atomic bool is_stopping;
    _Atomic bool is_deaf; /* accepts nobody */
};

static inline int test_listen(uint16_t *ret_port)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof in;
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
    assert_int_equal(listen(fd, 1024), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &size), 0);
    *ret_port = ntohs(in.sin_port);
    return fd;
}

static inline void *test_acceptor(void *argument)
{
    struct test_node *node = argument;
    while (!node->is_stopping) {
        struct pollfd waited = {.fd = node->listen_fd, .events = POLLIN};
        if (poll(&waited, 1, 20) <= 0 || node->is_deaf) {
            test_nap();
            continue;
        }
        const int fd = accept4(node->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            link_accept(node->link, fd);
        }
    }
    return NULL;
}

/* `options` without the id; the nonce is 100 times the number unless it is set. */
static inline struct test_node *test_node_new(uint8_t number, struct link_options options)
{
    struct test_node *node = mem_alloc(sizeof *node);
    uint16_t port;
    node->id = test_id(number);
    node->listen_fd = test_listen(&port);
    node->address = test_address(port);
    options.id = node->id;
    options.boot_nonce = options.boot_nonce ? options.boot_nonce : 100u * number;
    options.threads = options.threads ? options.threads : 2;
    assert_int_equal(link_open(&options, &node->link), 0);
    assert_int_equal(pthread_create(&node->acceptor, NULL, test_acceptor, node), 0);
    return node;
}

static inline void test_node_free(struct test_node *node)
{
    node->is_stopping = true;
    pthread_join(node->acceptor, NULL);
    link_close(node->link);
    close(node->listen_fd);
    free(node);
}

static inline struct link_counters test_counters(const struct test_node *node)
{
    struct link_counters counters;
    link_read_counters(node->link, &counters);
    return counters;
}

/* A stranger: a blocking socket with a time-out. */
static inline int test_connect(const struct test_node *node)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval limit = {.tv_sec = WAIT_MS / 1000};
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons(node->address.port)};
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (struct sockaddr *)&in, sizeof in), 0);
    return fd;
}

static inline void test_send(int fd, const void *data, size_t size)
{
    const uint8_t *at = data;
    while (size > 0) {
        const ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
        assert_true(sent > 0);
        at += sent;
        size -= (size_t)sent;
    }
}

/* False: the connection ended before. */
static inline bool test_receive(int fd, void *data, size_t size)
{
    uint8_t *at = data;
    while (size > 0) {
        const ssize_t got = recv(fd, at, size, 0);
        assert_false(got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
        if (got <= 0) {
            return false;
        }
        at += got;
        size -= (size_t)got;
    }
    return true;
}

/* Reads until the other side ends the connection. */
static inline void test_receive_end(int fd)
{
    uint8_t byte;
    while (test_receive(fd, &byte, 1)) {
    }
}

static inline struct preamble test_preamble(uint8_t from, const struct test_node *to)
{
    return (struct preamble){
        .id = test_id(from), .boot_nonce = 100u * from, .expected = to->id, .number = 1};
}

static inline void test_send_preamble(int fd, const struct preamble *preamble)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    preamble_format(preamble, &bytes);
    test_send(fd, bytes.data, bytes.size);
}

static inline struct preamble test_receive_preamble(int fd)
{
    uint8_t bytes[PREAMBLE_BYTES];
    struct preamble preamble;
    size_t size;
    assert_true(test_receive(fd, bytes, sizeof bytes));
    assert_int_equal(preamble_parse(BYTES(bytes, sizeof bytes), &preamble, &size), 0);
    return preamble;
}

/* A stranger that has shaken hands as node `number`. */
static inline int test_stranger(uint8_t number, const struct test_node *to)
{
    const int fd = test_connect(to);
    const struct preamble preamble = test_preamble(number, to);
    test_send_preamble(fd, &preamble);
    assert_int_equal(test_receive_preamble(fd).verdict, 0);
    return fd;
}

static inline void test_send_frame(int fd, uint8_t type, uint32_t stream, uint8_t flags,
                                   const void *data, size_t size)
{
    uint8_t header[FRAME_HEADER_BYTES];
    const struct frame frame = {
        .length = (uint32_t)size, .stream = stream, .type = type, .flags = flags};
    frame_put(header, &frame);
    test_send(fd, header, sizeof header);
    test_send(fd, data, size);
}

static inline void test_send_open(int fd, uint32_t stream, uint8_t service, uint8_t kind)
{
    const uint8_t payload[] = {service, kind};
    test_send_frame(fd, FRAME_OPEN, stream, 0, payload, sizeof payload);
}

/* The next frame; its payload (at most `capacity` bytes) goes to `ret_data`. False: the end. */
static inline bool test_receive_frame(int fd, struct frame *ret_frame, void *ret_data,
                                      size_t capacity)
{
    uint8_t header[FRAME_HEADER_BYTES];
    if (!test_receive(fd, header, sizeof header)) {
        return false;
    }
    *ret_frame = (struct frame){.length = codec_get_le32(header),
                                .stream = codec_get_le32(header + 4),
                                .type = header[8],
                                .flags = header[9]};
    assert_true(ret_frame->length <= capacity);
    return test_receive(fd, ret_data, ret_frame->length);
}

/* What a stream did, as its callbacks told. */
struct test_stream {
    _Atomic uint64_t received_bytes;
    _Atomic uint64_t wrong_bytes; /* not as test_byte() has them */
    _Atomic unsigned ends_count;
    _Atomic unsigned writables_count;
    _Atomic unsigned closed_count;
    _Atomic int err;
    _Atomic uint32_t code;
    bool holds;  /* does not grant what came */
    bool echoes; /* writes it back; ends when the other does */
    bool is_freed_when_closed;
    _Atomic unsigned releases_count;
    _Atomic unsigned dropped_count; /* of these: that did not leave */
    struct link_stream *_Atomic stream;
};

/* The content of all test streams. */
static inline uint8_t test_byte(uint64_t at)
{
    return (uint8_t)(at * 31 + (at >> 8) * 7 + (at >> 16));
}

static inline void test_fill(uint8_t *data, size_t size, uint64_t at)
{
    for (size_t i = 0; i < size; i++) {
        data[i] = test_byte(at + i);
    }
}

/* A write of an echo: when it is sent, as much may come again. */
struct test_echo {
    struct link_stream *stream;
    size_t size;
    uint8_t bytes[];
};

static inline void test_on_echoed(void *context, int err)
{
    (void)err;
    struct test_echo *echo = context;
    link_stream_grant(echo->stream, echo->size);
    free(echo);
}

static inline int test_echo(struct link_stream *stream, struct bytes bytes)
{
    struct test_echo *echo = mem_alloc(sizeof *echo + bytes.size);
    echo->stream = stream;
    echo->size = bytes.size;
    memcpy(echo->bytes, bytes.data, bytes.size);
    const int err = link_stream_write(stream, BYTES(echo->bytes, bytes.size), test_on_echoed, echo);
    if (err) {
        free(echo);
    }
    return err;
}

static inline void test_on_data(void *context, struct link_stream *stream, struct bytes bytes)
{
    struct test_stream *test = context;
    for (size_t i = 0; i < bytes.size; i++) {
        test->wrong_bytes += bytes.data[i] != test_byte(test->received_bytes + i);
    }
    test->received_bytes += bytes.size;
    if (test->echoes) {
        test->wrong_bytes += test_echo(stream, bytes) != 0;
    } else if (!test->holds) {
        link_stream_grant(stream, bytes.size);
    }
}

static inline void test_on_end(void *context, struct link_stream *stream)
{
    struct test_stream *test = context;
    test->ends_count++;
    if (test->echoes) {
        link_stream_end(stream);
    }
}

static inline void test_on_writable(void *context, struct link_stream *stream)
{
    struct test_stream *test = context;
    (void)stream;
    test->writables_count++;
}

static inline void test_on_closed(void *context, struct link_stream *stream, int err, uint32_t code)
{
    struct test_stream *test = context;
    test->err = err;
    test->code = code;
    if (test->is_freed_when_closed) {
        link_stream_free(stream);
    }
    test->closed_count++;
}

static inline void test_on_release(void *context, int err)
{
    struct test_stream *test = context;
    test->dropped_count += err != 0;
    test->releases_count++;
}

static inline struct link_stream_handlers test_handlers(void)
{
    return (struct link_stream_handlers){.data = test_on_data,
                                         .end = test_on_end,
                                         .writable = test_on_writable,
                                         .closed = test_on_closed};
}

/* A service that hands out `context`, a struct test_stream, for every stream. */
static inline int test_on_accept(void *context, const struct link_peer *peer,
                                 struct link_stream *stream,
                                 struct link_stream_handlers *ret_handlers, void **ret_context)
{
    struct test_stream *test = context;
    (void)peer;
    test->stream = stream;
    *ret_handlers = test_handlers();
    *ret_context = test;
    return 0;
}

static inline struct link_stream *test_open(struct test_node *from, const struct test_node *to,
                                            uint8_t service, struct test_stream *test)
{
    const struct link_stream_options options = {.peer = to->id,
                                                .address = to->address,
                                                .service = service,
                                                .handlers = test_handlers(),
                                                .context = test};
    struct link_stream *stream = NULL;
    assert_int_equal(link_stream_open(from->link, &options, &stream), 0);
    return stream;
}

#endif
