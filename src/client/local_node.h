/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_LOCAL_NODE_H
#define CLIENT_LOCAL_NODE_H

/*
 * local_node: the Unix socket of a node that runs on this machine, for what is about files of this
 * machine.
 */

#include <jansson.h>

#include "client/client.h"

/* Another client of the node that `client` talks to, by its Unix socket, and what GET /status tells
 * there; the caller gives them to client_free() and json_decref(). `ret_status` and `is_stopped`
 * (which ends the requests) may be NULL. Blocks.
 *
 *   -ENOENT  its socket is not to be had here: it runs on another machine, or lets nobody in
 *   -EIO     it does not answer; `response` tells why
 */
[[nodiscard]] int local_node_find(struct client *client, const _Atomic bool *is_stopped,
                                  struct client **ret_local, json_t **ret_status,
                                  struct client_response *response);

#endif
