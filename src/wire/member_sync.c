/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/member_sync.h"

#include <errno.h>

#include "base/mem.h"
#include "wire/message_head.h"

void member_sync_format(const struct member_sync *sync, struct buf *ret_bytes)
{
    CHECK(sync->type >= MEMBER_SYNC_OPEN && sync->type <= MEMBER_SYNC_CLOSE);

    field_put_message_head(ret_bytes, (uint8_t)sync->type);
    if (sync->type == MEMBER_SYNC_OPEN) {
        for (size_t i = 0; i < MEMBER_BUCKETS; i++) {
            field_put_u64(ret_bytes, sync->digests[i]);
        }
    }
    if (sync->type == MEMBER_SYNC_ANSWER) {
        buf_add(ret_bytes, BYTES(sync->buckets, sizeof sync->buckets));
    }
}

/* The rest of the message, if it is nothing but updates in form. */
static struct bytes get_updates(struct field_reader *reader)
{
    const struct bytes updates = reader->left;
    struct member_update update;
    while (field_get_member_update(reader, &update)) {
    }
    return updates;
}

static void get_fields(struct field_reader *reader, struct member_sync *sync)
{
    switch (sync->type) {
    case MEMBER_SYNC_OPEN:
        for (size_t i = 0; i < MEMBER_BUCKETS; i++) {
            sync->digests[i] = field_get_u64(reader);
        }
        break;
    case MEMBER_SYNC_ANSWER: {
        const struct bytes buckets = field_get_raw(reader, sizeof sync->buckets);
        if (buckets.size == sizeof sync->buckets) {
            memcpy(sync->buckets, buckets.data, buckets.size);
        }
        sync->updates = get_updates(reader);
        break;
    }
    case MEMBER_SYNC_CLOSE:
        sync->updates = get_updates(reader);
        break;
    }
}

int member_sync_parse(struct bytes bytes, struct member_sync *ret_sync)
{
    if (bytes.size > MEMBER_SYNC_BYTES_MAX) {
        return -EFBIG;
    }
    struct field_reader reader = field_reader_of(bytes);
    uint8_t type = 0;
    bool is_exact = false;
    const int err = field_get_message_head(&reader, &type, &is_exact);
    if (err) {
        return err;
    }
    if (type < MEMBER_SYNC_OPEN || type > MEMBER_SYNC_CLOSE) {
        return -EPROTONOSUPPORT;
    }
    struct member_sync sync = {.type = (enum member_sync_type)type};
    get_fields(&reader, &sync);
    if (reader.bad || (reader.left.size > 0 && is_exact)) {
        return -EPROTO;
    }
    *ret_sync = sync;
    return 0;
}
