/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/mem.h"
#include "cli/connect.h"
#include "client/client.h"
#include "client/entry.h"
#include "client/text.h"

struct scrub_run {
    bool is_json;
    bool has_report;
    bool is_good;
};

static long long number(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

static void print_line(struct scrub_run *run, const json_t *object)
{
    const char *block = entry_text(object, "bad_block");
    const char *file = entry_text(object, "file_hit");
    if (*block) {
        printf("bad block %s\n", block);
    } else if (*file && number(object, "blocks_lost") > 0) {
        printf("file %s lacks %lld of its blocks\n", file, number(object, "blocks_lost"));
    } else if (*file) {
        printf("file %s has a damaged list of blocks\n", file);
    } else if (run->has_report) {
        printf("checked %lld blocks, %lld bytes, %lld files: %lld blocks bad, %lld files hit\n",
               number(object, "blocks_checked"), number(object, "bytes_checked"),
               number(object, "files_checked"), number(object, "blocks_bad"),
               number(object, "files_hit"));
    }
}

static int take_line(void *context, json_t *object)
{
    struct scrub_run *run = context;
    run->has_report = json_object_get(object, "blocks_checked") != NULL;
    if (run->has_report) {
        run->is_good = !json_is_false(json_object_get(object, "complete")) &&
                       number(object, "blocks_bad") == 0 && number(object, "files_hit") == 0;
    }
    if (run->is_json) {
        CLEANUP_BUF struct buf line = BUF_INIT;
        text_add_json(&line, object);
        fputs(buf_string(&line), stdout);
    } else {
        print_line(run, object);
    }
    return fflush(stdout) == 0 ? 0 : -EPIPE;
}

static enum cli_status run_scrub(const struct invocation *invocation)
{
    if (invocation->arguments_count > 0) {
        return cli_usage(invocation, "scrub takes no arguments");
    }
    CLEANUP(client_free) struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    struct scrub_run run = {.is_json = config_switch(invocation->config, "json")};
    const struct client_request request = {.method = "POST", .target = "/scrub"};
    if (!entry_stream(client, &request, take_line, &run, &response)) {
        if (response.err != -EPIPE) {
            connect_report(invocation, NULL, &response);
        }
        return CLI_FAILED;
    }
    if (!run.has_report) {
        cli_error(invocation, "the node did not finish");
    }
    return run.has_report && run.is_good ? CLI_OK : CLI_FAILED;
}

static const struct config_key keys[] = {CLI_KEY_JSON, CLI_KEYS_CLIENT};

const struct verb verb_scrub = {
    .name = "scrub",
    .summary = "let a node compare everything with its id",
    .synopsis = "[--node URL] [--json]",
    .about = "The node reads every block and compares it with its id. A wrong one is dropped, and\n"
             "the file versions that lack it now are named; putting such a file again mends it.\n"
             "Exit status 1 if anything is damaged.\n",
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_scrub,
};
