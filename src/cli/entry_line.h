/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_ENTRY_LINE_H
#define CLI_ENTRY_LINE_H

/*
 * entry_line: entries and versions as lines for people.
 */

#include <jansson.h>
#include <stdbool.h>

/* Prints `name`, a '/' behind a directory; with `is_long` mode, length, mtime and id before it, and
 * what a link points to behind it. */
void entry_line_print(const json_t *entry, const char *name, bool is_long);

/* Prints a version of /log or /conflicts, `indent` before it. */
void entry_line_print_version(const json_t *version, const char *indent);

#endif
