/* SPDX-License-Identifier: Apache-2.0 */
#include "link/transport_priv.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "link/sockaddr_priv.h"

/* So much the kernel may hold that it has not sent. More gains no speed (what has been sent and is
 * not yet confirmed does not count), delays whatever is said next by as many bytes, and lets what
 * has hardly begun to leave look as if it had left: who sends to many over a slow link would take
 * the room in all their sockets for the link's rate. 0.5 ms at 1 Gbit/s. */
#define UNSENT_BYTES (64 * 1024)

static void set_options(int fd)
{
    const int on = 1;
    const int unsent_bytes = UNSENT_BYTES;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_bytes, sizeof unsent_bytes);
}

static bool is_zero(const struct address *address)
{
    static const struct address zero;
    return memcmp(address->ip, zero.ip, sizeof zero.ip) == 0;
}

static int bind_source(int fd, int family, const struct address *source)
{
    struct sockaddr_storage sockaddr;
    struct address from = *source;
    from.port = 0;
    if (is_zero(source) || sockaddr_family(source) != family) {
        return 0;
    }
    const int on = 1;
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    const socklen_t size = sockaddr_from_address(&from, family, &sockaddr);
    return bind(fd, (const struct sockaddr *)&sockaddr, size) < 0 ? -EIO : 0;
}

int transport_connect(struct transport *transport, const struct address *to,
                      const struct address *source)
{
    struct sockaddr_storage sockaddr;
    const int family = sockaddr_family(to);
    const socklen_t size = sockaddr_from_address(to, family, &sockaddr);
    CLEANUP_FD int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    const int err = bind_source(fd, family, source);
    if (err) {
        return err;
    }
    if (connect(fd, (const struct sockaddr *)&sockaddr, size) < 0 && errno != EINPROGRESS) {
        return -EIO;
    }
    set_options(fd);
    transport->fd = STEAL_FD(fd);
    return 0;
}

int transport_connected(const struct transport *transport)
{
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(transport->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error != 0) {
        return -EIO;
    }
    return 0;
}

void transport_accept(struct transport *transport, int fd)
{
    set_options(fd);
    transport->fd = fd;
}

void transport_set_user_timeout(struct transport *transport, unsigned timeout_ms)
{
    (void)setsockopt(transport->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
}

struct address transport_peer(const struct transport *transport)
{
    struct sockaddr_storage sockaddr = {0};
    socklen_t size = sizeof sockaddr;
    if (getpeername(transport->fd, (struct sockaddr *)&sockaddr, &size) < 0) {
        return (struct address){0};
    }
    return sockaddr_to_address((const struct sockaddr *)&sockaddr);
}

/* What a system call on the socket came to. */
static ssize_t result_of(ssize_t count)
{
    if (count >= 0) {
        return count;
    }
    return errno == EAGAIN || errno == EINTR || errno == ENOBUFS ? -EAGAIN : -EPIPE;
}

ssize_t transport_read(struct transport *transport, void *data, size_t size_bytes)
{
    return result_of(recv(transport->fd, data, size_bytes, MSG_DONTWAIT));
}

ssize_t transport_write(struct transport *transport, const struct iovec *pieces, size_t count)
{
    const struct msghdr message = {
        .msg_iov = (struct iovec *)(uintptr_t)pieces,
        .msg_iovlen = count,
    };
    return result_of(sendmsg(transport->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL));
}

void transport_end(struct transport *transport)
{
    (void)shutdown(transport->fd, SHUT_WR);
}

void transport_close(struct transport *transport)
{
    if (transport->fd >= 0) {
        close(transport->fd);
    }
    transport->fd = -1;
}
