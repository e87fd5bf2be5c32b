/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Watchers. Each has a position in the feed and reads from there when libmicrohttpd asks for bytes;
 * when there is nothing, its connection is suspended. One thread sleeps until a commit, looks once
 * at what is new, moves the watchers forward whose pattern does not match, and wakes the others. So
 * a change costs an idle watcher one comparison of its pattern, and a slow watcher nobody but
 * itself. The same thread wakes those that are due for a heartbeat, some each second.
 *
 * A client comes back with the last id that it was given. What does not match its pattern gives it
 * none, so a watcher of a quiet corner would come back far behind, and scan all that it had passed
 * over, or find it forgotten. Hence an id alone, which by the standard is no event but is the last
 * id from then on (HTML, 9.2.6, "dispatch the event", steps 1 and 2), tells the position: at the
 * beginning, with each heartbeat, and whenever a whole look matched nothing.
 *
 * Events of membership have a position of their own, in what the network keeps of them.
 */

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "http/endpoints_priv.h"
#include "http/members.h"
#include "http/server_priv.h"
#include "http/watch_cursor.h"
#include "tree/feed.h"
#include "tree/glob.h"

#define HEARTBEAT_MS 15000u
#define ROUND_MS 1000u
/* What one look at the feed takes from it at most. */
#define LOOK_OPS 1024u
/* Text of events kept for a watcher before libmicrohttpd is given it. An op of many changes is told
 * in pieces of this and read again for each. */
#define EVENTS_BYTES ((size_t)64 * 1024)
/* An idle watcher keeps no more memory than this for the next text. */
#define IDLE_BYTES ((size_t)4 * 1024)
#define PIECE_BYTES ((size_t)4 * 1024)

/* The position of a watcher that wants no changes: the feed never comes to it. */
#define NO_FEED UINT64_MAX

struct watcher {
    struct server *server;
    struct MHD_Connection *connection;
    struct buf pattern;
    uint64_t epoch;
    uint64_t position;     /* everything up to it was told, or does not match */
    struct tree_seen seen; /* elsewhere, by the token that it came with */
    size_t told;           /* of the op behind it: events looked at already */
    bool has_members;      /* wants events of membership */
    uint64_t members_position;
    struct buf text; /* not taken yet */
    size_t text_sent;
    uint64_t told_ms;
    bool is_suspended;
    bool is_due; /* for a heartbeat */
    struct watcher *prev;
    struct watcher *next;
};

struct watchers {
    struct server *server;
    pthread_t thread;
    pthread_mutex_t lock; /* over all below, and over the fields of watchers */
    struct watcher *all;
    _Atomic size_t count;
    uint64_t position; /* looked at by the thread */
    bool stopping;

    /* The writer thread sets this, and never waits for the lock above. */
    pthread_mutex_t news_lock;
    pthread_cond_t news_came;
    bool has_news;
};

static uint64_t now_ms(const struct server *server)
{
    return clock_monotonic_ms(node_clock(server->node));
}

static const char *event_name(const struct tree_op *op, const struct tree_change *change)
{
    if (op->event == TREE_EVENT_RENAME) {
        return "rename";
    }
    if (op->event == TREE_EVENT_ATOMIC) {
        return "atomic";
    }
    switch (change->kind) {
    case TREE_DELETE:
        return "delete";
    case TREE_DIRECTORY:
        return "mkdir";
    case TREE_FILE:
    case TREE_SYMLINK:
    default:
        return "put";
    }
}

/* One event for the op as a whole, or one for each change. */
static size_t events_of(const struct tree_op *op)
{
    return op->event == TREE_EVENT_CHANGES ? op->changes_count : 1;
}

static struct bytes path_of(const struct tree_op *op, size_t index)
{
    return op->event == TREE_EVENT_CHANGES ? op->changes[index].path : op->event_path;
}

static bool event_matches(struct bytes pattern, const struct tree_op *op, size_t index)
{
    return pattern.size == 0 || glob_match(pattern, path_of(op, index)) ||
           (op->event == TREE_EVENT_RENAME && glob_match(pattern, op->event_source));
}

/* A cursor names an op: events before the last of an op carry the op before as theirs, so that a
 * break in between repeats and does not skip. */
