/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_FETCH_H
#define CLI_FETCH_H

/*
 * fetch: the content of a file version, every block of it compared with its id here, at the
 * receiver. A connection that breaks is made again, and goes on behind the last good block.
 */

#include "cli/client.h"
#include "cli/progress.h"
#include "cli/verified.h"
#include "wire/file_metadata.h"

/* The list of blocks, whose SHA-256 is `id`. `ret_metadata` is given to file_metadata_done().
 * False: `response` tells why. */
[[nodiscard]] bool fetch_metadata(struct client *client, const struct id *id,
                                  struct file_metadata *ret_metadata,
                                  struct client_response *response);

/* Hands all content of `id` to `write`, block by block. */
[[nodiscard]] bool fetch_content(struct client *client, const struct id *id,
                                 const struct file_metadata *metadata, verified_write *write,
                                 void *context, struct progress *progress,
                                 struct client_response *response);

#endif
