/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_CODEC_H
#define BASE_CODEC_H

/*
 * codec: fixed-width integers as bytes. Little-endian in values, big-endian in keys, where the
 * order of the bytes must be the order of the numbers. No alignment is asked for.
 */

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define CODEC_DEFINE(suffix, type, from, to)                                                       \
    static inline type codec_get_##suffix(const uint8_t *at)                                       \
    {                                                                                              \
        type raw;                                                                                  \
        memcpy(&raw, at, sizeof raw);                                                              \
        return from(raw);                                                                          \
    }                                                                                              \
    static inline void codec_put_##suffix(uint8_t *at, type value)                                 \
    {                                                                                              \
        const type raw = to(value);                                                                \
        memcpy(at, &raw, sizeof raw);                                                              \
    }

CODEC_DEFINE(le16, uint16_t, le16toh, htole16)
CODEC_DEFINE(le32, uint32_t, le32toh, htole32)
CODEC_DEFINE(le64, uint64_t, le64toh, htole64)
CODEC_DEFINE(be32, uint32_t, be32toh, htobe32)
CODEC_DEFINE(be64, uint64_t, be64toh, htobe64)

#undef CODEC_DEFINE

#endif
