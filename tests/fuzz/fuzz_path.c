/* SPDX-License-Identifier: Apache-2.0 */

/* A path that is taken is its names: each is one that path_check_name() takes, and joined they are
 * the path. One that is refused, and not for its length, has a name that is refused. */

#include <errno.h>

#include "base/buf.h"
#include "base/mem.h"
#include "fuzz.h"
#include "wire/path.h"

static void check_taken(struct bytes path)
{
    CLEANUP_BUF struct buf joined = BUF_INIT;
    struct bytes rest = path;
    struct bytes name = {0};
    while (rest.size) {
        if (joined.size) {
            buf_add_byte(&joined, '/');
        }
        name = path_next(&rest);
        CHECK(path_check_name(name) == 0);
        buf_add(&joined, name);
        CHECK(path_is_within(path, buf_bytes(&joined)));
    }
    CHECK(bytes_equal(buf_bytes(&joined), path));

    struct bytes parent;
    struct bytes last;
    path_split(path, &parent, &last);
    CHECK(bytes_equal(last, name));
    CHECK(path_check(parent) == 0);
    CHECK(path_is_within(path, parent));
    CHECK(path_is_within(parent, path) == (path.size == 0));
}

/* path_next() takes the names of any bytes that neither end with '/' nor are empty. */
static bool has_refused_name(struct bytes path)
{
    if (path.data[path.size - 1] == '/') {
        return true;
    }
    while (path.size) {
        if (path_check_name(path_next(&path)) != 0) {
            return true;
        }
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct bytes path = BYTES(data, size);
    const int err = path_check(path);
    if (err == 0) {
        CHECK(size <= PATH_BYTES_MAX);
        check_taken(path);
        return 0;
    }
    CHECK(err == -EINVAL || err == -EILSEQ || err == -ENAMETOOLONG);
    CHECK(size > PATH_BYTES_MAX || has_refused_name(path));
    return 0;
}
