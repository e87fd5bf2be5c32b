/* SPDX-License-Identifier: Apache-2.0 */
#include "node/guests_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/network_priv.h"
#include "node/workers_priv.h"
#include "store/hold.h"
#include "wire/keep_message.h"

#define SECOND ((uint64_t)1000 * 1000)
/* Blocks of one round, and the time between two. */
#define ROUND_BLOCKS ((size_t)256)
#define ROUND_US (5 * SECOND)
/* For answers to come. */
#define ANSWER_US (10 * SECOND)
/* Questions of others that wait for a worker; beyond, they get no answer. */
#define LOOKS_MAX 64u

enum phase { PHASE_IDLE, PHASE_LOOKING, PHASE_ASKING, PHASE_ENDING };

struct asked {
    struct node_id node;
    bool has_answered;
};

struct guests {
    struct fetch *fetch;
    enum phase phase;
    bool is_over;
    bool was_settled;
    uint64_t due_us;
    uint64_t next_ms; /* of the store: all were gone through */
    struct store_promised position;
    struct id ids[ROUND_BLOCKS];
    bool are_needed[ROUND_BLOCKS];
    size_t count;
    uint64_t number;
    struct asked *asked;
    size_t asked_count;
    size_t answered_count;
    size_t looks_count;
    struct guests_counters counters;
};

struct guests *guests_new(struct fetch *fetch)
{
    struct guests *guests = mem_alloc(sizeof *guests);
    *guests = (struct guests){.fetch = fetch};
    return guests;
}

void guests_end(struct guests *guests)
{
    guests->is_over = true;
    guests->due_us = UINT64_MAX;
}

void guests_free(struct guests *guests)
{
    if (guests) {
        free(guests->asked);
        free(guests);
    }
}

const struct guests_counters *guests_counters(const struct guests *guests)
{
    return &guests->counters;
}

static void rest(struct guests *guests, uint64_t for_us)
{
    guests->phase = PHASE_IDLE;
    guests->due_us = guests->is_over ? UINT64_MAX : network_now_us() + for_us;
}

/* ---- by a worker: those that are needed stay, the others end -----------------------------------
 */

struct ending {
    struct work work;
    struct fetch_news news;
    struct guests *guests;
    struct id needed[ROUND_BLOCKS];
    size_t needed_count;
    struct id others[ROUND_BLOCKS];
    size_t others_count;
    size_t ended_count;
    int err;
};

static void run_ended(struct fetch *fetch, struct fetch_news *news)
{
    (void)fetch;
    struct ending *ending = CONTAINER_OF(news, struct ending, news);
    struct guests *guests = ending->guests;
    if (ending->err) {
        log_warn("guests_failed", KV("error", err_name(ending->err)));
    }
    guests->counters.needed_blocks += ending->needed_count;
    guests->counters.ended_blocks += ending->ended_count;
    free(ending);
    rest(guests, ROUND_US);
}

static void run_ending(struct work *work)
{
    struct ending *ending = CONTAINER_OF(work, struct ending, work);
    struct store *store = node_store(ending->guests->fetch->node);
    if (ending->needed_count > 0) {
        ending->err = store_promise_renew(store, ending->needed, ending->needed_count);
    }
    if (ending->others_count > 0) {
        const int err =
            store_promise_end(store, ending->others, ending->others_count, &ending->ended_count);
        ending->err = ending->err ? ending->err : err;
    }
    ending->news.run = run_ended;
    fetch_post(ending->guests->fetch, &ending->news);
}

static void begin_ending(struct guests *guests)
{
    struct ending *ending = mem_alloc(sizeof *ending);
    ending->work.run = run_ending;
    ending->guests = guests;
    const bool are_all_asked = guests->answered_count == guests->asked_count;
    for (size_t i = 0; i < guests->count; i++) {
        if (guests->are_needed[i] || !are_all_asked) {
            ending->needed[ending->needed_count++] = guests->ids[i];
        } else {
            ending->others[ending->others_count++] = guests->ids[i];
        }
    }
    guests->phase = PHASE_ENDING;
    guests->due_us = UINT64_MAX;
    workers_put(guests->fetch->workers, &ending->work);
}

/* ---- asking all --------------------------------------------------------------------------------
 */

static void begin_asking(struct guests *guests)
{
    struct fetch *fetch = guests->fetch;
    struct member_info *infos = NULL;
    const size_t count = network_members(fetch->network, &infos);
    free(guests->asked);
    guests->asked = mem_alloc_array(count + 1, sizeof *guests->asked);
    guests->asked_count = 0;
    guests->answered_count = 0;
    guests->number = fetch->next_number++;
    memset(guests->are_needed, 0, sizeof guests->are_needed);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    const struct keep_message message = {
        .type = KEEP_NEED,
        .number = guests->number,
        .blocks = BYTES((const uint8_t *)guests->ids, guests->count * sizeof guests->ids[0]),
    };
    keep_message_format(&message, &bytes);
    for (size_t i = 0; i < count; i++) {
        if (!infos[i].is_self) {
            guests->asked[guests->asked_count++] = (struct asked){.node = infos[i].id};
            /* One that is away does not answer: its blocks stay. */
            network_send(fetch->network, SERVICE_KEEP, &infos[i].id, buf_bytes(&bytes));
        }
    }
    free(infos);
    guests->phase = PHASE_ASKING;
    guests->due_us = network_now_us() + ANSWER_US;
}

