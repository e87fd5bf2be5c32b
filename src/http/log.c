/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "http/endpoints_priv.h"
#include "http/field.h"
#include "http/json_text.h"

#define LIMIT_DEFAULT 100u
#define LIMIT_MAX 10000u

static int add_version(void *context, const struct tree_past *past)
{
    struct buf *text = context;
    const struct tree_entry entry = {
        .version = past->version,
        .is_explicit = true,
    };
    char dot[FIELD_DOT_BYTES];
    field_dot_format(&past->version.dot, dot);
    buf_add_byte(text, '{');
    json_text_add_entry_members(text, &entry);
    buf_add_format(text,
                   ",\"current\":%s,\"conflict\":%s,\"version\":\"%s\",\"lamport\":%" PRIu64 "},",
                   past->is_shown ? "true" : "false",
                   past->is_head && !past->is_shown ? "true" : "false", dot, past->version.lamport);
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
    CLEANUP_BUF struct buf text = BUF_INIT;
    buf_add_string(&text, "{\"path\":");
    json_text_add_string(&text, request->path);
    buf_add_string(&text, ",\"versions\":[");
    const size_t empty_bytes = text.size;
    struct kv_txn *txn = NULL;
    int err = node_snapshot(request->node, &txn);
    if (!err) {
        err = tree_log(node_tree(request->node), txn, request->path, (size_t)limit, add_version,
                       &text);
    }
    kv_abort(txn);
    if (!err && text.size == empty_bytes) {
        err = -ENOENT;
    }
    if (err) {
        answer_failure(request, err);
        return;
    }
    text.size--; /* the last comma */
    buf_add_string(&text, "]}\n");
    answer_buf(request, MHD_HTTP_OK, "application/json", &text);
}

static const char *const parameters[] = {"limit", NULL};

const struct endpoint endpoint_log = {
    .method = "GET",
    .prefix = "/log",
    .argument = PATH_TREE,
    .parameters = parameters,
    .begin = begin,
};
