/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <errno.h>
#include <time.h>

#include "helpers.h"

static void real_time_passes_and_never_goes_back(void **state)
{
    (void)state;
    const struct clock *clock = clock_real();
    const uint64_t begin_ms = clock_monotonic_ms(clock);
    uint64_t before_ms = begin_ms;
    for (int i = 0; i < 1000; i++) {
        const uint64_t now_ms = clock_monotonic_ms(clock);
        assert_true(now_ms >= before_ms);
        before_ms = now_ms;
    }
    usleep(30 * 1000);
    const uint64_t passed_ms = clock_monotonic_ms(clock) - begin_ms;
    assert_in_range(passed_ms, 29, 20000);
}

static void real_time_is_the_kernels_in_milliseconds(void **state)
{
    (void)state;
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
    const uint64_t kernel_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    assert_in_range(clock_monotonic_ms(clock_real()), kernel_ms, kernel_ms + 5000);
}

static void real_wall_time_is_the_machines(void **state)
{
    (void)state;
    const int64_t wall_s = clock_wall_ms(clock_real()) / 1000;
    const int64_t now_s = time(NULL);
    assert_true(wall_s >= now_s - 5 && wall_s <= now_s + 5);
}

static void manual_moves_when_told_to(void **state)
{
    (void)state;
    struct clock_manual manual;
    clock_manual_init(&manual, 500);
    assert_int_equal(clock_monotonic_ms(&manual.clock), 500);
    assert_int_equal(clock_monotonic_ms(&manual.clock), 500);
    clock_manual_advance(&manual, 250);
    assert_int_equal(clock_monotonic_ms(&manual.clock), 750);
    assert_int_equal(clock_wall_ms(&manual.clock), 750);
    clock_manual_advance(&manual, UINT32_MAX);
    assert_true(clock_monotonic_ms(&manual.clock) == 750 + (uint64_t)UINT32_MAX);
}

static void manual_clocks_are_apart(void **state)
{
    (void)state;
    struct clock_manual first;
    struct clock_manual second;
    clock_manual_init(&first, 1);
    clock_manual_init(&second, 100);
    clock_manual_advance(&first, 1);
    assert_int_equal(clock_monotonic_ms(&first.clock), 2);
    assert_int_equal(clock_monotonic_ms(&second.clock), 100);
}

struct signaler {
    pthread_mutex_t lock;
    pthread_cond_t came;
    bool has_come;
};

static void *signal_it(void *context)
{
    struct signaler *signaler = context;
    pthread_mutex_lock(&signaler->lock);
    signaler->has_come = true;
    pthread_cond_signal(&signaler->came);
    pthread_mutex_unlock(&signaler->lock);
    return NULL;
}

static void a_wait_ends_by_a_signal_or_in_time(void **state)
{
    (void)state;
    struct signaler signaler = {.lock = PTHREAD_MUTEX_INITIALIZER};
    clock_init_condition(&signaler.came);
    pthread_mutex_lock(&signaler.lock);
    const uint64_t begin_ms = clock_monotonic_ms(clock_real());
    int err = 0;
    while (!err) {
        err = clock_wait_until(&signaler.came, &signaler.lock, begin_ms * 1000 + 30000);
    }
    assert_int_equal(err, -ETIMEDOUT);
    assert_true(clock_monotonic_ms(clock_real()) >= begin_ms + 29);
    assert_int_equal(clock_wait_until(&signaler.came, &signaler.lock, 0), -ETIMEDOUT);

    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, signal_it, &signaler), 0);
    while (!signaler.has_come) {
        assert_int_equal(clock_wait_until(&signaler.came, &signaler.lock, UINT64_MAX), 0);
    }
    pthread_mutex_unlock(&signaler.lock);
    pthread_join(thread, NULL);
    pthread_cond_destroy(&signaler.came);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_time_passes_and_never_goes_back),
        cmocka_unit_test(real_time_is_the_kernels_in_milliseconds),
        cmocka_unit_test(real_wall_time_is_the_machines),
        cmocka_unit_test(manual_moves_when_told_to),
        cmocka_unit_test(manual_clocks_are_apart),
        cmocka_unit_test(a_wait_ends_by_a_signal_or_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
