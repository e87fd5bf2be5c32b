/* SPDX-License-Identifier: Apache-2.0 */
#include "base/config.h"

#include <assert.h>
#include <ctype.h>
#include <fcntl.h>
#include <ini.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"

/* The places that values come from, weakest first. The default stands in the declaration. */
enum source { SOURCE_FILE, SOURCE_ENVIRONMENT, SOURCE_FLAG, SOURCES_COUNT };

/* One value or NULL for each key. A source is read into a fresh layer that takes the place of the
 * old one only when all of it is good. */
struct layer {
    char **values;
};

struct config {
    const struct config_key *keys;
    size_t keys_count;
    const struct config_key *list; /* the one that may be given several times, or NULL */
    struct layer layers[SOURCES_COUNT];
};

static struct layer layer_new(size_t keys_count)
{
    return (struct layer){mem_alloc_array(keys_count, sizeof(char *))};
}

static void layer_free(struct layer layer, size_t keys_count)
{
    for (size_t i = 0; i < keys_count; i++) {
        free(layer.values[i]);
    }
    free(layer.values);
}

struct config *config_new(const struct config_key *keys, size_t keys_count)
{
    struct config *config = mem_alloc(sizeof *config);
    config->keys = keys;
    config->keys_count = keys_count;
    for (size_t i = 0; i < SOURCES_COUNT; i++) {
        config->layers[i] = layer_new(keys_count);
    }
    return config;
}

void config_free(struct config *config)
{
    if (!config) {
        return;
    }
    for (size_t i = 0; i < SOURCES_COUNT; i++) {
        layer_free(config->layers[i], config->keys_count);
    }
    free(config);
}

static void config_replace_layer(struct config *config, enum source source, struct layer layer)
{
    layer_free(config->layers[source], config->keys_count);
    config->layers[source] = layer;
}

const struct config_key *config_find(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->keys_count; i++) {
        if (strcmp(config->keys[i].name, name) == 0) {
            return &config->keys[i];
        }
    }
    return NULL;
}

/* "1", "yes", "true", "on" and their opposites, in any case. */
static bool switch_parse(const char *value, bool *ret_is_on)
{
    static const char *const words[][2] = {
        {"0", "1"}, {"no", "yes"}, {"false", "true"}, {"off", "on"}};
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        for (size_t is_on = 0; is_on < 2; is_on++) {
            if (strcasecmp(value, words[i][is_on]) == 0) {
                *ret_is_on = is_on == 1;
                return true;
            }
        }
    }
    return false;
}

void config_allow_list(struct config *config, const char *name)
{
    config->list = config_find(config, name);
    CHECK(config->list && !config->list->is_switch);
}

/* Takes a copy of `value`, the last one given wins, or is added. -EINVAL: too long, or no value of
 * a switch. */
static int layer_set(struct layer layer, const struct config *config, const struct config_key *key,
                     const char *value)
{
    bool is_on;
    if (strlen(value) > CONFIG_VALUE_BYTES_MAX ||
        (key->is_switch && !switch_parse(value, &is_on))) {
        return -EINVAL;
    }
    char **slot = &layer.values[key - config->keys];
    const bool is_more = key == config->list && *slot;
    if (is_more && strlen(*slot) + strlen(value) >= CONFIG_LIST_BYTES_MAX) {
        return -EINVAL;
    }
    char *text = is_more ? mem_format("%s\n%s", *slot, value) : mem_copy_string(value);
    free(*slot);
    *slot = text;
    return 0;
}

/*
 * The file. inih as packaged cuts lines at 200 bytes and reads an indented line as the value of
 * the key above it again; both are switched by variables of the library. They are set once for
 * the process, to what every caller here wants.
 */

static void set_up_inih(void)
{
    ini_use_stack = false;
    ini_allow_realloc = true;
    ini_max_line = CONFIG_FILE_BYTES_MAX + 3; /* its "\r\n" and NUL: no line is longer than that */
    ini_allow_multiline = false;
}

struct file_reader {
    const struct config *config;
    struct layer layer;
};

/* Called by inih for each `name = value`; 0 is failure there. */
static int take_line(void *context, const char *section, const char *name, const char *value)
{
    (void)section;
    const struct file_reader *reader = context;
    const struct config_key *key = config_find(reader->config, name);
    return key && layer_set(reader->layer, reader->config, key, value) == 0;
}

static int line_of(struct bytes text, const uint8_t *at)
{
    int line = 1;
    for (const uint8_t *byte = text.data; byte < at; byte++) {
        line += *byte == '\n';
    }
    return line;
}

