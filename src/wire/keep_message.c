/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/keep_message.h"

#include <errno.h>

#include "wire/message_head.h"

void keep_message_format(const struct keep_message *message, struct buf *ret_bytes)
{
    field_put_message_head(ret_bytes, (uint8_t)message->type);
    field_put_u64(ret_bytes, message->number);
    switch (message->type) {
    case KEEP_KEEP:
        buf_add(ret_bytes, message->files);
        break;
    case KEEP_KEPT:
        field_put_u8(ret_bytes, (uint8_t)message->verdict);
        field_put_u32(ret_bytes, message->kept);
        break;
    case KEEP_RELEASE:
        break;
    }
}

int keep_message_parse(struct bytes bytes, struct keep_message *ret_message)
{
    struct field_reader reader = field_reader_of(bytes);
    uint8_t type = 0;
    bool is_exact = false;
    const int err = field_get_message_head(&reader, &type, &is_exact);
    if (err) {
        return err;
    }
    if (type < KEEP_KEEP || type > KEEP_RELEASE) {
        return -EPROTONOSUPPORT;
    }
    struct keep_message message = {.type = (enum keep_message_type)type};
    message.number = field_get_u64(&reader);
    if (type == KEEP_KEEP) {
        message.files = field_get_raw(&reader, reader.left.size);
        const size_t count = message.files.size / ID_BYTES;
        if (count == 0 || count > KEEP_FILES_MAX || message.files.size % ID_BYTES != 0) {
            field_fail(&reader);
        }
    } else if (type == KEEP_KEPT) {
        const uint8_t verdict = field_get_u8(&reader);
        message.kept = field_get_u32(&reader);
        if (verdict < KEEP_WORKING || verdict > KEEP_REFUSED || message.kept > KEEP_FILES_MAX) {
            field_fail(&reader);
        }
        message.verdict = (enum keep_verdict)verdict;
    }
    if (reader.bad || (reader.left.size > 0 && is_exact)) {
        return -EPROTO;
    }
    *ret_message = message;
    return 0;
}
