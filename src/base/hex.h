/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_HEX_H
#define BASE_HEX_H

/*
 * hex: bytes as text, two lower-case hex digits each. What was written has one spelling: the
 * parser takes no upper case, no prefix and no space.
 */

#include "base/bytes.h"

/* Writes 2 * `size` digits and a NUL. */
void hex_format(const uint8_t *bytes, size_t size, char *ret_hex);

/* Exactly 2 * `size` digits and nothing else; else -EINVAL. `hex` need not end with NUL. */
[[nodiscard]] int hex_parse(struct bytes hex, size_t size, uint8_t *ret_bytes);

#endif
