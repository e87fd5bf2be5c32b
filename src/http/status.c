/* SPDX-License-Identifier: Apache-2.0 */

/* What the node tells of itself: /status, /metrics, /healthz, /readyz. */

#include <inttypes.h>

#include "base/err.h"
#include "base/hex.h"
#include "base/mem.h"
#include "http/endpoints_priv.h"
#include "http/server_priv.h"

static int gather(struct request *request, struct tree_summary *ret_tree,
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
    const int err = gather(request, &tree, &store);
    if (err) {
        answer_failure(request, err);
        return;
    }
    const struct server *server = request->server;
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
    json_object_set_new(body, "members", json_integer(1));
    json_object_set_new(body, "agree", json_true());
    json_object_set_new(body, "cursor", json_string(cursor));
    json_object_set_new(body, "store", json_of_store(&store));
    answer_json(request, MHD_HTTP_OK, body);
}

const struct endpoint endpoint_status = {
    .method = "GET",
    .prefix = "/status",
    .begin = begin_status,
};

struct metric {
    const char *name;
    const char *type;
    const char *help;
    uint64_t value;
};

static void add_metrics(struct buf *text, const struct metric *metrics, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct metric *metric = &metrics[i];
        buf_add_format(text, "# HELP artel_%s %s\n# TYPE artel_%s %s\nartel_%s %" PRIu64 "\n",
                       metric->name, metric->help, metric->name, metric->type, metric->name,
                       metric->value);
    }
}

static void add_server_metrics(struct request *request, struct buf *text)
{
    const struct server_counters *http = &request->server->counters;
    const struct node_counters *node = node_counters(request->node);
    const struct metric metrics[] = {
        {"http_connections", "gauge", "open connections", http->connections},
        {"http_connections_refused_total", "counter", "connections above the limit",
         http->connections_refused},
        {"http_connections_shed_total", "counter", "connections that were too slow",
         http->connections_shed},
        {"http_requests_total", "counter", "requests", http->requests},
        {"http_client_errors_total", "counter", "answers with 4xx", http->errors_4xx},
        {"http_server_errors_total", "counter", "answers with 5xx", http->errors_5xx},
        {"http_body_bytes_total", "counter", "bytes of bodies received", http->body_bytes},
        {"watchers", "gauge", "open streams of /watch", watchers_count(request->server->watchers)},
        {"changes_total", "counter", "changes of the tree", node->changes},
        {"changes_failed_total", "counter", "changes that failed", node->changes_failed},
        {"collected_total", "counter", "blocks and files collected", node->collected},
        {"scrubbed_bytes_total", "counter", "bytes compared with their ids", node->scrubbed_bytes},
        {"scrub_bad_total", "counter", "blocks that scrub found wrong", node->scrub_bad},
    };
    add_metrics(text, metrics, ARRAY_SIZE(metrics));
}

static void begin_metrics(struct request *request)
{
    struct tree_summary tree;
    struct store_status store;
    const int err = gather(request, &tree, &store);
    if (err) {
        answer_failure(request, err);
        return;
    }
    const struct metric metrics[] = {
        {"tree_entries", "gauge", "paths of the tree", tree.entries_count},
        {"feed_position", "counter", "changes applied here", tree.feed_last},
        {"store_files", "gauge", "file versions known", store.files_count},
        {"store_blocks", "gauge", "blocks known", store.blocks_count},
        {"store_lost_blocks", "gauge", "blocks without a good copy here", store.lost_count},
        {"store_segments", "gauge", "segment files", store.segments_count},
        {"store_live_bytes", "gauge", "bytes of blocks in segments", store.live_bytes},
        {"store_allocated_bytes", "gauge", "bytes that segments take", store.allocated_bytes},
        {"store_cache_bytes", "gauge", "bytes that may be evicted", store.cache_bytes},
        {"store_unreferenced", "gauge", "rows waiting for collection", store.unreferenced_count},
        {"store_dead_ranges", "gauge", "ranges waiting for their hole", store.dead_ranges_count},
        {"store_corrupt_total", "counter", "blocks found wrong and dropped", store.corrupt_count},
        {"store_withdrawn_total", "counter", "external files found changed", store.withdrawn_count},
        {"store_failed", "gauge", "1 after a failed sync", store.failed},
    };
    struct buf text = BUF_INIT;
    add_metrics(&text, metrics, ARRAY_SIZE(metrics));
    add_server_metrics(request, &text);
    answer_buf(request, MHD_HTTP_OK, "text/plain; version=0.0.4", &text);
}

const struct endpoint endpoint_metrics = {
    .method = "GET",
    .prefix = "/metrics",
    .begin = begin_metrics,
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
