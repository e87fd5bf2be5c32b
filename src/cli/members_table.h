/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_MEMBERS_TABLE_H
#define CLI_MEMBERS_TABLE_H

/*
 * members_table: members for people, one a line in aligned columns, sorted by zone and name; the
 * node that was asked has a '*' before its name. From what GET /members answers (docs/API.md).
 */

#include <jansson.h>

#include "base/buf.h"

/* Appends the table. Of more than `rows_max` lines only so many, the last of which tells how many
 * are missing; 0: all. -EPROTO: `members` is no list of members; nothing was added. */
[[nodiscard]] int members_table_add(const json_t *members, bool to_terminal, size_t rows_max,
                                    struct buf *out);

/* One event of membership as a line: time, event, name, zone, address, node. */
void members_table_add_event(const json_t *event, bool to_terminal, struct buf *out);

#endif
