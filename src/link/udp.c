/* SPDX-License-Identifier: Apache-2.0 */
#include "link/udp.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/mem.h"
#include "link/sockaddr_priv.h"

/* libuv cuts the buffer into pieces of 64 KiB, one for each datagram that one system call may
 * bring; only the pages that are written to cost memory. */
#define BATCH_DATAGRAMS 16
#define BATCH_BYTES ((size_t)BATCH_DATAGRAMS * 64 * 1024)

struct udp {
    uv_udp_t handle;
    int family;
    struct address address;
    udp_received *received;
    void *context;
    uint8_t *buffer;
    struct {
        _Atomic uint64_t sent;
        _Atomic uint64_t sent_bytes;
        _Atomic uint64_t received;
        _Atomic uint64_t received_bytes;
        _Atomic uint64_t dropped_full;
        _Atomic uint64_t dropped_long;
        _Atomic uint64_t send_errors;
        _Atomic uint64_t receive_errors;
    } counters;
    uint64_t receive_buffer_bytes;
};

static void on_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buffer)
{
    (void)suggested;
    struct udp *udp = handle->data;
    *ret_buffer = uv_buf_init((char *)udp->buffer, (unsigned)BATCH_BYTES);
}

static void on_datagram(uv_udp_t *handle, ssize_t size, const uv_buf_t *buffer,
                        const struct sockaddr *from, unsigned flags)
{
    struct udp *udp = handle->data;
    if (size < 0) {
        udp->counters.receive_errors++;
        return;
    }
    if (!from) {
        return; /* Nothing more for now, or the whole batch was handed out. */
    }
    if (size == 0 || (size_t)size > UDP_BYTES_MAX || (flags & UV_UDP_PARTIAL)) {
        udp->counters.dropped_long++;
        return;
    }
    udp->counters.received++;
    udp->counters.received_bytes += (uint64_t)size;
    if (uv_is_closing((uv_handle_t *)handle)) {
        return; /* Closed by the one before, in the same batch. */
    }
    const struct address address = sockaddr_to_address(from);
    udp->received(udp->context, &address, BYTES((const uint8_t *)buffer->base, (size_t)size));
}

static void on_closed(uv_handle_t *handle)
{
    struct udp *udp = handle->data;
    free(udp->buffer);
    free(udp);
}

/* As large as the kernel lets us; the privileged call goes beyond the limit that is set for all. */
static void raise_receive_buffer(struct udp *udp, int fd)
{
    const int wanted = UDP_RECEIVE_BUFFER_BYTES;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &wanted, sizeof wanted) < 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &wanted, sizeof wanted);
    }
    int given = 0;
    socklen_t size = sizeof given;
    (void)getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &given, &size);
    udp->receive_buffer_bytes = (uint64_t)(given > 0 ? given : 0);
}

/* What bind(2) says of an address that is not this machine's is no word of base/err.h. */
static int err_of_bind(int uv_err)
{
    if (uv_err == UV_EADDRINUSE) {
        return -EBUSY;
    }
    return uv_err == UV_EADDRNOTAVAIL ? -EINVAL : err_from_errno(-uv_err);
}

static int start(struct udp *udp, const struct address *address)
{
    struct sockaddr_storage sockaddr;
    (void)sockaddr_from_address(address, udp->family, &sockaddr);
    int err = uv_udp_bind(&udp->handle, (const struct sockaddr *)&sockaddr, 0);
    if (err) {
        return err_of_bind(err);
    }
    uv_os_fd_t fd = -1;
    err = uv_fileno((uv_handle_t *)&udp->handle, &fd);
    int size = sizeof sockaddr;
    if (!err) {
        raise_receive_buffer(udp, fd);
        err = uv_udp_getsockname(&udp->handle, (struct sockaddr *)&sockaddr, &size);
    }
    if (!err) {
        udp->address = sockaddr_to_address((const struct sockaddr *)&sockaddr);
        err = uv_udp_recv_start(&udp->handle, on_buffer, on_datagram);
    }
    return err ? err_from_errno(-err) : 0;
}

int udp_open(uv_loop_t *loop, const struct address *address, udp_received *received, void *context,
             struct udp **ret_udp)
{
    struct udp *udp = mem_alloc(sizeof *udp);
    udp->family = sockaddr_family(address);
    udp->received = received;
    udp->context = context;
    int err = uv_udp_init_ex(loop, &udp->handle, (unsigned)udp->family | UV_UDP_RECVMMSG);
    if (err) {
        free(udp);
        return err_from_errno(-err);
    }
    udp->handle.data = udp;
    udp->buffer = mem_alloc_aligned(4096, BATCH_BYTES);
    err = start(udp, address);
    if (err) {
        udp_close(udp);
        return err;
    }
    *ret_udp = udp;
    return 0;
}

void udp_close(struct udp *udp)
{
    if (udp) {
        uv_close((uv_handle_t *)&udp->handle, on_closed);
    }
}

struct address udp_address(const struct udp *udp)
{
    return udp->address;
}

void udp_send(struct udp *udp, const struct address *to, struct bytes bytes)
{
    if (bytes.size == 0 || bytes.size > UDP_BYTES_MAX) {
        udp->counters.dropped_long++;
        return;
    }
    struct sockaddr_storage sockaddr;
    if (uv_is_closing((uv_handle_t *)&udp->handle) || to->port == 0 ||
        sockaddr_from_address(to, udp->family, &sockaddr) == 0) {
        udp->counters.send_errors++;
        return;
    }
    const uv_buf_t buffer = uv_buf_init((char *)(uintptr_t)bytes.data, (unsigned)bytes.size);
    const int sent = uv_udp_try_send(&udp->handle, &buffer, 1, (const struct sockaddr *)&sockaddr);
    if (sent >= 0) {
        udp->counters.sent++;
        udp->counters.sent_bytes += bytes.size;
    } else if (sent == UV_EAGAIN || sent == UV_ENOBUFS) {
        udp->counters.dropped_full++;
    } else {
        udp->counters.send_errors++;
    }
}

void udp_read_counters(const struct udp *udp, struct udp_counters *ret_counters)
{
    *ret_counters = (struct udp_counters){
        .sent = udp->counters.sent,
        .sent_bytes = udp->counters.sent_bytes,
        .received = udp->counters.received,
        .received_bytes = udp->counters.received_bytes,
        .dropped_full = udp->counters.dropped_full,
        .dropped_long = udp->counters.dropped_long,
        .send_errors = udp->counters.send_errors,
        .receive_errors = udp->counters.receive_errors,
        .receive_buffer_bytes = udp->receive_buffer_bytes,
    };
}
