/* SPDX-License-Identifier: Apache-2.0 */

/* What parses formats back to the same bytes, without what later versions have added to it. */

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "fuzz.h"
#include "updates.h"
#include "wire/datagram.h"
#include "wire/member_sync.h"

#define MINOR_AT 1

/* All updates, through the parser and the formatter. */
static void add_formatted(struct buf *formatted, struct bytes updates)
{
    struct field_reader reader = field_reader_of(updates);
    struct member_update update;
    while (field_get_member_update(&reader, &update)) {
        check_update(&update, updates);
        field_put_member_update(formatted, &update);
    }
    CHECK(field_reader_ended(&reader));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct bytes bytes = BYTES(data, size);
    struct member_sync sync = {.updates = BYTES(NULL, 0x5555)};
    const int err = member_sync_parse(bytes, &sync);
    if (err) {
        CHECK(err == -EPROTO || err == -EPROTONOSUPPORT || err == -EFBIG);
        CHECK(sync.updates.size == 0x5555);
        return 0;
    }
    CHECK(is_within(sync.updates, bytes));

    CLEANUP_BUF struct buf formatted = BUF_INIT;
    member_sync_format(&sync, &formatted);
    const size_t head_bytes = formatted.size;
    CHECK(head_bytes + sync.updates.size <= size);
    add_formatted(&formatted, sync.updates);
    if (bytes.data[MINOR_AT] == DATAGRAM_MINOR) {
        CHECK(head_bytes + sync.updates.size == size);
        CLEANUP_BUF struct buf expected = BUF_INIT;
        buf_add(&expected, BYTES(data, head_bytes));
        add_known(&expected, sync.updates);
        CHECK(bytes_equal(buf_bytes(&formatted), buf_bytes(&expected)));
    }
    struct member_sync again;
    CHECK(member_sync_parse(buf_bytes(&formatted), &again) == 0);
    CHECK(again.type == sync.type);
    return 0;
}
