/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_MANUAL_H
#define CLI_MANUAL_H

/*
 * manual: pages in roff, by the man macros (groff_man(7)), made from the table of verbs.
 */

#include "base/buf.h"
#include "cli/verbs.h"

/* "artel", "artel-put", "artel-store-put"; NULL: the program. The caller frees it. */
char *manual_title(const struct verb *verb);

/* The page of `verb`, or of the program if it is NULL. */
void manual_add_page(struct buf *out, const struct verb *verb);

#endif
