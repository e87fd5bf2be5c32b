/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "cli/client.h"

/* `name  value` lines; those of an object in it as `object.name`. */
static void print_object(json_t *object, const char *prefix)
{
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        CLEANUP_FREE char *name = mem_format("%s%s", prefix, key);
        if (json_is_object(value) && !*prefix) {
            CLEANUP_FREE char *inner = mem_format("%s.", key);
            print_object(value, inner);
        } else if (json_is_string(value)) {
            printf("%-22s %s\n", name, json_string_value(value));
        } else {
            char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
            printf("%-22s %s\n", name, text ? text : "");
            free(text);
        }
    }
}

static enum cli_status run_status(const struct invocation *invocation)
{
    if (invocation->arguments_count > 0) {
        return cli_usage(invocation, "status takes no arguments");
    }
    CLEANUP(client_free) struct client *client = client_new(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    const struct client_request request = {.target = "/status"};
    if (!client_perform(client, &request, &response)) {
        client_report(invocation, NULL, &response);
        return CLI_FAILED;
    }
    json_t *status = json_loadb(buf_string(&response.body), response.body.size, 0, NULL);
    const bool good = json_is_object(status);
    if (!good) {
        cli_error(invocation, "the node's answer makes no sense");
    } else if (config_switch(invocation->config, "json")) {
        fputs(buf_string(&response.body), stdout);
    } else {
        print_object(status, "");
    }
    json_decref(status);
    return good ? CLI_OK : CLI_FAILED;
}

static const struct config_key keys[] = {CLI_KEY_JSON, CLI_KEYS_CLIENT};

const struct verb verb_status = {
    .name = "status",
    .summary = "tell how a node is",
    .synopsis = "[--node URL] [--json]",
    .about = "Prints who the node is, what it knows, and what its disk holds.\n",
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_status,
};
