/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

/*
 * random: a seeded generator for protocols and tests (xoshiro256**, Blackman and Vigna 2018;
 * seeded by splitmix64), and the kernel's for what nobody may guess.
 *
 * A generator belongs to one thread. The same seed gives the same numbers on every machine.
 */

#include <stddef.h>
#include <stdint.h>

struct random {
    uint64_t state[4];
};

void random_init(struct random *random, uint64_t seed);

uint64_t random_u64(struct random *random);

/* Uniform in [0, bound); bound is at least 1. */
uint64_t random_below(struct random *random, uint64_t bound);

/* Uniform in [0, 1). */
double random_unit(struct random *random);

void random_fill(struct random *random, void *data, size_t size_bytes);

/* From the kernel; blocks only before the machine has gathered entropy at boot; cannot fail. */
void random_system(void *data, size_t size_bytes);

#endif
