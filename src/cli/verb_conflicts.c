/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "cli/connect.h"
#include "cli/entry_line.h"
#include "client/client.h"
#include "client/entry.h"
#include "client/percent.h"
#include "client/text.h"

static int print(void *context, json_t *conflict)
{
    const bool *is_json = context;
    CLEANUP_BUF struct buf line = BUF_INIT;
    if (*is_json) {
        text_add_json(&line, conflict);
        fputs(buf_string(&line), stdout);
        return ferror(stdout) ? -EPIPE : 0;
    }
    text_add_name(&line, entry_text(conflict, "path"), isatty(STDOUT_FILENO));
    puts(buf_string(&line));
    const json_t *versions = json_object_get(conflict, "versions");
    for (size_t i = 0; i < json_array_size(versions); i++) {
        entry_line_print_version(json_array_get(versions, i), "  ");
    }
    return ferror(stdout) ? -EPIPE : 0;
}

static enum cli_status run_conflicts(const struct invocation *invocation)
{
    if (invocation->arguments_count > 1) {
        return cli_usage(invocation, "one directory at a time");
    }
    CLEANUP(client_free) struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    bool is_json = config_switch(invocation->config, "json");
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    const char *argument = invocation->arguments_count ? invocation->arguments[0] : "/";
    CLEANUP_FREE char *path = text_tree_path(argument);
    CLEANUP_BUF struct buf target = BUF_INIT;
    buf_add_string(&target, "/conflicts/");
    percent_add_path(&target, path);
    const struct client_request request = {
        .target = buf_string(&target),
        .headers = {"Accept: application/x-ndjson"},
    };
    if (entry_stream(client, &request, print, &is_json, &response)) {
        return CLI_OK;
    }
    if (response.err != -EPIPE) {
        connect_report(invocation, argument, &response);
    }
    return CLI_FAILED;
}

static const struct config_key keys[] = {CLI_KEY_JSON, CLI_KEYS_CLIENT};

const struct verb verb_conflicts = {
    .name = "conflicts",
    .summary = "list the paths that were changed on two nodes at once",
    .synopsis = "[--node URL] [--json] [PATH]",
    .about =
        "Prints each path below PATH, or of the whole tree, that has several versions of which "
        "none\n"
        "was made knowing the others, and these as `artel log` does: all nodes show the same one\n"
        "(current), the others (conflict) lost. `artel restore PATH VERSION` chooses one of them;\n"
        "so does any new change of the path.\n",
    .first_argument = CLI_ARGUMENT_PATH,
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_conflicts,
};
