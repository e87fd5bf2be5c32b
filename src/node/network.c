/* SPDX-License-Identifier: Apache-2.0 */
#include "node/network.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/statvfs.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "node/fetch_priv.h"
#include "node/network_priv.h"
#include "node/replica_priv.h"
#include "node/resolve.h"

/* Lists of members are exchanged with random others, and with most of them once. */
#define LINK_IDLE_MS 15000u
/* Sixteen of the longest messages, of a network of 10,000 all at once. */
#define INBOX_BYTES_MAX ((size_t)16 * 1024 * 1024)
#define INBOX_MESSAGES_MAX 4096u
#define INBOX_SHARES 4u
/* A second of broadcasts as fast as they go out; more are announced together. */
#define OUTBOX_MESSAGES_MAX 4096u
#define OUTBOX_BYTES_MAX (OUTBOX_MESSAGES_MAX * (size_t)DATAGRAM_PAYLOAD_BYTES_MAX)

static void on_wake(uv_async_t *wake)
{
    (void)wake; /* the turn comes after it */
}

static void on_check(uv_check_t *check)
{
    network_turn(check->data);
}

static int open_loop(struct network *network)
{
    int err = uv_loop_init(&network->loop);
    if (err) {
        return err_from_errno(-err);
    }
    uv_loop_set_data(&network->loop, network);
    network->has_loop = true;
    err = uv_async_init(&network->loop, &network->wake, on_wake);
    if (err) {
        return err_from_errno(-err);
    }
    uv_timer_init(&network->loop, &network->timer);
    uv_check_init(&network->loop, &network->check);
    uv_idle_init(&network->loop, &network->again);
    network->timer.data = network;
    network->check.data = network;
    network->has_handles = true;
    return 0;
}

/* Where others reach us. */
static int find_own_address(const struct network *network, const struct network_options *options,
                            struct address *ret_address)
{
    if (options->advertise.port != 0) {
        *ret_address = options->advertise;
        return 0;
    }
    if (!address_is_any(&network->address)) {
        *ret_address = network->address;
        return 0;
    }
    const int err = resolve_own(&network->address, ret_address);
    if (!err) {
        char text[ADDRESS_TEXT_CHARS + 1];
        address_format(ret_address, text);
        log_info("address_advertised", KV("address", (const char *)text));
    }
    return err;
}

static uint64_t disk_bytes(const struct network *network)
{
    struct statvfs disk;
    return fstatvfs(network->dir_fd, &disk) == 0 ? (uint64_t)disk.f_blocks * disk.f_frsize : 0;
}

static uint64_t random_nonce(void)
{
    uint64_t nonce = 0;
    while (nonce == 0) {
        random_system(&nonce, sizeof nonce);
    }
    return nonce;
}

static int open_link(struct network *network, const struct network_options *options,
                     uint64_t boot_nonce)
{
    const struct link_service services[] = {
        {.number = SERVICE_MEMBERS, .context = network, .message = network_message},
        {.number = SERVICE_TREE, .context = network, .message = network_tree_message},
        {.number = SERVICE_LOCATE, .context = network, .message = network_locate_message},
        fetch_blocks_service(network->fetch),
        {.number = SERVICE_KEEP, .context = network, .message = network_keep_message},
    };
    struct link_options link_options = {
        .id = *node_identity(network->node),
        .boot_nonce = boot_nonce,
        .services = services,
        .services_count = ARRAY_SIZE(services),
        .threads = options->link_threads,
        .idle_ms = LINK_IDLE_MS,
    };
    if (!address_is_any(&network->address)) {
        link_options.source = network->address;
    }
    return link_open(&link_options, &network->link);
}

static void open_cluster(struct network *network, const struct address *address,
                         uint64_t boot_nonce)
{
    CLEANUP_BUF struct buf file = BUF_INIT;
    struct bytes roster = BYTES(NULL, 0);
    uint64_t incarnation = 0;
    uint64_t seed = 0;
    random_system(&seed, sizeof seed);
    network_load(network, &file, &incarnation, &roster);
    const struct cluster_options cluster_options = {
        .id = *node_identity(network->node),
        .boot_nonce = boot_nonce,
        .incarnation = incarnation,
        .address = *address,
        .name = node_name(network->node),
        .zone = node_zone(network->node),
        .capacity_bytes = disk_bytes(network),
        .random_seed = seed,
        .host = network_host(network),
    };
    const uint64_t now_us = network_now_us();
    network->cluster = cluster_new(&cluster_options, now_us);
    network_restore(network, now_us, roster);
}

static void *run(void *argument)
{
    struct network *network = argument;
    pthread_mutex_lock(&network->ask_lock);
    while (!network->is_started && !network->stopping) {
        pthread_cond_wait(&network->started, &network->ask_lock);
    }
    pthread_mutex_unlock(&network->ask_lock);
    if (!network->stopping) {
        network_turn(network);
        uv_run(&network->loop, UV_RUN_DEFAULT);
    }
    return NULL;
}

