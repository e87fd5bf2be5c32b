/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_PATH_H
#define WIRE_PATH_H

/*
 * path: names in the tree. A path is "a/b/c": names joined by '/', without one at either end; the
 * empty path is the root.
 *
 * A name is 1 to PATH_NAME_BYTES_MAX bytes of valid UTF-8 (RFC 3629: no overlong forms, no
 * surrogates, nothing above U+10FFFF), holds neither NUL nor '/', and is neither "." nor "..".
 * Names are compared byte by byte: no case folding, no normalisation.
 */

#include "base/bytes.h"

#define PATH_NAME_BYTES_MAX 255
#define PATH_BYTES_MAX 4096

/* 0, -EINVAL (empty name, ".", "..", NUL), -EILSEQ (not UTF-8), -ENAMETOOLONG. */
[[nodiscard]] int path_check(struct bytes path);

/* The same for one name; a '/' in it is -EINVAL. */
[[nodiscard]] int path_check_name(struct bytes name);

/* Takes the first name off `*rest` ("a/b/c" gives "a" and leaves "b/c"). The path is checked. */
struct bytes path_next(struct bytes *rest);

/* The path without its last name, and that name. The root has neither: both are empty. */
void path_split(struct bytes path, struct bytes *ret_parent, struct bytes *ret_name);

/* True if `path` is `top` or lies below it. */
bool path_is_within(struct bytes path, struct bytes top);

/* The order of a walk, as a number below, at or above 0: name by name, so that a directory comes
 * right before all that is in it. */
int path_compare(struct bytes a, struct bytes b);

#endif
