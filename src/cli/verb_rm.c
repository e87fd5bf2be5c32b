/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "cli/ack.h"
#include "cli/connect.h"
#include "client/client.h"
#include "client/entry.h"
#include "client/text.h"

static bool remove_path(const struct invocation *invocation, struct client *client,
                        const char *argument)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_FREE char *path = text_tree_path(argument);
    CLEANUP_FREE char *bare = entry_target(path);
    CLEANUP_BUF struct buf target = BUF_INIT;
    buf_add_string(&target, bare);
    if (config_switch(invocation->config, "recursive")) {
        buf_add_string(&target, "?recursive=1");
    }
    ack_add(invocation, &target);
    const struct client_request request = {.method = "DELETE", .target = buf_string(&target)};
    if (client_perform(client, &request, &response)) {
        if (config_switch(invocation->config, "json")) {
            fputs(buf_string(&response.body), stdout);
        }
        return ack_report(invocation, argument, &response);
    }
    if (client_is_code(&response, "not_found") && config_switch(invocation->config, "force")) {
        return true;
    }
    connect_report(invocation, argument, &response);
    return false;
}

static enum cli_status run_rm(const struct invocation *invocation)
{
    if (invocation->arguments_count == 0) {
        return cli_usage(invocation, "which path?");
    }
    for (size_t i = 0; i < invocation->arguments_count; i++) {
        const char *path = invocation->arguments[i];
        /* As often as not a variable in a script that was never set. */
        if (strspn(path, "/") == strlen(path)) {
            return cli_usage(invocation, "'%s' is the whole tree; remove what is in it by name",
                             path);
        }
    }
    if (!ack_check(invocation)) {
        return CLI_USAGE;
    }
    CLEANUP(client_free) struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    bool good = true;
    for (size_t i = 0; i < invocation->arguments_count; i++) {
        good &= remove_path(invocation, client, invocation->arguments[i]);
    }
    return good ? CLI_OK : CLI_FAILED;
}

static const struct config_key keys[] = {
    {"recursive", NULL, "a directory with all that is below it, in one step", true},
    {"force", NULL, "what is not there is no failure", true},
    CLI_KEYS_ACK,
    CLI_KEY_JSON,
    CLI_KEYS_CLIENT,
};

static const struct short_flag shorts[] = {{'r', "recursive"}, {'f', "force"}};

const struct verb verb_rm = {
    .name = "rm",
    .summary = "delete files and directories",
    .synopsis = "[--node URL] [-r] [-f] PATH...",
    .about = "Deletes files, links and empty directories; with -r whatever is there. `artel log`\n"
             "tells the ids of what was deleted.\n",
    .first_argument = CLI_ARGUMENT_PATH,
    .other_arguments = CLI_ARGUMENT_PATH,
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .shorts = shorts,
    .shorts_count = ARRAY_SIZE(shorts),
    .run = run_rm,
};
