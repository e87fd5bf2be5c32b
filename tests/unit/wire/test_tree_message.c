/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "wire/datagram.h"
#include "wire/tree_message.h"

#define HEADER_BYTES 3u
#define MINOR_AT 1
#define TYPE_AT 2
#define DOT_BYTES 24u
#define OP_BYTES ((unsigned)TREE_OP_BYTES_MIN) /* of each op of formatted(), without its size */
#define ELEMENTS 3u

static const enum tree_message_type types[] = {
    TREE_MESSAGE_SUMS,
    TREE_MESSAGE_PART,
    TREE_MESSAGE_WANT,
    TREE_MESSAGE_OPS,
    TREE_MESSAGE_LARGE,
    TREE_MESSAGE_PIECE_WANT,
    TREE_MESSAGE_PIECE,
    TREE_MESSAGE_AWAIT,
    TREE_MESSAGE_HAS,
    TREE_MESSAGE_SNAPSHOT_ASK,
    TREE_MESSAGE_SNAPSHOT_OFFER,
    TREE_MESSAGE_SNAPSHOT_WANT,
    TREE_MESSAGE_SNAPSHOT_PIECE,
    TREE_MESSAGE_STATE_ASK,
    TREE_MESSAGE_STATE,
    TREE_MESSAGE_SPREAD_OPS,
    TREE_MESSAGE_SPREAD_NEWS,
};

static bool is_spread(enum tree_message_type type)
{
    return type >= TREE_MESSAGE_SPREAD_OPS;
}

/* What every one of that type has, without its list; 0: there is no such type. */
static size_t head_bytes(unsigned type)
{
    switch (type) {
    case TREE_MESSAGE_SUMS:
        return HEADER_BYTES + 8 * TREE_SUMS;
    case TREE_MESSAGE_PART:
        return HEADER_BYTES + 32;
    case TREE_MESSAGE_WANT:
    case TREE_MESSAGE_OPS:
        return HEADER_BYTES + 1;
    case TREE_MESSAGE_LARGE:
    case TREE_MESSAGE_PIECE_WANT:
    case TREE_MESSAGE_PIECE:
        return HEADER_BYTES + DOT_BYTES + 4;
    case TREE_MESSAGE_AWAIT:
        return HEADER_BYTES + 8 + DOT_BYTES;
    case TREE_MESSAGE_HAS:
    case TREE_MESSAGE_STATE_ASK:
        return HEADER_BYTES + 8;
    case TREE_MESSAGE_SNAPSHOT_ASK:
    case TREE_MESSAGE_SPREAD_OPS:
        return HEADER_BYTES;
    case TREE_MESSAGE_SNAPSHOT_OFFER:
    case TREE_MESSAGE_SNAPSHOT_WANT:
        return HEADER_BYTES + 32 + 8;
    case TREE_MESSAGE_SNAPSHOT_PIECE:
        return HEADER_BYTES + 32 + 8 + 4;
    case TREE_MESSAGE_STATE:
        return HEADER_BYTES + 8 + 8 + 32 + 8 + 8;
    case TREE_MESSAGE_SPREAD_NEWS:
        return HEADER_BYTES + DOT_BYTES + 8;
    default:
        return 0;
    }
}

/* Of one element at the end; 0: it ends with no list. */
static size_t element_bytes(enum tree_message_type type)
{
    switch (type) {
    case TREE_MESSAGE_PART:
    case TREE_MESSAGE_WANT:
        return 32;
    case TREE_MESSAGE_OPS:
    case TREE_MESSAGE_SPREAD_OPS:
        return 4 + OP_BYTES;
    case TREE_MESSAGE_PIECE:
    case TREE_MESSAGE_SNAPSHOT_PIECE:
        return 1;
    default:
        return 0;
    }
}

static void fill(uint8_t *bytes, size_t size, uint8_t first)
{
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(first + i);
    }
}

static struct tree_message sample(enum tree_message_type type)
{
    static const uint8_t piece[ELEMENTS] = {0xb0, 0xb1, 0xb2};
    struct tree_message message = {
        .type = type,
        .flags = 0x83,
        .dot.seq = UINT64_C(0x0102030405060708),
        .last_seq = UINT64_C(0x0102030405060709),
        .number = UINT64_C(0x1112131415161718),
        .offset_bytes = 0x00212223,
        .size_bytes = 0x01313233,
        .crc = 0x41424344,
        .bytes = BYTES(piece, sizeof piece),
        .vector_sum = UINT64_C(0x5152535455565758),
        .ops_count = UINT64_C(0x6162636465666768),
        .entries_count = UINT64_C(0x7172737475767778),
    };
    for (size_t i = 0; i < TREE_SUMS; i++) {
        message.sums[i] = UINT64_C(0x0102030405060708) * (i + 1);
    }
    fill(message.buckets, sizeof message.buckets, 1);
    fill(message.dot.origin.bytes, sizeof message.dot.origin.bytes, 0xd0);
    fill(message.id.bytes, sizeof message.id.bytes, 0x60);
    fill(message.fingerprint, sizeof message.fingerprint, 0x90);
    return message;
}

