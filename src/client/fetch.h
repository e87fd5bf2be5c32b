/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_FETCH_H
#define CLIENT_FETCH_H

/*
 * fetch: the content of a file version, every block of it compared with its id here, at the
 * receiver. A connection that breaks is made again, and goes on behind the last good block.
 */

#include "client/client.h"
#include "client/verified.h"
#include "wire/file_metadata.h"

/* The list of blocks, whose SHA-256 is `id`. `ret_metadata` is given to file_metadata_done().
 * False: `response` tells why. */
[[nodiscard]] bool fetch_metadata(struct client *client, const struct id *id,
                                  struct file_metadata *ret_metadata,
                                  struct client_response *response);

struct fetch_target {
    verified_write *write; /* gets all content, block by block */
    void *write_context;
    /* Told of bytes that came and are not checked yet, for people who watch; NULL: nobody does. */
    void (*arrived)(void *context, size_t bytes);
    void *arrived_context;
    const _Atomic bool *is_stopped; /* gives up within a second when this is true; NULL: never */
};

/* Hands all content of `id` to `target`. False: `response` tells why. */
[[nodiscard]] bool fetch_content(struct client *client, const struct id *id,
                                 const struct file_metadata *metadata,
                                 const struct fetch_target *target,
                                 struct client_response *response);

#endif
