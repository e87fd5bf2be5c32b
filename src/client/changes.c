/* SPDX-License-Identifier: Apache-2.0 */
#include "client/changes.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/random.h"
#include "client/entry.h"
#include "client/percent.h"
#include "client/sse.h"
#include "tree/token.h"

/* A node sends a sign of life every 15 s. */
#define SILENCE_MS_MAX 60000
#define RECONNECT_FIRST_MS 250
#define RECONNECT_LIMIT_MS 30000
/* A longer token is sent as a body: the node takes 15 KiB of headers. */
#define QUERY_TOKEN_CHARS_MAX 8192
/* So much comes again at most when the node is another one. */
#define TOKEN_EVERY_MS 5000
/* A node that takes longer to make one hangs. */
#define TOKEN_SILENCE_MS_MAX 5000u
/* How soon a wait sees that it is stopped. */
#define PAUSE_MS 100u

struct changes {
    struct changes_options options;
    char *path;
    char *cursor;          /* or NULL: there is a token */
    char *token;           /* or NULL */
    char *token_cursor;    /* what the token was made for, or was to be; NULL: another node's */
    uint64_t token_ms;     /* when it was asked for */
    struct client *asking; /* for tokens, beside the stream; from the first time on */
    bool is_told;          /* `moved` knows where we are */
    struct sse sse;
    struct backoff reconnect;
};

bool changes_is_cursor(const char *text)
{
    return strlen(text) <= CHANGES_CURSOR_BYTES_MAX && !strpbrk(text, "\r\n");
}

bool changes_is_token(const char *text)
{
    return !strchr(text, ':') && strcmp(text, "0") != 0;
}

static char *copy_of(const char *text)
{
    return text ? mem_copy_string(text) : NULL;
}

struct changes *changes_new(const struct changes_options *options)
{
    struct changes *changes = mem_alloc(sizeof *changes);
    *changes = (struct changes){
        .options = *options,
        .path = copy_of(options->path),
        .cursor = copy_of(options->cursor),
        .token = copy_of(options->token),
        .is_told = options->cursor || options->token,
        .reconnect = {.first_ms = RECONNECT_FIRST_MS, .limit_ms = RECONNECT_LIMIT_MS},
    };
    return changes;
}

void changes_free(struct changes *changes)
{
    if (!changes) {
        return;
    }
    free(changes->path);
    free(changes->cursor);
    free(changes->token);
    free(changes->token_cursor);
    client_free(changes->asking);
    sse_done(&changes->sse);
    free(changes);
}

static bool is_stopped(const struct changes *changes)
{
    return changes->options.is_stopped && *changes->options.is_stopped;
}

/* ---- the position -----------------------------------------------------------------------------
 */

/* All up to `cursor` was dealt with. */
static void move_cursor(struct changes *changes, const char *cursor)
{
    if (*cursor && (!changes->cursor || strcmp(cursor, changes->cursor) != 0)) {
        free(changes->cursor);
        changes->cursor = mem_copy_string(cursor);
        changes->is_told = false;
    }
}

static int tell_position(struct changes *changes)
{
    if (changes->is_told || !changes->options.moved) {
        return 0;
    }
    const int err =
        changes->options.moved(changes->options.context, changes->cursor, changes->token);
    changes->is_told = !err;
    return err;
}

/* A token of the cursor, or of where the node is now, which becomes the cursor. */
static bool ask_token(struct changes *changes, struct client *client,
                      struct client_response *response)
{
    CLEANUP_BUF struct buf target = BUF_INIT;
    buf_add_string(&target, "/watch/token");
    if (changes->cursor) {
        buf_add_string(&target, "?at=");
        percent_add(&target, bytes_of_string(changes->cursor));
    }
    const struct client_request request = {
        .target = buf_string(&target),
        .silence_ms_max = TOKEN_SILENCE_MS_MAX,
        .is_stopped = changes->options.is_stopped,
    };
    changes->token_ms = clock_monotonic_ms(clock_real());
    free(changes->token_cursor);
    changes->token_cursor = copy_of(changes->cursor);
    if (!client_perform(client, &request, response)) {
        return false;
    }
    json_t *answer = json_loadb(buf_string(&response->body), response->body.size, 0, NULL);
    const char *cursor = entry_text(answer, "cursor");
    const char *token = entry_text(answer, "token");
    const bool good = *cursor && changes_is_cursor(cursor) && *token && changes_is_token(token);
    if (good) {
        free(changes->token);
        changes->token = mem_copy_string(token);
        changes->is_told = false;
        move_cursor(changes, cursor);
        free(changes->token_cursor);
        changes->token_cursor = mem_copy_string(cursor);
    } else {
        buf_add_string(&response->failure, "the node tells no cursor");
    }
    json_decref(answer);
    return good;
}

/* Where the node is now, of a network whose logs are too many for a token: the cursor alone. */
static bool ask_cursor(struct changes *changes, struct client_response *response)
{
    const struct client_request request = {
        .target = "/status",
        .silence_ms_max = TOKEN_SILENCE_MS_MAX,
        .is_stopped = changes->options.is_stopped,
    };
    if (!client_perform(changes->options.client, &request, response)) {
        return false;
    }
    json_t *answer = json_loadb(buf_string(&response->body), response->body.size, 0, NULL);
    const char *cursor = entry_text(answer, "cursor");
    const bool good = *cursor && changes_is_cursor(cursor);
    if (good) {
        move_cursor(changes, cursor);
    } else {
        buf_add_string(&response->failure, "the node tells no cursor");
    }
    json_decref(answer);
    return good;
}

