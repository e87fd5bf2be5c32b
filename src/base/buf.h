/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

/*
 * buf: a run of bytes that grows. Embed it, or hold it in a local with CLEANUP_BUF.
 */

#include <stdarg.h>
#include <stdint.h>

#include "base/bytes.h"

struct buf {
    uint8_t *data; /* NULL until something is added; after that followed by a NUL byte */
    size_t size;
    size_t capacity;
};

#define BUF_INIT ((struct buf){0})

void buf_done(struct buf *buf);
#define CLEANUP_BUF __attribute__((cleanup(buf_done)))

/* Add to the end. What is added is not part of this same buf, which may move. */
void buf_add(struct buf *buf, struct bytes bytes);
void buf_add_string(struct buf *buf, const char *text);
void buf_add_byte(struct buf *buf, uint8_t byte);
void buf_add_format(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Grows by `count` bytes, not initialised, and tells where they begin; never NULL. */
uint8_t *buf_extend(struct buf *buf, size_t count);

/* Forgets the content and keeps the memory. */
void buf_clear(struct buf *buf);

/* Drops the first `count` bytes (at most all of them). */
void buf_consume(struct buf *buf, size_t count);

/* The content; borrowed until the next change. */
static inline struct bytes buf_bytes(const struct buf *buf)
{
    return BYTES(buf->data, buf->size);
}

/* The content as a C string; borrowed until the next change. */
const char *buf_string(const struct buf *buf);

#endif
