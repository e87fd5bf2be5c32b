/* SPDX-License-Identifier: Apache-2.0 */

/* A text that parses is the one that its token is written as, in ascending order and within the
 * limits. One that does not leaves the output alone. */

#include <errno.h>

#include "base/mem.h"
#include "fuzz.h"
#include "tree/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct bytes text = BYTES(data, size);
    struct tree_token token = {.others = 0x5555};
    const int err = tree_token_parse(text, &token);
    if (err) {
        CHECK(err == -EINVAL || err == -EPROTONOSUPPORT || err == -EFBIG);
        CHECK(token.others == 0x5555 && token.seen.logs == NULL && token.seen.count == 0);
        return 0;
    }
    CHECK(token.seen.count <= TREE_TOKEN_LOGS_MAX);
    for (size_t i = 0; i < token.seen.count; i++) {
        const struct tree_seen_log *log = &token.seen.logs[i];
        const struct dot last = {log->origin, log->seq};
        const struct dot next = {log->origin, log->seq + 1};
        CHECK(log->seq > 0 && tree_seen_has(&token.seen, &last));
        CHECK(next.seq == 0 || !tree_seen_has(&token.seen, &next));
    }
    CLEANUP_BUF struct buf formatted = BUF_INIT;
    tree_token_format(&token, &formatted);
    CHECK(bytes_equal(buf_bytes(&formatted), text));
    tree_seen_done(&token.seen);
    return 0;
}
