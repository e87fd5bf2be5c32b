/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
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

static void add_size(struct table *table, uint64_t bytes, const char *behind)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    text_add_size(&text, bytes);
    table_add(table, "%s%s", buf_string(&text), behind);
}

static void add_left(struct table *table, const json_t *fetch)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    if (json_object_get(fetch, "left_s")) {
        text_add_duration(&text, entry_number(fetch, "left_s"));
    }
    table_add(table, "%s", text.size > 0 ? buf_string(&text) : "-");
}

static void print_table(struct table *table)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    table_format(table, &text);
    table_done(table);
    fputs(buf_string(&text), stdout);
}

/* ---- all fetches -------------------------------------------------------------------------------
 */

static void print_fetches(const json_t *fetches)
{
    static const char *const titles[] = {"STATE", "HERE", "LENGTH",  "RATE",
                                         "LEFT",  "FROM", "READERS", "ID"};
    struct table table = TABLE_INIT(ARRAY_SIZE(titles));
    for (size_t i = 0; i < ARRAY_SIZE(titles); i++) {
        table_add(&table, "%s", titles[i]);
    }
    for (size_t i = 0; i < json_array_size(fetches); i++) {
        const json_t *fetch = json_array_get(fetches, i);
        table_add(&table, "%s", entry_text(fetch, "state"));
        add_size(&table, entry_number(fetch, "here"), "");
        add_size(&table, entry_number(fetch, "length"), "");
        add_size(&table, entry_number(fetch, "rate"), "/s");
        add_left(&table, fetch);
        table_add(&table, "%" PRIu64, entry_number(fetch, "sources_count"));
        table_add(&table, "%" PRIu64, entry_number(fetch, "readers"));
        table_add(&table, "%s", entry_text(fetch, "id"));
    }
    print_table(&table);
}

/* ---- one ---------------------------------------------------------------------------------------
 */

static void print_sources(const json_t *sources)
{
    static const char *const titles[] = {"  NAME",   "ZONE",   "ADDRESS", "HAS",    "RECEIVED",
                                         "RATE",     "BLOCKS", "WAITING", "WAITED", "REFUSED",
                                         "NOT HERE", "LATE",   "BAD"};
    static const char *const counts[] = {"refused", "not_here", "late", "bad"};
    if (json_array_size(sources) == 0) {
        return;
    }
    struct table table = TABLE_INIT(ARRAY_SIZE(titles));
    for (size_t i = 0; i < ARRAY_SIZE(titles); i++) {
        table_add(&table, "%s", titles[i]);
    }
    for (size_t i = 0; i < json_array_size(sources); i++) {
        const json_t *source = json_array_get(sources, i);
        const char *name = entry_text(source, "name");
        CLEANUP_FREE char *indented = mem_format("  %s", *name ? name : entry_text(source, "node"));
        table_add_name(&table, indented);
        table_add_name(&table, entry_text(source, "zone"));
        table_add_name(&table, entry_text(source, "address"));
        table_add(&table, "%s",
                  json_is_true(json_object_get(source, "shunned")) ? "shunned"
                                                                   : entry_text(source, "state"));
        add_size(&table, entry_number(source, "received"), "");
        add_size(&table, entry_number(source, "rate"), "/s");
        table_add(&table, "%" PRIu64, entry_number(source, "blocks"));
        table_add(&table, "%" PRIu64, entry_number(source, "in_flight"));
        table_add(&table, "%.1f s", (double)entry_number(source, "waited_ms") / 1000);
        for (size_t j = 0; j < ARRAY_SIZE(counts); j++) {
            table_add(&table, "%" PRIu64, entry_number(source, counts[j]));
        }
    }
    print_table(&table);
}

static void print_line(const char *key, const struct buf *text)
{
    printf("%-9s %s\n", key, buf_string(text));
}

static void print_progress(const json_t *why)
{
    const bool is_under_way = strcmp(entry_text(why, "state"), "done") != 0 &&
                              strcmp(entry_text(why, "state"), "failed") != 0;
    CLEANUP_BUF struct buf text = BUF_INIT;
    if (json_object_get(why, "here")) {
        text_add_size(&text, entry_number(why, "here"));
        buf_add_string(&text, " of ");
        text_add_size(&text, entry_number(why, "length"));
        buf_add_format(&text, ", %" PRIu64 " of %" PRIu64 " blocks",
                       entry_number(why, "blocks_here"), entry_number(why, "blocks"));
        print_line("here", &text);
    }
    if (json_object_get(why, "received")) {
        buf_clear(&text);
        text_add_size(&text, entry_number(why, "received"));
        buf_add_format(&text, " in %.1f s", (double)entry_number(why, "running_ms") / 1000);
        if (is_under_way && entry_number(why, "rate") > 0) {
            buf_add_string(&text, ", now ");
            text_add_size(&text, entry_number(why, "rate"));
            buf_add_string(&text, "/s");
        }
        if (is_under_way && json_object_get(why, "left_s")) {
            buf_add_string(&text, ", ");
            text_add_duration(&text, entry_number(why, "left_s"));
            buf_add_string(&text, " left");
        }
        print_line("received", &text);
    }
}

