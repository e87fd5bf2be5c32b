/* SPDX-License-Identifier: Apache-2.0 */

/*
 * wait: asks the node how many have it, which answers when enough do or after a while; then it is
 * asked again. What the node knows of the others it forgets with each answer, so nothing is lost
 * when it restarts in between, or another one answers at its address.
 */

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/mem.h"
#include "cli/connect.h"
#include "cli/progress.h"
#include "cli/table.h"
#include "client/client.h"
#include "client/entry.h"
#include "client/percent.h"
#include "client/text.h"
#include "hash/id.h"

/* A request waits for so long, less when somebody looks at how it goes. */
#define ROUND_S 10u
#define ROUND_SHOWN_S 1u
#define TIMEOUT_S_MAX ((uint64_t)365 * 24 * 3600)
/* So much later than it was asked to, a node that answers has: it looks at a million files, and
 * others before. */
#define LATE_S_MAX 30u
#define RETRY_FIRST_MS 250u
#define RETRY_LIMIT_MS 10000u
/* The line on a terminal tells of so many that lack it. */
#define SHOWN_MAX 8u

struct wait {
    const struct invocation *invocation;
    struct client *client;
    bool is_of_followers;
    uint64_t until_ms; /* UINT64_MAX: for ever */
    bool has_begun;    /* it got through to the node */
    struct backoff retry;

    const char *argument;
    struct progress *progress;
    char digest[ID_HEX_CHARS + 1]; /* of what is waited for; "": not known yet */
};

static uint64_t now_ms(void)
{
    return clock_monotonic_ms(clock_real());
}

/* ---- who lacks it ------------------------------------------------------------------------------
 */

static void add_part(struct buf *text, const json_t *found, const json_t *node)
{
    static const char *const states[][2] = {
        {"idle", "not being fetched"},
        {"searching", "looks for nodes that have it"},
        {"no_space", "its disk is full"},
        {"committing", "being made durable"},
    };
    const uint64_t length = entry_number(found, "length");
    const uint64_t files = entry_number(found, "files");
    const uint64_t share =
        length > 0 ? (uint64_t)(100.0 * (double)entry_number(node, "here") / (double)length) : 0;
    buf_add_format(text, "%" PRIu64 "%%", share);
    if (files > 1) {
        buf_add_format(text, ", %" PRIu64 " of %" PRIu64 " files", entry_number(node, "files"),
                       files);
    }
    for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
        if (strcmp(states[i][0], entry_text(node, "state")) == 0) {
            buf_add_format(text, ", %s", states[i][1]);
        }
    }
    if (entry_number(node, "rate") > 0) {
        buf_add_string(text, ", ");
        text_add_size(text, entry_number(node, "rate"));
        buf_add_string(text, "/s, ");
        text_add_duration(text, entry_number(node, "left_s"));
        buf_add_string(text, " left");
    }
}

static void add_why(struct buf *text, const json_t *found, const json_t *node)
{
    static const char *const whys[][2] = {
        {"behind", "its tree does not show it yet"},
        {"no_follower", "nobody is known to follow it there"},
        {"older", "its version can't tell of followers"},
        {"busy", "can't tell just now"},
        {"silent", "does not answer"},
        {"unreachable", "unreachable"},
    };
    const char *why = entry_text(node, "why");
    if (strcmp(why, "part") == 0) {
        add_part(text, found, node);
        return;
    }
    if (strcmp(why, "not_landed") == 0) {
        buf_add_format(text, "whole, but %" PRIu64 " of %" PRIu64 " in a follower's directory",
                       entry_number(node, "followed"), entry_number(found, "files"));
    }
    for (size_t i = 0; i < ARRAY_SIZE(whys); i++) {
        if (strcmp(whys[i][0], why) == 0) {
            buf_add_string(text, whys[i][1]);
        }
    }
    if (json_object_get(node, "since")) {
        /* To the second. */
        buf_add_format(text, " since %.19sZ", entry_text(node, "since"));
    }
}

/* A line for each: `NAME  ZONE  ADDRESS  WHY`. */
static void print_lacking(const json_t *found)
{
    const json_t *lacking = json_object_get(found, "lacking");
    struct table table = TABLE_INIT(4);
    for (size_t i = 0; i < json_array_size(lacking); i++) {
        const json_t *node = json_array_get(lacking, i);
        const char *name = entry_text(node, "name");
        CLEANUP_BUF struct buf why = BUF_INIT;
        add_why(&why, found, node);
        CLEANUP_FREE char *indented = mem_format("  %s", *name ? name : entry_text(node, "node"));
        table_add_name(&table, indented);
        table_add_name(&table, entry_text(node, "zone"));
        table_add_name(&table, entry_text(node, "address"));
        table_add(&table, "%s", buf_string(&why));
    }
    CLEANUP_BUF struct buf text = BUF_INIT;
    table_format(&table, &text);
    table_done(&table);
    const uint64_t left =
        entry_number(found, "members") - entry_number(found, "have") - json_array_size(lacking);
    if (left > 0) {
        buf_add_format(&text, "  and %" PRIu64 " more\n", left);
    }
    fputs(buf_string(&text), stdout);
}

