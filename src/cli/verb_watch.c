/* SPDX-License-Identifier: Apache-2.0 */

/*
 * watch: a stream of changes that is never given up. The position is the cursor of the last change
 * that was dealt with, or a later one up to which the node says that nothing matches; every
 * connection begins behind it. Without a cursor the node is asked for its present one first, so
 * that a connection that breaks before the first change loses nothing.
 *
 * A cursor is worth nothing at another node, nor at one that got another data directory. So the
 * node is asked now and then for a token of the same position, which holds everywhere; both are
 * sent, and the node takes the cursor if it is its own. The token is the older one, so that some
 * changes come again.
 *
 * A change is dealt with when it was printed, or when the command succeeded. Then the cursor may
 * go to the file: never before, so that after a crash a change comes again rather than never.
 */

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/connect.h"
#include "client/client.h"
#include "client/entry.h"
#include "client/hook.h"
#include "client/percent.h"
#include "client/sse.h"
#include "client/text.h"
#include "tree/token.h"

/* A node sends a sign of life every 15 s. */
#define SILENCE_MS_MAX 60000
#define RECONNECT_FIRST_MS 250
#define RECONNECT_LIMIT_MS 30000
#define EXEC_FIRST_MS 500
#define EXEC_LIMIT_MS 60000
#define CURSOR_BYTES_MAX 4096
#define CURSOR_FILE_BYTES_MAX (CURSOR_BYTES_MAX + TREE_TOKEN_CHARS_MAX + 2)
/* A longer token is sent as a body: the node takes 15 KiB of headers. */
#define QUERY_TOKEN_CHARS_MAX 8192
/* So much comes again at most when the node is another one. */
#define TOKEN_EVERY_MS 5000
/* A node that takes longer to make one hangs. */
#define TOKEN_SILENCE_MS_MAX 5000u

struct watch {
    const struct invocation *invocation;
    struct client *client;
    const char *command;     /* or NULL */
    const char *cursor_file; /* or NULL */
    bool is_json;
    char *cursor;          /* or NULL: there is a token */
    char *token;           /* or NULL */
    char *token_cursor;    /* what the token was made for, or was to be; NULL: another node's */
    uint64_t token_ms;     /* when it was asked for */
    struct client *asking; /* for tokens, beside the stream; from the first time on */
    bool is_saved;         /* the cursor is in the file */
    struct sse sse;
    struct backoff reconnect;
};

/* ---- one change -------------------------------------------------------------------------------
 */

static void print_plain(const json_t *change)
{
    CLEANUP_BUF struct buf line = BUF_INIT;
    const char *id = entry_text(change, "id");
    const char *from = entry_text(change, "from");
    CLEANUP_FREE char *what = mem_format("%-7s %-64s", entry_text(change, "event"), *id ? id : "-");
    CLEANUP_FREE char *names = *from ? mem_format("%s -> %s", from, entry_text(change, "path"))
                                     : mem_copy_string(entry_text(change, "path"));
    text_add_id_line(&line, what, names, isatty(STDOUT_FILENO));
    fputs(buf_string(&line), stdout);
}

static int print(const struct watch *watch, const struct sse_event *event, const json_t *change)
{
    if (watch->is_json) {
        puts(event->data);
    } else {
        print_plain(change);
    }
    /* Whoever reads a pipe wants to know now. */
    return fflush(stdout) == 0 ? 0 : err_from_errno(errno);
}

/* Until it succeeds: there is no change that may be left out. */
static void execute(const struct watch *watch, const char *cursor, const json_t *change)
{
    const struct hook_variable variables[] = {
        {"ARTEL_EVENT", entry_text(change, "event")},
        {"ARTEL_PATH", entry_text(change, "path")},
        {"ARTEL_ID", entry_text(change, "id")},
        {"ARTEL_FROM", entry_text(change, "from")},
        {"ARTEL_CURSOR", cursor},
        {"ARTEL_NODE", config_string(watch->invocation->config, "node")},
    };
    struct backoff backoff = {.first_ms = EXEC_FIRST_MS, .limit_ms = EXEC_LIMIT_MS};
    for (;;) {
        int status = 0;
        const int err = hook_run(watch->command, variables, ARRAY_SIZE(variables), &status);
        if (!err && status == 0) {
            return;
        }
        CLEANUP_FREE char *why =
            err ? mem_copy_string(err_text(err)) : mem_format("ended with status %d", status);
        cli_error(watch->invocation, "%s %s: the command %s; trying again",
                  entry_text(change, "event"), entry_text(change, "path"), why);
        backoff_wait(&backoff);
    }
}

