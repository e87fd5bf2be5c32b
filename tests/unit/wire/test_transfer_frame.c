/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "wire/transfer_frame.h"

#define RECEIVER true
#define SOURCE false

/* What stands in a direction, and how far it was read. */
struct tape {
    struct buf bytes;
    struct transfer_reader reader;
    struct bytes left;
};

static void tape_init(struct tape *tape, bool is_from_receiver)
{
    *tape = (struct tape){0};
    transfer_reader_init(&tape->reader, is_from_receiver);
    transfer_frame_prefix(&tape->bytes);
}

static void tape_done(struct tape *tape)
{
    transfer_reader_done(&tape->reader);
    buf_done(&tape->bytes);
}

static int tape_next(struct tape *tape, struct transfer_piece *ret_piece)
{
    if (!tape->left.data) {
        tape->left = buf_bytes(&tape->bytes);
    }
    *ret_piece = (struct transfer_piece){0};
    return transfer_reader_next(&tape->reader, &tape->left, ret_piece);
}

static void put_raw(struct tape *tape, uint8_t type, struct bytes payload)
{
    field_put_u8(&tape->bytes, type);
    field_put_u8(&tape->bytes, 0);
    field_put_u32(&tape->bytes, (uint32_t)payload.size);
    buf_add(&tape->bytes, payload);
}

static struct id id_of(uint8_t first)
{
    return (struct id){{first, 1, 2, 3, [31] = 0x77}};
}

static struct node_id node_of(uint8_t first)
{
    return (struct node_id){{first, [19] = 0x55}};
}

/* One frame of `type` with everything in it, `count` elements in its list. */
static struct transfer_frame make(enum transfer_frame_type type, size_t count, struct buf *list)
{
    for (size_t i = 0; i < count; i++) {
        const struct id id = id_of((uint8_t)i);
        const struct node_id node = node_of((uint8_t)i);
        if (type == TRANSFER_REQUEST) {
            transfer_frame_put_id(list, &id);
        } else if (type == TRANSFER_MORE) {
            transfer_frame_put_index(list, (uint32_t)(i * 3));
        } else {
            transfer_frame_put_node(list, &node);
        }
    }
    return (struct transfer_frame){
        .type = type,
        .number = 0x01020304,
        .flags = TRANSFER_ASK_METADATA | TRANSFER_ASK_FETCHING,
        .file = id_of(0xf1),
        .state = TRANSFER_PARTIAL,
        .position = 255,
        .why = TRANSFER_REFUSED_BAD,
        .metadata = bytes_of_string("{text}"),
        .bitmap = bytes_of_string("bits"),
        .list = buf_bytes(list),
    };
}

struct shape {
    enum transfer_frame_type type;
    bool from;
    size_t least; /* elements of its list */
    size_t most;
};

static const struct shape shapes[] = {
    {TRANSFER_ASK, RECEIVER, 0, 0},
    {TRANSFER_STOP, RECEIVER, 0, 0},
    {TRANSFER_REQUEST, RECEIVER, 1, TRANSFER_REQUEST_BLOCKS_MAX},
    {TRANSFER_CANCEL, RECEIVER, 0, 0},
    {TRANSFER_OFFER, SOURCE, 0, TRANSFER_ASKERS_MAX},
    {TRANSFER_MORE, SOURCE, 1, TRANSFER_MORE_MAX},
    {TRANSFER_REFUSED, SOURCE, 0, TRANSFER_OTHERS_MAX},
};

static void assert_same(const struct transfer_frame *a, const struct transfer_frame *b)
{
    CLEANUP_BUF struct buf bytes_a = BUF_INIT;
    CLEANUP_BUF struct buf bytes_b = BUF_INIT;
    transfer_frame_format(a, 0, &bytes_a);
    transfer_frame_format(b, 0, &bytes_b);
    assert_true(bytes_equal(buf_bytes(&bytes_a), buf_bytes(&bytes_b)));
}