static void print_not_asked(const json_t *nodes)
{
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        const json_t *node = json_array_get(nodes, i);
        const char *name = entry_text(node, "name");
        const char *const parts[] = {*name ? name : entry_text(node, "node"),
                                     entry_text(node, "zone"), entry_text(node, "address"),
                                     entry_text(node, "why")};
        CLEANUP_BUF struct buf text = BUF_INIT;
        for (size_t j = 0; j < ARRAY_SIZE(parts); j++) {
            buf_add_string(&text, j > 0 && *parts[j] ? "  " : "");
            text_add_name(&text, parts[j], isatty(STDOUT_FILENO));
        }
        print_line(i == 0 ? "not asked" : "", &text);
    }
}

static void print_why(const json_t *why)
{
    static const char *const states[][2] = {
        {"searching", "looks for nodes that have what lacks"},
        {"running", "is being fetched"},
        {"no_space", "waits for room on the disk of this node"},
        {"committing", "has come, and is being made durable"},
        {"done", "was fetched"},
        {"failed", "could not be fetched"},
        {"here", "is on this node, and was not fetched lately"},
        {"absent", "is not on this node, and was not fetched lately"},
    };
    CLEANUP_BUF struct buf text = BUF_INIT;
    if (json_object_get(why, "path")) {
        text_add_name(&text, entry_text(why, "path"), isatty(STDOUT_FILENO));
        print_line("path", &text);
    }
    buf_clear(&text);
    buf_add_string(&text, entry_text(why, "id"));
    print_line("id", &text);
    buf_clear(&text);
    buf_add_string(&text, entry_text(why, "state"));
    for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
        if (strcmp(states[i][0], entry_text(why, "state")) == 0) {
            buf_add_format(&text, ": %s", states[i][1]);
        }
    }
    if (json_object_get(why, "error")) {
        buf_add_format(&text, " (%s)", entry_text(why, "error"));
    }
    print_line("state", &text);
    if (*entry_text(why, "waits_for")) {
        buf_clear(&text);
        buf_add_string(&text, entry_text(why, "waits_for"));
        print_line("waits for", &text);
    }
    print_progress(why);
    print_not_asked(json_object_get(why, "not_asked"));
    print_sources(json_object_get(why, "sources"));
}

static bool answer(const struct invocation *invocation, struct client *client, const char *target,
                   const char *about)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    const struct client_request request = {.target = target};
    if (!client_perform(client, &request, &response)) {
        connect_report(invocation, about, &response);
        return false;
    }
    json_t *json = json_loadb(buf_string(&response.body), response.body.size, 0, NULL);
    const json_t *fetches = json_object_get(json, "fetches");
    const bool good = json_is_object(json);
    if (!good) {
        cli_error(invocation, "the node's answer makes no sense");
    } else if (config_switch(invocation->config, "json")) {
        fputs(buf_string(&response.body), stdout);
    } else if (about) {
        print_why(json);
    } else if (json_array_size(fetches) > 0) {
        print_fetches(fetches);
    }
    json_decref(json);
    return good;
}

static enum cli_status run_why(const struct invocation *invocation)
{
    CLEANUP(client_free) struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    bool good = true;
    if (invocation->arguments_count == 0) {
        good = answer(invocation, client, "/fetches?limit=10000", NULL);
    }
    for (size_t i = 0; i < invocation->arguments_count; i++) {
        const char *argument = invocation->arguments[i];
        CLEANUP_FREE char *path = text_tree_path(argument);
        CLEANUP_BUF struct buf target = BUF_INIT;
        buf_add_string(&target, "/why/");
        percent_add_path(&target, path);
        if (i > 0 && !config_switch(invocation->config, "json")) {
            putchar('\n');
        }
        good = answer(invocation, client, buf_string(&target), argument) && good;
    }
    return good ? CLI_OK : CLI_FAILED;
}

static const struct config_key keys[] = {CLI_KEY_JSON, CLI_KEYS_CLIENT};

const struct verb verb_why = {
    .name = "why",
    .summary = "tell how the fetch of a file goes, or went",
    .synopsis = "[--node URL] [--json] [PATH|ID...]",
    .about =
        "Explains how this node fetches a file from others, or fetched it lately: what is here,\n"
        "how fast it comes, what it waits for, and of each node that it comes from: what it has\n"
        "of it, how much came from it and how fast, blocks, how many of them are asked for now\n"
        "(WAITING), how long it was asked and sent nothing (WAITED), how often it was busy\n"
        "(REFUSED) or turned out not to have it (NOT HERE), how many blocks were asked for\n"
        "elsewhere because they did not come in time (LATE), and how many had wrong bytes (BAD).\n"
        "Who gives too many of those is asked no more (shunned). Without an argument: a line for "
        "each file\n"
        "that is being fetched.\n",
    .first_argument = CLI_ARGUMENT_PATH,
    .other_arguments = CLI_ARGUMENT_PATH,
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_why,
};
