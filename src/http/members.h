/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_MEMBERS_H
#define HTTP_MEMBERS_H

/*
 * members: events of membership as Server-Sent Events, for watchers (watch.c).
 */

#include "base/buf.h"
#include "node/network.h"

/* Appends events behind *position, up to some `limit_bytes` of text, and moves it. The first tells
 * of a gap if some are not known any more. They have no `id`: they are not repeated. */
void members_add_events(struct network *network, uint64_t *position, size_t limit_bytes,
                        struct buf *text);

#endif
