/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "base/backoff.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "cli/connect.h"
#include "cli/members_table.h"
#include "client/client.h"
#include "client/entry.h"
#include "client/sse.h"

/* A node sends a sign of life every 15 s. */
#define SILENCE_MS_MAX 60000
#define RECONNECT_FIRST_MS 250
#define RECONNECT_LIMIT_MS 10000

struct live {
    const struct invocation *invocation;
    struct client *client; /* the stream */
    struct client *lists;  /* asked while the stream goes on */
    bool is_json;
    bool is_terminal;
    struct sse sse;
    struct backoff reconnect;
};

/* NULL: `response` tells why. */
static json_t *ask(struct client *client, struct client_response *response)
{
    const struct client_request request = {.target = "/members"};
    if (!client_perform(client, &request, response)) {
        return NULL;
    }
    json_t *members = json_loadb(buf_string(&response->body), response->body.size, 0, NULL);
    if (!json_is_array(members)) {
        json_decref(members);
        buf_add_string(&response->failure, "the node's answer makes no sense");
        return NULL;
    }
    return members;
}

static enum cli_status print_once(const struct invocation *invocation, struct client *client)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_BUF struct buf table = BUF_INIT;
    json_t *members = ask(client, &response);
    if (!members) {
        connect_report(invocation, NULL, &response);
        return CLI_FAILED;
    }
    const bool is_json = config_switch(invocation->config, "json");
    const int err = is_json ? 0 : members_table_add(members, isatty(STDOUT_FILENO), 0, &table);
    json_decref(members);
    if (err) {
        return CLI_FAILED;
    }
    fputs(is_json ? buf_string(&response.body) : buf_string(&table), stdout);
    return CLI_OK;
}

/* ---- live -------------------------------------------------------------------------------------
 */

static size_t terminal_rows(void)
{
    struct winsize size = {0};
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 2 ? size.ws_row - 1u : 0;
}

/* Over the old table, so that nothing flickers: each line is cleared behind its end, and what is
 * left below too. */
static void redraw(struct live *live)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_BUF struct buf table = BUF_INIT;
    json_t *members = ask(live->lists, &response);
    if (!members || members_table_add(members, true, terminal_rows(), &table)) {
        json_decref(members);
        return; /* the stream breaks too, and tells why */
    }
    json_decref(members);
    fputs("\033[H", stdout);
    for (size_t i = 0; i < table.size; i++) {
        if (table.data[i] == '\n') {
            fputs("\033[K", stdout);
        }
        putchar(table.data[i]);
    }
    fputs("\033[J", stdout);
}

static int on_event(void *context, const struct sse_event *event)
{
    struct live *live = context;
    if (live->is_json) {
        puts(event->data);
        return 0;
    }
    if (strcmp(event->type, "member_gap") == 0) {
        cli_error(live->invocation, "too many events at once; some are missing here");
        return 0;
    }
    json_t *data = json_loadb(event->data, event->data_bytes, 0, NULL);
    if (json_is_object(data)) {
        CLEANUP_BUF struct buf line = BUF_INIT;
        members_table_add_event(data, false, &line);
        fputs(buf_string(&line), stdout);
    }
    json_decref(data);
    return 0;
}

static int on_data(void *context, struct bytes data)
{
    struct live *live = context;
    live->reconnect.failures = 0;
    int err = 0;
    if (live->is_terminal) {
        redraw(live);
    } else {
        err = sse_add(&live->sse, data, on_event, live);
    }
    if (err) {
        return err;
    }
    /* Whoever reads a pipe wants to know now. */
    return fflush(stdout) == 0 ? 0 : -EPIPE;
}

static enum cli_status watch(struct live *live)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    if (live->is_terminal) {
        fputs("\033[2J", stdout);
    }
    for (bool has_begun = false;; has_begun = true) {
        const struct client_request request = {
            .target = "/watch?members=only",
            .headers = {"Accept: text/event-stream"},
            .on_data = on_data,
            .context = live,
            .silence_ms_max = SILENCE_MS_MAX,
        };
        sse_restart(&live->sse);
        if (client_perform(live->client, &request, &response)) {
            buf_add_string(&response.failure, "the node ended the stream");
        }
        if (response.err == -EPIPE) {
            return CLI_FAILED; /* nobody listens any more */
        }
        const bool is_over = !client_may_pass(&response) || (!has_begun && response.no_node);
        /* The first time it breaks; after that it is known. */
        if (is_over || live->reconnect.failures == 0) {
            cli_error(live->invocation, "%s%s", buf_string(&response.failure),
                      is_over ? "" : "; trying again, what happens meanwhile is not told");
        }
        if (is_over) {
            return CLI_FAILED;
        }
        backoff_wait(&live->reconnect);
    }
}

static enum cli_status run_members(const struct invocation *invocation)
{
    const struct config *config = invocation->config;
    if (invocation->arguments_count > 0) {
        return cli_usage(invocation, "members takes no arguments");
    }
    CLEANUP(client_free) struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    if (!config_switch(config, "watch")) {
        return print_once(invocation, client);
    }
    CLEANUP(client_free) struct client *lists = client_clone(client);
    struct live live = {
        .invocation = invocation,
        .client = client,
        .lists = lists,
        .is_json = config_switch(config, "json"),
        .is_terminal = isatty(STDOUT_FILENO) && !config_switch(config, "json"),
        .reconnect = {.first_ms = RECONNECT_FIRST_MS, .limit_ms = RECONNECT_LIMIT_MS},
    };
    const enum cli_status status = watch(&live);
    sse_done(&live.sse);
    return status;
}

static const struct config_key keys[] = {
    {"watch", NULL, "go on: a live table on a terminal, else a line for each event", true},
    CLI_KEY_JSON,
    CLI_KEYS_CLIENT,
};

const struct verb verb_members = {
    .name = "members",
    .summary = "list the nodes of the network",
    .synopsis = "[--node URL] [--watch] [--json]",
    .about =
        "Prints each member that the node knows: name, zone, address, state (alive, unreachable,\n"
        "left), round-trip time, and since when it has its state (UTC). A '*' stands before the\n"
        "node itself. With --watch the table follows what happens; not on a terminal, there is a\n"
        "line `TIME EVENT NAME ZONE ADDRESS NODE` for each event, with --json an object.\n",
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_members,
};
