/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/message_head.h"

#include <errno.h>

#include "wire/datagram.h"

void field_put_message_head(struct buf *message, uint8_t type)
{
    field_put_u8(message, DATAGRAM_MAJOR);
    field_put_u8(message, DATAGRAM_MINOR);
    field_put_u8(message, type);
}

int field_get_message_head(struct field_reader *reader, uint8_t *ret_type, bool *ret_is_exact)
{
    const uint8_t major = field_get_u8(reader);
    if (!reader->bad && major != DATAGRAM_MAJOR) {
        return -EPROTONOSUPPORT;
    }
    const uint8_t minor = field_get_u8(reader);
    const uint8_t type = field_get_u8(reader);
    if (reader->bad) {
        return -EPROTO;
    }
    *ret_type = type;
    *ret_is_exact = minor <= DATAGRAM_MINOR;
    return 0;
}
