/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/mem.h"
#include "base/utf8.h"

/* As large as the text says, so that the sanitizer sees a read beyond it. */
static size_t char_size(const char *text, size_t size)
{
    uint8_t *exact = mem_copy(text, size);
    const size_t answer = utf8_char_size(BYTES(exact, size));
    free(exact);
    return answer;
}

#define CHAR_SIZE(literal) char_size(literal, sizeof(literal) - 1)

static void characters_of_every_size(void **state)
{
    (void)state;
    assert_int_equal(CHAR_SIZE("a"), 1);
    assert_int_equal(CHAR_SIZE("\0"), 1);
    assert_int_equal(CHAR_SIZE("\x7f"), 1);
    assert_int_equal(CHAR_SIZE("\xc2\x80"), 2);
    assert_int_equal(CHAR_SIZE("\xdf\xbf"), 2);
    assert_int_equal(CHAR_SIZE("\xe0\xa0\x80"), 3);
    assert_int_equal(CHAR_SIZE("\xed\x9f\xbf"), 3);
    assert_int_equal(CHAR_SIZE("\xee\x80\x80"), 3);
    assert_int_equal(CHAR_SIZE("\xef\xbf\xbf"), 3);
    assert_int_equal(CHAR_SIZE("\xf0\x90\x80\x80"), 4);
    assert_int_equal(CHAR_SIZE("\xf4\x8f\xbf\xbf"), 4);
    assert_int_equal(CHAR_SIZE("\xc3\xa9t\xc3\xa9"), 2); /* only the first counts */
}

static void what_is_none(void **state)
{
    (void)state;
    assert_int_equal(utf8_char_size(BYTES(NULL, 0)), 0);
    assert_int_equal(CHAR_SIZE("\x80"), 0);             /* a tail alone */
    assert_int_equal(CHAR_SIZE("\xc1\xbf"), 0);         /* overlong */
    assert_int_equal(CHAR_SIZE("\xe0\x9f\xbf"), 0);     /* overlong */
    assert_int_equal(CHAR_SIZE("\xf0\x8f\xbf\xbf"), 0); /* overlong */
    assert_int_equal(CHAR_SIZE("\xed\xa0\x80"), 0);     /* a surrogate */
    assert_int_equal(CHAR_SIZE("\xf4\x90\x80\x80"), 0); /* above U+10FFFF */
    assert_int_equal(CHAR_SIZE("\xf5\x80\x80\x80"), 0);
    assert_int_equal(CHAR_SIZE("\xff"), 0);
    assert_int_equal(CHAR_SIZE("\xc2"), 0); /* cut short */
    assert_int_equal(CHAR_SIZE("\xe2\x82"), 0);
    assert_int_equal(CHAR_SIZE("\xf0\x9f\x98"), 0);
    assert_int_equal(CHAR_SIZE("\xc2z"), 0); /* another character instead of a tail */
    assert_int_equal(CHAR_SIZE("\xe2\x82z"), 0);
    assert_int_equal(CHAR_SIZE("\xf0\x9f\x98z"), 0);
}

static bool is_control(const char *text)
{
    return utf8_is_control(bytes_of_string(text));
}

static void controls_are_c0_del_and_c1(void **state)
{
    (void)state;
    assert_true(utf8_is_control(BYTES((const uint8_t *)"", 1)));
    assert_true(is_control("\x1f"));
    assert_false(is_control(" "));
    assert_false(is_control("~"));
    assert_true(is_control("\x7f"));
    assert_true(is_control("\xc2\x80"));
    assert_true(is_control("\xc2\x9f"));
    assert_false(is_control("\xc2\xa0"));
    assert_false(is_control("\xc3\x80"));
    assert_false(is_control("a\n")); /* only the first counts */
    assert_false(is_control("\xc2"));
    assert_false(utf8_is_control(BYTES(NULL, 0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_of_every_size),
        cmocka_unit_test(what_is_none),
        cmocka_unit_test(controls_are_c0_del_and_c1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
