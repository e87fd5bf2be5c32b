/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Each request is one run of an exchange: the easy handle with its options, and what the callbacks
 * need. client_perform() lets libcurl drive it; a stream drives it by the multi interface, a step
 * whenever somebody wants to read and nothing is there.
 */

#include "client/client.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdlib.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

/* Bulk needs a large one: 3.8 GB/s instead of 1.4. */
#define BUFFER_BYTES (512L * 1024)
#define CONNECT_TIMEOUT_S 10L
/* An answer has some twenty headers of less than 100 bytes; the path in one may have 12 KiB. */
#define HEADERS_BYTES_MAX ((size_t)64 * 1024)
#define ERROR_BODY_BYTES_MAX ((size_t)64 * 1024)
/* A stream that nobody reads stops the connection at this. */
#define STREAM_AHEAD_BYTES_MAX ((size_t)2 * 1024 * 1024)

struct exchange {
    struct client *client;
    const struct client_request *request;
    struct client_response *response;
    struct curl_slist *headers;
    uint64_t heard_ms;  /* when the node last sent something */
    struct buf *stream; /* takes the body instead of on_data */
    bool is_paused;
    bool is_silent_too_long;
};

struct client {
    char *url;         /* without '/' at its end */
    char *socket_path; /* or NULL */
    CURL *easy;
    const _Atomic bool *is_stopped; /* of requests that name none */
    char why[CURL_ERROR_SIZE];
};

static uint64_t now_ms(void)
{
    return clock_monotonic_ms(clock_real());
}

static struct client *new_client(char *url, char *socket_path)
{
    /* Once for the process, however often it is called; the first call is before any thread. */
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        mem_out_of_memory();
    }
    struct client *client = mem_alloc(sizeof *client);
    client->url = url;
    client->socket_path = socket_path;
    client->easy = curl_easy_init();
    if (!client->easy) {
        mem_out_of_memory();
    }
    return client;
}

/* What stands behind "unix:" or "http+unix:", with one '/' at its begin; NULL if `text` does not
 * begin so. */
static const char *socket_of(const char *text)
{
    static const char *const schemes[] = {"unix:", "http+unix:"};
    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
        const size_t size = strlen(schemes[i]);
        if (strncmp(text, schemes[i], size) == 0) {
            text += size;
            while (text[0] == '/' && text[1] == '/') {
                text++;
            }
            return text;
        }
    }
    return NULL;
}

struct client *client_new(const char *address)
{
    const char *socket_path = socket_of(address);
    if (socket_path && *socket_path) {
        return client_new_unix(socket_path);
    }
    const bool has_scheme = strstr(address, "://") != NULL;
    const bool is_http =
        strncmp(address, "http://", 7) == 0 || strncmp(address, "https://", 8) == 0;
    if (socket_path || (has_scheme && !is_http) || !*address) {
        return NULL;
    }
    char *url = has_scheme ? mem_copy_string(address) : mem_format("http://%s", address);
    size_t size = strlen(url);
    while (size > 0 && url[size - 1] == '/') {
        url[--size] = 0;
    }
    return new_client(url, NULL);
}

struct client *client_new_unix(const char *socket_path)
{
    return new_client(mem_copy_string("http://localhost"), mem_copy_string(socket_path));
}

struct client *client_clone(const struct client *client)
{
    return new_client(mem_copy_string(client->url),
                      client->socket_path ? mem_copy_string(client->socket_path) : NULL);
}

void client_set_stopped(struct client *client, const _Atomic bool *is_stopped)
{
    client->is_stopped = is_stopped;
}

void client_free(struct client *client)
{
    if (!client) {
        return;
    }
    curl_easy_cleanup(client->easy);
    free(client->url);
    free(client->socket_path);
    free(client);
}

bool client_is_unix(const struct client *client)
{
    return client->socket_path != NULL;
}

void client_response_done(struct client_response *response)
{
    buf_done(&response->headers);
    buf_done(&response->body);
    buf_done(&response->failure);
    buf_done(&response->code);
}

static bool is_success(long status)
{
    return status >= 200 && status < 300;
}

/* ---- callbacks of libcurl ---------------------------------------------------------------------
 */

