/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"

#include "helpers.h"

static void string_gives_its_bytes_without_nul(void **state)
{
    (void)state;
    const struct bytes bytes = bytes_of_string("abc");
    assert_int_equal(bytes.size, 3);
    assert_memory_equal(bytes.data, "abc", 3);
    assert_int_equal(bytes_of_string("").size, 0);
}

static void equal_means_same_size_and_content(void **state)
{
    (void)state;
    assert_true(bytes_equal(bytes_of_string("abc"), bytes_of_string("abc")));
    assert_false(bytes_equal(bytes_of_string("abc"), bytes_of_string("abd")));
    assert_false(bytes_equal(bytes_of_string("abc"), bytes_of_string("ab")));
    assert_false(bytes_equal(bytes_of_string("ab"), bytes_of_string("abc")));
}

static void nothing_equals_nothing_wherever_it_is(void **state)
{
    (void)state;
    assert_true(bytes_equal(BYTES(NULL, 0), bytes_of_string("")));
    assert_int_equal(bytes_compare(BYTES(NULL, 0), bytes_of_string("")), 0);
    assert_true(bytes_compare(BYTES(NULL, 0), bytes_of_string("a")) < 0);
    assert_true(bytes_compare(bytes_of_string("a"), BYTES(NULL, 0)) > 0);
}

static void compare_orders_as_unsigned_bytes_prefix_first(void **state)
{
    (void)state;
    assert_int_equal(bytes_compare(bytes_of_string("abc"), bytes_of_string("abc")), 0);
    assert_true(bytes_compare(bytes_of_string("abc"), bytes_of_string("abd")) < 0);
    assert_true(bytes_compare(bytes_of_string("b"), bytes_of_string("abc")) > 0);
    assert_true(bytes_compare(bytes_of_string("ab"), bytes_of_string("abc")) < 0);
    assert_true(bytes_compare(bytes_of_string("abc"), bytes_of_string("ab")) > 0);

    const uint8_t high[] = {0xff};
    const uint8_t low[] = {0x01, 0x00};
    assert_true(bytes_compare(BYTES(high, 1), BYTES(low, 2)) > 0);
}

static void bytes_may_hold_nul(void **state)
{
    (void)state;
    const uint8_t a[] = {'x', 0, 'a'};
    const uint8_t b[] = {'x', 0, 'b'};
    assert_false(bytes_equal(BYTES(a, 3), BYTES(b, 3)));
    assert_true(bytes_compare(BYTES(a, 3), BYTES(b, 3)) < 0);
}

/* All sizes around those of words, and each place of the first difference. */
static void common_size_ends_at_the_first_difference(void **state)
{
    (void)state;
    uint8_t a[40];
    uint8_t b[40];
    memset(a, 'x', sizeof a);
    memset(b, 'x', sizeof b);
    for (size_t size = 0; size <= sizeof a; size++) {
        assert_int_equal(bytes_common_size(BYTES(a, size), BYTES(b, sizeof b)), size);
        assert_int_equal(bytes_common_size(BYTES(a, sizeof a), BYTES(b, size)), size);
        for (size_t place = 0; place < size; place++) {
            b[place] = 'y';
            assert_int_equal(bytes_common_size(BYTES(a, size), BYTES(b, size)), place);
            b[place] = 'x';
        }
    }
    assert_int_equal(bytes_common_size(BYTES(NULL, 0), BYTES(a, 9)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(string_gives_its_bytes_without_nul),
        cmocka_unit_test(equal_means_same_size_and_content),
        cmocka_unit_test(nothing_equals_nothing_wherever_it_is),
        cmocka_unit_test(compare_orders_as_unsigned_bytes_prefix_first),
        cmocka_unit_test(bytes_may_hold_nul),
        cmocka_unit_test(common_size_ends_at_the_first_difference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