static void every_frame_is_read_as_it_was_written(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
        const struct shape *shape = &shapes[i];
        struct tape tape;
        struct transfer_piece piece;
        tape_init(&tape, shape->from);
        CLEANUP_BUF struct buf few = BUF_INIT;
        CLEANUP_BUF struct buf many = BUF_INIT;
        const struct transfer_frame frame_few = make(shape->type, shape->least, &few);
        const struct transfer_frame frame_many = make(shape->type, shape->most, &many);
        transfer_frame_format(&frame_few, 0, &tape.bytes);
        transfer_frame_format(&frame_many, 0, &tape.bytes);
        assert_int_equal(tape_next(&tape, &piece), TRANSFER_READ_FRAME);
        assert_same(&piece.frame, &frame_few);
        assert_int_equal(tape_next(&tape, &piece), TRANSFER_READ_FRAME);
        assert_same(&piece.frame, &frame_many);
        assert_int_equal(tape_next(&tape, &piece), TRANSFER_READ_NOTHING);
        tape_done(&tape);
    }
}

static void fields_are_what_was_said(void **state)
{
    (void)state;
    struct tape tape;
    struct transfer_piece piece;
    tape_init(&tape, SOURCE);
    CLEANUP_BUF struct buf list = BUF_INIT;
    const struct transfer_frame frame = make(TRANSFER_OFFER, 2, &list);
    transfer_frame_format(&frame, 0, &tape.bytes);
    assert_int_equal(tape_next(&tape, &piece), TRANSFER_READ_FRAME);
    assert_int_equal(piece.frame.type, TRANSFER_OFFER);
    assert_int_equal(piece.frame.number, 0x01020304);
    assert_int_equal(piece.frame.state, TRANSFER_PARTIAL);
    assert_true(bytes_equal(piece.frame.metadata, bytes_of_string("{text}")));
    assert_true(bytes_equal(piece.frame.bitmap, bytes_of_string("bits")));
    struct node_id node;
    const struct node_id first = node_of(0);
    const struct node_id second = node_of(1);
    assert_true(transfer_frame_next_node(&piece.frame.list, &node));
    assert_true(node_id_equal(&node, &first));
    assert_true(transfer_frame_next_node(&piece.frame.list, &node));
    assert_true(node_id_equal(&node, &second));
    assert_false(transfer_frame_next_node(&piece.frame.list, &node));
    tape_done(&tape);
}

/* Reads all of `bytes` in pieces; what blocks held goes to `ret_blocks`. Returns how many frames
 * came. */
static size_t read_in_pieces(struct bytes bytes, bool from, size_t piece_bytes,
                             struct buf *ret_blocks)
{
    struct transfer_reader reader;
    struct transfer_piece piece;
    size_t frames = 0;
    transfer_reader_init(&reader, from);
    for (size_t at = 0; at < bytes.size; at += piece_bytes) {
        const size_t rest = bytes.size - at;
        struct bytes part = BYTES(bytes.data + at, rest < piece_bytes ? rest : piece_bytes);
        int got;
        while ((got = transfer_reader_next(&reader, &part, &piece)) > 0) {
            frames += got == TRANSFER_READ_FRAME || got == TRANSFER_READ_BLOCK_BEGIN;
            if (got == TRANSFER_READ_BLOCK_BYTES) {
                buf_add(ret_blocks, piece.bytes);
            }
        }
        assert_int_equal(got, TRANSFER_READ_NOTHING);
    }
    transfer_reader_done(&reader);
    return frames;
}

static void pieces_of_any_size_give_the_same(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    CLEANUP_BUF struct buf list = BUF_INIT;
    transfer_frame_prefix(&bytes);
    const struct transfer_frame more = make(TRANSFER_MORE, 5, &list);
    const struct transfer_frame block = {.type = TRANSFER_BLOCK, .number = 9, .position = 3};
    transfer_frame_format(&more, 0, &bytes);
    transfer_frame_format(&block, 11, &bytes);
    buf_add_string(&bytes, "some bytes ");
    transfer_frame_format(&block, 1, &bytes);
    buf_add_string(&bytes, "!");
    transfer_frame_format(&more, 0, &bytes);
    for (size_t size = 1; size <= bytes.size; size++) {
        CLEANUP_BUF struct buf blocks = BUF_INIT;
        assert_int_equal(read_in_pieces(buf_bytes(&bytes), SOURCE, size, &blocks), 4);
        assert_string_equal(buf_string(&blocks), "some bytes !");
    }
}

