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
#include "wire/locate_message.h"

#define HEADER_BYTES 3u
#define MINOR_AT 1
#define TYPE_AT 2
#define ELEMENTS 3u

/* What every one of a type has in front of its list, and each element of that; 0: no list. */
static const struct shape {
    enum locate_message_type type;
    size_t head_bytes;
    size_t element_bytes;
} shapes[] = {
    {LOCATE_TELL, HEADER_BYTES + 16, 21},         {LOCATE_ARC, HEADER_BYTES + 56, 21},
    {LOCATE_COMPARE, HEADER_BYTES + 18 + 128, 0}, {LOCATE_TAKEN, HEADER_BYTES + 18, 0},
    {LOCATE_COMPARE_ASK, HEADER_BYTES, 0},        {LOCATE_FIND, HEADER_BYTES + 28, 0},
    {LOCATE_FOUND, HEADER_BYTES + 9, 21},         {LOCATE_WHO_HAS, HEADER_BYTES + 28, 20},
    {LOCATE_HAVE, HEADER_BYTES + 8, 1},
};

static struct ring_key key_of(uint8_t first)
{
    struct ring_key key = {{first}};
    key.bytes[19] = 0x77;
    return key;
}

static void put_element(struct buf *bytes, enum locate_message_type type, size_t i)
{
    const struct ring_key key = key_of((uint8_t)(0x40 + i));
    const struct node_id node = {{(uint8_t)(0x90 + i)}};
    switch (type) {
    case LOCATE_TELL:
    case LOCATE_ARC:
        locate_message_put_held(bytes, &(struct locate_held){key, (enum locate_state)(i % 3)});
        break;
    case LOCATE_FOUND:
        locate_message_put_holder(bytes,
                                  &(struct locate_held_by){node, (enum locate_state)(1 + i % 2)});
        break;
    case LOCATE_WHO_HAS:
        locate_message_put_key(bytes, &key);
        break;
    case LOCATE_HAVE:
        locate_message_put_state(bytes, (enum locate_state)(i % 3));
        break;
    default:
        break;
    }
}

static void format(const struct shape *shape, size_t elements, struct buf *ret_bytes)
{
    struct locate_message message = {
        .type = shape->type,
        .life = 0x0102030405060708,
        .number = 0x1112131415161718,
        .parts = 0x8001,
        .key = key_of(0x33),
        .first = key_of(0x40),
        .last = key_of(0x40 + ELEMENTS),
        .asker = {{0xaa}},
        .state = LOCATE_PARTIAL,
    };
    for (size_t i = 0; i < LOCATE_PARTS; i++) {
        message.sums[i] = i * 1000;
    }
    locate_message_format(&message, ret_bytes);
    for (size_t i = 0; shape->element_bytes > 0 && i < elements; i++) {
        put_element(ret_bytes, shape->type, i);
    }
}

static int parse_copy(struct bytes bytes, bool is_broadcast, struct locate_message *ret_message)
{
    /* Its own memory, so that a sanitizer sees a read behind the end. */
    uint8_t *copy = mem_copy(bytes.data, bytes.size);
    const int err = locate_message_parse(BYTES(copy, bytes.size), is_broadcast, ret_message);
    free(copy);
    return err;
}

static void test_each_type_comes_back_as_it_was(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        format(&shapes[i], ELEMENTS, &bytes);
        assert_int_equal(bytes.size, shapes[i].head_bytes + ELEMENTS * shapes[i].element_bytes);
        struct locate_message message;
        assert_int_equal(locate_message_parse(buf_bytes(&bytes), false, &message), 0);
        assert_int_equal(message.type, shapes[i].type);
        CLEANUP_BUF struct buf again = BUF_INIT;
        locate_message_format(&message, &again);
        buf_add(&again, message.list);
        assert_true(bytes_equal(buf_bytes(&again), buf_bytes(&bytes)));
    }
}

static void test_fields_hold_what_was_said(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    format(&shapes[1], ELEMENTS, &bytes);
    struct locate_message message;
    assert_int_equal(locate_message_parse(buf_bytes(&bytes), false, &message), 0);
    assert_int_equal(message.life, 0x0102030405060708);
    assert_int_equal(message.number, 0x1112131415161718);
    assert_int_equal(message.first.bytes[0], 0x40);
    assert_int_equal(message.last.bytes[0], 0x43);
    struct locate_held held;
    for (size_t i = 0; i < ELEMENTS; i++) {
        assert_true(locate_message_next_held(&message.list, &held));
        assert_int_equal(held.key.bytes[0], 0x40 + i);
        assert_int_equal(held.state, i % 3);
    }
    assert_false(locate_message_next_held(&message.list, &held));
}

