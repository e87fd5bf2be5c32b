/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/members_table.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "cli/table.h"
#include "client/entry.h"
#include "client/text.h"

enum { NAME, ZONE, ADDRESS, STATE, RTT, SINCE, COLUMNS };

struct row {
    const char *zone; /* as it is, for the order */
    const char *name;
    const char *node;
    char *cells[COLUMNS];
};

static char *shown(const char *text, bool to_terminal)
{
    CLEANUP_BUF struct buf out = BUF_INIT;
    text_add_name(&out, text, to_terminal);
    return mem_copy_string(buf_string(&out));
}

/* Seconds are enough for people: 2026-01-02T03:04:05Z. */
static char *short_time(const char *time)
{
    const size_t whole = strcspn(time, ".");
    return time[whole] ? mem_format("%.*sZ", (int)whole, time) : mem_copy_string(time);
}

static char *round_trip(const json_t *member)
{
    const json_t *rtt = json_object_get(member, "rtt_ms");
    return json_is_number(rtt) ? mem_format("%.3f ms", json_number_value(rtt))
                               : mem_copy_string("-");
}

static void fill(struct row *row, const json_t *member, bool to_terminal)
{
    row->zone = entry_text(member, "zone");
    row->name = entry_text(member, "name");
    row->node = entry_text(member, "node");
    CLEANUP_FREE char *name = shown(row->name, to_terminal);
    const bool is_self = json_is_true(json_object_get(member, "self"));
    row->cells[NAME] = mem_format("%c %s", is_self ? '*' : ' ', name);
    row->cells[ZONE] = shown(row->zone, to_terminal);
    row->cells[ADDRESS] = shown(entry_text(member, "address"), to_terminal);
    row->cells[STATE] = shown(entry_text(member, "state"), to_terminal);
    row->cells[RTT] = round_trip(member);
    row->cells[SINCE] = short_time(entry_text(member, "since"));
}

static void head(struct row *row)
{
    static const char *const titles[COLUMNS] = {"  NAME", "ZONE", "ADDRESS",
                                                "STATE",  "RTT",  "SINCE"};
    for (size_t i = 0; i < COLUMNS; i++) {
        row->cells[i] = mem_copy_string(titles[i]);
    }
}

static int compare(const void *a, const void *b)
{
    const struct row *left = a;
    const struct row *right = b;
    int order = strcmp(left->zone, right->zone);
    if (order == 0) {
        order = strcmp(left->name, right->name);
    }
    return order ? order : strcmp(left->node, right->node);
}

static void add_rows(const struct row *rows, size_t count, struct buf *out)
{
    struct table table = TABLE_INIT(COLUMNS);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < COLUMNS; j++) {
            table_add(&table, "%s", rows[i].cells[j]);
        }
    }
    table_format(&table, out);
    table_done(&table);
}

int members_table_add(const json_t *members, bool to_terminal, size_t rows_max, struct buf *out)
{
    if (!json_is_array(members)) {
        return -EPROTO;
    }
    const size_t count = json_array_size(members);
    struct row *rows = mem_alloc_array(count + 1, sizeof *rows);
    head(&rows[0]);
    for (size_t i = 0; i < count; i++) {
        fill(&rows[i + 1], json_array_get(members, i), to_terminal);
    }
    qsort(rows + 1, count, sizeof *rows, compare);
    const bool is_cut = rows_max > 1 && count + 1 > rows_max;
    const size_t shown_count = is_cut ? rows_max - 1 : count + 1;
    add_rows(rows, shown_count, out);
    if (is_cut) {
        buf_add_format(out, "  and %zu more\n", count + 1 - shown_count);
    }
    for (size_t i = 0; i <= count; i++) {
        for (size_t j = 0; j < COLUMNS; j++) {
            free(rows[i].cells[j]);
        }
    }
    free(rows);
    return 0;
}

void members_table_add_event(const json_t *event, bool to_terminal, struct buf *out)
{
    CLEANUP_FREE char *time = short_time(entry_text(event, "time"));
    static const char *const keys[] = {"name", "zone", "address", "node"};
    buf_add_format(out, "%s  %-18s", time, entry_text(event, "event"));
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        buf_add_string(out, "  ");
        text_add_name(out, entry_text(event, keys[i]), to_terminal);
    }
    buf_add_byte(out, '\n');
}
