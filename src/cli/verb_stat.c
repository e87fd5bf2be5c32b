/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "cli/connect.h"
#include "client/client.h"
#include "client/entry.h"
#include "client/text.h"

static void print(const json_t *entry, bool is_json)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    if (is_json) {
        text_add_json(&text, entry);
        fputs(buf_string(&text), stdout);
        return;
    }
    static const char *const keys[] = {"path", "type", "id", "target", "mode", "mtime"};
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        const json_t *value = json_object_get(entry, keys[i]);
        if (value) {
            buf_add_format(&text, "%-10s ", keys[i]);
            text_add_name(&text, entry_text(entry, keys[i]), isatty(STDOUT_FILENO));
            buf_add_byte(&text, '\n');
        }
    }
    if (entry_is(entry, "file")) {
        buf_add_format(&text, "%-10s %" PRIu64 "\n", "length", entry_length(entry));
    }
    const json_t *conflicts = json_object_get(entry, "conflicts");
    if (conflicts) {
        buf_add_format(&text, "%-10s %" JSON_INTEGER_FORMAT "\n", "conflicts",
                       json_integer_value(conflicts));
    }
    fputs(buf_string(&text), stdout);
}

static enum cli_status run_stat(const struct invocation *invocation)
{
    if (invocation->arguments_count == 0) {
        return cli_usage(invocation, "which path?");
    }
    CLEANUP(client_free) struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    bool good = true;
    for (size_t i = 0; i < invocation->arguments_count; i++) {
        CLEANUP_FREE char *path = text_tree_path(invocation->arguments[i]);
        json_t *entry = entry_stat(client, path, &response);
        if (entry) {
            print(entry, config_switch(invocation->config, "json"));
        } else {
            connect_report(invocation, invocation->arguments[i], &response);
            good = false;
        }
        json_decref(entry);
    }
    return good ? CLI_OK : CLI_FAILED;
}

static const struct config_key keys[] = {CLI_KEY_JSON, CLI_KEYS_CLIENT};

const struct verb verb_stat = {
    .name = "stat",
    .summary = "tell all about a path",
    .synopsis = "[--node URL] [--json] PATH...",
    .about = "Prints what stands at the path: its type, id, length, mode and time.\n",
    .first_argument = CLI_ARGUMENT_PATH,
    .other_arguments = CLI_ARGUMENT_PATH,
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_stat,
};
