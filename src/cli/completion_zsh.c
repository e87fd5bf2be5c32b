/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "cli/completion.h"

static const char head[] =
    "#compdef artel\n"
    "# Completion of artel for zsh, as `artel completion zsh` prints it.\n"
    "\n"
    "# Paths of the tree, as the node knows them.\n"
    "_artel_paths() {\n"
    "    local above='' typed=${(Q)PREFIX}\n"
    "    local -a node names\n"
    "    [[ $typed == */* ]] && above=${typed%/*}/\n"
    "    [[ -n ${opt_args[--node]} ]] && node=(--node ${(Q)opt_args[--node]})\n"
    "    names=(${(f)\"$(timeout 3 $program ls $node -- ${above:-/} 2>/dev/null)\"})\n"
    "    names=($above$^names)\n"
    "    compadd -f -S '' -- ${(M)names:#*/}\n"
    "    compadd -f -- ${names:#*/}\n"
    "}\n"
    "\n"
    "# Files of this machine, or paths of the tree.\n"
    "_artel_files_and_paths() {\n"
    "    _alternative 'files:file:_files' 'paths:path:_artel_paths'\n"
    "}\n"
    "\n"
    "_artel_any_verb() {\n"
    "    if ((CURRENT == 2)); then\n"
    "        _artel_verbs\n"
    "    elif ((CURRENT == 3 && $+functions[_artel_verbs_of_$words[2]])); then\n"
    "        _artel_verbs_of_$words[2]\n"
    "    fi\n"
    "}\n"
    "\n"
    "_artel_shells() {\n"
    "    compadd bash zsh fish\n"
    "}\n"
    "\n";

static const char tail[] = "\n"
                           "_artel() {\n"
                           "    local program=$words[1] verb=$words[2]\n"
                           "    if ((CURRENT == 2)); then\n"
                           "        _artel_verbs\n"
                           "        return\n"
                           "    fi\n"
                           "    shift words\n"
                           "    ((CURRENT--))\n"
                           "    if (($+functions[_artel_verbs_of_$verb])); then\n"
                           "        if ((CURRENT == 2)); then\n"
                           "            _artel_verbs_of_$verb\n"
                           "            return\n"
                           "        fi\n"
                           "        verb+=\" $words[2]\"\n"
                           "        shift words\n"
                           "        ((CURRENT--))\n"
                           "    fi\n"
                           "    _artel_behind_verb $verb\n"
                           "}\n"
                           "\n"
                           "# Autoloaded from a file of the name _artel, or evaluated.\n"
                           "if [[ $funcstack[1] == _artel ]]; then\n"
                           "    _artel \"$@\"\n"
                           "else\n"
                           "    compdef _artel artel\n"
                           "fi\n";

/* Inside '...' of the shell, and inside a specification of _describe or _arguments. */
static void add_quoted(struct buf *out, struct bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        const char at = (char)text.data[i];
        if (at == '\'') {
            buf_add_string(out, "'\\''");
            continue;
        }
        if (strchr(":[]\\", at)) {
            buf_add_byte(out, '\\');
        }
        buf_add_byte(out, (uint8_t)at);
    }
}

static void add_verbs_of(struct buf *out, const char *group)
{
    buf_add_format(out, "_artel_verbs%s%s() {\n    local -a verbs=(\n", group ? "_of_" : "",
                   group ? group : "");
    const char *last_group = NULL;
    for (const struct verb *const *at = verbs_all; *at; at++) {
        if (verb_is_in(*at, group)) {
            buf_add_format(out, "        '%s:", (*at)->name);
            add_quoted(out, bytes_of_string((*at)->summary));
            buf_add_string(out, "'\n");
        } else if (!group && !verb_is_in(*at, last_group)) {
            last_group = (*at)->group;
            buf_add_format(out, "        '%s:verbs on a data directory'\n", last_group);
        }
    }
    buf_add_string(out, group ? ""
                              : "        '--help:list the verbs'\n"
                                "        '--version:print the version'\n");
    buf_add_string(out, "    )\n    _describe verb verbs\n}\n\n");
}

static void add_flag(struct buf *out, const struct verb *verb, const struct config_key *key)
{
    const struct flag_help help = verb_flag_help(key);
    const struct completion_value value = completion_value(key);
    const char letter = verb_letter(verb, key->name);
    const char *takes = key->is_switch ? "" : "=";
    buf_add_string(out, " \\\n            ");
    if (letter) {
        buf_add_format(out, "'(-%c --%s)'{-%c%s,--%s%s}'[", letter, key->name, letter,
                       key->is_switch ? "" : "+", key->name, takes);
    } else {
        buf_add_format(out, "'--%s%s[", key->name, takes);
    }
    add_quoted(out, bytes_of_string(help.text));
    buf_add_byte(out, ']');
    if (!key->is_switch) {
        buf_add_byte(out, ':');
        add_quoted(out, help.value);
        buf_add_byte(out, ':');
        if (value.words) {
            buf_add_format(out, "(%s)", value.words);
        } else {
            buf_add_string(out, value.is_file ? "_files" : value.is_directory ? "_files -/" : " ");
        }
    }
    buf_add_byte(out, '\'');
}

static void add_argument(struct buf *out, const char *which, unsigned argument)
{
    const char *action = NULL;
    switch (argument) {
    case CLI_ARGUMENT_FILE:
        action = "file:_files";
        break;
    case CLI_ARGUMENT_PATH:
        action = "path:_artel_paths";
        break;
    case CLI_ARGUMENT_FILE | CLI_ARGUMENT_PATH:
        action = "file or path:_artel_files_and_paths";
        break;
    case CLI_ARGUMENT_VERB:
        action = "verb:_artel_any_verb";
        break;
    case CLI_ARGUMENT_SHELL:
        action = "shell:_artel_shells";
        break;
    default:
        return;
    }
    buf_add_format(out, " \\\n            '%s:%s'", which, action);
}

static void add_verb(struct buf *out, const struct verb *verb)
{
    CLEANUP_FREE char *title = verb_title(verb);
    buf_add_format(out, "    '%s')\n        _arguments -s -S", title);
    for (size_t i = 0; i < verb->keys_count; i++) {
        add_flag(out, verb, &verb->keys[i]);
    }
    buf_add_string(out, " \\\n            '(- *)'{-h,--help}'[tell about the verb]'");
    add_argument(out, "1", verb->first_argument);
    add_argument(out, "*", verb->other_arguments);
    buf_add_string(out, "\n        ;;\n");
}

void completion_add_zsh(struct buf *out)
{
    buf_add_string(out, head);
    add_verbs_of(out, NULL);
    const char *group = NULL;
    for (const struct verb *const *at = verbs_all; *at; at++) {
        if (!verb_is_in(*at, group)) {
            group = (*at)->group;
            add_verbs_of(out, group);
        }
    }
    buf_add_string(out, "_artel_behind_verb() {\n    case $1 in\n");
    for (const struct verb *const *at = verbs_all; *at; at++) {
        add_verb(out, *at);
    }
    buf_add_string(out, "    esac\n}\n");
    buf_add_string(out, tail);
}
