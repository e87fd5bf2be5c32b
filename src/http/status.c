/* SPDX-License-Identifier: Apache-2.0 */

/* What the node tells of itself: /status, /healthz, /readyz. */

#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/hex.h"
#include "base/mem.h"
#include "http/endpoints_priv.h"
#include "http/known.h"
#include "http/server_priv.h"
#include "node/fetch.h"
#include "node/followers.h"
#include "node/network.h"
#include "node/replica.h"

/* Members that have not told what tree they have by then, have not. */
#define STATUS_ASK_MS 2000u
/* At a time: each sends a message to every member. Beyond, 503. */
#define STATUS_ASKS_MAX 16u
/* The largest integer that all programs read from JSON (RFC 8259, 6): nobody has more. */
#define JSON_COUNT_MAX ((INT64_C(1) << 53) - 1)

int status_gather(struct request *request, struct tree_summary *ret_tree,
                  struct store_status *ret_store)
{
    struct kv_txn *txn = NULL;
    int err = node_snapshot(request->node, &txn);
    if (!err) {
        err = tree_summary(node_tree(request->node), txn, ret_tree);
    }
    kv_abort(txn);
    return err ? err : store_status(node_store(request->node), ret_store);
}

static json_t *json_of_store(const struct store_status *status)
{
    struct store_figure figures[STORE_FIGURES];
    store_figures(status, figures);
    json_t *object = json_object();
    for (size_t i = 0; i < STORE_FIGURES; i++) {
        json_object_set_new(object, figures[i].name, json_integer((json_int_t)figures[i].value));
    }
    json_object_set_new(object, "failed", json_boolean(status->failed));
    return object;
}

/* What members said of their trees, and this node of its own at that time. */
struct trees {
    struct request *request;
    struct tree_sync_state own;
    struct replica_member *members;
    size_t count;
};

static bool is_same_tree(const struct tree_sync_state *a, const struct tree_sync_state *b)
{
    return a->vector_sum == b->vector_sum &&
           memcmp(a->fingerprint, b->fingerprint, sizeof a->fingerprint) == 0;
}

/* What a member claims, as a number that stands for itself. */
static int64_t clamped(uint64_t count)
{
    return count < JSON_COUNT_MAX ? (int64_t)count : JSON_COUNT_MAX;
}

static const char *name_of(const struct known *known, const struct node_id *id)
{
    const struct member_info *found = known_find(known, id);
    return found ? found->name : ""; /* it was forgotten meanwhile */
}

static json_t *json_of_tree(const struct trees *trees, const struct replica_member *member,
                            const char *name)
{
    char node[NODE_ID_HEX_CHARS + 1];
    node_id_format(&member->id, node);
    json_t *object = json_object();
    json_object_set_new(object, "node", json_string(node));
    json_object_set_new(object, "name", json_string(name));
    json_object_set_new(object, "answered", json_boolean(member->has_answered));
    if (member->has_answered) {
        const struct tree_sync_state *state = &member->state;
        char fingerprint[2 * TREE_FINGERPRINT_BYTES + 1];
        hex_format(state->fingerprint, sizeof state->fingerprint, fingerprint);
        const int64_t behind = clamped(trees->own.ops_count) - clamped(state->ops_count);
        json_object_set_new(object, "same", json_boolean(is_same_tree(&trees->own, state)));
        json_object_set_new(object, "fingerprint", json_string(fingerprint));
        json_object_set_new(object, "entries", json_integer(clamped(state->entries_count)));
        json_object_set_new(object, "behind", json_integer((json_int_t)behind));
    }
    return object;
}

/* "trees": what each member alive has; "trees_same": it is what this node has. */
static void add_trees(struct request *request, const struct trees *trees, json_t *body)
{
    CLEANUP_KNOWN struct known known;
    known_init(&known, request->server->options.network);
    json_t *list = json_array();
    bool are_same = true;
    for (size_t i = 0; i < trees->count; i++) {
        const struct replica_member *member = &trees->members[i];
        are_same = are_same && member->has_answered && is_same_tree(&trees->own, &member->state);
        json_array_append_new(list, json_of_tree(trees, member, name_of(&known, &member->id)));
    }
    json_object_set_new(body, "trees_same", json_boolean(are_same));
    json_object_set_new(body, "trees", list);
}

/* Blocks that others gave and that were wrong, and who gives none any more for that. */
static void add_bad(struct network *network, json_t *body)
{
    struct fetch_counters counters;
    fetch_read_counters(network_fetch(network), &counters);
    struct node_id nodes[FETCH_SHUNNED_MAX];
    const size_t count = fetch_shunned(network_fetch(network), nodes);
    json_object_set_new(body, "bad_blocks", json_integer((json_int_t)counters.blocks_bad));
    json_t *shunned = json_array();
    if (count > 0) {
        CLEANUP_KNOWN struct known known;
        known_init(&known, network);
        for (size_t i = 0; i < count; i++) {
            json_array_append_new(shunned, known_json(&known, &nodes[i]));
        }
    }
    json_object_set_new(body, "shunned", shunned);
}

