/* SPDX-License-Identifier: Apache-2.0 */
#include "http/request_priv.h"

#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/hex.h"
#include "base/mem.h"
#include "http/ack_priv.h"
#include "http/field.h"
#include "http/server_priv.h"
#include "http/url.h"

/* The URL without its query, still escaped: a path of 4096 bytes can have three times as many. */
#define URL_BYTES_MAX ((size_t)3 * PATH_BYTES_MAX + 64)

static bool takes_url(const struct endpoint *endpoint, const char *url)
{
    const size_t size = strlen(endpoint->prefix);
    if (strncmp(url, endpoint->prefix, size) != 0) {
        return false;
    }
    const char *rest = url + size;
    switch (endpoint->argument) {
    case PATH_TREE:
        return *rest == 0 || *rest == '/';
    case PATH_ID:
    case PATH_KEY: {
        const char *end = *rest == '/' ? strchrnul(rest + 1, '/') : NULL;
        return end && strcmp(end, endpoint->suffix ? endpoint->suffix : "") == 0;
    }
    case PATH_NONE:
    default:
        return *rest == 0;
    }
}

/* A key is written as itself, or as the whole id whose first 160 bits it is. */
static int read_key(struct bytes text, struct ring_key *ret_key)
{
    struct id id;
    if (text.size == ID_HEX_CHARS) {
        const int err = id_parse(text, &id);
        if (!err) {
            *ret_key = ring_key_of(&id);
        }
        return err;
    }
    return text.size == sizeof ret_key->bytes * 2
               ? hex_parse(text, sizeof ret_key->bytes, ret_key->bytes)
               : -EINVAL;
}

static int read_argument(struct request *request, const char *url)
{
    const char *rest = url + strlen(request->endpoint->prefix);
    if (request->endpoint->argument == PATH_TREE) {
        const int err = url_decode_path(rest, &request->path_buf, &request->path_has_slash);
        request->path = buf_bytes(&request->path_buf);
        return err;
    }
    if (request->endpoint->argument == PATH_ID) {
        const size_t size = strcspn(rest + 1, "/");
        return id_parse(BYTES((const uint8_t *)rest + 1, size), &request->id);
    }
    if (request->endpoint->argument == PATH_KEY) {
        return read_key(bytes_of_string(rest + 1), &request->key);
    }
    return 0;
}

static const char *find_parameter(const struct request *request, const char *name)
{
    for (size_t i = 0; i < request->parameters_count; i++) {
        if (strcmp(request->parameters[i].name, name) == 0) {
            return (const char *)request->values.data + request->parameters[i].offset;
        }
    }
    return NULL;
}

static enum MHD_Result take_parameter(void *context, enum MHD_ValueKind kind, const char *name,
                                      const char *value)
{
    (void)kind;
    struct request *request = context;
    const char *const *known = request->endpoint->parameters;
    while (known && *known && strcmp(*known, name) != 0) {
        known++;
    }
    if (!known || !*known) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query", "there is no parameter '%.64s'",
                     name);
        return MHD_NO;
    }
    struct buf *values = &request->values;
    const size_t offset = values->size;
    if (find_parameter(request, *known) || !value || url_decode(value, strlen(value), values) ||
        (values->size > offset && memchr(values->data + offset, 0, values->size - offset))) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_query",
                     "'%s' wants one value, percent-encoded and without NUL", *known);
        return MHD_NO;
    }
    buf_add_byte(values, 0);
    CHECK(request->parameters_count < REQUEST_PARAMETERS_MAX);
    request->parameters[request->parameters_count].name = *known;
    request->parameters[request->parameters_count].offset = offset;
    request->parameters_count++;
    return MHD_YES;
}

static void answer_bad_argument(struct request *request, int err)
{
    if (request->endpoint->argument == PATH_ID) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_id", "an id has 64 lower-case hex digits");
    } else if (request->endpoint->argument == PATH_KEY) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_id",
                     "a key has 40 lower-case hex digits, or is an id of 64");
    } else {
        answer_failure(request, err);
    }
}