/* All up to `cursor` was dealt with. */
static void move_cursor(struct watch *watch, const char *cursor)
{
    if (*cursor && (!watch->cursor || strcmp(cursor, watch->cursor) != 0)) {
        free(watch->cursor);
        watch->cursor = mem_copy_string(cursor);
        watch->is_saved = false;
    }
}

static bool is_cursor(const char *text)
{
    return strlen(text) <= CURSOR_BYTES_MAX && !strpbrk(text, "\r\n");
}

static int on_event(void *context, const struct sse_event *event)
{
    struct watch *watch = context;
    if (!event->data) {
        if (!is_cursor(event->id)) {
            return -EPROTO;
        }
        move_cursor(watch, event->id);
        return 0;
    }
    json_t *change = json_loadb(event->data, event->data_bytes, 0, NULL);
    const char *cursor = *event->id ? event->id : entry_text(change, "cursor");
    const bool is_gap = strcmp(event->type, "gap") == 0;
    if (!json_is_object(change) || !is_cursor(cursor)) {
        json_decref(change);
        return -EPROTO;
    }
    if (!json_object_get(change, "event")) {
        json_object_set_new(change, "event", json_string(event->type));
    }
    if (is_gap) {
        cli_error(watch->invocation, "changes before this point are not known any more");
    }
    int err = 0;
    if (watch->command) {
        execute(watch, cursor, change);
    } else {
        err = print(watch, event, change);
    }
    if (!err) {
        move_cursor(watch, cursor);
    }
    json_decref(change);
    return err;
}

/* ---- the cursor -------------------------------------------------------------------------------
 */

static int save_cursor(struct watch *watch)
{
    if (!watch->cursor_file || watch->is_saved || !watch->cursor) {
        return 0;
    }
    CLEANUP_FREE char *lines = mem_format(
        "%s\n%s%s", watch->cursor, watch->token ? watch->token : "", watch->token ? "\n" : "");
    const int err = file_replace(AT_FDCWD, watch->cursor_file, bytes_of_string(lines));
    if (err) {
        cli_error(watch->invocation, "%s: %s", watch->cursor_file, err_text(err));
    }
    watch->is_saved = !err;
    return err;
}

/* The next line of `*text`, or NULL if it is empty. The caller frees it. */
static char *take_line(const char **text)
{
    const size_t size = strcspn(*text, "\r\n");
    char *line = size > 0 ? mem_format("%.*s", (int)size, *text) : NULL;
    *text += size;
    *text += strspn(*text, "\r\n");
    return line;
}

static bool is_token(const char *text)
{
    return text && !strchr(text, ':') && strcmp(text, "0") != 0;
}

/* What the file says: a cursor, a token, or both; nothing if there is none yet. False: it said why.
 */
static bool load_cursor(struct watch *watch)
{
    CLEANUP_BUF struct buf content = BUF_INIT;
    const int err = file_read_path(AT_FDCWD, watch->cursor_file, CURSOR_FILE_BYTES_MAX, &content);
    if (err == -ENOENT) {
        return true;
    }
    if (err) {
        cli_error(watch->invocation, "%s: %s", watch->cursor_file, err_text(err));
        return false;
    }
    const char *rest = content.size > 0 ? buf_string(&content) : "";
    char *first = take_line(&rest);
    if (!first) {
        return true;
    }
    free(watch->cursor);
    free(watch->token);
    watch->cursor = is_token(first) ? NULL : first;
    watch->token = is_token(first) ? first : take_line(&rest);
    watch->is_saved = true;
    return true;
}

