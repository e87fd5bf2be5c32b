/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

/*
 * server: the HTTP/1.1 interface of a node (docs/API.md), on one TCP address and on the Unix socket
 * `DATA/socket`, by GNU libmicrohttpd with one epoll thread per core. An acceptor thread of our own
 * hands it connections, refuses those above the limit with 503, and shuts down those that keep the
 * server waiting: libmicrohttpd's own time-outs do not catch a client that sends a byte a second.
 */

#include <stdint.h>

#include "node/node.h"

struct network;
struct server;

/* Open connections at most; a further one is told 503 and closed. */
#define SERVER_CONNECTIONS_MAX_DEFAULT 24000u
/* What a connection costs while nothing happens on it. */
#define SERVER_CONNECTION_BYTES ((size_t)16 * 1024)
/* From the first byte of a request to the end of its headers; and until a new connection says its
 * first byte, unless the time below is less. */
#define SERVER_HEADER_MS_DEFAULT 15000u
/* A body must bring so many bytes in each such time. */
#define SERVER_BODY_MS_DEFAULT 30000u
#define SERVER_BODY_BYTES_MIN ((uint64_t)8 * 1024)
/* An idle connection is closed after so long. */
#define SERVER_IDLE_MS_DEFAULT 300000u

/* By this first byte a connection is known to come from another node. */
#define SERVER_LINK_FIRST_BYTE 0xA7

struct server_options {
    const char *listen;       /* ADDRESS:PORT or [ADDRESS]:PORT; port 0: any free one */
    unsigned connections_max; /* 0: the default; likewise below */
    unsigned header_ms;
    unsigned body_ms;
    unsigned idle_ms;
    unsigned ack_count; /* other nodes that shall have a change if its request names no number */
    const char *version;
    /* Takes over `fd`, a connection from another node, of which nothing has been read. From the
     * acceptor's thread; must not block. NULL: such connections are closed. */
    void (*accept_link)(void *context, int fd);
    void *link_context;
    struct network *network;     /* outlives the server */
    struct followers *followers; /* likewise; NULL: none */
};

/* Listens and serves. `node` outlives the server. -EINVAL: no such address; -EBUSY: the port is
 * taken; -EACCES; -EMFILE. */
[[nodiscard]] int server_start(struct node *node, const struct server_options *options,
                               struct server **ret_server);

/* ADDRESS:PORT that it listens on, borrowed. */
const char *server_address(const struct server *server);

/* Takes no more connections, ends those that are open, and returns when all have. */
void server_stop(struct server *server);

#endif
