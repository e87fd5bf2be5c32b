/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_URL_H
#define HTTP_URL_H

/*
 * url: percent-encoding (RFC 3986, section 2.1), undone name by name, so that an escaped '/' is
 * seen and nothing is cut at an escaped NUL. '+' is a plus. Pure functions.
 */

#include "base/buf.h"

/* Appends `size` bytes of text, decoded. -EINVAL: a broken '%' sequence; what was appended before
 * it stays. */
[[nodiscard]] int url_decode(const char *text, size_t size, struct buf *ret_bytes);

/* Decodes "/a/b%20c" or "" into a checked path of the tree (wire/path.h), without the '/' before
 * it; `*ret_has_slash` tells of one behind it. `ret_path` is empty before, anything after a
 * failure. -EINVAL: '%2F' in a name, an empty name, a broken '%' sequence; errors of
 * path_check(). */
[[nodiscard]] int url_decode_path(const char *text, struct buf *ret_path, bool *ret_has_slash);

#endif
