/* SPDX-License-Identifier: Apache-2.0 */
#include "http/linger.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Of one socket in one round. */
#define PIECE_BYTES ((size_t)64 * 1024)

void linger_add(struct linger_list *linger, int fd, uint64_t now_ms)
{
    if (linger->count == LINGER_MAX) {
        close(linger->sockets[0].fd);
        linger->count--;
        memmove(linger->sockets, linger->sockets + 1, linger->count * sizeof linger->sockets[0]);
    }
    linger->sockets[linger->count++] =
        (struct linger_socket){.fd = fd, .until_ms = now_ms + LINGER_MS};
}

void linger_poll(const struct linger_list *linger, struct pollfd *ret_fds)
{
    for (size_t i = 0; i < linger->count; i++) {
        ret_fds[i] = (struct pollfd){.fd = linger->sockets[i].fd, .events = POLLIN};
    }
}

/* False: it has ended. */
static bool drop(struct linger_socket *socket)
{
    char dropped[PIECE_BYTES];
    const ssize_t count = recv(socket->fd, dropped, sizeof dropped, MSG_DONTWAIT);
    if (count <= 0) {
        return count < 0 && (errno == EAGAIN || errno == EINTR);
    }
    socket->dropped_bytes += (uint64_t)count;
    return socket->dropped_bytes < LINGER_BYTES_MAX;
}

void linger_read(struct linger_list *linger, const struct pollfd *fds, uint64_t now_ms)
{
    size_t kept = 0;
    for (size_t i = 0; i < linger->count; i++) {
        struct linger_socket *socket = &linger->sockets[i];
        if (now_ms < socket->until_ms && (!fds[i].revents || drop(socket))) {
            linger->sockets[kept++] = *socket;
        } else {
            close(socket->fd);
        }
    }
    linger->count = kept;
}

void linger_done(struct linger_list *linger)
{
    for (size_t i = 0; i < linger->count; i++) {
        close(linger->sockets[i].fd);
    }
    linger->count = 0;
}
