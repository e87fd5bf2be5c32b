/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HASH_ID_H
#define HASH_ID_H

/*
 * id: the name of content, the SHA-256 of its bytes (FIPS 180-4). Blocks are named by their own
 * bytes, file versions by those of their metadata text.
 */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/bytes.h"

#define ID_BYTES 32
#define ID_HEX_CHARS 64 /* without the NUL */

struct id {
    uint8_t bytes[ID_BYTES];
};

static inline bool id_equal(const struct id *a, const struct id *b)
{
    return memcmp(a->bytes, b->bytes, ID_BYTES) == 0;
}

/* The bytes of `id`, borrowed. */
static inline struct bytes id_bytes(const struct id *id)
{
    return BYTES(id->bytes, ID_BYTES);
}

/* Writes 64 lower-case hex digits and a NUL. */
void id_format(const struct id *id, char ret_hex[ID_HEX_CHARS + 1]);

/* Exactly 64 lower-case hex digits, nothing else; else -EINVAL. `text` need not end with NUL. */
[[nodiscard]] int id_parse(struct bytes text, struct id *ret_id);

#endif