static void a_block_is_told_before_its_bytes(void **state)
{
    (void)state;
    struct tape tape;
    struct transfer_piece piece;
    tape_init(&tape, SOURCE);
    const struct transfer_frame block = {.type = TRANSFER_BLOCK, .number = 9, .position = 3};
    const size_t before = tape.bytes.size;
    transfer_frame_format(&block, 4, &tape.bytes);
    assert_int_equal(tape.bytes.size - before, TRANSFER_BLOCK_HEAD_BYTES);
    buf_add_string(&tape.bytes, "body");
    assert_int_equal(tape_next(&tape, &piece), TRANSFER_READ_BLOCK_BEGIN);
    assert_int_equal(piece.frame.number, 9);
    assert_int_equal(piece.frame.position, 3);
    assert_int_equal(piece.size_bytes, 4);
    assert_int_equal(tape_next(&tape, &piece), TRANSFER_READ_BLOCK_BYTES);
    assert_true(bytes_equal(piece.bytes, bytes_of_string("body")));
    assert_true(piece.is_last);
    tape_done(&tape);
}

static void a_large_frame_is_announced(void **state)
{
    (void)state;
    struct tape tape;
    struct transfer_piece piece;
    tape_init(&tape, SOURCE);
    CLEANUP_FREE uint8_t *text = mem_alloc(FILE_METADATA_TEXT_BYTES_MAX);
    CLEANUP_FREE uint8_t *bits = mem_alloc(TRANSFER_BITMAP_BYTES_MAX);
    CLEANUP_BUF struct buf list = BUF_INIT;
    struct transfer_frame frame = make(TRANSFER_OFFER, TRANSFER_ASKERS_MAX, &list);
    frame.metadata = BYTES(text, FILE_METADATA_TEXT_BYTES_MAX);
    frame.bitmap = BYTES(bits, TRANSFER_BITMAP_BYTES_MAX);
    transfer_frame_format(&frame, 0, &tape.bytes);
    assert_int_equal(tape_next(&tape, &piece), TRANSFER_READ_LARGE);
    assert_int_equal(piece.size_bytes,
                     tape.bytes.size - TRANSFER_PREFIX_BYTES - TRANSFER_HEAD_BYTES);
    assert_int_equal(tape_next(&tape, &piece), TRANSFER_READ_FRAME);
    assert_int_equal(piece.frame.metadata.size, FILE_METADATA_TEXT_BYTES_MAX);
    tape_done(&tape);
}

/* What comes of one frame of `type` with this payload, after a prefix with `minor`. */
static int outcome(bool from, uint8_t minor, uint8_t type, struct bytes payload)
{
    struct tape tape;
    struct transfer_piece piece;
    tape_init(&tape, from);
    tape.bytes.data[1] = minor;
    put_raw(&tape, type, payload);
    const int got = tape_next(&tape, &piece);
    tape_done(&tape);
    return got;
}

static void a_byte_too_few_or_too_many_is_malformed(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
        const struct shape *shape = &shapes[i];
        CLEANUP_BUF struct buf list = BUF_INIT;
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        const struct transfer_frame frame = make(shape->type, shape->least, &list);
        transfer_frame_format(&frame, 0, &bytes);
        const struct bytes payload =
            BYTES(bytes.data + TRANSFER_HEAD_BYTES, bytes.size - TRANSFER_HEAD_BYTES);
        const uint8_t type = (uint8_t)shape->type;
        assert_int_equal(outcome(shape->from, 0, type, payload), TRANSFER_READ_FRAME);
        assert_int_equal(outcome(shape->from, 0, type, BYTES(payload.data, payload.size - 1)),
                         -EPROTO);
        buf_add_byte(&bytes, 0);
        const struct bytes longer =
            BYTES(bytes.data + TRANSFER_HEAD_BYTES, bytes.size - TRANSFER_HEAD_BYTES);
        const int too_long = outcome(shape->from, 0, type, longer);
        assert_true(too_long == -EPROTO || too_long == -EFBIG);
    }
}

