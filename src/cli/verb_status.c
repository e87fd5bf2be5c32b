/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "cli/connect.h"
#include "client/client.h"
#include "client/entry.h"
#include "client/text.h"

/* A line each; --json tells of all. */
#define TREES_MAX 20u

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

static void print_line(const char *name, const char *text)
{
    printf("%-22s %s\n", name, text);
}

static void print_tree(const json_t *tree)
{
    CLEANUP_BUF struct buf name = BUF_INIT;
    buf_add_string(&name, "tree.");
    text_add_name(&name, entry_text(tree, "name"), isatty(STDOUT_FILENO));
    const json_int_t behind = json_integer_value(json_object_get(tree, "behind"));
    CLEANUP_FREE char *text =
        !json_is_true(json_object_get(tree, "answered")) ? mem_copy_string("has not answered")
        : behind > 0 ? mem_format("%" JSON_INTEGER_FORMAT " changes behind this node", behind)
        : behind < 0
            ? mem_format("%" PRIu64 " changes ahead of this node", UINT64_C(0) - (uint64_t)behind)
            : mem_copy_string("other changes than this node");
    print_line(buf_string(&name), text);
}

/* In a line, and one for each member that has another tree. */
static void print_trees(const json_t *trees)
{
    const size_t count = json_array_size(trees);
    size_t others = 0;
    for (size_t i = 0; i < count; i++) {
        others += !json_is_true(json_object_get(json_array_get(trees, i), "same"));
    }
    CLEANUP_FREE char *text =
        !json_is_array(trees) ? mem_copy_string("the node does not tell")
        : count == 0          ? mem_copy_string("there is no other member")
        : others == 0         ? mem_format("the same on all %zu members reached", count + 1)
                      : mem_format("%zu of %zu other members have another one", others, count);
    print_line("trees", text);
    size_t told = 0;
    for (size_t i = 0; i < count && told < TREES_MAX; i++) {
        const json_t *tree = json_array_get(trees, i);
        if (!json_is_true(json_object_get(tree, "same"))) {
            print_tree(tree);
            told++;
        }
    }
    if (others > told) {
        CLEANUP_FREE char *rest = mem_format("and %zu more", others - told);
        print_line("", rest);
    }
}

/* A line for each member that is not asked for content since it gave wrong bytes. */
static void print_shunned(const json_t *shunned)
{
    size_t i;
    const json_t *member;
    json_array_foreach(shunned, i, member)
    {
        const char *name = entry_text(member, "name");
        CLEANUP_BUF struct buf line = BUF_INIT;
        text_add_name(&line, *name ? name : entry_text(member, "node"), isatty(STDOUT_FILENO));
        buf_add_string(&line, " gave wrong bytes and is not asked for content for ten minutes");
        print_line("shunned", buf_string(&line));
    }
}

/* A line for each directory that the node keeps equal. */
static void print_follows(const json_t *follows)
{
    size_t i;
    const json_t *follow;
    json_array_foreach(follows, i, follow)
    {
        const bool to_terminal = isatty(STDOUT_FILENO);
        CLEANUP_BUF struct buf line = BUF_INIT;
        text_add_name(&line, entry_text(follow, "pattern"), to_terminal);
        buf_add_string(&line, " -> ");
        text_add_name(&line, entry_text(follow, "dir"), to_terminal);
        buf_add_format(&line, ": %s, %" JSON_INTEGER_FORMAT " entries", entry_text(follow, "state"),
                       json_integer_value(json_object_get(follow, "entries")));
        static const char *const counts[] = {"arriving", "waiting", "hooks"};
        for (size_t k = 0; k < ARRAY_SIZE(counts); k++) {
            const json_int_t count = json_integer_value(json_object_get(follow, counts[k]));
            if (count > 0) {
                buf_add_format(&line, ", %" JSON_INTEGER_FORMAT " %s", count, counts[k]);
            }
        }
        const char *error = entry_text(follow, "error");
        if (*error) {
            buf_add_string(&line, "; ");
            text_add_name(&line, error, to_terminal);
        }
        print_line("follow", buf_string(&line));
    }
}

static enum cli_status run_status(const struct invocation *invocation)
{
    if (invocation->arguments_count > 0) {
        return cli_usage(invocation, "status takes no arguments");
    }
    CLEANUP(client_free) struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    const struct client_request request = {.target = "/status?members=1"};
    if (!client_perform(client, &request, &response)) {
        connect_report(invocation, NULL, &response);
        return CLI_FAILED;
    }
    json_t *status = json_loadb(buf_string(&response.body), response.body.size, 0, NULL);
    const bool good = json_is_object(status);
    if (!good) {
        cli_error(invocation, "the node's answer makes no sense");
    } else if (config_switch(invocation->config, "json")) {
        fputs(buf_string(&response.body), stdout);
    } else {
        json_t *trees = json_incref(json_object_get(status, "trees"));
        json_object_del(status, "trees");
        json_object_del(status, "trees_same"); /* told together, in a line for people */
        json_t *shunned = json_incref(json_object_get(status, "shunned"));
        json_object_del(status, "shunned");
        json_t *follows = json_incref(json_object_get(status, "follows"));
        json_object_del(status, "follows");
        print_object(status, "");
        print_follows(follows);
        json_decref(follows);
        print_shunned(shunned);
        print_trees(trees);
        json_decref(shunned);
        json_decref(trees);
    }
    json_decref(status);
    return good ? CLI_OK : CLI_FAILED;
}

static const struct config_key keys[] = {CLI_KEY_JSON, CLI_KEYS_CLIENT};

const struct verb verb_status = {
    .name = "status",
    .summary = "tell how a node is",
    .synopsis = "[--node URL] [--json]",
    .about = "Prints who the node is, what it knows, and what its disk holds; whether all members\n"
             "that it reaches have the same tree, and which have not: how many changes they are\n"
             "behind this node or ahead of it.\n",
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_status,
};
