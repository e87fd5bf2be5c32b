/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HASH_CRC32C_H
#define HASH_CRC32C_H

/*
 * crc32c: the Castagnoli CRC (RFC 3720, section 12.1; "123456789" gives 0xE3069283) by ISA-L, at
 * memory speed. It guards stored bytes against decay; it names nothing.
 */

#include <stdint.h>

#include "base/bytes.h"

/* The CRC of `data`; data.size is below 2^31. */
uint32_t crc32c(struct bytes data);

/* The CRC of each `span_bytes` of `data` (the last span may be shorter, none is 2^31 bytes or
 * more), into an array of so many. Some spans are read side by side, which fetches what is not in a
 * cache 1.3 times as fast as one after the other. */
void crc32c_spans(struct bytes data, size_t span_bytes, uint32_t *ret_crcs);

/* The same, and `data` is copied to `ret_copy` on the way: the CRCs are those of the copy, whatever
 * becomes of `data` meanwhile. The two do not overlap. */
void crc32c_copy(struct bytes data, size_t span_bytes, uint8_t *ret_copy, uint32_t *ret_crcs);

#endif
