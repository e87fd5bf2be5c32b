/* SPDX-License-Identifier: Apache-2.0 */

/*
 * watch: prints changes, or runs a command for each. A change is dealt with when it was printed, or
 * when the command succeeded. Then the cursor may go to the file: never before, so that after a
 * crash a change comes again rather than never.
 */

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/backoff.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "cli/connect.h"
#include "client/changes.h"
#include "client/client.h"
#include "client/entry.h"
#include "client/hook.h"
#include "client/text.h"
#include "tree/token.h"

#define EXEC_FIRST_MS 500
#define EXEC_LIMIT_MS 60000
#define CURSOR_FILE_BYTES_MAX (CHANGES_CURSOR_BYTES_MAX + TREE_TOKEN_CHARS_MAX + 2)

struct watch {
    const struct invocation *invocation;
    struct client *client;
    const char *command;     /* or NULL */
    const char *cursor_file; /* or NULL */
    bool is_json;
    char *cursor; /* where to begin, or NULL */
    char *token;  /* likewise */
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

static int print(const struct watch *watch, const struct change_told *told)
{
    if (watch->is_json) {
        puts(told->text);
    } else {
        print_plain(told->json);
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
        const int err =
            hook_run(watch->command, variables, ARRAY_SIZE(variables), STDOUT_FILENO, &status);
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

static int on_change(void *context, const struct change_told *told)
{
    const struct watch *watch = context;
    if (told->is_gap) {
        cli_error(watch->invocation, "changes before this point are not known any more");
    }
    if (!watch->command) {
        return print(watch, told);
    }
    execute(watch, told->cursor, told->json);
    return 0;
}

/* ---- the cursor -------------------------------------------------------------------------------
 */

static int save_cursor(void *context, const char *cursor, const char *token)
{
    const struct watch *watch = context;
    if (!watch->cursor_file || !cursor) {
        return 0;
    }
    CLEANUP_FREE char *lines =
        mem_format("%s\n%s%s", cursor, token ? token : "", token ? "\n" : "");
    const int err = file_replace(AT_FDCWD, watch->cursor_file, bytes_of_string(lines));
    if (err) {
        cli_error(watch->invocation, "%s: %s", watch->cursor_file, err_text(err));
    }
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
    const bool is_token = changes_is_token(first);
    watch->cursor = is_token ? NULL : first;
    watch->token = is_token ? first : take_line(&rest);
    return true;
}

/* ---- the stream -------------------------------------------------------------------------------
 */

static void on_broke(void *context, const char *why, bool is_over)
{
    const struct watch *watch = context;
    cli_error(watch->invocation, "%s%s", why, is_over ? "" : "; trying again");
}

static enum cli_status watch_all(struct watch *watch)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    const struct changes_options options = {
        .client = watch->client,
        .path = config_string(watch->invocation->config, "path"),
        .cursor = watch->cursor,
        .token = watch->token,
        .change = on_change,
        .moved = save_cursor,
        .broke = on_broke,
        .context = watch,
    };
    CLEANUP(changes_free) struct changes *changes = changes_new(&options);
    /* Who starts it wants to know at once if there is no node; later it may come back. */
    if (!changes_begin(changes, &response)) {
        connect_report(watch->invocation, NULL, &response);
        return CLI_FAILED;
    }
    (void)!changes_run(changes); /* it has told why it ended */
    return CLI_FAILED;
}

static enum cli_status run_watch(const struct invocation *invocation)
{
    const struct config *config = invocation->config;
    const char *since = config_string(config, "since");
    if (invocation->arguments_count > 0) {
        return cli_usage(invocation, "watch takes no arguments: give --path GLOB");
    }
    if (since && (!*since || (changes_is_token(since) ? strlen(since) > TREE_TOKEN_CHARS_MAX
                                                      : !changes_is_cursor(since)))) {
        return cli_usage(invocation, "no cursor can be like this");
    }
    CLEANUP(client_free) struct client *client = connect_node(invocation);
    if (!client) {
        return CLI_USAGE;
    }
    const bool is_token = since && changes_is_token(since);
    struct watch watch = {
        .invocation = invocation,
        .client = client,
        .command = config_string(config, "exec"),
        .cursor_file = config_string(config, "cursor-file"),
        .is_json = config_switch(config, "json"),
        .cursor = since && !is_token ? mem_copy_string(since) : NULL,
        .token = is_token ? mem_copy_string(since) : NULL,
    };
    enum cli_status status = CLI_FAILED;
    if (!watch.cursor_file || load_cursor(&watch)) {
        status = watch_all(&watch);
    }
    free(watch.cursor);
    free(watch.token);
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
