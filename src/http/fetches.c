/* SPDX-License-Identifier: Apache-2.0 */

/* What is being fetched, and how it goes: GET and POST /fetches, GET and DELETE /fetches/ID,
 * GET /why. */

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "http/arriving.h"
#include "http/endpoints_priv.h"
#include "http/json_body.h"
#include "http/known.h"
#include "http/server_priv.h"
#include "node/fetch.h"
#include "store/hold.h"

#define LIMIT_DEFAULT 1000u
#define LIMIT_MAX 10000u

static struct fetch *fetch_of(const struct request *request)
{
    return network_fetch(request->server->options.network);
}

static void set_number(json_t *object, const char *key, uint64_t number)
{
    json_object_set_new(object, key, json_integer((json_int_t)number));
}

static void set_info(json_t *object, const struct fetch_info *info)
{
    json_object_set_new(object, "state", json_string(fetch_state_name(info->state)));
    json_object_set_new(object, "reason", json_string(store_reason_name(info->reason)));
    if (info->has_metadata) {
        set_number(object, "length", info->length_bytes);
        set_number(object, "here", info->here_bytes);
        set_number(object, "blocks", info->blocks_count);
        set_number(object, "blocks_here", info->here_count);
        const uint64_t left_bytes = info->length_bytes - info->here_bytes;
        if (info->rate_bytes_per_second > 0) {
            set_number(object, "left_s", left_bytes / info->rate_bytes_per_second);
        }
    }
    set_number(object, "running_ms", info->running_ms);
    set_number(object, "received", info->received_bytes);
    set_number(object, "rate", info->rate_bytes_per_second);
    set_number(object, "sources_count", info->sources_count);
    set_number(object, "readers", info->readers_count);
}

/* ---- all of them -------------------------------------------------------------------------------
 */

static void begin_get(struct request *request)
{
    const char *after = request_parameter(request, "after");
    struct id last;
    uint64_t limit = 0;
    if (request_number(request, "limit", 1, LIMIT_MAX, LIMIT_DEFAULT, &limit) ||
        (after && id_parse(bytes_of_string(after), &last))) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query",
                     "limit is a number up to %u, after an id", LIMIT_MAX);
        return;
    }
    CLEANUP_FREE struct fetch_info *infos = mem_alloc_array((size_t)limit, sizeof *infos);
    const struct fetch_list_options options = {
        .after = after ? &last : NULL,
        .limit = (size_t)limit,
        .only_read = request_switch(request, "read"),
    };
    const size_t count = fetch_list(fetch_of(request), &options, infos);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *object = json_object();
        json_object_set_new(object, "id", json_of_id(&infos[i].file));
        set_info(object, &infos[i]);
        json_array_append_new(list, object);
    }
    json_t *body = json_object();
    json_object_set_new(body, "fetches", list);
    if (count == limit) {
        json_object_set_new(body, "next", json_of_id(&infos[count - 1].file));
    }
    answer_json(request, MHD_HTTP_OK, body);
}

static const char *const parameters[] = {"limit", "after", "read", NULL};

const struct endpoint endpoint_fetches_get = {
    .method = "GET",
    .prefix = "/fetches",
    .parameters = parameters,
    .begin = begin_get,
};

static void begin_post(struct request *request)
{
    request->state = mem_alloc(sizeof(struct json_body));
    json_body_begin(request);
}

static size_t body_post(struct request *request, struct bytes piece)
{
    return json_body_add(request->state, request, piece);
}

/* "id", or "ids" of any number: the caller frees *ret_ids. False: neither. */
static bool read_ids(const struct json_body *body, struct id **ret_ids, size_t *ret_count)
{
    json_t *one = json_object_get(body->json, "id");
    const json_t *list = json_object_get(body->json, "ids");
    const size_t count = one ? 1 : json_array_size(list);
    if (count == 0 || (one && list)) {
        return false;
    }
    struct id *ids = mem_alloc_array(count, sizeof *ids);
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(one ? one : json_array_get(list, i));
        if (!text || id_parse(bytes_of_string(text), &ids[i])) {
            free(ids);
            return false;
        }
    }
    *ret_ids = ids;
    *ret_count = count;
    return true;
}

