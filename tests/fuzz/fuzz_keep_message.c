/* SPDX-License-Identifier: Apache-2.0 */

/* What parses formats back to the same bytes, without what later versions have added to it. */

#include <errno.h>

#include "base/mem.h"
#include "fuzz.h"
#include "updates.h"
#include "wire/datagram.h"
#include "wire/keep_message.h"

#define MINOR_AT 1
/* Which SURVEYED has behind what it had in the first version. */
#define FOLLOWED_BYTES 5

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct bytes bytes = BYTES(data, size);
    struct keep_message message = {.number = 0x5555};
    const int err = keep_message_parse(bytes, &message);
    if (err) {
        CHECK(err == -EPROTO || err == -EPROTONOSUPPORT);
        CHECK(message.number == 0x5555);
        return 0;
    }
    CHECK(is_within(message.files, bytes));
    CHECK(is_within(message.path, bytes));
    CHECK(is_within(message.blocks, bytes));
    CHECK(is_within(message.promises, bytes));
    CHECK((message.type == KEEP_KEEP) == (message.files.size > 0));

    CLEANUP_BUF struct buf formatted = BUF_INIT;
    keep_message_format(&message, &formatted);
    if (message.type == KEEP_SURVEYED && message.survey.is_older) {
        CHECK(message.survey.followed_count == 0 && !message.survey.has_follower);
        formatted.size -= FOLLOWED_BYTES;
    }
    CHECK(formatted.size <= bytes.size);
    CHECK(formatted.size == bytes.size || bytes.data[MINOR_AT] > DATAGRAM_MINOR);
    formatted.data[MINOR_AT] = bytes.data[MINOR_AT];
    CHECK(memcmp(formatted.data, bytes.data, formatted.size) == 0);
    return 0;
}
