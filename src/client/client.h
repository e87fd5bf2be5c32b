/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

/*
 * client: requests to a node (docs/API.md) by libcurl. Bodies are streamed both ways; an error of
 * the node becomes one line for people.
 *
 * A client has one connection that it keeps between requests, and belongs to one thread; threads
 * that want to talk at once have one each. All calls block.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/cleanup.h"

struct client;

/* A client of the node at `address`: "http://HOST:PORT", "HOST:PORT", "unix:/SOCKET" or
 * "http+unix:/SOCKET". NULL: it is none of these. */
struct client *client_new(const char *address);
/* The same for a Unix socket. */
struct client *client_new_unix(const char *socket_path);
/* Another one of the same node, for another thread. */
struct client *client_clone(const struct client *client);
void client_free(struct client *client);
CLEANUP_DEFINE(client_free, struct client)

bool client_is_unix(const struct client *client);

/* The body of a request, if it is not at hand as one piece. */
struct client_source {
    /* Fills `data` with up to `size_bytes`; 0 bytes are the end. An error ends the request. */
    int (*read)(void *context, void *data, size_t size_bytes, size_t *ret_bytes);
    void *context;
    int64_t length_bytes; /* -1: unknown */
};

#define CLIENT_HEADERS_MAX 4

struct client_request {
    const char *method;                      /* NULL: GET */
    const char *target;                      /* "/fs/a%20b?depth=1" */
    const char *headers[CLIENT_HEADERS_MAX]; /* "Name: value"; NULL: none, or no more */
    struct bytes body;                       /* if there is no source */
    const struct client_source *source;
    /* Gets the body of an answer of success, piece by piece. An error ends the request. NULL: it
     * is gathered in the response, up to CLIENT_BODY_BYTES_MAX. */
    int (*on_data)(void *context, struct bytes data);
    void *context;
    /* End the request if the node sends nothing for so long; 0: wait. */
    uint64_t silence_ms_max;
    /* End the request, within a second, when this is true; NULL: never. */
    const _Atomic bool *is_stopped;
};

/* From now on each client_perform() of `client` that names no `is_stopped` has this one. */
void client_set_stopped(struct client *client, const _Atomic bool *is_stopped);

/* What is gathered in memory: metadata text is 13.5 MB at most, a page of a listing less. */
#define CLIENT_BODY_BYTES_MAX ((size_t)64 * 1024 * 1024)

struct client_response {
    long status; /* 0: there was no answer */
    struct buf headers;
    struct buf body;
    struct buf failure; /* for people; empty on success */
    struct buf code;    /* the node's ("no_space"), or empty */
    int err;            /* of the source or of on_data, if that ended the request */
    bool no_node;       /* `failure` is about the node, not about what was asked */
};

#define CLIENT_RESPONSE_INIT ((struct client_response){0})

void client_response_done(struct client_response *response);
#define CLEANUP_RESPONSE __attribute__((cleanup(client_response_done)))

/* True if the whole answer came and tells of success (2xx). `response` is new or was used before;
 * what it held is gone. */
[[nodiscard]] bool client_perform(struct client *client, const struct client_request *request,
                                  struct client_response *response);

/* The value of the answer's last header `name`, which the caller frees; NULL: none. */
char *client_header(const struct client_response *response, const char *name);

bool client_is_code(const struct client_response *response, const char *code);

/* After a failure: true if another attempt may go better, since the node did not answer, or could
 * not; false if it refused, or the caller's source or on_data ended the request. */
bool client_may_pass(const struct client_response *response);

/*
 * An answer that is pulled instead of pushed, for libraries that want to read.
 */
struct client_stream;

/* Sends the request and waits for the head of the answer. On failure (not 2xx, too) `response`
 * tells why and there is no stream; it must outlive the stream. on_data is not used. */
[[nodiscard]] bool client_stream_open(struct client *client, const struct client_request *request,
                                      struct client_response *response,
                                      struct client_stream **ret_stream);
/* The next bytes, borrowed until the next call; none at the end. -EIO: response tells why. */
[[nodiscard]] int client_stream_read(struct client_stream *stream, struct bytes *ret_data);
/* Before the client is used again. NULL is allowed. */
void client_stream_close(struct client_stream *stream);
CLEANUP_DEFINE(client_stream_close, struct client_stream)

#endif