static size_t on_header(char *data, size_t size, size_t count, void *context)
{
    struct exchange *exchange = context;
    struct buf *headers = &exchange->response->headers;
    exchange->heard_ms = now_ms();
    /* A status line begins the head; that of an interim answer (100) comes before the last one. */
    if (count >= 5 && strncmp(data, "HTTP/", 5) == 0) {
        buf_clear(headers);
    }
    if (headers->size + size * count > HEADERS_BYTES_MAX) {
        return 0;
    }
    buf_add(headers, BYTES((const uint8_t *)data, size * count));
    return size * count;
}

static int take_body(struct exchange *exchange, struct bytes data)
{
    struct client_response *response = exchange->response;
    const struct client_request *request = exchange->request;
    curl_easy_getinfo(exchange->client->easy, CURLINFO_RESPONSE_CODE, &response->status);
    if (!is_success(response->status)) {
        /* Whatever is longer than an error of ours is cut: it is not one. */
        const size_t room = ERROR_BODY_BYTES_MAX - response->body.size;
        buf_add(&response->body, BYTES(data.data, data.size < room ? data.size : room));
        return 0;
    }
    if (exchange->stream) {
        buf_add(exchange->stream, data);
        return 0;
    }
    if (request->on_data) {
        return request->on_data(request->context, data);
    }
    if (response->body.size + data.size > CLIENT_BODY_BYTES_MAX) {
        return -EFBIG;
    }
    buf_add(&response->body, data);
    return 0;
}

