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
#include "client/text.h"

struct ls_run {
    bool is_json;
    bool is_long;
    size_t top_size; /* of what stands before the names: the directory and a '/' */
};

static int print(void *context, json_t *entry)
{
    const struct ls_run *run = context;
    const char *path = entry_text(entry, "path");
    if (run->is_json) {
        CLEANUP_BUF struct buf line = BUF_INIT;
        text_add_json(&line, entry);
        fputs(buf_string(&line), stdout);
    } else {
        entry_line_print(entry, strlen(path) > run->top_size ? path + run->top_size : path,
                         run->is_long);
    }
    return ferror(stdout) ? -EPIPE : 0;
}

static bool list(const struct invocation *invocation, struct client *client, const char *argument)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_FREE char *path = text_tree_path(argument);
    json_t *entry = entry_stat(client, path, &response);
    struct ls_run run = {
        .is_json = config_switch(invocation->config, "json"),
        .is_long = config_switch(invocation->config, "long"),
    };
    bool good = entry != NULL;
    if (good && entry_is(entry, "directory")) {
        const char *depth = config_switch(invocation->config, "recursive") ? "all" : "1";
        run.top_size = *path ? strlen(path) + 1 : 0;
        good = entry_list(client, path, depth, NULL, print, &run, &response);
    } else if (good) {
        print(&run, entry);
    }
    json_decref(entry);
    if (!good && response.err != -EPIPE) {
        connect_report(invocation, argument, &response);
    }
    return good;
}

static enum cli_status run_ls(const struct invocation *invocation)
{
    CLEANUP(client_free) struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    bool good = true;
    if (invocation->arguments_count == 0) {
        good = list(invocation, client, "/");
    }
    for (size_t i = 0; i < invocation->arguments_count; i++) {
        if (invocation->arguments_count > 1 && !config_switch(invocation->config, "json")) {
            printf("%s%s:\n", i ? "\n" : "", invocation->arguments[i]);
        }
        good &= list(invocation, client, invocation->arguments[i]);
    }
    return good ? CLI_OK : CLI_FAILED;
}

static const struct config_key keys[] = {
    {"long", NULL, "mode, length, time (UTC) and id of each", true},
    {"recursive", NULL, "all that is below, too", true},
    CLI_KEY_JSON,
    CLI_KEYS_CLIENT,
};

static const struct short_flag shorts[] = {{'l', "long"}, {'R', "recursive"}};

const struct verb verb_ls = {
    .name = "ls",
    .summary = "list directories",
    .synopsis = "[--node URL] [-l] [-R] [PATH...]",
    .about =
        "Lists a directory, or the root of the tree: a name a line, a '/' behind directories.\n"
        "With --json one object a line, as the node gives it.\n",
    .first_argument = CLI_ARGUMENT_PATH,
    .other_arguments = CLI_ARGUMENT_PATH,
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .shorts = shorts,
    .shorts_count = ARRAY_SIZE(shorts),
    .run = run_ls,
};
