/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "transfer/bucket.h"

#define SECOND UINT64_C(1000000)
#define START (5 * SECOND)

/* Takes a block whenever it may; how many bytes until `end_us`. */
static uint64_t taken_until(struct bucket *bucket, uint64_t end_us, uint64_t block_bytes)
{
    uint64_t taken_bytes = 0;
    uint64_t now_us = START;
    while (now_us <= end_us) {
        while (bucket_has(bucket, now_us)) {
            bucket_take(bucket, block_bytes);
            taken_bytes += block_bytes;
        }
        const uint64_t next_us = bucket_next_us(bucket);
        assert_true(next_us > now_us);
        now_us = next_us;
    }
    return taken_bytes;
}

static void the_rate_is_kept_whatever_the_blocks(void **state)
{
    (void)state;
    static const uint64_t rates[] = {1000, 65536, 1000003, 1000000000};
    static const uint64_t blocks[] = {1000, 65536, 262144, 16777216};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        for (size_t j = 0; j < sizeof blocks / sizeof blocks[0]; j++) {
            struct bucket bucket;
            bucket_init(&bucket, START, rates[i]);
            const uint64_t seconds = 100 + 10 * blocks[j] / rates[i];
            const uint64_t expected = rates[i] * seconds;
            const uint64_t taken = taken_until(&bucket, START + seconds * SECOND, blocks[j]);
            assert_in_range(taken, expected - expected / 100 - blocks[j],
                            expected + expected / 100 + 2 * blocks[j]);
        }
    }
}

/* The debt of a large block is paid when it was said, though nobody looked meanwhile. */
static void a_long_debt_is_paid_in_its_time(void **state)
{
    (void)state;
    struct bucket bucket;
    bucket_init(&bucket, START, 65536);
    bucket_take(&bucket, 16777216);
    assert_true(bucket_is_empty(&bucket));
    assert_in_range(bucket_next_us(&bucket), START + 256 * SECOND, START + 257 * SECOND);
    assert_false(bucket_has(&bucket, START + 255 * SECOND));
    assert_true(bucket_has(&bucket, bucket_next_us(&bucket)));
}

static void a_rest_gives_a_burst_and_no_more(void **state)
{
    (void)state;
    struct bucket bucket;
    bucket_init(&bucket, START, 1000000);
    const uint64_t later_us = START + UINT64_MAX / 2;
    uint64_t taken_bytes = 0;
    while (bucket_has(&bucket, later_us)) {
        bucket_take(&bucket, 1000);
        taken_bytes += 1000;
    }
    assert_int_equal(taken_bytes, 1000000 * BUCKET_BURST_MS / 1000 + 1000);
}

static void without_a_limit_it_always_has(void **state)
{
    (void)state;
    struct bucket bucket;
    bucket_init(&bucket, START, 0);
    for (size_t i = 0; i < 100; i++) {
        bucket_take(&bucket, UINT64_MAX / 2);
        assert_true(bucket_has(&bucket, START));
        assert_false(bucket_is_empty(&bucket));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rate_is_kept_whatever_the_blocks),
        cmocka_unit_test(a_long_debt_is_paid_in_its_time),
        cmocka_unit_test(a_rest_gives_a_burst_and_no_more),
        cmocka_unit_test(without_a_limit_it_always_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
