/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_PERCENT_H
#define CLIENT_PERCENT_H

/*
 * percent: paths and texts as parts of a URL (RFC 3986, section 2.1). Everything but letters,
 * digits and `-._~` is written as %XX.
 */

#include "base/buf.h"

/* Appends `text` as one segment of a path or one value of a query. */
void percent_add(struct buf *url, struct bytes text);

/* Appends a path of the tree: its names encoded one by one, the '/' between them kept. */
void percent_add_path(struct buf *url, const char *path);

/* Appends `text` so that a pattern of tree/glob.h matches it literally (not encoded). */
void percent_add_literal(struct buf *pattern, const char *text);

#endif
