/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/node_id.h"

#include "base/hex.h"

void node_id_format(const struct node_id *id, char ret_hex[NODE_ID_HEX_CHARS + 1])
{
    hex_format(id->bytes, sizeof id->bytes, ret_hex);
}

int node_id_parse(struct bytes hex, struct node_id *ret_id)
{
    return hex_parse(hex, sizeof ret_id->bytes, ret_id->bytes);
}

void field_put_node_id(struct buf *message, const struct node_id *id)
{
    buf_add(message, BYTES(id->bytes, sizeof id->bytes));
}

struct node_id field_get_node_id(struct field_reader *reader)
{
    struct node_id id = {0};
    const struct bytes raw = field_get_raw(reader, sizeof id.bytes);
    if (raw.size == sizeof id.bytes) {
        memcpy(id.bytes, raw.data, sizeof id.bytes);
    }
    return id;
}
