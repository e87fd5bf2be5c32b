/* SPDX-License-Identifier: Apache-2.0 */

/* Versions of paths: GET /log, all of one path; GET /conflicts, those of paths that have several at
 * once. */

#include <inttypes.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "http/endpoints_priv.h"
#include "http/field.h"
#include "http/json_text.h"
#include "http/server_priv.h"
#include "node/network.h"
#include "store/store.h"

#define LIMIT_DEFAULT 100u
#define LIMIT_MAX 10000u
/* Versions of a path in one answer are no longer than this and one more: the longest takes 25 KiB.
 */
#define VERSIONS_BYTES_MAX ((size_t)8 * 1024 * 1024)
#define MS_PER_S 1000u

struct versions {
    struct buf *text;
    struct network *network;
    struct origin_id writer; /* whose name was looked up last */
    bool has_name;
    char name[MEMBER_NAME_BYTES_MAX + 1];
    uint64_t now_ms;  /* in the store's time */
    size_t end_bytes; /* no other version is added behind it */
};

static int add_version(void *context, const struct tree_past *past)
{
    struct versions *versions = context;
    const struct origin_id *writer = &past->version.dot.origin;
    struct buf *text = versions->text;
    if (text->size >= versions->end_bytes) {
        return -ECANCELED;
    }
    const struct tree_entry entry = {
        .version = past->version,
        .is_explicit = true,
    };
    char dot[FIELD_DOT_BYTES];
    field_dot_format(&past->version.dot, dot);
    buf_add_byte(text, '{');
    json_text_add_entry_members(text, &entry);
    buf_add_format(text, ",\"current\":%s,\"conflict\":%s,\"version\":\"%s\",\"lamport\":%" PRIu64,
                   past->is_shown ? "true" : "false",
                   past->is_head && !past->is_shown ? "true" : "false", dot, past->version.lamport);
    if (!origin_id_equal(writer, &versions->writer)) {
        versions->writer = *writer;
        versions->has_name = network_writer_name(versions->network, writer, versions->name);
    }
    if (versions->has_name) {
        buf_add_string(text, ",\"by\":");
        json_text_add_string(text, bytes_of_string(versions->name));
    }
    if (!past->is_head) {
        const uint64_t end_ms = past->ended_ms + NODE_HISTORY_MS;
        const uint64_t left_ms = end_ms > versions->now_ms ? end_ms - versions->now_ms : 0;
        buf_add_format(text, ",\"kept_s\":%" PRIu64, left_ms / MS_PER_S);
    }
    buf_add_string(text, "},");
    return 0;
}

/* Adds up to `limit` versions of the path, the heads first. -ENOENT: none is known. */
static int add_versions(struct buf *text, struct server *server, struct kv_txn *txn,
                        struct bytes path, size_t limit)
{
    struct versions versions = {
        .text = text,
        .network = server->options.network,
        .now_ms = store_now_ms(node_store(server->node)),
        .end_bytes = text->size + VERSIONS_BYTES_MAX,
    };
    buf_add_string(text, "\"versions\":[");
    const size_t empty_bytes = text->size;
    int err = tree_log(node_tree(server->node), txn, path, limit, add_version, &versions);
    const bool is_cut = err == -ECANCELED;
    err = is_cut ? 0 : err;
    if (!err && text->size == empty_bytes) {
        err = -ENOENT;
    }
    if (!err) {
        text->size--; /* the last comma */
        buf_add_string(text, is_cut ? "],\"more\":true" : "]");
    }
    return err;
}

static void begin(struct request *request)
{
    uint64_t limit = 0;
    if (request_number(request, "limit", 1, LIMIT_MAX, LIMIT_DEFAULT, &limit)) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query", "limit is a number up to %u",
                     LIMIT_MAX);
        return;
    }
    CLEANUP_BUF struct buf text = BUF_INIT;
    buf_add_string(&text, "{\"path\":");
    json_text_add_string(&text, request->path);
    buf_add_byte(&text, ',');
    struct kv_txn *txn = NULL;
    int err = node_snapshot(request->node, &txn);
    if (!err) {
        err = add_versions(&text, request->server, txn, request->path, (size_t)limit);
    }
    kv_abort(txn);
    if (err) {
        answer_failure(request, err);
        return;
    }
    buf_add_string(&text, "}\n");
    answer_buf(request, MHD_HTTP_OK, "application/json", &text);
}

static const char *const log_parameters[] = {"limit", NULL};

const struct endpoint endpoint_log = {
    .method = "GET",
    .prefix = "/log",
    .argument = PATH_TREE,
    .parameters = log_parameters,
    .begin = begin,
};

/* A row of the tree is told once, by its name. */
static bool is_conflict(const struct tree_entry *entry)
{
    return entry->heads_count > 1 && !entry->is_hidden_file;
}

static int add_conflict(struct buf *text, struct server *server, struct kv_txn *txn,
                        struct bytes path, const struct tree_entry *entry)
{
    buf_add_string(text, "{\"path\":");
    json_text_add_string(text, path);
    buf_add_byte(text, ',');
    const int err = add_versions(text, server, txn, path, entry->heads_count);
    buf_add_byte(text, '}');
    return err == -ENOENT ? -EIO : err;
}

static const struct listing_kind listing_of_conflicts = {
    .key = "conflicts",
    .is_deep = true,
    .takes = is_conflict,
    .add = add_conflict,
};

static void begin_conflicts(struct request *request)
{
    struct kv_txn *txn = NULL;
    struct tree_entry entry;
    int err = node_snapshot(request->node, &txn);
    if (!err) {
        err = tree_find(node_tree(request->node), txn, request->path, &entry);
    }
    kv_abort(txn);
    if (!err && entry.version.kind != TREE_DIRECTORY) {
        err = -ENOTDIR;
    }
    if (err) {
        answer_failure(request, err);
        return;
    }
    listing_begin(request, &listing_of_conflicts);
}

static const char *const conflicts_parameters[] = {"limit", "after", "match", NULL};

const struct endpoint endpoint_conflicts = {
    .method = "GET",
    .prefix = "/conflicts",
    .argument = PATH_TREE,
    .parameters = conflicts_parameters,
    .begin = begin_conflicts,
};
