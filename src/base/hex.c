/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hex.h"

#include <errno.h>

#define DIGIT_VALID 0x10

/* The value of each lower-case hex digit with DIGIT_VALID set; 0 for every other byte. */
static const uint8_t digit_of_char[256] = {
    ['0'] = 0x10, ['1'] = 0x11, ['2'] = 0x12, ['3'] = 0x13, ['4'] = 0x14, ['5'] = 0x15,
    ['6'] = 0x16, ['7'] = 0x17, ['8'] = 0x18, ['9'] = 0x19, ['a'] = 0x1a, ['b'] = 0x1b,
    ['c'] = 0x1c, ['d'] = 0x1d, ['e'] = 0x1e, ['f'] = 0x1f,
};

static const char char_of_digit[16] = {'0', '1', '2', '3', '4', '5', '6', '7',
                                       '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'};

void hex_format(const uint8_t *bytes, size_t size, char *ret_hex)
{
    for (size_t i = 0; i < size; i++) {
        ret_hex[2 * i] = char_of_digit[bytes[i] >> 4];
        ret_hex[2 * i + 1] = char_of_digit[bytes[i] & 0xf];
    }
    ret_hex[2 * size] = '\0';
}

int hex_parse(struct bytes hex, size_t size, uint8_t *ret_bytes)
{
    if (hex.size / 2 != size || hex.size % 2 != 0) {
        return -EINVAL;
    }
    uint8_t valid = DIGIT_VALID;
    for (size_t i = 0; i < hex.size; i++) {
        valid &= digit_of_char[hex.data[i]];
    }
    if (!valid) {
        return -EINVAL;
    }
    for (size_t i = 0; i < size; i++) {
        const uint8_t high = digit_of_char[hex.data[2 * i]];
        const uint8_t low = digit_of_char[hex.data[2 * i + 1]];
        ret_bytes[i] = (uint8_t)((high & 0xf) << 4 | (low & 0xf));
    }
    return 0;
}
