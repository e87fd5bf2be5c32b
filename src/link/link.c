/* SPDX-License-Identifier: Apache-2.0 */
#include "link/link.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "link/connection_priv.h"
#include "link/link_priv.h"
#include "link/stream.h"

const char *link_reason_name(enum link_reason reason)
{
    static const char *const names[LINK_REASONS_COUNT] = {
        [LINK_REASON_NONE] = "none",           [LINK_REASON_VERSION] = "version",
        [LINK_REASON_OTHER_ID] = "other_id",   [LINK_REASON_OWN_ID] = "own_id",
        [LINK_REASON_CROSSED] = "crossed",     [LINK_REASON_BUSY] = "busy",
        [LINK_REASON_MALFORMED] = "malformed", [LINK_REASON_CREDIT] = "credit",
        [LINK_REASON_FLOOD] = "flood",         [LINK_REASON_SLOW] = "slow",
        [LINK_REASON_SHED] = "shed",           [LINK_REASON_UNREACHABLE] = "unreachable",
        [LINK_REASON_LOST] = "lost",           [LINK_REASON_SILENT] = "silent",
        [LINK_REASON_STALLED] = "stalled",     [LINK_REASON_IDLE] = "idle",
        [LINK_REASON_REPLACED] = "replaced",   [LINK_REASON_DISCONNECTED] = "disconnected",
        [LINK_REASON_STOPPED] = "stopped",
    };
    return (unsigned)reason < LINK_REASONS_COUNT ? names[reason] : "unknown";
}

void link_let_go(struct link *link)
{
    if (--link->refs_count == 0) {
        pthread_mutex_destroy(&link->lock);
        free(link->threads);
        free(link);
    }
}

static bool is_possible(const struct link_service *service)
{
    return service->number > 0 && service->number <= LINK_SERVICES_MAX &&
           (service->accept != NULL) != (service->message != NULL) &&
           (service->window_bytes == 0 || (service->window_bytes >= LINK_WINDOW_BYTES_MIN &&
                                           service->window_bytes <= LINK_WINDOW_BYTES_MAX));
}

static int take_services(struct link *link, const struct link_options *options)
{
    for (size_t i = 0; i < options->services_count; i++) {
        const struct link_service *service = &options->services[i];
        if (!is_possible(service) || link->services[service->number].number != 0) {
            return -EINVAL;
        }
        link->services[service->number] = *service;
    }
    return 0;
}

static unsigned or_default(unsigned value, unsigned standard)
{
    return value ? value : standard;
}

static void take_options(struct link *link, const struct link_options *options)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    struct link_options *own = &link->options;
    *own = *options;
    own->services = NULL;
    own->services_count = 0;
    own->threads = or_default(options->threads, cores > 0 ? (unsigned)cores : 1);
    own->threads = own->threads < LINK_THREADS_MAX ? own->threads : LINK_THREADS_MAX;
    own->connections_max = or_default(options->connections_max, LINK_CONNECTIONS_MAX_DEFAULT);
    own->handshake_ms = or_default(options->handshake_ms, LINK_HANDSHAKE_MS_DEFAULT);
    own->keepalive_ms = or_default(options->keepalive_ms, LINK_KEEPALIVE_MS_DEFAULT);
    own->stall_ms = or_default(options->stall_ms, LINK_STALL_MS_DEFAULT);
    own->idle_ms = or_default(options->idle_ms, LINK_IDLE_MS_DEFAULT);
}

int link_open(const struct link_options *options, struct link **ret_link)
{
    struct link *link = mem_alloc(sizeof *link);
    pthread_mutex_init(&link->lock, NULL);
    link->refs_count = 1;
    take_options(link, options);
    int err = take_services(link, options);
    if (!err) {
        link->threads = mem_alloc_array(link->options.threads, sizeof *link->threads);
    }
    while (!err && link->threads_count < link->options.threads) {
        err = thread_start(link, &link->threads[link->threads_count]);
        link->threads_count += !err;
    }
    if (err) {
        link_close(link);
        return err;
    }
    *ret_link = link;
    return 0;
}

