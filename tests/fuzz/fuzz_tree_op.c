/* SPDX-License-Identifier: Apache-2.0 */

/* Bytes that parse are what the formatter writes of the op they hold. Bytes that do not leave the
 * output alone. */

#include <errno.h>

#include "base/mem.h"
#include "fuzz.h"
#include "wire/tree_op.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct bytes bytes = BYTES(data, size);
    struct tree_op_parsed parsed = {.op.seq = 0x5555};
    const int err = tree_op_parse(bytes, &parsed);
    if (err) {
        CHECK(err == -EPROTO || err == -EPROTONOSUPPORT || err == -EFBIG);
        CHECK(parsed.op.seq == 0x5555 && parsed.changes == NULL && parsed.attributes == NULL &&
              parsed.dots == NULL);
        return 0;
    }
    CLEANUP_BUF struct buf formatted = BUF_INIT;
    CHECK(tree_op_format(&parsed.op, &formatted) == 0);
    CHECK(bytes_equal(buf_bytes(&formatted), bytes));
    tree_op_parsed_done(&parsed);
    return 0;
}
