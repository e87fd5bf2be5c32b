/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/manual.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/mem.h"

#define PROGRAM_SUMMARY "publish, deliver and keep files among equal machines"

/* ---- text as roff -----------------------------------------------------------------------------
 */

/* A '-' that is typed as such, and is no hyphen: of a flag, and of all between `backquotes`. */
static bool is_minus(const char *text, const char *at, bool is_code)
{
    return is_code || at == text || strchr(" \n-[(|,", at[-1]) || at[1] == '-';
}

static void add_char(struct buf *out, const char *text, const char *at, bool is_code)
{
    const bool begins_line = at == text || at[-1] == '\n';
    switch (*at) {
    case '\\':
        buf_add_string(out, "\\e");
        break;
    case '\'':
        buf_add_string(out, "\\(aq");
        break;
    case '~':
        buf_add_string(out, "\\(ti");
        break;
    case '^':
        buf_add_string(out, "\\(ha");
        break;
    case '-':
        buf_add_string(out, is_minus(text, at, is_code) ? "\\-" : "-");
        break;
    case '.':
        buf_add_string(out, begins_line ? "\\&." : ".");
        break;
    default:
        buf_add_byte(out, (uint8_t)*at);
        break;
    }
}

/* Words in `backquotes` come bold, an empty line begins a paragraph; ends with a line feed. */
static void add_text(struct buf *out, const char *text)
{
    bool is_code = false;
    for (const char *at = text; *at; at++) {
        if (*at == '`') {
            is_code = !is_code;
            buf_add_string(out, is_code ? "\\fB" : "\\fR");
        } else if (*at != '\n') {
            add_char(out, text, at, is_code);
        } else if (at[1] == '\n') {
            buf_add_string(out, "\n.PP\n");
            at++;
        } else if (at[1]) {
            buf_add_byte(out, '\n');
        }
    }
    buf_add_byte(out, '\n');
}

/* Words in capitals are to be replaced by the reader: they come in italics. */
static void add_synopsis(struct buf *out, const char *text)
{
    for (const char *at = text; *at;) {
        const size_t capitals = strspn(at, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        if (capitals) {
            buf_add_format(out, "\\fI%.*s\\fR", (int)capitals, at);
            at += capitals;
        } else {
            add_char(out, text, at, true);
            at++;
        }
    }
    buf_add_byte(out, '\n');
}

/* ---- pages ------------------------------------------------------------------------------------
 */

char *manual_title(const struct verb *verb)
{
    if (!verb) {
        return mem_copy_string("artel");
    }
    return verb->group ? mem_format("artel-%s-%s", verb->group, verb->name)
                       : mem_format("artel-%s", verb->name);
}

/* A title with each '-' as it is typed. */
static void add_title(struct buf *out, const char *title)
{
    for (const char *at = title; *at; at++) {
        add_char(out, title, at, true);
    }
}

static void add_head(struct buf *out, const struct verb *verb)
{
    CLEANUP_FREE char *title = manual_title(verb);
    /* No date: the same program gives the same page whenever it is asked. */
    buf_add_string(out, ".TH ");
    for (const char *at = title; *at; at++) {
        const char letter = *at >= 'a' && *at <= 'z' ? (char)(*at - 'a' + 'A') : *at;
        buf_add_format(out, letter == '-' ? "\\-" : "%c", letter);
    }
    buf_add_string(out, " 1 \"\" \"artel " ARTEL_VERSION "\" \"artel\"\n.SH NAME\n");
    add_title(out, title);
    buf_add_string(out, " \\- ");
    add_text(out, verb ? verb->summary : PROGRAM_SUMMARY);
}

static void add_flags(struct buf *out, const struct verb *verb)
{
    buf_add_string(out, ".SH OPTIONS\n");
    for (size_t i = 0; i < verb->keys_count; i++) {
        const struct config_key *key = &verb->keys[i];
        const struct flag_help help = verb_flag_help(key);
        const char letter = verb_letter(verb, key->name);
        buf_add_string(out, ".TP\n");
        if (letter) {
            buf_add_format(out, "\\fB\\-%c\\fR, ", letter);
        }
        buf_add_string(out, "\\fB\\-\\-");
        add_title(out, key->name);
        buf_add_string(out, "\\fR");
        if (help.value.size) {
            buf_add_format(out, " \\fI%.*s\\fR", (int)help.value.size,
                           (const char *)help.value.data);
        }
        buf_add_byte(out, '\n');
        add_text(out, help.text);
        if (key->default_value) {
            CLEANUP_FREE char *unless = mem_format("(`%s` unless given)", key->default_value);
            add_text(out, unless);
        }
    }
    buf_add_string(out, ".TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nall this in short\n");
}

static void add_settings(struct buf *out)
{
    buf_add_string(out, ".SH ENVIRONMENT AND CONFIGURATION\n");
    add_text(out,
             "Every flag `--some-name` is also the variable `ARTEL_SOME_NAME` and the key\n"
             "`some-name` of the file that `--config` names. A flag wins over a variable, and a\n"
             "variable over the file. A switch is 1, yes, true, on or 0, no, false, off there.\n");
}

static void add_exit_status(struct buf *out)
{
    buf_add_string(out, ".SH EXIT STATUS\n");
    add_text(out, "0 if all went well; 1 if something did not, and a line on standard error tells\n"
                  "what; 2 if the command line makes no sense.\n");
}

static void add_verb(struct buf *out, const struct verb *verb)
{
    CLEANUP_FREE char *title = verb_title(verb);
    buf_add_format(out, ".SH SYNOPSIS\n\\fBartel %s\\fR ", title);
    add_synopsis(out, verb->synopsis);
    buf_add_string(out, ".SH DESCRIPTION\n");
    add_text(out, verb->about);
    add_flags(out, verb);
    if (verb_has_settings(verb)) {
        add_settings(out);
    }
    add_exit_status(out);
    buf_add_string(out, ".SH SEE ALSO\n\\fBartel\\fR(1)\n");
}

static void add_program(struct buf *out)
{
    buf_add_string(out, ".SH SYNOPSIS\n\\fBartel\\fR ");
    add_synopsis(out, "VERB [FLAGS] [ARGUMENTS]");
    buf_add_string(out, ".SH DESCRIPTION\n");
    add_text(out,
             "artel publishes, delivers and keeps files. One program is both the node, which\n"
             "`artel node` runs, and the command line that talks to it: to the one that `--node`\n"
             "or `ARTEL_NODE` names, else to the one on this machine.\n");
    const char *group = NULL;
    buf_add_string(out, ".SH VERBS\n");
    for (const struct verb *const *at = verbs_all; *at; at++) {
        if (!verb_is_in(*at, group)) {
            group = (*at)->group;
            CLEANUP_FREE char *head = mem_format(
                "On a data directory that no node runs on, `artel %s VERB --data DIR`:", group);
            buf_add_string(out, ".PP\n");
            add_text(out, head);
        }
        CLEANUP_FREE char *page = manual_title(*at);
        buf_add_string(out, ".TP\n\\fB");
        add_title(out, page);
        buf_add_string(out, "\\fR(1)\n");
        add_text(out, (*at)->summary);
    }
    buf_add_string(out, ".SH OPTIONS\n.TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nlist the verbs\n"
                        ".TP\n\\fB\\-\\-version\\fR\nprint the version\n");
    add_settings(out);
    add_exit_status(out);
}

void manual_add_page(struct buf *out, const struct verb *verb)
{
    add_head(out, verb);
    if (verb) {
        add_verb(out, verb);
    } else {
        add_program(out);
    }
}
