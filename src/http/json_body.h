/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_JSON_BODY_H
#define HTTP_JSON_BODY_H

/*
 * json_body: a request's body that is a JSON object {"op":...} of at most REQUEST_JSON_BYTES_MAX,
 * gathered piece by piece.
 */

#include "http/request_priv.h"

struct json_body {
    struct buf text;
    json_t *json; /* after json_body_end() */
};

void json_body_done(struct json_body *body);

/* At the headers: answers if the body will be too large. */
void json_body_begin(struct request *request);

/* For endpoint->body; gives what it took. */
size_t json_body_add(struct json_body *body, struct request *request, struct bytes piece);

/* At the end: parses. The value of "op", borrowed; NULL: it is no such object, or too large, and
 * that was answered. */
const char *json_body_end(struct json_body *body, struct request *request);

/* The answer to a body whose "op" is not known, or lacks what it needs. */
void json_body_refuse(struct request *request);

/* A member that is a string, borrowed, or NULL. */
const char *json_body_string(const struct json_body *body, const char *key);

#endif
