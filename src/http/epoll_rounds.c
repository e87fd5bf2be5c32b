/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A way around a fault of libmicrohttpd up to 0.9.75 at least: MHD_epoll() asks for up to 128
 * events, and if there are exactly so many, asks for more before it looks at those it has, with the
 * same time-out. When nothing else happens, 128 clients (or 256, ...) wait until some other one
 * moves. With one event less than it asked for, it never sees its array full; what is left comes in
 * the next round.
 *
 * The library finds this definition before that of libc, as does libuv, which it does no harm:
 * fewer events than asked for are always right.
 */

#include <stddef.h>
#include <sys/epoll.h>

#include "http/server_priv.h"

int epoll_wait(int epoll_fd, struct epoll_event *events, int events_max, int timeout_ms)
{
    return epoll_pwait(epoll_fd, events, events_max > 1 ? events_max - 1 : events_max, timeout_ms,
                       NULL);
}

bool epoll_rounds_are_ours(void)
{
    return true;
}
