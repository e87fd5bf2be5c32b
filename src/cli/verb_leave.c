/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "base/mem.h"
#include "cli/connect.h"
#include "client/client.h"

static enum cli_status run_leave(const struct invocation *invocation)
{
    if (invocation->arguments_count > 0) {
        return cli_usage(invocation, "leave takes no arguments");
    }
    CLEANUP(client_free) struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    const struct client_request request = {
        .method = "POST",
        .target = "/members",
        .headers = {"Content-Type: application/json"},
        .body = bytes_of_string("{\"op\":\"leave\"}"),
    };
    if (!client_perform(client, &request, &response)) {
        connect_report(invocation, NULL, &response);
        return CLI_FAILED;
    }
    if (config_switch(invocation->config, "json")) {
        fputs(buf_string(&response.body), stdout);
    }
    return CLI_OK;
}

static const struct config_key keys[] = {CLI_KEY_JSON, CLI_KEYS_CLIENT};

const struct verb verb_leave = {
    .name = "leave",
    .summary = "let a node say good-bye and end",
    .synopsis = "[--node URL]",
    .about = "The node tells the others that it leaves for good, and its process ends. They take\n"
             "it out of the ring at once, where after a stop they would wait for it to come back.\n"
             "Its data stays; started again, it is a member again.\n",
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_leave,
};
