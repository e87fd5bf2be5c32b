/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "base/mem.h"
#include "http/arriving.h"
#include "http/content_priv.h"
#include "http/endpoints_priv.h"

static struct content_headers headers_of(const struct tree_entry *entry)
{
    return (struct content_headers){
        .length_bytes = entry->version.size_bytes,
        .writer = entry->version.dot.origin,
        .mode = entry->version.mode,
        .mtime_ns = entry->version.mtime_ns,
        .conflicts_count = entry->heads_count > 1 ? entry->heads_count - 1 : 0,
    };
}

static void answer_symlink(struct request *request, const struct tree_entry *entry)
{
    struct buf body = BUF_INIT;
    buf_add(&body, entry->version.target);
    const struct content_headers headers = headers_of(entry);
    const size_t size = body.size;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(size, body.data, MHD_RESPMEM_MUST_FREE);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/octet-stream");
    MHD_add_response_header(response, "X-Artel-Type", "symlink");
    content_add_headers(response, &headers);
    answer(request, MHD_HTTP_OK, response);
}

static void begin(struct request *request)
{
    struct kv_txn *txn = NULL;
    struct tree_entry entry;
    int err = node_snapshot(request->node, &txn);
    if (!err) {
        err = tree_find(node_tree(request->node), txn, request->path, &entry);
    }
    if (err || entry.version.kind != TREE_SYMLINK) {
        kv_abort(txn);
    }
    if (err) {
        /* Below a file there is nothing. */
        answer_failure(request, err == -ENOTDIR ? -ENOENT : err);
        return;
    }
    switch (entry.version.kind) {
    case TREE_FILE: {
        const struct content_headers headers = headers_of(&entry);
        content_answer(request, &entry.version.file_id, &headers);
        break;
    }
    case TREE_SYMLINK:
        answer_symlink(request, &entry);
        kv_abort(txn);
        break;
    case TREE_DIRECTORY:
    case TREE_DELETE:
        if (request_accepts(request, "application/x-tar")) {
            tar_out_begin(request);
        } else {
            listing_begin(request, &listing_of_entries);
        }
        break;
    }
}

static const char *const parameters[] = {"depth", "limit", "after", "match", "below", NULL};

const struct endpoint endpoint_fs_get = {
    .method = "GET",
    .prefix = "/fs",
    .argument = PATH_TREE,
    .parameters = parameters,
    .begin = begin,
    .end = arrival_go_on,
    .resumed = arrival_go_on,
    .done = arrival_done,
};
