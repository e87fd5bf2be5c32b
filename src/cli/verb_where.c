/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "cli/connect.h"
#include "cli/table.h"
#include "client/client.h"
#include "client/entry.h"
#include "client/percent.h"
#include "client/text.h"

/* A line for each node: `STATE  NAME  ZONE  ADDRESS  NODE`. */
static void add_nodes(struct table *table, const json_t *nodes, const char *state_key)
{
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *node = json_array_get(nodes, i);
        const bool is_self = json_is_true(json_object_get(node, "self"));
        table_add(table, "  %s", entry_text(node, state_key));
        table_add_name(table, entry_text(node, "name"));
        table_add_name(table, entry_text(node, "zone"));
        table_add_name(table, entry_text(node, "address"));
        table_add(table, "%s%s", entry_text(node, "node"), is_self ? "  (this node)" : "");
    }
}

static void print_found(const json_t *found, const char *argument)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    const bool to_terminal = isatty(STDOUT_FILENO);
    text_add_name(&text, argument, to_terminal);
    if (json_object_get(found, "path")) {
        buf_add_format(&text, "  %s  ", entry_text(found, "id"));
        text_add_size(&text, entry_length(found));
    }
    buf_add_byte(&text, '\n');
    struct table table = TABLE_INIT(5);
    add_nodes(&table, json_object_get(found, "holders"), "state");
    add_nodes(&table, json_object_get(found, "not_asked"), "why");
    table_format(&table, &text);
    table_done(&table);
    if (json_array_size(json_object_get(found, "holders")) == 0) {
        buf_add_string(&text, "  nobody that could be asked has it\n");
    }
    fputs(buf_string(&text), stdout);
}

/* By its path, or by the id that stands there instead of one. */
static bool ask(const struct invocation *invocation, struct client *client, const char *argument,
                struct client_response *response)
{
    const char *query = config_switch(invocation->config, "all") ? "?all=1" : "";
    CLEANUP_FREE char *path = text_tree_path(argument);
    CLEANUP_BUF struct buf target = BUF_INIT;
    buf_add_string(&target, "/where/");
    percent_add_path(&target, path);
    buf_add_string(&target, query);
    const struct client_request by_path = {.target = buf_string(&target)};
    if (client_perform(client, &by_path, response)) {
        return true;
    }
    struct id id;
    if (!client_is_code(response, "not_found") || id_parse(bytes_of_string(argument), &id)) {
        return false;
    }
    buf_clear(&target);
    buf_add_format(&target, "/locate/%s%s", argument, query);
    const struct client_request by_id = {.target = buf_string(&target)};
    return client_perform(client, &by_id, response);
}

/* True if somebody has it. */
static bool where(const struct invocation *invocation, struct client *client, const char *argument)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    if (!ask(invocation, client, argument, &response)) {
        connect_report(invocation, argument, &response);
        return false;
    }
    json_t *found = json_loadb(buf_string(&response.body), response.body.size, 0, NULL);
    const json_t *holders = json_object_get(found, "holders");
    const bool is_held = json_array_size(holders) > 0;
    if (!json_is_array(holders)) {
        cli_error(invocation, "the node's answer makes no sense");
    } else if (config_switch(invocation->config, "json")) {
        fputs(buf_string(&response.body), stdout);
    } else {
        print_found(found, argument);
    }
    json_decref(found);
    return is_held;
}

static enum cli_status run_where(const struct invocation *invocation)
{
    if (invocation->arguments_count == 0) {
        return cli_usage(invocation, "which file?");
    }
    CLEANUP(client_free) struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    bool are_held = true;
    for (size_t i = 0; i < invocation->arguments_count; i++) {
        are_held = where(invocation, client, invocation->arguments[i]) && are_held;
    }
    return are_held ? CLI_OK : CLI_FAILED;
}

static const struct config_key keys[] = {
    {"all", NULL, "ask every node, not only those that should know", true},
    CLI_KEY_JSON,
    CLI_KEYS_CLIENT,
};

static const struct short_flag shorts[] = {{'a', "all"}};

const struct verb verb_where = {
    .name = "where",
    .summary = "tell which nodes have a file",
    .synopsis = "[--node URL] [--all] [--json] PATH|ID...",
    .about =
        "Prints the nodes that have the content of each file, all of it (complete) or a part of\n"
        "it (partial), as `STATE  NAME  ZONE  ADDRESS  NODE`. An ID may be one of a file version\n"
        "or of a block. First those are asked that should know; if they know nobody who has all\n"
        "of it, or with --all, every node is, and those that could not be asked are listed\n"
        "(unreachable, silent). The exit status is 1 if nobody has any of it.\n",
    .first_argument = CLI_ARGUMENT_PATH,
    .other_arguments = CLI_ARGUMENT_PATH,
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .shorts = shorts,
    .shorts_count = ARRAY_SIZE(shorts),
    .run = run_where,
};
