/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/entry_line.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/buf.h"
#include "client/entry.h"
#include "client/text.h"

static char type_letter(const json_t *entry)
{
    return entry_is(entry, "directory") ? 'd' : entry_is(entry, "symlink") ? 'l' : '-';
}

static void add_long(const json_t *entry, struct buf *line)
{
    static const char letters[] = "rwxrwxrwx";
    /* That of a link says nothing anywhere. */
    const mode_t mode = entry_is(entry, "symlink") ? 0777 : entry_mode(entry, 0644);
    buf_add_byte(line, (uint8_t)type_letter(entry));
    for (size_t i = 0; i < 9; i++) {
        buf_add_byte(line, (uint8_t)(mode & (0400u >> i) ? letters[i] : '-'));
    }
    /* Whole seconds; --json tells the rest. */
    const char *mtime = entry_text(entry, "mtime");
    const char *id = entry_text(entry, "id");
    buf_add_format(line, " %14" PRIu64 "  %-19.19s  %-64s  ", entry_length(entry),
                   *mtime ? mtime : "-", *id ? id : "-");
}

void entry_line_print(const json_t *entry, const char *name, bool is_long)
{
    CLEANUP_BUF struct buf line = BUF_INIT;
    const bool to_terminal = isatty(STDOUT_FILENO);
    if (is_long) {
        add_long(entry, &line);
    }
    text_add_name(&line, name, to_terminal);
    if (entry_is(entry, "directory")) {
        buf_add_byte(&line, '/');
    } else if (is_long && entry_is(entry, "symlink")) {
        buf_add_string(&line, " -> ");
        text_add_name(&line, entry_text(entry, "target"), to_terminal);
    }
    if (is_long && json_object_get(entry, "conflicts")) {
        buf_add_string(&line, "  (conflict)");
    }
    puts(buf_string(&line));
}

void entry_line_print_version(const json_t *version, const char *indent)
{
    const char *id = entry_text(version, "id");
    const char *mtime = entry_text(version, "mtime");
    const char *note = "";
    if (json_is_true(json_object_get(version, "current"))) {
        note = "  (current)";
    } else if (json_is_true(json_object_get(version, "conflict"))) {
        note = "  (conflict)";
    }
    CLEANUP_BUF struct buf by = BUF_INIT;
    buf_add_string(&by, *entry_text(version, "by") ? "  " : "");
    text_add_name(&by, entry_text(version, "by"), isatty(STDOUT_FILENO));
    printf("%s%-19.19s  %14" PRIu64 "  %s  %s%s%s\n", indent, *mtime ? mtime : "-",
           entry_length(version), *id ? id : entry_text(version, "type"),
           entry_text(version, "version"), note, buf_string(&by));
}
