/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/libuv.h"
#include "cli/verbs.h"

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static enum cli_status no_verb(char **words, size_t count)
{
    const bool is_group = verbs_is_group(words[0]);
    if (is_group && count > 1 && (is_help(words[1]) || strcmp(words[1], "help") == 0)) {
        cli_print_verbs(stdout);
        return CLI_OK;
    }
    fprintf(stderr, "artel: there is no verb '%s%s%s'; see `artel --help`\n", words[0],
            is_group ? " " : "", is_group && count > 1 ? words[1] : "");
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
    const size_t count = argc > 0 ? (size_t)argc - 1 : 0;
    if (count == 0) {
        cli_print_verbs(stderr);
        return CLI_USAGE;
    }
    if (is_help(words[0])) {
        cli_print_verbs(stdout);
        return CLI_OK;
    }
    if (strcmp(words[0], "--version") == 0) {
        puts("artel " ARTEL_VERSION);
        return CLI_OK;
    }
    size_t named = 0;
    const struct verb *verb = verbs_find(words, count, &named);
    return (int)(verb ? cli_run(verb, words + named, (int)(count - named)) : no_verb(words, count));
}
