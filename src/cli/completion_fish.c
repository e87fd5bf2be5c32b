/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/mem.h"
#include "cli/completion.h"

static const char head[] = "# Completion of artel for fish, as `artel completion fish` prints it.\n"
                           "\n"
                           "# Does the command line begin with these words behind artel?\n"
                           "function __artel_is\n"
                           "    set -l words (commandline -opc)\n"
                           "    set -l last (math 1 + (count $argv))\n"
                           "    test (count $words) -ge $last\n"
                           "    and test \"$words[2..$last]\" = \"$argv\"\n"
                           "end\n"
                           "\n"
                           "# Are these all its words so far?\n"
                           "function __artel_is_only\n"
                           "    set -l words (commandline -opc)\n"
                           "    test \"$words[2..-1]\" = \"$argv\"\n"
                           "end\n"
                           "\n"
                           "# Paths of the tree, as the node knows them.\n"
                           "function __artel_paths\n"
                           "    set -l words (commandline -opc)\n"
                           "    set -l node\n"
                           "    for at in (seq (count $words))\n"
                           "        if test \"$words[$at]\" = --node\n"
                           "            set node --node $words[(math $at + 1)]\n"
                           "        else if string match -q -- '--node=*' $words[$at]\n"
                           "            set node $words[$at]\n"
                           "        end\n"
                           "    end\n"
                           "    set -l above (string match -r -- '^.*/' (commandline -ct))\n"
                           "    set -l top /\n"
                           "    test -n \"$above\"; and set top $above\n"
                           "    for name in (timeout 3 $words[1] ls $node -- $top 2>/dev/null)\n"
                           "        echo \"$above$name\"\n"
                           "    end\n"
                           "end\n"
                           "\n"
                           "complete -c artel -f\n";

static void add_quoted(struct buf *out, const char *text)
{
    buf_add_byte(out, '\'');
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\') {
            buf_add_byte(out, '\\');
        }
        buf_add_byte(out, (uint8_t)*text);
    }
    buf_add_byte(out, '\'');
}

static void add_candidate(struct buf *out, const char *behind, const char *word, const char *text)
{
    buf_add_format(out, "complete -c artel -n '__artel_is_only%s%s' -a %s -d ", *behind ? " " : "",
                   behind, word);
    add_quoted(out, text);
    buf_add_byte(out, '\n');
}

static void add_flag(struct buf *out, const char *title, const struct verb *verb,
                     const struct config_key *key)
{
    const char letter = verb_letter(verb, key->name);
    buf_add_format(out, "complete -c artel -n '__artel_is %s' -l %s", title, key->name);
    if (letter) {
        buf_add_format(out, " -s %c", letter);
    }
    if (!key->is_switch) {
        const struct completion_value value = completion_value(key);
        buf_add_string(out, value.is_file        ? " -r -F"
                            : value.is_directory ? " -x -a '(__fish_complete_directories)'"
                                                 : " -x");
        if (value.words) {
            buf_add_format(out, " -a '%s'", value.words);
        }
    }
    buf_add_string(out, " -d ");
    add_quoted(out, verb_flag_help(key).text);
    buf_add_byte(out, '\n');
}

static void add_arguments(struct buf *out, const char *title, unsigned arguments)
{
    static const struct {
        enum cli_argument argument;
        const char *what;
    } kinds[] = {
        {CLI_ARGUMENT_FILE, "-F"},
        {CLI_ARGUMENT_PATH, "-a '(__artel_paths)'"},
        {CLI_ARGUMENT_SHELL, "-a 'bash zsh fish'"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (arguments & kinds[i].argument) {
            buf_add_format(out, "complete -c artel -n '__artel_is %s' %s\n", title, kinds[i].what);
        }
    }
}

void completion_add_fish(struct buf *out)
{
    buf_add_string(out, head);
    add_candidate(out, "", "--help", "list the verbs");
    add_candidate(out, "", "--version", "print the version");
    const char *group = NULL;
    for (const struct verb *const *at = verbs_all; *at; at++) {
        const struct verb *verb = *at;
        if (!verb_is_in(verb, group)) {
            group = verb->group;
            add_candidate(out, "", group, "verbs on a data directory");
            add_candidate(out, "help", group, "verbs on a data directory");
        }
        CLEANUP_FREE char *title = verb_title(verb);
        CLEANUP_FREE char *help = group ? mem_format("help %s", group) : mem_copy_string("help");
        buf_add_byte(out, '\n');
        add_candidate(out, group ? group : "", verb->name, verb->summary);
        add_candidate(out, help, verb->name, verb->summary);
        for (size_t i = 0; i < verb->keys_count; i++) {
            add_flag(out, title, verb, &verb->keys[i]);
        }
        buf_add_format(out, "complete -c artel -n '__artel_is %s' -l help -s h -d ", title);
        add_quoted(out, "tell about the verb");
        buf_add_byte(out, '\n');
        add_arguments(out, title, verb->first_argument | verb->other_arguments);
    }
}
