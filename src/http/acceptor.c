/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One thread accepts on the TCP and the Unix socket. A TCP connection whose first byte is that of
 * another node goes to who takes those (server_options.accept_link), every other to libmicrohttpd.
 * Once a second it looks at all connections: a client that is in its headers for too long, or
 * whose body comes too slowly, has its socket shut down, which libmicrohttpd sees as an end.
 *
 * That headers are on their way is seen from outside: the kernel counts the bytes that a TCP
 * connection has received (tcp_info), and between requests that number stands still. A look at all
 * connections costs one system call each, 10 ms for 20,000.
 */

#include <fcntl.h>
#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "http/first_byte.h"
#include "http/linger.h"
#include "http/server_priv.h"
#include "http/wait.h"
#include "node/resolve.h"

#define BACKLOG 4096
#define LOOK_MS 1000
/* Accepted in one go before the clock is looked at again. */
#define ACCEPT_BATCH 256
/* That the thread waits for, besides the lingering ones. */
#define FIXED_FDS 4

struct acceptor {
    struct server *server;
    int tcp_fd;
    int unix_fd;
    int wake_fd;
    int spare_fd; /* given up for a moment to refuse somebody when there are no more files */
    pthread_t thread;
    bool is_running;
    struct linger_list linger;     /* the thread's */
    struct first_byte_list silent; /* the thread's */

    pthread_mutex_t lock; /* over all below */
    struct connection *connections;
    size_t connections_count;
    int leaving[LINGER_MAX]; /* for `linger` */
    size_t leaving_count;
};

static uint64_t now_ms(const struct server *server)
{
    return clock_monotonic_ms(node_clock(server->node));
}

static int listen_at(const struct addrinfo *info, int *ret_fd)
{
    CLEANUP_FD int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const int on = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, info->ai_addr, info->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        return err_from_errno(errno);
    }
    *ret_fd = STEAL_FD(fd);
    return 0;
}

static int listen_tcp(const char *address, int *ret_fd)
{
    CLEANUP_FREE char *host = NULL;
    CLEANUP_FREE char *port = NULL;
    int err = resolve_split(address, &host, &port);
    if (err) {
        return err;
    }
    const struct addrinfo hints = {
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
        .ai_socktype = SOCK_STREAM,
    };
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, port, &hints, &found) != 0) {
        return -EINVAL;
    }
    err = listen_at(found, ret_fd);
    freeaddrinfo(found);
    return err;
}

/* The address that a socket is bound to, as ADDRESS:PORT. */
static char *bound_address(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    char host[NI_MAXHOST];
    char port[NI_MAXSERV];
    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0 ||
        getnameinfo((struct sockaddr *)&address, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        return mem_copy_string("?");
    }
    return mem_format(address.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

static int listen_unix(const char *path, int *ret_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        return -ENAMETOOLONG;
    }
    strcpy(address.sun_path, path);
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* The lock of the data directory is ours: a socket that is there was left by a crash. */
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(fd, BACKLOG) < 0) {
        return err_from_errno(errno);
    }
    *ret_fd = STEAL_FD(fd);
    return 0;
}

struct connection *acceptor_opened(struct acceptor *acceptor, int fd)
{
    struct connection *connection = mem_alloc(sizeof *connection);
    int domain = 0;
    socklen_t size = sizeof domain;
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
    connection->fd = fd;
    connection->is_local = domain == AF_UNIX;
    connection->phase_since_ms = now_ms(acceptor->server);
    pthread_mutex_lock(&acceptor->lock);
    DL_APPEND(acceptor->connections, connection);
    pthread_mutex_unlock(&acceptor->lock);
    return connection;
}

void acceptor_closed(struct acceptor *acceptor, struct connection *connection)
{
    pthread_mutex_lock(&acceptor->lock);
    DL_DELETE(acceptor->connections, connection);
    acceptor->connections_count--;
    pthread_mutex_unlock(&acceptor->lock);
    acceptor->server->counters.connections--;
    free(connection);
}

/* States of TCP as tcp_info tells them (include/net/tcp_states.h of the kernel; netinet/tcp.h does
 * not go with linux/tcp.h, which alone has tcpi_bytes_received). */
enum { STATE_CLOSE = 7, STATE_CLOSE_WAIT = 8 };

/* What the kernel knows of a connection. */
struct peer_state {
    uint64_t received_bytes; /* since it began; 0 over the Unix socket, where nobody tells */
    bool has_left;           /* sends no more */
};

static struct peer_state look_at_peer(const struct connection *connection)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (connection->is_local) {
        struct pollfd fd = {.fd = connection->fd, .events = POLLRDHUP};
        return (struct peer_state){.has_left = poll(&fd, 1, 0) > 0};
    }
    if (getsockopt(connection->fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0) {
        return (struct peer_state){0};
    }
    return (struct peer_state){
        .received_bytes = info.tcpi_bytes_received,
        .has_left = info.tcpi_state == STATE_CLOSE_WAIT || info.tcpi_state == STATE_CLOSE,
    };
}

