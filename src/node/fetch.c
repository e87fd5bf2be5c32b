/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The fetch thread. In each turn it takes all that other threads have brought, hands it to the
 * machines (locate, transfer), lets them do what is due, and calls those who wait when the machines
 * are at rest again. It reads the indexes of store and holders, but waits for no write and for no
 * member.
 */

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "node/blocks_priv.h"
#include "node/evict_priv.h"
#include "node/fetch_files_priv.h"
#include "node/guests_priv.h"
#include "node/network_priv.h"
#include "node/survey_priv.h"

/* They wait for syncs, and what waits at the same time is synced together. */
#define FETCH_WORKERS 8u

/* ---- what other threads bring ------------------------------------------------------------------
 */

enum arrived_kind { ARRIVED_MESSAGE = 1, ARRIVED_BROADCAST = 2, ARRIVED_KEEP_MESSAGE = 3 };

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

void fetch_put_keep_message(struct fetch *fetch, const struct node_id *from, struct bytes bytes)
{
    put(fetch, ARRIVED_KEEP_MESSAGE, from, bytes);
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
        } else if (message->kind == ARRIVED_KEEP_MESSAGE) {
            /* Of a stranger nothing is taken. */
            if (network_knows(fetch->network, &message->from) &&
                !survey_message(fetch, &message->from, bytes) &&
                !evict_message(fetch->evict, &message->from, bytes) &&
                !guests_message(fetch->guests, &message->from, bytes)) {
                copies_message(fetch->copies, network_now_us(), &message->from, bytes);
            }
        } else {
            locate_broadcast(fetch->locate, network_now_us(), bytes);
        }
        message = inbox_next(message);
    }
}

