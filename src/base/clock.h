/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

/*
 * clock: the time, handed in by the caller so that tests and the simulator can own it.
 *
 * Monotonic time is what artel decides by; wall time is for people only.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

struct clock {
    /* Milliseconds since some fixed point; never goes back. Callable from any thread. */
    uint64_t (*monotonic_ms)(const struct clock *clock);
    /* Milliseconds since 1970-01-01 UTC, as right as the machine's clock is. */
    int64_t (*wall_ms)(const struct clock *clock);
};

/* The machine's own; static, never freed. */
const struct clock *clock_real(void);

/* For pthread_cond_timedwait() until a moment of CLOCK_MONOTONIC, which no setting of the wall
 * clock moves. */
void clock_init_condition(pthread_cond_t *ret_condition);

/* Waits for such a condition until `until_us`, in microseconds of CLOCK_MONOTONIC; UINT64_MAX: as
 * long as it takes. 0: it was signalled, or for no reason, as pthread_cond_wait(); -ETIMEDOUT. */
int clock_wait_until(pthread_cond_t *condition, pthread_mutex_t *lock, uint64_t until_us);

/* A clock that moves when it is told to; its wall time is its monotonic time. */
struct clock_manual {
    struct clock clock;
    _Atomic uint64_t now_ms;
};

void clock_manual_init(struct clock_manual *manual, uint64_t now_ms);
void clock_manual_advance(struct clock_manual *manual, uint64_t by_ms);

static inline uint64_t clock_monotonic_ms(const struct clock *clock)
{
    return clock->monotonic_ms(clock);
}

static inline int64_t clock_wall_ms(const struct clock *clock)
{
    return clock->wall_ms(clock);
}

#endif