static void show(const struct wait *wait, const json_t *found)
{
    if (!progress_is_shown(wait->progress)) {
        return;
    }
    const json_t *lacking = json_object_get(found, "lacking");
    CLEANUP_BUF struct buf line = BUF_INIT;
    buf_add_format(&line, "%" PRIu64 " of %" PRIu64, entry_number(found, "have"),
                   entry_number(found, "members"));
    if (entry_number(found, "wanted") != entry_number(found, "members")) {
        buf_add_format(&line, ", %" PRIu64 " wanted", entry_number(found, "wanted"));
    }
    buf_add_string(&line, "; lacking: ");
    for (size_t i = 0; i < json_array_size(lacking) && i < SHOWN_MAX; i++) {
        const json_t *node = json_array_get(lacking, i);
        buf_add_string(&line, i > 0 ? "; " : "");
        text_add_name(&line, entry_text(node, "name"), true);
        buf_add_string(&line, " (zone ");
        text_add_name(&line, entry_text(node, "zone"), true);
        buf_add_string(&line, "): ");
        add_why(&line, found, node);
    }
    progress_show_text(wait->progress, buf_string(&line));
}

/* ---- waiting -----------------------------------------------------------------------------------
 */

static void add_parameter(struct buf *target, const char *name, const char *value)
{
    if (value) {
        buf_add_format(target, "&%s=", name);
        percent_add(target, bytes_of_string(value));
    }
}

static bool ask(const struct wait *wait, struct client_response *response)
{
    const struct config *config = wait->invocation->config;
    const uint64_t now = now_ms();
    const uint64_t left_s = now < wait->until_ms ? (wait->until_ms - now + 999) / 1000 : 0;
    const uint64_t round_s = progress_is_shown(wait->progress) ? ROUND_SHOWN_S : ROUND_S;
    CLEANUP_FREE char *path = text_tree_path(wait->argument);
    CLEANUP_BUF struct buf target = BUF_INIT;
    buf_add_string(&target, "/wait/");
    percent_add_path(&target, path);
    buf_add_format(&target, "?wait=%" PRIu64, left_s < round_s ? left_s : round_s);
    add_parameter(&target, "nodes", config_flag(config, "nodes"));
    add_parameter(&target, "quorum", config_flag(config, "quorum"));
    add_parameter(&target, "zone", config_flag(config, "zone"));
    add_parameter(&target, "followers", wait->is_of_followers ? "1" : NULL);
    const struct client_request request = {
        .target = buf_string(&target),
        .silence_ms_max = (round_s + LATE_S_MAX) * 1000,
    };
    return client_perform(wait->client, &request, response);
}

/* It is another version than that which was waited for. */
static void note_replaced(struct wait *wait, const json_t *found)
{
    const char *digest = entry_text(found, "digest");
    const bool is_replaced = json_is_true(json_object_get(found, "replaced")) ||
                             (*wait->digest && strcmp(wait->digest, digest) != 0);
    snprintf(wait->digest, sizeof wait->digest, "%s", digest);
    if (is_replaced) {
        progress_pause(wait->progress);
        cli_error(wait->invocation, "%s: replaced meanwhile; waits for what is there now",
                  wait->argument);
    }
}

/* True if that was the last word: *ret_status. */
static bool take(struct wait *wait, const struct client_response *response, const json_t *found,
                 enum cli_status *ret_status)
{
    if (!json_is_array(json_object_get(found, "lacking"))) {
        cli_error(wait->invocation, "the node's answer makes no sense");
        *ret_status = CLI_FAILED;
        return true;
    }
    note_replaced(wait, found);
    const bool is_reached = json_is_true(json_object_get(found, "reached"));
    if (!is_reached && now_ms() < wait->until_ms) {
        show(wait, found);
        return false;
    }
    progress_pause(wait->progress);
    *ret_status = is_reached ? CLI_OK : CLI_FAILED;
    if (config_switch(wait->invocation->config, "json")) {
        fputs(buf_string(&response->body), stdout);
    } else if (!is_reached) {
        cli_error(wait->invocation,
                  "%s: %" PRIu64 " of %" PRIu64 " nodes have it%s, %" PRIu64 " are wanted",
                  wait->argument, entry_number(found, "have"), entry_number(found, "members"),
                  wait->is_of_followers ? " where it is followed" : "",
                  entry_number(found, "wanted"));
        print_lacking(found);
    }
    return true;
}

