/* SPDX-License-Identifier: Apache-2.0 */
#include "http/server.h"

#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "http/server_priv.h"
#include "http/tar_priv.h"
#include "http/wait.h"

/* How long a client may take, when the server ends, to read that its change was done. */
#define ANSWER_S 1
/* Of endpoints (a scrub, files put in place): they take turns at the disk anyway. */
#define THREADS_MAX 32u

/* libmicrohttpd would decode %2F to '/' and cut at %00; paths are decoded name by name instead. */
static size_t leave_escaped(void *context, struct MHD_Connection *connection, char *text)
{
    (void)context;
    (void)connection;
    return strlen(text);
}

static void notify_connection(void *context, struct MHD_Connection *connection, void **peer,
                              enum MHD_ConnectionNotificationCode what)
{
    struct server *server = context;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        *peer = acceptor_opened(server->acceptor, info->connect_fd);
    } else if (*peer) {
        acceptor_closed(server->acceptor, *peer);
        *peer = NULL;
    }
}

static void log_of_library(void *context, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));

static void log_of_library(void *context, const char *format, va_list arguments)
{
    (void)context;
    char text[512];
    vsnprintf(text, sizeof text, format, arguments);
    text[strcspn(text, "\n")] = 0;
    log_debug("http", KV("message", text));
}

/* libmicrohttpd has read the first line of a request. */
static void *notify_line(void *context, const char *uri, struct MHD_Connection *connection)
{
    (void)uri;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    if (info && info->socket_context) {
        connection_saw_line(context, info->socket_context);
    }
    return NULL; /* what request_handle() finds in its *request at first */
}

static int start_daemon(struct server *server)
{
    CHECK(epoll_rounds_are_ours());
    long threads = sysconf(_SC_NPROCESSORS_ONLN);
    threads = threads < 1 ? 1 : threads;
    const unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME |
                           MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG;
    server->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, request_handle, server, MHD_OPTION_EXTERNAL_LOGGER, log_of_library,
        NULL, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)threads, MHD_OPTION_CONNECTION_LIMIT,
        server->options.connections_max, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        SERVER_CONNECTION_BYTES, MHD_OPTION_CONNECTION_TIMEOUT, server->options.idle_ms / 1000,
        MHD_OPTION_NOTIFY_COMPLETED, request_completed, server, MHD_OPTION_NOTIFY_CONNECTION,
        notify_connection, server, MHD_OPTION_URI_LOG_CALLBACK, notify_line, server,
        MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, NULL, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    return server->daemon ? 0 : -EMFILE;
}

bool server_enter(struct server *server, bool is_resumed)
{
    pthread_mutex_lock(&server->lock);
    const bool goes_on = is_resumed || !server->stopping;
    server->entered += goes_on;
    pthread_mutex_unlock(&server->lock);
    return goes_on;
}

/* One less of what server_stop() waits for. */
static void count_down(struct server *server, size_t *count)
{
    pthread_mutex_lock(&server->lock);
    (*count)--;
    if (server->stopping) {
        pthread_cond_broadcast(&server->changed);
    }
    pthread_mutex_unlock(&server->lock);
}

void server_leave(struct server *server)
{
    count_down(server, &server->entered);
}

void server_ending(struct server *server, struct request *request)
{
    request->is_ending = true;
    pthread_mutex_lock(&server->lock);
    server->ending++;
    pthread_mutex_unlock(&server->lock);
}

void server_ended(struct server *server, struct request *request)
{
    if (request->is_ending) {
        count_down(server, &server->ending);
    }
}

void server_suspend(struct server *server, struct MHD_Connection *connection)
{
    pthread_mutex_lock(&server->lock);
    server->suspended++;
    MHD_suspend_connection(connection);
    pthread_mutex_unlock(&server->lock);
}

bool server_try_suspend(struct server *server, struct MHD_Connection *connection)
{
    pthread_mutex_lock(&server->lock);
    const bool is_suspended = !server->stopping;
    if (is_suspended) {
        server->suspended++;
        MHD_suspend_connection(connection);
    }
    pthread_mutex_unlock(&server->lock);
    return is_suspended;
}

