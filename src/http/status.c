/* SPDX-License-Identifier: Apache-2.0 */

/* What the node tells of itself: /status, /healthz, /readyz. */

#include <inttypes.h>

#include "base/err.h"
#include "base/hex.h"
#include "base/mem.h"
#include "http/endpoints_priv.h"
#include "http/server_priv.h"
#include "node/network.h"

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

static void begin_status(struct request *request)
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
    const uint64_t up_ms = clock_monotonic_ms(node_clock(request->node)) - server->started_ms;
    json_t *body = json_object();
    json_object_set_new(body, "node", json_string(node));
    json_object_set_new(body, "name", json_string(node_name(request->node)));
    json_object_set_new(body, "zone", json_string(node_zone(request->node)));
    json_object_set_new(body, "version", json_string(server->version));
    json_object_set_new(body, "address", json_string(server->address));
    json_object_set_new(body, "socket", json_string(server->socket_path));
    json_object_set_new(body, "connections_max", json_integer(server->options.connections_max));
    json_object_set_new(body, "up_ms", json_integer((json_int_t)up_ms));
    json_object_set_new(body, "fingerprint", json_string(fingerprint));
    json_object_set_new(body, "entries", json_integer((json_int_t)tree.entries_count));
    json_object_set_new(body, "members", json_integer((json_int_t)members.alive_count));
    json_object_set_new(body, "agree", json_boolean(members.agrees && members.trees_agree));
    json_object_set_new(body, "isolated", json_boolean(members.is_isolated));
    json_object_set_new(body, "cursor", json_string(cursor));
    json_object_set_new(body, "store", json_of_store(&store));
    answer_json(request, MHD_HTTP_OK, body);
}

const struct endpoint endpoint_status = {
    .method = "GET",
    .prefix = "/status",
    .begin = begin_status,
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