static void add_event(struct watcher *watcher, const struct tree_feed_item *item, size_t index,
                      uint64_t position)
{
    const struct tree_op *op = &item->parsed.op;
    const struct tree_change *change = &op->changes[index];
    const struct dot made = {op->origin, op->seq};
    const struct dot *version = &made;
    if (item->kind == TREE_FEED_MERGED && change->context_count > 0) {
        version = &change->context[0];
    }
    char cursor[64];
    snprintf(cursor, sizeof cursor, "%" PRIu64 ":%" PRIu64, watcher->epoch, position);
    json_t *data = json_object();
    const char *event = event_name(op, change);
    json_object_set_new(data, "event", json_string(event));
    json_object_set_new(data, "path", json_of_bytes(path_of(op, index)));
    if (op->event == TREE_EVENT_RENAME) {
        json_object_set_new(data, "from", json_of_bytes(op->event_source));
    }
    if (op->event == TREE_EVENT_CHANGES && change->kind == TREE_FILE) {
        json_object_set_new(data, "type", json_string("file"));
        json_object_set_new(data, "id", json_of_id(&change->file_id));
        json_object_set_new(data, "length", json_integer((json_int_t)change->size_bytes));
    } else if (op->event == TREE_EVENT_CHANGES && change->kind == TREE_SYMLINK) {
        json_object_set_new(data, "type", json_string("symlink"));
        json_object_set_new(data, "target", json_of_bytes(change->target));
    }
    json_object_set_new(data, "version", json_of_dot(version));
    json_object_set_new(data, "cursor", json_string(cursor));
    char *text = json_dumps(data, JSON_COMPACT);
    buf_add_format(&watcher->text, "id: %s\nevent: %s\ndata: %s\n\n", cursor, event, text);
    free(text);
    json_decref(data);
}

/* All up to the position was told, or does not match: an id without an event. */
static void add_position(struct watcher *watcher, const char *comment)
{
    if (watcher->position == NO_FEED) {
        buf_add_format(&watcher->text, ": %s\n\n", comment);
        return;
    }
    buf_add_format(&watcher->text, ": %s\nid: %" PRIu64 ":%" PRIu64 "\n\n", comment, watcher->epoch,
                   watcher->position);
}

static void add_gap(struct watcher *watcher, uint64_t position)
{
    buf_add_format(&watcher->text,
                   "id: %" PRIu64 ":%" PRIu64 "\nevent: gap\ndata: {\"event\":\"gap\","
                   "\"cursor\":\"%" PRIu64 ":%" PRIu64 "\"}\n\n",
                   watcher->epoch, position, watcher->epoch, position);
}

static bool is_seen(const struct watcher *watcher, const struct tree_feed_item *item)
{
    const struct dot dot = {item->parsed.op.origin, item->parsed.op.seq};
    return item->kind == TREE_FEED_OP && tree_seen_has(&watcher->seen, &dot);
}

static void add_item(struct watcher *watcher, const struct tree_feed_item *item)
{
    const struct tree_op *op = &item->parsed.op;
    const uint64_t position = item->position;
    if (item->kind == TREE_FEED_GAP) {
        add_gap(watcher, position);
        watcher->told = 0;
        watcher->position = position;
        return;
    }
    const size_t count = is_seen(watcher, item) ? 0 : events_of(op);
    size_t i = watcher->told;
    for (; i < count && watcher->text.size < EVENTS_BYTES; i++) {
        if (event_matches(buf_bytes(&watcher->pattern), op, i)) {
            add_event(watcher, item, i, i + 1 == count ? position : position - 1);
        }
    }
    watcher->told = i < count ? i : 0;
    watcher->position = i < count ? watcher->position : position;
}

/* The position before all that is kept. */
static int position_of_oldest(const struct tree *tree, struct kv_txn *txn, uint64_t *ret_position)
{
    struct tree_summary summary;
    const int err = tree_summary(tree, txn, &summary);
    if (!err) {
        *ret_position = summary.feed_first - 1;
    }
    return err;
}

/* Fills the text from the feed. With the lock held. */
static int read_feed(struct watcher *watcher)
{
    if (watcher->position == NO_FEED) {
        return 0;
    }
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    const struct tree *tree = node_tree(watcher->server->node);
    int err = node_snapshot(watcher->server->node, &txn);
    for (unsigned i = 0; !err && i < LOOK_OPS && watcher->text.size < EVENTS_BYTES; i++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        struct tree_feed_item item;
        err = tree_feed_next(tree, txn, watcher->position, &bytes, &item);
        if (err == -ESTALE) {
            watcher->told = 0;
            err = position_of_oldest(tree, txn, &watcher->position);
            add_gap(watcher, watcher->position);
            continue;
        }
        if (!err) {
            add_item(watcher, &item);
            tree_op_parsed_done(&item.parsed);
        }
    }
    return err == -ENOENT ? 0 : err;
}

