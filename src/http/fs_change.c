/* SPDX-License-Identifier: Apache-2.0 */

/* DELETE and POST on the tree: changes without content. */

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "http/ack_priv.h"
#include "http/endpoints_priv.h"
#include "http/field.h"
#include "http/fs_delete_priv.h"
#include "http/fs_set_priv.h"
#include "http/json_body.h"
#include "http/server_priv.h"
#include "store/hold.h"
#include "tree/change.h"

#define DIRECTORY_MODE 0755u

enum change_kind {
    CHANGE_DELETE,
    CHANGE_DELETE_MANY,
    CHANGE_MKDIR,
    CHANGE_RENAME,
    CHANGE_LINK,
    CHANGE_RESTORE,
    CHANGE_SET
};

struct change {
    struct request *request;
    enum change_kind kind;
    struct json_body body; /* holds `to` */
    struct tree_delete deletion;
    struct tree_put put;
    struct fs_delete many;
    size_t deleted_count;
    struct bytes to;
    bool is_exclusive;  /* nothing is at `to` */
    struct dot version; /* to restore */
    bool needs_own;     /* the content of a link may stand in followed files alone */
    struct fs_set set;
    int err;
    struct dot dot;
};

static int apply_rename(struct change *change, const struct tree *tree, struct kv_txn *txn)
{
    struct tree_entry there;
    if (change->is_exclusive && path_check(change->to) == 0 &&
        tree_find(tree, txn, change->to, &there) == 0) {
        return -EEXIST;
    }
    return tree_change_rename(tree, txn, change->request->path, change->to, &change->dot);
}

static int apply(void *context, const struct tree *tree, struct kv_txn *txn,
                 const struct store_put_result *results)
{
    (void)results;
    struct change *change = context;
    switch (change->kind) {
    case CHANGE_DELETE:
        return tree_change_delete(tree, txn, &change->deletion, &change->dot);
    case CHANGE_DELETE_MANY:
        return tree_change_delete_many(tree, txn, change->many.deletions,
                                       change->many.deletions_count, &change->deleted_count,
                                       &change->dot);
    case CHANGE_RENAME:
        return apply_rename(change, tree, txn);
    case CHANGE_RESTORE:
        return tree_change_restore(tree, txn, change->request->path, &change->version,
                                   &change->dot);
    case CHANGE_SET:
        return tree_change_set(tree, txn, &change->set.set, &change->dot);
    case CHANGE_MKDIR:
    case CHANGE_LINK:
    default:
        return tree_change_put(tree, txn, &change->put, &change->dot);
    }
}

static void changed(void *context, int err, const struct store_put_result *results)
{
    (void)results;
    struct change *change = context;
    change->err = err;
    request_resume(change->request);
}

static void submit(struct change *self)
{
    const struct node_change change = {.apply = apply, .done = changed, .context = self};
    node_change_async(self->request->node, &change);
}

/* In a thread of its own: it may have to copy the content. */
static void own_and_submit(void *context)
{
    struct change *change = context;
    /* What it could not do the change will find. */
    const int err = store_own(node_store(change->request->node), &change->put.file_id);
    if (err && err != -ENOENT) {
        changed(change, err, NULL);
    } else {
        submit(change);
    }
}

static void start(struct request *request)
{
    struct change *change = request->state;
    request_suspend(request);
    if (!change->needs_own || server_run(request->server, own_and_submit, change)) {
        submit(change);
    }
}

static void resumed(struct request *request)
{
    struct change *change = request->state;
    if (change->err == -ESTALE && change->kind == CHANGE_RESTORE) {
        answer_error(request, MHD_HTTP_CONFLICT, "not_held",
                     "the content of that version is not held here");
        return;
    }
    if (change->err) {
        answer_failure(request, change->err);
        return;
    }
    json_t *body = json_object();
    json_object_set_new(body, "path",
                        json_of_bytes(change->kind == CHANGE_RENAME ? change->to : request->path));
    if (change->kind == CHANGE_LINK) {
        json_object_set_new(body, "id", json_of_id(&change->put.file_id));
        json_object_set_new(body, "length", json_integer((json_int_t)change->put.size_bytes));
    }
    if (change->kind == CHANGE_DELETE_MANY) {
        json_object_set_new(body, "deleted", json_integer((json_int_t)change->deleted_count));
    }
    if (change->kind == CHANGE_DELETE_MANY && change->deleted_count == 0) {
        answer_json(request, MHD_HTTP_OK, body);
        return;
    }
    json_object_set_new(body, "version", json_of_dot(&change->dot));
    ack_answer(request, change->kind == CHANGE_MKDIR ? MHD_HTTP_CREATED : MHD_HTTP_OK, body,
               &change->dot);
}

static void done(struct request *request)
{
    struct change *change = request->state;
    fs_set_done(&change->set);
    fs_delete_done(&change->many);
    json_body_done(&change->body);
    free(change);
}

