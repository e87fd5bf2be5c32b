/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

#include "base/mem.h"

/*
 * UTF-8 as RFC 3629, section 4, writes it down: a row tells what the first byte may be, what the
 * second, and how many bytes the character has; all after the second are UTF8_TAIL. That the
 * second byte's range depends on the first is what leaves out overlong forms (E0, F0), surrogates
 * (ED) and what is above U+10FFFF (F4).
 */
static const struct utf8_form {
    uint8_t first_low, first_high;
    uint8_t second_low, second_high;
    uint8_t size;
} utf8_forms[] = {
    {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
    {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
    {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
};

#define UTF8_ONE_BYTE_MAX 0x7f
#define UTF8_TAIL_LOW 0x80
#define UTF8_TAIL_HIGH 0xbf

static inline bool is_in(uint8_t byte, uint8_t low, uint8_t high)
{
    return byte >= low && byte <= high;
}

size_t utf8_char_size(struct bytes text)
{
    if (text.size == 0) {
        return 0;
    }
    const uint8_t *at = text.data;
    if (at[0] <= UTF8_ONE_BYTE_MAX) {
        return 1;
    }
    for (size_t i = 0; i < ARRAY_SIZE(utf8_forms); i++) {
        const struct utf8_form *form = &utf8_forms[i];
        if (!is_in(at[0], form->first_low, form->first_high)) {
            continue;
        }
        if (text.size < form->size || !is_in(at[1], form->second_low, form->second_high)) {
            return 0;
        }
        for (size_t tail = 2; tail < form->size; tail++) {
            if (!is_in(at[tail], UTF8_TAIL_LOW, UTF8_TAIL_HIGH)) {
                return 0;
            }
        }
        return form->size;
    }
    return 0;
}

bool utf8_is_control(struct bytes text)
{
    if (text.size == 0) {
        return false;
    }
    const uint8_t *at = text.data;
    return at[0] < 0x20 || at[0] == 0x7f ||
           (text.size > 1 && at[0] == 0xc2 && is_in(at[1], 0x80, 0x9f));
}