/* A token of the cursor, or of where the node is now, which becomes the cursor. */
static bool ask_token(struct watch *watch, struct client *client, struct client_response *response)
{
    CLEANUP_BUF struct buf target = BUF_INIT;
    buf_add_string(&target, "/watch/token");
    if (watch->cursor) {
        buf_add_string(&target, "?at=");
        percent_add(&target, bytes_of_string(watch->cursor));
    }
    const struct client_request request = {
        .target = buf_string(&target),
        .silence_ms_max = TOKEN_SILENCE_MS_MAX,
    };
    watch->token_ms = clock_monotonic_ms(clock_real());
    free(watch->token_cursor);
    watch->token_cursor = watch->cursor ? mem_copy_string(watch->cursor) : NULL;
    if (!client_perform(client, &request, response)) {
        return false;
    }
    json_t *answer = json_loadb(buf_string(&response->body), response->body.size, 0, NULL);
    const char *cursor = entry_text(answer, "cursor");
    const char *token = entry_text(answer, "token");
    const bool good = *cursor && is_cursor(cursor) && *token && is_token(token);
    if (good) {
        free(watch->token);
        watch->token = mem_copy_string(token);
        watch->is_saved = false;
        move_cursor(watch, cursor);
        free(watch->token_cursor);
        watch->token_cursor = mem_copy_string(cursor);
    } else {
        buf_add_string(&response->failure, "the node tells no cursor");
    }
    json_decref(answer);
    return good;
}

/* Where the node is now, of a network whose logs are too many for a token: the cursor alone. */
static bool ask_cursor(struct watch *watch, struct client_response *response)
{
    const struct client_request request = {
        .target = "/status",
        .silence_ms_max = TOKEN_SILENCE_MS_MAX,
    };
    if (!client_perform(watch->client, &request, response)) {
        return false;
    }
    json_t *answer = json_loadb(buf_string(&response->body), response->body.size, 0, NULL);
    const char *cursor = entry_text(answer, "cursor");
    const bool good = *cursor && is_cursor(cursor);
    if (good) {
        move_cursor(watch, cursor);
    } else {
        buf_add_string(&response->failure, "the node tells no cursor");
    }
    json_decref(answer);
    return good;
}

static bool find_beginning(struct watch *watch, struct client_response *response)
{
    return watch->cursor || watch->token || ask_token(watch, watch->client, response) ||
           (client_is_code(response, "no_token") && ask_cursor(watch, response));
}

/* Asks for a token if the one that there is, is old. Without a new one that goes on to hold. */
static void renew_token(struct watch *watch)
{
    const bool is_new =
        watch->token_cursor && watch->cursor && strcmp(watch->token_cursor, watch->cursor) == 0;
    const uint64_t age_ms = clock_monotonic_ms(clock_real()) - watch->token_ms;
    if (!watch->cursor || is_new || (watch->token_cursor && age_ms < TOKEN_EVERY_MS)) {
        return;
    }
    if (!watch->asking) {
        watch->asking = client_clone(watch->client);
    }
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    (void)!ask_token(watch, watch->asking, &response);
}

/* ---- the stream -------------------------------------------------------------------------------
 */

static int on_data(void *context, struct bytes data)
{
    struct watch *watch = context;
    watch->reconnect.failures = 0;
    int err = sse_add(&watch->sse, data, on_event, watch);
    if (!err) {
        err = save_cursor(watch); /* what was told is told, also if the node hangs now */
    }
    if (!err) {
        renew_token(watch);
        err = save_cursor(watch);
    }
    return err;
}

static void add_query(struct buf *target, const char *key, const char *value)
{
    const bool has_query = memchr(target->data, '?', target->size) != NULL;
    buf_add_format(target, "%c%s=", has_query ? '&' : '?', key);
    percent_add(target, bytes_of_string(value));
}

/* One connection. It ended when this returns; `response` tells why, if there is a reason. */
static void follow(struct watch *watch, struct client_response *response)
{
    CLEANUP_BUF struct buf target = BUF_INIT;
    const char *glob = config_string(watch->invocation->config, "path");
    const bool is_long = watch->token && strlen(watch->token) > QUERY_TOKEN_CHARS_MAX;
    buf_add_string(&target, "/watch");
    if (watch->cursor) {
        add_query(&target, "since", watch->cursor);
    }
    if (watch->token && !is_long) {
        add_query(&target, "token", watch->token);
    }
    if (glob) {
        add_query(&target, "path", glob);
    }
    CLEANUP_FREE char *last = watch->cursor ? mem_format("Last-Event-ID: %s", watch->cursor) : NULL;
    const struct client_request request = {
        .method = is_long ? "POST" : NULL,
        .target = buf_string(&target),
        .headers = {"Accept: text/event-stream", last},
        .body = is_long ? bytes_of_string(watch->token) : BYTES(NULL, 0),
        .on_data = on_data,
        .context = watch,
        .silence_ms_max = SILENCE_MS_MAX,
    };
    sse_restart(&watch->sse);
    if (client_perform(watch->client, &request, response)) {
        buf_add_string(&response->failure, "the node ended the stream");
    }
}

