/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_REQUEST_PRIV_H
#define HTTP_REQUEST_PRIV_H

/*
 * request: one request from its headers to its answer.
 *
 * libmicrohttpd calls for each request: once at the headers, then with each piece of the body, then
 * at its end. An endpoint says what it does at each of these; it may answer at any. An answer in
 * the middle of a body (libmicrohttpd can't give one) waits for its end if that is near, else it is
 * sent at once and the connection ends. While it waits for a thread of somebody else's,
 * the connection is suspended: request_suspend() before the work is handed over, request_resume()
 * from any thread when it is done; the endpoint's resumed() is called then.
 *
 * Threads: all calls for one request come one after the other on a thread of libmicrohttpd.
 */

#include <jansson.h>
#include <microhttpd.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "node/node.h"
#include "wire/path.h"
#include "wire/ring_key.h"

#define REQUEST_JSON_BYTES_MAX ((size_t)64 * 1024)
/* Of one endpoint. */
#define REQUEST_PARAMETERS_MAX 12
/* A refused body of up to this size is heard out, so that its client surely reads why, and so is
 * what follows a failure in the middle; else the answer comes at once and the connection ends. */
#define REQUEST_DRAIN_BYTES_MAX ((uint64_t)1024 * 1024)

struct request;

struct endpoint {
    const char *method;
    const char *prefix; /* "/fs": that and what is below it */
    const char *suffix; /* what the path ends with behind an id ("/metadata"); NULL: the id */
    /* What comes behind the prefix. */
    enum { PATH_NONE, PATH_TREE, PATH_ID, PATH_KEY } argument;
    const char *const *parameters; /* names of its query parameters, ends with NULL; or NULL */
    /* At the headers. Answers, or leaves it for later. */
    void (*begin)(struct request *request);
    /* A piece of the body; may be NULL (a body is an error then). Tells how much it took: less than
     * all only if it has suspended the request. Not called again once it has answered. */
    size_t (*body)(struct request *request, struct bytes piece);
    /* The body is complete. Answers, or suspends. NULL: begin() has answered. */
    void (*end)(struct request *request);
    /* After request_resume(), if the request had been suspended by end(). */
    void (*resumed)(struct request *request);
    /* Frees request->state, if that is not NULL. */
    void (*done)(struct request *request);
};

struct request {
    struct server *server;
    struct node *node;
    struct MHD_Connection *connection;
    struct connection *peer;
    const struct endpoint *endpoint;
    void *state;         /* the endpoint's */
    struct buf path_buf; /* holds path, decoded */
    struct bytes path;   /* PATH_TREE: checked, the empty one is the root */
    bool path_has_slash; /* PATH_TREE: it ended with one */
    struct buf values;   /* decoded query parameters, each with its NUL */
    struct {
        const char *name; /* of endpoint->parameters */
        size_t offset;    /* in values */
    } parameters[REQUEST_PARAMETERS_MAX];
    size_t parameters_count;
    struct id id;        /* PATH_ID */
    struct ring_key key; /* PATH_KEY */
    bool has_begun;
    bool is_head;
    bool is_answered;
    bool is_suspended;
    bool has_ended;      /* the body is complete */
    bool is_ending;      /* counted in server->ending */
    bool waits_for_body; /* an answer is kept in `late` until the body is complete */
    bool is_in_body;     /* the endpoint's body() is at work: likewise, and in `early` */
    struct MHD_Response *late;
    unsigned late_status;
    struct buf early;      /* the same answer as it goes over the wire */
    uint64_t ack_count;    /* other nodes that shall have the change, before it is answered */
    uint64_t ack_wait_ms;  /* for so long */
    uint64_t copies_count; /* nodes that shall hold its content, this one too; 0: not asked for */
    uint64_t copies_wait_ms;
    struct buf published;   /* ids of that content, if it is asked for */
    struct ack *ack;        /* waits for that */
    uint64_t body_bytes;    /* taken so far */
    uint64_t dropped_bytes; /* of them, after the answer */
};

extern const struct endpoint *const endpoints[];
extern const size_t endpoints_count;

/* The value of a query parameter, decoded, or NULL. Borrowed from the request. */
const char *request_parameter(struct request *request, const char *name);
bool request_switch(struct request *request, const char *name);
/* A number in [least, most], or `otherwise` if it is not given. -EINVAL. */
[[nodiscard]] int request_number(struct request *request, const char *name, uint64_t least,
                                 uint64_t most, uint64_t otherwise, uint64_t *ret_number);
const char *request_header(struct request *request, const char *name);
/* What Content-Length says; 0: there is no body; UINT64_MAX: that is not known yet. */
uint64_t request_length(struct request *request);
/* True if the `Accept` header names the type. */
bool request_accepts(struct request *request, const char *type);
bool request_is_local(const struct request *request); /* came over the Unix socket */

void request_suspend(struct request *request);
void request_resume(struct request *request);

/* Answers. Each takes what it is given: `response` is destroyed, `body` freed. */
void answer(struct request *request, unsigned status, struct MHD_Response *response);
void answer_buf(struct request *request, unsigned status, const char *type, struct buf *body);
void answer_json(struct request *request, unsigned status, json_t *body);
/* `code` is one of docs/API.md. */
void answer_error(struct request *request, unsigned status, const char *code, const char *format,
                  ...) __attribute__((format(printf, 4, 5)));
/* The status and code for an error of the tree or the store. */
void answer_failure(struct request *request, int err);

/* Pieces of answers that several endpoints give. */
json_t *json_of_dot(const struct dot *dot);
json_t *json_of_id(const struct id *id);
json_t *json_of_bytes(struct bytes text);

#endif
