/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_BACKOFF_H
#define BASE_BACKOFF_H

/*
 * backoff: how long to wait before the next attempt: twice as long each time, up to a limit, less
 * a random part of up to a quarter, so that many who lost the same node do not come back at once.
 */

#include <stdint.h>

struct backoff {
    uint64_t first_ms;
    uint64_t limit_ms;
    unsigned failures; /* in a row */
};

/* Counts a failure and tells the time to wait. `random` is any number. */
uint64_t backoff_next_ms(struct backoff *backoff, uint64_t random);

/* The same with a random number of the system's, and waits. */
void backoff_wait(struct backoff *backoff);
/* The same, but no longer than this. */
void backoff_wait_up_to(struct backoff *backoff, uint64_t wait_ms_max);

#endif
