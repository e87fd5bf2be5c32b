/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_TRANSFER_FRAME_H
#define WIRE_TRANSFER_FRAME_H

/*
 * transfer_frame: what a receiver of blocks and a source of them say to each other, on a stream of
 * the link that the receiver opened.
 *
 * Each direction begins with major u8, minor u8. Then come frames: type u8, zero u8, size u32 of
 * what follows, and
 *
 *   from the receiver
 *     ASK      number u32, flags u8, file id: what do you have of this file?
 *     STOP     file id: tell me no more of its growth
 *     REQUEST  number u32, flags u8, block ids: send me these
 *     CANCEL   number u32: not any more
 *   from the source
 *     OFFER    number u32, state u8, metadata text as u32 and its bytes, bitmap likewise, node ids
 *     MORE     file id, indices u32: these blocks of the file are here now too
 *     BLOCK    number u32, position u16, bytes
 *     REFUSED  number u32, position u16, why u8, node ids: who was given that very block lately
 *
 * Lists run up to the end of the frame. Fields as in wire/fields.h. Frames of types that are not
 * known are skipped; of a later minor version, fields may follow those of a frame that ends in no
 * list or bytes.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "hash/id.h"
#include "wire/file_metadata.h"
#include "wire/node_id.h"

#define TRANSFER_MAJOR 1u
#define TRANSFER_MINOR 0u
#define TRANSFER_PREFIX_BYTES 2u
#define TRANSFER_HEAD_BYTES 6u
/* From the beginning of a BLOCK to its bytes. */
#define TRANSFER_BLOCK_HEAD_BYTES (TRANSFER_HEAD_BYTES + 6u)

#define TRANSFER_REQUEST_BLOCKS_MAX 256u
#define TRANSFER_MORE_MAX 4096u
#define TRANSFER_ASKERS_MAX 32u
#define TRANSFER_OTHERS_MAX 8u
#define TRANSFER_BITMAP_BYTES_MAX ((FILE_METADATA_BLOCKS_MAX + 7u) / 8u)
/* Of a frame that is not known, and of all but OFFER and BLOCK. */
#define TRANSFER_SMALL_BYTES_MAX ((uint32_t)32 * 1024)

enum transfer_frame_type {
    TRANSFER_ASK = 1,
    TRANSFER_STOP = 2,
    TRANSFER_REQUEST = 3,
    TRANSFER_CANCEL = 4,
    TRANSFER_OFFER = 16,
    TRANSFER_MORE = 17,
    TRANSFER_BLOCK = 18,
    TRANSFER_REFUSED = 19,
};

/* Bits that are not known are left alone. */
enum transfer_ask_flags {
    TRANSFER_ASK_METADATA = 1, /* send the text too, if you have it */
    TRANSFER_ASK_GROWTH = 2,   /* tell me when you have more, until STOP */
    TRANSFER_ASK_FETCHING = 4, /* I am fetching it, so I will have parts of it */
};
enum transfer_request_flags {
    TRANSFER_REQUEST_INSIST = 1, /* send me to nobody: I asked those, or you have a part only */
};

enum transfer_state {
    TRANSFER_NONE = 0,
    TRANSFER_PARTIAL = 1,
    TRANSFER_COMPLETE = 2,
};

enum transfer_refusal {
    TRANSFER_REFUSED_BUSY = 1,
    TRANSFER_REFUSED_NOT_HERE = 2,
    TRANSFER_REFUSED_BAD = 3,   /* what is here is damaged */
    TRANSFER_REFUSED_LIMIT = 4, /* you have asked for too much at once */
};

/* One frame; only the fields of its type are used. Bytes and lists are borrowed. */
struct transfer_frame {
    enum transfer_frame_type type;
    uint32_t number;
    uint8_t flags;
    struct id file;
    enum transfer_state state;
    uint16_t position; /* in the request */
    enum transfer_refusal why;
    struct bytes metadata;
    struct bytes bitmap;
    struct bytes list; /* whole and in form; see transfer_frame_next_*() */
};

/* Appends what a direction begins with. */
void transfer_frame_prefix(struct buf *ret_bytes);

/* Appends a frame with its list, which is as transfer_frame_put_*() make one. Of a BLOCK: all that
 * stands before its bytes, `block_bytes` of them; else that is 0. */
void transfer_frame_format(const struct transfer_frame *frame, uint32_t block_bytes,
                           struct buf *ret_bytes);
void transfer_frame_put_id(struct buf *list, const struct id *id);
void transfer_frame_put_index(struct buf *list, uint32_t index);
void transfer_frame_put_node(struct buf *list, const struct node_id *node);

/* Take the next one off `*list`; false at the end. */
bool transfer_frame_next_id(struct bytes *list, struct id *ret_id);
bool transfer_frame_next_index(struct bytes *list, uint32_t *ret_index);
bool transfer_frame_next_node(struct bytes *list, struct node_id *ret_node);

/*
 * A direction as it comes, in pieces of any size. Frames are put together here, but for blocks,
 * whose bytes are handed out as they come.
 */
struct transfer_reader {
    bool is_from_receiver; /* which frames may come */
    bool has_prefix;
    uint8_t minor; /* the sender's */
    uint8_t head[TRANSFER_BLOCK_HEAD_BYTES];
    size_t head_size;
    uint32_t size;     /* of the payload that follows the head; of a block: of its bytes */
    uint32_t left;     /* of them that have not come yet */
    bool is_begun;     /* the head is whole */
    bool is_announced; /* of a large frame */
    struct buf gathered;
};

enum transfer_read {
    TRANSFER_READ_NOTHING,     /* `*bytes` is used up */
    TRANSFER_READ_LARGE,       /* a frame of so many bytes begins that will be gathered here */
    TRANSFER_READ_FRAME,       /* a frame is whole; it is borrowed until the next call */
    TRANSFER_READ_BLOCK_BEGIN, /* number and position of a block, and its size; its bytes follow */
    TRANSFER_READ_BLOCK_BYTES, /* a piece of them */
};

struct transfer_piece {
    struct transfer_frame frame;
    uint32_t size_bytes;
    struct bytes bytes;
    bool is_last; /* of the pieces of a block */
};

/* Frames longer than this are announced by TRANSFER_READ_LARGE before memory is taken. */
#define TRANSFER_LARGE_BYTES ((uint32_t)64 * 1024)

void transfer_reader_init(struct transfer_reader *reader, bool is_from_receiver);
void transfer_reader_done(struct transfer_reader *reader);

/* Takes the next piece off `*bytes`: one of enum transfer_read. -EPROTO: malformed; -EFBIG: beyond
 * a limit; -EPROTONOSUPPORT: another major version. After a failure the reader is of no use. */
[[nodiscard]] int transfer_reader_next(struct transfer_reader *reader, struct bytes *bytes,
                                       struct transfer_piece *ret_piece);

#endif
