/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

/*
 * cli: the verbs of the one program. Each has its file, verb_NAME.c; main.c finds the verb, reads
 * its flags and runs it.
 *
 * Exit status, as with grep: 0 all went well, 1 something did not (a line on standard error tells
 * what), 2 the command line makes no sense.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/config.h"
#include "hash/id.h"
#include "store/store.h"

enum cli_status { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* A verb as it was called. */
struct invocation {
    const struct verb *verb;
    struct config *config;
    char **arguments; /* what is no flag */
    size_t arguments_count;
};

struct verb {
    const char *name;
    const char *summary;  /* a line for `artel --help` */
    const char *synopsis; /* behind `artel NAME` */
    const char *about;    /* paragraphs for `artel NAME --help` */
    const struct config_key *keys;
    size_t keys_count;
    enum cli_status (*run)(const struct invocation *invocation);
};

extern const struct verb verb_get;
extern const struct verb verb_ls;
extern const struct verb verb_put;
extern const struct verb verb_rm;
extern const struct verb verb_scrub;
extern const struct verb verb_status;

/* Flags that every verb on a data directory has. */
#define CLI_KEYS_COMMON                                                                            \
    {"data", NULL, "DIR: the data directory", false},                                              \
        {"config", NULL, "FILE: read settings from it", false},                                    \
    {                                                                                              \
        "log-level", "warn", "LEVEL: debug, info, warn, error or off", false                       \
    }

#define CLI_KEY_JSON                                                                               \
    {                                                                                              \
        "json", NULL, "print JSON, for programs", true                                             \
    }

/* "artel VERB: message" on standard error. */
void cli_error(const struct invocation *invocation, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same for a call that makes no sense, with a hint at --help; is CLI_USAGE. */
enum cli_status cli_usage(const struct invocation *invocation, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Opens the store that --data names, or says why not. */
bool cli_open_store(const struct invocation *invocation, bool read_only, struct store **ret_store);

/* Parses an id of the command line, or says what is wrong with it. */
bool cli_parse_id(const struct invocation *invocation, const char *text, struct id *ret_id);

#endif