static void end_post(struct request *request)
{
    const struct json_body *body = request->state;
    const char *op = json_body_end(request->state, request);
    if (!op) {
        return;
    }
    const struct fetch_options options = {
        .reason = json_is_true(json_object_get(body->json, "keep")) ? STORE_COPY : STORE_CACHE};
    CLEANUP_FREE struct id *ids = NULL;
    size_t ids_count = 0;
    if (strcmp(op, "start") != 0 || !read_ids(body, &ids, &ids_count)) {
        json_body_refuse(request);
        return;
    }
    size_t count = 0;
    const int err = fetch_begin_all(fetch_of(request), &options, ids, ids_count, &count);
    if (err == -EBUSY) {
        answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "busy",
                     "too many files are being fetched");
        return;
    }
    if (err == -ECANCELED) {
        answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "stopped", "the node ends");
        return;
    }
    if (err) {
        answer_failure(request, err);
        return;
    }
    json_t *answered = json_object();
    if (json_object_get(body->json, "ids")) {
        set_number(answered, "count", count);
    } else {
        json_object_set_new(answered, "id", json_of_id(&ids[0]));
    }
    json_object_set_new(answered, "reason", json_string(store_reason_name(options.reason)));
    answer_json(request, MHD_HTTP_ACCEPTED, answered);
}

static void done_post(struct request *request)
{
    json_body_done(request->state);
    free(request->state);
}

const struct endpoint endpoint_fetches_post = {
    .method = "POST",
    .prefix = "/fetches",
    .begin = begin_post,
    .body = body_post,
    .end = end_post,
    .done = done_post,
};

static void begin_delete(struct request *request)
{
    fetch_stop(fetch_of(request), &request->id);
    json_t *body = json_object();
    json_object_set_new(body, "id", json_of_id(&request->id));
    answer_json(request, MHD_HTTP_OK, body);
}

const struct endpoint endpoint_fetches_delete = {
    .method = "DELETE",
    .prefix = "/fetches",
    .argument = PATH_ID,
    .begin = begin_delete,
};

/* ---- one that is waited for --------------------------------------------------------------------
 */

struct awaited {
    struct arrival arrival;
    struct arriving arriving;
    uint32_t next; /* the first block that was not seen to be here */
};

static void answer_whole(struct request *request)
{
    json_t *body = json_object();
    json_object_set_new(body, "id", json_of_id(&request->id));
    answer_json(request, MHD_HTTP_OK, body);
}

static int look_for_all(struct request *request, struct arrival *arrival)
{
    struct awaited *awaited = CONTAINER_OF(arrival, struct awaited, arrival);
    const int err = arriving_all(&awaited->arriving, &awaited->next);
    if (!err) {
        answer_whole(request);
    }
    return err;
}

static void awaited_free(struct arrival *arrival)
{
    struct awaited *awaited = CONTAINER_OF(arrival, struct awaited, arrival);
    arriving_done(&awaited->arriving);
    free(awaited);
}

static void begin_await(struct request *request)
{
    if (request->is_head) {
        struct store_file_info info;
        const int err = store_file_info(node_store(request->node), &request->id, &info);
        if (!err && info.is_held) {
            answer_whole(request);
        } else {
            answer_failure(request, err ? err : -ENOENT);
        }
        return;
    }
    struct awaited *awaited = mem_alloc(sizeof *awaited);
    arriving_init(&awaited->arriving, request, &request->id, NULL);
    awaited->arrival = (struct arrival){
        .arriving = &awaited->arriving, .look = look_for_all, .free = awaited_free};
    request->state = awaited;
}

