/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_BLOCK_RECORD_PRIV_H
#define STORE_BLOCK_RECORD_PRIV_H

/*
 * block_record: what the index knows of one block, and its bytes in the database.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "chunk/chunk.h"
#include "store/store.h"

/* Each span of a block has a CRC of its own, so that a small read checks little. */
#define BLOCK_SPAN_BYTES STORE_SPAN_BYTES
#define BLOCK_SPANS_MAX (CHUNK_BLOCK_BYTES_MAX / BLOCK_SPAN_BYTES)
/* One place in a segment and a few files outside; more copies on one disk serve nothing. */
#define BLOCK_LOCATIONS_MAX 16

/* A container is a segment, by its number, or a file outside, by its number with this bit. */
#define CONTAINER_EXTERNAL (UINT64_C(1) << 63)

struct location {
    uint64_t container;
    uint64_t offset_bytes;
};

static inline bool location_is_external(const struct location *location)
{
    return (location->container & CONTAINER_EXTERNAL) != 0;
}

static inline bool location_equal(const struct location *a, const struct location *b)
{
    return a->container == b->container && a->offset_bytes == b->offset_bytes;
}

struct block_record {
    uint32_t size_bytes;
    uint32_t holders[STORE_REASONS]; /* files held for each reason that name the block */
    uint64_t unreferenced_since_ms;  /* store time of its row in the queue; 0: none */
    uint64_t cached_since_ms;        /* of its row in the cache table; 0: none */
    bool is_promised;                /* others may have evicted it since it is here */
    uint8_t locations_count;         /* 0: lost */
    struct location locations[BLOCK_LOCATIONS_MAX];
    uint32_t crcs[BLOCK_SPANS_MAX]; /* block_spans() of them */
};

#define BLOCK_RECORD_BYTES_MAX (37 + 16 * BLOCK_LOCATIONS_MAX + 4 * BLOCK_SPANS_MAX)

static inline uint32_t block_spans(uint32_t size_bytes)
{
    return (size_bytes + BLOCK_SPAN_BYTES - 1) / BLOCK_SPAN_BYTES;
}

/* Fills crcs with block_spans(data.size) values. */
void block_crcs(struct bytes data, uint32_t *ret_crcs);

/* The place in a segment, or NULL: the one that nobody but the store can change. */
const struct location *block_owned_location(const struct block_record *record);

bool block_is_held(const struct block_record *record);
/* Held, and here: what is offered to others. */
bool block_is_offered(const struct block_record *record);
/* Held, and not here. */
bool block_is_absent(const struct block_record *record);
/* Held for STORE_CACHE or a promise, and for nothing else. */
bool block_is_cache(const struct block_record *record);

/* Held for a promise and for nothing else. */
bool block_is_guest(const struct block_record *record);

size_t block_record_encode(const struct block_record *record,
                           uint8_t ret_data[BLOCK_RECORD_BYTES_MAX]);
/* -EIO: no record of ours. */
[[nodiscard]] int block_record_decode(struct bytes data, struct block_record *ret_record);

#endif