bool changes_begin(struct changes *changes, struct client_response *response)
{
    return changes->cursor || changes->token ||
           ask_token(changes, changes->options.client, response) ||
           (client_is_code(response, "no_token") && ask_cursor(changes, response));
}

/* Asks for a token if the one that there is, is old. Without a new one that goes on to hold. */
static void renew_token(struct changes *changes)
{
    const bool is_new = changes->token_cursor && changes->cursor &&
                        strcmp(changes->token_cursor, changes->cursor) == 0;
    const uint64_t age_ms = clock_monotonic_ms(clock_real()) - changes->token_ms;
    if (!changes->cursor || is_new || (changes->token_cursor && age_ms < TOKEN_EVERY_MS)) {
        return;
    }
    if (!changes->asking) {
        changes->asking = client_clone(changes->options.client);
    }
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    (void)!ask_token(changes, changes->asking, &response);
}

/* ---- the stream -------------------------------------------------------------------------------
 */

static int on_event(void *context, const struct sse_event *event)
{
    struct changes *changes = context;
    if (!event->data) {
        if (!changes_is_cursor(event->id)) {
            return -EPROTO;
        }
        move_cursor(changes, event->id);
        return 0;
    }
    json_t *change = json_loadb(event->data, event->data_bytes, 0, NULL);
    const char *cursor = *event->id ? event->id : entry_text(change, "cursor");
    if (!json_is_object(change) || !changes_is_cursor(cursor)) {
        json_decref(change);
        return -EPROTO;
    }
    if (!json_object_get(change, "event")) {
        json_object_set_new(change, "event", json_string(event->type));
    }
    const struct change_told told = {
        .cursor = cursor,
        .text = event->data,
        .json = change,
        .is_gap = strcmp(event->type, "gap") == 0,
    };
    const int err = changes->options.change(changes->options.context, &told);
    if (!err) {
        move_cursor(changes, cursor);
    }
    json_decref(change);
    return err;
}

static int on_data(void *context, struct bytes data)
{
    struct changes *changes = context;
    changes->reconnect.failures = 0;
    int err = sse_add(&changes->sse, data, on_event, changes);
    if (!err) {
        err = tell_position(changes); /* what was told is told, also if the node hangs now */
    }
    if (!err) {
        renew_token(changes);
        err = tell_position(changes);
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
static void listen_once(struct changes *changes, struct client_response *response)
{
    CLEANUP_BUF struct buf target = BUF_INIT;
    const bool is_long = changes->token && strlen(changes->token) > QUERY_TOKEN_CHARS_MAX;
    buf_add_string(&target, "/watch");
    if (changes->cursor) {
        add_query(&target, "since", changes->cursor);
    }
    if (changes->token && !is_long) {
        add_query(&target, "token", changes->token);
    }
    if (changes->path) {
        add_query(&target, "path", changes->path);
    }
    CLEANUP_FREE char *last =
        changes->cursor ? mem_format("Last-Event-ID: %s", changes->cursor) : NULL;
    const struct client_request request = {
        .method = is_long ? "POST" : NULL,
        .target = buf_string(&target),
        .headers = {"Accept: text/event-stream", last},
        .body = is_long ? bytes_of_string(changes->token) : BYTES(NULL, 0),
        .on_data = on_data,
        .context = changes,
        .silence_ms_max = SILENCE_MS_MAX,
        .is_stopped = changes->options.is_stopped,
    };
    sse_restart(&changes->sse);
    if (client_perform(changes->options.client, &request, response)) {
        buf_add_string(&response->failure, "the node ended the stream");
    }
}

static void wait_before_attempt(struct changes *changes)
{
    uint64_t number = 0;
    random_system(&number, sizeof number);
    uint64_t left_ms = backoff_next_ms(&changes->reconnect, number);
    while (left_ms > 0 && !is_stopped(changes)) {
        const uint64_t pause_ms = left_ms < PAUSE_MS ? left_ms : PAUSE_MS;
        const struct timespec pause = {0, (long)pause_ms * 1000000};
        nanosleep(&pause, NULL);
        left_ms -= pause_ms;
    }
}

int changes_run(struct changes *changes)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    int err = tell_position(changes);
    for (bool has_begun = changes->options.is_patient; !err; has_begun = true) {
        listen_once(changes, &response);
        if (is_stopped(changes)) {
            return -ECANCELED;
        }
        err = response.err;
        const bool is_over = !client_may_pass(&response) || (!has_begun && response.no_node);
        /* The first time it breaks; after that it is known. That nobody listens, needs no words. */
        if (err == -EPIPE) {
            return err;
        }
        if (is_over || changes->reconnect.failures == 0) {
            changes->options.broke(changes->options.context, buf_string(&response.failure),
                                   is_over);
        }
        if (is_over) {
            return err ? err : -EPROTO;
        }
        wait_before_attempt(changes);
    }
    return err;
}
