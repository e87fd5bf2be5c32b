/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
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

static bool print_log(const struct invocation *invocation, const struct client_response *response)
{
    if (config_switch(invocation->config, "json")) {
        fputs(buf_string(&response->body), stdout);
        return true;
    }
    json_t *log = json_loadb(buf_string(&response->body), response->body.size, 0, NULL);
    const json_t *versions = json_object_get(log, "versions");
    const bool good = json_is_array(versions);
    for (size_t i = 0; i < json_array_size(versions); i++) {
        entry_line_print_version(json_array_get(versions, i), "");
    }
    json_decref(log);
    if (!good) {
        cli_error(invocation, "the node's answer makes no sense");
    }
    return good;
}

static enum cli_status run_log(const struct invocation *invocation)
{
    uint64_t limit = 0;
    if (invocation->arguments_count != 1) {
        return cli_usage(invocation, "which path? One at a time");
    }
    if (config_number(invocation->config, "limit", UINT32_MAX, &limit)) {
        return cli_usage(invocation, "the limit is a number");
    }
    CLEANUP(client_free) struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_FREE char *path = text_tree_path(invocation->arguments[0]);
    CLEANUP_BUF struct buf target = BUF_INIT;
    buf_add_string(&target, "/log/");
    percent_add_path(&target, path);
    buf_add_format(&target, "?limit=%" PRIu64, limit);
    const struct client_request request = {.target = buf_string(&target)};
    if (!client_perform(client, &request, &response)) {
        connect_report(invocation, invocation->arguments[0], &response);
        return CLI_FAILED;
    }
    return print_log(invocation, &response) ? CLI_OK : CLI_FAILED;
}

static const struct config_key keys[] = {
    {"limit", "100", "N: versions at most", false},
    CLI_KEY_JSON,
    CLI_KEYS_CLIENT,
};

static const struct short_flag shorts[] = {{'n', "limit"}};

const struct verb verb_log = {
    .name = "log",
    .summary = "list the versions of a path",
    .synopsis = "[--node URL] [--json] PATH",
    .about =
        "Prints `TIME  LENGTH  ID  VERSION` of the versions that are known, the newest first; "
        "which\n"
        "one is shown (current), which lost against it and waits to be looked at (conflict), and\n"
        "the name of the node that made it, if it is known. VERSION is `WRITER:NUMBER`; each life "
        "of\n"
        "a node is a WRITER of its own. `artel restore PATH VERSION` makes a version the current "
        "one again,\n"
        "`artel get --id ID` gets its content.\n",
    .first_argument = CLI_ARGUMENT_PATH,
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .shorts = shorts,
    .shorts_count = ARRAY_SIZE(shorts),
    .run = run_log,
};