const struct endpoint endpoint_fetches_await = {
    .method = "GET",
    .prefix = "/fetches",
    .argument = PATH_ID,
    .begin = begin_await,
    .end = arrival_go_on,
    .resumed = arrival_go_on,
    .done = arrival_done,
};

/* ---- one of them, with all that is known -------------------------------------------------------
 */

static json_t *json_of_source(const struct known *known, const struct fetch_source *source)
{
    json_t *object = known_json(known, &source->node);
    json_object_set_new(object, "state", json_string(source->is_complete ? "complete" : "partial"));
    json_object_set_new(object, "shunned", json_boolean(source->is_shunned));
    set_number(object, "received", source->received_bytes);
    set_number(object, "blocks", source->blocks_count);
    set_number(object, "in_flight", source->in_flight_count);
    set_number(object, "refused", source->refused_count);
    set_number(object, "not_here", source->not_here_count);
    set_number(object, "late", source->late_count);
    set_number(object, "bad", source->bad_count);
    set_number(object, "waited_ms", source->waited_ms);
    set_number(object, "rate", source->rate_bytes_per_second);
    return object;
}

static void set_explanation(json_t *object, struct network *network,
                            const struct fetch_explanation *explanation)
{
    CLEANUP_KNOWN struct known known;
    known_init(&known, network);
    set_info(object, &explanation->info);
    if (explanation->is_over) {
        json_object_set_new(object, "state", json_string(explanation->err ? "failed" : "done"));
        if (explanation->err) {
            json_object_set_new(object, "error", json_string(err_name(explanation->err)));
        }
    }
    json_object_set_new(object, "waits_for", json_string(explanation->waits_for));
    json_t *sources = json_array();
    for (uint32_t i = 0; i < explanation->sources_count; i++) {
        json_array_append_new(sources, json_of_source(&known, &explanation->sources[i]));
    }
    json_object_set_new(object, "sources", sources);
    json_object_set_new(object, "not_asked",
                        known_not_asked(&known, explanation->answers, explanation->answers_count));
}

/* The file at the path, or that whose id stands there instead of one. */
static int find_file(struct request *request, struct id *ret_id, bool *ret_has_path)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct tree_entry entry;
    int err = node_snapshot(request->node, &txn);
    if (!err) {
        err = tree_find(node_tree(request->node), txn, request->path, &entry);
    }
    if (!err && entry.version.kind == TREE_DIRECTORY) {
        return -EISDIR;
    }
    *ret_has_path = !err && entry.version.kind == TREE_FILE;
    if (*ret_has_path) {
        *ret_id = entry.version.file_id;
        return 0;
    }
    return id_parse(request->path, ret_id) == 0 ? 0 : err ? err : -ENOENT;
}

static void begin_why(struct request *request)
{
    struct id id;
    bool has_path = false;
    int err = find_file(request, &id, &has_path);
    if (err) {
        answer_failure(request, err == -ENOTDIR ? -ENOENT : err);
        return;
    }
    json_t *body = json_object();
    if (has_path) {
        json_object_set_new(body, "path", json_of_bytes(request->path));
    }
    json_object_set_new(body, "id", json_of_id(&id));
    CLEANUP_FREE struct fetch_explanation *explanation = mem_alloc(sizeof *explanation);
    struct store_file_info info;
    err = fetch_explain(fetch_of(request), &id, explanation);
    if (!err) {
        set_explanation(body, request->server->options.network, explanation);
    } else if (store_file_info(node_store(request->node), &id, &info) == 0 && info.is_held) {
        json_object_set_new(body, "state", json_string("here"));
        set_number(body, "length", info.length_bytes);
    } else {
        json_object_set_new(body, "state", json_string("absent"));
    }
    answer_json(request, MHD_HTTP_OK, body);
}

const struct endpoint endpoint_why = {
    .method = "GET",
    .prefix = "/why",
    .argument = PATH_TREE,
    .begin = begin_why,
};
