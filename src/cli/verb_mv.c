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

static bool move(const struct invocation *invocation, struct client *client, const char *from,
                 const char *to)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_FREE char *path = text_tree_path(from);
    CLEANUP_FREE char *bare = entry_target(path);
    CLEANUP_BUF struct buf query = BUF_INIT;
    buf_add_string(&query, bare);
    ack_add(invocation, &query);
    json_t *object = json_pack("{s:s, s:s}", "op", "rename", "to", to);
    if (!object) {
        cli_error(invocation, "%s: text is not UTF-8", to);
        return false;
    }
    CLEANUP_BUF struct buf body = BUF_INIT;
    text_add_json(&body, object);
    json_decref(object);
    const struct client_request request = {
        .method = "POST",
        .target = buf_string(&query),
        .headers = {"Content-Type: application/json"},
        .body = buf_bytes(&body),
    };
    if (!client_perform(client, &request, &response)) {
        CLEANUP_FREE char *about = mem_format("%s to %s", from, to);
        connect_report(invocation, about, &response);
        return false;
    }
    if (config_switch(invocation->config, "json")) {
        fputs(buf_string(&response.body), stdout);
    }
    return ack_report(invocation, from, &response);
}

static enum cli_status run_mv(const struct invocation *invocation)
{
    const size_t count = invocation->arguments_count;
    if (count < 2) {
        return cli_usage(invocation, "what, and where to?");
    }
    if (!ack_check(invocation)) {
        return CLI_USAGE;
    }
    const char *to = invocation->arguments[count - 1];
    for (size_t i = 0; i < count; i++) {
        if (!*invocation->arguments[i]) {
            return cli_usage(invocation, "an empty path; the root is /");
        }
    }
    CLEANUP(client_free) struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    const bool is_below = count > 2 || to[strlen(to) - 1] == '/';
    CLEANUP_FREE char *top = text_tree_path(to);
    bool good = true;
    for (size_t i = 0; i + 1 < count; i++) {
        CLEANUP_FREE char *from = text_tree_path(invocation->arguments[i]);
        CLEANUP_FREE char *place =
            is_below ? text_join(top, text_last_name(from)) : mem_copy_string(top);
        good &= move(invocation, client, from, place);
    }
    return good ? CLI_OK : CLI_FAILED;
}

static const struct config_key keys[] = {CLI_KEYS_ACK, CLI_KEY_JSON, CLI_KEYS_CLIENT};

const struct verb verb_mv = {
    .name = "mv",
    .summary = "move or rename files and directories",
    .synopsis = "[--node URL] FROM... TO",
    .about = "Gives what is at FROM the path TO, with all that is below it, in one step. With a\n"
             "'/' behind TO, or several FROM, they go below it under their own names.\n",
    .first_argument = CLI_ARGUMENT_PATH,
    .other_arguments = CLI_ARGUMENT_PATH,
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_mv,
};
