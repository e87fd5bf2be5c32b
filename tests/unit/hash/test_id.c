/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "hash/id.h"

static const char *const sample_hex =
    "0123456789abcdeffedcba98765432100f1e2d3c4b5a69788796a5b4c3d2e1f0";
static const struct id sample = {{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba,
                                  0x98, 0x76, 0x54, 0x32, 0x10, 0x0f, 0x1e, 0x2d, 0x3c, 0x4b, 0x5a,
                                  0x69, 0x78, 0x87, 0x96, 0xa5, 0xb4, 0xc3, 0xd2, 0xe1, 0xf0}};

static void formats_lower_case_with_a_nul(void **state)
{
    (void)state;
    char hex[ID_HEX_CHARS + 2];
    memset(hex, '!', sizeof hex);
    id_format(&sample, hex);
    assert_string_equal(hex, sample_hex);
    assert_int_equal(hex[ID_HEX_CHARS + 1], '!');
}

static void parses_what_it_formats(void **state)
{
    (void)state;
    struct id id;
    assert_int_equal(id_parse(bytes_of_string(sample_hex), &id), 0);
    assert_true(id_equal(&id, &sample));

    /* Every value of a byte, at every place. */
    for (unsigned value = 0; value < 256; value++) {
        struct id written;
        for (unsigned i = 0; i < ID_BYTES; i++) {
            written.bytes[i] = (uint8_t)(value + i * 37);
        }
        char hex[ID_HEX_CHARS + 1];
        id_format(&written, hex);
        assert_int_equal(id_parse(BYTES((const uint8_t *)hex, ID_HEX_CHARS), &id), 0);
        assert_true(id_equal(&id, &written));
    }
}

static void needs_no_nul(void **state)
{
    (void)state;
    uint8_t *exact = mem_copy(sample_hex, ID_HEX_CHARS);
    struct id id;
    assert_int_equal(id_parse(BYTES(exact, ID_HEX_CHARS), &id), 0);
    assert_true(id_equal(&id, &sample));
    free(exact);
}

static void refuses_every_other_character_at_every_place(void **state)
{
    (void)state;
    const struct id before = {{1, 2, 3}};
    for (size_t place = 0; place < ID_HEX_CHARS; place++) {
        for (unsigned value = 0; value < 256; value++) {
            uint8_t hex[ID_HEX_CHARS];
            memcpy(hex, sample_hex, ID_HEX_CHARS);
            hex[place] = (uint8_t)value;
            const bool is_digit = (value >= '0' && value <= '9') || (value >= 'a' && value <= 'f');
            struct id id = before;
            assert_int_equal(id_parse(BYTES(hex, sizeof hex), &id), is_digit ? 0 : -EINVAL);
            if (!is_digit) {
                assert_true(id_equal(&id, &before));
            }
        }
    }
}

static void refuses_every_other_length(void **state)
{
    (void)state;
    char longer[2 * ID_HEX_CHARS + 1];
    memset(longer, '0', sizeof longer);
    for (size_t size = 0; size <= 2 * ID_HEX_CHARS; size++) {
        struct id id;
        const int expected = size == ID_HEX_CHARS ? 0 : -EINVAL;
        assert_int_equal(id_parse(BYTES((const uint8_t *)longer, size), &id), expected);
    }
    struct id id;
    assert_int_equal(id_parse(BYTES(NULL, 0), &id), -EINVAL);
}

static void equal_looks_at_every_byte(void **state)
{
    (void)state;
    assert_true(id_equal(&sample, &sample));
    for (size_t i = 0; i < ID_BYTES; i++) {
        struct id other = sample;
        other.bytes[i] ^= 1;
        assert_false(id_equal(&sample, &other));
    }
    assert_int_equal(id_bytes(&sample).size, ID_BYTES);
    assert_ptr_equal(id_bytes(&sample).data, sample.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_lower_case_with_a_nul),
        cmocka_unit_test(parses_what_it_formats),
        cmocka_unit_test(needs_no_nul),
        cmocka_unit_test(refuses_every_other_character_at_every_place),
        cmocka_unit_test(refuses_every_other_length),
        cmocka_unit_test(equal_looks_at_every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
