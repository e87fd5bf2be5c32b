/* SPDX-License-Identifier: Apache-2.0 */
#include "chunk/chunk.h"

#include <assert.h>

#include "base/mem.h"

/*
 * The fixed chunker: the file is laid out in bands, each cut evenly. The edge of a band is a
 * multiple of the block sizes on both of its sides, so a block never reaches over it.
 */

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)

#define BAND_1_END (256 * MIB)
#define BAND_2_END (16 * GIB)
#define BAND_3_END (64 * GIB)

#define BAND_1_BLOCK (256 * KIB)
#define BAND_2_BLOCK (1 * MIB)
#define BAND_3_BLOCK (4 * MIB)
#define BAND_4_BLOCK (16 * MIB)

/* 1,024 + 16,128 + 12,288 + 61,440 */
static_assert(CHUNK_FILE_BLOCKS_MAX == BAND_1_END / BAND_1_BLOCK +
                                           (BAND_2_END - BAND_1_END) / BAND_2_BLOCK +
                                           (BAND_3_END - BAND_2_END) / BAND_3_BLOCK +
                                           (CHUNK_FILE_BYTES_MAX - BAND_3_END) / BAND_4_BLOCK,
              "CHUNK_FILE_BLOCKS_MAX is the sum over the bands");
static_assert(CHUNK_BLOCK_BYTES_MAX == BAND_4_BLOCK, "the last band has the largest blocks");
static_assert(BAND_1_END % BAND_2_BLOCK == 0 && BAND_2_END % BAND_3_BLOCK == 0 &&
                  BAND_3_END % BAND_4_BLOCK == 0 && CHUNK_FILE_BYTES_MAX % BAND_4_BLOCK == 0,
              "no block reaches over the edge of a band");

static uint64_t block_bytes_at(uint64_t offset_bytes)
{
    if (offset_bytes < BAND_1_END) {
        return BAND_1_BLOCK;
    }
    if (offset_bytes < BAND_2_END) {
        return BAND_2_BLOCK;
    }
    if (offset_bytes < BAND_3_END) {
        return BAND_3_BLOCK;
    }
    return BAND_4_BLOCK;
}

/* Up to the next edge of the layout: a whole block, unless the offset is inside of one. */
static uint32_t fixed_window_bytes(const struct chunker *chunker, uint64_t offset_bytes)
{
    (void)chunker;
    const uint64_t block_bytes = block_bytes_at(offset_bytes);
    return (uint32_t)(block_bytes - offset_bytes % block_bytes);
}

static uint32_t fixed_cut(const struct chunker *chunker, uint64_t offset_bytes, struct bytes ahead)
{
    CHECK(ahead.size > 0);
    const uint32_t window_bytes = fixed_window_bytes(chunker, offset_bytes);
    return ahead.size < window_bytes ? (uint32_t)ahead.size : window_bytes;
}

const struct chunker *chunker_fixed(void)
{
    static const struct chunker fixed = {
        .window_bytes = fixed_window_bytes,
        .cut = fixed_cut,
        .by_offset_alone = true,
    };
    return &fixed;
}
