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

static bool make(const struct invocation *invocation, struct client *client, const char *argument)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_FREE char *path = text_tree_path(argument);
    CLEANUP_FREE char *bare = entry_target(path);
    CLEANUP_BUF struct buf target = BUF_INIT;
    buf_add_string(&target, bare);
    ack_add(invocation, &target);
    const char *mode = config_string(invocation->config, "mode");
    CLEANUP_FREE char *body = mem_format("{\"op\":\"mkdir\",\"mode\":\"%s\"}", mode);
    const struct client_request request = {
        .method = "POST",
        .target = buf_string(&target),
        .headers = {"Content-Type: application/json"},
        .body = bytes_of_string(body),
    };
    if (!client_perform(client, &request, &response)) {
        connect_report(invocation, argument, &response);
        return false;
    }
    if (config_switch(invocation->config, "json")) {
        fputs(buf_string(&response.body), stdout);
    }
    return ack_report(invocation, argument, &response);
}

static enum cli_status run_mkdir(const struct invocation *invocation)
{
    mode_t mode = 0;
    const char *text = config_string(invocation->config, "mode");
    if (invocation->arguments_count == 0) {
        return cli_usage(invocation, "which directory?");
    }
    if (!ack_check(invocation)) {
        return CLI_USAGE;
    }
    if (text_parse_mode(text, &mode)) {
        return cli_usage(invocation, "'%s' is no mode: give octal digits, as 0755", text);
    }
    CLEANUP(client_free) struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    bool good = true;
    for (size_t i = 0; i < invocation->arguments_count; i++) {
        good &= make(invocation, client, invocation->arguments[i]);
    }
    return good ? CLI_OK : CLI_FAILED;
}

static const struct config_key keys[] = {
    {"mode", "0755", "MODE: its permissions, octal", false},
    CLI_KEYS_ACK,
    CLI_KEY_JSON,
    CLI_KEYS_CLIENT,
};

static const struct short_flag shorts[] = {{'m', "mode"}};

const struct verb verb_mkdir = {
    .name = "mkdir",
    .summary = "make directories",
    .synopsis = "[--node URL] [-m MODE] PATH...",
    .about = "Makes directories, and those above them that are missing. `put` needs none to be\n"
             "there; this is for directories that are empty.\n",
    .first_argument = CLI_ARGUMENT_PATH,
    .other_arguments = CLI_ARGUMENT_PATH,
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .shorts = shorts,
    .shorts_count = ARRAY_SIZE(shorts),
    .run = run_mkdir,
};
