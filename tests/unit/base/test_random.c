/* SPDX-License-Identifier: Apache-2.0 */
#include "base/random.h"

#include <errno.h>
#include <sys/random.h>
#include <sys/syscall.h>

#include "base/mem.h"
#include "helpers.h"

static void numbers_are_those_of_the_reference(void **state)
{
    (void)state;
    /* From the authors' C code with this state; other implementations test against them too. */
    struct random random = {{1, 2, 3, 4}};
    const uint64_t expected[] = {
        11520,
        0,
        1509978240,
        1215971899390074240,
        1216172134540287360,
        607988272756665600,
        16172922978634559625U,
        8476171486693032832,
        10595114339597558777U,
        2904607092377533576,
    };
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
        assert_true(random_u64(&random) == expected[i]);
    }
}

static void seeding_is_that_of_the_reference(void **state)
{
    (void)state;
    /* The first outputs of splitmix64 from 0. */
    struct random random;
    random_init(&random, 0);
    assert_true(random.state[0] == 0xe220a8397b1dcdaf);
    assert_true(random.state[1] == 0x6e789e6aa1b965f4);
    assert_true(random.state[2] == 0x06c45d188009454f);
    assert_true(random.state[3] == 0xf88bb8a8724c81ec);
}

static void a_seed_repeats_and_another_differs(void **state)
{
    (void)state;
    struct random first;
    struct random same;
    struct random other;
    random_init(&first, 42);
    random_init(&same, 42);
    random_init(&other, 43);
    size_t equal_count = 0;
    for (int i = 0; i < 100; i++) {
        const uint64_t number = random_u64(&first);
        assert_true(number == random_u64(&same));
        equal_count += number == random_u64(&other);
    }
    assert_int_equal(equal_count, 0);
}

static void below_stays_below_and_reaches_all(void **state)
{
    (void)state;
    struct random random;
    random_init(&random, 1);
    unsigned counts[10] = {0};
    for (int i = 0; i < 100000; i++) {
        const uint64_t drawn = random_below(&random, 10);
        assert_in_range(drawn, 0, 9);
        counts[drawn]++;
    }
    for (size_t i = 0; i < 10; i++) {
        assert_in_range(counts[i], 9500, 10500);
    }
    for (int i = 0; i < 100; i++) {
        assert_int_equal(random_below(&random, 1), 0);
        assert_true(random_below(&random, UINT64_MAX) < UINT64_MAX);
    }
}

static void below_is_fair_for_large_bounds(void **state)
{
    (void)state;
    /* Of three quarters of 2^64 a plain remainder would give the first third every second time. */
    const uint64_t bound = 3ULL << 62;
    struct random random;
    random_init(&random, 2);
    unsigned first_third_count = 0;
    for (int i = 0; i < 30000; i++) {
        const uint64_t drawn = random_below(&random, bound);
        assert_true(drawn < bound);
        first_third_count += drawn < bound / 3;
    }
    assert_in_range(first_third_count, 9500, 10500);
}

static void draw_below_nothing(void)
{
    struct random random;
    random_init(&random, 1);
    random_below(&random, 0);
}

static void below_nothing_is_a_bug(void **state)
{
    (void)state;
    assert_aborts(draw_below_nothing, "event=check_failed");
}

static void unit_is_in_range_and_even(void **state)
{
    (void)state;
    struct random random;
    random_init(&random, 3);
    double sum = 0;
    double smallest = 1;
    double largest = 0;
    for (int i = 0; i < 100000; i++) {
        const double drawn = random_unit(&random);
        assert_true(drawn >= 0 && drawn < 1);
        sum += drawn;
        smallest = drawn < smallest ? drawn : smallest;
        largest = drawn > largest ? drawn : largest;
    }
    assert_true(sum > 49500 && sum < 50500);
    assert_true(smallest < 0.001 && largest > 0.999);
}

static void unit_of_the_largest_number_is_below_one(void **state)
{
    (void)state;
    /* This state's next number is 2^64 - 1: rotate(x * 5, 7) * 9 of it has all bits set. */
    uint64_t wanted = UINT64_MAX * 0x8e38e38e38e38e39U; /* the inverse of 9 */
    wanted = (wanted >> 7) | (wanted << 57);
    wanted *= 0xcccccccccccccccdU; /* the inverse of 5 */
    struct random random = {{1, wanted, 1, 1}};
    assert_true(random_u64(&random) == UINT64_MAX);
    random = (struct random){{1, wanted, 1, 1}};
    assert_true(random_unit(&random) < 1);
}

static void fill_fills_exactly_and_repeats(void **state)
{
    (void)state;
    uint8_t longest[48];
    struct random random;
    random_init(&random, 5);
    random_fill(&random, longest, sizeof longest);
    for (size_t size = 0; size < sizeof longest; size++) {
        uint8_t bytes[48];
        memset(bytes, 0xaa, sizeof bytes);
        random_init(&random, 5);
        random_fill(&random, bytes, size);
        assert_memory_equal(bytes, longest, size);
        for (size_t i = size; i < sizeof bytes; i++) {
            assert_int_equal(bytes[i], 0xaa);
        }
    }
    random = (struct random){{1, 2, 3, 4}};
    random_fill(&random, longest, 8);
    assert_memory_equal(longest, "\x00\x2d\0\0\0\0\0\0", 8); /* 11520, little-endian */
}

/* Stands before libc's: gives little at a time and is interrupted every other time. */
static size_t getrandom_calls_count;

ssize_t getrandom(void *data, size_t size, unsigned flags)
{
    getrandom_calls_count++;
    if (getrandom_calls_count % 2 == 0) {
        errno = EINTR;
        return -1;
    }
    return syscall(SYS_getrandom, data, size < 1000 ? size : 1000, flags);
}

static void system_fills_all_of_it_whatever_the_kernel_gives_at_once(void **state)
{
    (void)state;
    random_system(NULL, 0);
    const size_t size = 65537;
    uint8_t *first = mem_alloc(size);
    uint8_t *second = mem_alloc(size);
    random_system(first, size);
    random_system(second, size);
    size_t zeros_count = 0;
    size_t equal_count = 0;
    for (size_t i = 0; i < size; i++) {
        zeros_count += first[i] == 0;
        equal_count += first[i] == second[i];
    }
    /* 256 of each are to be expected. */
    assert_in_range(zeros_count, 100, 500);
    assert_in_range(equal_count, 100, 500);
    assert_in_range(getrandom_calls_count, 200, 400);
    free(first);
    free(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_those_of_the_reference),
        cmocka_unit_test(seeding_is_that_of_the_reference),
        cmocka_unit_test(a_seed_repeats_and_another_differs),
        cmocka_unit_test(below_stays_below_and_reaches_all),
        cmocka_unit_test(below_is_fair_for_large_bounds),
        cmocka_unit_test(below_nothing_is_a_bug),
        cmocka_unit_test(unit_is_in_range_and_even),
        cmocka_unit_test(unit_of_the_largest_number_is_below_one),
        cmocka_unit_test(fill_fills_exactly_and_repeats),
        cmocka_unit_test(system_fills_all_of_it_whatever_the_kernel_gives_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
