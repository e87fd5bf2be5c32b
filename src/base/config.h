/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

/*
 * config: settings by name, from four places: the default, a config file, the environment, a
 * flag of the command line. The later in this list wins. One table declares them all, so that
 * every flag is also a key of the file and a variable.
 *
 * Key "cache-bytes" is `cache-bytes = 10G` in the file, ARTEL_CACHE_BYTES in the environment and
 * --cache-bytes on the command line. The file is INI: lines that begin with `;` or `#` are
 * comments, and so is what follows a blank and `;` in a line; no sections are needed and their
 * names are ignored; of a key given twice the last counts, unless it is a list.
 *
 * Threads: load in one, before others start; after that any thread may read.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_VALUE_BYTES_MAX 4096 /* a path at its longest */
#define CONFIG_LIST_BYTES_MAX (256 * 1024)
#define CONFIG_FILE_BYTES_MAX (1024 * 1024)

struct config_key {
    const char *name;          /* lower case words joined by '-' */
    const char *default_value; /* NULL: unset */
    const char *help;          /* a line for --help and the manual */
    bool is_switch;            /* 1, yes, true, on or 0, no, false, off; as a flag alone: 1 */
};

struct config;

/* `keys` (count of them) outlives the config. */
struct config *config_new(const struct config_key *keys, size_t keys_count);
void config_free(struct config *config);

/* The key, which must be declared and be no switch, may be given several times: what one place
 * gives is then one text, with an LF between them. Before anything is loaded. */
void config_allow_list(struct config *config, const char *name);

/* Reads an INI file, in place of one read before. -ENOENT, -EACCES, -EISDIR, -EIO, -EFBIG, -EINVAL
 * (*ret_line tells where: a key nobody declared, a line that is none, a value too long or not one
 * of a switch). On failure nothing was taken. */
[[nodiscard]] int config_load_file(struct config *config, const char *path, int *ret_line);

/* Takes ARTEL_* of the process's environment for all declared keys; an empty variable counts as
 * unset. -EINVAL: a value too long or not one of a switch; nothing was taken then. */
[[nodiscard]] int config_load_environment(struct config *config);

/* What the command line gives; NULL for a switch that stands alone. -ENOENT: no such key;
 * -EINVAL: a value missing, too long or not one of a switch. */
[[nodiscard]] int config_set_flag(struct config *config, const char *name, const char *value);

/* The declaration of `name`, or NULL. */
const struct config_key *config_find(const struct config *config, const char *name);

/* The winning value, borrowed, or NULL if there is none. The key must be declared. */
const char *config_string(const struct config *config, const char *name);
/* What the command line gave, or NULL: for a key that means something else to other verbs. */
const char *config_flag(const struct config *config, const char *name);
bool config_switch(const struct config *config, const char *name);

/* "10", "64K", "10M", "2G", "1T" (powers of 1024) as bytes; -EINVAL, -EOVERFLOW. Unset: -ENOENT. */
[[nodiscard]] int config_bytes(const struct config *config, const char *name, uint64_t *ret_bytes);
/* A plain number in [0, limit]; -EINVAL, -EOVERFLOW. Unset: -ENOENT. */
[[nodiscard]] int config_number(const struct config *config, const char *name, uint64_t limit,
                                uint64_t *ret_number);

#endif
