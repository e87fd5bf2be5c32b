/* SPDX-License-Identifier: Apache-2.0 */

/* What parses formats back to the same bytes, without what later versions have added to it. The
 * first byte of the input says which way it came: odd, by a broadcast. */

#include <errno.h>

#include "base/mem.h"
#include "fuzz.h"
#include "updates.h"
#include "wire/datagram.h"
#include "wire/tree_message.h"

#define MINOR_AT 1

static void add_list(struct buf *formatted, const struct tree_message *message)
{
    struct bytes list = message->list;
    struct tree_message_entry entry;
    struct tree_lack lack;
    struct bytes op;
    switch (message->type) {
    case TREE_MESSAGE_PART:
        while (tree_message_next_entry(&list, &entry)) {
            CHECK(entry.seq > 0);
            tree_message_put_entry(formatted, &entry);
        }
        break;
    case TREE_MESSAGE_WANT:
        while (tree_message_next_lack(&list, &lack)) {
            CHECK(lack.through_seq > lack.after_seq);
            tree_message_put_lack(formatted, &lack);
        }
        break;
    case TREE_MESSAGE_OPS:
    case TREE_MESSAGE_SPREAD_OPS:
        while (tree_message_next_op(&list, &op)) {
            CHECK(op.size > 0 && is_within(op, message->list));
            tree_message_put_op(formatted, op);
        }
        break;
    default:
        break;
    }
    CHECK(list.size == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    const bool is_broadcast = data[0] % 2 == 1;
    const struct bytes bytes = BYTES(data + 1, size - 1);
    struct tree_message message = {.number = 0x5555};
    const int err = tree_message_parse(bytes, is_broadcast, &message);
    if (err) {
        CHECK(err == -EPROTO || err == -EPROTONOSUPPORT || err == -EFBIG);
        CHECK(message.number == 0x5555);
        return 0;
    }
    CHECK(is_within(message.list, bytes) && is_within(message.bytes, bytes));
    CHECK(message.bytes.size <= TREE_PIECE_BYTES_MAX);

    CLEANUP_BUF struct buf formatted = BUF_INIT;
    tree_message_format(&message, &formatted);
    add_list(&formatted, &message);
    CHECK(formatted.size <= bytes.size);
    CHECK(formatted.size == bytes.size || bytes.data[MINOR_AT] > DATAGRAM_MINOR);
    formatted.data[MINOR_AT] = bytes.data[MINOR_AT];
    CHECK(memcmp(formatted.data, bytes.data, formatted.size) == 0);
    return 0;
}
