/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_RING_KEY_H
#define WIRE_RING_KEY_H

/*
 * ring_key: a place on the ring of keys: 160 bits, compared as big-endian numbers; clockwise is
 * upwards, and after the highest comes the lowest. Content stands at the first 160 bits of its id.
 */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "hash/id.h"

#define RING_KEY_BYTES 20

struct ring_key {
    uint8_t bytes[RING_KEY_BYTES];
};

static inline struct ring_key ring_key_of(const struct id *id)
{
    struct ring_key key;
    memcpy(key.bytes, id->bytes, sizeof key.bytes);
    return key;
}

static inline int ring_key_compare(const struct ring_key *a, const struct ring_key *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes);
}

static inline bool ring_key_equal(const struct ring_key *a, const struct ring_key *b)
{
    return ring_key_compare(a, b) == 0;
}

/* The next one; false, and the lowest, behind the highest. */
static inline bool ring_key_increment(struct ring_key *key)
{
    for (size_t i = sizeof key->bytes; i-- > 0;) {
        if (++key->bytes[i] != 0) {
            return true;
        }
    }
    return false;
}

#endif
