/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "cli/connect.h"
#include "cli/entry_line.h"
#include "client/client.h"
#include "client/entry.h"
#include "client/percent.h"
#include "client/text.h"

struct find_run {
    const char *type; /* NULL: all */
    bool is_json;
    bool is_long;
};

/* "f", "file"... as the API calls it; NULL: none of them. */
static const char *type_of(const char *text)
{
    static const char *const types[] = {"file", "directory", "symlink"};
    static const char letters[] = "fdl";
    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        if (strcmp(text, types[i]) == 0 || (text[0] == letters[i] && !text[1])) {
            return types[i];
        }
    }
    return NULL;
}

static int print(void *context, json_t *entry)
{
    const struct find_run *run = context;
    if (run->type && !entry_is(entry, run->type)) {
        return 0;
    }
    if (run->is_json) {
        CLEANUP_BUF struct buf line = BUF_INIT;
        text_add_json(&line, entry);
        fputs(buf_string(&line), stdout);
    } else {
        entry_line_print(entry, entry_text(entry, "path"), run->is_long);
    }
    return ferror(stdout) ? -EPIPE : 0;
}

/* A pattern below `path`: without a '/' in it, of a name at any depth. The caller frees it. */
static char *pattern_below(const char *path, const char *glob)
{
    struct buf pattern = BUF_INIT;
    percent_add_literal(&pattern, path);
    if (*path) {
        buf_add_byte(&pattern, '/');
    }
    if (!strchr(glob, '/')) {
        buf_add_string(&pattern, "**/");
    }
    buf_add_string(&pattern, glob + strspn(glob, "/"));
    return (char *)pattern.data;
}

static enum cli_status run_find(const struct invocation *invocation)
{
    const char *type = config_string(invocation->config, "type");
    const char *glob = config_string(invocation->config, "match");
    struct find_run run = {
        .type = type ? type_of(type) : NULL,
        .is_json = config_switch(invocation->config, "json"),
        .is_long = config_switch(invocation->config, "long"),
    };
    if (type && !run.type) {
        return cli_usage(invocation, "'%s' is no type: file, directory or symlink", type);
    }
    if (invocation->arguments_count > 1) {
        return cli_usage(invocation, "one directory at a time");
    }
    CLEANUP(client_free) struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    const char *argument = invocation->arguments_count ? invocation->arguments[0] : "/";
    CLEANUP_FREE char *path = text_tree_path(argument);
    CLEANUP_FREE char *pattern = glob ? pattern_below(path, glob) : NULL;
    json_t *entry = entry_stat(client, path, &response);
    bool good = entry != NULL;
    if (good && !entry_is(entry, "directory")) {
        cli_error(invocation, "%s: not a directory", argument);
        json_decref(entry);
        return CLI_FAILED;
    }
    json_decref(entry);
    good = good && entry_list(client, path, "all", pattern, print, &run, &response);
    if (!good && response.err != -EPIPE) {
        connect_report(invocation, argument, &response);
    }
    return good ? CLI_OK : CLI_FAILED;
}

static const struct config_key keys[] = {
    {"match", NULL, "GLOB: a name at any depth, or with '/' a path below PATH", false},
    {"type", NULL, "TYPE: file, directory or symlink; f, d or l", false},
    {"long", NULL, "mode, length, time (UTC) and id of each", true},
    CLI_KEY_JSON,
    CLI_KEYS_CLIENT,
};

static const struct short_flag shorts[] = {{'l', "long"}};

const struct verb verb_find = {
    .name = "find",
    .summary = "search a directory and all that is below it",
    .synopsis = "[--node URL] [PATH] [--match GLOB] [--type TYPE]",
    .about =
        "Prints the paths below PATH, or of the whole tree, that match. In GLOB `*` and `?` stand\n"
        "for characters of a name, `[a-z]` for one of a set, `**` for any number of names.\n",
    .first_argument = CLI_ARGUMENT_PATH,
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .shorts = shorts,
    .shorts_count = ARRAY_SIZE(shorts),
    .run = run_find,
};
