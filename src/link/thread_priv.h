/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LINK_THREAD_PRIV_H
#define LINK_THREAD_PRIV_H

/*
 * thread: a loop with its thread, the connections that live on it, and the inbox by which all
 * others reach them.
 *
 * Whatever a function of the API wants done is a command in the inbox of the thread concerned,
 * also when it is called on that very thread: so nothing changes under the feet of a callback.
 * A round of the loop is: events, commands, then the connections that have become dirty (have
 * something to send) are flushed.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "link/link.h"

struct connection;
struct peer;

struct command {
    void (*run)(struct command *command);
    struct command *next;
};

/* Where the bytes of all connections of a thread are read into, in turn. What is in it is handed
 * out and used up before the next read, so a quiet connection costs no buffer. */
#define THREAD_READ_BYTES ((size_t)512 * 1024)

/* As in struct link_counters; those of one thread. */
struct thread_counters {
    _Atomic uint64_t streams;
    _Atomic uint64_t connected;
    _Atomic uint64_t ended[LINK_REASONS_COUNT];
    _Atomic uint64_t sent_bytes;
    _Atomic uint64_t received_bytes;
    _Atomic uint64_t sent_frames;
    _Atomic uint64_t received_frames;
    _Atomic uint64_t unknown_frames;
    _Atomic uint64_t streams_opened;
    _Atomic uint64_t streams_accepted;
    _Atomic uint64_t streams_refused;
    _Atomic uint64_t messages_sent;
    _Atomic uint64_t messages_failed;
    _Atomic uint64_t messages_received;
    _Atomic uint64_t messages_dropped;
};

struct link_thread {
    struct link *link;
    pthread_t id;
    _Atomic pthread_t self; /* the same, once it runs */
    bool is_running;

    pthread_mutex_t lock; /* over the inbox */
    struct command *inbox_first;
    struct command *inbox_last;
    bool is_closing; /* nobody is woken any more */

    struct thread_counters counters;

    /* The thread's own. */
    uv_loop_t loop;
    uv_async_t wake;
    uv_prepare_t prepare;
    uv_timer_t tick;
    uint64_t ticked_ms;
    bool is_stopped; /* commands only undo what they stand for */
    uint8_t *read_buffer;
    struct connection *connections; /* but for those that shake hands */
    struct connection *handshakes;  /* that others opened; the oldest first */
    size_t handshakes_count;
    struct connection *dirty;
    struct peer *waiting; /* for the peer's own connection */
    struct command stop;
};

/* *ret_thread is to be zeroed. -EMFILE, -EAGAIN. */
[[nodiscard]] int thread_start(struct link *link, struct link_thread *thread);
/* Ends its connections and the thread; blocks. */
void thread_stop(struct link_thread *thread);
/* Runs what came in after its end, as the thread would; true if there was something. */
bool thread_drain(struct link_thread *thread);
void thread_done(struct link_thread *thread);

/* From any thread; `command` is run once, on the thread. */
void thread_post(struct link_thread *thread, struct command *command);

static inline uint64_t thread_now_ms(const struct link_thread *thread)
{
    return uv_now(&thread->loop);
}

#endif
