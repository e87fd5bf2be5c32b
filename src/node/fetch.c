/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The fetch thread. In each turn it takes all that other threads have brought, hands it to the
 * machines (locate, transfer), lets them do what is due, and calls those who wait when the machines
 * are at rest again. It reads the indexes of store and holders, but waits for no write and for no
 * member.
 */

#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "node/fetch_priv.h"
#include "node/network_priv.h"

/* ---- what other threads bring ------------------------------------------------------------------
 */

enum arrived_kind { ARRIVED_MESSAGE = 1, ARRIVED_BROADCAST = 2 };

static void wake_locked(struct fetch *fetch)
{
    if (!fetch->has_news) {
        fetch->has_news = true;
        pthread_cond_signal(&fetch->news_came);
    }
}

static void put(struct fetch *fetch, enum arrived_kind kind, const struct node_id *from,
                struct bytes bytes)
{
    if (inbox_put(fetch->inbox, (uint8_t)kind, from, bytes)) {
        pthread_mutex_lock(&fetch->lock);
        wake_locked(fetch);
        pthread_mutex_unlock(&fetch->lock);
    }
}

void fetch_put_message(struct fetch *fetch, const struct node_id *from, struct bytes bytes)
{
    put(fetch, ARRIVED_MESSAGE, from, bytes);
}

void fetch_put_broadcast(struct fetch *fetch, const struct node_id *from, struct bytes payload)
{
    put(fetch, ARRIVED_BROADCAST, from, payload);
}

void fetch_members_changed(struct fetch *fetch)
{
    pthread_mutex_lock(&fetch->lock);
    fetch->members_changed = true;
    wake_locked(fetch);
    pthread_mutex_unlock(&fetch->lock);
}

static void append(struct fetch_queue *queue, struct fetch_news *news)
{
    news->next = NULL;
    if (queue->last) {
        queue->last->next = news;
    } else {
        queue->first = news;
    }
    queue->last = news;
}

void fetch_post(struct fetch *fetch, struct fetch_news *news)
{
    pthread_mutex_lock(&fetch->lock);
    append(&fetch->news, news);
    wake_locked(fetch);
    pthread_mutex_unlock(&fetch->lock);
}

void fetch_later(struct fetch *fetch, struct fetch_news *news)
{
    append(&fetch->after, news);
}

struct asking {
    struct fetch_news news;
    void (*ask)(struct fetch *fetch, void *context);
    void *context;
    bool is_answered;
};

static void run_asking(struct fetch *fetch, struct fetch_news *news)
{
    struct asking *asking = CONTAINER_OF(news, struct asking, news);
    asking->ask(fetch, asking->context);
    pthread_mutex_lock(&fetch->lock);
    asking->is_answered = true;
    pthread_cond_broadcast(&fetch->answered);
    pthread_mutex_unlock(&fetch->lock);
}

void fetch_ask(struct fetch *fetch, void (*ask)(struct fetch *fetch, void *context), void *context)
{
    if (pthread_equal(pthread_self(), fetch->thread)) {
        ask(fetch, context);
        return;
    }
    struct asking asking = {.news = {.run = run_asking}, .ask = ask, .context = context};
    fetch_post(fetch, &asking.news);
    pthread_mutex_lock(&fetch->lock);
    while (!asking.is_answered) {
        pthread_cond_wait(&fetch->answered, &fetch->lock);
    }
    pthread_mutex_unlock(&fetch->lock);
}

/* ---- the loop ----------------------------------------------------------------------------------
 */

static void take_arrived(struct fetch *fetch)
{
    struct inbox_message *message = inbox_take(fetch->inbox);
    while (message) {
        const struct bytes bytes = BYTES(message->bytes, message->size);
        if (fetch->stopping) {
            /* Nothing is made of it any more. */
        } else if (message->kind == ARRIVED_MESSAGE) {
            locate_message(fetch->locate, network_now_us(), &message->from, bytes);
        } else {
            locate_broadcast(fetch->locate, network_now_us(), bytes);
        }
        message = inbox_next(message);
    }
}

