/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/table.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "client/text.h"

void table_done(struct table *table)
{
    for (size_t i = 0; i < table->cells_count; i++) {
        free(table->cells[i]);
    }
    free(table->cells);
    *table = TABLE_INIT(table->columns_count);
}

void table_add(struct table *table, const char *format, ...)
{
    if (table->cells_count == table->capacity) {
        table->capacity = table->capacity > 0 ? 2 * table->capacity : 4 * table->columns_count;
        table->cells = mem_resize_array(table->cells, table->capacity, sizeof *table->cells);
    }
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&table->cells[table->cells_count], format, arguments) < 0) {
        mem_out_of_memory();
    }
    va_end(arguments);
    table->cells_count++;
}

void table_add_name(struct table *table, const char *name)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    text_add_name(&text, name, isatty(STDOUT_FILENO));
    table_add(table, "%s", buf_string(&text));
}

void table_format(const struct table *table, struct buf *out)
{
    const size_t columns = table->columns_count;
    size_t *widths = mem_alloc_array(columns, sizeof *widths);
    for (size_t i = 0; i < table->cells_count; i++) {
        const size_t width = text_width(table->cells[i]);
        widths[i % columns] = width > widths[i % columns] ? width : widths[i % columns];
    }
    for (size_t i = 0; i < table->cells_count; i++) {
        const bool is_last = i % columns + 1 == columns;
        const size_t space = is_last ? 0 : widths[i % columns] - text_width(table->cells[i]) + 2;
        buf_add_format(out, "%s%*s%s", table->cells[i], (int)space, "", is_last ? "\n" : "");
    }
    free(widths);
}
