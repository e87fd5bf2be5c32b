/* SPDX-License-Identifier: Apache-2.0 */

/* Who is here: GET and POST /members, and events of membership for watchers. */

#include "http/members.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "http/endpoints_priv.h"
#include "http/field.h"
#include "http/json_body.h"
#include "http/server_priv.h"

#define EVENTS_AT_ONCE 8u
/* Of a list: 120 members, a millisecond. */
#define LIST_PIECE_BYTES ((size_t)32 * 1024)
/* A round-trip time in ms with a precision of 1 us, up to 999 s. */
#define REAL_DIGITS 6

static json_t *json_of_time(int64_t ms)
{
    char text[FIELD_TIME_BYTES];
    field_time_format(ms * 1000000, text);
    return json_string(text);
}

static void set_node(json_t *object, const struct member_info *member)
{
    char id[NODE_ID_HEX_CHARS + 1];
    char address[ADDRESS_TEXT_CHARS + 1];
    node_id_format(&member->id, id);
    address_format(&member->address, address);
    json_object_set_new(object, "node", json_string(id));
    json_object_set_new(object, "name", json_string(member->name));
    json_object_set_new(object, "zone", json_string(member->zone));
    json_object_set_new(object, "address", json_string(address));
    json_object_set_new(object, "state", json_string(member_status_name(member->version.status)));
    json_object_set_new(object, "since", json_of_time(member->since_ms));
    json_object_set_new(object, "incarnation",
                        json_integer((json_int_t)member->version.incarnation));
    json_object_set_new(object, "in_ring", json_boolean(member->in_ring));
    json_object_set_new(object, "self", json_boolean(member->is_self));
}

static void add_json(struct buf *text, json_t *object)
{
    char *dumped = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(REAL_DIGITS));
    json_decref(object);
    buf_add_string(text, dumped);
    free(dumped);
}

static void add_member(struct buf *text, const struct member_info *member)
{
    json_t *object = json_object();
    set_node(object, member);
    if (member->capacity_bytes > 0) {
        json_object_set_new(object, "capacity", json_integer((json_int_t)member->capacity_bytes));
    }
    if (member->rtt_us > 0) {
        json_object_set_new(object, "rtt_ms", json_real(member->rtt_us / 1000.0));
    }
    add_json(text, object);
}

/* A list on its way out. It was copied at once, and becomes text piece by piece: ten thousand
 * members in one go would keep a thread from its other connections for a tenth of a second. */
struct list {
    struct member_info *members;
    size_t count;
    size_t next;
    bool is_lines;
    bool has_ended;
    struct buf text;
    size_t text_sent;
};

static void fill_list(struct list *list)
{
    buf_clear(&list->text);
    list->text_sent = 0;
    if (list->next == 0 && !list->is_lines) {
        buf_add_byte(&list->text, '[');
    }
    for (; list->next < list->count && list->text.size < LIST_PIECE_BYTES; list->next++) {
        if (list->next > 0 && !list->is_lines) {
            buf_add_string(&list->text, ",\n");
        }
        add_member(&list->text, &list->members[list->next]);
        if (list->is_lines) {
            buf_add_byte(&list->text, '\n');
        }
    }
    list->has_ended = list->next == list->count;
    if (list->has_ended && !list->is_lines) {
        buf_add_string(&list->text, "]\n");
    }
}

static ssize_t read_list(void *context, uint64_t position, char *buffer, size_t size)
{
    (void)position;
    struct list *list = context;
    if (list->text_sent == list->text.size) {
        if (list->has_ended) {
            return MHD_CONTENT_READER_END_OF_STREAM;
        }
        fill_list(list);
    }
    const size_t left = list->text.size - list->text_sent;
    const size_t count = left < size ? left : size;
    memcpy(buffer, list->text.data + list->text_sent, count);
    list->text_sent += count;
    return (ssize_t)count;
}

static void free_list(void *context)
{
    struct list *list = context;
    free(list->members);
    buf_done(&list->text);
    free(list);
}

static void begin_get(struct request *request)
{
    struct list *list = mem_alloc(sizeof *list);
    list->count = network_members(request->server->options.network, &list->members);
    list->is_lines = request_accepts(request, "application/x-ndjson");
    struct MHD_Response *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, LIST_PIECE_BYTES, read_list, list, free_list);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                            list->is_lines ? "application/x-ndjson" : "application/json");
    answer(request, MHD_HTTP_OK, response);
}

const struct endpoint endpoint_members_get = {
    .method = "GET",
    .prefix = "/members",
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

/* On the core thread. */
static void has_left(void *context)
{
    request_resume(context);
}

static void end_post(struct request *request)
{
    const char *op = json_body_end(request->state, request);
    if (!op) {
        return;
    }
    if (strcmp(op, "leave") != 0) {
        json_body_refuse(request);
        return;
    }
    request_suspend(request);
    network_leave(request->server->options.network, MEMBER_LEFT, has_left, request);
}

static void resumed_post(struct request *request)
{
    json_t *body = json_object();
    char id[NODE_ID_HEX_CHARS + 1];
    node_id_format(node_identity(request->node), id);
    json_object_set_new(body, "node", json_string(id));
    json_object_set_new(body, "state", json_string(member_status_name(MEMBER_LEFT)));
    answer_json(request, MHD_HTTP_OK, body);
}

static void done_post(struct request *request)
{
    json_body_done(request->state);
    free(request->state);
}

const struct endpoint endpoint_members_post = {
    .method = "POST",
    .prefix = "/members",
    .begin = begin_post,
    .body = body_post,
    .end = end_post,
    .resumed = resumed_post,
    .done = done_post,
};

static void add_event(struct buf *text, const struct member_event *event)
{
    const char *name = member_event_name(event->kind);
    json_t *object = json_object();
    json_object_set_new(object, "event", json_string(name));
    json_object_set_new(object, "time", json_of_time(event->wall_ms));
    set_node(object, &event->member);
    buf_add_format(text, "event: %s\ndata: ", name);
    add_json(text, object);
    buf_add_string(text, "\n\n");
}

void members_add_events(struct network *network, uint64_t *position, size_t limit_bytes,
                        struct buf *text)
{
    struct member_event events[EVENTS_AT_ONCE];
    size_t count = 0;
    do {
        uint64_t missed = 0;
        count = member_events_read(network_events(network), position, events, ARRAY_SIZE(events),
                                   &missed);
        if (missed > 0) {
            buf_add_format(text,
                           "event: member_gap\ndata: {\"event\":\"member_gap\",\"missed\":%" PRIu64
                           "}\n\n",
                           missed);
        }
        for (size_t i = 0; i < count; i++) {
            add_event(text, &events[i]);
        }
    } while (count == ARRAY_SIZE(events) && text->size < limit_bytes);
}