static void run_queue(struct fetch *fetch, struct fetch_queue *queue)
{
    struct fetch_news *news = queue->first;
    *queue = (struct fetch_queue){0};
    while (news) {
        struct fetch_news *next = news->next;
        news->run(fetch, news);
        news = next;
    }
}

static void take_news(struct fetch *fetch)
{
    pthread_mutex_lock(&fetch->lock);
    struct fetch_queue news = fetch->news;
    fetch->news = (struct fetch_queue){0};
    pthread_mutex_unlock(&fetch->lock);
    run_queue(fetch, &news);
}

static void take_changes(struct fetch *fetch)
{
    pthread_mutex_lock(&fetch->lock);
    struct locate_held *changes = fetch->changes;
    const size_t count = fetch->changes_count;
    const bool is_lost = fetch->changes_lost;
    fetch->changes = NULL;
    fetch->changes_count = 0;
    fetch->changes_capacity = 0;
    fetch->changes_lost = false;
    pthread_mutex_unlock(&fetch->lock);
    if (count > 0) {
        locate_changed(fetch->locate, network_now_us(), changes, count);
    }
    if (is_lost) {
        locate_changes_lost(fetch->locate, network_now_us());
    }
    free(changes);
}

/* A list of members takes milliseconds when they are thousands: changes that come close together
 * are looked at together then. */
#define MEMBERS_FEW 512u
#define MEMBERS_SHARE 10u /* one part in so many of the time */

static void take_members(struct fetch *fetch)
{
    const uint64_t begin_us = network_now_us();
    struct network_peer *peers = NULL;
    const size_t count = network_peers(fetch->network, &peers, &fetch->members_change);
    fetch_locate_members(fetch, begin_us, peers, count);
    free(peers);
    fetch->members_us = network_now_us();
    if (count > MEMBERS_FEW) {
        fetch->members_us += (fetch->members_us - begin_us) * MEMBERS_SHARE;
    }
}

void fetch_see_members(struct fetch *fetch)
{
    if (network_now_us() >= fetch->members_us &&
        network_change_count(fetch->network) != fetch->members_change) {
        take_members(fetch);
    }
}

static void members_due(struct fetch *fetch)
{
    if (network_now_us() < fetch->members_us) {
        return;
    }
    pthread_mutex_lock(&fetch->lock);
    const bool have_changed = fetch->members_changed;
    fetch->members_changed = false;
    pthread_mutex_unlock(&fetch->lock);
    if (have_changed) {
        take_members(fetch);
    }
}

static uint64_t next_us(struct fetch *fetch)
{
    uint64_t due_us = fetch_locate_next_us(fetch);
    if (fetch->members_changed && fetch->members_us < due_us) {
        due_us = fetch->members_us;
    }
    return due_us;
}

static void wait_for_news(struct fetch *fetch)
{
    fetch_index_flush(fetch->index);
    pthread_mutex_lock(&fetch->lock);
    fetch->counters.locate = *locate_counters(fetch->locate);
    const uint64_t due_us = next_us(fetch);
    /* The condition's clock is that of uv_hrtime(). */
    const uint64_t real_us =
        due_us <= NETWORK_BEFORE_START_US ? 0 : due_us - NETWORK_BEFORE_START_US;
    const struct timespec until = {
        .tv_sec = (time_t)(real_us / 1000000),
        .tv_nsec = (long)(real_us % 1000000) * 1000,
    };
    int err = due_us <= network_now_us() ? ETIMEDOUT : 0;
    while (!fetch->has_news && !err) {
        err = due_us == UINT64_MAX
                  ? pthread_cond_wait(&fetch->news_came, &fetch->lock)
                  : pthread_cond_timedwait(&fetch->news_came, &fetch->lock, &until);
    }
    fetch->has_news = false;
    pthread_mutex_unlock(&fetch->lock);
}

static void turn(struct fetch *fetch)
{
    members_due(fetch);
    take_changes(fetch);
    take_arrived(fetch);
    take_news(fetch);
    fetch_locate_due(fetch);
    run_queue(fetch, &fetch->after);
}