static struct tree_message_entry entry_sample(unsigned i)
{
    struct tree_message_entry entry = {.seq = i + 1, .hash_head = UINT64_MAX - i};
    fill(entry.origin.bytes, sizeof entry.origin.bytes, (uint8_t)i);
    return entry;
}

static struct tree_lack lack_sample(unsigned i)
{
    struct tree_lack lack = {.after_seq = i, .through_seq = i + 1};
    fill(lack.origin.bytes, sizeof lack.origin.bytes, (uint8_t)i);
    return lack;
}

static struct bytes op_sample(unsigned i)
{
    static const uint8_t ops[ELEMENTS][OP_BYTES] = {{1, 2, 3, 4, 5}, {6, 7, 8, 9, 10}, {11}};
    return BYTES(ops[i], OP_BYTES);
}

/* With ELEMENTS elements in those that end with a list; the caller frees it with buf_done(). */
static struct buf formatted(enum tree_message_type type)
{
    const struct tree_message message = sample(type);
    struct buf bytes = BUF_INIT;
    tree_message_format(&message, &bytes);
    for (unsigned i = 0; i < ELEMENTS; i++) {
        const struct tree_message_entry entry = entry_sample(i);
        const struct tree_lack lack = lack_sample(i);
        switch (type) {
        case TREE_MESSAGE_PART:
            tree_message_put_entry(&bytes, &entry);
            break;
        case TREE_MESSAGE_WANT:
            tree_message_put_lack(&bytes, &lack);
            break;
        case TREE_MESSAGE_OPS:
        case TREE_MESSAGE_SPREAD_OPS:
            tree_message_put_op(&bytes, op_sample(i));
            break;
        default:
            break;
        }
    }
    assert_int_equal(bytes.size, head_bytes(type) + ELEMENTS * element_bytes(type));
    return bytes;
}

/* In memory of just that size, so that a read beyond it is noticed. */
static int parse_answer_of(struct bytes bytes, bool is_broadcast)
{
    uint8_t *exact = bytes.size ? mem_copy(bytes.data, bytes.size) : NULL;
    struct tree_message message = {.number = 0x5555};
    const int err = tree_message_parse(BYTES(exact, bytes.size), is_broadcast, &message);
    if (err) {
        assert_int_equal(message.number, 0x5555);
    }
    free(exact);
    return err;
}

static int parse_answer(enum tree_message_type type, struct bytes bytes)
{
    return parse_answer_of(bytes, is_spread(type));
}

static struct tree_message parsed(enum tree_message_type type, const struct buf *bytes)
{
    struct tree_message message;
    assert_int_equal(tree_message_parse(buf_bytes(bytes), is_spread(type), &message), 0);
    assert_int_equal(message.type, type);
    return message;
}

static void fields_stand_where_they_are_said_to(void **state)
{
    (void)state;
    static const uint8_t lack[] = {1,  1,  3, 0x83, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,
                                   14, 15, 0, 0,    0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0,  0,  0,  0};
    CLEANUP_BUF struct buf want = formatted(TREE_MESSAGE_WANT);
    assert_memory_equal(want.data, lack, sizeof lack);

    static const uint8_t dot_and_offset[] = {1,    1,    7,    0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5,
                                             0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde,
                                             0xdf, 8,    7,    6,    5,    4,    3,    2,    1,
                                             0x23, 0x22, 0x21, 0,    0xb0, 0xb1, 0xb2};
    CLEANUP_BUF struct buf piece = formatted(TREE_MESSAGE_PIECE);
    assert_int_equal(piece.size, sizeof dot_and_offset);
    assert_memory_equal(piece.data, dot_and_offset, sizeof dot_and_offset);

    static const uint8_t op[] = {1, 1, 32, 66, 0, 0, 0, 1, 2, 3, 4, 5, 0};
    CLEANUP_BUF struct buf spread = formatted(TREE_MESSAGE_SPREAD_OPS);
    assert_memory_equal(spread.data, op, sizeof op);
}