/* What was still on its way to a thread that had ended; that may post again, to any of them. */
static void drain(struct link *link)
{
    bool had_some = true;
    while (had_some) {
        had_some = false;
        for (unsigned i = 0; i < link->threads_count; i++) {
            had_some |= thread_drain(&link->threads[i]);
        }
    }
}

void link_close(struct link *link)
{
    if (!link) {
        return;
    }
    for (unsigned i = 0; i < link->threads_count; i++) {
        thread_stop(&link->threads[i]);
    }
    drain(link);
    for (unsigned i = 0; i < link->threads_count; i++) {
        thread_done(&link->threads[i]);
    }
    link_let_go(link);
}

struct accepted {
    struct command command;
    struct link_thread *thread;
    int fd;
};

static void run_accepted(struct command *command)
{
    struct accepted *accepted = CONTAINER_OF(command, struct accepted, command);
    connection_accept(accepted->thread, accepted->fd);
    free(accepted);
}

void link_accept(struct link *link, int fd)
{
    struct accepted *accepted = mem_alloc(sizeof *accepted);
    accepted->command.run = run_accepted;
    accepted->thread = &link->threads[link->accepted_count++ % link->threads_count];
    accepted->fd = fd;
    thread_post(accepted->thread, &accepted->command);
}

struct disconnect {
    struct command command;
    struct peer *peer; /* held */
};

static void run_disconnect(struct command *command)
{
    struct disconnect *disconnect = CONTAINER_OF(command, struct disconnect, command);
    struct peer *peer = disconnect->peer;
    if (peer->connection) {
        connection_end(peer->connection, LINK_REASON_DISCONNECTED);
    }
    peer_fail_pending(peer, -ECANCELED);
    peer_release(peer);
    free(disconnect);
}

void link_disconnect(struct link *link, const struct node_id *peer)
{
    struct disconnect *disconnect = mem_alloc(sizeof *disconnect);
    disconnect->command.run = run_disconnect;
    disconnect->peer = peer_hold(link, peer);
    thread_post(disconnect->peer->thread, &disconnect->command);
}

static void add_counters(const struct thread_counters *from, struct link_counters *to)
{
    for (size_t i = 0; i < LINK_REASONS_COUNT; i++) {
        to->ended[i] += from->ended[i];
    }
    to->streams += from->streams;
    to->connected += from->connected;
    to->sent_bytes += from->sent_bytes;
    to->received_bytes += from->received_bytes;
    to->sent_frames += from->sent_frames;
    to->received_frames += from->received_frames;
    to->unknown_frames += from->unknown_frames;
    to->streams_opened += from->streams_opened;
    to->streams_accepted += from->streams_accepted;
    to->streams_refused += from->streams_refused;
    to->messages_sent += from->messages_sent;
    to->messages_failed += from->messages_failed;
    to->messages_received += from->messages_received;
    to->messages_dropped += from->messages_dropped;
}

void link_read_counters(const struct link *link, struct link_counters *ret_counters)
{
    struct link_counters sum = {
        .connections = link->connections_count,
        .assembly_bytes = link->assembly_bytes,
    };
    for (unsigned i = 0; i < link->threads_count; i++) {
        add_counters(&link->threads[i].counters, &sum);
    }
    *ret_counters = sum;
}

static struct link_peer_status status_of(const struct peer *peer)
{
    return (struct link_peer_status){
        .peer = peer->info,
        .is_connected = peer->is_connected,
        .since_ms = peer->since_ms,
        .sent_bytes = peer->sent_bytes,
        .received_bytes = peer->received_bytes,
        .queued_bytes = peer->queued_bytes + peer->message_bytes,
        .streams = peer->streams_count,
        .rtt_us = peer->rtt_us,
    };
}

size_t link_list_peers(struct link *link, struct link_peer_status *ret_peers, size_t capacity)
{
    size_t count = 0;
    pthread_mutex_lock(&link->lock);
    for (const struct peer *peer = link->peers; peer; peer = peer->hh.next) {
        if (!peer->is_listed) {
            continue;
        }
        if (count < capacity) {
            ret_peers[count] = status_of(peer);
        }
        count++;
    }
    pthread_mutex_unlock(&link->lock);
    return count;
}
