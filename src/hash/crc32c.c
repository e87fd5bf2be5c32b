/* SPDX-License-Identifier: Apache-2.0 */
#include "hash/crc32c.h"

#include <isa-l/crc.h>
#include <limits.h>

#include "base/mem.h"

uint32_t crc32c(struct bytes data)
{
    CHECK(data.size <= INT_MAX);

    /* ISA-L leaves both inversions of RFC 3720 to its caller, and does not write to the buffer
     * although it does not say const. */
    unsigned char *from = (unsigned char *)(uintptr_t)data.data;
    return ~crc32_iscsi(from, (int)data.size, UINT32_MAX);
}
