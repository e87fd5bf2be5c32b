/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_MISSING_H
#define CLIENT_MISSING_H

/*
 * missing: whom the node could not ask for content. An answer that ends in the middle can't tell
 * it; the node remembers it for a while (GET /why).
 */

#include "client/client.h"
#include "hash/id.h"

/* Appends "; 2 could not be asked: b (zone z1, 10.0.0.2:7420, unreachable), ..." to `text`, which
 * tells that the file could not be had; nothing if all were asked, or the node does not know. */
void missing_add(struct client *client, const struct id *file, struct buf *text);

#endif
