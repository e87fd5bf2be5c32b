/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/live.h"

#include <stdlib.h>

#include "base/backoff.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

/* A node sends a sign of life every 15 s. */
#define SILENCE_MS_MAX UINT64_C(40000)
#define RECONNECT_FIRST_MS 50
#define RECONNECT_LIMIT_MS 1000
/* A node that is frozen keeps its connections. So if no request has ended for so long though some
 * are under way, it is asked for what costs it nothing, and given so long to answer: even a machine
 * that is busy beyond measure does. */
#define PULSE_MS 1000
#define PULSE_SILENCE_MS_MAX UINT64_C(8000)

struct live {
    pthread_t thread;
    pthread_t pulse_thread;
    struct client *client;
    struct client *pulse_client;
    struct backoff reconnect;
    atomic_bool is_ending;
    bool is_connected;      /* under mount.lock */
    bool is_known;          /* whether the node is there; likewise */
    pthread_cond_t changed; /* of that, or of is_ending */
};

static void set_live(struct mount *mount, bool is_connected, bool is_silent)
{
    struct live *live = mount->live;
    const bool is_live = is_connected && !is_silent;
    if (mount->is_live && !is_live) {
        log_warn("mount_node_lost", KV("socket", mount->socket_path));
    } else if (!mount->is_live && is_live && live->is_known) {
        log_warn("mount_node_back", KV("socket", mount->socket_path));
    }
    live->is_connected = is_connected;
    mount->is_silent = is_silent;
    mount->is_live = is_live;
    live->is_known = true;
    pthread_cond_broadcast(&live->changed);
    pthread_cond_broadcast(&mount->settled);
}

static void set_connected(struct mount *mount, bool is_connected)
{
    pthread_mutex_lock(&mount->lock);
    set_live(mount, is_connected, mount->is_silent);
    pthread_mutex_unlock(&mount->lock);
}

static void set_silent(struct mount *mount, bool is_silent)
{
    pthread_mutex_lock(&mount->lock);
    if (mount->is_silent != is_silent) {
        set_live(mount, mount->live->is_connected, is_silent);
    }
    pthread_mutex_unlock(&mount->lock);
}

/* As long as the node sends something. */
static void listen_on(const struct live *live, struct client_stream *stream)
{
    struct bytes data = BYTES(NULL, 1);
    while (!live->is_ending && data.size > 0 && client_stream_read(stream, &data) == 0) {
    }
}

static void wait_ms(struct mount *mount, uint64_t ms)
{
    struct live *live = mount->live;
    const uint64_t until_us = (clock_monotonic_ms(clock_real()) + ms) * 1000;
    pthread_mutex_lock(&mount->lock);
    while (!live->is_ending && clock_wait_until(&live->changed, &mount->lock, until_us) == 0) {
    }
    pthread_mutex_unlock(&mount->lock);
}

static void *live_main(void *context)
{
    struct mount *mount = context;
    struct live *live = mount->live;
    const struct client_request request = {
        .target = "/watch?members=only", /* few events, and signs of life */
        .headers = {"Accept: text/event-stream"},
        .silence_ms_max = SILENCE_MS_MAX,
        .is_stopped = &live->is_ending,
    };
    while (!live->is_ending) {
        CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
        struct client_stream *stream = NULL;
        if (client_stream_open(live->client, &request, &response, &stream)) {
            live->reconnect.failures = 0;
            set_connected(mount, true);
            listen_on(live, stream);
            client_stream_close(stream);
        }
        if (!live->is_ending) {
            set_connected(mount, false);
            wait_ms(mount, backoff_next_ms(&live->reconnect, 0));
        }
    }
    return NULL;
}

/* True if it answers, whatever. */
static bool answers(const struct live *live)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    const struct client_request request = {
        .target = "/healthz",
        .silence_ms_max = PULSE_SILENCE_MS_MAX,
        .is_stopped = &live->is_ending,
    };
    return client_perform(live->pulse_client, &request, &response) || response.status != 0;
}

static void *pulse_main(void *context)
{
    struct mount *mount = context;
    const struct live *live = mount->live;
    uint64_t ended_before = 0;
    while (!live->is_ending) {
        wait_ms(mount, PULSE_MS);
        const uint64_t ended = mount->asks_ended;
        const bool is_stuck = ended == ended_before && ended != mount->asks_begun;
        ended_before = ended;
        if (mount->is_silent || is_stuck) {
            const bool is_silent = !answers(live);
            set_silent(mount, is_silent && !live->is_ending);
        }
    }
    return NULL;
}

static void live_free(struct live *live)
{
    client_free(live->client);
    client_free(live->pulse_client);
    pthread_cond_destroy(&live->changed);
    free(live);
}

static void end_threads(struct mount *mount, bool has_pulse)
{
    struct live *live = mount->live;
    pthread_mutex_lock(&mount->lock);
    live->is_ending = true;
    pthread_cond_broadcast(&live->changed);
    pthread_mutex_unlock(&mount->lock);
    pthread_join(live->thread, NULL);
    if (has_pulse) {
        pthread_join(live->pulse_thread, NULL);
    }
    live_free(STEAL_PTR(mount->live));
}

int live_start(struct mount *mount)
{
    struct live *live = mem_alloc(sizeof *live);
    live->client = client_new_unix(mount->socket_path);
    live->pulse_client = client_clone(live->client);
    live->reconnect =
        (struct backoff){.first_ms = RECONNECT_FIRST_MS, .limit_ms = RECONNECT_LIMIT_MS};
    clock_init_condition(&live->changed);
    mount->live = live;
    if (pthread_create(&live->thread, NULL, live_main, mount) != 0) {
        live_free(STEAL_PTR(mount->live));
        return -EAGAIN;
    }
    if (pthread_create(&live->pulse_thread, NULL, pulse_main, mount) != 0) {
        end_threads(mount, false);
        return -EAGAIN;
    }
    pthread_mutex_lock(&mount->lock);
    while (!live->is_known) {
        pthread_cond_wait(&live->changed, &mount->lock);
    }
    pthread_mutex_unlock(&mount->lock);
    return 0;
}

void live_stop(struct mount *mount)
{
    if (mount->live) {
        end_threads(mount, true);
    }
}