/* Finds the endpoint; answers if there is none. */
static void route(struct request *request, const char *url, const char *method)
{
    CLEANUP_BUF struct buf allowed = BUF_INIT;
    request->is_head = strcmp(method, "HEAD") == 0;
    const char *wanted = request->is_head ? "GET" : method;
    for (size_t i = 0; i < endpoints_count; i++) {
        if (!takes_url(endpoints[i], url)) {
            continue;
        }
        if (strcmp(endpoints[i]->method, wanted) == 0) {
            request->endpoint = endpoints[i];
            return;
        }
        const bool is_get = strcmp(endpoints[i]->method, MHD_HTTP_METHOD_GET) == 0;
        buf_add_format(&allowed, "%s%s%s", allowed.size ? ", " : "", endpoints[i]->method,
                       is_get ? ", HEAD" : "");
    }
    if (allowed.size == 0) {
        answer_error(request, MHD_HTTP_NOT_FOUND, "not_found", "there is nothing at this URL");
        return;
    }
    CLEANUP_BUF struct buf body = BUF_INIT;
    buf_add_format(&body, "{\"error\":\"method_not_allowed\",\"message\":\"allowed here: %s\"}\n",
                   buf_string(&allowed));
    struct MHD_Response *response =
        MHD_create_response_from_buffer(body.size, body.data, MHD_RESPMEM_MUST_COPY);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, buf_string(&allowed));
    answer(request, MHD_HTTP_METHOD_NOT_ALLOWED, response);
}

struct framing {
    unsigned lengths;
    unsigned encodings;
    bool is_chunked;
};

static enum MHD_Result count_framing(void *context, enum MHD_ValueKind kind, const char *name,
                                     const char *value)
{
    (void)kind;
    struct framing *framing = context;
    if (strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0) {
        framing->lengths++;
    } else if (strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0) {
        framing->encodings++;
        framing->is_chunked = value && strcasecmp(value, "chunked") == 0;
    }
    return MHD_YES;
}

/* False if the end of the body could be read in two ways (request smuggling, RFC 9112, section
 * 6.3), or can't be seen. */
static bool is_framed(struct request *request)
{
    struct framing framing = {0};
    MHD_get_connection_values(request->connection, MHD_HEADER_KIND, count_framing, &framing);
    return framing.lengths + framing.encodings <= 1 &&
           (framing.encodings == 0 || framing.is_chunked);
}

static bool has_body(struct request *request)
{
    const char *length = request_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return request_header(request, MHD_HTTP_HEADER_TRANSFER_ENCODING) ||
           (length && strcmp(length, "0") != 0);
}

/* The call at the headers. */
static void begin(struct request *request, const char *url, const char *method)
{
    if (strlen(url) > URL_BYTES_MAX) {
        answer_error(request, MHD_HTTP_URI_TOO_LONG, "path_too_long", "the URL is too long");
        return;
    }
    route(request, url, method);
    if (request->is_answered) {
        return;
    }
    const int err = read_argument(request, url);
    if (err) {
        answer_bad_argument(request, err);
        return;
    }
    MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND, take_parameter, request);
    if (request->is_answered) {
        return;
    }
    if (!request->endpoint->body && has_body(request)) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_body", "this request takes no body");
        return;
    }
    connection_enter(request->server, request->peer,
                     request->endpoint->body ? CONNECTION_BODY : CONNECTION_ANSWER);
    request->endpoint->begin(request);
}

/* Of a request that was answered in the middle of its body: is the end near enough? */
static bool is_heard_out(struct request *request)
{
    const uint64_t length = request_length(request);
    const uint64_t left = length == UINT64_MAX ? 0 : length - request->body_bytes;
    return left <= REQUEST_DRAIN_BYTES_MAX && request->dropped_bytes <= REQUEST_DRAIN_BYTES_MAX;
}

/* Sends the answer past libmicrohttpd, which can't before the end of a body, and has it close the
 * connection. Nothing else is on its way to this client: answers before this one are in the hands
 * of the kernel, where there is room for one as short. */
static enum MHD_Result cut_short(struct request *request)
{
    const int fd = request->peer->fd;
    (void)!send(fd, request->early.data, request->early.size, MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    acceptor_linger(request->server->acceptor, request->peer);
    return MHD_NO;
}

static enum MHD_Result take_body(struct request *request, const char *data, size_t *size)
{
    size_t taken = *size;
    if (request->is_answered) {
        request->dropped_bytes += taken;
    } else if (request->endpoint->body) {
        request->is_in_body = true;
        taken = request->endpoint->body(request, BYTES((const uint8_t *)data, *size));
        request->is_in_body = false;
    }
    request->body_bytes += taken;
    request->peer->body_seen += taken;
    request->server->counters.body_bytes += taken;
    *size -= taken;
    return request->early.size > 0 && !is_heard_out(request) ? cut_short(request) : MHD_YES;
}

/* The first call, at the headers, of a request with a body: what is refused is refused here. */
static void begin_before_body(struct request *request, const char *url, const char *method)
{
    request->has_begun = true;
    connection_enter(request->server, request->peer, CONNECTION_BODY);
    if (!is_framed(request)) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_body",
                     "one Content-Length, or Transfer-Encoding: chunked");
    } else {
        request->waits_for_body = request_length(request) <= REQUEST_DRAIN_BYTES_MAX &&
                                  !request_header(request, MHD_HTTP_HEADER_EXPECT);
        begin(request, url, method);
    }
    if (request->is_answered && !request->late) {
        /* libmicrohttpd closes the connection, since it does not read the body. */
        acceptor_linger(request->server->acceptor, request->peer);
    }
}