void connection_enter(struct server *server, struct connection *connection,
                      enum connection_phase phase)
{
    if (phase == CONNECTION_IDLE) {
        connection->body_seen = 0;
        connection->received_bytes = look_at_peer(connection).received_bytes;
    }
    connection->has_asked = connection->has_asked || phase != CONNECTION_IDLE;
    connection->line_since_ms = 0;
    connection->body_bytes = connection->body_seen;
    connection->phase_since_ms = now_ms(server);
    connection->phase = (int)phase;
}

void connection_saw_line(struct server *server, struct connection *connection)
{
    connection->line_since_ms = now_ms(server);
}

/* Headers over the Unix socket, of which nobody tells how many bytes have come: those of the first
 * request begin with the connection, those of others with their first line; and that has as long
 * as an idle connection. */
static bool is_too_slow_locally(const struct server *server, const struct connection *connection,
                                uint64_t for_ms, uint64_t now)
{
    const uint64_t line_ms = connection->line_since_ms;
    if (connection->phase != CONNECTION_IDLE) {
        return false;
    }
    if (line_ms > 0) {
        return now > line_ms && now - line_ms >= server->options.header_ms;
    }
    return for_ms >= (connection->has_asked ? server->options.idle_ms : server->options.header_ms);
}

/* True if the client keeps us waiting beyond what is allowed. */
static bool is_too_slow(const struct server *server, struct connection *connection,
                        uint64_t received_bytes, uint64_t now)
{
    const uint64_t since_ms = connection->phase_since_ms;
    const uint64_t for_ms = now > since_ms ? now - since_ms : 0;
    if (connection->phase == CONNECTION_BODY) {
        if (for_ms < server->options.body_ms) {
            return false;
        }
        const uint64_t seen = connection->body_seen;
        if (seen - connection->body_bytes < SERVER_BODY_BYTES_MIN) {
            return true;
        }
        connection->body_bytes = seen;
        connection->phase_since_ms = now;
        return false;
    }
    if (connection->is_local) {
        return is_too_slow_locally(server, connection, for_ms, now);
    }
    if (connection->phase != CONNECTION_IDLE || received_bytes <= connection->received_bytes) {
        connection->headers_since_ms = 0;
        return false;
    }
    /* Bytes have come since the last request ended: headers, and not all of them. */
    if (connection->headers_since_ms <= since_ms) {
        connection->headers_since_ms = now;
    }
    return now - connection->headers_since_ms >= server->options.header_ms;
}

/* True if the client left in the middle of a request. libmicrohttpd 0.9.75 does not see that if the
 * end came together with the last bytes: one edge of epoll tells both, and it reads once. What has
 * just come may still be on its way through it, so the second look decides. */
static bool has_left(struct connection *connection, bool has_left_now)
{
    const bool was_left = connection->was_left;
    connection->was_left = has_left_now;
    return was_left && has_left_now;
}

/* For waits_look(): while a connection is suspended, nobody else looks. */
static bool sends_no_more(const struct connection *connection)
{
    return look_at_peer(connection).has_left;
}

