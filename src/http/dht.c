/* SPDX-License-Identifier: Apache-2.0 */

/* The table of holders as it is kept at this node: GET and PUT /dht/KEY. */

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/hex.h"
#include "base/mem.h"
#include "http/endpoints_priv.h"
#include "http/known.h"
#include "http/server_priv.h"
#include "node/fetch.h"

/* {"value":ADDRESS} with room. */
#define VALUE_BYTES_MAX ((size_t)1024)

static void set_key(json_t *object, const struct ring_key *key)
{
    char hex[RING_KEY_BYTES * 2 + 1];
    hex_format(key->bytes, sizeof key->bytes, hex);
    json_object_set_new(object, "key", json_string(hex));
}

static const char *state_name(enum locate_state state)
{
    return state == LOCATE_COMPLETE ? "complete" : state == LOCATE_PARTIAL ? "partial" : "hint";
}

static void begin_get(struct request *request)
{
    struct network *network = request->server->options.network;
    CLEANUP_FREE struct locate_held_by *stored =
        mem_alloc_array(LOCATE_HOLDERS_MAX, sizeof *stored);
    size_t count = 0;
    const int err =
        fetch_stored(network_fetch(network), &request->key, stored, LOCATE_HOLDERS_MAX, &count);
    if (err) {
        answer_failure(request, err);
        return;
    }
    CLEANUP_KNOWN struct known known;
    known_init(&known, network);
    json_t *values = json_array();
    json_t *holders = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *holder = known_json(&known, &stored[i].node);
        json_t *address = json_object_get(holder, "address");
        if (address) {
            json_array_append(values, address);
        }
        json_object_set_new(holder, "state", json_string(state_name(stored[i].state)));
        json_array_append_new(holders, holder);
    }
    json_t *body = json_object();
    set_key(body, &request->key);
    json_object_set_new(body, "values", values);
    json_object_set_new(body, "holders", holders);
    answer_json(request, MHD_HTTP_OK, body);
}

const struct endpoint endpoint_dht_get = {
    .method = "GET",
    .prefix = "/dht",
    .argument = PATH_KEY,
    .begin = begin_get,
};

static void begin_put(struct request *request)
{
    request->state = mem_alloc(sizeof(struct buf));
}

static size_t body_put(struct request *request, struct bytes piece)
{
    struct buf *text = request->state;
    if (text->size + piece.size > VALUE_BYTES_MAX) {
        answer_error(request, MHD_HTTP_CONTENT_TOO_LARGE, "too_large",
                     "a value has at most %zu bytes", VALUE_BYTES_MAX);
    } else {
        buf_add(text, piece);
    }
    return piece.size;
}

/* The value: of {"value":...}, or the bare text without white space around it. The caller frees
 * it; NULL: there is none. */
static char *read_value(const struct buf *text)
{
    json_t *json = json_loadb((const char *)text->data, text->size, JSON_REJECT_DUPLICATES, NULL);
    const char *value = json_string_value(json_object_get(json, "value"));
    char *copy = value ? mem_copy_string(value) : NULL;
    const bool is_json = json != NULL;
    json_decref(json);
    if (is_json || text->size == 0 || memchr(text->data, 0, text->size)) {
        return copy;
    }
    static const char space[] = " \t\r\n";
    CLEANUP_BUF struct buf bare = BUF_INIT;
    buf_add(&bare, buf_bytes(text));
    const char *begin = buf_string(&bare) + strspn(buf_string(&bare), space);
    copy = mem_copy_string(begin);
    copy[strcspn(copy, space)] = 0;
    return copy;
}

/* A member by its address or its id. */
static const struct member_info *find_member(const struct known *known, const char *value)
{
    struct address address;
    struct node_id id;
    if (address_parse(value, &address) == 0) {
        return known_find_at(known, &address);
    }
    return node_id_parse(bytes_of_string(value), &id) == 0 ? known_find(known, &id) : NULL;
}

static void end_put(struct request *request)
{
    struct network *network = request->server->options.network;
    CLEANUP_FREE char *value = read_value(request->state);
    if (!value || !*value) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_body",
                     "{\"value\":\"ADDRESS:PORT\"}, or the address alone");
        return;
    }
    CLEANUP_KNOWN struct known known;
    known_init(&known, network);
    const struct member_info *member = find_member(&known, value);
    if (!member) {
        answer_error(request, MHD_HTTP_CONFLICT, "not_member",
                     "the value is neither the address nor the id of a member");
        return;
    }
    fetch_hint(network_fetch(network), &request->key, &member->id);
    json_t *body = known_json(&known, &member->id);
    set_key(body, &request->key);
    answer_json(request, MHD_HTTP_OK, body);
}

static void done_put(struct request *request)
{
    buf_done(request->state);
    free(request->state);
}

const struct endpoint endpoint_dht_put = {
    .method = "PUT",
    .prefix = "/dht",
    .argument = PATH_KEY,
    .begin = begin_put,
    .body = body_put,
    .end = end_put,
    .done = done_put,
};
