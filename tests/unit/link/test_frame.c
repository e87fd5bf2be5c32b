/* SPDX-License-Identifier: Apache-2.0 */
#include "link/frame.h"

#include "helpers.h"

static void add_frame(struct buf *buf, uint8_t type, uint32_t stream, uint8_t flags, size_t size)
{
    const struct frame frame = {
        .length = (uint32_t)size, .stream = stream, .type = type, .flags = flags};
    frame_put(buf_extend(buf, FRAME_HEADER_BYTES), &frame);
    for (size_t i = 0; i < size; i++) {
        buf_add_byte(buf, test_byte(i));
    }
}

static int read_first(uint8_t type, uint32_t stream, uint8_t flags, uint32_t length)
{
    uint8_t header[FRAME_HEADER_BYTES];
    const struct frame frame = {.length = length, .stream = stream, .type = type, .flags = flags};
    struct frame_reader reader = {0};
    struct frame_piece piece;
    struct bytes input = BYTES(header, sizeof header);
    frame_put(header, &frame);
    return frame_read(&reader, &input, &piece);
}

/* All frames of `bytes`, fed in steps of `step`, as one text. */
static void describe(struct bytes bytes, size_t step, struct buf *ret_text)
{
    struct frame_reader reader = {0};
    struct frame_piece piece;
    uint64_t data_bytes = 0;
    for (size_t at = 0; at < bytes.size; at += step) {
        const size_t count = bytes.size - at < step ? bytes.size - at : step;
        struct bytes input = BYTES(bytes.data + at, count);
        while (frame_read(&reader, &input, &piece) == 1) {
            for (size_t i = 0; i < piece.bytes.size; i++) {
                assert_int_equal(piece.bytes.data[i], test_byte(data_bytes + i));
            }
            data_bytes += piece.bytes.size;
            if (piece.is_last) {
                buf_add_format(ret_text, "%u/%u/%u/%u:%u ", piece.frame.type, piece.frame.stream,
                               piece.frame.flags, piece.frame.length, (unsigned)data_bytes);
                data_bytes = 0;
            }
        }
        assert_int_equal(input.size, 0);
    }
}

static void frames_are_the_same_however_they_are_cut(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    CLEANUP_BUF struct buf whole = BUF_INIT;
    add_frame(&bytes, FRAME_OPEN, 1, 0, 2);
    add_frame(&bytes, FRAME_DATA, 1, 0, 1000);
    add_frame(&bytes, 99, 5, 7, 300);
    add_frame(&bytes, FRAME_DATA, 3, FRAME_FLAG_END, 0);
    add_frame(&bytes, FRAME_CREDIT, 1, 0, 40);
    add_frame(&bytes, FRAME_GOODBYE, 0, 0, 0);
    add_frame(&bytes, FRAME_PING, 0, 0, 8);
    describe(buf_bytes(&bytes), bytes.size, &whole);
    assert_string_equal(buf_string(&whole), "1/1/0/2:2 2/1/0/1000:1000 99/5/7/300:0 2/3/1/0:0 "
                                            "4/1/0/40:16 7/0/0/0:0 5/0/0/8:8 ");
    for (size_t step = 1; step < 50; step++) {
        CLEANUP_BUF struct buf cut = BUF_INIT;
        describe(buf_bytes(&bytes), step, &cut);
        assert_string_equal(buf_string(&cut), buf_string(&whole));
    }
}

static void what_breaks_the_format_is_refused(void **state)
{
    (void)state;
    assert_int_equal(read_first(FRAME_DATA, 1, 0, FRAME_PAYLOAD_BYTES_MAX + 1), -EPROTO);
    assert_int_equal(read_first(200, 1, 0, FRAME_PAYLOAD_BYTES_MAX + 1), -EPROTO);
    assert_int_equal(read_first(FRAME_DATA, 1, 0, FRAME_PAYLOAD_BYTES_MAX), 0);
    assert_int_equal(read_first(FRAME_DATA, 1, 0, 0), -EPROTO);
    assert_int_equal(read_first(FRAME_DATA, 1, FRAME_FLAG_END, 0), 1);
    assert_int_equal(read_first(FRAME_DATA, 0, 0, 5), -EPROTO);
    assert_int_equal(read_first(FRAME_OPEN, 1, 0, 1), -EPROTO);
    assert_int_equal(read_first(FRAME_OPEN, 0, 0, 2), -EPROTO);
    assert_int_equal(read_first(FRAME_RESET, 1, 0, 3), -EPROTO);
    assert_int_equal(read_first(FRAME_CREDIT, 1, 0, 0), -EPROTO);
    assert_int_equal(read_first(FRAME_PING, 0, 0, 7), -EPROTO);
    assert_int_equal(read_first(FRAME_GOODBYE, 0, 0, 0), 1);
    assert_int_equal(read_first(0, 0, 0, 0), 1); /* a type to come */
}

static void control_frames_hold_one_integer(void **state)
{
    (void)state;
    uint8_t bytes[FRAME_HEADER_BYTES + 8];
    struct frame_reader reader = {0};
    struct frame_piece piece;
    assert_int_equal(frame_put_control(bytes, FRAME_PING, 0, 0x1122334455667788, 8), 20);
    struct bytes input = BYTES(bytes, 20);
    assert_int_equal(frame_read(&reader, &input, &piece), 1);
    assert_int_equal(codec_get_le64(piece.bytes.data), 0x1122334455667788);
    assert_int_equal(frame_put_control(bytes, FRAME_OPEN, 7, 0x0102, 2), 14);
    input = BYTES(bytes, 14);
    assert_int_equal(frame_read(&reader, &input, &piece), 1);
    assert_int_equal(piece.frame.stream, 7);
    assert_int_equal(piece.bytes.data[0], 2);
    assert_int_equal(piece.bytes.data[1], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_are_the_same_however_they_are_cut),
        cmocka_unit_test(what_breaks_the_format_is_refused),
        cmocka_unit_test(control_frames_hold_one_integer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
