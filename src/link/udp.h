/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LINK_UDP_H
#define LINK_UDP_H

/*
 * udp: a socket for datagrams on a loop of the caller's. Nothing waits here: what the kernel can't
 * take at once is dropped and counted, as the network may do anyway.
 *
 * Threads: the loop's, but for udp_read_counters().
 */

#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/bytes.h"
#include "wire/address.h"

struct udp;

/* Longer ones are dropped and counted, in both directions (wire/datagram.h says why so many). */
#define UDP_BYTES_MAX ((size_t)1400)
/* Asked of the kernel for what has arrived: 2,000 datagrams of a broadcast storm, which the kernel
 * counts with their overhead. It may give less (net.core.rmem_max). */
#define UDP_RECEIVE_BUFFER_BYTES (4 * 1024 * 1024)

/* `bytes`, at least 1, are borrowed for the call. May call udp_send() and udp_close(). */
typedef void udp_received(void *context, const struct address *from, struct bytes bytes);

/* Binds to `address` (port 0: any free one; "::" takes IPv4 too) and calls `received` for each
 * datagram. The caller owns *ret_udp. -EBUSY: the port is taken; -EINVAL: no address of this
 * machine; -EACCES, -EMFILE, -EIO. */
[[nodiscard]] int udp_open(uv_loop_t *loop, const struct address *address, udp_received *received,
                           void *context, struct udp **ret_udp);

/* Nothing is received any more; the memory goes once the loop has run another round, which the
 * caller sees to. NULL is allowed. */
void udp_close(struct udp *udp);

/* Where it is bound. */
struct address udp_address(const struct udp *udp);

/* Sends one datagram, or drops and counts it: never blocks, never fails. */
void udp_send(struct udp *udp, const struct address *to, struct bytes bytes);

struct udp_counters {
    uint64_t sent;
    uint64_t sent_bytes;
    uint64_t received;
    uint64_t received_bytes;
    uint64_t dropped_full;         /* not sent: the kernel's buffer was full */
    uint64_t dropped_long;         /* either way: longer than UDP_BYTES_MAX; or empty */
    uint64_t send_errors;          /* not sent: no way there, forbidden */
    uint64_t receive_errors;       /* told by the kernel; it goes on */
    uint64_t receive_buffer_bytes; /* as the kernel gave it */
};

/* From any thread. */
void udp_read_counters(const struct udp *udp, struct udp_counters *ret_counters);

#endif