static ssize_t read_events(void *context, uint64_t stream_position, char *buffer, size_t size)
{
    (void)stream_position;
    struct watcher *watcher = context;
    struct watchers *watchers = watcher->server->watchers;
    ssize_t answer_bytes = 0;
    pthread_mutex_lock(&watchers->lock);
    watcher->is_suspended = false;
    if (watcher->text_sent == watcher->text.size) {
        if (watcher->text.capacity > IDLE_BYTES) {
            buf_done(&watcher->text);
        }
        buf_clear(&watcher->text);
        watcher->text_sent = 0;
        const uint64_t position = watcher->position;
        const int err = watchers->stopping ? -ECANCELED : read_feed(watcher);
        const bool has_passed = watcher->position - position >= LOOK_OPS;
        if (!err && watcher->has_members) {
            members_add_events(watcher->server->options.network, &watcher->members_position,
                               EVENTS_BYTES, &watcher->text);
        }
        if (!err && watcher->text.size == 0 && (watcher->is_due || has_passed)) {
            add_position(watcher, "alive");
        }
        watcher->is_due = false;
        answer_bytes = err ? MHD_CONTENT_READER_END_OF_STREAM : 0;
    }
    const size_t left = watcher->text.size - watcher->text_sent;
    if (answer_bytes == 0 && left > 0) {
        answer_bytes = (ssize_t)(left < size ? left : size);
        memcpy(buffer, watcher->text.data + watcher->text_sent, (size_t)answer_bytes);
        watcher->text_sent += (size_t)answer_bytes;
        watcher->told_ms = now_ms(watcher->server);
    } else if (answer_bytes == 0 && watcher->position >= watchers->position) {
        watcher->is_suspended = true;
        MHD_suspend_connection(watcher->connection);
    }
    pthread_mutex_unlock(&watchers->lock);
    return answer_bytes;
}

static void watcher_done(struct watcher *watcher)
{
    tree_seen_done(&watcher->seen);
    buf_done(&watcher->pattern);
    buf_done(&watcher->text);
    free(watcher);
}

static void watcher_free(void *context)
{
    struct watcher *watcher = context;
    struct watchers *watchers = watcher->server->watchers;
    pthread_mutex_lock(&watchers->lock);
    DL_DELETE(watchers->all, watcher);
    watchers->count--;
    pthread_mutex_unlock(&watchers->lock);
    watcher_done(watcher);
}

/* Wakes those that the item concerns (a gap: all) and moves the others forward. With the lock held.
 */
static void pass_item(struct watchers *watchers, const struct tree_feed_item *item)
{
    const struct tree_op *op = &item->parsed.op;
    const uint64_t position = item->position;
    struct watcher *watcher;
    DL_FOREACH(watchers->all, watcher)
    {
        if (!watcher->is_suspended || watcher->position + 1 != position) {
            continue;
        }
        bool matches = item->kind == TREE_FEED_GAP;
        const size_t count = is_seen(watcher, item) ? 0 : events_of(op);
        for (size_t i = 0; !matches && i < count; i++) {
            matches = event_matches(buf_bytes(&watcher->pattern), op, i);
        }
        if (matches) {
            watcher->is_suspended = false;
            MHD_resume_connection(watcher->connection);
        } else {
            watcher->position = position;
        }
    }
}

/* What is new in the feed; *ret_more: not all of it. With the lock held. */
static int pass_news(struct watchers *watchers, bool *ret_more)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    const struct tree *tree = node_tree(watchers->server->node);
    int err = node_snapshot(watchers->server->node, &txn);
    for (unsigned i = 0; !err && i < LOOK_OPS; i++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        struct tree_feed_item item;
        err = tree_feed_next(tree, txn, watchers->position, &bytes, &item);
        if (err == -ESTALE) { /* forgotten before it was looked at; a heartbeat wakes who waited */
            err = position_of_oldest(tree, txn, &watchers->position);
        } else if (!err) {
            watchers->position = item.position;
            pass_item(watchers, &item);
            tree_op_parsed_done(&item.parsed);
        }
    }
    *ret_more = !err;
    return err == -ENOENT ? 0 : err;
}

/* Wakes those that have not read all events of membership. With the lock held. */
static void pass_member_news(struct watchers *watchers)
{
    const uint64_t newest = member_events_newest(network_events(watchers->server->options.network));
    struct watcher *watcher;
    DL_FOREACH(watchers->all, watcher)
    {
        if (watcher->is_suspended && watcher->has_members && watcher->members_position < newest) {
            watcher->is_suspended = false;
            MHD_resume_connection(watcher->connection);
        }
    }
}

