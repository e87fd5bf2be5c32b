/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/bucket.h"

#define SECOND UINT64_C(1000000)

void bucket_init(struct bucket *bucket, uint64_t now_us, uint64_t rate_bytes_per_s)
{
    *bucket = (struct bucket){.rate_bytes_per_s = rate_bytes_per_s, .filled_us = now_us};
}

static void fill(struct bucket *bucket, uint64_t now_us)
{
    const uint64_t rate = bucket->rate_bytes_per_s;
    const uint64_t us = now_us > bucket->filled_us ? now_us - bucket->filled_us : 0;
    /* What would overflow is more than any debt. */
    const uint64_t more = us > UINT64_MAX / rate ? UINT64_MAX / SECOND : us * rate / SECOND;
    if (more == 0) {
        return; /* it adds up to a byte later */
    }
    const int64_t burst_bytes = (int64_t)(rate / (1000 / BUCKET_BURST_MS));
    const int64_t credit_bytes = bucket->credit_bytes + (int64_t)more;
    bucket->credit_bytes = credit_bytes < burst_bytes ? credit_bytes : burst_bytes;
    bucket->filled_us = now_us;
}

bool bucket_has(struct bucket *bucket, uint64_t now_us)
{
    if (bucket->rate_bytes_per_s > 0) {
        fill(bucket, now_us);
    }
    return !bucket_is_empty(bucket);
}

void bucket_take(struct bucket *bucket, uint64_t bytes_count)
{
    if (bucket->rate_bytes_per_s > 0) {
        bucket->credit_bytes -= (int64_t)bytes_count;
    }
}

bool bucket_is_empty(const struct bucket *bucket)
{
    return bucket->credit_bytes < 0;
}

uint64_t bucket_next_us(const struct bucket *bucket)
{
    if (!bucket_is_empty(bucket)) {
        return bucket->filled_us;
    }
    const uint64_t lacking_bytes = (uint64_t)-bucket->credit_bytes;
    return bucket->filled_us + lacking_bytes * SECOND / bucket->rate_bytes_per_s + 1;
}
