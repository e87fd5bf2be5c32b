/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_VERBS_H
#define CLI_VERBS_H

/*
 * verbs: the table of all verbs. All that is told of them is made from it: --help (verb_help.c),
 * the manual (manual.c) and the completion of shells (completion.c).
 */

#include "base/bytes.h"
#include "cli/cli.h"

/* In the order in which they are told, those of a group together and last; ends with NULL. */
extern const struct verb *const verbs_all[];

/* The verb that words[0] names, or words[0] and words[1] (count of words are there), and how many
 * of them; NULL: none. */
const struct verb *verbs_find(char *const *words, size_t count, size_t *ret_words_count);

/* Is there an `artel NAME VERB`? */
bool verbs_is_group(const char *name);

/* `verb` is one of `artel GROUP VERB`, or of `artel VERB` if `group` is NULL. */
bool verb_is_in(const struct verb *verb, const char *group);

/* "put", "store put"; the caller frees it. */
char *verb_title(const struct verb *verb);

/* The letter of the flag --name; 0: none. */
char verb_letter(const struct verb *verb, const char *name);

/* Does it read settings: environment, config file, log level? If not, its flags are only flags. */
bool verb_has_settings(const struct verb *verb);

/* A flag's help in its parts: the name of the value (empty for a switch), and what it is. */
struct flag_help {
    struct bytes value;
    const char *text;
};
struct flag_help verb_flag_help(const struct config_key *key);

#endif
