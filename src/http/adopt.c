/* SPDX-License-Identifier: Apache-2.0 */

/* POST /files: files that somebody follows on this machine become the store's copy of their blocks,
 * and end to be. Only over the Unix socket: it is about files of this machine. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "http/endpoints_priv.h"
#include "http/json_body.h"
#include "http/server_priv.h"
#include "store/adopt.h"

/* Of one request: the thread that reads them is busy for as long, and the answer waits for it. */
#define FILES_MAX 256u

struct entry {
    struct id id;
    const char *path; /* in the body */
    int err;
    struct store_adopted adopted;
};

struct adoption {
    struct request *request;
    struct json_body body;
    struct entry *entries;
    size_t entries_count;
    bool is_release;
};

static void begin(struct request *request)
{
    struct adoption *adoption = mem_alloc(sizeof *adoption);
    adoption->request = request;
    request->state = adoption;
    if (!request_is_local(request)) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query",
                     "this is for the Unix socket of the node");
        return;
    }
    json_body_begin(request);
}

static size_t body(struct request *request, struct bytes piece)
{
    struct adoption *adoption = request->state;
    return json_body_add(&adoption->body, request, piece);
}

static bool read_entries(struct adoption *adoption)
{
    const json_t *files = json_object_get(adoption->body.json, "files");
    const size_t count = json_array_size(files);
    if (count == 0 || count > FILES_MAX) {
        return false;
    }
    adoption->entries = mem_alloc_array(count, sizeof *adoption->entries);
    adoption->entries_count = count;
    for (size_t i = 0; i < count; i++) {
        const json_t *file = json_array_get(files, i);
        const char *id = json_string_value(json_object_get(file, "id"));
        struct entry *entry = &adoption->entries[i];
        entry->path = json_string_value(json_object_get(file, "path"));
        if (!id || !entry->path || id_parse(bytes_of_string(id), &entry->id)) {
            return false;
        }
    }
    return true;
}

/* In a thread of its own: it reads the files. */
static void run(void *context)
{
    struct adoption *adoption = context;
    struct server *server = adoption->request->server;
    struct store *store = node_store(server->node);
    for (size_t i = 0; i < adoption->entries_count; i++) {
        struct entry *entry = &adoption->entries[i];
        if (server->stopping) {
            entry->err = -ECANCELED;
        } else if (adoption->is_release) {
            entry->err = store_adopt_end(store, &entry->id, entry->path);
        } else {
            entry->err = store_adopt(store, &entry->id, entry->path, &entry->adopted);
        }
    }
    request_resume(adoption->request);
}

static void end(struct request *request)
{
    struct adoption *adoption = request->state;
    const char *op = json_body_end(&adoption->body, request);
    if (!op) {
        return;
    }
    adoption->is_release = strcmp(op, "release") == 0;
    if ((!adoption->is_release && strcmp(op, "adopt") != 0) || !read_entries(adoption)) {
        json_body_refuse(request);
        return;
    }
    request_suspend(request);
    if (server_run(request->server, run, adoption)) {
        for (size_t i = 0; i < adoption->entries_count; i++) {
            adoption->entries[i].err = -EAGAIN;
        }
        request_resume(request);
    }
}

static const char *state_of(const struct adoption *adoption, const struct entry *entry)
{
    switch (entry->err) {
    case 0:
        return adoption->is_release ? "released" : entry->adopted.file_bytes ? "adopted" : "held";
    case -ESTALE:
        return "changed";
    case -ENOENT:
        return "not_held";
    default:
        return "failed";
    }
}

static json_t *json_of_entry(const struct adoption *adoption, const struct entry *entry)
{
    const struct store_adopted *adopted = &entry->adopted;
    json_t *object = json_object();
    json_object_set_new(object, "id", json_of_id(&entry->id));
    json_object_set_new(object, "path", json_string(entry->path));
    json_object_set_new(object, "state", json_string(state_of(adoption, entry)));
    if (entry->err) {
        json_object_set_new(object, "error", json_string(err_name(entry->err)));
    } else if (!adoption->is_release) {
        json_object_set_new(object, "bytes", json_integer((json_int_t)adopted->file_bytes));
        json_object_set_new(object, "given_up", json_integer((json_int_t)adopted->given_up_bytes));
        json_object_set_new(object, "kept", json_integer((json_int_t)adopted->kept_bytes));
        json_object_set_new(object, "busy", json_integer((json_int_t)adopted->busy_bytes));
    }
    return object;
}

static void resumed(struct request *request)
{
    const struct adoption *adoption = request->state;
    json_t *files = json_array();
    for (size_t i = 0; i < adoption->entries_count; i++) {
        const struct entry *entry = &adoption->entries[i];
        /* Of the node, not of the file: the same for all, and worth another try. */
        if (entry->err == -EAGAIN || entry->err == -ECANCELED || entry->err == -ENOSPC ||
            entry->err == -ENOTRECOVERABLE) {
            json_decref(files);
            answer_failure(request, entry->err == -ECANCELED ? -EROFS : entry->err);
            return;
        }
        json_array_append_new(files, json_of_entry(adoption, entry));
    }
    json_t *object = json_object();
    json_object_set_new(object, "files", files);
    answer_json(request, MHD_HTTP_OK, object);
}

static void done(struct request *request)
{
    struct adoption *adoption = request->state;
    json_body_done(&adoption->body);
    free(adoption->entries);
    free(adoption);
}

const struct endpoint endpoint_files_post = {
    .method = "POST",
    .prefix = "/files",
    .begin = begin,
    .body = body,
    .end = end,
    .resumed = resumed,
    .done = done,
};
