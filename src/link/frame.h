/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LINK_FRAME_H
#define LINK_FRAME_H

/*
 * frame: what a connection consists of after its preamble (docs/LINK-FORMAT.md). Pure functions.
 *
 *   length u32 of the payload, stream u32, type u8, flags u8, zero u16; the payload
 *
 * Integers are little-endian. The reader takes bytes as they come from the socket, however they
 * are cut, and hands data on without gathering it: a frame is never held in memory.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

#define FRAME_HEADER_BYTES 12
/* A longer one ends the connection. So much can pass before another stream gets its turn. */
#define FRAME_PAYLOAD_BYTES_MAX ((uint32_t)256 * 1024)
/* What is kept of the payload of frames that are not DATA; more is of a newer version, skipped. */
#define FRAME_CONTROL_BYTES_MAX 16

enum frame_type {
    FRAME_OPEN = 1,    /* service u8, kind u8 (enum frame_kind) */
    FRAME_DATA = 2,    /* bytes of the stream */
    FRAME_RESET = 3,   /* code u32 */
    FRAME_CREDIT = 4,  /* bytes u32 that may be sent in addition */
    FRAME_PING = 5,    /* token u64 */
    FRAME_PONG = 6,    /* the same token */
    FRAME_GOODBYE = 7, /* nothing new will be opened; end when all has been said */
};

enum frame_kind {
    FRAME_KIND_STREAM = 0,
    FRAME_KIND_MESSAGES = 1, /* each: length u32, bytes */
};

#define FRAME_FLAG_END 1 /* of DATA: the last of this direction; only it may be empty */

struct frame {
    uint32_t length;
    uint32_t stream;
    uint8_t type;
    uint8_t flags;
};

/* Writes the header. */
void frame_put(uint8_t ret_header[FRAME_HEADER_BYTES], const struct frame *frame);

/* A header with a payload of one integer of `size` (0, 2, 4 or 8) bytes; returns the bytes
 * written, at most FRAME_HEADER_BYTES + 8. */
size_t frame_put_control(uint8_t *ret_bytes, enum frame_type type, uint32_t stream, uint64_t value,
                         size_t size);

/* Zero it to begin. */
struct frame_reader {
    uint8_t head[FRAME_HEADER_BYTES + FRAME_CONTROL_BYTES_MAX];
    size_t head_bytes;
    struct frame frame;
    uint32_t left_bytes; /* of the payload, when the header is complete */
    bool is_in_frame;
};

struct frame_piece {
    struct frame frame;
    /* DATA: the next bytes of the payload. Another known type: the whole payload, as far as it is
     * kept. Unknown: nothing. Borrowed from the input or the reader until the next call. */
    struct bytes bytes;
    bool is_last; /* the payload is complete; a DATA frame may come in several pieces */
};

/* Takes bytes off the front of *input up to the next piece. 1: there is one; 0: the input is used
 * up; -EPROTO: malformed, the connection can't go on. */
[[nodiscard]] int frame_read(struct frame_reader *reader, struct bytes *input,
                             struct frame_piece *ret_piece);

#endif
