/* SPDX-License-Identifier: Apache-2.0 */

/* A path that is taken is one of the tree, and comes out the same when it is escaped again. */

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "fuzz.h"
#include "http/url.h"
#include "wire/path.h"

static void check_again(struct bytes path)
{
    CLEANUP_BUF struct buf escaped = BUF_INIT;
    CLEANUP_BUF struct buf again = BUF_INIT;
    bool has_slash = true;
    buf_add_byte(&escaped, '/');
    for (size_t i = 0; i < path.size; i++) {
        if (path.data[i] == '/') {
            buf_add_byte(&escaped, '/');
        } else {
            buf_add_format(&escaped, "%%%02x", path.data[i]);
        }
    }
    CHECK(url_decode_path(buf_string(&escaped), &again, &has_slash) == 0);
    CHECK(!has_slash);
    CHECK(bytes_equal(buf_bytes(&again), path));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = mem_alloc(size + 1);
    if (size > 0) {
        memcpy(text, data, size);
    }
    CLEANUP_BUF struct buf path = BUF_INIT;
    bool has_slash = false;
    if (url_decode_path(text, &path, &has_slash) == 0) {
        CHECK(path_check(buf_bytes(&path)) == 0);
        CHECK(path.size <= strlen(text));
        check_again(buf_bytes(&path));
    }
    free(text);
    return 0;
}
