/* SPDX-License-Identifier: Apache-2.0 */

/* The first line is a pattern, the rest a path, each in memory of its own size. A pattern that is
 * taken can be matched with any bytes; where it matches, it may match below what is above. */

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "fuzz.h"
#include "tree/glob.h"

static uint8_t *exact_copy(struct bytes bytes)
{
    uint8_t *copy = malloc(bytes.size);
    if (bytes.size > 0) {
        CHECK(copy != NULL);
        memcpy(copy, bytes.data, bytes.size);
    }
    return copy;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *line = size ? memchr(data, '\n', size) : NULL;
    const size_t pattern_size = line ? (size_t)(line - data) : size;
    const size_t path_begin = line ? pattern_size + 1 : size;
    CLEANUP_FREE uint8_t *pattern_copy = exact_copy(BYTES(data, pattern_size));
    const struct bytes pattern = BYTES(pattern_copy, pattern_size);
    const int err = glob_check(pattern);
    if (err) {
        CHECK(err == -EINVAL || err == -ENAMETOOLONG);
        return 0;
    }
    CHECK(pattern_size <= GLOB_BYTES_MAX);
    const struct bytes whole =
        size > path_begin ? BYTES(data + path_begin, size - path_begin) : BYTES(NULL, 0);
    CLEANUP_FREE uint8_t *path_copy = exact_copy(whole);
    const struct bytes path = BYTES(path_copy, whole.size);
    const bool found = glob_match(pattern, path);
    for (size_t at = 1; at + 1 < path.size; at++) {
        const bool is_parent = path.data[at] == '/' && path.data[at - 1] != '/' &&
                               path.data[at + 1] != '/' && path.data[0] != '/' &&
                               path.data[path.size - 1] != '/';
        if (is_parent && !memmem(path.data, path.size, "//", 2)) {
            const bool below = glob_may_match_below(pattern, BYTES(path.data, at));
            CHECK(below || !found);
        }
    }
    return 0;
}