static size_t on_body(char *data, size_t size, size_t count, void *context)
{
    struct exchange *exchange = context;
    if (exchange->stream && exchange->stream->size >= STREAM_AHEAD_BYTES_MAX) {
        exchange->is_paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    const int err = take_body(exchange, BYTES((const uint8_t *)data, size * count));
    exchange->heard_ms = now_ms();
    if (err) {
        exchange->response->err = err;
        return CURL_WRITEFUNC_ERROR;
    }
    return size * count;
}

static size_t on_read(char *data, size_t size, size_t count, void *context)
{
    struct exchange *exchange = context;
    const struct client_source *source = exchange->request->source;
    size_t bytes = 0;
    const int err = source->read(source->context, data, size * count, &bytes);
    if (err) {
        exchange->response->err = err;
        return CURL_READFUNC_ABORT;
    }
    return bytes;
}

static int on_progress(void *context, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up)
{
    (void)down_total, (void)down, (void)up_total, (void)up;
    struct exchange *exchange = context;
    const struct client_request *request = exchange->request;
    exchange->is_silent_too_long =
        request->silence_ms_max && now_ms() - exchange->heard_ms > request->silence_ms_max;
    return exchange->is_silent_too_long || (request->is_stopped && *request->is_stopped);
}

/* ---- an exchange ------------------------------------------------------------------------------
 */

/* An option that this libcurl takes; that it takes it is no question of input. */
#define SET(easy, option, value) CHECK(curl_easy_setopt(easy, option, value) == CURLE_OK)

static void set_body(const struct exchange *exchange)
{
    CURL *easy = exchange->client->easy;
    const struct client_request *request = exchange->request;
    if (request->source) {
        SET(easy, CURLOPT_UPLOAD, 1L);
        SET(easy, CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_BYTES);
        SET(easy, CURLOPT_READFUNCTION, on_read);
        SET(easy, CURLOPT_READDATA, exchange);
        if (request->source->length_bytes >= 0) {
            SET(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->source->length_bytes);
        }
    } else if (request->method && strcmp(request->method, "HEAD") == 0) {
        SET(easy, CURLOPT_NOBODY, 1L);
    } else if (request->method) {
        SET(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.size);
        SET(easy, CURLOPT_POSTFIELDS, request->body.size ? (const char *)request->body.data : "");
    }
    if (request->method && strcmp(request->method, "HEAD") != 0) {
        SET(easy, CURLOPT_CUSTOMREQUEST, request->method);
    }
}

static void add_header(struct exchange *exchange, const char *line)
{
    struct curl_slist *grown = curl_slist_append(exchange->headers, line);
    if (!grown) {
        mem_out_of_memory();
    }
    exchange->headers = grown;
}

static void set_headers(struct exchange *exchange)
{
    const struct client_request *request = exchange->request;
    bool has_type = false;
    for (size_t i = 0; i < CLIENT_HEADERS_MAX && request->headers[i]; i++) {
        add_header(exchange, request->headers[i]);
        has_type |= strncasecmp(request->headers[i], "Content-Type:", 13) == 0;
    }
    if (!has_type) {
        /* Not the one of a web form, which is libcurl's own. */
        add_header(exchange, "Content-Type:");
    }
    SET(exchange->client->easy, CURLOPT_HTTPHEADER, exchange->headers);
}

static void begin_exchange(struct exchange *exchange)
{
    struct client *client = exchange->client;
    struct client_response *response = exchange->response;
    const struct client_request *request = exchange->request;
    CURL *easy = client->easy;
    buf_clear(&response->headers);
    buf_clear(&response->body);
    buf_clear(&response->failure);
    buf_clear(&response->code);
    response->status = 0;
    response->err = 0;
    response->no_node = false;
    client->why[0] = 0;

    curl_easy_reset(easy); /* keeps the connection */
    CLEANUP_FREE char *url = mem_format("%s%s", client->url, request->target);
    if (curl_easy_setopt(easy, CURLOPT_URL, url) != CURLE_OK) {
        mem_out_of_memory();
    }
    if (client->socket_path) {
        SET(easy, CURLOPT_UNIX_SOCKET_PATH, client->socket_path);
    }
    SET(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    /* The node was named; what the environment says of web proxies is not about it. */
    SET(easy, CURLOPT_NOPROXY, "*");
    SET(easy, CURLOPT_PATH_AS_IS, 1L); /* the node refuses "..", libcurl would swallow it */
    SET(easy, CURLOPT_NOSIGNAL, 1L);
    SET(easy, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
    SET(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    SET(easy, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    SET(easy, CURLOPT_ERRORBUFFER, client->why);
    SET(easy, CURLOPT_USERAGENT, "artel");
    SET(easy, CURLOPT_HEADERFUNCTION, on_header);
    SET(easy, CURLOPT_HEADERDATA, exchange);
    SET(easy, CURLOPT_WRITEFUNCTION, on_body);
    SET(easy, CURLOPT_WRITEDATA, exchange);
    if (request->silence_ms_max || request->is_stopped) {
        SET(easy, CURLOPT_NOPROGRESS, 0L);
        SET(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
        SET(easy, CURLOPT_XFERINFODATA, exchange);
    }
    exchange->heard_ms = now_ms();
    set_body(exchange);
    set_headers(exchange);
}

/* {"error":"CODE","message":"for people"} */
static void take_node_error(struct client_response *response)
{
    json_t *object = json_loadb(buf_string(&response->body), response->body.size, 0, NULL);
    const char *code = json_string_value(json_object_get(object, "error"));
    const char *message = json_string_value(json_object_get(object, "message"));
    if (code) {
        buf_add_string(&response->code, code);
        buf_add_format(&response->failure, "%s (%s)", message ? message : "refused", code);
    } else {
        buf_add_format(&response->failure, "the node answers with status %ld", response->status);
    }
    json_decref(object);
}

static void tell_curl_failure(const struct exchange *exchange, CURLcode result)
{
    const struct client *client = exchange->client;
    struct client_response *response = exchange->response;
    const char *why = client->why[0] ? client->why : curl_easy_strerror(result);
    response->no_node = true;
    switch (result) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
        buf_add_format(&response->failure,
                       "no node answers at %s%s: start one with `artel node --data DIR`",
                       client->socket_path ? "unix:" : "",
                       client->socket_path ? client->socket_path : client->url);
        break;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        buf_add_format(&response->failure, "'%s' is no address of a node", client->url);
        break;
    default:
        response->no_node = false;
        buf_add_format(&response->failure, "the connection to the node broke: %s", why);
        break;
    }
}

static bool end_exchange(struct exchange *exchange, CURLcode result)
{
    struct client_response *response = exchange->response;
    curl_easy_getinfo(exchange->client->easy, CURLINFO_RESPONSE_CODE, &response->status);
    curl_slist_free_all(exchange->headers);
    exchange->headers = NULL;
    if (response->err) {
        buf_add_string(&response->failure, err_text(response->err));
        return false;
    }
    /* A node that refuses the beginning of a body need not take the rest of it. */
    if (response->status >= 300 && response->body.size) {
        take_node_error(response);
        return false;
    }
    if (exchange->is_silent_too_long) {
        buf_add_string(&response->failure, "the node has fallen silent");
        return false;
    }
    if (result != CURLE_OK) {
        tell_curl_failure(exchange, result);
        return false;
    }
    if (!is_success(response->status)) {
        take_node_error(response);
        return false;
    }
    return true;
}

bool client_perform(struct client *client, const struct client_request *request,
                    struct client_response *response)
{
    struct client_request own = *request;
    own.is_stopped = own.is_stopped ? own.is_stopped : client->is_stopped;
    struct exchange exchange = {.client = client, .request = &own, .response = response};
    begin_exchange(&exchange);
    return end_exchange(&exchange, curl_easy_perform(client->easy));
}

char *client_header(const struct client_response *response, const char *name)
{
    const size_t name_size = strlen(name);
    const char *found = NULL;
    for (const char *line = buf_string(&response->headers); *line; line += strcspn(line, "\n")) {
        line += *line == '\n';
        if (strncasecmp(line, name, name_size) == 0 && line[name_size] == ':') {
            found = line + name_size + 1;
        }
    }
    if (!found) {
        return NULL;
    }
    found += strspn(found, " \t");
    const size_t size = strcspn(found, "\r\n");
    char *value = mem_copy(found, size + 1);
    value[size] = 0;
    return value;
}

bool client_is_code(const struct client_response *response, const char *code)
{
    return bytes_equal(buf_bytes(&response->code), bytes_of_string(code));
}

bool client_may_pass(const struct client_response *response)
{
    return !response->err && (response->status < 400 || response->status >= 500);
}

/* ---- streams ----------------------------------------------------------------------------------
 */

struct client_stream {
    struct exchange exchange;
    CURLM *multi;
    struct buf data; /* taken from the connection, given out at the next read */
    struct buf given;
    bool is_over;
    bool is_good;
};

/* Waits for more and takes it. True while the exchange goes on. */
static bool stream_step(struct client_stream *stream)
{
    int running = 0;
    CURLMcode result = curl_multi_perform(stream->multi, &running);
    if (result == CURLM_OK && running && !stream->data.size) {
        result = curl_multi_poll(stream->multi, NULL, 0, 1000, NULL);
    }
    if (result != CURLM_OK) {
        mem_out_of_memory(); /* its other errors are wrong calls */
    }
    int left = 0;
    const CURLMsg *message = curl_multi_info_read(stream->multi, &left);
    if (message && message->msg == CURLMSG_DONE) {
        stream->is_over = true;
        stream->is_good = end_exchange(&stream->exchange, message->data.result);
    }
    return !stream->is_over;
}

/* The head of the last answer is here: an empty line ends it. */
static bool has_head(const struct client_stream *stream)
{
    const struct buf *headers = &stream->exchange.response->headers;
    long status = 0;
    curl_easy_getinfo(stream->exchange.client->easy, CURLINFO_RESPONSE_CODE, &status);
    return is_success(status) && headers->size >= 4 &&
           memcmp(headers->data + headers->size - 4, "\r\n\r\n", 4) == 0;
}

bool client_stream_open(struct client *client, const struct client_request *request,
                        struct client_response *response, struct client_stream **ret_stream)
{
    struct client_stream *stream = mem_alloc(sizeof *stream);
    stream->exchange = (struct exchange){
        .client = client, .request = request, .response = response, .stream = &stream->data};
    stream->multi = curl_multi_init();
    if (!stream->multi) {
        mem_out_of_memory();
    }
    begin_exchange(&stream->exchange);
    CHECK(curl_multi_add_handle(stream->multi, client->easy) == CURLM_OK);
    while (!has_head(stream) && stream_step(stream)) {
    }
    if (stream->is_over && !stream->is_good) {
        client_stream_close(stream);
        return false;
    }
    *ret_stream = stream;
    return true;
}

int client_stream_read(struct client_stream *stream, struct bytes *ret_data)
{
    while (!stream->data.size && !stream->is_over) {
        if (stream->exchange.is_paused) {
            stream->exchange.is_paused = false;
            curl_easy_pause(stream->exchange.client->easy, CURLPAUSE_CONT);
        } else {
            stream_step(stream);
        }
    }
    if (!stream->data.size && !stream->is_good) {
        return -EIO;
    }
    /* What comes next goes into the other buffer, so that what is given out stays. */
    const struct buf full = stream->data;
    stream->data = stream->given;
    stream->given = full;
    buf_clear(&stream->data);
    *ret_data = buf_bytes(&stream->given);
    return 0;
}

void client_stream_close(struct client_stream *stream)
{
    if (!stream) {
        return;
    }
    curl_multi_remove_handle(stream->multi, stream->exchange.client->easy);
    curl_multi_cleanup(stream->multi);
    curl_slist_free_all(stream->exchange.headers);
    buf_done(&stream->data);
    buf_done(&stream->given);
    free(stream);
}