/* The headers, or the body as far as it came. */
static enum MHD_Result take_piece(struct request *request, const char *url, const char *method,
                                  const char *data, size_t *size)
{
    if (*size > 0) {
        return take_body(request, data, size);
    }
    request->waits_for_body = false;
    if (request->late) {
        MHD_queue_response(request->connection, request->late_status, request->late);
        return MHD_YES;
    }
    if (!request->has_begun) {
        request->has_begun = true;
        begin(request, url, method);
    }
    if (request->is_answered) {
        return MHD_YES;
    }
    if (!request->has_ended) {
        request->has_ended = true;
        connection_enter(request->server, request->peer, CONNECTION_ANSWER);
        if (request->endpoint->end) {
            server_ending(request->server, request);
            request->endpoint->end(request);
        }
    } else if (request->ack) {
        ack_resumed(request);
    } else if (request->endpoint->resumed) {
        request->endpoint->resumed(request);
    }
    /* Neither answered nor waiting: a mistake of the endpoint; the connection is closed. */
    return request->is_answered || request->is_suspended ? MHD_YES : MHD_NO;
}

static struct request *request_new(struct server *server, struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct request *request = mem_alloc(sizeof *request);
    request->server = server;
    request->node = server->node;
    request->connection = connection;
    request->peer = info->socket_context;
    server->counters.requests++;
    return request;
}

enum MHD_Result request_handle(void *context, struct MHD_Connection *connection, const char *url,
                               const char *method, const char *version, const char *upload_data,
                               size_t *upload_data_size, void **state)
{
    (void)version;
    struct server *server = context;
    struct request *request = *state;
    /* When the server ends, what is complete gets its answer, all else is closed. */
    if (!server_enter(server, request && request->has_ended)) {
        return MHD_NO;
    }
    enum MHD_Result result = MHD_YES;
    if (!request) {
        request = request_new(server, connection);
        *state = request;
        /* Not yet without a body: libmicrohttpd takes an answer this early for the refusal of an
         * upload and closes the connection. */
        if (has_body(request)) {
            begin_before_body(request, url, method);
        }
    } else {
        request->is_suspended = false;
        result = take_piece(request, url, method, upload_data, upload_data_size);
    }
    server_leave(server);
    return result;
}

void request_completed(void *context, struct MHD_Connection *connection, void **state,
                       enum MHD_RequestTerminationCode why)
{
    (void)connection;
    (void)why;
    struct server *server = context;
    struct request *request = *state;
    if (!request) {
        return;
    }
    if (request->ack) {
        ack_done(request);
    }
    if (request->state && request->endpoint->done) {
        request->endpoint->done(request);
    }
    connection_enter(server, request->peer, CONNECTION_IDLE);
    if (request->late) {
        MHD_destroy_response(request->late);
    }
    buf_done(&request->path_buf);
    buf_done(&request->values);
    buf_done(&request->early);
    buf_done(&request->published);
    server_ended(server, request);
    free(request);
    *state = NULL;
}

const char *request_parameter(struct request *request, const char *name)
{
    return find_parameter(request, name);
}

int request_number(struct request *request, const char *name, uint64_t least, uint64_t most,
                   uint64_t otherwise, uint64_t *ret_number)
{
    const char *text = request_parameter(request, name);
    if (!text) {
        *ret_number = otherwise;
        return 0;
    }
    return field_number_parse(text, least, most, ret_number);
}

uint64_t request_length(struct request *request)
{
    const char *text = request_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
    uint64_t length = 0;
    if (request_header(request, MHD_HTTP_HEADER_TRANSFER_ENCODING) ||
        (text && field_number_parse(text, 0, UINT64_MAX, &length))) {
        return UINT64_MAX;
    }
    return length;
}

bool request_switch(struct request *request, const char *name)
{
    const char *value = request_parameter(request, name);
    return value && strcmp(value, "0") != 0;
}

const char *request_header(struct request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

bool request_accepts(struct request *request, const char *type)
{
    const char *accept = request_header(request, MHD_HTTP_HEADER_ACCEPT);
    return accept && strcasestr(accept, type);
}

bool request_is_local(const struct request *request)
{
    return request->peer->is_local;
}

void request_suspend(struct request *request)
{
    request->is_suspended = true;
    server_suspend(request->server, request->connection);
}

void request_resume(struct request *request)
{
    /* After this the request may be gone. */
    server_resume(request->server, request->connection);
}