static void a_list_beyond_its_limit_is_malformed(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
        const struct shape *shape = &shapes[i];
        if (shape->most == 0) {
            continue;
        }
        CLEANUP_BUF struct buf list = BUF_INIT;
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        const struct transfer_frame frame = make(shape->type, shape->most, &list);
        transfer_frame_format(&frame, 0, &bytes);
        const size_t element = list.size / shape->most;
        memset(buf_extend(&bytes, element), 0, element);
        const int got =
            outcome(shape->from, 0, (uint8_t)shape->type,
                    BYTES(bytes.data + TRANSFER_HEAD_BYTES, bytes.size - TRANSFER_HEAD_BYTES));
        assert_true(got == -EPROTO || got == -EFBIG);
    }
}

static void a_later_minor_version_may_add_fields(void **state)
{
    (void)state;
    const uint8_t payload[] = {1, 0, 0, 0, 99, 99, 99};
    assert_int_equal(outcome(RECEIVER, 0, TRANSFER_CANCEL, BYTES(payload, 4)), TRANSFER_READ_FRAME);
    assert_int_equal(outcome(RECEIVER, 0, TRANSFER_CANCEL, BYTES(payload, sizeof payload)), -EFBIG);
    assert_int_equal(outcome(RECEIVER, 1, TRANSFER_CANCEL, BYTES(payload, sizeof payload)),
                     TRANSFER_READ_FRAME);
}

static void unknown_types_are_skipped(void **state)
{
    (void)state;
    struct tape tape;
    struct transfer_piece piece;
    tape_init(&tape, RECEIVER);
    put_raw(&tape, 200, bytes_of_string("what is this"));
    put_raw(&tape, 5, BYTES(NULL, 0));
    const struct transfer_frame cancel = {.type = TRANSFER_CANCEL, .number = 7};
    transfer_frame_format(&cancel, 0, &tape.bytes);
    assert_int_equal(tape_next(&tape, &piece), TRANSFER_READ_FRAME);
    assert_int_equal(piece.frame.number, 7);
    tape_done(&tape);
}

/* The answer to a head alone. */
static int head_outcome(bool from, uint8_t type, uint32_t size)
{
    struct tape tape;
    struct transfer_piece piece;
    tape_init(&tape, from);
    field_put_u8(&tape.bytes, type);
    field_put_u8(&tape.bytes, 0);
    field_put_u32(&tape.bytes, size);
    const int got = tape_next(&tape, &piece);
    tape_done(&tape);
    return got;
}

static void sizes_are_refused_before_anything_is_kept(void **state)
{
    (void)state;
    assert_int_equal(head_outcome(SOURCE, TRANSFER_BLOCK, 6 + FILE_METADATA_BLOCK_BYTES_MAX), 0);
    assert_int_equal(head_outcome(SOURCE, TRANSFER_BLOCK, 7 + FILE_METADATA_BLOCK_BYTES_MAX),
                     -EFBIG);
    assert_int_equal(head_outcome(SOURCE, TRANSFER_BLOCK, UINT32_MAX), -EFBIG);
    assert_int_equal(head_outcome(SOURCE, TRANSFER_BLOCK, 6), -EPROTO); /* no byte */
    assert_int_equal(head_outcome(SOURCE, TRANSFER_OFFER, UINT32_MAX), -EFBIG);
    assert_int_equal(head_outcome(RECEIVER, TRANSFER_REQUEST, 5 + 257 * 32), -EFBIG);
    assert_int_equal(head_outcome(RECEIVER, 99, TRANSFER_SMALL_BYTES_MAX), 0);
    assert_int_equal(head_outcome(RECEIVER, 99, TRANSFER_SMALL_BYTES_MAX + 1), -EFBIG);
}

static void frames_of_the_other_side_are_malformed(void **state)
{
    (void)state;
    assert_int_equal(head_outcome(SOURCE, TRANSFER_ASK, 37), -EPROTO);
    assert_int_equal(head_outcome(RECEIVER, TRANSFER_OFFER, 37), -EPROTO);
    assert_int_equal(head_outcome(RECEIVER, TRANSFER_BLOCK, 37), -EPROTO);
}

