/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/verbs.h"

#include <string.h>

#include "base/mem.h"

const struct verb *const verbs_all[] = {
    &verb_node,       &verb_put,         &verb_get,          &verb_ls,
    &verb_find,       &verb_stat,        &verb_mkdir,        &verb_mv,
    &verb_rm,         &verb_log,         &verb_conflicts,    &verb_restore,
    &verb_watch,      &verb_follow,      &verb_wait,         &verb_where,
    &verb_why,        &verb_status,      &verb_mount,        &verb_members,
    &verb_leave,      &verb_sim,         &verb_scrub,        &verb_help,
    &verb_completion, &store_verb_put,   &store_verb_get,    &store_verb_ls,
    &store_verb_rm,   &store_verb_scrub, &store_verb_status, NULL,
};

bool verb_is_in(const struct verb *verb, const char *group)
{
    return group ? verb->group && strcmp(verb->group, group) == 0 : !verb->group;
}

const struct verb *verbs_find(char *const *words, size_t count, size_t *ret_words_count)
{
    for (const struct verb *const *at = verbs_all; *at; at++) {
        const struct verb *verb = *at;
        if (count > 0 && verb_is_in(verb, NULL) && strcmp(verb->name, words[0]) == 0) {
            *ret_words_count = 1;
            return verb;
        }
        if (count > 1 && verb_is_in(verb, words[0]) && strcmp(verb->name, words[1]) == 0) {
            *ret_words_count = 2;
            return verb;
        }
    }
    return NULL;
}

bool verbs_is_group(const char *name)
{
    for (const struct verb *const *at = verbs_all; *at; at++) {
        if (verb_is_in(*at, name)) {
            return true;
        }
    }
    return false;
}

char *verb_title(const struct verb *verb)
{
    return verb->group ? mem_format("%s %s", verb->group, verb->name) : mem_copy_string(verb->name);
}

char verb_letter(const struct verb *verb, const char *name)
{
    for (size_t i = 0; i < verb->shorts_count; i++) {
        if (strcmp(verb->shorts[i].name, name) == 0) {
            return verb->shorts[i].letter;
        }
    }
    return 0;
}

bool verb_has_settings(const struct verb *verb)
{
    for (size_t i = 0; i < verb->keys_count; i++) {
        if (strcmp(verb->keys[i].name, "config") == 0) {
            return true;
        }
    }
    return false;
}

struct flag_help verb_flag_help(const struct config_key *key)
{
    if (key->is_switch) {
        return (struct flag_help){.text = key->help};
    }
    const char *end = strstr(key->help, ": ");
    CHECK(end != NULL);
    return (struct flag_help){
        .value = BYTES((const uint8_t *)key->help, (size_t)(end - key->help)),
        .text = end + 2,
    };
}
