/* SPDX-License-Identifier: Apache-2.0 */

/* An id that parses is written again as the very same text; one that does not leaves the output
 * alone. */

#include "base/mem.h"
#include "fuzz.h"
#include "hash/id.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct bytes text = BYTES(data, size);
    const struct id before = {{0x55}};
    struct id id = before;
    if (id_parse(text, &id) != 0) {
        CHECK(id_equal(&id, &before));
        return 0;
    }
    char hex[ID_HEX_CHARS + 1];
    id_format(&id, hex);
    CHECK(bytes_equal(bytes_of_string(hex), text));
    return 0;
}
