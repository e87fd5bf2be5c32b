/* SPDX-License-Identifier: Apache-2.0 */
#include "base/codec.h"

#include "helpers.h"

static void little_endian_puts_the_lowest_byte_first(void **state)
{
    (void)state;
    uint8_t out[8];
    codec_put_le16(out, 0x0102);
    assert_memory_equal(out, "\x02\x01", 2);
    codec_put_le32(out, 0x01020304);
    assert_memory_equal(out, "\x04\x03\x02\x01", 4);
    codec_put_le64(out, 0x0102030405060708);
    assert_memory_equal(out, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
}

static void big_endian_puts_the_highest_byte_first(void **state)
{
    (void)state;
    uint8_t out[8];
    codec_put_be32(out, 0x01020304);
    assert_memory_equal(out, "\x01\x02\x03\x04", 4);
    codec_put_be64(out, 0x0102030405060708);
    assert_memory_equal(out, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
}

static void get_undoes_put_at_any_alignment(void **state)
{
    (void)state;
    uint8_t out[16];
    for (size_t shift = 0; shift < 8; shift++) {
        codec_put_le16(out + shift, 0xfedc);
        assert_int_equal(codec_get_le16(out + shift), 0xfedc);
        codec_put_le32(out + shift, 0xfedcba98);
        assert_int_equal(codec_get_le32(out + shift), 0xfedcba98);
        codec_put_le64(out + shift, UINT64_MAX - 1);
        assert_true(codec_get_le64(out + shift) == UINT64_MAX - 1);
        codec_put_be32(out + shift, 0xfedcba98);
        assert_int_equal(codec_get_be32(out + shift), 0xfedcba98);
        codec_put_be64(out + shift, UINT64_MAX - 1);
        assert_true(codec_get_be64(out + shift) == UINT64_MAX - 1);
    }
}

static void put_writes_no_more_than_its_width(void **state)
{
    (void)state;
    uint8_t out[9];
    memset(out, 0xaa, sizeof out);
    codec_put_le16(out, 0);
    assert_int_equal(out[2], 0xaa);
    codec_put_be32(out, 0);
    assert_int_equal(out[4], 0xaa);
    codec_put_be64(out, 0);
    assert_int_equal(out[8], 0xaa);
}

static void order_of_big_endian_bytes_is_order_of_numbers(void **state)
{
    (void)state;
    const uint64_t rising[] = {0, 1, 255, 256, 65535, 1ULL << 32, INT64_MAX, UINT64_MAX};
    for (size_t i = 1; i < sizeof rising / sizeof rising[0]; i++) {
        uint8_t before[8];
        uint8_t after[8];
        codec_put_be64(before, rising[i - 1]);
        codec_put_be64(after, rising[i]);
        assert_true(memcmp(before, after, 8) < 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(little_endian_puts_the_lowest_byte_first),
        cmocka_unit_test(big_endian_puts_the_highest_byte_first),
        cmocka_unit_test(get_undoes_put_at_any_alignment),
        cmocka_unit_test(put_writes_no_more_than_its_width),
        cmocka_unit_test(order_of_big_endian_bytes_is_order_of_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
