/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/verbs.h"
#include "client/text.h"

/* What `watch --exec` tells a command in its environment. Inside it these are no settings of the
 * flags --path, --id and so on. */
static const char *const told_variables[] = {"ARTEL_PATH", "ARTEL_ID", "ARTEL_EVENT", "ARTEL_FROM",
                                             "ARTEL_CURSOR"};

__attribute__((format(printf, 2, 0))) static void print_error(const struct invocation *invocation,
                                                              const char *format, va_list arguments)
{
    CLEANUP_FREE char *text = NULL;
    if (vasprintf(&text, format, arguments) < 0) {
        mem_out_of_memory();
    }
    /* It may hold a name that somebody else chose. */
    CLEANUP_BUF struct buf shown = BUF_INIT;
    text_add_name(&shown, text, isatty(STDERR_FILENO));
    fprintf(stderr, "artel %s: %s\n", invocation->title, buf_string(&shown));
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
    fprintf(stderr, "Try `artel %s --help`.\n", invocation->title);
    return CLI_USAGE;
}

uint64_t cli_segment_bytes(const struct invocation *invocation)
{
    uint64_t bytes = 0;
    const int err = config_bytes(invocation->config, "segment-bytes", &bytes);
    return err ? 0 : bytes;
}

bool cli_open_store(const struct invocation *invocation, enum cli_access access,
                    struct store **ret_store)
{
    const char *path = config_string(invocation->config, "data");
    if (!path) {
        cli_error(invocation, "no data directory: give --data DIR or set ARTEL_DATA");
        return false;
    }
    const struct store_options options = {
        .path = path,
        .read_only = access == CLI_READ,
        .must_exist = access != CLI_MAKE,
        .segment_bytes = cli_segment_bytes(invocation),
    };
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
    case -EBADMSG:
        cli_error(invocation, "%s: the index of the store is gone", path);
        break;
    case -ENOENT:
        cli_error(invocation,
                  access == CLI_MAKE ? "%s can't be made here" : "there is no store at %s", path);
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

/* Sets the flag `name`; takes its value from words[*at + 1] unless `value` is here. */
static enum cli_status set_flag(const struct invocation *invocation, const struct config_key *key,
                                const char *value, char **words, int count, int *at)
{
    if (key->is_switch) {
        if (value) {
            return cli_usage(invocation, "--%s takes no value", key->name);
        }
        value = "1";
    } else if (!value) {
        if (*at + 1 == count) {
            return cli_usage(invocation, "--%s needs a value", key->name);
        }
        value = words[++*at];
    }
    if (config_set_flag(invocation->config, key->name, value)) {
        return cli_usage(invocation, "the value of --%s is too long", key->name);
    }
    return CLI_OK;
}

static const struct config_key *find_key(const struct verb *verb, const char *name)
{
    for (size_t i = 0; i < verb->keys_count; i++) {
        if (strcmp(verb->keys[i].name, name) == 0) {
            return &verb->keys[i];
        }
    }
    return NULL;
}

/* Takes one flag at words[*at] and moves *at to its last word. */
static enum cli_status read_flag(const struct invocation *invocation, char **words, int count,
                                 int *at)
{
    CLEANUP_FREE char *name = mem_copy_string(words[*at] + 2);
    char *equals = strchr(name, '=');
    if (equals) {
        *equals = 0;
    }
    const struct config_key *key = find_key(invocation->verb, name);
    if (!key) {
        return cli_usage(invocation, "there is no flag --%s", name);
    }
    return set_flag(invocation, key, equals ? equals + 1 : NULL, words, count, at);
}

static const struct config_key *find_short(const struct invocation *invocation, char letter)
{
    const struct verb *verb = invocation->verb;
    for (size_t i = 0; i < verb->shorts_count; i++) {
        if (verb->shorts[i].letter == letter) {
            return find_key(verb, verb->shorts[i].name);
        }
    }
    return NULL;
}

/* `-lR`, `-m 0644`, `-m0644`. */
static enum cli_status read_shorts(const struct invocation *invocation, char **words, int count,
                                   int *at)
{
    const char *word = words[*at];
    for (const char *letter = word + 1; *letter; letter++) {
        const struct config_key *key = find_short(invocation, *letter);
        if (!key) {
            return cli_usage(invocation, "there is no flag %s", word);
        }
        const char *value = !key->is_switch && letter[1] ? letter + 1 : NULL;
        const enum cli_status status = set_flag(invocation, key, value, words, count, at);
        if (status || !key->is_switch) {
            return status;
        }
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
        enum cli_status status = CLI_OK;
        if (!flags || word[0] != '-' || word[1] == 0) {
            invocation->arguments[invocation->arguments_count++] = words[at];
        } else if (strcmp(word, "--") == 0) {
            flags = false;
        } else if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            *ret_help = true;
        } else if (word[1] != '-') {
            status = read_shorts(invocation, words, count, &at);
        } else {
            status = read_flag(invocation, words, count, &at);
        }
        if (status) {
            return status;
        }
    }
    return CLI_OK;
}

