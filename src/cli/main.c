/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/libuv.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/cli.h"

static const struct verb *const verbs[] = {
    &verb_put, &verb_get, &verb_ls, &verb_rm, &verb_scrub, &verb_status,
};

static void print_help(FILE *out)
{
    fputs("usage: artel VERB [FLAGS] [ARGUMENTS]\n\n", out);
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        fprintf(out, "  %-8s %s\n", verbs[i]->name, verbs[i]->summary);
    }
    fputs("\n`artel VERB --help` tells more; `artel --version` the version.\n"
          "Every flag --some-name is also the variable ARTEL_SOME_NAME and a key of the file\n"
          "that --config names.\n",
          out);
}

static void print_verb_help(const struct verb *verb)
{
    printf("usage: artel %s %s\n\n%s\n", verb->name, verb->synopsis, verb->about);
    for (size_t i = 0; i < verb->keys_count; i++) {
        const struct config_key *key = &verb->keys[i];
        printf("  --%-12s %s", key->name, key->help);
        if (key->default_value) {
            printf(" (%s unless given)", key->default_value);
        }
        putchar('\n');
    }
}

__attribute__((format(printf, 2, 0))) static void print_error(const struct invocation *invocation,
                                                              const char *format, va_list arguments)
{
    CLEANUP_FREE char *text = NULL;
    if (vasprintf(&text, format, arguments) < 0) {
        mem_out_of_memory();
    }
    fprintf(stderr, "artel %s: %s\n", invocation->verb->name, text);
}

void cli_error(const struct invocation *invocation, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_error(invocation, format, arguments);
    va_end(arguments);
}

enum cli_status cli_usage(const struct invocation *invocation, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_error(invocation, format, arguments);
    va_end(arguments);
    fprintf(stderr, "Try `artel %s --help`.\n", invocation->verb->name);
    return CLI_USAGE;
}

bool cli_open_store(const struct invocation *invocation, bool read_only, struct store **ret_store)
{
    const char *path = config_string(invocation->config, "data");
    if (!path) {
        cli_error(invocation, "no data directory: give --data DIR or set ARTEL_DATA");
        return false;
    }
    const struct store_options options = {.path = path, .read_only = read_only};
    const int err = store_open(&options, ret_store);
    switch (err) {
    case 0:
        return true;
    case -EBUSY:
        cli_error(invocation, "%s is in use by process %ld", path, store_owner(path));
        break;
    case -EPROTONOSUPPORT:
        cli_error(invocation, "%s has format %u; this artel reads and writes format %u", path,
                  store_format_found(path), STORE_FORMAT);
        break;
    case -ENOTEMPTY:
        cli_error(invocation, "%s holds something that is not an artel store", path);
        break;
    case -ENOENT:
        cli_error(invocation, read_only ? "there is no store at %s" : "%s can't be made here",
                  path);
        break;
    default:
        cli_error(invocation, "%s: %s", path, err_text(err));
        break;
    }
    return false;
}

bool cli_parse_id(const struct invocation *invocation, const char *text, struct id *ret_id)
{
    if (id_parse(bytes_of_string(text), ret_id)) {
        cli_error(invocation, "'%s' is no id: an id has 64 lower-case hex digits", text);
        return false;
    }
    return true;
}

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
        if (strcmp(verbs[i]->name, name) == 0) {
            return verbs[i];
        }
    }
    return NULL;
}

/* Takes one flag at words[*at] and moves *at behind it. */
static enum cli_status read_flag(const struct invocation *invocation, char **words, int count,
                                 int *at)
{
    CLEANUP_FREE char *name = mem_copy_string(words[*at] + 2);
    char *equals = strchr(name, '=');
    if (equals) {
        *equals = 0;
    }
    const struct config_key *key = config_find(invocation->config, name);
    if (!key) {
        return cli_usage(invocation, "there is no flag --%s", name);
    }
    const char *value = equals ? equals + 1 : NULL;
    if (key->is_switch) {
        if (value) {
            return cli_usage(invocation, "--%s takes no value", name);
        }
        value = "1";
    } else if (!value) {
        if (*at + 1 == count) {
            return cli_usage(invocation, "--%s needs a value", name);
        }
        value = words[++*at];
    }
    if (config_set_flag(invocation->config, name, value)) {
        return cli_usage(invocation, "the value of --%s is too long", name);
    }
    return CLI_OK;
}

/* Sorts the words behind the verb into flags and arguments; `--` ends the flags, `-` is none. */
static enum cli_status read_words(struct invocation *invocation, char **words, int count,
                                  bool *ret_help)
{
    bool flags = true;
    for (int at = 0; at < count; at++) {
        const char *word = words[at];
        if (!flags || word[0] != '-' || word[1] == 0) {
            invocation->arguments[invocation->arguments_count++] = words[at];
        } else if (strcmp(word, "--") == 0) {
            flags = false;
        } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            *ret_help = true;
        } else if (word[1] != '-') {
            return cli_usage(invocation, "there is no flag %s", word);
        } else {
            const enum cli_status status = read_flag(invocation, words, count, &at);
            if (status) {
                return status;
            }
        }
    }
    return CLI_OK;
}

static enum cli_status read_settings(const struct invocation *invocation)
{
    if (config_load_environment(invocation->config)) {
        return cli_usage(invocation, "a variable ARTEL_* is too long");
    }
    const char *path = config_string(invocation->config, "config");
    int line = 0;
    const int err = path ? config_load_file(invocation->config, path, &line) : 0;
    if (err == -EINVAL) {
        return cli_usage(invocation, "%s, line %d: not a setting of this verb", path, line);
    }
    if (err) {
        return cli_usage(invocation, "%s: %s", path, err_text(err));
    }
    const char *name = config_string(invocation->config, "log-level");
    enum log_level level = LOG_WARN;
    if (!log_level_parse(name, &level)) {
        return cli_usage(invocation, "'%s' is no log level", name);
    }
    log_set_level(level);
    return CLI_OK;
}

static enum cli_status run_verb(const struct verb *verb, char **words, int count)
{
    struct invocation invocation = {
        .verb = verb,
        .config = config_new(verb->keys, verb->keys_count),
        .arguments = mem_alloc_array((size_t)count + 1, sizeof(char *)),
    };
    bool help = false;
    enum cli_status status = read_words(&invocation, words, count, &help);
    if (!status && help) {
        print_verb_help(verb);
    } else if (!status) {
        status = read_settings(&invocation);
        if (!status) {
            status = verb->run(&invocation);
        }
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        cli_error(&invocation, "standard output: %s", err_text(err_from_errno(errno)));
        status = status ? status : CLI_FAILED;
    }
    free(invocation.arguments);
    config_free(invocation.config);
    return status;
}

int main(int argc, char **argv)
{
    /* A reader that has gone is an error of write(2), told like any other. */
    signal(SIGPIPE, SIG_IGN);
    libuv_use_mem();
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        (strcmp(argv[1], "help") == 0 && argc == 2)) {
        print_help(stdout);
        return CLI_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("artel " ARTEL_VERSION);
        return CLI_OK;
    }
    const bool help = strcmp(argv[1], "help") == 0;
    const struct verb *verb = find_verb(argv[help ? 2 : 1]);
    if (!verb) {
        fprintf(stderr, "artel: there is no verb '%s'; see `artel --help`\n", argv[help ? 2 : 1]);
        return CLI_USAGE;
    }
    if (help) {
        print_verb_help(verb);
        return CLI_OK;
    }
    return (int)run_verb(verb, argv + 2, argc - 2);
}
