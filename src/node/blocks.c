/* SPDX-License-Identifier: Apache-2.0 */
#include "node/blocks_priv.h"

#include <stdlib.h>
#include <uv.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/random.h"
#include "node/blocks_state_priv.h"

/* Credit of receivers towards us: a train of some thousand questions. */
#define SERVICE_WINDOW_BYTES ((uint32_t)128 * 1024)

uint64_t blocks_now_us(void)
{
    return uv_hrtime() / 1000;
}

bool blocks_enter(struct blocks *blocks)
{
    /* Asked before too: who stops it has not to wait for a gap between those that enter. */
    if (!blocks->is_open) {
        return false;
    }
    pthread_rwlock_rdlock(&blocks->gate);
    if (!blocks->is_open) {
        pthread_rwlock_unlock(&blocks->gate);
        return false;
    }
    return true;
}

void blocks_leave(struct blocks *blocks)
{
    pthread_rwlock_unlock(&blocks->gate);
}

/* ---- the timer ---------------------------------------------------------------------------------
 */

void blocks_set_timer(struct blocks *blocks, uint64_t due_us)
{
    pthread_mutex_lock(&blocks->timer_lock);
    if (due_us < blocks->timer_us) {
        blocks->timer_us = due_us;
        pthread_cond_signal(&blocks->timer_set);
    }
    pthread_mutex_unlock(&blocks->timer_lock);
}

/* False: it is over. */
static bool wait_for_timer(struct blocks *blocks)
{
    pthread_mutex_lock(&blocks->timer_lock);
    /* blocks_now_us() is of the same clock. */
    while (!blocks->is_timer_ending && blocks_now_us() < blocks->timer_us) {
        (void)clock_wait_until(&blocks->timer_set, &blocks->timer_lock, blocks->timer_us);
    }
    const bool goes_on = !blocks->is_timer_ending;
    blocks->timer_us = UINT64_MAX;
    pthread_mutex_unlock(&blocks->timer_lock);
    return goes_on;
}

static void *run_timer(void *argument)
{
    struct blocks *blocks = argument;
    while (wait_for_timer(blocks)) {
        const uint64_t now_us = blocks_now_us();
        blocks_set_timer(blocks, blocks_tell_news(blocks, now_us));
        blocks_set_timer(blocks, blocks_tend_sources(blocks, now_us));
        blocks_set_timer(blocks, blocks_tend_receivers(blocks, now_us));
    }
    return NULL;
}

static void init_timer(struct blocks *blocks)
{
    pthread_mutex_init(&blocks->timer_lock, NULL);
    clock_init_condition(&blocks->timer_set);
    blocks->timer_us = UINT64_MAX;
}

static void stop_timer(struct blocks *blocks)
{
    if (blocks->has_timer) {
        pthread_mutex_lock(&blocks->timer_lock);
        blocks->is_timer_ending = true;
        pthread_cond_signal(&blocks->timer_set);
        pthread_mutex_unlock(&blocks->timer_lock);
        pthread_join(blocks->timer, NULL);
        blocks->has_timer = false;
    }
}

/* ---- opening and closing -----------------------------------------------------------------------
 */

int blocks_open(const struct blocks_options *options, struct blocks **ret_blocks)
{
    struct blocks *blocks = mem_alloc(sizeof *blocks);
    blocks->store = options->store;
    blocks->events = options->events;
    blocks->context = options->context;
    blocks->find_member = options->find_member;
    blocks->member_context = options->member_context;
    blocks->idle_us = (uint64_t)(options->idle_ms ? options->idle_ms : BLOCKS_IDLE_MS) * 1000;
    blocks->stall_us = (uint64_t)(options->stall_ms ? options->stall_ms : BLOCKS_STALL_MS) * 1000;
    blocks->gather_bytes_max =
        options->gather_bytes_max ? options->gather_bytes_max : BLOCKS_GATHER_BYTES_MAX;
    blocks->news_us = UINT64_MAX;
    pthread_rwlock_init(&blocks->gate, NULL);
    pthread_mutex_init(&blocks->ask_lock, NULL);
    pthread_mutex_init(&blocks->serve_lock, NULL);
    init_timer(blocks);
    struct upload_options upload = {.rate_bytes_per_s = options->upload_bytes_per_second};
    random_system(&upload.random_seed, sizeof upload.random_seed);
    blocks->upload = upload_new(&upload, blocks_now_us());
    int err = workers_open(options->workers, &blocks->deliverers);
    if (!err) {
        err = workers_open(options->workers, &blocks->senders);
    }
    if (!err && pthread_create(&blocks->timer, NULL, run_timer, blocks) != 0) {
        err = -EAGAIN;
    }
    if (err) {
        blocks_free(blocks);
        return err;
    }
    blocks->has_timer = true;
    *ret_blocks = blocks;
    return 0;
}

