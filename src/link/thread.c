/* SPDX-License-Identifier: Apache-2.0 */
#include "link/thread_priv.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/list.h"
#include "base/mem.h"
#include "link/connection_priv.h"
#include "link/link_priv.h"

/* Deadlines are looked at so often at least, and four times within the shortest of them. */
#define TICK_MS_MAX 1000u

static struct command *take_inbox(struct link_thread *thread)
{
    pthread_mutex_lock(&thread->lock);
    struct command *first = thread->inbox_first;
    thread->inbox_first = NULL;
    thread->inbox_last = NULL;
    pthread_mutex_unlock(&thread->lock);
    return first;
}

bool thread_drain(struct link_thread *thread)
{
    struct command *command = take_inbox(thread);
    const bool had_some = command != NULL;
    while (command) {
        struct command *next = command->next;
        command->run(command); /* which may free it */
        command = next;
    }
    return had_some;
}

static void flush_dirty(struct link_thread *thread)
{
    while (thread->dirty) {
        struct connection *connection = thread->dirty;
        DL_DELETE2(thread->dirty, connection, dirty_prev, dirty_next);
        connection->is_dirty = false;
        connection_flush(connection);
    }
}

/* Before the loop waits. One round of commands: what they cause waits for the next, so that events
 * get their turn. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct link_thread *thread = prepare->data;
    thread_drain(thread);
    flush_dirty(thread);
    pthread_mutex_lock(&thread->lock);
    const bool has_more = thread->inbox_first != NULL;
    pthread_mutex_unlock(&thread->lock);
    if ((has_more || thread->dirty) && !thread->is_stopped) {
        uv_async_send(&thread->wake);
    }
}

static void on_wake(uv_async_t *wake)
{
    (void)wake; /* The loop is awake; on_prepare() does the rest. */
}

static void tick_connections(struct connection *first, uint64_t now_ms, bool is_late)
{
    struct connection *connection;
    struct connection *next;
    DL_FOREACH_SAFE(first, connection, next)
    {
        if (is_late) {
            connection_forgive(connection, now_ms);
        }
        connection_tick(connection, now_ms);
    }
}

static void on_tick(uv_timer_t *tick)
{
    struct link_thread *thread = tick->data;
    const uint64_t now_ms = thread_now_ms(thread);
    /* It was us who slept (a stopped process, a suspended machine), not the peers: what they have
     * sent meanwhile is read after this. */
    const bool is_late = now_ms > thread->ticked_ms + 2 * uv_timer_get_repeat(tick);
    thread->ticked_ms = now_ms;
    tick_connections(thread->handshakes, now_ms, is_late);
    tick_connections(thread->connections, now_ms, is_late);
    struct peer *peer;
    struct peer *next;
    DL_FOREACH_SAFE(thread->waiting, peer, next)
    {
        peer_tick(peer, now_ms);
    }
}

static void end_all(struct connection *first)
{
    struct connection *connection;
    struct connection *next;
    DL_FOREACH_SAFE(first, connection, next)
    {
        connection_end(connection, LINK_REASON_STOPPED);
    }
}

static void run_stop(struct command *command)
{
    struct link_thread *thread = CONTAINER_OF(command, struct link_thread, stop);
    thread->is_stopped = true;
    end_all(thread->handshakes);
    end_all(thread->connections);
    while (thread->waiting) {
        peer_fail_pending(thread->waiting, -ECANCELED);
    }
    pthread_mutex_lock(&thread->lock);
    thread->is_closing = true;
    pthread_mutex_unlock(&thread->lock);
    uv_close((uv_handle_t *)&thread->wake, NULL);
    uv_close((uv_handle_t *)&thread->prepare, NULL);
    uv_close((uv_handle_t *)&thread->tick, NULL);
}

static void *run(void *argument)
{
    struct link_thread *thread = argument;
    thread->self = pthread_self();
    uv_run(&thread->loop, UV_RUN_DEFAULT);
    return NULL;
}

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static unsigned tick_ms(const struct link_options *options)
{
    const unsigned shortest = least(least(options->handshake_ms, options->keepalive_ms),
                                    least(options->stall_ms, options->idle_ms));
    return least(shortest / 4 + 1, TICK_MS_MAX);
}

int thread_start(struct link *link, struct link_thread *thread)
{
    thread->link = link;
    thread->stop.run = run_stop;
    pthread_mutex_init(&thread->lock, NULL);
    int err = uv_loop_init(&thread->loop);
    if (err) {
        pthread_mutex_destroy(&thread->lock);
        return err_from_errno(-err);
    }
    thread->read_buffer = mem_alloc_aligned(4096, THREAD_READ_BYTES);
    CHECK(uv_prepare_init(&thread->loop, &thread->prepare) == 0);
    CHECK(uv_timer_init(&thread->loop, &thread->tick) == 0);
    thread->ticked_ms = thread_now_ms(thread);
    thread->wake.data = thread->prepare.data = thread->tick.data = thread;
    err = uv_async_init(&thread->loop, &thread->wake, on_wake);
    if (!err) {
        CHECK(uv_prepare_start(&thread->prepare, on_prepare) == 0);
        CHECK(uv_timer_start(&thread->tick, on_tick, tick_ms(&link->options),
                             tick_ms(&link->options)) == 0);
        err = pthread_create(&thread->id, NULL, run, thread) ? UV_EAGAIN : 0;
        thread->is_running = !err;
    }
    if (err) {
        uv_close((uv_handle_t *)&thread->prepare, NULL);
        uv_close((uv_handle_t *)&thread->tick, NULL);
        if (thread->wake.loop) {
            uv_close((uv_handle_t *)&thread->wake, NULL);
        }
        uv_run(&thread->loop, UV_RUN_DEFAULT);
        thread_done(thread);
        return err_from_errno(-err);
    }
    return 0;
}

void thread_stop(struct link_thread *thread)
{
    if (thread->is_running) {
        thread_post(thread, &thread->stop);
        pthread_join(thread->id, NULL);
        thread->is_running = false;
    }
}

void thread_done(struct link_thread *thread)
{
    CHECK(uv_loop_close(&thread->loop) == 0);
    pthread_mutex_destroy(&thread->lock);
    free(thread->read_buffer);
}

void thread_post(struct link_thread *thread, struct command *command)
{
    command->next = NULL;
    pthread_mutex_lock(&thread->lock);
    const bool was_empty = thread->inbox_first == NULL;
    if (was_empty) {
        thread->inbox_first = command;
    } else {
        thread->inbox_last->next = command;
    }
    thread->inbox_last = command;
    /* Under the lock: once the inbox was seen, the thread may stop and close the handle. */
    if (was_empty && !thread->is_closing && !pthread_equal(thread->self, pthread_self())) {
        uv_async_send(&thread->wake);
    }
    pthread_mutex_unlock(&thread->lock);
}
