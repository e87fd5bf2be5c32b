/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_LOCAL_STORE_H
#define CLIENT_LOCAL_STORE_H

/*
 * local_store: content out of the store of a node of this machine, read beside the node. The node
 * compared each block with its id when it came; here every piece of one is compared with its CRC.
 * So a file costs one pass over its bytes instead of a way through the node, a connection and a
 * hash. Whatever is odd is left to the node: nothing here fails but what the target fails with.
 */

#include "client/fetch.h"
#include "store/store.h"

/* To ask the node and to open the store costs some milliseconds: it is for files from here on. */
#define LOCAL_STORE_BYTES_MIN ((uint64_t)4 * 1024 * 1024)

/* The store of the node that `client` talks to, for reading; the caller gives it to store_close().
 * NULL: the node runs on another machine, or its store can't be read here (who may not write the
 * reader table of the index can't), or belongs to somebody who is neither root nor the user of
 * this process and could have it say anything. A process has a store open once. Blocks. */
struct store *local_store_open(struct client *client);

enum local_block {
    LOCAL_LACKS, /* not there, or not in time */
    LOCAL_COPIED,
    LOCAL_BAD, /* damaged, or can't be read */
};

/*
 * Hands what `store` has of the file to `target`. With target->write_at it has the node fetch what
 * lacks, and takes each block when the index names it, until it has all or the node says that no
 * more comes; without, it stops at the first block that lacks. blocks[i] is what became of block i
 * of the list; LOCAL_LACKS before. 0, or what the target's write returned. Blocks.
 */
[[nodiscard]] int local_store_copy(struct store *store, struct client *client, const struct id *id,
                                   const struct file_metadata *metadata,
                                   const struct fetch_target *target, uint8_t *blocks);

#endif
