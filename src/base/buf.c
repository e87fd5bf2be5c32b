/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* The first allocation: most texts fit, and few bufs are smaller. */
#define BUF_CAPACITY_MIN 64

static void grow(struct buf *buf, size_t count)
{
    size_t needed;
    if (__builtin_add_overflow(buf->size, count, &needed) ||
        __builtin_add_overflow(needed, (size_t)1, &needed)) {
        mem_out_of_memory();
    }
    /* Doubling keeps the cost of n small additions at O(n). */
    size_t capacity = buf->capacity > BUF_CAPACITY_MIN ? buf->capacity : BUF_CAPACITY_MIN;
    while (capacity < needed) {
        if (__builtin_mul_overflow(capacity, (size_t)2, &capacity)) {
            capacity = needed;
        }
    }
    buf->data = mem_resize_array(buf->data, capacity, 1);
    buf->capacity = capacity;
}

/* Makes room for `count` more bytes and the NUL behind them. */
static inline void reserve(struct buf *buf, size_t count)
{
    if (buf->capacity - buf->size <= count) {
        grow(buf, count);
    }
}

void buf_done(struct buf *buf)
{
    if (!buf) {
        return;
    }
    free(buf->data);
    *buf = BUF_INIT;
}

void buf_add(struct buf *buf, struct bytes bytes)
{
    if (bytes.size) {
        memcpy(buf_extend(buf, bytes.size), bytes.data, bytes.size);
    }
}

void buf_add_string(struct buf *buf, const char *text)
{
    buf_add(buf, bytes_of_string(text));
}

void buf_add_byte(struct buf *buf, uint8_t byte)
{
    *buf_extend(buf, 1) = byte;
}

void buf_add_format(struct buf *buf, const char *format, ...)
{
    va_list arguments;
    va_list again;
    va_start(arguments, format);
    va_copy(again, arguments);

    /* The first try goes into what room there is; it tells the size for the second. */
    const size_t room = buf->capacity - buf->size;
    char *at = room ? (char *)buf->data + buf->size : NULL;
    const int size = vsnprintf(at, room, format, arguments);
    CHECK(size >= 0);
    if ((size_t)size < room) {
        buf->size += (size_t)size;
    } else if (size > 0) {
        reserve(buf, (size_t)size);
        vsnprintf((char *)buf->data + buf->size, (size_t)size + 1, format, again);
        buf->size += (size_t)size;
    }
    va_end(again);
    va_end(arguments);
}

uint8_t *buf_extend(struct buf *buf, size_t count)
{
    reserve(buf, count);
    uint8_t *begin = buf->data + buf->size;
    buf->size += count;
    buf->data[buf->size] = 0;
    return begin;
}

void buf_clear(struct buf *buf)
{
    buf->size = 0;
    if (buf->data) {
        buf->data[0] = 0;
    }
}

void buf_consume(struct buf *buf, size_t count)
{
    if (count >= buf->size) {
        buf_clear(buf);
        return;
    }
    if (count > 0) {
        buf->size -= count;
        memmove(buf->data, buf->data + count, buf->size + 1);
    }
}

const char *buf_string(const struct buf *buf)
{
    return buf->data ? (const char *)buf->data : "";
}
