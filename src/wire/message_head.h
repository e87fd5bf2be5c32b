/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_MESSAGE_HEAD_H
#define WIRE_MESSAGE_HEAD_H

/*
 * message_head: how messages over connections, and payloads of broadcasts, begin: major u8, minor
 * u8, type u8. The versions are those of wire/datagram.h.
 */

#include <stdint.h>

#include "base/buf.h"
#include "base/mem.h"
#include "wire/fields.h"

#define MESSAGE_HEAD_BYTES 3u
#define MESSAGE_MINOR_AT 1u

void field_put_message_head(struct buf *message, uint8_t type);

/* *ret_is_exact: of no later minor version than ours, so that nothing stands behind the known
 * fields. -EPROTO: cut off; -EPROTONOSUPPORT: of another major version. */
[[nodiscard]] int field_get_message_head(struct field_reader *reader, uint8_t *ret_type,
                                         bool *ret_is_exact);

/* The body of a function that takes the next element off a list that was looked at when it was
 * parsed: `get` reads it from `reader`. False: the list is at its end. */
#define FIELD_LIST_NEXT(list, get)                                                                 \
    do {                                                                                           \
        if ((list)->size == 0) {                                                                   \
            return false;                                                                          \
        }                                                                                          \
        struct field_reader reader = field_reader_of(*(list));                                     \
        get;                                                                                       \
        CHECK(!reader.bad);                                                                        \
        *(list) = reader.left;                                                                     \
        return true;                                                                               \
    } while (0)

#endif