static void fields_come_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        const enum tree_message_type type = types[i];
        CLEANUP_BUF struct buf bytes = formatted(type);
        struct tree_message read = parsed(type, &bytes);
        CLEANUP_BUF struct buf again = BUF_INIT;
        tree_message_format(&read, &again);
        buf_add(&again, read.list);
        assert_int_equal(again.size, bytes.size);
        assert_memory_equal(again.data, bytes.data, bytes.size);
    }
    const struct tree_message written = sample(TREE_MESSAGE_SUMS);
    CLEANUP_BUF struct buf sums = formatted(TREE_MESSAGE_SUMS);
    struct tree_message read = parsed(TREE_MESSAGE_SUMS, &sums);
    assert_memory_equal(read.sums, written.sums, sizeof read.sums);
    CLEANUP_BUF struct buf state_bytes = formatted(TREE_MESSAGE_STATE);
    read = parsed(TREE_MESSAGE_STATE, &state_bytes);
    assert_int_equal(read.number, written.number);
    assert_int_equal(read.vector_sum, written.vector_sum);
    assert_memory_equal(read.fingerprint, written.fingerprint, sizeof read.fingerprint);
    assert_int_equal(read.ops_count, written.ops_count);
    assert_int_equal(read.entries_count, written.entries_count);
}

static void lists_come_back(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf part = formatted(TREE_MESSAGE_PART);
    struct bytes list = parsed(TREE_MESSAGE_PART, &part).list;
    for (unsigned i = 0; i < ELEMENTS; i++) {
        const struct tree_message_entry expected = entry_sample(i);
        struct tree_message_entry entry;
        assert_true(tree_message_next_entry(&list, &entry));
        assert_true(origin_id_equal(&entry.origin, &expected.origin));
        assert_int_equal(entry.seq, expected.seq);
        assert_int_equal(entry.hash_head, expected.hash_head);
    }
    struct tree_message_entry no_entry;
    assert_false(tree_message_next_entry(&list, &no_entry));

    CLEANUP_BUF struct buf want = formatted(TREE_MESSAGE_WANT);
    list = parsed(TREE_MESSAGE_WANT, &want).list;
    for (unsigned i = 0; i < ELEMENTS; i++) {
        const struct tree_lack expected = lack_sample(i);
        struct tree_lack lack;
        assert_true(tree_message_next_lack(&list, &lack));
        assert_true(origin_id_equal(&lack.origin, &expected.origin));
        assert_int_equal(lack.after_seq, expected.after_seq);
        assert_int_equal(lack.through_seq, expected.through_seq);
    }
    struct tree_lack no_lack;
    assert_false(tree_message_next_lack(&list, &no_lack));

    static const enum tree_message_type both[] = {TREE_MESSAGE_OPS, TREE_MESSAGE_SPREAD_OPS};
    for (size_t k = 0; k < ARRAY_SIZE(both); k++) {
        CLEANUP_BUF struct buf ops = formatted(both[k]);
        list = parsed(both[k], &ops).list;
        struct bytes op;
        for (unsigned i = 0; i < ELEMENTS; i++) {
            assert_true(tree_message_next_op(&list, &op));
            assert_true(bytes_equal(op, op_sample(i)));
        }
        assert_false(tree_message_next_op(&list, &op));
    }
}

static void messages_cut_short_are_malformed(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        CLEANUP_BUF struct buf bytes = formatted(types[i]);
        const size_t head = head_bytes(types[i]);
        const size_t element = element_bytes(types[i]);
        for (size_t size = 0; size < bytes.size; size++) {
            const bool is_whole = size >= head && (size - head) % element == 0;
            assert_int_equal(parse_answer(types[i], BYTES(bytes.data, size)),
                             is_whole ? 0 : -EPROTO);
        }
    }
}

static void bytes_left_over(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        CLEANUP_BUF struct buf bytes = formatted(types[i]);
        buf_add_byte(&bytes, 0xee);
        const bool is_bytes = element_bytes(types[i]) == 1;
        assert_int_equal(parse_answer(types[i], buf_bytes(&bytes)), is_bytes ? 0 : -EPROTO);
        /* A later minor version may have more fields. A list runs to the end. */
        bytes.data[MINOR_AT] = DATAGRAM_MINOR + 1;
        const int expected = element_bytes(types[i]) > 1 ? -EPROTO : 0;
        assert_int_equal(parse_answer(types[i], buf_bytes(&bytes)), expected);
        bytes.data[MINOR_AT] = 255;
        assert_int_equal(parse_answer(types[i], buf_bytes(&bytes)), expected);
    }
}