static void another_major_version_is_not_read(void **state)
{
    (void)state;
    struct tape tape;
    struct transfer_piece piece;
    tape_init(&tape, RECEIVER);
    tape.bytes.data[0] = TRANSFER_MAJOR + 1;
    assert_int_equal(tape_next(&tape, &piece), -EPROTONOSUPPORT);
    tape_done(&tape);
}

/* The parser's word on a frame that was made by hand. */
static int frame_outcome(const struct transfer_frame *frame, bool from)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    transfer_frame_format(frame, 0, &bytes);
    return outcome(from, 0, (uint8_t)frame->type,
                   BYTES(bytes.data + TRANSFER_HEAD_BYTES, bytes.size - TRANSFER_HEAD_BYTES));
}

static void offers_that_make_no_sense_are_malformed(void **state)
{
    (void)state;
    const struct bytes text = bytes_of_string("x");
    const struct transfer_frame none = {.type = TRANSFER_OFFER};
    struct transfer_frame offer = none;
    assert_int_equal(frame_outcome(&offer, SOURCE), TRANSFER_READ_FRAME);
    offer.metadata = text; /* of what is not here */
    assert_int_equal(frame_outcome(&offer, SOURCE), -EPROTO);
    offer = none;
    offer.bitmap = text;
    assert_int_equal(frame_outcome(&offer, SOURCE), -EPROTO);
    offer.state = TRANSFER_COMPLETE;
    assert_int_equal(frame_outcome(&offer, SOURCE), -EPROTO);
    offer.state = TRANSFER_PARTIAL;
    assert_int_equal(frame_outcome(&offer, SOURCE), TRANSFER_READ_FRAME);
    offer.state = (enum transfer_state)3;
    assert_int_equal(frame_outcome(&offer, SOURCE), -EPROTO);
}

static void refusals_that_make_no_sense_are_malformed(void **state)
{
    (void)state;
    struct transfer_frame refused = {.type = TRANSFER_REFUSED, .why = TRANSFER_REFUSED_BUSY};
    assert_int_equal(frame_outcome(&refused, SOURCE), TRANSFER_READ_FRAME);
    refused.position = TRANSFER_REQUEST_BLOCKS_MAX;
    assert_int_equal(frame_outcome(&refused, SOURCE), -EPROTO);
    refused.position = 0;
    refused.why = (enum transfer_refusal)0;
    assert_int_equal(frame_outcome(&refused, SOURCE), -EPROTO);
    refused.why = (enum transfer_refusal)5;
    assert_int_equal(frame_outcome(&refused, SOURCE), -EPROTO);
}

static void a_position_beyond_any_request_is_malformed(void **state)
{
    (void)state;
    struct tape tape;
    struct transfer_piece piece;
    tape_init(&tape, SOURCE);
    const struct transfer_frame block = {.type = TRANSFER_BLOCK,
                                         .position = TRANSFER_REQUEST_BLOCKS_MAX};
    transfer_frame_format(&block, 1, &tape.bytes);
    assert_int_equal(tape_next(&tape, &piece), -EPROTO);
    tape_done(&tape);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_frame_is_read_as_it_was_written),
        cmocka_unit_test(fields_are_what_was_said),
        cmocka_unit_test(pieces_of_any_size_give_the_same),
        cmocka_unit_test(a_block_is_told_before_its_bytes),
        cmocka_unit_test(a_large_frame_is_announced),
        cmocka_unit_test(a_byte_too_few_or_too_many_is_malformed),
        cmocka_unit_test(a_list_beyond_its_limit_is_malformed),
        cmocka_unit_test(a_later_minor_version_may_add_fields),
        cmocka_unit_test(unknown_types_are_skipped),
        cmocka_unit_test(sizes_are_refused_before_anything_is_kept),
        cmocka_unit_test(frames_of_the_other_side_are_malformed),
        cmocka_unit_test(another_major_version_is_not_read),
        cmocka_unit_test(offers_that_make_no_sense_are_malformed),
        cmocka_unit_test(refusals_that_make_no_sense_are_malformed),
        cmocka_unit_test(a_position_beyond_any_request_is_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
