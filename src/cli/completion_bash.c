/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/mem.h"
#include "cli/completion.h"

/*
 * For bash 4.4 and later, without the package bash-completion. What has to be known: bash cuts
 * words at '=' and ':' (COMP_WORDBREAKS), and replaces only the last piece by what is answered;
 * so the pieces are put together first, and the answers cut in the end.
 */

static const char head[] =
    "# Completion of artel for bash, as `artel completion bash` prints it.\n";

static const char body[] =
    "# Answers with those of the words $1 that begin with $cur.\n"
    "_artel_words() {\n"
    "    mapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$cur\")\n"
    "}\n"
    "\n"
    "# Files ($1: -f) or directories (-d) of this machine.\n"
    "_artel_files() {\n"
    "    local found\n"
    "    mapfile -t found < <(compgen \"$1\" -- \"$cur\")\n"
    "    COMPREPLY+=(\"${found[@]}\")\n"
    "    compopt -o filenames 2>/dev/null\n"
    "}\n"
    "\n"
    "# Paths of the tree, as the node knows them.\n"
    "_artel_paths() {\n"
    "    local above='' name found\n"
    "    [[ $cur == */* ]] && above=${cur%/*}/\n"
    "    mapfile -t found < <(timeout 3 \"$program\" ls \"${node[@]}\" -- \"${above:-/}\" "
    "2>/dev/null)\n"
    "    for name in \"${found[@]}\"; do\n"
    "        [[ $above$name == \"$cur\"* ]] && COMPREPLY+=(\"$above$name\")\n"
    "    done\n"
    "    compopt -o filenames 2>/dev/null\n"
    "    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace 2>/dev/null\n"
    "}\n"
    "\n"
    "# The value of a flag: $1 is what _artel_verb says of it.\n"
    "_artel_value() {\n"
    "    case $1 in\n"
    "    FILE) _artel_files -f ;;\n"
    "    DIR) _artel_files -d ;;\n"
    "    *) _artel_words \"${1//,/ }\" ;;\n"
    "    esac\n"
    "}\n"
    "\n"
    "# The value of the flag $1 in $values; false if it takes none.\n"
    "_artel_takes() {\n"
    "    local each\n"
    "    for each in $values; do\n"
    "        if [[ ${each%%=*} == \"$1\" ]]; then\n"
    "            value=${each#*=}\n"
    "            return 0\n"
    "        fi\n"
    "    done\n"
    "    return 1\n"
    "}\n"
    "\n"
    "# One argument: its kinds are the words of $1.\n"
    "_artel_argument() {\n"
    "    local kind\n"
    "    for kind in $1; do\n"
    "        case $kind in\n"
    "        file) _artel_files -f ;;\n"
    "        path) _artel_paths ;;\n"
    "        shell) _artel_words 'bash zsh fish' ;;\n"
    "        verb) _artel_verbs \"$last_argument\" && _artel_words \"$verbs\" ;;\n"
    "        esac\n"
    "    done\n"
    "}\n"
    "\n"
    "# Behind the verb, whose words are words[0] to words[$1 - 1].\n"
    "_artel_behind_verb() {\n"
    "    local count=0 flag='' ended='' value='' last_argument='' word\n"
    "    local node=()\n"
    "    for word in \"${words[@]:$1:${#words[@]}-$1-1}\"; do\n"
    "        if [[ $flag ]]; then\n"
    "            [[ $flag == --node ]] && node=(--node \"$word\")\n"
    "            flag=''\n"
    "        elif [[ $ended || $word == - || $word != -* ]]; then\n"
    "            count=$((count + 1))\n"
    "            last_argument=$word\n"
    "        elif [[ $word == -- ]]; then\n"
    "            ended=1\n"
    "        elif [[ $word == --node=* ]]; then\n"
    "            node=(--node \"${word#*=}\")\n"
    "        elif [[ $word == --* ]]; then\n"
    "            _artel_takes \"$word\" && flag=$word\n"
    "        else\n"
    "            _artel_takes \"-${word: -1}\" && flag=$word\n"
    "        fi\n"
    "    done\n"
    "    if [[ $flag ]]; then\n"
    "        _artel_value \"$value\"\n"
    "    elif [[ ! $ended && $cur == --*=* ]]; then\n"
    "        local name=${cur%%=*}\n"
    "        cur=${cur#*=}\n"
    "        _artel_takes \"$name\" && _artel_value \"$value\"\n"
    "        COMPREPLY=(\"${COMPREPLY[@]/#/$name=}\")\n"
    "    elif [[ ! $ended && $cur == -* ]]; then\n"
    "        _artel_words \"$flags\"\n"
    "    elif ((count == 0)); then\n"
    "        _artel_argument \"$first\"\n"
    "    else\n"
    "        _artel_argument \"$others\"\n"
    "    fi\n"
    "}\n"
    "\n"
    "_artel() {\n"
    "    local program=$1 cur i glued='' words=() verbs flags values first others verb\n"
    "    COMPREPLY=()\n"
    "    for ((i = 1; i <= COMP_CWORD; i++)); do\n"
    "        if [[ ${#words[@]} -gt 0 && (${COMP_WORDS[i]} =~ ^[:=]+$ || $glued) ]]; then\n"
    "            words[-1]+=${COMP_WORDS[i]}\n"
    "        else\n"
    "            words+=(\"${COMP_WORDS[i]}\")\n"
    "        fi\n"
    "        [[ ${COMP_WORDS[i]} =~ ^[:=]+$ ]] && glued=1 || glued=''\n"
    "    done\n"
    "    cur=${words[-1]}\n"
    "    local kept=$cur\n"
    "    [[ $glued ]] || kept=${cur%\"${COMP_WORDS[COMP_CWORD]}\"}\n"
    "    [[ $cur == [\\'\\\"]* ]] && cur=${cur:1}\n"
    "    cur=${cur//\\\\/}\n"
    "    if ((${#words[@]} == 1)); then\n"
    "        _artel_verbs '' && _artel_words \"$verbs --help --version\"\n"
    "    elif _artel_verb \"${words[0]}\"; then\n"
    "        _artel_behind_verb 1\n"
    "    elif ((${#words[@]} == 2)); then\n"
    "        _artel_verbs \"${words[0]}\" && _artel_words \"$verbs --help\"\n"
    "    elif _artel_verb \"${words[0]} ${words[1]}\"; then\n"
    "        _artel_behind_verb 2\n"
    "    fi\n"
    "    COMPREPLY=(\"${COMPREPLY[@]#\"$kept\"}\")\n"
    "}\n"
    "\n"
    "complete -F _artel artel\n";

