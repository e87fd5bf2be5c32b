/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "wire/node_id.h"

static const char *const sample_hex = "0123456789abcdeffedcba98765432100f1e2d3c";
static const struct node_id sample = {{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc,
                                       0xba, 0x98, 0x76, 0x54, 0x32, 0x10, 0x0f, 0x1e, 0x2d, 0x3c}};

static void has_one_text(void **state)
{
    (void)state;
    char hex[NODE_ID_HEX_CHARS + 1];
    node_id_format(&sample, hex);
    assert_string_equal(hex, sample_hex);

    struct node_id id;
    assert_int_equal(node_id_parse(bytes_of_string(sample_hex), &id), 0);
    assert_true(node_id_equal(&id, &sample));
}

static void refuses_other_texts(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "0123456789abcdeffedcba98765432100f1e2d3",    /* a digit less */
        "0123456789abcdeffedcba98765432100f1e2d3c4",  /* a digit more */
        "0123456789abcdeffedcba98765432100f1e2d3c4b", /* a byte more */
        "0123456789ABCDEFfedcba98765432100f1e2d3c",   /* upper case */
        "0x23456789abcdeffedcba98765432100f1e2d3c",   /* a prefix */
        " 123456789abcdeffedcba98765432100f1e2d3c",   /* a space */
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct node_id id = sample;
        assert_int_equal(node_id_parse(bytes_of_string(texts[i]), &id), -EINVAL);
        assert_true(node_id_equal(&id, &sample));
    }
}

static void order_is_that_of_big_endian_numbers(void **state)
{
    (void)state;
    for (size_t i = 0; i < NODE_ID_BYTES; i++) {
        struct node_id higher = sample;
        higher.bytes[i]++;
        if (i + 1 < NODE_ID_BYTES) {
            higher.bytes[i + 1] = 0; /* weighs less */
        }
        assert_true(node_id_compare(&sample, &higher) < 0);
        assert_true(node_id_compare(&higher, &sample) > 0);
        assert_false(node_id_equal(&sample, &higher));
    }
    assert_int_equal(node_id_compare(&sample, &sample), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_one_text),
        cmocka_unit_test(refuses_other_texts),
        cmocka_unit_test(order_is_that_of_big_endian_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
