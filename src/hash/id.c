/* SPDX-License-Identifier: Apache-2.0 */
#include "hash/id.h"

#include "base/hex.h"

void id_format(const struct id *id, char ret_hex[ID_HEX_CHARS + 1])
{
    hex_format(id->bytes, sizeof id->bytes, ret_hex);
}

int id_parse(struct bytes text, struct id *ret_id)
{
    return hex_parse(text, sizeof ret_id->bytes, ret_id->bytes);
}