/* There was no answer, or one of trouble. True if that was the last word: *ret_status. */
static bool take_failure(struct wait *wait, const struct client_response *response,
                         enum cli_status *ret_status)
{
    const uint64_t now = now_ms();
    progress_pause(wait->progress);
    /* Who starts it wants to know at once if there is no node; later it may come back. */
    if (!client_may_pass(response) || (!wait->has_begun && response->no_node) ||
        now >= wait->until_ms) {
        connect_report(wait->invocation, wait->argument, response);
        *ret_status = client_is_code(response, "bad_query") ? CLI_USAGE : CLI_FAILED;
        return true;
    }
    wait->has_begun = true;
    /* The first time; after that it is known. */
    if (wait->retry.failures == 0) {
        cli_error(wait->invocation, "%s: %s; trying again", wait->argument,
                  buf_string(&response->failure));
    }
    backoff_wait_up_to(&wait->retry, wait->until_ms - now);
    return false;
}

static enum cli_status wait_for(struct wait *wait)
{
    enum cli_status status = CLI_FAILED;
    bool is_over = false;
    while (!is_over) {
        CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
        if (!ask(wait, &response)) {
            is_over = take_failure(wait, &response, &status);
            continue;
        }
        wait->has_begun = true;
        wait->retry.failures = 0;
        json_t *found = json_loadb(buf_string(&response.body), response.body.size, 0, NULL);
        is_over = take(wait, &response, found, &status);
        json_decref(found);
    }
    return status;
}

static enum cli_status run_wait(const struct invocation *invocation)
{
    if (invocation->arguments_count == 0) {
        return cli_usage(invocation, "for which file or directory?");
    }
    uint64_t timeout_s = 0;
    const int err = config_number(invocation->config, "timeout", TIMEOUT_S_MAX, &timeout_s);
    if (err && err != -ENOENT) {
        return cli_usage(invocation, "--timeout takes a number of seconds");
    }
    CLEANUP(client_free) struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    const bool is_wanted = !config_switch(invocation->config, "quiet");
    struct wait wait = {
        .invocation = invocation,
        .client = client,
        .is_of_followers = config_switch(invocation->config, "followers"),
        .until_ms = err ? UINT64_MAX : now_ms() + timeout_s * 1000,
        .retry = {.first_ms = RETRY_FIRST_MS, .limit_ms = RETRY_LIMIT_MS},
    };
    enum cli_status status = CLI_OK;
    for (size_t i = 0; i < invocation->arguments_count && status != CLI_USAGE; i++) {
        wait.argument = invocation->arguments[i];
        wait.progress = progress_new(is_wanted);
        wait.digest[0] = 0;
        const enum cli_status one = wait_for(&wait);
        status = one > status ? one : status;
        progress_free(wait.progress);
    }
    return status;
}

static const struct config_key keys[] = {
    {"nodes", NULL, "NUMBER: of nodes that shall have it", false},
    {"quorum", NULL, "PERCENT: of the nodes that shall have it, as 99%", false},
    {"zone", NULL, "ZONE: count only nodes of this zone", false},
    {"followers", NULL, "count only nodes where it stands in the directory of a follower", true},
    {"timeout", NULL, "SECONDS: to wait; without it, for ever", false},
    CLI_KEY_QUIET,
    CLI_KEY_JSON,
    CLI_KEYS_CLIENT,
};

static const struct short_flag shorts[] = {{'q', "quiet"}};

const struct verb verb_wait = {
    .name = "wait",
    .summary = "wait until so many nodes have a file or directory",
    .synopsis = "[--nodes NUMBER] [--quorum PERCENT] [--zone ZONE] [--followers] "
                "[--timeout SECONDS] PATH...",
    .about =
        "Returns when all nodes have all of what is at the path: their trees show it, and the\n"
        "content of each file of it is whole and durable there. A node that follows it, was asked\n"
        "for a copy or has read it counts like the one that published it. Nodes that are\n"
        "unreachable count among those that lack it; those that left do not count.\n"
        "\n"
        "With --nodes, so many suffice, with --quorum so large a part of them; with both, both\n"
        "must hold. With --zone only the nodes of that zone are asked and counted, for the others\n"
        "too. --zone and --nodes are taken from the command line alone.\n"
        "\n"
        "With --followers a node counts when all of it stands in the directory of somebody who\n"
        "follows it there (`artel follow`, `follow` of the node's settings); a node where nobody\n"
        "does lacks it for good.\n"
        "\n"
        "On a terminal a line tells who lacks it and why. If the path is replaced meanwhile, that\n"
        "is said, and what is there now is waited for; if it is deleted, the wait fails. It "
        "brings\n"
        "nothing anywhere: see `artel put --copies`. A node that restarts or is busy meanwhile is\n"
        "asked again.\n"
        "\n"
        "The exit status is 0 when enough have it and 1 when the time is over before: then those\n"
        "that lack it are printed, as `NAME  ZONE  ADDRESS  WHY`. With --timeout 0 it looks once.\n"
        "With --json it prints what the node said last (docs/API.md, `GET /wait`).\n",
    .first_argument = CLI_ARGUMENT_PATH,
    .other_arguments = CLI_ARGUMENT_PATH,
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .shorts = shorts,
    .shorts_count = ARRAY_SIZE(shorts),
    .run = run_wait,
};