static void other_versions_and_types_are_not_ours(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf bytes = formatted(TREE_MESSAGE_HAS);
    for (unsigned value = 0; value < 256; value++) {
        bytes.data[0] = (uint8_t)value;
        assert_int_equal(parse_answer(TREE_MESSAGE_HAS, buf_bytes(&bytes)),
                         value == DATAGRAM_MAJOR ? 0 : -EPROTONOSUPPORT);
    }
    bytes.data[0] = DATAGRAM_MAJOR;
    bytes.size = HEADER_BYTES;
    for (unsigned value = 0; value < 256; value++) {
        bytes.data[TYPE_AT] = (uint8_t)value;
        const size_t head = head_bytes(value);
        for (int is_broadcast = 0; is_broadcast < 2; is_broadcast++) {
            const bool is_ours = is_spread((enum tree_message_type)value) == (bool)is_broadcast;
            const int expected = head == 0                         ? -EPROTONOSUPPORT
                                 : head == HEADER_BYTES && is_ours ? 0
                                                                   : -EPROTO;
            assert_int_equal(parse_answer_of(buf_bytes(&bytes), is_broadcast), expected);
        }
    }
    /* Of another version not even the length is known. */
    static const uint8_t future[] = {2};
    assert_int_equal(parse_answer_of(BYTES(future, sizeof future), false), -EPROTONOSUPPORT);
}

static void each_kind_has_its_way(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        CLEANUP_BUF struct buf bytes = formatted(types[i]);
        const bool is_broadcast = is_spread(types[i]);
        if (bytes.size <= DATAGRAM_PAYLOAD_BYTES_MAX) {
            assert_int_equal(parse_answer_of(buf_bytes(&bytes), is_broadcast), 0);
            assert_int_equal(parse_answer_of(buf_bytes(&bytes), !is_broadcast), -EPROTO);
        }
    }
}

/* Formats `message` and parses it again. */
static int answer_to(const struct tree_message *message)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    tree_message_format(message, &bytes);
    return parse_answer(message->type, buf_bytes(&bytes));
}

static void sequences_are_in_order(void **state)
{
    (void)state;
    static const enum tree_message_type with_dot[] = {TREE_MESSAGE_LARGE, TREE_MESSAGE_PIECE_WANT,
                                                      TREE_MESSAGE_PIECE, TREE_MESSAGE_AWAIT,
                                                      TREE_MESSAGE_SPREAD_NEWS};
    for (size_t i = 0; i < ARRAY_SIZE(with_dot); i++) {
        struct tree_message message = sample(with_dot[i]);
        message.dot.seq = 0;
        assert_int_equal(answer_to(&message), -EPROTO);
        message.dot.seq = 1;
        assert_int_equal(answer_to(&message), 0);
    }
    struct tree_message news = sample(TREE_MESSAGE_SPREAD_NEWS);
    news.last_seq = news.dot.seq;
    assert_int_equal(answer_to(&news), 0);
    news.last_seq--;
    assert_int_equal(answer_to(&news), -EPROTO);

    CLEANUP_BUF struct buf part = formatted(TREE_MESSAGE_PART);
    part.data[part.size - 16] = 0; /* of the last one; its other bytes are 0 */
    assert_int_equal(parse_answer(TREE_MESSAGE_PART, buf_bytes(&part)), -EPROTO);
    CLEANUP_BUF struct buf want = formatted(TREE_MESSAGE_WANT);
    want.data[want.size - 8]--;
    assert_int_equal(parse_answer(TREE_MESSAGE_WANT, buf_bytes(&want)), -EPROTO);
}

