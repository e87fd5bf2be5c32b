/* SPDX-License-Identifier: Apache-2.0 */
#include "http/json_body.h"

#include "http/server_priv.h"

void json_body_done(struct json_body *body)
{
    buf_done(&body->text);
    json_decref(body->json);
    *body = (struct json_body){0};
}

static void answer_too_large(struct request *request)
{
    answer_error(request, MHD_HTTP_CONTENT_TOO_LARGE, "too_large",
                 "a body has at most %zu bytes here", REQUEST_JSON_BYTES_MAX);
}

void json_body_begin(struct request *request)
{
    const uint64_t length = request_length(request);
    if (length != UINT64_MAX && length > REQUEST_JSON_BYTES_MAX) {
        answer_too_large(request);
    }
}

size_t json_body_add(struct json_body *body, struct request *request, struct bytes piece)
{
    if (body->text.size + piece.size > REQUEST_JSON_BYTES_MAX) {
        answer_too_large(request); /* chunked: it shows only now */
    } else {
        buf_add(&body->text, piece);
    }
    return piece.size;
}

void json_body_refuse(struct request *request)
{
    answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_body",
                 "a JSON object with \"op\" and what that needs, see docs/API.md");
}

const char *json_body_string(const struct json_body *body, const char *key)
{
    return json_string_value(json_object_get(body->json, key));
}

const char *json_body_end(struct json_body *body, struct request *request)
{
    json_error_t error;
    body->json =
        json_loadb((const char *)body->text.data, body->text.size, JSON_REJECT_DUPLICATES, &error);
    const char *op = json_body_string(body, "op");
    if (!op) {
        json_body_refuse(request);
    }
    return op;
}