static void add_verbs_of(struct buf *out, const char *group)
{
    buf_add_format(out, "    '%s') verbs='", group ? group : "");
    const char *last_group = NULL;
    const char *between = "";
    for (const struct verb *const *at = verbs_all; *at; at++) {
        const struct verb *verb = *at;
        if (verb_is_in(verb, group)) {
            buf_add_format(out, "%s%s", between, verb->name);
            between = " ";
        } else if (!group && !verb_is_in(verb, last_group)) {
            last_group = verb->group;
            buf_add_format(out, "%s%s", between, last_group);
        }
    }
    buf_add_string(out, "' ;;\n");
}

/* The verbs behind each group, and behind the program. */
static void add_verbs(struct buf *out)
{
    buf_add_string(out, "\n# Sets verbs: those that can follow the word $1.\n"
                        "_artel_verbs() {\n    case $1 in\n");
    add_verbs_of(out, NULL);
    const char *group = NULL;
    for (const struct verb *const *at = verbs_all; *at; at++) {
        if (!verb_is_in(*at, group)) {
            group = (*at)->group;
            add_verbs_of(out, group);
        }
    }
    buf_add_string(out, "    *) return 1 ;;\n    esac\n}\n");
}

static void add_value(struct buf *out, const char *flag, const struct config_key *key)
{
    const struct completion_value value = completion_value(key);
    buf_add_format(out, " %s=%s", flag, value.is_file ? "FILE" : value.is_directory ? "DIR" : "");
    for (const char *at = value.words; at && *at; at++) {
        buf_add_byte(out, *at == ' ' ? ',' : (uint8_t)*at);
    }
}

static void add_arguments(struct buf *out, const char *variable, unsigned arguments)
{
    static const struct {
        enum cli_argument argument;
        const char *word;
    } words[] = {
        {CLI_ARGUMENT_FILE, "file"},
        {CLI_ARGUMENT_PATH, "path"},
        {CLI_ARGUMENT_VERB, "verb"},
        {CLI_ARGUMENT_SHELL, "shell"},
    };
    buf_add_format(out, "        %s='", variable);
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        if (arguments & words[i].argument) {
            buf_add_format(out, "%s ", words[i].word);
        }
    }
    buf_add_string(out, "'\n");
}

static void add_verb(struct buf *out, const struct verb *verb)
{
    CLEANUP_FREE char *title = verb_title(verb);
    CLEANUP_BUF struct buf values = BUF_INIT;
    buf_add_format(out, "    '%s')\n        flags='", title);
    for (size_t i = 0; i < verb->keys_count; i++) {
        const struct config_key *key = &verb->keys[i];
        const char letter = verb_letter(verb, key->name);
        CLEANUP_FREE char *flag = mem_format("--%s", key->name);
        CLEANUP_FREE char *brief = letter ? mem_format("-%c", letter) : NULL;
        buf_add_format(out, "%s%s%s ", brief ? brief : "", brief ? " " : "", flag);
        if (!key->is_switch) {
            add_value(&values, flag, key);
        }
        if (!key->is_switch && brief) {
            add_value(&values, brief, key);
        }
    }
    buf_add_format(out, "--help'\n        values='%s'\n", buf_string(&values));
    add_arguments(out, "first", verb->first_argument);
    add_arguments(out, "others", verb->other_arguments);
    buf_add_string(out, "        ;;\n");
}

void completion_add_bash(struct buf *out)
{
    buf_add_string(out, head);
    add_verbs(out);
    buf_add_string(out,
                   "\n# Sets flags, values (FLAG=FILE, DIR, words, or nothing), and the kinds of "
                   "the first argument\n# and the others, of the verb $1.\n"
                   "_artel_verb() {\n    case $1 in\n");
    for (const struct verb *const *at = verbs_all; *at; at++) {
        add_verb(out, *at);
    }
    buf_add_string(out, "    *) return 1 ;;\n    esac\n}\n\n");
    buf_add_string(out, body);
}
