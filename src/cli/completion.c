/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/completion.h"

#include <string.h>

#include "base/mem.h"

static const struct {
    const char *name;
    struct completion_value value;
} values[] = {
    {"FILE", {.is_file = true}},
    {"DIR", {.is_directory = true}},
    {"LEVEL", {.words = "debug info warn error off"}},
    {"TYPE", {.words = "file directory symlink"}},
};

struct completion_value completion_value(const struct config_key *key)
{
    const struct bytes name = verb_flag_help(key).value;
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        if (bytes_equal(name, bytes_of_string(values[i].name))) {
            return values[i].value;
        }
    }
    return (struct completion_value){0};
}

bool completion_add(struct buf *out, const char *shell)
{
    static const struct {
        const char *shell;
        void (*add)(struct buf *out);
    } scripts[] = {
        {"bash", completion_add_bash},
        {"zsh", completion_add_zsh},
        {"fish", completion_add_fish},
    };
    for (size_t i = 0; i < ARRAY_SIZE(scripts); i++) {
        if (strcmp(scripts[i].shell, shell) == 0) {
            scripts[i].add(out);
            return true;
        }
    }
    return false;
}
