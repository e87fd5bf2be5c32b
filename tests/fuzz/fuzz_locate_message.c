/* SPDX-License-Identifier: Apache-2.0 */

/* What parses formats back to the same bytes, without what later versions have added to it. The
 * first byte of the input says which way it came: odd, by a broadcast. */

#include <errno.h>

#include "base/mem.h"
#include "fuzz.h"
#include "updates.h"
#include "wire/datagram.h"
#include "wire/locate_message.h"

#define MINOR_AT 1

static void add_list(struct buf *formatted, const struct locate_message *message)
{
    struct bytes list = message->list;
    struct locate_held held;
    struct locate_held_by holder;
    struct ring_key key;
    enum locate_state state;
    switch (message->type) {
    case LOCATE_TELL:
    case LOCATE_ARC:
        while (locate_message_next_held(&list, &held)) {
            locate_message_put_held(formatted, &held);
        }
        break;
    case LOCATE_FOUND:
        while (locate_message_next_holder(&list, &holder)) {
            CHECK(holder.state != LOCATE_NONE);
            locate_message_put_holder(formatted, &holder);
        }
        break;
    case LOCATE_WHO_HAS:
        while (locate_message_next_key(&list, &key)) {
            locate_message_put_key(formatted, &key);
        }
        break;
    case LOCATE_HAVE:
        while (locate_message_next_state(&list, &state)) {
            locate_message_put_state(formatted, state);
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
    struct locate_message message = {.number = 0x5555};
    const int err = locate_message_parse(bytes, is_broadcast, &message);
    if (err) {
        CHECK(err == -EPROTO || err == -EPROTONOSUPPORT || err == -EFBIG);
        CHECK(message.number == 0x5555);
        return 0;
    }
    CHECK(is_within(message.list, bytes));
    CHECK(!is_broadcast || message.type == LOCATE_WHO_HAS);

    CLEANUP_BUF struct buf formatted = BUF_INIT;
    locate_message_format(&message, &formatted);
    add_list(&formatted, &message);
    CHECK(formatted.size <= bytes.size);
    CHECK(formatted.size == bytes.size || bytes.data[MINOR_AT] > DATAGRAM_MINOR);
    formatted.data[MINOR_AT] = bytes.data[MINOR_AT];
    CHECK(memcmp(formatted.data, bytes.data, formatted.size) == 0);
    return 0;
}
