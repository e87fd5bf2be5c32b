/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_FIELDS_H
#define WIRE_FIELDS_H

/*
 * fields: reading and writing the fields of a message. Integers are little-endian; a byte string
 * is its length as u16 and its bytes.
 *
 * A reader remembers that something was wrong: read all fields, ask once at the end. After a fault
 * every read gives zeros and nothing is read beyond the end, so sizes and counts still have to be
 * checked against their limits, but not every call for failure.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/codec.h"

struct field_reader {
    struct bytes left;
    bool bad; /* the message ended too early, or field_fail() was called */
};

static inline struct field_reader field_reader_of(struct bytes message)
{
    return (struct field_reader){.left = message};
}

static inline void field_fail(struct field_reader *reader)
{
    reader->bad = true;
    reader->left = BYTES(NULL, 0);
}

/* The next `size` bytes, borrowed; empty after a fault. */
static inline struct bytes field_get_raw(struct field_reader *reader, size_t size)
{
    if (reader->left.size < size) {
        field_fail(reader);
        return BYTES(NULL, 0);
    }
    if (size == 0) {
        return BYTES(reader->left.data, 0); /* which may be NULL: nothing is added to that */
    }
    const struct bytes raw = BYTES(reader->left.data, size);
    reader->left = BYTES(reader->left.data + size, reader->left.size - size);
    return raw;
}

#define FIELD_DEFINE(name, type, get)                                                              \
    static inline type field_get_##name(struct field_reader *reader)                               \
    {                                                                                              \
        const struct bytes raw = field_get_raw(reader, sizeof(type));                              \
        return raw.size == sizeof(type) ? get(raw.data) : (type)0;                                 \
    }

static inline uint8_t field_first_byte(const uint8_t *at)
{
    return at[0];
}

FIELD_DEFINE(u8, uint8_t, field_first_byte)
FIELD_DEFINE(u16, uint16_t, codec_get_le16)
FIELD_DEFINE(u32, uint32_t, codec_get_le32)
FIELD_DEFINE(u64, uint64_t, codec_get_le64)

#undef FIELD_DEFINE

/* A byte string, borrowed, of at most `limit` bytes; a longer one is a fault. */
static inline struct bytes field_get_string(struct field_reader *reader, size_t limit)
{
    const uint16_t size = field_get_u16(reader);
    if (size > limit) {
        field_fail(reader);
        return BYTES(NULL, 0);
    }
    return field_get_raw(reader, size);
}

/* True if everything was there and nothing is left. */
static inline bool field_reader_ended(const struct field_reader *reader)
{
    return !reader->bad && reader->left.size == 0;
}

static inline void field_put_u8(struct buf *message, uint8_t value)
{
    buf_add_byte(message, value);
}

static inline void field_put_u16(struct buf *message, uint16_t value)
{
    codec_put_le16(buf_extend(message, sizeof value), value);
}

static inline void field_put_u32(struct buf *message, uint32_t value)
{
    codec_put_le32(buf_extend(message, sizeof value), value);
}

static inline void field_put_u64(struct buf *message, uint64_t value)
{
    codec_put_le64(buf_extend(message, sizeof value), value);
}

/* `string` has at most UINT16_MAX bytes. */
static inline void field_put_string(struct buf *message, struct bytes string)
{
    field_put_u16(message, (uint16_t)string.size);
    buf_add(message, string);
}

#endif