struct link_service blocks_service(struct blocks *blocks)
{
    return (struct link_service){
        .number = SERVICE_BLOCKS,
        .context = blocks,
        .accept = receiver_on_accept,
        .window_bytes = SERVICE_WINDOW_BYTES,
    };
}

void blocks_start(struct blocks *blocks, struct link *link)
{
    blocks->link = link;
    blocks->is_open = true;
}

void blocks_stop(struct blocks *blocks)
{
    blocks->is_open = false;
    pthread_rwlock_wrlock(&blocks->gate); /* those who are in have left */
    pthread_rwlock_unlock(&blocks->gate);
    pthread_mutex_lock(&blocks->serve_lock);
    pthread_mutex_lock(&blocks->ask_lock);
    blocks->is_stopped = true;
    pthread_mutex_unlock(&blocks->ask_lock);
    pthread_mutex_unlock(&blocks->serve_lock);
    stop_timer(blocks);
    workers_close(blocks->deliverers);
    workers_close(blocks->senders);
    blocks->deliverers = NULL;
    blocks->senders = NULL;
}

void blocks_free(struct blocks *blocks)
{
    if (!blocks) {
        return;
    }
    if (!blocks->is_stopped) {
        blocks_stop(blocks);
    }
    CHECK(!blocks->sources && !blocks->receivers && !blocks->growths);
    blocks_free_spares(blocks);
    upload_free(blocks->upload);
    pthread_cond_destroy(&blocks->timer_set);
    pthread_mutex_destroy(&blocks->timer_lock);
    pthread_mutex_destroy(&blocks->serve_lock);
    pthread_mutex_destroy(&blocks->ask_lock);
    pthread_rwlock_destroy(&blocks->gate);
    free(blocks);
}

void blocks_limit_upload(struct blocks *blocks, uint64_t bytes_per_second)
{
    pthread_mutex_lock(&blocks->serve_lock);
    upload_set_rate(blocks->upload, blocks_now_us(), bytes_per_second);
    blocks_pump(blocks);
    pthread_mutex_unlock(&blocks->serve_lock);
}

void blocks_read_counters(struct blocks *blocks, struct blocks_counters *ret_counters)
{
    const struct blocks_sums *sums = &blocks->sums;
    *ret_counters = (struct blocks_counters){
        .received_blocks = sums->received_blocks,
        .received_bytes = sums->received_bytes,
        .wasted_bytes = sums->wasted_bytes,
        .bad_blocks = sums->bad_blocks,
        .sent_blocks = sums->sent_blocks,
        .sent_bytes = sums->sent_bytes,
        .refused_blocks = sums->refused_blocks,
        .malformed = sums->malformed,
        .stalled = sums->stalled,
    };
    pthread_mutex_lock(&blocks->ask_lock);
    ret_counters->sources = HASH_COUNT(blocks->sources);
    ret_counters->gather_bytes = blocks->gather_bytes;
    pthread_mutex_unlock(&blocks->ask_lock);
    pthread_mutex_lock(&blocks->serve_lock);
    ret_counters->receivers = HASH_COUNT(blocks->receivers);
    ret_counters->upload_queued = upload_counters(blocks->upload)->waiting_count;
    for (struct receiver *receiver = blocks->receivers; receiver; receiver = receiver->hh.next) {
        ret_counters->unsaid_bytes += receiver_unwritten_bytes(receiver);
    }
    pthread_mutex_unlock(&blocks->serve_lock);
}
