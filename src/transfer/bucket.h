/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TRANSFER_BUCKET_H
#define TRANSFER_BUCKET_H

/*
 * bucket: a limit of a rate, as a bucket of tokens (Turner 1986) that may be overdrawn: what is
 * taken is whole blocks, so as long as something is in it one more is given, and the next one waits
 * until the debt is paid. Embedded; its fields are its own.
 *
 * Threads: one at a time.
 */

#include <stdbool.h>
#include <stdint.h>

/* It holds what comes in so long: so much may be taken at once after a rest. */
#define BUCKET_BURST_MS 50u

struct bucket {
    uint64_t rate_bytes_per_s; /* 0: no limit */
    int64_t credit_bytes;
    uint64_t filled_us;
};

/* From now on, with nothing in it; 0: no limit. */
void bucket_init(struct bucket *bucket, uint64_t now_us, uint64_t rate_bytes_per_s);
/* Something may be taken now. */
bool bucket_has(struct bucket *bucket, uint64_t now_us);
/* Also more than is in it. */
void bucket_take(struct bucket *bucket, uint64_t bytes_count);
/* It is overdrawn as far as is known: nothing may be taken before bucket_next_us(). */
bool bucket_is_empty(const struct bucket *bucket);
uint64_t bucket_next_us(const struct bucket *bucket);

#endif
