/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ISA-L takes the widest instructions that the processor has (1 byte in 0.02 ns from the cache);
 * from memory, what it costs is the wait for it. One core fetches faster the more places it fetches
 * from: the hardware looks ahead within a page of 4 KiB and stops at its end. So some spans are
 * read in turn, a piece of each, with the next piece asked for while this one is summed up.
 *
 * Measured on 1 GiB that was in no cache, with AVX-512 (GB/s): 8.7 one after the other, 11.9 with
 * four streams, while a loop of plain loads gets 9.4. With eight, 14 without and 11 with a copy on
 * the way, but a usual block has four spans. Pieces of 512 to 2048 bytes do as well; shorter ones
 * cost calls, longer ones wait again.
 */

#include "hash/crc32c.h"

#include <isa-l/crc.h>
#include <limits.h>
#include <string.h>

#include "base/mem.h"

#define STREAMS ((size_t)4)
#define PIECE_BYTES ((size_t)1024)
#define CACHE_LINE_BYTES ((size_t)64)

/* ISA-L leaves both inversions of RFC 3720 to its caller, and does not write to the buffer although
 * it does not say const. */
static uint32_t crc_add(uint32_t crc, const uint8_t *data, size_t size)
{
    return crc32_iscsi((unsigned char *)(uintptr_t)data, (int)size, crc);
}

uint32_t crc32c(struct bytes data)
{
    CHECK(data.size <= INT_MAX);
    return ~crc_add(UINT32_MAX, data.data, data.size);
}

/* `count` whole spans side by side. A copy is summed up, not what it was made from. */
static void add_side_by_side(const uint8_t *data, size_t count, size_t span_bytes, uint8_t *copy,
                             uint32_t *ret_crcs)
{
    for (size_t i = 0; i < count; i++) {
        ret_crcs[i] = UINT32_MAX;
    }
    for (size_t at = 0; at < span_bytes; at += PIECE_BYTES) {
        const size_t left = span_bytes - at;
        const size_t size = left < PIECE_BYTES ? left : PIECE_BYTES;
        const size_t ahead = left - size < PIECE_BYTES ? left - size : PIECE_BYTES;
        for (size_t i = 0; i < count; i++) {
            const uint8_t *piece = data + i * span_bytes + at;
            for (size_t line = 0; line < ahead; line += CACHE_LINE_BYTES) {
                __builtin_prefetch(piece + size + line);
            }
            if (copy) {
                piece = memcpy(copy + i * span_bytes + at, piece, size);
            }
            ret_crcs[i] = crc_add(ret_crcs[i], piece, size);
        }
    }
    for (size_t i = 0; i < count; i++) {
        ret_crcs[i] = ~ret_crcs[i];
    }
}

static void add_spans(struct bytes data, size_t span_bytes, uint8_t *copy, uint32_t *ret_crcs)
{
    CHECK(span_bytes > 0 && span_bytes <= INT_MAX);
    size_t at = 0;
    for (size_t span = 0; at < data.size;) {
        const size_t left = data.size - at;
        size_t count = left / span_bytes;
        count = count < STREAMS ? count : STREAMS;
        /* The last span, if it is a short one, is one by itself. */
        const size_t size = count > 0 ? span_bytes : left;
        count = count > 0 ? count : 1;
        add_side_by_side(data.data + at, count, size, copy ? copy + at : NULL, ret_crcs + span);
        at += count * size;
        span += count;
    }
}

void crc32c_spans(struct bytes data, size_t span_bytes, uint32_t *ret_crcs)
{
    add_spans(data, span_bytes, NULL, ret_crcs);
}

void crc32c_copy(struct bytes data, size_t span_bytes, uint8_t *ret_copy, uint32_t *ret_crcs)
{
    add_spans(data, span_bytes, ret_copy, ret_crcs);
}
