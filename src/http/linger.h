/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_LINGER_H
#define HTTP_LINGER_H

/*
 * linger: sockets that were answered while their clients still send. Closing such a socket makes
 * the kernel send a reset, and the client may lose the answer that is on its way; so what comes is
 * read and dropped for a while (RFC 9112, section 9.6). One thread; nothing here blocks.
 */

#include <poll.h>
#include <stddef.h>
#include <stdint.h>

/* At once; for one more the oldest is closed. */
#define LINGER_MAX 256
/* So long, and so many bytes, at most. */
#define LINGER_MS 2000u
#define LINGER_BYTES_MAX ((uint64_t)16 * 1024 * 1024)

struct linger_list {
    struct linger_socket {
        int fd;
        uint64_t until_ms;
        uint64_t dropped_bytes;
    } sockets[LINGER_MAX]; /* the oldest first */
    size_t count;
};

/* Takes `fd`. */
void linger_add(struct linger_list *linger, int fd, uint64_t now_ms);
/* Fills ret_fds[0 .. linger->count) for poll(2). */
void linger_poll(const struct linger_list *linger, struct pollfd *ret_fds);
/* Reads what came according to `fds`, as filled by linger_poll() since the last change; closes
 * those that have ended. */
void linger_read(struct linger_list *linger, const struct pollfd *fds, uint64_t now_ms);
/* Closes all. */
void linger_done(struct linger_list *linger);

#endif
