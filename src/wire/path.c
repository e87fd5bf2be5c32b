/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/path.h"

#include <errno.h>

#include "base/utf8.h"

/* `text` without its first `count` bytes. */
static inline struct bytes without(struct bytes text, size_t count)
{
    return count ? BYTES(text.data + count, text.size - count) : text;
}

/* What stands before the first '/': the whole path if there is none. */
static struct bytes first_name(struct bytes path)
{
    const uint8_t *slash = path.size ? memchr(path.data, '/', path.size) : NULL;
    return slash ? BYTES(path.data, (size_t)(slash - path.data)) : path;
}

static bool is_dots(struct bytes name)
{
    return bytes_equal(name, bytes_of_string(".")) || bytes_equal(name, bytes_of_string(".."));
}

int path_check_name(struct bytes name)
{
    if (name.size == 0 || is_dots(name)) {
        return -EINVAL;
    }
    if (name.size > PATH_NAME_BYTES_MAX) {
        return -ENAMETOOLONG;
    }
    while (name.size) {
        const size_t char_size = utf8_char_size(name);
        if (char_size == 0) {
            return -EILSEQ;
        }
        if (name.data[0] == 0 || name.data[0] == '/') {
            return -EINVAL;
        }
        name = without(name, char_size);
    }
    return 0;
}

int path_check(struct bytes path)
{
    if (path.size > PATH_BYTES_MAX) {
        return -ENAMETOOLONG;
    }
    if (path.size == 0) {
        return 0;
    }
    for (;;) {
        const struct bytes name = first_name(path);
        const int err = path_check_name(name);
        if (err || name.size == path.size) {
            return err;
        }
        path = without(path, name.size + 1); /* empty behind a '/' at the end: no name */
    }
}

struct bytes path_next(struct bytes *rest)
{
    const struct bytes name = first_name(*rest);
    const size_t slash = name.size < rest->size;
    *rest = without(*rest, name.size + slash);
    return name;
}

void path_split(struct bytes path, struct bytes *ret_parent, struct bytes *ret_name)
{
    size_t begin = path.size;
    while (begin > 0 && path.data[begin - 1] != '/') {
        begin--;
    }
    *ret_parent = BYTES(path.data, begin ? begin - 1 : 0);
    *ret_name = without(path, begin);
}

bool path_is_within(struct bytes path, struct bytes top)
{
    if (top.size == 0) {
        return true;
    }
    return path.size >= top.size && memcmp(path.data, top.data, top.size) == 0 &&
           (path.size == top.size || path.data[top.size] == '/');
}

/* '/' before all that a name can hold. */
static int rank(uint8_t byte)
{
    return byte == '/' ? 0 : byte;
}

int path_compare(struct bytes a, struct bytes b)
{
    const size_t common = bytes_common_size(a, b);
    if (common < a.size && common < b.size) {
        return rank(a.data[common]) - rank(b.data[common]);
    }
    return (a.size > b.size) - (a.size < b.size);
}
