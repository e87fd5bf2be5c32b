/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A direction of a stream gives the same frames, however it is cut into pieces, and each formats
 * back to the bytes that it came from, without what later versions have added. The first byte of
 * the input says whose direction it is (odd: the receiver's) and how long the pieces are.
 */

#include <errno.h>

#include "base/mem.h"
#include "fuzz.h"
#include "wire/transfer_frame.h"

static void check_list(const struct transfer_frame *frame)
{
    struct bytes list = frame->list;
    struct id id;
    uint32_t index;
    struct node_id node;
    size_t count = 0;
    if (frame->type == TRANSFER_REQUEST) {
        while (transfer_frame_next_id(&list, &id)) {
            count++;
        }
        CHECK(count > 0 && count <= TRANSFER_REQUEST_BLOCKS_MAX);
    } else if (frame->type == TRANSFER_MORE) {
        while (transfer_frame_next_index(&list, &index)) {
            count++;
        }
        CHECK(count > 0 && count <= TRANSFER_MORE_MAX);
    } else {
        while (transfer_frame_next_node(&list, &node)) {
            count++;
        }
        CHECK(count <= TRANSFER_ASKERS_MAX);
    }
    CHECK(list.size == 0);
}

static void check_frame(const struct transfer_frame *frame, bool is_from_receiver)
{
    CHECK((frame->type < TRANSFER_OFFER) == is_from_receiver);
    CHECK(frame->type != TRANSFER_BLOCK);
    check_list(frame);
    CHECK(frame->metadata.size <= FILE_METADATA_TEXT_BYTES_MAX);
    CHECK(frame->bitmap.size <= TRANSFER_BITMAP_BYTES_MAX);
    CHECK(frame->bitmap.size == 0 || frame->state == TRANSFER_PARTIAL);
}

/* What came of all of it, the error at the end included. */
static void read_all(struct bytes bytes, bool is_from_receiver, size_t piece_bytes,
                     struct buf *ret_seen)
{
    struct transfer_reader reader;
    struct transfer_piece piece;
    transfer_reader_init(&reader, is_from_receiver);
    uint32_t block_left = 0;
    int got = 0;
    for (size_t at = 0; got >= 0 && at < bytes.size;) {
        const size_t rest = bytes.size - at;
        const size_t size = rest < piece_bytes ? rest : piece_bytes;
        struct bytes part = BYTES(bytes.data + at, size);
        at += size;
        do {
            piece = (struct transfer_piece){0};
            got = transfer_reader_next(&reader, &part, &piece);
            if (got == TRANSFER_READ_FRAME) {
                check_frame(&piece.frame, is_from_receiver);
                transfer_frame_format(&piece.frame, 0, ret_seen);
            } else if (got == TRANSFER_READ_BLOCK_BEGIN) {
                CHECK(block_left == 0 && piece.size_bytes > 0);
                CHECK(piece.size_bytes <= FILE_METADATA_BLOCK_BYTES_MAX);
                block_left = piece.size_bytes;
                transfer_frame_format(&piece.frame, piece.size_bytes, ret_seen);
            } else if (got == TRANSFER_READ_BLOCK_BYTES) {
                CHECK(piece.bytes.size > 0 && piece.bytes.size <= block_left);
                block_left -= (uint32_t)piece.bytes.size;
                CHECK(piece.is_last == (block_left == 0));
                buf_add(ret_seen, piece.bytes);
            } else if (got == TRANSFER_READ_LARGE) {
                CHECK(piece.size_bytes > TRANSFER_LARGE_BYTES);
            }
        } while (got > 0);
    }
    CHECK(got == 0 || got == -EPROTO || got == -EFBIG || got == -EPROTONOSUPPORT);
    buf_add_format(ret_seen, " %d", got);
    transfer_reader_done(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 + TRANSFER_PREFIX_BYTES) {
        return 0;
    }
    const bool is_from_receiver = data[0] % 2 == 1;
    const struct bytes bytes = BYTES(data + 1, size - 1);
    CLEANUP_BUF struct buf whole = BUF_INIT;
    CLEANUP_BUF struct buf pieces = BUF_INIT;
    read_all(bytes, is_from_receiver, bytes.size, &whole);
    read_all(bytes, is_from_receiver, 1 + data[0] / 2u, &pieces);
    CHECK(bytes_equal(buf_bytes(&whole), buf_bytes(&pieces)));
    return 0;
}
