/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_FETCH_H
#define CLIENT_FETCH_H

/*
 * fetch: the content of a file version. Each block that a node gives is compared with its id here,
 * at the receiver; what is taken out of the store of a node of this machine (local_store.h), with
 * its checksums. A connection that breaks is made again, and goes on behind the last good block.
 */

#include "client/client.h"
#include "client/verified.h"
#include "wire/file_metadata.h"

/* The list of blocks, whose SHA-256 is `id`. `ret_metadata` is given to file_metadata_done().
 * False: `response` tells why. */
[[nodiscard]] bool fetch_metadata(struct client *client, const struct id *id,
                                  struct file_metadata *ret_metadata,
                                  struct client_response *response);

struct store;

struct fetch_target {
    verified_write *write; /* gets all content, block by block */
    /* Instead: gets it in pieces in any order, some maybe twice; NULL: what is written can only be
     * written in file order. */
    int (*write_at)(void *context, uint64_t offset_bytes, struct bytes data);
    void *write_context;
    struct store *local; /* of local_store_open(), for what it has; NULL: all comes by the node */
    /* Told of bytes that came and are not checked yet, for people who watch; NULL: nobody does. */
    void (*arrived)(void *context, size_t bytes);
    void *arrived_context;
    const _Atomic bool *is_stopped; /* gives up within a second when this is true; NULL: never */
};

/* What `target` does with checked bytes at their place in the file. */
[[nodiscard]] static inline int fetch_target_take(const struct fetch_target *target,
                                                  uint64_t offset_bytes, struct bytes data)
{
    return target->write_at ? target->write_at(target->write_context, offset_bytes, data)
                            : target->write(target->write_context, data);
}

/* Hands all content of `id` to `target`. False: `response` tells why. */
[[nodiscard]] bool fetch_content(struct client *client, const struct id *id,
                                 const struct file_metadata *metadata,
                                 const struct fetch_target *target,
                                 struct client_response *response);

#endif
