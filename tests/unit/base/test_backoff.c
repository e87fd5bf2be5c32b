/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/backoff.h"

static void it_doubles_up_to_the_limit(void **state)
{
    (void)state;
    struct backoff backoff = {.first_ms = 100, .limit_ms = 1000};
    static const uint64_t expected[] = {100, 200, 400, 800, 1000, 1000, 1000};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        assert_int_equal(backoff_next_ms(&backoff, 0), expected[i]);
    }
    /* However often it fails. */
    backoff.failures = UINT32_MAX - 1;
    assert_int_equal(backoff_next_ms(&backoff, 0), 1000);
    backoff.failures = 0;
    assert_int_equal(backoff_next_ms(&backoff, 0), 100);
}

static void a_quarter_is_random(void **state)
{
    (void)state;
    for (uint64_t random = 0; random < 1000; random++) {
        struct backoff backoff = {.first_ms = 100, .limit_ms = 1000};
        assert_in_range(backoff_next_ms(&backoff, random), 75, 100);
    }
}

static void no_longer_than_the_caller_has_time(void **state)
{
    (void)state;
    struct backoff backoff = {.first_ms = 3600 * 1000, .limit_ms = 3600 * 1000};
    backoff_wait_up_to(&backoff, 1);
    assert_int_equal(backoff.failures, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_doubles_up_to_the_limit),
        cmocka_unit_test(a_quarter_is_random),
        cmocka_unit_test(no_longer_than_the_caller_has_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
