/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_GLOB_H
#define TREE_GLOB_H

/*
 * glob: patterns of paths. `*` matches any run of characters within a name, `?` one character
 * (a whole UTF-8 sequence), `[a-z]` one of a set of bytes, `[!a-z]` or `[^a-z]` one not in it,
 * `\` takes the next byte literally, `**` as a whole name matches any number of names, none
 * included: behind `a/` it matches `a` too. A leading '/' is allowed and means nothing. Takes time
 * at most proportional to the product of both lengths.
 */

#include "base/bytes.h"

#define GLOB_BYTES_MAX 4096

/* The pattern that somebody means who says what to follow: a path without wildcards is the file, or
 * the directory with all that is in it; nothing is everything. Not checked. The caller frees it. */
char *glob_of_words(const char *text);

/* 0; -EINVAL: an open '[', a '\' at the end, a '/' in a set or behind '\', a NUL; -ENAMETOOLONG. */
[[nodiscard]] int glob_check(struct bytes pattern);

/* `pattern` has passed glob_check(). */
bool glob_match(struct bytes pattern, struct bytes path);

/* True if something below the directory `path` may match: a walk need not go in otherwise. */
bool glob_may_match_below(struct bytes pattern, struct bytes path);

#endif