static void wake_due(struct watchers *watchers)
{
    const uint64_t now = now_ms(watchers->server);
    struct watcher *watcher;
    DL_FOREACH(watchers->all, watcher)
    {
        if (watcher->is_suspended && now - watcher->told_ms >= HEARTBEAT_MS) {
            watcher->is_suspended = false;
            watcher->is_due = true;
            MHD_resume_connection(watcher->connection);
        }
    }
}

/* Waits until there are news, a round at most. */
static void wait_for_news(struct watchers *watchers, bool more)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ROUND_MS / 1000;
    pthread_mutex_lock(&watchers->news_lock);
    while (!more && !watchers->has_news && !watchers->server->stopping &&
           pthread_cond_timedwait(&watchers->news_came, &watchers->news_lock, &until) == 0) {
    }
    watchers->has_news = false;
    pthread_mutex_unlock(&watchers->news_lock);
}

static void *run(void *argument)
{
    struct watchers *watchers = argument;
    uint64_t round_ms = now_ms(watchers->server);
    bool more = false;
    while (!watchers->server->stopping) {
        wait_for_news(watchers, more);
        pthread_mutex_lock(&watchers->lock);
        /* Also without news: after a failure it is tried again. */
        const int err = pass_news(watchers, &more);
        pass_member_news(watchers);
        if (err) {
            log_warn("watch_failed", KV("error", err_name(err)));
        }
        if (now_ms(watchers->server) - round_ms >= ROUND_MS) {
            round_ms = now_ms(watchers->server);
            wake_due(watchers);
        }
        pthread_mutex_unlock(&watchers->lock);
    }
    return NULL;
}

/* On the writer thread, or the core thread. */
static void on_change(void *context)
{
    struct watchers *watchers = context;
    pthread_mutex_lock(&watchers->news_lock);
    watchers->has_news = true;
    pthread_cond_signal(&watchers->news_came);
    pthread_mutex_unlock(&watchers->news_lock);
}

int watchers_start(struct server *server, struct watchers **ret_watchers)
{
    struct kv_txn *txn = NULL;
    struct tree_summary summary;
    int err = node_snapshot(server->node, &txn);
    if (!err) {
        err = tree_summary(node_tree(server->node), txn, &summary);
    }
    kv_abort(txn);
    if (err) {
        return err;
    }
    struct watchers *watchers = mem_alloc(sizeof *watchers);
    watchers->server = server;
    watchers->position = summary.feed_last;
    pthread_mutex_init(&watchers->lock, NULL);
    pthread_mutex_init(&watchers->news_lock, NULL);
    clock_init_condition(&watchers->news_came);
    if (pthread_create(&watchers->thread, NULL, run, watchers) != 0) {
        free(watchers);
        return -EAGAIN;
    }
    node_listen(server->node, on_change, watchers);
    network_listen(server->options.network, on_change, watchers);
    *ret_watchers = watchers;
    return 0;
}

void watchers_stop(struct watchers *watchers)
{
    node_listen(watchers->server->node, NULL, NULL);
    network_listen(watchers->server->options.network, NULL, NULL);
    on_change(watchers); /* the thread sees then that the server ends */
    pthread_mutex_lock(&watchers->lock);
    watchers->stopping = true;
    struct watcher *watcher;
    DL_FOREACH(watchers->all, watcher)
    {
        if (watcher->is_suspended) {
            watcher->is_suspended = false;
            MHD_resume_connection(watcher->connection);
        }
    }
    pthread_mutex_unlock(&watchers->lock);
    pthread_join(watchers->thread, NULL);
}

void watchers_free(struct watchers *watchers)
{
    if (watchers) {
        pthread_cond_destroy(&watchers->news_came);
        pthread_mutex_destroy(&watchers->news_lock);
        pthread_mutex_destroy(&watchers->lock);
        free(watchers);
    }
}

size_t watchers_count(const struct watchers *watchers)
{
    return watchers->count;
}

/* Where the stream begins, and its first words. */
static int begin_stream(struct request *request, struct watcher *watcher, const char *token)
{
    struct watch_begin begin = {0};
    const char *since = request_header(request, "Last-Event-ID");
    since = since ? since : request_parameter(request, "since");
    token = token ? token : request_parameter(request, "token");
    const int err = watch_begin(request->node, since, token, &begin);
    if (err) {
        return err;
    }
    watcher->epoch = begin.epoch;
    watcher->position = begin.position;
    watcher->seen = begin.seen;
    if (begin.is_gap) {
        add_gap(watcher, begin.position);
    } else {
        add_position(watcher, "artel");
    }
    return 0;
}