int network_open(struct node *node, const struct network_options *options,
                 struct network **ret_network)
{
    if (options->join && !seeds_check(options->join)) {
        return -EINVAL;
    }
    struct network *network = mem_alloc(sizeof *network);
    network->node = node;
    network->dir_fd = -1;
    network->ended = options->ended;
    network->ended_context = options->context;
    pthread_mutex_init(&network->lock, NULL);
    pthread_mutex_init(&network->ask_lock, NULL);
    pthread_mutex_init(&network->listen_lock, NULL);
    const struct inbox_limits inbox = {INBOX_BYTES_MAX, INBOX_MESSAGES_MAX, INBOX_SHARES};
    const struct inbox_limits outbox = {OUTBOX_BYTES_MAX, OUTBOX_MESSAGES_MAX, 1};
    network->inbox = inbox_new(&inbox);
    network->outbox = inbox_new(&outbox);
    pthread_cond_init(&network->started, NULL);
    network->events = member_events_new(MEMBER_EVENTS_KEPT);
    const uint64_t boot_nonce = random_nonce();
    struct address own;
    int err = file_open_at(AT_FDCWD, node_data(node), O_RDONLY | O_DIRECTORY, 0, &network->dir_fd);
    if (!err) {
        err = open_loop(network);
    }
    if (!err) {
        err = udp_open(&network->loop, &options->listen, network_received, network, &network->udp);
    }
    if (!err) {
        network->address = udp_address(network->udp);
        err = find_own_address(network, options, &own);
    }
    if (!err) {
        err = fetch_open(network, options, &network->fetch);
    }
    if (!err) {
        err = open_link(network, options, boot_nonce);
    }
    if (!err) {
        open_cluster(network, &own, boot_nonce);
        err = replica_open(network, &network->replica);
    }
    if (err) {
        network_close(network);
        return err;
    }
    if (options->join) {
        network->seeds = seeds_new(&network->loop, options->join, network_seeds_found, network);
    }
    uv_check_start(&network->check, on_check);
    if (pthread_create(&network->thread, NULL, run, network) != 0) {
        network_close(network);
        return -EAGAIN;
    }
    network->has_thread = true;
    *ret_network = network;
    return 0;
}

struct address network_address(const struct network *network)
{
    return network->address;
}

void network_start(struct network *network)
{
    pthread_mutex_lock(&network->ask_lock);
    network->is_started = true;
    pthread_cond_signal(&network->started);
    pthread_mutex_unlock(&network->ask_lock);
    replica_start(network->replica);
    fetch_run(network->fetch, network->link);
    node_set_settled(network->node, network_is_settled, network);
}

static void close_loop(struct network *network)
{
    seeds_close(network->seeds);
    udp_close(network->udp);
    if (network->has_handles) {
        uv_close((uv_handle_t *)&network->timer, NULL);
        uv_close((uv_handle_t *)&network->check, NULL);
        uv_close((uv_handle_t *)&network->again, NULL);
        uv_close((uv_handle_t *)&network->wake, NULL);
    }
    /* Ends when the worker has written. */
    uv_run(&network->loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&network->loop) == 0);
}

void network_close(struct network *network)
{
    if (!network) {
        return;
    }
    node_set_settled(network->node, NULL, NULL);
    if (network->has_thread) {
        pthread_mutex_lock(&network->ask_lock);
        network->stopping = true;
        pthread_cond_signal(&network->started);
        pthread_mutex_unlock(&network->ask_lock);
        uv_async_send(&network->wake);
        pthread_join(network->thread, NULL);
    }
    fetch_halt(network->fetch);
    replica_stop(network->replica);
    link_close(network->link);
    fetch_free(network->fetch);
    replica_free(network->replica);
    if (network->has_loop) {
        close_loop(network);
    }
    if (network->cluster && network->is_started) {
        network_save_last(network);
    }
    cluster_free(network->cluster);
    inbox_free(network->outbox);
    inbox_free(network->inbox);
    member_events_free(network->events);
    buf_done(&network->save.roster);
    if (network->dir_fd >= 0) {
        close(network->dir_fd);
    }
    pthread_cond_destroy(&network->started);
    pthread_mutex_destroy(&network->listen_lock);
    pthread_mutex_destroy(&network->ask_lock);
    pthread_mutex_destroy(&network->lock);
    free(network);
}

struct replica *network_replica(struct network *network)
{
    return network->replica;
}

struct fetch *network_fetch(struct network *network)
{
    return network->fetch;
}

void network_accept(struct network *network, int fd)
{
    link_accept(network->link, fd);
}

void network_leave(struct network *network, enum member_status status, void (*done)(void *context),
                   void *context)
{
    struct leaver *leaver = mem_alloc(sizeof *leaver);
    leaver->done = done;
    leaver->context = context;
    pthread_mutex_lock(&network->ask_lock);
    leaver->next = network->leavers;
    network->leavers = leaver;
    if (network->leave_as == 0) {
        network->leave_as = status;
    }
    pthread_mutex_unlock(&network->ask_lock);
    uv_async_send(&network->wake);
}

struct wait {
    pthread_mutex_t lock;
    pthread_cond_t over;
    bool is_over;
};

static void end_wait(void *context)
{
    struct wait *wait = context;
    pthread_mutex_lock(&wait->lock);
    wait->is_over = true;
    pthread_cond_signal(&wait->over);
    pthread_mutex_unlock(&wait->lock);
}

void network_leave_wait(struct network *network, enum member_status status)
{
    struct wait wait = {.lock = PTHREAD_MUTEX_INITIALIZER, .over = PTHREAD_COND_INITIALIZER};
    network_leave(network, status, end_wait, &wait);
    pthread_mutex_lock(&wait.lock);
    while (!wait.is_over) {
        pthread_cond_wait(&wait.over, &wait.lock);
    }
    pthread_mutex_unlock(&wait.lock);
    pthread_cond_destroy(&wait.over);
    pthread_mutex_destroy(&wait.lock);
}
