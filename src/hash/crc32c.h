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

#endif
