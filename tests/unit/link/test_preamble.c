/* SPDX-License-Identifier: Apache-2.0 */
#include "link/preamble.h"

#include "helpers.h"

static struct preamble sample(void)
{
    return (struct preamble){.verdict = 4,
                             .id = test_id(1),
                             .boot_nonce = 0x1122334455667788,
                             .expected = test_id(2),
                             .number = 77,
                             .known_nonce = 99,
                             .known_number = 5};
}

static int parse(const struct buf *bytes, struct preamble *ret_preamble, size_t *ret_size)
{
    return preamble_parse(buf_bytes(bytes), ret_preamble, ret_size);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    const struct preamble written = sample();
    struct preamble read;
    size_t size = 0;
    preamble_format(&written, &bytes);
    assert_int_equal(bytes.size, PREAMBLE_BYTES);
    assert_int_equal(bytes.data[0], LINK_FIRST_BYTE);
    buf_add_string(&bytes, "and what follows");
    assert_int_equal(parse(&bytes, &read, &size), 0);
    assert_int_equal(size, PREAMBLE_BYTES);
    assert_int_equal(read.minor, PREAMBLE_MINOR);
    assert_int_equal(read.verdict, 4);
    assert_true(node_id_equal(&read.id, &written.id));
    assert_true(node_id_equal(&read.expected, &written.expected));
    assert_int_equal(read.boot_nonce, written.boot_nonce);
    assert_int_equal(read.number, 77);
    assert_int_equal(read.known_nonce, 99);
    assert_int_equal(read.known_number, 5);
}

static void less_is_waited_for(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    const struct preamble written = sample();
    struct preamble read;
    size_t size = 9999;
    preamble_format(&written, &bytes);
    for (size_t i = 0; i < PREAMBLE_BYTES; i++) {
        assert_int_equal(preamble_parse(BYTES(bytes.data, i), &read, &size), -EAGAIN);
    }
    assert_int_equal(size, 9999);
}

static void strangers_are_known_by_their_first_wrong_byte(void **state)
{
    (void)state;
    struct preamble read;
    size_t size;
    assert_int_equal(preamble_parse(bytes_of_string("G"), &read, &size), -EPROTO);
    assert_int_equal(preamble_parse(bytes_of_string("\xA7"
                                                    "artex"),
                                    &read, &size),
                     -EPROTO);
    assert_int_equal(preamble_parse(bytes_of_string("\xA7"
                                                    "artel\x02"),
                                    &read, &size),
                     -EPROTONOSUPPORT);
}

static void a_later_minor_version_may_say_more(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    const struct preamble written = sample();
    struct preamble read;
    size_t size = 0;
    preamble_format(&written, &bytes);
    memset(buf_extend(&bytes, 25), 0, 25);
    codec_put_le16(bytes.data + 8, 73 + 25);
    assert_int_equal(parse(&bytes, &read, &size), -EPROTO); /* not in ours */
    bytes.data[7] = PREAMBLE_MINOR + 1;
    assert_int_equal(parse(&bytes, &read, &size), 0);
    assert_int_equal(size, PREAMBLE_BYTES + 25);
    assert_int_equal(read.minor, PREAMBLE_MINOR + 1);
    codec_put_le16(bytes.data + 8, PREAMBLE_BYTES_MAX);
    assert_int_equal(parse(&bytes, &read, &size), -EPROTO); /* too much */
    codec_put_le16(bytes.data + 8, 72);
    assert_int_equal(parse(&bytes, &read, &size), -EPROTO); /* less than we know */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(less_is_waited_for),
        cmocka_unit_test(strangers_are_known_by_their_first_wrong_byte),
        cmocka_unit_test(a_later_minor_version_may_say_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
