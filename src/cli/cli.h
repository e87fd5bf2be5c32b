/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

/*
 * cli: the verbs of the one program. Each has its file: verb_NAME.c for those that talk to a node,
 * store_NAME.c for those on a data directory; verbs.c has the table of them, invoke.c reads the
 * flags and runs one.
 *
 * Exit status, as with grep: 0 all went well, 1 something did not (a line on standard error tells
 * what), 2 the command line makes no sense.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/config.h"
#include "hash/id.h"
#include "store/store.h"

enum cli_status { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* A verb as it was called. */
struct invocation {
    const struct verb *verb;
    const char *title; /* "put", "store put" */
    struct config *config;
    char **arguments; /* what is no flag */
    size_t arguments_count;
};

/* `-l` for `--long`. */
struct short_flag {
    char letter;
    const char *name;
};

/* What an argument can be, for completion; several are or-ed. */
enum cli_argument {
    CLI_ARGUMENT_FILE = 1 << 0,  /* a file or directory of this machine */
    CLI_ARGUMENT_PATH = 1 << 1,  /* a path of the tree */
    CLI_ARGUMENT_VERB = 1 << 2,  /* a verb, with its group */
    CLI_ARGUMENT_SHELL = 1 << 3, /* bash, zsh, fish */
};

struct verb {
    const char *group; /* `artel GROUP NAME`; NULL: `artel NAME` */
    const char *name;
    const char *summary;  /* a line for `artel --help` */
    const char *synopsis; /* behind `artel NAME` */
    const char *about;    /* paragraphs for `artel NAME --help` */
    unsigned first_argument;
    unsigned other_arguments;
    /* The help of a flag begins with the name of its value: "FILE: where to write". Without
     * "config" among them it reads no settings. */
    const struct config_key *keys;
    size_t keys_count;
    const char *list_key; /* the one that may be given several times, or NULL */
    const struct short_flag *shorts;
    size_t shorts_count;
    enum cli_status (*run)(const struct invocation *invocation);
};

extern const struct verb verb_completion;
extern const struct verb verb_conflicts;
extern const struct verb verb_find;
extern const struct verb verb_follow;
extern const struct verb verb_get;
extern const struct verb verb_help;
extern const struct verb verb_leave;
extern const struct verb verb_log;
extern const struct verb verb_ls;
extern const struct verb verb_members;
extern const struct verb verb_mkdir;
extern const struct verb verb_mount;
extern const struct verb verb_mv;
extern const struct verb verb_node;
extern const struct verb verb_put;
extern const struct verb verb_restore;
extern const struct verb verb_rm;
extern const struct verb verb_scrub;
extern const struct verb verb_sim;
extern const struct verb verb_stat;
extern const struct verb verb_status;
extern const struct verb verb_wait;
extern const struct verb verb_watch;
extern const struct verb verb_where;
extern const struct verb verb_why;

extern const struct verb store_verb_get;
extern const struct verb store_verb_ls;
extern const struct verb store_verb_put;
extern const struct verb store_verb_rm;
extern const struct verb store_verb_scrub;
extern const struct verb store_verb_status;

/* Flags that every verb has. */
#define CLI_KEYS_ANY                                                                               \
    {"config", NULL, "FILE: read settings from it", false},                                        \
    {                                                                                              \
        "log-level", "warn", "LEVEL: debug, info, warn, error or off", false                       \
    }

/* Those of a verb on a data directory, and of one that talks to a node. */
#define CLI_KEYS_COMMON {"data", NULL, "DIR: the data directory", false}, CLI_KEYS_ANY
#define CLI_KEYS_CLIENT                                                                            \
    {"node", CLI_NODE_DEFAULT, "URL: the node, http://HOST:PORT or unix:/SOCKET", false},          \
        CLI_KEYS_ANY
#define CLI_NODE_DEFAULT "http://127.0.0.1:7420"

#define CLI_KEY_JSON                                                                               \
    {                                                                                              \
        "json", NULL, "print JSON, for programs", true                                             \
    }
#define CLI_SEGMENT_BYTES_DEFAULT "1G" /* STORE_SEGMENT_BYTES_DEFAULT */
#define CLI_KEY_SEGMENT_BYTES                                                                      \
    {                                                                                              \
        "segment-bytes", CLI_SEGMENT_BYTES_DEFAULT,                                                \
            "BYTES: of a new file that blocks are kept in, 64K to 64G", false                      \
    }
/* Of verbs that change something; see cli/ack.h. */
#define CLI_KEYS_ACK                                                                               \
    {"ack", NULL, "NUMBER: of other nodes that shall have it on disk first", false},               \
    {                                                                                              \
        "ack-wait", NULL, "SECONDS: to wait for them, 30 unless told", false                       \
    }
#define CLI_KEYS_COPIES                                                                            \
    {"copies", NULL, "NUMBER: of nodes that shall hold the content first, this one too", false},   \
    {                                                                                              \
        "copies-wait", NULL, "SECONDS: to wait for them, 3600 unless told", false                  \
    }
#define CLI_KEY_QUIET                                                                              \
    {                                                                                              \
        "quiet", NULL, "show no progress", true                                                    \
    }

/* "artel VERB: message" on standard error. From any thread. */
void cli_error(const struct invocation *invocation, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same for a call that makes no sense, with a hint at --help; is CLI_USAGE. */
enum cli_status cli_usage(const struct invocation *invocation, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* What a verb does with the store: reads it, changes one that is there, or makes it if need be. */
enum cli_access { CLI_READ, CLI_CHANGE, CLI_MAKE };

/* How long new segments are: CLI_KEY_SEGMENT_BYTES, which was checked before the verb runs. */
uint64_t cli_segment_bytes(const struct invocation *invocation);

/* Opens the store that --data names, or says why not. */
bool cli_open_store(const struct invocation *invocation, enum cli_access access,
                    struct store **ret_store);

/* Parses an id of the command line, or says what is wrong with it. */
bool cli_parse_id(const struct invocation *invocation, const char *text, struct id *ret_id);

/* Prints the help of `verb` on standard output, or the list of verbs. */
void cli_print_help(const struct verb *verb);
void cli_print_verbs(FILE *out);

/* Runs `verb` with the words behind its name (count of them). Keys of the config file that belong
 * to other verbs are no mistake: one file serves all. */
enum cli_status cli_run(const struct verb *verb, char **words, int count);

#endif
