/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdlib.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "http/field.h"
#include "http/request_priv.h"
#include "http/server_priv.h"

void answer(struct request *request, unsigned status, struct MHD_Response *response)
{
    CHECK(!request->is_answered);
    if (status >= 500) {
        request->server->counters.errors_5xx++;
    } else if (status >= 400) {
        request->server->counters.errors_4xx++;
    }
    request->is_answered = true;
    if (request->waits_for_body || request->is_in_body) {
        request->late = response;
        request->late_status = status;
        return;
    }
    MHD_queue_response(request->connection, status, response);
    MHD_destroy_response(response);
}

/* As libmicrohttpd would send it, but that the connection ends. */
static void write_early(struct request *request, unsigned status, const char *type,
                        struct bytes body)
{
    char date[FIELD_TIME_BYTES];
    field_date_format((int64_t)clock_wall_ms(node_clock(request->node)) * 1000000, date);
    buf_add_format(&request->early,
                   "HTTP/1.1 %u %s\r\nDate: %s\r\nConnection: close\r\nContent-Type: %s\r\n"
                   "Content-Length: %zu\r\n\r\n",
                   status, MHD_get_reason_phrase_for(status), date, type, body.size);
    buf_add(&request->early, body);
}

void answer_buf(struct request *request, unsigned status, const char *type, struct buf *body)
{
    const size_t size = body->size;
    if (request->is_in_body) {
        write_early(request, status, type, buf_bytes(body));
    }
    uint8_t *data = size > 0 ? STEAL_PTR(body->data) : mem_alloc(1);
    buf_done(body);
    *body = BUF_INIT;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(size, data, MHD_RESPMEM_MUST_FREE);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    answer(request, status, response);
}

void answer_json(struct request *request, unsigned status, json_t *body)
{
    struct buf text = BUF_INIT;
    char *dumped = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    buf_add_string(&text, dumped ? dumped : "{}");
    buf_add_byte(&text, '\n');
    free(dumped);
    answer_buf(request, status, "application/json", &text);
}

void answer_error(struct request *request, unsigned status, const char *code, const char *format,
                  ...)
{
    CLEANUP_FREE char *message = NULL;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&message, format, arguments) < 0) {
        mem_out_of_memory();
    }
    va_end(arguments);
    json_t *body = json_object();
    json_object_set_new(body, "error", json_string(code));
    json_t *text = json_string(message);
    json_object_set_new(body, "message", text ? text : json_string(code));
    answer_json(request, status, body);
}

void answer_failure(struct request *request, int err)
{
    static const struct {
        int err;
        unsigned status;
        const char *code;
        const char *message;
    } failures[] = {
        {-EINVAL, 400, "bad_path", "no such path can be"},
        {-EILSEQ, 400, "bad_utf8", "the path is not UTF-8"},
        {-ENAMETOOLONG, 414, "path_too_long", "a name has at most 255 bytes, a path at most 4096"},
        {-ENOENT, 404, "not_found", "it is not here"},
        {-EEXIST, 409, "exists", "something is there already"},
        {-EISDIR, 409, "is_directory", "a directory is there"},
        {-ENOTDIR, 409, "not_directory", "a name in the path is no directory"},
        {-ENOTEMPTY, 409, "not_empty", "the directory is not empty"},
        {-ESTALE, 412, "condition_failed", "it is not what the condition says"},
        {-EFBIG, 413, "too_large", "beyond the limit of a file or an operation"},
        {-EBADMSG, 500, "damaged", "the bytes are damaged or lost here"},
        {-ENOTRECOVERABLE, 503, "stopped", "a sync failed: no writes until the node is restarted"},
        {-EROFS, 503, "stopped", "the node takes no writes"},
        {-EAGAIN, 503, "busy", "try again"},
        {-EMFILE, 503, "busy", "too many open files"},
        {-ENOSPC, 507, "no_space", "the disk is full"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(failures); i++) {
        if (failures[i].err == err) {
            answer_error(request, failures[i].status, failures[i].code, "%s", failures[i].message);
            return;
        }
    }
    answer_error(request, MHD_HTTP_INTERNAL_SERVER_ERROR, "failed", "%s", err_text(err));
}

json_t *json_of_bytes(struct bytes text)
{
    /* What is kept was checked to be UTF-8 when it came; NUL can't be in it. */
    json_t *string = json_stringn((const char *)text.data, text.size);
    return string ? string : json_string("");
}

json_t *json_of_id(const struct id *id)
{
    char hex[ID_HEX_CHARS + 1];
    id_format(id, hex);
    return json_string(hex);
}

json_t *json_of_dot(const struct dot *dot)
{
    char text[FIELD_DOT_BYTES];
    field_dot_format(dot, text);
    return json_string(text);
}
