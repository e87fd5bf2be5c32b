/* SPDX-License-Identifier: Apache-2.0 */
#include "base/backoff.h"

#include <time.h>

#include "base/random.h"

uint64_t backoff_next_ms(struct backoff *backoff, uint64_t random)
{
    uint64_t wait_ms = backoff->first_ms;
    for (unsigned i = 0; i < backoff->failures && wait_ms < backoff->limit_ms; i++) {
        wait_ms *= 2;
    }
    wait_ms = wait_ms < backoff->limit_ms ? wait_ms : backoff->limit_ms;
    backoff->failures++;
    return wait_ms - random % (wait_ms / 4 + 1);
}

void backoff_wait(struct backoff *backoff)
{
    backoff_wait_up_to(backoff, UINT64_MAX);
}

void backoff_wait_up_to(struct backoff *backoff, uint64_t wait_ms_max)
{
    uint64_t random = 0;
    random_system(&random, sizeof random);
    const uint64_t next_ms = backoff_next_ms(backoff, random);
    const uint64_t wait_ms = next_ms < wait_ms_max ? next_ms : wait_ms_max;
    const struct timespec pause = {(time_t)(wait_ms / 1000), (long)(wait_ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
}