static void *run(void *argument)
{
    struct fetch *fetch = argument;
    pthread_mutex_lock(&fetch->lock);
    while (!fetch->is_started && !fetch->stopping) {
        pthread_cond_wait(&fetch->news_came, &fetch->lock);
    }
    pthread_mutex_unlock(&fetch->lock);
    while (!fetch->stopping) {
        turn(fetch);
        wait_for_news(fetch);
    }
    return NULL;
}

/* ---- opening and closing -----------------------------------------------------------------------
 */

static void init_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

int fetch_open(struct network *network, struct fetch **ret_fetch)
{
    static const struct inbox_limits limits = {
        FETCH_INBOX_BYTES_MAX,
        FETCH_INBOX_MESSAGES_MAX,
        FETCH_INBOX_SHARES,
    };
    struct fetch *fetch = mem_alloc(sizeof *fetch);
    fetch->node = network->node;
    fetch->network = network;
    fetch->next_number = 1;
    fetch->requests_due_us = UINT64_MAX;
    fetch->members_changed = true;
    uint64_t seed = 0;
    random_system(&seed, sizeof seed);
    random_init(&fetch->random, seed);
    pthread_mutex_init(&fetch->lock, NULL);
    pthread_cond_init(&fetch->answered, NULL);
    init_condition(&fetch->news_came);
    fetch->inbox = inbox_new(&limits);
    int err = fetch_locate_open(fetch);
    if (!err) {
        err = store_held_watch(node_store(network->node), fetch_held_changed, fetch);
    }
    fetch->has_watch = !err;
    if (!err && pthread_create(&fetch->thread, NULL, run, fetch) != 0) {
        err = -EAGAIN;
    }
    fetch->has_thread = !err;
    if (err) {
        fetch_halt(fetch);
        fetch_free(fetch);
        return err;
    }
    *ret_fetch = fetch;
    return 0;
}

void fetch_run(struct fetch *fetch)
{
    pthread_mutex_lock(&fetch->lock);
    fetch->is_started = true;
    pthread_cond_signal(&fetch->news_came);
    pthread_mutex_unlock(&fetch->lock);
}

void fetch_halt(struct fetch *fetch)
{
    if (!fetch) {
        return;
    }
    fetch->stopping = true;
    if (fetch->has_thread) {
        pthread_mutex_lock(&fetch->lock);
        fetch->has_news = true;
        pthread_cond_signal(&fetch->news_came);
        pthread_mutex_unlock(&fetch->lock);
        pthread_join(fetch->thread, NULL);
        fetch->has_thread = false;
    }
    if (fetch->has_watch) {
        const int err = store_held_watch(node_store(fetch->node), NULL, NULL);
        (void)err; /* after a failed sync no change is told any more */
        fetch->has_watch = false;
    }
    fetch->is_over = true;
    fetch->thread = pthread_self(); /* whose calls from here on are answered at once */
    take_news(fetch);
    fetch_locate_end(fetch);
    while (fetch->after.first) {
        run_queue(fetch, &fetch->after);
        take_news(fetch);
    }
}

void fetch_free(struct fetch *fetch)
{
    if (!fetch) {
        return;
    }
    take_news(fetch);
    run_queue(fetch, &fetch->after);
    fetch_locate_close(fetch);
    inbox_free(fetch->inbox);
    free(fetch->changes);
    pthread_cond_destroy(&fetch->answered);
    pthread_cond_destroy(&fetch->news_came);
    pthread_mutex_destroy(&fetch->lock);
    free(fetch);
}

/* ---- what others read --------------------------------------------------------------------------
 */

void fetch_read_counters(struct fetch *fetch, struct fetch_counters *ret_counters)
{
    pthread_mutex_lock(&fetch->lock);
    *ret_counters = fetch->counters;
    pthread_mutex_unlock(&fetch->lock);
    ret_counters->messages_dropped = inbox_dropped(fetch->inbox);
}