static void run_queue(struct fetch *fetch, struct fetch_queue *queue)
{
    while (queue->first) {
        struct fetch_news *news = queue->first;
        queue->first = news->next;
        if (!queue->first) {
            queue->last = NULL;
        }
        news->run(fetch, news);
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

static void set_transfer_members(struct fetch *fetch, uint64_t now_us,
                                 const struct network_peer *peers, size_t peers_count)
{
    struct transfer_member *members = mem_alloc_array(peers_count + 1, sizeof *members);
    for (size_t i = 0; i < peers_count; i++) {
        members[i] = (struct transfer_member){
            .id = peers[i].id, .is_alive = peers[i].is_alive, .is_near = peers[i].is_near};
    }
    transfer_set_members(fetch->transfer, now_us, members, peers_count);
    free(members);
}

static void take_members(struct fetch *fetch)
{
    const uint64_t begin_us = network_now_us();
    struct network_peer *peers = NULL;
    const size_t count = network_peers(fetch->network, &peers, &fetch->members_change);
    fetch_locate_members(fetch, begin_us, peers, count);
    set_transfer_members(fetch, begin_us, peers, count);
    fetch_copies_members(fetch, peers, count);
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
    const uint64_t locate_us = fetch_locate_next_us(fetch);
    const uint64_t files_us = fetch_files_next_us(fetch);
    const uint64_t copies_us = copies_next_us(fetch->copies);
    uint64_t due_us = locate_us < files_us ? locate_us : files_us;
    const uint64_t survey_us = survey_next_us(fetch);
    due_us = copies_us < due_us ? copies_us : due_us;
    due_us = survey_us < due_us ? survey_us : due_us;
    const uint64_t evict_us = evict_next_us(fetch->evict);
    due_us = evict_us < due_us ? evict_us : due_us;
    const uint64_t guests_us = guests_next_us(fetch->guests);
    due_us = guests_us < due_us ? guests_us : due_us;
    if (fetch->members_changed && fetch->members_us < due_us) {
        due_us = fetch->members_us;
    }
    return due_us;
}

static void show_counters(struct fetch *fetch)
{
    const struct transfer_counters *transfer = transfer_counters(fetch->transfer);
    const struct evict_counters *evict = evict_counters(fetch->evict);
    const struct guests_counters *guests = guests_counters(fetch->guests);
    fetch->counters = (struct fetch_counters){
        .locate = *locate_counters(fetch->locate),
        .files_running = HASH_COUNT(fetch->files),
        .files_aside = fetch_asides_count(fetch),
        .files_fetched = fetch->files_fetched,
        .files_failed = fetch->files_failed,
        .files_stopped = fetch->files_stopped,
        .blocks_received = fetch->blocks_received,
        .bytes_received = fetch->bytes_received,
        .blocks_bad = fetch->blocks_bad,
        .blocks_hedged = transfer->hedged,
        .duplicate_bytes = transfer->duplicate_bytes,
        .raced_bytes = transfer->raced_bytes,
        .no_space = fetch->no_space,
        .surveys = fetch->surveys_count,
        .evicted_blocks = evict->evicted_blocks,
        .evicted_bytes = evict->evicted_bytes,
        .evict_refused_blocks = evict->refused_blocks,
        .promised_blocks = evict->promised_blocks,
        .guests_needed_blocks = guests->needed_blocks,
        .guests_ended_blocks = guests->ended_blocks,
    };
}

static void wait_for_news(struct fetch *fetch)
{
    const uint64_t index_us = fetch_index_tend(fetch->index, network_now_us());
    blocks_flush(fetch->blocks);
    pthread_mutex_lock(&fetch->lock);
    show_counters(fetch);
    uint64_t due_us = next_us(fetch);
    due_us = index_us < due_us ? index_us : due_us;
    int err = due_us <= network_now_us() ? -ETIMEDOUT : 0;
    while (!fetch->has_news && !err) {
        err = network_wait_until(&fetch->news_came, &fetch->lock, due_us);
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
    fetch_copies_due(fetch);
    survey_due(fetch);
    evict_due(fetch->evict);
    guests_due(fetch->guests);
    fetch_files_due(fetch);
    contents_due(fetch);
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
    if (!fetch->stopping) {
        members_due(fetch);
        fetch_files_resume(fetch);
    }
    while (!fetch->stopping) {
        turn(fetch);
        wait_for_news(fetch);
    }
    fetch_index_end_turns(fetch->index);
    return NULL;
}

/* ---- opening and closing -----------------------------------------------------------------------
 */

static bool find_member(void *context, const struct node_id *id, struct address *ret_address)
{
    return network_find_address(context, id, ret_address);
}

static int open_blocks(struct fetch *fetch, uint64_t upload_rate)
{
    const struct blocks_options options = {
        .store = node_store(fetch->node),
        .events = fetch_blocks_events(),
        .context = fetch,
        .find_member = find_member,
        .member_context = fetch->network,
        .upload_bytes_per_second = upload_rate,
    };
    return blocks_open(&options, &fetch->blocks);
}

static void init(struct fetch *fetch, struct network *network, uint64_t download_rate)
{
    static const struct inbox_limits limits = {
        FETCH_INBOX_BYTES_MAX,
        FETCH_INBOX_MESSAGES_MAX,
        FETCH_INBOX_SHARES,
    };
    fetch->node = network->node;
    fetch->network = network;
    fetch->requests_due_us = UINT64_MAX;
    fetch->linger_due_us = UINT64_MAX;
    fetch->members_changed = true;
    fetch->batch_end = &fetch->batch;
    uint64_t seed = 0;
    random_system(&seed, sizeof seed);
    random_init(&fetch->random, seed);
    /* Answers to an earlier life may still come. */
    fetch->next_number = random_u64(&fetch->random) / 2;
    pthread_mutex_init(&fetch->lock, NULL);
    pthread_mutex_init(&fetch->contents_lock, NULL);
    pthread_mutex_init(&fetch->room_lock, NULL);
    clock_init_condition(&fetch->answered);
    clock_init_condition(&fetch->news_came);
    fetch->inbox = inbox_new(&limits);
    const struct transfer_options options = {
        .id = *node_identity(network->node),
        .random_seed = random_u64(&fetch->random),
        .rate_bytes_per_s = download_rate,
        .host = fetch_transfer_host(fetch),
    };
    fetch->transfer = transfer_new(&options, network_now_us());
}

int fetch_open(struct network *network, const struct network_options *options,
               struct fetch **ret_fetch)
{
    struct fetch *fetch = mem_alloc(sizeof *fetch);
    init(fetch, network, options->download_rate);
    fetch_copies_open(fetch);
    fetch->evict = evict_new(fetch, options->cache_bytes);
    fetch->followers = options->followers;
    fetch->guests = guests_new(fetch);
    int err = fetch_locate_open(fetch);
    if (!err) {
        err = workers_open(FETCH_WORKERS, &fetch->workers);
    }
    if (!err) {
        err = open_blocks(fetch, options->upload_rate);
    }
    if (!err) {
        err = store_held_watch(node_store(network->node), fetch_held_changed, fetch);
        fetch->has_watch = !err;
    }
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

struct link_service fetch_blocks_service(struct fetch *fetch)
{
    return blocks_service(fetch->blocks);
}

void fetch_run(struct fetch *fetch, struct link *link)
{
    blocks_start(fetch->blocks, link);
    pthread_mutex_lock(&fetch->lock);
    fetch->is_started = true;
    pthread_cond_signal(&fetch->news_came);
    pthread_mutex_unlock(&fetch->lock);
}

static void end_thread(struct fetch *fetch)
{
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
}

static void drain(struct fetch *fetch)
{
    take_news(fetch);
    while (fetch->after.first) {
        run_queue(fetch, &fetch->after);
        take_news(fetch);
    }
}

/* Commits under way are answered, and all intakes closed. */
static void end_contents(struct fetch *fetch)
{
    contents_end(fetch);
    pthread_mutex_lock(&fetch->lock);
    while (fetch->commits_count > 0) {
        pthread_cond_wait(&fetch->answered, &fetch->lock);
    }
    pthread_mutex_unlock(&fetch->lock);
    workers_close(fetch->workers);
    fetch->workers = NULL;
}

void fetch_halt(struct fetch *fetch)
{
    if (!fetch) {
        return;
    }
    fetch->stopping = true;
    if (fetch->blocks) {
        blocks_stop(fetch->blocks);
    }
    end_thread(fetch);
    fetch->is_over = true;
    fetch->thread = pthread_self(); /* whose calls from here on are answered at once */
    drain(fetch);
    fetch_copies_end(fetch);
    survey_end_all(fetch);
    evict_end(fetch->evict);
    guests_end(fetch->guests);
    survey_measures_drop(fetch);
    fetch_files_end(fetch);
    fetch_seeks_end(fetch);
    fetch_locate_end(fetch);
    end_contents(fetch);
    drain(fetch);
}

void fetch_free(struct fetch *fetch)
{
    if (!fetch) {
        return;
    }
    drain(fetch);
    blocks_free(fetch->blocks);
    transfer_free(fetch->transfer);
    fetch_copies_close(fetch);
    evict_free(fetch->evict);
    guests_free(fetch->guests);
    fetch_report_free(fetch);
    fetch_asides_free(fetch);
    fetch_locate_close(fetch);
    inbox_free(fetch->inbox);
    free(fetch->changes);
    pthread_cond_destroy(&fetch->answered);
    pthread_cond_destroy(&fetch->news_came);
    pthread_mutex_destroy(&fetch->room_lock);
    pthread_mutex_destroy(&fetch->contents_lock);
    pthread_mutex_destroy(&fetch->lock);
    free(fetch);
}

/* ---- what others read --------------------------------------------------------------------------
 */

void fetch_read_counters(struct fetch *fetch, struct fetch_counters *ret_counters)
{
    pthread_mutex_lock(&fetch->lock);
    *ret_counters = fetch->counters;
    ret_counters->shunned = fetch->shunned_count;
    pthread_mutex_unlock(&fetch->lock);
    ret_counters->messages_dropped = inbox_dropped(fetch->inbox);
    ret_counters->readers = fetch->readers_count;
    struct blocks_counters blocks;
    blocks_read_counters(fetch->blocks, &blocks);
    ret_counters->wasted_bytes = blocks.wasted_bytes;
    ret_counters->receivers = blocks.receivers;
    ret_counters->given_queued = blocks.upload_queued;
    ret_counters->given_blocks = blocks.sent_blocks;
    ret_counters->given_bytes = blocks.sent_bytes;
    ret_counters->given_refused = blocks.refused_blocks;
    ret_counters->streams_stalled = blocks.stalled;
    ret_counters->streams_malformed = blocks.malformed;
}