int config_load_file(struct config *config, const char *path, int *ret_line)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_up_inih);

    CLEANUP_BUF struct buf text = BUF_INIT;
    int err = file_read_path(AT_FDCWD, path, CONFIG_FILE_BYTES_MAX, &text);
    if (err) {
        return err;
    }
    /* inih reads C strings: what follows a NUL would be left out without a word. */
    const uint8_t *nul = text.size ? memchr(text.data, 0, text.size) : NULL;
    if (nul) {
        *ret_line = line_of(buf_bytes(&text), nul);
        return -EINVAL;
    }

    struct file_reader reader = {.config = config, .layer = layer_new(config->keys_count)};
    const int line = ini_parse_string(buf_string(&text), take_line, &reader);
    if (line != 0) {
        layer_free(reader.layer, config->keys_count);
        if (line < 0) {
            mem_out_of_memory();
        }
        *ret_line = line;
        return -EINVAL;
    }
    config_replace_layer(config, SOURCE_FILE, reader.layer);
    return 0;
}

/* "cache-bytes" -> "ARTEL_CACHE_BYTES" */
static void add_variable_name(struct buf *buf, const char *name)
{
    buf_add_string(buf, "ARTEL_");
    for (; *name; name++) {
        buf_add_byte(buf, *name == '-' ? '_' : (uint8_t)toupper((unsigned char)*name));
    }
}

int config_load_environment(struct config *config)
{
    struct layer layer = layer_new(config->keys_count);
    for (size_t i = 0; i < config->keys_count; i++) {
        CLEANUP_BUF struct buf variable = BUF_INIT;
        add_variable_name(&variable, config->keys[i].name);
        const char *value = getenv(buf_string(&variable));
        /* NAME= is how scripts and unit files say that a variable is not set. */
        int err = value && *value ? layer_set(layer, config, &config->keys[i], value) : 0;
        if (err) {
            layer_free(layer, config->keys_count);
            return err;
        }
    }
    config_replace_layer(config, SOURCE_ENVIRONMENT, layer);
    return 0;
}

int config_set_flag(struct config *config, const char *name, const char *value)
{
    const struct config_key *key = config_find(config, name);
    if (!key) {
        return -ENOENT;
    }
    if (!value) {
        if (!key->is_switch) {
            return -EINVAL;
        }
        value = "1";
    }
    return layer_set(config->layers[SOURCE_FLAG], config, key, value);
}

const char *config_string(const struct config *config, const char *name)
{
    const struct config_key *key = config_find(config, name);
    CHECK(key);
    for (size_t source = SOURCES_COUNT; source-- > 0;) {
        const char *value = config->layers[source].values[key - config->keys];
        if (value) {
            return value;
        }
    }
    return key->default_value;
}

const char *config_flag(const struct config *config, const char *name)
{
    const struct config_key *key = config_find(config, name);
    CHECK(key);
    return config->layers[SOURCE_FLAG].values[key - config->keys];
}

bool config_switch(const struct config *config, const char *name)
{
    const char *value = config_string(config, name);
    bool is_on = false;
    return value && switch_parse(value, &is_on) && is_on;
}

/* Reads the decimal digits that `text` begins with and tells what follows them. */
static int parse_digits(const char *text, uint64_t *ret_number, const char **ret_rest)
{
    if (!isdigit((unsigned char)*text)) {
        return -EINVAL; /* strtoull() would take blanks and signs */
    }
    char *rest;
    errno = 0;
    const unsigned long long number = strtoull(text, &rest, 10);
    static_assert(sizeof number == sizeof *ret_number);
    if (errno == ERANGE) {
        return -EOVERFLOW;
    }
    *ret_number = number;
    *ret_rest = rest;
    return 0;
}

int config_bytes(const struct config *config, const char *name, uint64_t *ret_bytes)
{
    const char *value = config_string(config, name);
    if (!value) {
        return -ENOENT;
    }
    uint64_t number = 0;
    const char *unit = NULL;
    int err = parse_digits(value, &number, &unit);
    if (err) {
        return err;
    }
    unsigned shift = 0;
    if (*unit) {
        static const char units[] = "KMGT";
        const char *found = strchr(units, *unit);
        if (!found || unit[1]) {
            return -EINVAL;
        }
        shift = 10 * (unsigned)(found - units + 1);
    }
    if (number > UINT64_MAX >> shift) {
        return -EOVERFLOW;
    }
    *ret_bytes = number << shift;
    return 0;
}

int config_number(const struct config *config, const char *name, uint64_t limit,
                  uint64_t *ret_number)
{
    const char *value = config_string(config, name);
    if (!value) {
        return -ENOENT;
    }
    uint64_t number = 0;
    const char *rest = NULL;
    int err = parse_digits(value, &number, &rest);
    if (err) {
        return err;
    }
    if (*rest) {
        return -EINVAL;
    }
    if (number > limit) {
        return -EOVERFLOW;
    }
    *ret_number = number;
    return 0;
}