static void test_every_cut_is_refused_or_shorter(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        format(&shapes[i], ELEMENTS, &bytes);
        for (size_t size = 0; size < bytes.size; size++) {
            const size_t element = shapes[i].element_bytes;
            const bool needs_one =
                shapes[i].type == LOCATE_WHO_HAS || shapes[i].type == LOCATE_HAVE;
            const bool is_whole = element > 0 && size >= shapes[i].head_bytes &&
                                  (size - shapes[i].head_bytes) % element == 0 &&
                                  !(needs_one && size == shapes[i].head_bytes);
            struct locate_message message = {.number = 0x5555};
            assert_int_equal(parse_copy(BYTES(bytes.data, size), false, &message),
                             is_whole ? 0 : -EPROTO);
        }
    }
}

static void test_versions_are_told_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        format(&shapes[i], 0, &bytes);
        if (shapes[i].element_bytes == 0) {
            buf_add_byte(&bytes, 0);
            struct locate_message message;
            assert_int_equal(parse_copy(buf_bytes(&bytes), false, &message), -EPROTO);
            bytes.data[MINOR_AT] = DATAGRAM_MINOR + 1;
            assert_int_equal(parse_copy(buf_bytes(&bytes), false, &message), 0);
        }
        struct locate_message message;
        bytes.data[0] = DATAGRAM_MAJOR + 1;
        assert_int_equal(parse_copy(buf_bytes(&bytes), false, &message), -EPROTONOSUPPORT);
        bytes.data[0] = DATAGRAM_MAJOR;
        bytes.data[TYPE_AT] = 0;
        assert_int_equal(parse_copy(buf_bytes(&bytes), false, &message), -EPROTONOSUPPORT);
        bytes.data[TYPE_AT] = LOCATE_HAVE + 1;
        assert_int_equal(parse_copy(buf_bytes(&bytes), false, &message), -EPROTONOSUPPORT);
    }
}

static void test_only_a_search_is_broadcast(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        format(&shapes[i], ELEMENTS, &bytes);
        struct locate_message message;
        assert_int_equal(parse_copy(buf_bytes(&bytes), true, &message),
                         shapes[i].type == LOCATE_WHO_HAS ? 0 : -EPROTO);
    }
}

static void test_lists_have_their_limits(void **state)
{
    (void)state;
    static const struct {
        size_t shape;
        size_t limit;
    } limits[] = {{0, LOCATE_HELD_MAX},
                  {6, LOCATE_ANSWER_HOLDERS},
                  {7, LOCATE_SEARCH_KEYS_MAX},
                  {8, LOCATE_SEARCH_KEYS_MAX}};
    for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
        const struct shape *shape = &shapes[limits[i].shape];
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        format(shape, limits[i].limit, &bytes);
        struct locate_message message;
        assert_int_equal(parse_copy(buf_bytes(&bytes), false, &message), 0);
        put_element(&bytes, shape->type, 1);
        assert_int_equal(parse_copy(buf_bytes(&bytes), false, &message), -EPROTO);
    }
    CLEANUP_BUF struct buf large = BUF_INIT;
    memset(buf_extend(&large, LOCATE_MESSAGE_BYTES_MAX + 1), 0, LOCATE_MESSAGE_BYTES_MAX + 1);
    struct locate_message message;
    assert_int_equal(locate_message_parse(buf_bytes(&large), false, &message), -EFBIG);
}

static void test_what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    struct locate_message message;
    CLEANUP_BUF struct buf arc = BUF_INIT;
    format(&shapes[1], ELEMENTS, &arc);
    arc.data[shapes[1].head_bytes + 21] = 0x3f; /* in front of the range */
    assert_int_equal(parse_copy(buf_bytes(&arc), false, &message), -EPROTO);
    arc.data[shapes[1].head_bytes + 21] = 0x44; /* behind it */
    assert_int_equal(parse_copy(buf_bytes(&arc), false, &message), -EPROTO);

    CLEANUP_BUF struct buf turned = BUF_INIT;
    format(&shapes[1], 0, &turned);
    turned.data[HEADER_BYTES + 16] = 0x50; /* the first key is above the last */
    assert_int_equal(parse_copy(buf_bytes(&turned), false, &message), -EPROTO);

    CLEANUP_BUF struct buf held = BUF_INIT;
    format(&shapes[0], 1, &held);
    held.data[held.size - 1] = 3; /* no such state */
    assert_int_equal(parse_copy(buf_bytes(&held), false, &message), -EPROTO);

    CLEANUP_BUF struct buf found = BUF_INIT;
    format(&shapes[6], 1, &found);
    found.data[found.size - 1] = LOCATE_NONE; /* a holder that has nothing */
    assert_int_equal(parse_copy(buf_bytes(&found), false, &message), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_type_comes_back_as_it_was),
        cmocka_unit_test(test_fields_hold_what_was_said),
        cmocka_unit_test(test_every_cut_is_refused_or_shorter),
        cmocka_unit_test(test_versions_are_told_apart),
        cmocka_unit_test(test_only_a_search_is_broadcast),
        cmocka_unit_test(test_lists_have_their_limits),
        cmocka_unit_test(test_what_makes_no_sense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
