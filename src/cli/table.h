/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

/*
 * table: rows of text with their columns aligned.
 */

#include "base/buf.h"

/* Members are private. */
struct table {
    size_t columns_count;
    char **cells;
    size_t cells_count;
    size_t capacity;
};

#define TABLE_INIT(columns) ((struct table){.columns_count = (columns)})
void table_done(struct table *table);

/* The next cell; behind the last one of a row begins another row. */
void table_add(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for a name that somebody gave, as it may be shown on standard output. */
void table_add_name(struct table *table, const char *name);

/* Appends all rows, each a line, two blanks between columns. */
void table_format(const struct table *table, struct buf *out);

#endif
