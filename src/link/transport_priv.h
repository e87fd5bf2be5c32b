/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LINK_TRANSPORT_PRIV_H
#define LINK_TRANSPORT_PRIV_H

/*
 * transport: the bytes of one connection, never blocking. All reads and writes of a connection
 * pass here, so that encryption has one place to stand.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "wire/address.h"

struct transport {
    int fd; /* -1: closed */
};

/* Begins to connect, from the ip of `source` unless it is all zeros; done when the socket is
 * writable and transport_connected() says so. -EIO: no way there; -EMFILE. */
[[nodiscard]] int transport_connect(struct transport *transport, const struct address *to,
                                    const struct address *source);
[[nodiscard]] int transport_connected(const struct transport *transport);

/* Takes `fd` over. */
void transport_accept(struct transport *transport, int fd);

/* After so long without an answer to what was sent, the kernel gives up. */
void transport_set_user_timeout(struct transport *transport, unsigned timeout_ms);

/* Who is at the other end; zeros if nobody is. */
struct address transport_peer(const struct transport *transport);

/* How many bytes: 0 at the end, -EAGAIN: none now, -EPIPE: the connection is lost. */
[[nodiscard]] ssize_t transport_read(struct transport *transport, void *data, size_t size_bytes);
[[nodiscard]] ssize_t transport_write(struct transport *transport, const struct iovec *pieces,
                                      size_t count);

/* Nothing more will be written. */
void transport_end(struct transport *transport);
void transport_close(struct transport *transport);

#endif
