/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FUZZ_UPDATES_H
#define TESTS_FUZZ_UPDATES_H

/* What fuzz targets of messages with member updates share. */

#include "base/codec.h"
#include "base/mem.h"
#include "wire/member.h"

/* True if `part` lies within `whole`: nothing that was parsed points elsewhere. */
static inline bool is_within(struct bytes part, struct bytes whole)
{
    return part.size == 0 || (part.data >= whole.data && part.size <= whole.size &&
                              part.data - whole.data <= (ptrdiff_t)(whole.size - part.size));
}

/* Of a status, behind its size: kind, id, version, age. */
#define STATUS_FIELDS_BYTES (1u + NODE_ID_BYTES + MEMBER_VERSION_BYTES + 4u)

/* The size of the fields that are known of an update of kind 2 whose fields `fields` begins with.
 */
static inline size_t record_fields_bytes(struct bytes fields)
{
    size_t bytes = STATUS_FIELDS_BYTES;
    bytes += fields.data[bytes] == 4 ? 1 + 4 + 2 : 1 + 16 + 2;
    bytes += 8 + 1;
    bytes += 2u + codec_get_le16(fields.data + bytes);
    bytes += 2u + codec_get_le16(fields.data + bytes);
    CHECK(bytes <= fields.size);
    return bytes;
}

/* Appends well-formed updates without what they have beyond our version: other kinds, and bytes
 * behind the last known field. It reads them by hand, not as wire/member.c does. */
static inline void add_known(struct buf *known, struct bytes updates)
{
    size_t at = 0;
    while (at < updates.size) {
        const size_t size = codec_get_le16(updates.data + at);
        const struct bytes fields = BYTES(updates.data + at + 2, size);
        CHECK(fields.size > 0 && is_within(fields, updates));
        at += 2 + size;
        if (fields.data[0] > 2) {
            continue;
        }
        const size_t known_bytes =
            fields.data[0] == 1 ? STATUS_FIELDS_BYTES : record_fields_bytes(fields);
        codec_put_le16(buf_extend(known, 2), (uint16_t)known_bytes);
        buf_add(known, BYTES(fields.data, known_bytes));
    }
}

/* What was read of a member is what other code counts on. */
static inline void check_update(const struct member_update *update, struct bytes message)
{
    CHECK(member_update_is_valid(update));
    CHECK(member_update_bytes(update) <= MEMBER_UPDATE_BYTES_MAX);
    CHECK(is_within(update->record.name, message) && is_within(update->record.zone, message));
}

#endif
