/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/hex.h"
#include "base/mem.h"

static void formats_lower_case_with_a_nul(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0x00, 0x9a, 0xf0, 0x0f, 0xff};
    char hex[2 * sizeof bytes + 2];
    memset(hex, '!', sizeof hex);
    hex_format(bytes, sizeof bytes, hex);
    assert_string_equal(hex, "009af00fff");
    assert_int_equal(hex[2 * sizeof bytes + 1], '!');

    hex_format(bytes, 0, hex);
    assert_string_equal(hex, "");
}

static void every_byte_comes_back(void **state)
{
    (void)state;
    uint8_t written[256];
    for (unsigned value = 0; value < sizeof written; value++) {
        written[value] = (uint8_t)value;
    }
    char hex[2 * sizeof written + 1];
    hex_format(written, sizeof written, hex);

    uint8_t *exact = mem_copy(hex, 2 * sizeof written);
    uint8_t read[sizeof written];
    assert_int_equal(hex_parse(BYTES(exact, 2 * sizeof written), sizeof read, read), 0);
    assert_memory_equal(read, written, sizeof written);
    free(exact);
}

static void refuses_every_other_character_and_leaves_the_output(void **state)
{
    (void)state;
    for (size_t place = 0; place < 6; place++) {
        for (unsigned value = 0; value < 256; value++) {
            uint8_t hex[] = {'0', '1', '2', '3', '4', '5'};
            hex[place] = (uint8_t)value;
            const bool is_digit = (value >= '0' && value <= '9') || (value >= 'a' && value <= 'f');
            uint8_t read[3] = {0xee, 0xee, 0xee};
            assert_int_equal(hex_parse(BYTES(hex, sizeof hex), 3, read), is_digit ? 0 : -EINVAL);
            assert_int_equal(read[0] == 0xee && read[1] == 0xee && read[2] == 0xee, !is_digit);
        }
    }
}

static void refuses_every_other_length(void **state)
{
    (void)state;
    const struct bytes digits = bytes_of_string("00112233445566");
    for (size_t size = 0; size <= digits.size; size++) {
        uint8_t read[3];
        assert_int_equal(hex_parse(BYTES(digits.data, size), sizeof read, read),
                         size == 6 ? 0 : -EINVAL);
    }
    uint8_t none[1] = {0xee};
    assert_int_equal(hex_parse(BYTES(NULL, 0), 0, none), 0);
    assert_int_equal(hex_parse(BYTES(NULL, 0), 1, none), -EINVAL);
    assert_int_equal(none[0], 0xee);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_lower_case_with_a_nul),
        cmocka_unit_test(every_byte_comes_back),
        cmocka_unit_test(refuses_every_other_character_and_leaves_the_output),
        cmocka_unit_test(refuses_every_other_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
