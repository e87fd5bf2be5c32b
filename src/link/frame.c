/* SPDX-License-Identifier: Apache-2.0 */
#include "link/frame.h"

#include <errno.h>

#include "base/codec.h"
#include "base/mem.h"

void frame_put(uint8_t ret_header[FRAME_HEADER_BYTES], const struct frame *frame)
{
    codec_put_le32(ret_header, frame->length);
    codec_put_le32(ret_header + 4, frame->stream);
    ret_header[8] = frame->type;
    ret_header[9] = frame->flags;
    codec_put_le16(ret_header + 10, 0);
}

size_t frame_put_control(uint8_t *ret_bytes, enum frame_type type, uint32_t stream, uint64_t value,
                         size_t size)
{
    CHECK(size <= sizeof value);
    const struct frame frame = {.length = (uint32_t)size, .stream = stream, .type = (uint8_t)type};
    uint8_t integer[sizeof value];
    codec_put_le64(integer, value);
    frame_put(ret_bytes, &frame);
    memcpy(ret_bytes + FRAME_HEADER_BYTES, integer, size);
    return FRAME_HEADER_BYTES + size;
}

static bool is_known(uint8_t type)
{
    return type >= FRAME_OPEN && type <= FRAME_GOODBYE;
}

/* The least payload of each known type. */
static uint32_t payload_bytes_min(const struct frame *frame)
{
    static const uint8_t bytes_min[] = {
        [FRAME_OPEN] = 2, [FRAME_DATA] = 1, [FRAME_RESET] = 4,   [FRAME_CREDIT] = 4,
        [FRAME_PING] = 8, [FRAME_PONG] = 8, [FRAME_GOODBYE] = 0,
    };
    if (frame->type == FRAME_DATA && (frame->flags & FRAME_FLAG_END)) {
        return 0;
    }
    return is_known(frame->type) ? bytes_min[frame->type] : 0;
}

static bool belongs_to_stream(uint8_t type)
{
    return type >= FRAME_OPEN && type <= FRAME_CREDIT;
}

/* Moves bytes from the input to `head` until it has `want`; false: the input did not suffice. */
static bool gather(struct frame_reader *reader, struct bytes *input, size_t want)
{
    const size_t missing = want - reader->head_bytes;
    const size_t count = missing < input->size ? missing : input->size;
    if (count > 0) {
        memcpy(reader->head + reader->head_bytes, input->data, count);
        *input = BYTES(input->data + count, input->size - count);
        reader->head_bytes += count;
    }
    return count == missing;
}

static int begin_frame(struct frame_reader *reader)
{
    const struct frame frame = {
        .length = codec_get_le32(reader->head),
        .stream = codec_get_le32(reader->head + 4),
        .type = reader->head[8],
        .flags = reader->head[9],
    };
    if (frame.length > FRAME_PAYLOAD_BYTES_MAX || frame.length < payload_bytes_min(&frame) ||
        (belongs_to_stream(frame.type) && frame.stream == 0)) {
        return -EPROTO;
    }
    reader->frame = frame;
    reader->left_bytes = frame.length;
    reader->is_in_frame = true;
    return 0;
}

/* Takes up to the rest of the payload off the input. */
static struct bytes take_payload(struct frame_reader *reader, struct bytes *input)
{
    const size_t count = reader->left_bytes < input->size ? reader->left_bytes : input->size;
    const struct bytes taken = BYTES(input->data, count);
    if (count > 0) {
        *input = BYTES(input->data + count, input->size - count);
        reader->left_bytes -= (uint32_t)count;
    }
    return taken;
}

static void end_frame(struct frame_reader *reader)
{
    reader->is_in_frame = false;
    reader->head_bytes = 0;
}

static int read_data(struct frame_reader *reader, struct bytes *input,
                     struct frame_piece *ret_piece)
{
    if (reader->left_bytes > 0 && input->size == 0) {
        return 0;
    }
    ret_piece->frame = reader->frame;
    ret_piece->bytes = take_payload(reader, input);
    ret_piece->is_last = reader->left_bytes == 0;
    if (ret_piece->is_last) {
        end_frame(reader);
    }
    return 1;
}

static int read_control(struct frame_reader *reader, struct bytes *input,
                        struct frame_piece *ret_piece)
{
    const uint32_t length = reader->frame.length;
    const size_t kept = length < FRAME_CONTROL_BYTES_MAX ? length : FRAME_CONTROL_BYTES_MAX;
    const size_t before = reader->head_bytes;
    const bool is_gathered = gather(reader, input, FRAME_HEADER_BYTES + kept);
    reader->left_bytes -= (uint32_t)(reader->head_bytes - before);
    if (!is_gathered) {
        return 0;
    }
    (void)take_payload(reader, input);
    if (reader->left_bytes > 0) {
        return 0;
    }
    ret_piece->frame = reader->frame;
    ret_piece->bytes =
        BYTES(reader->head + FRAME_HEADER_BYTES, is_known(reader->frame.type) ? kept : 0);
    ret_piece->is_last = true;
    end_frame(reader);
    return 1;
}

int frame_read(struct frame_reader *reader, struct bytes *input, struct frame_piece *ret_piece)
{
    if (!reader->is_in_frame) {
        if (!gather(reader, input, FRAME_HEADER_BYTES)) {
            return 0;
        }
        const int err = begin_frame(reader);
        if (err) {
            return err;
        }
    }
    return reader->frame.type == FRAME_DATA ? read_data(reader, input, ret_piece)
                                            : read_control(reader, input, ret_piece);
}
