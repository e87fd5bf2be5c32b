/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_KEEP_MESSAGE_H
#define WIRE_KEEP_MESSAGE_H

/*
 * keep_message: what nodes say to each other about copies that one wants others to keep.
 *
 * Major u8, minor u8, type u8, then
 *
 *   KEEP     number u64, files: fetch these and keep them
 *   KEPT     number u64, verdict u8, kept u32: so many of them are whole and durable here
 *   RELEASE  number u64: what of them has not come need not come any more
 *
 * with file = its id, 32 bytes. The list runs up to the end. Fields as in wire/fields.h; versions
 * are treated as in wire/datagram.h, but a list at the end leaves no room behind it.
 */

#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "hash/id.h"

/* Of one KEEP: half a megabyte. */
#define KEEP_FILES_MAX 16384u

enum keep_message_type {
    KEEP_KEEP = 1,
    KEEP_KEPT = 2,
    KEEP_RELEASE = 3,
};

enum keep_verdict {
    KEEP_WORKING = 1, /* said at once, and again and again */
    KEEP_DONE = 2,
    KEEP_REFUSED = 3, /* has no room, or too much to do; or could not get one of them */
};

/* One message; only the fields of its type are used. The list is borrowed. */
struct keep_message {
    enum keep_message_type type;
    uint64_t number; /* the asker's */
    enum keep_verdict verdict;
    uint32_t kept;
    struct bytes files; /* ID_BYTES each, at least one */
};

void keep_message_format(const struct keep_message *message, struct buf *ret_bytes);

/* -EPROTO: malformed; -EPROTONOSUPPORT: of another major version or an unknown type. *ret_message
 * is untouched after a failure. */
[[nodiscard]] int keep_message_parse(struct bytes bytes, struct keep_message *ret_message);

#endif
