/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_JSON_TEXT_H
#define HTTP_JSON_TEXT_H

/*
 * json_text: JSON (RFC 8259) written straight into a buf, for answers that tell of many entries. As
 * compact as what jansson writes, and escaped in the same way. Pure functions.
 */

#include "base/buf.h"
#include "tree/tree.h"

/* Adds `string` with its quotes. What is not UTF-8 becomes "". */
void json_text_add_string(struct buf *text, struct bytes string);

/* Adds what docs/API.md says of an entry, as an object. */
void json_text_add_entry(struct buf *text, struct bytes path, const struct tree_entry *entry);

/* Adds the same without the braces and the path. */
void json_text_add_entry_members(struct buf *text, const struct tree_entry *entry);

#endif