static enum cli_status read_settings(const struct invocation *invocation)
{
    for (size_t i = 0; i < ARRAY_SIZE(told_variables); i++) {
        unsetenv(told_variables[i]);
    }
    if (config_load_environment(invocation->config)) {
        return cli_usage(invocation,
                         "a variable ARTEL_* is too long, or no yes or no where one is needed");
    }
    const char *path = config_string(invocation->config, "config");
    int line = 0;
    const int err = path ? config_load_file(invocation->config, path, &line) : 0;
    if (err == -EINVAL) {
        return cli_usage(invocation,
                         "%s, line %d: not a setting of any verb, or no value that it can have",
                         path, line);
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
    const uint64_t segment_bytes = cli_segment_bytes(invocation);
    if (segment_bytes < STORE_SEGMENT_BYTES_MIN || segment_bytes > STORE_SEGMENT_BYTES_MAX) {
        return cli_usage(invocation, "--segment-bytes is a size of 64K to 64G");
    }
    return CLI_OK;
}

/* The keys of `verb`, and those of the others that it has not; the caller frees the array. */
static struct config_key *all_keys(const struct verb *verb, size_t *ret_count)
{
    size_t room = verb->keys_count;
    for (const struct verb *const *at = verbs_all; *at; at++) {
        room += (*at)->keys_count;
    }
    struct config_key *keys = mem_alloc_array(room, sizeof *keys);
    struct verb known = {.keys = keys};
    for (size_t i = 0; i < verb->keys_count; i++) {
        keys[known.keys_count++] = verb->keys[i];
    }
    for (const struct verb *const *at = verbs_all; *at; at++) {
        for (size_t i = 0; verb_has_settings(*at) && i < (*at)->keys_count; i++) {
            if (!find_key(&known, (*at)->keys[i].name)) {
                keys[known.keys_count++] = (*at)->keys[i];
            }
        }
    }
    *ret_count = known.keys_count;
    return keys;
}

enum cli_status cli_run(const struct verb *verb, char **words, int count)
{
    CLEANUP_FREE char *title = verb_title(verb);
    size_t keys_count = 0;
    CLEANUP_FREE struct config_key *keys = all_keys(verb, &keys_count);
    struct invocation invocation = {
        .verb = verb,
        .title = title,
        .config = config_new(keys, keys_count),
        .arguments = mem_alloc_array((size_t)count + 1, sizeof(char *)),
    };
    if (verb->list_key) {
        config_allow_list(invocation.config, verb->list_key);
    }
    bool help = false;
    enum cli_status status = read_words(&invocation, words, count, &help);
    if (!status && help) {
        cli_print_help(verb);
    } else if (!status) {
        status = verb_has_settings(verb) ? read_settings(&invocation) : CLI_OK;
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