/* True if another attempt may go better. */
static bool is_passing(const struct client_response *response)
{
    return !response->err && (response->status < 400 || response->status >= 500);
}

static enum cli_status watch_all(struct watch *watch)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    /* Who starts it wants to know at once if there is no node; later it may come back. */
    if (!find_beginning(watch, &response)) {
        connect_report(watch->invocation, NULL, &response);
        return CLI_FAILED;
    }
    if (save_cursor(watch)) {
        return CLI_FAILED;
    }
    for (bool has_begun = false;; has_begun = true) {
        follow(watch, &response);
        if (response.err == -EPIPE) {
            return CLI_FAILED; /* nobody listens any more */
        }
        const bool is_over = !is_passing(&response) || (!has_begun && response.no_node);
        /* The first time it breaks; after that it is known. */
        if (is_over || watch->reconnect.failures == 0) {
            cli_error(watch->invocation, "%s%s", buf_string(&response.failure),
                      is_over ? "" : "; trying again");
        }
        if (is_over) {
            return CLI_FAILED;
        }
        backoff_wait(&watch->reconnect);
    }
}

static enum cli_status run_watch(const struct invocation *invocation)
{
    const struct config *config = invocation->config;
    const char *since = config_string(config, "since");
    if (invocation->arguments_count > 0) {
        return cli_usage(invocation, "watch takes no arguments: give --path GLOB");
    }
    if (since &&
        (!*since || (is_token(since) ? strlen(since) > TREE_TOKEN_CHARS_MAX : !is_cursor(since)))) {
        return cli_usage(invocation, "no cursor can be like this");
    }
    CLEANUP(client_free) struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    struct watch watch = {
        .invocation = invocation,
        .client = client,
        .command = config_string(config, "exec"),
        .cursor_file = config_string(config, "cursor-file"),
        .is_json = config_switch(config, "json"),
        .cursor = since && !is_token(since) ? mem_copy_string(since) : NULL,
        .token = is_token(since) ? mem_copy_string(since) : NULL,
        .reconnect = {.first_ms = RECONNECT_FIRST_MS, .limit_ms = RECONNECT_LIMIT_MS},
    };
    enum cli_status status = CLI_FAILED;
    if (!watch.cursor_file || load_cursor(&watch)) {
        status = watch_all(&watch);
    }
    free(watch.cursor);
    free(watch.token);
    free(watch.token_cursor);
    client_free(watch.asking);
    sse_done(&watch.sse);
    return status;
}

static const struct config_key keys[] = {
    {"path", NULL, "GLOB: only what matches, as a/** or **/*.txt", false},
    {"since", NULL, "CURSOR|TOKEN: go on behind it; 0 begins with the oldest known", false},
    {"exec", NULL, "COMMAND: run it for each change, one after the other", false},
    {"cursor-file", NULL, "FILE: keep cursor and token there, and go on from them", false},
    CLI_KEY_JSON,
    CLI_KEYS_CLIENT,
};

const struct verb verb_watch = {
    .name = "watch",
    .summary = "tell of every change as it happens",
    .synopsis = "[--node URL] [--path GLOB] [--since CURSOR] [--exec COMMAND]",
    .about =
        "Prints `EVENT ID  PATH` for every change: put, mkdir, delete, rename (with the old path\n"
        "before it), atomic (a whole directory at once). When the connection breaks it is made\n"
        "again and goes on where it was; a change may come twice then, never not at all. `gap`\n"
        "says that changes may be missing of which nobody knows any more: compare what was made\n"
        "of them with the tree, as `artel find` lists it.\n\n"
        "With --exec, `sh -c COMMAND` runs for each change with ARTEL_EVENT, ARTEL_PATH, "
        "ARTEL_ID,\n"
        "ARTEL_FROM, ARTEL_CURSOR and ARTEL_NODE set. If it fails it is run again until it\n"
        "succeeds; no change is left out, `gap` neither. With --cursor-file the next watch goes "
        "on\n"
        "where this one ended; the file wins over --since. It holds a cursor, which is the node's\n"
        "own, and a token of a few seconds before, so that the next watch may ask any other "
        "node.\n",
    .keys = keys,
    .keys_count = ARRAY_SIZE(keys),
    .run = run_watch,
};