/* members=1: changes and events of membership; members=only: these alone. False: it makes no sense,
 * which was answered. */
static bool read_members(struct request *request, bool *ret_with_feed, bool *ret_with_members)
{
    const char *members = request_parameter(request, "members");
    const bool is_only = members && strcmp(members, "only") == 0;
    *ret_with_feed = !is_only;
    *ret_with_members = is_only || (members && strcmp(members, "1") == 0);
    const bool is_known = !members || *ret_with_members || strcmp(members, "0") == 0;
    if (!is_known ||
        (is_only && (request_parameter(request, "path") || request_parameter(request, "since") ||
                     request_parameter(request, "token")))) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query",
                     "members is 0, 1 or only; with only there is no path, since or token");
        return false;
    }
    return true;
}

static void answer_no_stream(struct request *request, int err)
{
    if (err == -EINVAL || err == -EPROTONOSUPPORT) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_cursor",
                     "a cursor is EPOCH:POSITION, a token, or 0");
    } else {
        answer_failure(request, err);
    }
}

/* `token`: from the body, or NULL. */
static void begin_with(struct request *request, const char *token)
{
    bool with_feed = true;
    bool with_members = false;
    if (!read_members(request, &with_feed, &with_members)) {
        return;
    }
    struct watcher *watcher = mem_alloc(sizeof *watcher);
    watcher->server = request->server;
    watcher->connection = request->connection;
    watcher->told_ms = now_ms(request->server);
    const char *pattern = request_parameter(request, "path");
    if (pattern) {
        buf_add_string(&watcher->pattern, pattern);
    }
    const bool bad_pattern = glob_check(buf_bytes(&watcher->pattern)) != 0;
    watcher->has_members = with_members;
    watcher->members_position =
        member_events_newest(network_events(request->server->options.network));
    watcher->position = NO_FEED;
    const int err = bad_pattern || !with_feed ? 0 : begin_stream(request, watcher, token);
    if (bad_pattern || err) {
        watcher_done(watcher);
        if (bad_pattern) {
            answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query", "no such pattern can be");
        } else {
            answer_no_stream(request, err);
        }
        return;
    }
    struct watchers *watchers = request->server->watchers;
    pthread_mutex_lock(&watchers->lock);
    DL_APPEND(watchers->all, watcher);
    watchers->count++;
    pthread_mutex_unlock(&watchers->lock);
    struct MHD_Response *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, PIECE_BYTES, read_events, watcher, watcher_free);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/event-stream");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    answer(request, MHD_HTTP_OK, response);
}

static void begin(struct request *request)
{
    begin_with(request, NULL);
}

static const char *const parameters[] = {"path", "since", "token", "members", NULL};

const struct endpoint endpoint_watch = {
    .method = "GET",
    .prefix = "/watch",
    .parameters = parameters,
    .begin = begin,
};

/* A token of many logs is longer than headers may be: it is the body then. */
static void begin_post(struct request *request)
{
    request->state = mem_alloc(sizeof(struct buf));
    const uint64_t length = request_length(request);
    if (length != UINT64_MAX && length > TREE_TOKEN_CHARS_MAX) {
        answer_failure(request, -EFBIG);
    }
}

static size_t body_post(struct request *request, struct bytes piece)
{
    struct buf *token = request->state;
    if (token->size + piece.size > TREE_TOKEN_CHARS_MAX) {
        answer_failure(request, -EFBIG); /* chunked: it shows only now */
    } else {
        buf_add(token, piece);
    }
    return piece.size;
}

static void end_post(struct request *request)
{
    struct buf *token = request->state;
    if (memchr(buf_string(token), 0, token->size)) {
        answer_no_stream(request, -EINVAL);
        return;
    }
    begin_with(request, token->size > 0 ? buf_string(token) : NULL);
    buf_done(token); /* the stream may last for days */
}

static void done_post(struct request *request)
{
    buf_done(request->state);
    free(request->state);
}

static const char *const post_parameters[] = {"path", "since", "members", NULL};

const struct endpoint endpoint_watch_post = {
    .method = "POST",
    .prefix = "/watch",
    .parameters = post_parameters,
    .begin = begin_post,
    .body = body_post,
    .end = end_post,
    .done = done_post,
};