static void ops_have_their_limits(void **state)
{
    (void)state;
    struct tree_message large = sample(TREE_MESSAGE_LARGE);
    large.size_bytes = TREE_OP_BYTES_MAX;
    assert_int_equal(answer_to(&large), 0);
    large.size_bytes = 0;
    assert_int_equal(answer_to(&large), -EPROTO);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    large.size_bytes = TREE_OP_BYTES_MAX;
    tree_message_format(&large, &bytes);
    bytes.data[bytes.size - 4]++;
    assert_int_equal(parse_answer(TREE_MESSAGE_LARGE, buf_bytes(&bytes)), -EPROTO);

    struct tree_message piece = sample(TREE_MESSAGE_PIECE);
    piece.offset_bytes = TREE_OP_BYTES_MAX - piece.bytes.size;
    assert_int_equal(answer_to(&piece), 0);
    piece.offset_bytes++;
    assert_int_equal(answer_to(&piece), -EPROTO);

    /* A size beyond the end, one too small, and none. */
    CLEANUP_BUF struct buf ops = formatted(TREE_MESSAGE_OPS);
    uint8_t *last_size = ops.data + ops.size - OP_BYTES - 4;
    *last_size = OP_BYTES + 1;
    assert_int_equal(parse_answer(TREE_MESSAGE_OPS, buf_bytes(&ops)), -EPROTO);
    /* Shorter than any op: many of them would cost more memory than they are long. */
    *last_size = OP_BYTES - 1;
    ops.size--;
    assert_int_equal(parse_answer(TREE_MESSAGE_OPS, buf_bytes(&ops)), -EPROTO);
    ops.size++;
    ops.size -= OP_BYTES;
    *last_size = 0;
    assert_int_equal(parse_answer(TREE_MESSAGE_OPS, buf_bytes(&ops)), -EPROTO);
    last_size[3] = 0xff;
    assert_int_equal(parse_answer(TREE_MESSAGE_OPS, buf_bytes(&ops)), -EPROTO);
}

static void pieces_have_a_limit(void **state)
{
    (void)state;
    static const enum tree_message_type both[] = {TREE_MESSAGE_PIECE, TREE_MESSAGE_SNAPSHOT_PIECE};
    for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
        struct tree_message message = sample(both[i]);
        uint8_t *piece = mem_alloc(TREE_PIECE_BYTES_MAX);
        message.bytes = BYTES(piece, TREE_PIECE_BYTES_MAX);
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        tree_message_format(&message, &bytes);
        assert_int_equal(parse_answer(both[i], buf_bytes(&bytes)), 0);
        buf_add_byte(&bytes, 0);
        assert_int_equal(parse_answer(both[i], buf_bytes(&bytes)), -EPROTO);
        free(piece);
    }
}

static void lists_have_their_limits(void **state)
{
    (void)state;
    const struct tree_message_entry entry = entry_sample(1);
    CLEANUP_BUF struct buf part = formatted(TREE_MESSAGE_PART);
    for (size_t i = ELEMENTS; i < TREE_ENTRIES_MAX; i++) {
        tree_message_put_entry(&part, &entry);
    }
    assert_int_equal(parse_answer(TREE_MESSAGE_PART, buf_bytes(&part)), 0);
    tree_message_put_entry(&part, &entry);
    assert_int_equal(parse_answer(TREE_MESSAGE_PART, buf_bytes(&part)), -EPROTO);

    const struct tree_lack lack = lack_sample(1);
    CLEANUP_BUF struct buf want = formatted(TREE_MESSAGE_WANT);
    for (size_t i = ELEMENTS; i < TREE_WANT_LACKS_MAX; i++) {
        tree_message_put_lack(&want, &lack);
    }
    assert_int_equal(parse_answer(TREE_MESSAGE_WANT, buf_bytes(&want)), 0);
    tree_message_put_lack(&want, &lack);
    assert_int_equal(parse_answer(TREE_MESSAGE_WANT, buf_bytes(&want)), -EPROTO);
}

static void the_largest_messages(void **state)
{
    (void)state;
    static const enum tree_message_type both[] = {TREE_MESSAGE_OPS, TREE_MESSAGE_SPREAD_OPS};
    static const size_t limits[] = {TREE_MESSAGE_BYTES_MAX, DATAGRAM_PAYLOAD_BYTES_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
        const struct tree_message message = sample(both[i]);
        for (size_t more = 0; more < 2; more++) {
            CLEANUP_BUF struct buf bytes = BUF_INIT;
            tree_message_format(&message, &bytes);
            const size_t op_bytes = limits[i] - bytes.size - 4 + more;
            uint8_t *op = mem_alloc(op_bytes);
            tree_message_put_op(&bytes, BYTES(op, op_bytes));
            free(op);
            assert_int_equal(parse_answer(both[i], buf_bytes(&bytes)), more ? -EFBIG : 0);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_stand_where_they_are_said_to),
        cmocka_unit_test(fields_come_back),
        cmocka_unit_test(lists_come_back),
        cmocka_unit_test(messages_cut_short_are_malformed),
        cmocka_unit_test(bytes_left_over),
        cmocka_unit_test(other_versions_and_types_are_not_ours),
        cmocka_unit_test(each_kind_has_its_way),
        cmocka_unit_test(sequences_are_in_order),
        cmocka_unit_test(ops_have_their_limits),
        cmocka_unit_test(pieces_have_a_limit),
        cmocka_unit_test(lists_have_their_limits),
        cmocka_unit_test(the_largest_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
