/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "base/mem.h"
#include "http/endpoints_priv.h"

#define LIMIT_DEFAULT 100u
#define LIMIT_MAX 10000u

static int add_version(void *context, const struct tree_past *past)
{
    json_t *versions = context;
    const struct tree_entry entry = {
        .version = past->version,
        .is_explicit = true,
    };
    json_t *object = json_of_entry(BYTES(NULL, 0), &entry);
    json_object_del(object, "path");
    json_object_set_new(object, "current", json_boolean(past->is_shown));
    json_object_set_new(object, "conflict", json_boolean(past->is_head && !past->is_shown));
    json_object_set_new(object, "version", json_of_dot(&past->version.dot));
    json_object_set_new(object, "lamport", json_integer((json_int_t)past->version.lamport));
    json_array_append_new(versions, object);
    return 0;
}

static void begin(struct request *request)
{
    uint64_t limit = 0;
    if (request_number(request, "limit", 1, LIMIT_MAX, LIMIT_DEFAULT, &limit)) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query", "limit is a number up to %u",
                     LIMIT_MAX);
        return;
    }
    json_t *versions = json_array();
    struct kv_txn *txn = NULL;
    int err = node_snapshot(request->node, &txn);
    if (!err) {
        err = tree_log(node_tree(request->node), txn, request->path, (size_t)limit, add_version,
                       versions);
    }
    kv_abort(txn);
    if (!err && json_array_size(versions) == 0) {
        err = -ENOENT;
    }
    if (err) {
        json_decref(versions);
        answer_failure(request, err);
        return;
    }
    json_t *body = json_object();
    json_object_set_new(body, "path", json_of_bytes(request->path));
    json_object_set_new(body, "versions", versions);
    answer_json(request, MHD_HTTP_OK, body);
}

static const char *const parameters[] = {"limit", NULL};

const struct endpoint endpoint_log = {
    .method = "GET",
    .prefix = "/log",
    .argument = PATH_TREE,
    .parameters = parameters,
    .begin = begin,
};