void server_resume(struct server *server, struct MHD_Connection *connection)
{
    MHD_resume_connection(connection);
    count_down(server, &server->suspended);
}

struct thread {
    struct server *server;
    void (*run)(void *context);
    void *context;
};

static void *run_thread(void *argument)
{
    struct thread *thread = argument;
    struct server *server = thread->server;
    thread->run(thread->context);
    free(thread);
    count_down(server, &server->threads);
    return NULL;
}

int server_run(struct server *server, void (*run)(void *context), void *context)
{
    struct thread *thread = mem_alloc(sizeof *thread);
    *thread = (struct thread){.server = server, .run = run, .context = context};
    pthread_mutex_lock(&server->lock);
    const bool has_room = server->threads < THREADS_MAX;
    server->threads += has_room;
    pthread_mutex_unlock(&server->lock);
    if (!has_room) {
        free(thread);
        return -EAGAIN;
    }
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t id;
    const int failed = pthread_create(&id, &attributes, run_thread, thread);
    pthread_attr_destroy(&attributes);
    if (failed) {
        free(thread);
        count_down(server, &server->threads);
        return -EAGAIN;
    }
    return 0;
}

int server_start(struct node *node, const struct server_options *options,
                 struct server **ret_server)
{
    struct server *server = mem_alloc(sizeof *server);
    server->node = node;
    server->options = *options;
    server->options.connections_max =
        options->connections_max ? options->connections_max : SERVER_CONNECTIONS_MAX_DEFAULT;
    server->options.header_ms = options->header_ms ? options->header_ms : SERVER_HEADER_MS_DEFAULT;
    server->options.body_ms = options->body_ms ? options->body_ms : SERVER_BODY_MS_DEFAULT;
    server->options.idle_ms = options->idle_ms ? options->idle_ms : SERVER_IDLE_MS_DEFAULT;
    server->version = mem_copy_string(options->version);
    server->socket_path = mem_format("%s/socket", node_data(node));
    pthread_mutex_init(&server->lock, NULL);
    clock_init_condition(&server->changed);
    server->started_ms = clock_monotonic_ms(node_clock(node));
    server->tars = tar_uploads_new();
    server->waits = waits_new();
    int err = start_daemon(server);
    if (!err) {
        err = watchers_start(server, &server->watchers);
    }
    if (!err) {
        err = acceptor_start(server, &server->acceptor);
    }
    if (err) {
        server_stop(server);
        return err;
    }
    *ret_server = server;
    return 0;
}

const char *server_address(const struct server *server)
{
    return server->address;
}

/* Until nothing is suspended and nothing can be any more (libmicrohttpd can't be stopped before),
 * then a little longer for the answers to what has been done. */
static void wait_for_requests(struct server *server)
{
    struct timespec until;
    pthread_mutex_lock(&server->lock);
    while (server->entered > 0 || server->suspended > 0 || server->threads > 0) {
        pthread_cond_wait(&server->changed, &server->lock);
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ANSWER_S;
    while (server->ending > 0 &&
           pthread_cond_timedwait(&server->changed, &server->lock, &until) == 0) {
    }
    pthread_mutex_unlock(&server->lock);
}

void server_stop(struct server *server)
{
    if (!server) {
        return;
    }
    pthread_mutex_lock(&server->lock);
    server->stopping = true;
    pthread_mutex_unlock(&server->lock);
    if (server->acceptor) {
        acceptor_stop(server->acceptor);
    }
    if (server->watchers) {
        watchers_stop(server->watchers);
    }
    tar_uploads_stop(server->tars);
    waits_stop(server->waits);
    wait_for_requests(server);
    if (server->daemon) {
        MHD_stop_daemon(server->daemon);
    }
    acceptor_free(server->acceptor);
    watchers_free(server->watchers);
    tar_uploads_free(server->tars);
    waits_free(server->waits);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    free(server->socket_path);
    free(server->address);
    free(server->version);
    free(server);
}