static void begin_delete(struct request *request)
{
    struct change *change = mem_alloc(sizeof *change);
    change->request = request;
    change->kind = CHANGE_DELETE;
    change->deletion.path = request->path;
    change->deletion.recursive = request_switch(request, "recursive");
    request->state = change;
    const char *match = request_header(request, MHD_HTTP_HEADER_IF_MATCH);
    if (!ack_read(request)) {
        return;
    }
    if (match) {
        if (field_etag_parse(match, &change->deletion.match)) {
            answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query",
                         "If-Match takes one id in quotes");
            return;
        }
        change->deletion.condition = TREE_MATCHING;
    }
}

static const char *const delete_parameters[] = {"recursive", ACK_PARAMETERS, NULL};

const struct endpoint endpoint_fs_delete = {
    .method = "DELETE",
    .prefix = "/fs",
    .argument = PATH_TREE,
    .parameters = delete_parameters,
    .begin = begin_delete,
    .end = start,
    .resumed = resumed,
    .done = done,
};

static void begin_post(struct request *request)
{
    struct change *change = mem_alloc(sizeof *change);
    change->request = request;
    request->state = change;
    if (ack_read(request)) {
        json_body_begin(request);
    }
}

static size_t body_post(struct request *request, struct bytes piece)
{
    struct change *change = request->state;
    return json_body_add(&change->body, request, piece);
}

/* The optional "mode" and "mtime". What is there and no string makes no sense. */
static int read_attributes(struct change *change)
{
    const char *mode = json_body_string(&change->body, "mode");
    const char *mtime = json_body_string(&change->body, "mtime");
    if ((!mode && json_object_get(change->body.json, "mode")) ||
        (!mtime && json_object_get(change->body.json, "mtime")) ||
        (mode && field_mode_parse(mode, &change->put.mode)) ||
        (mtime && field_time_parse(mtime, &change->put.mtime_ns))) {
        return -EPROTO;
    }
    return 0;
}

static int read_link(struct change *change)
{
    const char *id = json_body_string(&change->body, "id");
    if (!id || id_parse(bytes_of_string(id), &change->put.file_id)) {
        return -EPROTO;
    }
    struct store_file_info info;
    const int err = store_file_info(node_store(change->request->node), &change->put.file_id, &info);
    change->put.kind = TREE_FILE;
    change->put.mode = 0644;
    change->put.size_bytes = err ? 0 : info.length_bytes;
    /* What is kept already has bytes of its own. */
    change->needs_own = !err && info.holders[STORE_ORIGIN] == 0 && info.holders[STORE_COPY] == 0;
    return err;
}

/* Of a rename: whether what is at its new name may go. */
static int read_replace(struct change *change)
{
    const json_t *replace = json_object_get(change->body.json, "replace");
    change->is_exclusive = json_is_false(replace);
    return replace && !json_is_boolean(replace) ? -EPROTO : 0;
}

/* -EPROTO: the body makes no sense. */
static int read_post(struct change *change, const char *op)
{
    change->put = (struct tree_put){
        .path = change->request->path,
        .kind = TREE_DIRECTORY,
        .mode = DIRECTORY_MODE,
        .mtime_ns = clock_wall_ms(node_clock(change->request->node)) * 1000000,
    };
    if (strcmp(op, "mkdir") == 0) {
        change->kind = CHANGE_MKDIR;
        change->put.condition = TREE_ABSENT;
        return read_attributes(change);
    }
    if (strcmp(op, "rename") == 0) {
        const char *to = json_body_string(&change->body, "to");
        change->kind = CHANGE_RENAME;
        change->to = to ? bytes_of_string(to) : BYTES(NULL, 0);
        return to ? read_replace(change) : -EPROTO;
    }
    if (strcmp(op, "delete") == 0) {
        change->kind = CHANGE_DELETE_MANY;
        return fs_delete_read(change->body.json, change->request->path, &change->many);
    }
    if (strcmp(op, "link") == 0) {
        change->kind = CHANGE_LINK;
        const int err = read_link(change);
        return err ? err : read_attributes(change);
    }
    if (strcmp(op, "set") == 0) {
        change->kind = CHANGE_SET;
        change->set.set.path = change->request->path;
        change->set.set.mtime_ns = change->put.mtime_ns;
        return fs_set_read(change->body.json, &change->set);
    }
    if (strcmp(op, "restore") == 0) {
        const char *version = json_body_string(&change->body, "version");
        change->kind = CHANGE_RESTORE;
        return version && !field_dot_parse(version, &change->version) ? 0 : -EPROTO;
    }
    return -EPROTO;
}

static void end_post(struct request *request)
{
    struct change *change = request->state;
    const char *op = json_body_end(&change->body, request);
    if (!op) {
        return;
    }
    const int err = read_post(change, op);
    if (err == -EPROTO) {
        json_body_refuse(request);
    } else if (err) {
        answer_failure(request, err);
    } else {
        start(request);
    }
}

static const char *const post_parameters[] = {ACK_PARAMETERS, NULL};

const struct endpoint endpoint_fs_post = {
    .method = "POST",
    .prefix = "/fs",
    .argument = PATH_TREE,
    .parameters = post_parameters,
    .begin = begin_post,
    .body = body_post,
    .end = end_post,
    .resumed = resumed,
    .done = done,
};