static void take_needs(struct guests *guests, const struct node_id *from,
                       const struct keep_message *message)
{
    if (guests->phase != PHASE_ASKING || message->number != guests->number ||
        message->promises.size != guests->count) {
        return;
    }
    for (size_t i = 0; i < guests->asked_count; i++) {
        struct asked *asked = &guests->asked[i];
        if (asked->has_answered || !node_id_equal(&asked->node, from)) {
            continue;
        }
        asked->has_answered = true;
        for (size_t j = 0; j < guests->count; j++) {
            guests->are_needed[j] = guests->are_needed[j] || message->promises.data[j] == 1;
        }
        if (++guests->answered_count == guests->asked_count) {
            guests->due_us = 0;
        }
    }
}

/* ---- by a worker: which are there? -------------------------------------------------------------
 */

struct looking {
    struct work work;
    struct fetch_news news;
    struct guests *guests;
    struct store_promised position;
    struct id ids[ROUND_BLOCKS];
    size_t count;
    int err;
};

static void run_looked(struct fetch *fetch, struct fetch_news *news)
{
    struct looking *looking = CONTAINER_OF(news, struct looking, news);
    struct guests *guests = looking->guests;
    const bool is_end = looking->err != 0;
    if (is_end && looking->err != -ENOENT) {
        log_warn("guests_failed", KV("error", err_name(looking->err)));
    }
    guests->position = looking->position;
    if (is_end) {
        guests->position = (struct store_promised){0};
        guests->next_ms = store_now_ms(node_store(fetch->node)) + GUESTS_PAUSE_MS;
    }
    guests->count = looking->err && looking->err != -ENOENT ? 0 : looking->count;
    memcpy(guests->ids, looking->ids, guests->count * sizeof guests->ids[0]);
    free(looking);
    if (guests->count > 0 && !fetch->is_over) {
        begin_asking(guests);
    } else {
        rest(guests, ROUND_US / 50);
    }
}

static void run_looking(struct work *work)
{
    struct looking *looking = CONTAINER_OF(work, struct looking, work);
    struct fetch *fetch = looking->guests->fetch;
    looking->err = store_promised_next(node_store(fetch->node), &looking->position, GUESTS_AGE_MS,
                                       ROUND_BLOCKS, looking->ids, &looking->count);
    looking->news.run = run_looked;
    fetch_post(fetch, &looking->news);
}

static void begin_looking(struct guests *guests)
{
    guests->was_settled = guests->was_settled || network_is_settled(guests->fetch->network);
    if (!guests->was_settled || store_now_ms(node_store(guests->fetch->node)) < guests->next_ms) {
        rest(guests, ROUND_US);
        return;
    }
    struct looking *looking = mem_alloc(sizeof *looking);
    looking->work.run = run_looking;
    looking->guests = guests;
    looking->position = guests->position;
    guests->phase = PHASE_LOOKING;
    guests->due_us = UINT64_MAX;
    workers_put(guests->fetch->workers, &looking->work);
}

void guests_due(struct guests *guests)
{
    if (guests->is_over || network_now_us() < guests->due_us) {
        return;
    }
    if (guests->phase == PHASE_IDLE) {
        begin_looking(guests);
    } else if (guests->phase == PHASE_ASKING) {
        begin_ending(guests);
    }
}

uint64_t guests_next_us(const struct guests *guests)
{
    return guests->due_us;
}

/* ---- what others ask ---------------------------------------------------------------------------
 */

struct answering {
    struct work work;
    struct fetch_news news;
    struct guests *guests;
    struct node_id from;
    uint64_t number;
    struct buf blocks;
    struct buf needs;
};

static void run_answered(struct fetch *fetch, struct fetch_news *news)
{
    struct answering *answering = CONTAINER_OF(news, struct answering, news);
    answering->guests->looks_count--;
    if (!fetch->is_over) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        const struct keep_message message = {.type = KEEP_NEEDED,
                                             .number = answering->number,
                                             .promises = buf_bytes(&answering->needs)};
        keep_message_format(&message, &bytes);
        network_send(fetch->network, SERVICE_KEEP, &answering->from, buf_bytes(&bytes));
    }
    buf_done(&answering->blocks);
    buf_done(&answering->needs);
    free(answering);
}

static void run_answering(struct work *work)
{
    struct answering *answering = CONTAINER_OF(work, struct answering, work);
    struct fetch *fetch = answering->guests->fetch;
    for (size_t at = 0; at < answering->blocks.size; at += ID_BYTES) {
        struct id id;
        memcpy(id.bytes, answering->blocks.data + at, ID_BYTES);
        buf_add_byte(&answering->needs, store_lacks_block(node_store(fetch->node), &id) ? 1 : 0);
    }
    answering->news.run = run_answered;
    fetch_post(fetch, &answering->news);
}

static void begin_answering(struct guests *guests, const struct node_id *from,
                            const struct keep_message *message)
{
    if (guests->is_over || guests->looks_count >= LOOKS_MAX) {
        return; /* as if it were silent */
    }
    guests->looks_count++;
    struct answering *answering = mem_alloc(sizeof *answering);
    answering->work.run = run_answering;
    answering->guests = guests;
    answering->from = *from;
    answering->number = message->number;
    buf_add(&answering->blocks, message->blocks);
    workers_put(guests->fetch->workers, &answering->work);
}

bool guests_message(struct guests *guests, const struct node_id *from, struct bytes bytes)
{
    struct keep_message message;
    if (keep_message_parse(bytes, &message)) {
        return false;
    }
    if (message.type == KEEP_NEED) {
        begin_answering(guests, from, &message);
    } else if (message.type == KEEP_NEEDED) {
        take_needs(guests, from, &message);
    }
    return message.type == KEEP_NEED || message.type == KEEP_NEEDED;
}
