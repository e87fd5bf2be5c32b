/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/libuv.h"
#include "base/mem.h"
#include "cli/cli.h"

static const struct verb *const verbs[] = {
    &verb_node,     &verb_put,      &verb_get,         &verb_ls,           &verb_find,
    &verb_stat,     &verb_mkdir,    &verb_mv,          &verb_rm,           &verb_log,
    &verb_watch,    &verb_status,   &verb_scrub,       &store_verb_put,    &store_verb_get,
    &store_verb_ls, &store_verb_rm, &store_verb_scrub, &store_verb_status,
};

static bool in_group(const struct verb *verb, const char *group)
{
    return group ? verb->group && strcmp(verb->group, group) == 0 : !verb->group;
}

static void print_help(FILE *out)
{
    fputs("usage: artel VERB [FLAGS] [ARGUMENTS]\n\n", out);
    const char *group = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        if (!in_group(verbs[i], group)) {
            group = verbs[i]->group;
            fprintf(out,
                    "\nOn a data directory that no node runs on, `artel %s VERB --data DIR`:\n\n",
                    group);
        }
        fprintf(out, "  %-8s %s\n", verbs[i]->name, verbs[i]->summary);
    }
    fputs("\n`artel VERB --help` tells more; `artel --version` the version.\n"
          "Every flag --some-name is also the variable ARTEL_SOME_NAME and a key of the file\n"
          "that --config names.\n",
          out);
}

/* The verb that words[0] names, or words[0] and words[1]; *ret_words tells how many. */
static const struct verb *find_verb(char **words, int count, int *ret_words)
{
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        if (count > 0 && in_group(verbs[i], NULL) && strcmp(verbs[i]->name, words[0]) == 0) {
            *ret_words = 1;
            return verbs[i];
        }
        if (count > 1 && in_group(verbs[i], words[0]) && strcmp(verbs[i]->name, words[1]) == 0) {
            *ret_words = 2;
            return verbs[i];
        }
    }
    return NULL;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

static enum cli_status no_verb(char **words, int count)
{
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        if (in_group(verbs[i], words[0])) {
            if (count > 1 && is_help(words[1])) {
                print_help(stdout);
                return CLI_OK;
            }
            fprintf(stderr, "artel: there is no verb '%s %s'; see `artel --help`\n", words[0],
                    count > 1 ? words[1] : "");
            return CLI_USAGE;
        }
    }
    fprintf(stderr, "artel: there is no verb '%s'; see `artel --help`\n", words[0]);
    return CLI_USAGE;
}

int main(int argc, char **argv)
{
    /* A reader that has gone is an error of write(2), told like any other. */
    signal(SIGPIPE, SIG_IGN);
    /* So is a file that may not grow (ulimit -f). */
    signal(SIGXFSZ, SIG_IGN);
    libuv_use_mem();
    char **words = argv + 1;
    int count = argc - 1;
    if (count < 1) {
        print_help(stderr);
        return CLI_USAGE;
    }
    if (is_help(words[0]) && (count == 1 || words[0][0] == '-')) {
        print_help(stdout);
        return CLI_OK;
    }
    if (strcmp(words[0], "--version") == 0) {
        puts("artel " ARTEL_VERSION);
        return CLI_OK;
    }
    const bool help = is_help(words[0]);
    if (help) {
        words++;
        count--;
    }
    int named = 0;
    const struct verb *verb = find_verb(words, count, &named);
    if (!verb) {
        return (int)no_verb(words, count);
    }
    if (help) {
        cli_print_help(verb);
        return CLI_OK;
    }
    return (int)cli_run(verb, verbs, ARRAY_SIZE(verbs), words + named, count - named);
}
