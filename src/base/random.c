/* SPDX-License-Identifier: Apache-2.0 */
#include "base/random.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/codec.h"
#include "base/mem.h"

/*
 * xoshiro256** 1.0 and splitmix64, after the public-domain code of David Blackman and Sebastiano
 * Vigna (https://prng.di.unimi.it/): 256 bits of state, period 2^256 - 1, no known bias, a
 * nanosecond a number. Not for secrets: a few outputs give the state away.
 */

static uint64_t splitmix64(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15;
    uint64_t mixed = *state;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return mixed ^ (mixed >> 31);
}

static uint64_t rotate_left(uint64_t value, unsigned bits)
{
    return (value << bits) | (value >> (64 - bits));
}

void random_init(struct random *random, uint64_t seed)
{
    /* splitmix64 is a bijection of a counter, so the state is never all zeros, the one state
     * that xoshiro cannot leave; and near seeds give unrelated states. */
    for (size_t i = 0; i < ARRAY_SIZE(random->state); i++) {
        random->state[i] = splitmix64(&seed);
    }
}

uint64_t random_u64(struct random *random)
{
    uint64_t *state = random->state;
    const uint64_t result = rotate_left(state[1] * 5, 7) * 9;
    const uint64_t shifted = state[1] << 17;

    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotate_left(state[3], 45);
    return result;
}

uint64_t random_below(struct random *random, uint64_t bound)
{
    CHECK(bound > 0);

    /* A plain remainder favours small numbers. Drop the first 2^64 mod bound values, so that
     * what is left is a whole number of runs of `bound`; fewer than one draw in two is lost. */
    const uint64_t dropped = (0 - bound) % bound;
    uint64_t drawn;
    do {
        drawn = random_u64(random);
    } while (drawn < dropped);
    return drawn % bound;
}

double random_unit(struct random *random)
{
    /* The upper 53 bits are all that a double holds. */
    return (double)(random_u64(random) >> 11) * 0x1.0p-53;
}

void random_fill(struct random *random, void *data, size_t size_bytes)
{
    /* Little-endian whatever the machine, so that a seed means the same bytes everywhere. */
    uint8_t *at = data;
    for (; size_bytes >= sizeof(uint64_t); size_bytes -= sizeof(uint64_t)) {
        codec_put_le64(at, random_u64(random));
        at += sizeof(uint64_t);
    }
    if (size_bytes > 0) {
        uint8_t last[sizeof(uint64_t)];
        codec_put_le64(last, random_u64(random));
        memcpy(at, last, size_bytes);
    }
}

void random_system(void *data, size_t size_bytes)
{
    uint8_t *at = data;
    while (size_bytes > 0) {
        const ssize_t got = getrandom(at, size_bytes, 0);
        if (got < 0) {
            /* Whoever asks for secrets cannot go on without: there is no second source. */
            CHECK(errno == EINTR);
            continue;
        }
        at += got;
        size_bytes -= (size_t)got;
    }
}
