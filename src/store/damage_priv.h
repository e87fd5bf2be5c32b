/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_DAMAGE_PRIV_H
#define STORE_DAMAGE_PRIV_H

/*
 * damage: blocks that are not what their id says.
 */

#include <stdbool.h>

#include "hash/id.h"
#include "store/block_record_priv.h"

struct store;

/* Reads a range of a block from one of its places, unchecked. -EBADMSG: the segment does not
 * reach so far; -ESTALE: a file outside that is withdrawn. (In read.c.) */
[[nodiscard]] int location_read(struct store *store, const struct location *location,
                                uint32_t offset_bytes, void *data, uint32_t size_bytes);

/* Compares every place of the block with its id and drops those that are wrong; *ret_dropped tells
 * whether there was one. Where the bytes are right and the CRCs in the index are not, these are
 * made anew. A place that can't be read (-EIO) stays: the disk may answer the next time. A
 * read-only store changes nothing: -EROFS. */
[[nodiscard]] int damage_verify(struct store *store, const struct id *id, bool *ret_dropped);

#endif
