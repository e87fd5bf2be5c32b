/* SPDX-License-Identifier: Apache-2.0 */
#include "store/touched_priv.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/codec.h"
#include "base/mem.h"

/* 4 Mi bits in 512 KiB: with 400,000 blocks of 256 KiB (100 GB of cache) read in a round, one in
 * ten is kept a round too long. */
#define TOUCHED_BITS ((uint32_t)1 << 22)

struct touched {
    _Atomic uint64_t words[TOUCHED_BITS / 64];
};

struct touched *touched_new(void)
{
    return mem_alloc(sizeof(struct touched));
}

void touched_free(struct touched *touched)
{
    free(touched);
}

static uint32_t bit_of(const struct id *id)
{
    return codec_get_le32(id->bytes) % TOUCHED_BITS;
}

void touched_add(struct touched *touched, const struct id *id)
{
    const uint32_t bit = bit_of(id);
    const uint64_t mask = UINT64_C(1) << bit % 64;
    _Atomic uint64_t *word = &touched->words[bit / 64];
    /* Mostly it is set already; a load does not take the cache line from the others. */
    if ((atomic_load_explicit(word, memory_order_relaxed) & mask) == 0) {
        atomic_fetch_or_explicit(word, mask, memory_order_relaxed);
    }
}

bool touched_take(struct touched *touched, const struct id *id)
{
    const uint32_t bit = bit_of(id);
    const uint64_t mask = UINT64_C(1) << bit % 64;
    return (atomic_fetch_and_explicit(&touched->words[bit / 64], ~mask, memory_order_relaxed) &
            mask) != 0;
}
