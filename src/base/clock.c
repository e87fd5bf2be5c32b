/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <time.h>

#include "base/mem.h"

static struct timespec read_clock(clockid_t id)
{
    struct timespec now;
    CHECK(clock_gettime(id, &now) == 0);
    return now;
}

/* CLOCK_MONOTONIC stands still while the machine is suspended: a node that wakes up must not
 * believe that all others were silent for hours. */
static uint64_t real_monotonic_ms(const struct clock *clock)
{
    (void)clock;
    const struct timespec now = read_clock(CLOCK_MONOTONIC);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int64_t real_wall_ms(const struct clock *clock)
{
    (void)clock;
    const struct timespec now = read_clock(CLOCK_REALTIME);
    return (int64_t)now.tv_sec * 1000 + (int64_t)now.tv_nsec / 1000000;
}

const struct clock *clock_real(void)
{
    static const struct clock real = {
        .monotonic_ms = real_monotonic_ms,
        .wall_ms = real_wall_ms,
    };
    return &real;
}

static const struct clock_manual *manual_of(const struct clock *clock)
{
    /* Not CONTAINER_OF(), which would drop the const. */
    static_assert(offsetof(struct clock_manual, clock) == 0);
    return (const struct clock_manual *)(const void *)clock;
}

static uint64_t manual_monotonic_ms(const struct clock *clock)
{
    return atomic_load(&manual_of(clock)->now_ms);
}

static int64_t manual_wall_ms(const struct clock *clock)
{
    return (int64_t)atomic_load(&manual_of(clock)->now_ms);
}

void clock_manual_init(struct clock_manual *manual, uint64_t now_ms)
{
    manual->clock = (struct clock){
        .monotonic_ms = manual_monotonic_ms,
        .wall_ms = manual_wall_ms,
    };
    atomic_init(&manual->now_ms, now_ms);
}

void clock_manual_advance(struct clock_manual *manual, uint64_t by_ms)
{
    atomic_fetch_add(&manual->now_ms, by_ms);
}

void clock_init_condition(pthread_cond_t *ret_condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(ret_condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

int clock_wait_until(pthread_cond_t *condition, pthread_mutex_t *lock, uint64_t until_us)
{
    if (until_us == UINT64_MAX) {
        return -pthread_cond_wait(condition, lock);
    }
    const struct timespec until = {
        .tv_sec = (time_t)(until_us / 1000000),
        .tv_nsec = (long)(until_us % 1000000) * 1000,
    };
    return -pthread_cond_timedwait(condition, lock, &until);
}
