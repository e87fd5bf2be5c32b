/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_SERVER_PRIV_H
#define HTTP_SERVER_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "http/request_priv.h"
#include "http/server.h"

/* A connection as the acceptor watches it. */
struct connection {
    int fd; /* -1: closed */
    bool is_local;
    /* What the watch looks at; written by libmicrohttpd's threads. */
    _Atomic int phase;
    _Atomic uint64_t phase_since_ms;
    _Atomic uint64_t body_bytes;     /* of the body under way, at phase_since_ms */
    _Atomic uint64_t body_seen;      /* of the body under way, now */
    _Atomic uint64_t received_bytes; /* by TCP, when the last request ended */
    _Atomic bool has_asked;          /* a request had its headers */
    _Atomic uint64_t line_since_ms;  /* its first line came, and no more yet; 0: it did not */
    uint64_t headers_since_ms;       /* the acceptor's: when it saw headers begin, 0: it did not */
    bool was_left;                   /* the acceptor's: the client had gone at the last look */
    struct connection *prev;
    struct connection *next;
};

enum connection_phase {
    CONNECTION_IDLE,   /* between requests, or in the headers of one */
    CONNECTION_BODY,   /* a body is coming */
    CONNECTION_ANSWER, /* being served; libmicrohttpd watches for progress */
};

struct server_counters {
    _Atomic uint64_t connections;
    _Atomic uint64_t connections_refused;
    _Atomic uint64_t connections_shed;
    _Atomic uint64_t requests;
    _Atomic uint64_t errors_4xx;
    _Atomic uint64_t errors_5xx;
    _Atomic uint64_t body_bytes;
};

struct server {
    struct node *node;
    struct server_options options;
    char *address;
    char *version;
    char *socket_path;
    struct MHD_Daemon *daemon;
    struct acceptor *acceptor;
    struct watchers *watchers;
    struct tar_uploads *tars; /* tar_in.c */
    struct waits *waits;      /* wait.c */
    struct server_counters counters;
    uint64_t started_ms;
    _Atomic bool stopping;
    _Atomic bool is_scrubbing; /* POST /scrub */
    _Atomic unsigned asks;     /* GET /status?members=1 */

    pthread_mutex_t lock; /* over all below */
    pthread_cond_t changed;
    size_t suspended; /* requests that wait for somebody else's thread */
    size_t entered;   /* calls of libmicrohttpd that are under way here */
    size_t ending;    /* changes that are complete and have no answer yet */
    size_t threads;   /* of endpoints */
};

/* The acceptor: listens, hands over, watches. (acceptor.c) */
struct acceptor;
[[nodiscard]] int acceptor_start(struct server *server, struct acceptor **ret_acceptor);
/* Closes the listening sockets, so that nobody new comes. */
void acceptor_stop(struct acceptor *acceptor);
void acceptor_free(struct acceptor *acceptor);
/* From libmicrohttpd: a connection was taken over, or has ended. */
struct connection *acceptor_opened(struct acceptor *acceptor, int fd);
void acceptor_closed(struct acceptor *acceptor, struct connection *connection);
/* The connection is closed by libmicrohttpd with bytes unread; what its client still sends is read
 * for a while and dropped, so that the answer reaches it instead of a reset. */
void acceptor_linger(struct acceptor *acceptor, const struct connection *connection);
/* The first line of a request has come. */
void connection_saw_line(struct server *server, struct connection *connection);
void connection_enter(struct server *server, struct connection *connection,
                      enum connection_phase phase);

/* True; that it is called links epoll_rounds.c, which see. */
bool epoll_rounds_are_ours(void);

/* Watchers of the feed (watch.c). */
struct watchers;
[[nodiscard]] int watchers_start(struct server *server, struct watchers **ret_watchers);
/* Ends all streams. */
void watchers_stop(struct watchers *watchers);
void watchers_free(struct watchers *watchers);
size_t watchers_count(const struct watchers *watchers);

/* Counts a call of libmicrohttpd's, so that server_stop() sees what may still suspend. False: the
 * server ends; only what `is_resumed` goes on then. */
bool server_enter(struct server *server, bool is_resumed);
void server_leave(struct server *server);
/* server_stop() waits some time for the answer to a request that was ending. */
void server_ending(struct server *server, struct request *request);
void server_ended(struct server *server, struct request *request);
/* Suspending a connection and waking it; server_stop() waits for the second. */
void server_suspend(struct server *server, struct MHD_Connection *connection);
void server_resume(struct server *server, struct MHD_Connection *connection);
/* The same in a reader of content; false: the server ends, and it is not suspended. */
bool server_try_suspend(struct server *server, struct MHD_Connection *connection);
/* Runs a function in a thread of its own; server_stop() waits for its end. -EAGAIN. */
[[nodiscard]] int server_run(struct server *server, void (*run)(void *context), void *context);

/* libmicrohttpd's callback for requests (request.c). */
enum MHD_Result request_handle(void *server, struct MHD_Connection *connection, const char *url,
                               const char *method, const char *version, const char *upload_data,
                               size_t *upload_data_size, void **request);
void request_completed(void *server, struct MHD_Connection *connection, void **request,
                       enum MHD_RequestTerminationCode why);

#endif