/* Processes that follow: what the node knows of each, and what it wrote about itself. */
static void add_follows(struct followers *followers, json_t *body)
{
    json_t *list = json_array();
    for (size_t i = 0; i < followers_count(followers); i++) {
        CLEANUP_BUF struct buf text = BUF_INIT;
        struct follower_info info;
        followers_read(followers, i, &info, &text);
        json_t *state = json_loadb(buf_string(&text), text.size, 0, NULL);
        /* One that just started may show what another one wrote. */
        const bool is_its =
            info.pid && json_integer_value(json_object_get(state, "pid")) == info.pid;
        json_t *object = json_object();
        json_object_set_new(object, "pattern", json_string(info.pattern));
        json_object_set_new(object, "dir", json_string(info.dir));
        const char *name = !info.pid                                         ? "restarting"
                           : !is_its                                         ? "starting"
                           : json_is_true(json_object_get(state, "current")) ? "current"
                                                                             : "arriving";
        json_object_set_new(object, "state", json_string(name));
        json_object_set_new(object, "restarts", json_integer(info.restarts));
        if (is_its) {
            json_object_del(state, "pid");
            json_object_del(state, "current");
            json_object_update(object, state);
        }
        json_decref(state);
        json_array_append_new(list, object);
    }
    json_object_set_new(body, "follows", list);
}

/* `trees` may be NULL. */
static void answer_status(struct request *request, const struct trees *trees)
{
    struct tree_summary tree;
    struct store_status store;
    const int err = status_gather(request, &tree, &store);
    if (err) {
        answer_failure(request, err);
        return;
    }
    const struct server *server = request->server;
    struct network_summary members;
    network_summarise(server->options.network, &members);
    char node[NODE_ID_HEX_CHARS + 1];
    node_id_format(node_identity(request->node), node);
    char fingerprint[2 * TREE_FINGERPRINT_BYTES + 1];
    hex_format(tree.fingerprint, sizeof tree.fingerprint, fingerprint);
    char cursor[64];
    snprintf(cursor, sizeof cursor, "%" PRIu64 ":%" PRIu64, tree.epoch, tree.feed_last);
    /* Whoever asks does not know where this process was started. */
    CLEANUP_FREE char *socket_path = realpath(server->socket_path, NULL);
    const uint64_t up_ms = clock_monotonic_ms(node_clock(request->node)) - server->started_ms;
    json_t *body = json_object();
    json_object_set_new(body, "node", json_string(node));
    json_object_set_new(body, "name", json_string(node_name(request->node)));
    json_object_set_new(body, "zone", json_string(node_zone(request->node)));
    json_object_set_new(body, "version", json_string(server->version));
    json_object_set_new(body, "address", json_string(server->address));
    json_object_set_new(body, "socket",
                        json_string(socket_path ? socket_path : server->socket_path));
    json_object_set_new(body, "connections_max", json_integer(server->options.connections_max));
    json_object_set_new(body, "up_ms", json_integer((json_int_t)up_ms));
    json_object_set_new(body, "fingerprint", json_string(fingerprint));
    json_object_set_new(body, "entries", json_integer((json_int_t)tree.entries_count));
    json_object_set_new(body, "members", json_integer((json_int_t)members.alive_count));
    json_object_set_new(body, "agree", json_boolean(members.agrees && members.trees_agree));
    json_object_set_new(body, "isolated", json_boolean(members.is_isolated));
    json_object_set_new(body, "cursor", json_string(cursor));
    add_bad(server->options.network, body);
    add_follows(server->options.followers, body);
    json_object_set_new(body, "store", json_of_store(&store));
    if (trees) {
        add_trees(request, trees, body);
    }
    answer_json(request, MHD_HTTP_OK, body);
}

static void begin_status(struct request *request)
{
    if (!request_switch(request, "members")) {
        answer_status(request, NULL);
    }
}

/* On the replica's thread. */
static void asked(void *context, const struct tree_sync_state *own,
                  const struct replica_member *members, size_t count)
{
    struct trees *trees = context;
    trees->own = *own;
    trees->count = count;
    trees->members = mem_alloc_array(count + 1, sizeof *trees->members);
    for (size_t i = 0; i < count; i++) {
        trees->members[i] = members[i];
    }
    request_resume(trees->request);
}

static void end_status(struct request *request)
{
    struct server *server = request->server;
    if (server->asks++ >= STATUS_ASKS_MAX) {
        server->asks--;
        answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "busy",
                     "%u requests ask all members already", STATUS_ASKS_MAX);
        return;
    }
    struct trees *trees = mem_alloc(sizeof *trees);
    trees->request = request;
    request->state = trees;
    request_suspend(request);
    replica_ask_all(network_replica(server->options.network), STATUS_ASK_MS, asked, trees);
}

static void resumed_status(struct request *request)
{
    answer_status(request, request->state);
}

static void done_status(struct request *request)
{
    struct trees *trees = request->state;
    request->server->asks--;
    free(trees->members);
    free(trees);
}

static const char *const status_parameters[] = {"members", NULL};

const struct endpoint endpoint_status = {
    .method = "GET",
    .prefix = "/status",
    .parameters = status_parameters,
    .begin = begin_status,
    .end = end_status,
    .resumed = resumed_status,
    .done = done_status,
};

static void begin_health(struct request *request)
{
    struct buf text = BUF_INIT;
    buf_add_string(&text, "ok\n");
    answer_buf(request, MHD_HTTP_OK, "text/plain", &text);
}

const struct endpoint endpoint_health = {
    .method = "GET",
    .prefix = "/healthz",
    .begin = begin_health,
};

static void begin_ready(struct request *request)
{
    struct store_status store;
    int err = store_status(node_store(request->node), &store);
    if (!err && store.failed) {
        err = -ENOTRECOVERABLE;
    }
    if (err) {
        answer_failure(request, err);
        return;
    }
    begin_health(request);
}

const struct endpoint endpoint_ready = {
    .method = "GET",
    .prefix = "/readyz",
    .begin = begin_ready,
};
