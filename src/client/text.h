/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_TEXT_H
#define CLIENT_TEXT_H

/*
 * text: what people and scripts read: sizes, times left, names, and lines of them.
 */

#include <jansson.h>
#include <sys/types.h>
#include <time.h>

#include "base/buf.h"

/* "0 B", "999 B", "1.0 KiB", "2.6 GiB": four characters and the unit. */
void text_add_size(struct buf *out, uint64_t size_bytes);

/* "0:07", "59:59", "1:00:00"; "99:59:59" for all that is more. */
void text_add_duration(struct buf *out, uint64_t seconds);

/* A name for a terminal: control characters (also U+0080 to U+009F) as '?', so that no file name
 * moves the cursor or gives the terminal orders. */
void text_add_name(struct buf *out, const char *name, bool to_terminal);

/* How many columns it takes: characters of UTF-8, each taken for one wide. */
size_t text_width(const char *text);

/* `ID  NAME`, as sha256sum prints it: a name that would break the line has `\` before each `\` and
 * for LF `\n`, and the line begins with `\`. Control characters as above. */
void text_add_id_line(struct buf *out, const char *id, const char *name, bool to_terminal);

/* `object` as one line of JSON; keeps the reference. */
void text_add_json(struct buf *out, const json_t *object);

/* "0644" as a mode; at most 07777. */
[[nodiscard]] int text_parse_mode(const char *text, mode_t *ret_mode);

/* "2026-01-02T03:04:05.000000000Z" (RFC 3339, UTC, up to nine decimals). -EINVAL. */
[[nodiscard]] int text_parse_time(const char *text, struct timespec *ret_time);

/* `path` without '/' at its ends, as the tree names it; "/" and "" are "". The caller frees it. */
char *text_tree_path(const char *path);

/* The last name of a path without '/' at its end; borrowed. */
const char *text_last_name(const char *path);

/* `parent`/`name`, or `name` below the root "". The caller frees it. */
char *text_join(const char *parent, const char *name);

#endif