static void look_at_all(struct acceptor *acceptor)
{
    struct server *server = acceptor->server;
    const uint64_t now = now_ms(server);
    pthread_mutex_lock(&acceptor->lock);
    struct connection *connection;
    DL_FOREACH(acceptor->connections, connection)
    {
        if (connection->phase == CONNECTION_ANSWER) {
            connection->was_left = false;
            continue;
        }
        const struct peer_state peer = look_at_peer(connection);
        const bool is_slow = is_too_slow(server, connection, peer.received_bytes, now);
        server->counters.connections_shed += is_slow;
        if (is_slow || has_left(connection, peer.has_left)) {
            shutdown(connection->fd, SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&acceptor->lock);
    waits_look(server->waits, now, sends_no_more);
}

static void wake(struct acceptor *acceptor)
{
    const uint64_t one = 1;
    (void)!write(acceptor->wake_fd, &one, sizeof one);
}

void acceptor_linger(struct acceptor *acceptor, const struct connection *connection)
{
    /* A descriptor of our own: libmicrohttpd closes its one when the answer has been sent. */
    const int fd = fcntl(connection->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        return;
    }
    pthread_mutex_lock(&acceptor->lock);
    const bool has_room = acceptor->leaving_count < LINGER_MAX;
    if (has_room) {
        acceptor->leaving[acceptor->leaving_count++] = fd;
    }
    pthread_mutex_unlock(&acceptor->lock);
    if (!has_room) {
        close(fd);
    }
    wake(acceptor);
}

static void take_leaving(struct acceptor *acceptor)
{
    pthread_mutex_lock(&acceptor->lock);
    for (size_t i = 0; i < acceptor->leaving_count; i++) {
        linger_add(&acceptor->linger, acceptor->leaving[i], now_ms(acceptor->server));
    }
    acceptor->leaving_count = 0;
    pthread_mutex_unlock(&acceptor->lock);
}

/* Above the limit: an answer, not a hang. */
static void refuse(struct acceptor *acceptor, int fd)
{
    static const char body[] = "{\"error\":\"busy\",\"message\":\"too many open connections\"}\n";
    char text[256];
    const int size = snprintf(text, sizeof text,
                              "HTTP/1.1 503 Service Unavailable\r\n"
                              "Content-Type: application/json\r\n"
                              "Connection: close\r\nContent-Length: %zu\r\n\r\n%s",
                              sizeof body - 1, body);
    acceptor->server->counters.connections_refused++;
    (void)!send(fd, text, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    linger_add(&acceptor->linger, fd, now_ms(acceptor->server));
}

/* No descriptor is left: without this the waiting one would be seen again and again. */
static void refuse_without_files(struct acceptor *acceptor, int listen_fd)
{
    linger_done(&acceptor->linger);
    if (acceptor->spare_fd >= 0) {
        close(acceptor->spare_fd);
    }
    const int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
        refuse(acceptor, fd);
        linger_done(&acceptor->linger);
    }
    acceptor->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* It was counted, and does not become one of libmicrohttpd's. */
static void count_out(struct acceptor *acceptor)
{
    pthread_mutex_lock(&acceptor->lock);
    acceptor->connections_count--;
    pthread_mutex_unlock(&acceptor->lock);
}

static void hand_over(struct acceptor *acceptor, int fd, const struct sockaddr_storage *address,
                      socklen_t size)
{
    struct server *server = acceptor->server;
    if (address->ss_family != AF_UNIX) {
        const int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    server->counters.connections++;
    /* Whatever it answers, the socket is libmicrohttpd's now. */
    if (MHD_add_connection(server->daemon, fd, (const struct sockaddr *)address, size) != MHD_YES) {
        count_out(acceptor);
        server->counters.connections--;
    }
}

/* Its first byte is here: gives it to whom it is meant for. */
static void direct(struct acceptor *acceptor, int fd, uint8_t first_byte,
                   const struct sockaddr_storage *address, socklen_t size)
{
    const struct server_options *options = &acceptor->server->options;
    if (first_byte != SERVER_LINK_FIRST_BYTE) {
        hand_over(acceptor, fd, address, size);
        return;
    }
    count_out(acceptor);
    if (options->accept_link) {
        options->accept_link(options->link_context, fd);
    } else {
        close(fd);
    }
}

/* One that was accepted, or that was silent and may have spoken. False: it still says nothing. */
static bool meet(struct acceptor *acceptor, int fd, const struct sockaddr_storage *address,
                 socklen_t size)
{
    uint8_t first_byte = 0;
    switch (first_byte_look(fd, &first_byte)) {
    case FIRST_BYTE_HERE:
        direct(acceptor, fd, first_byte, address, size);
        return true;
    case FIRST_BYTE_SILENT:
        return false;
    default:
        count_out(acceptor);
        close(fd);
        return true;
    }
}

static void await_first_byte(struct acceptor *acceptor, int fd,
                             const struct sockaddr_storage *address, socklen_t size)
{
    if (!first_byte_add(&acceptor->silent, fd, address, size, now_ms(acceptor->server))) {
        count_out(acceptor);
        close(fd);
    }
}

/* Those of whom something has been heard. */
static void meet_silent(struct acceptor *acceptor)
{
    struct silent *taken[FIRST_BYTE_BATCH];
    const size_t count = first_byte_take(&acceptor->silent, taken);
    for (size_t i = 0; i < count; i++) {
        struct silent *silent = taken[i];
        if (!meet(acceptor, silent->fd, &silent->address, silent->address_size)) {
            await_first_byte(acceptor, silent->fd, &silent->address, silent->address_size);
        }
        free(silent);
    }
}

/* Nobody needs longer for a first byte than for headers. */
static void shed_silent(struct acceptor *acceptor)
{
    struct server *server = acceptor->server;
    const struct server_options *options = &server->options;
    const uint64_t limit_ms =
        options->header_ms < options->idle_ms ? options->header_ms : options->idle_ms;
    const uint64_t now = now_ms(server);
    struct silent *silent;
    while (now > limit_ms &&
           (silent = first_byte_take_older(&acceptor->silent, now - limit_ms)) != NULL) {
        server->counters.connections_shed++;
        count_out(acceptor);
        close(silent->fd);
        free(silent);
    }
}

/* False: nobody is waiting. */
static bool accept_one(struct acceptor *acceptor, int listen_fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    const int fd =
        accept4(listen_fd, (struct sockaddr *)&address, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE) {
            refuse_without_files(acceptor, listen_fd);
            return false;
        }
        return errno == EINTR || errno == ECONNABORTED;
    }
    pthread_mutex_lock(&acceptor->lock);
    const bool is_full = acceptor->connections_count >= acceptor->server->options.connections_max;
    acceptor->connections_count += !is_full;
    pthread_mutex_unlock(&acceptor->lock);
    if (is_full) {
        refuse(acceptor, fd);
    } else if (address.ss_family == AF_UNIX) {
        hand_over(acceptor, fd, &address, size);
    } else if (!meet(acceptor, fd, &address, size)) {
        await_first_byte(acceptor, fd, &address, size);
    }
    return true;
}

static void *run(void *argument)
{
    struct acceptor *acceptor = argument;
    const int listen_fds[] = {acceptor->tcp_fd, acceptor->unix_fd};
    uint64_t looked_ms = now_ms(acceptor->server);
    while (!acceptor->server->stopping) {
        take_leaving(acceptor);
        struct pollfd fds[FIXED_FDS + LINGER_MAX] = {
            {.fd = acceptor->wake_fd, .events = POLLIN},
            {.fd = listen_fds[0], .events = POLLIN},
            {.fd = listen_fds[1], .events = POLLIN},
            {.fd = acceptor->silent.epoll_fd, .events = POLLIN},
        };
        linger_poll(&acceptor->linger, fds + FIXED_FDS);
        poll(fds, FIXED_FDS + acceptor->linger.count, LOOK_MS);
        linger_read(&acceptor->linger, fds + FIXED_FDS, now_ms(acceptor->server));
        if (fds[0].revents) {
            uint64_t count;
            (void)!read(acceptor->wake_fd, &count, sizeof count);
        }
        for (size_t i = 0; i < ARRAY_SIZE(listen_fds); i++) {
            for (int n = 0; fds[1 + i].revents && n < ACCEPT_BATCH; n++) {
                if (!accept_one(acceptor, listen_fds[i])) {
                    break;
                }
            }
        }
        if (fds[3].revents) {
            meet_silent(acceptor);
        }
        if (now_ms(acceptor->server) - looked_ms >= LOOK_MS) {
            looked_ms = now_ms(acceptor->server);
            shed_silent(acceptor);
            look_at_all(acceptor);
        }
    }
    return NULL;
}

int acceptor_start(struct server *server, struct acceptor **ret_acceptor)
{
    struct acceptor *acceptor = mem_alloc(sizeof *acceptor);
    acceptor->server = server;
    acceptor->tcp_fd = -1;
    acceptor->unix_fd = -1;
    acceptor->wake_fd = -1;
    acceptor->silent.epoll_fd = -1;
    acceptor->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pthread_mutex_init(&acceptor->lock, NULL);
    int err = listen_tcp(server->options.listen, &acceptor->tcp_fd);
    if (!err) {
        server->address = bound_address(acceptor->tcp_fd);
        err = listen_unix(server->socket_path, &acceptor->unix_fd);
    }
    if (!err) {
        acceptor->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        err = acceptor->wake_fd < 0 ? err_from_errno(errno) : first_byte_open(&acceptor->silent);
    }
    if (!err) {
        /* libmicrohttpd may tell of a connection before this function is over. */
        *ret_acceptor = acceptor;
        err = pthread_create(&acceptor->thread, NULL, run, acceptor) == 0 ? 0 : -EAGAIN;
        acceptor->is_running = !err;
    }
    if (err) {
        *ret_acceptor = NULL;
        acceptor_free(acceptor);
    }
    return err;
}

static void close_one(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

void acceptor_stop(struct acceptor *acceptor)
{
    if (acceptor->is_running) {
        wake(acceptor);
        pthread_join(acceptor->thread, NULL);
        acceptor->is_running = false;
    }
    if (acceptor->unix_fd >= 0) {
        unlink(acceptor->server->socket_path);
    }
    close_one(&acceptor->tcp_fd);
    close_one(&acceptor->unix_fd);
    first_byte_close(&acceptor->silent);
}

void acceptor_free(struct acceptor *acceptor)
{
    if (!acceptor) {
        return;
    }
    acceptor_stop(acceptor);
    take_leaving(acceptor);
    linger_done(&acceptor->linger);
    close_one(&acceptor->wake_fd);
    close_one(&acceptor->spare_fd);
    pthread_mutex_destroy(&acceptor->lock);
    free(acceptor);
}
