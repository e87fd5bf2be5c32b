/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/message_head.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "wire/datagram.h"

#define TYPE 7

static int read_head(const uint8_t *bytes, size_t size, bool *ret_is_exact)
{
    struct field_reader reader = field_reader_of(BYTES(bytes, size));
    uint8_t type = 0;
    const int err = field_get_message_head(&reader, &type, ret_is_exact);
    if (!err) {
        assert_int_equal(type, TYPE);
        assert_int_equal(reader.left.size, size - MESSAGE_HEAD_BYTES);
    }
    return err;
}

static void a_head_comes_back(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf message = BUF_INIT;
    field_put_message_head(&message, TYPE);
    assert_int_equal(message.size, MESSAGE_HEAD_BYTES);
    buf_add_byte(&message, 1);
    bool is_exact = false;
    assert_int_equal(read_head(message.data, message.size, &is_exact), 0);
    assert_true(is_exact);
}

static void a_later_minor_version_may_say_more(void **state)
{
    (void)state;
    const uint8_t later[] = {DATAGRAM_MAJOR, DATAGRAM_MINOR + 1, TYPE};
    bool is_exact = true;
    assert_int_equal(read_head(later, sizeof later, &is_exact), 0);
    assert_false(is_exact);
}

static void another_major_version_is_not_read(void **state)
{
    (void)state;
    const uint8_t other[] = {DATAGRAM_MAJOR + 1};
    bool is_exact = true;
    assert_int_equal(read_head(other, sizeof other, &is_exact), -EPROTONOSUPPORT);
}

static void what_is_cut_off_is_malformed(void **state)
{
    (void)state;
    const uint8_t whole[] = {DATAGRAM_MAJOR, DATAGRAM_MINOR, TYPE};
    bool is_exact = true;
    for (size_t size = 0; size < sizeof whole; size++) {
        assert_int_equal(read_head(whole, size, &is_exact), -EPROTO);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_comes_back),
        cmocka_unit_test(a_later_minor_version_may_say_more),
        cmocka_unit_test(another_major_version_is_not_read),
        cmocka_unit_test(what_is_cut_off_is_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
