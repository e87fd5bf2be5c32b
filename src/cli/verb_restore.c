/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "cli/ack.h"
#include "cli/connect.h"
#include "client/client.h"
#include "client/entry.h"
#include "client/text.h"

static enum cli_status run_restore(const struct invocation *invocation)
{
    if (invocation->arguments_count != 2) {
        return cli_usage(invocation, "which path, and which of its versions? See `artel log PATH`");
    }
    if (!ack_check(invocation)) {
        return CLI_USAGE;
    }
    CLEANUP(client_free) struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    const char *argument = invocation->arguments[0];
    json_t *object = json_pack("{s:s, s:s}", "op", "restore", "version", invocation->arguments[1]);
    if (!object || !strchr(invocation->arguments[1], ':')) {
        json_decref(object);
        return cli_usage(invocation, "a version is WRITER:NUMBER, as `artel log PATH` tells it");
    }
    CLEANUP_BUF struct buf body = BUF_INIT;
    text_add_json(&body, object);
    json_decref(object);
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_FREE char *path = text_tree_path(argument);
    CLEANUP_FREE char *bare = entry_target(path);
    CLEANUP_BUF struct buf target = BUF_INIT;
    buf_add_string(&target, bare);
    ack_add(invocation, &target);
    const struct client_request request = {
        .method = "POST",
        .target = buf_string(&target),
        .headers = {"Content-Type: application/json"},
        .body = buf_bytes(&body),
    };
    if (!client_perform(client, &request, &response)) {
        connect_report(invocation, argument, &response);
        return CLI_FAILED;
    }
    if (config_switch(invocation->config, "json")) {
        fputs(buf_string(&response.body), stdout);
    }
    return ack_report(invocation, argument, &response) ? CLI_OK : CLI_FAILED;
}

static const struct config_key keys[] = {CLI_KEYS_ACK, CLI_KEY_JSON, CLI_KEYS_CLIENT};

const struct verb verb_restore = {
    .name = "restore",
    .summary = "make an older version of a path the current one",
    .synopsis = "[--node URL] PATH VERSION",
    .about =
        "Makes VERSION, as `artel log PATH` or `artel conflicts` tell it, what is at PATH again:\n"
        "its content or link, mode, time and attributes, as a new version. What was there goes\n"
        "to the history, a conflict is settled by it. It works for a path that was deleted,\n"
        "too, for as long as the version is known.\n",
    .first_argument = CLI_ARGUMENT_PATH,
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_restore,
};
