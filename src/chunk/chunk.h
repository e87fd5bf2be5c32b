/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CHUNK_CHUNK_H
#define CHUNK_CHUNK_H

/*
 * chunk: where a file is cut into blocks.
 *
 * Fixed chunking decides by the offset alone, so that a stream of unknown length can be cut:
 * 256 KiB in the first 256 MiB, 1 MiB up to 16 GiB, 4 MiB up to 64 GiB, 16 MiB after that. Small
 * files get small blocks, a file of 1 TiB still has fewer than 100,000 of them.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

#define CHUNK_BLOCK_BYTES_MAX ((uint32_t)(16 * 1024 * 1024))
#define CHUNK_FILE_BYTES_MAX ((uint64_t)1024 * 1024 * 1024 * 1024)
/* Of a file of CHUNK_FILE_BYTES_MAX: 1,024 + 16,128 + 12,288 + 61,440 in the four bands above. */
#define CHUNK_FILE_BLOCKS_MAX 90880u

/*
 * A chunker is a strategy: it is shown the bytes from `offset_bytes` on and tells how long the
 * block is that begins there. Content-defined chunking is another implementation of it.
 */
struct chunker {
    /* The most that cut() may need to see at `offset_bytes` to decide; at most
     * CHUNK_BLOCK_BYTES_MAX. */
    uint32_t (*window_bytes)(const struct chunker *chunker, uint64_t offset_bytes);
    /* `ahead` is what follows `offset_bytes`: window_bytes() of it, or less at the end of the
     * file; at least one byte. The answer is in [1, ahead.size]. */
    uint32_t (*cut)(const struct chunker *chunker, uint64_t offset_bytes, struct bytes ahead);
    /* True if cut() looks at the offset and the size of `ahead` only: blocks may then be cut, read
     * and hashed in any order. */
    bool by_offset_alone;
};

/* The fixed one; static, never freed. */
const struct chunker *chunker_fixed(void);

#endif
