/* SPDX-License-Identifier: Apache-2.0 */
#include "node/evict_priv.h"

#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "node/maintenance_priv.h"
#include "node/network_priv.h"
#include "node/node_priv.h"
#include "node/workers_priv.h"
#include "store/hold.h"
#include "store/maintain.h"
#include "wire/keep_message.h"

#define MS ((uint64_t)1000)
#define SECOND (1000 * MS)
/* How often it is looked whether there is too much. */
#define LOOK_US (1 * SECOND)
/* When nothing could be evicted, the next look is that late, and twice as late each time. */
#define PAUSE_US_MIN (2 * SECOND)
#define PAUSE_US_MAX (60 * SECOND)
/* At once: what one message asks for. */
#define CANDIDATES_MAX KEEP_BLOCKS_MAX
/* One part in so many below the limit is made free, so that it is not looked for each block. */
#define SLACK_SHARE 16u
/* Of a full disk so much is made free at a time: more than one who waits for it needs. */
#define ROOM_BYTES ((uint64_t)64 * 1024 * 1024)
/* Holders of a block that are asked, and members of one round. */
#define HOLDERS_ASKED 2u
#define ASKS_MAX 64u
/* For holders to be found, and for answers to come. */
#define FIND_US (5 * SECOND)
#define ANSWER_US (3 * SECOND)
/* A promise is of use for so long: half of what it is given for. */
#define USE_US (STORE_PROMISE_MS_MAX / 2 * MS)
/* Questions of others that wait for a worker; beyond, they get no answer. */
#define PROMISINGS_MAX 64u

enum phase { PHASE_IDLE, PHASE_LOOKING, PHASE_FINDING, PHASE_ASKING, PHASE_EVICTING };

struct candidate {
    struct fetch_find find;
    struct evict *evict;
    struct id id;
    uint32_t size_bytes;
    bool is_finding;
    bool is_promised;
    struct node_id holders[HOLDERS_ASKED];
    size_t holders_count;
};

/* One member that is asked for promises. */
struct ask {
    uint64_t number;
    struct node_id node;
    bool is_answered;
    uint32_t *indices; /* of candidates */
    size_t count;
};

struct evict {
    struct fetch *fetch;
    uint64_t limit_bytes;
    enum phase phase;
    bool is_over;
    bool wants_room; /* the next round is for a full disk */
    bool makes_room; /* this one is */
    uint64_t due_us;
    uint64_t pause_us;
    uint64_t asked_us;
    uint64_t cached_bytes; /* when it was looked */
    uint64_t vain_bytes;   /* refused since something was evicted, or all was gone through */
    struct candidate *candidates;
    size_t candidates_count;
    size_t finding_count;
    struct ask asks[ASKS_MAX];
    size_t asks_count;
    size_t answered_count;
    size_t promisings_count;
    struct evict_counters counters;
};

struct evict *evict_new(struct fetch *fetch, uint64_t cache_bytes)
{
    struct evict *evict = mem_alloc(sizeof *evict);
    *evict = (struct evict){
        .fetch = fetch,
        .limit_bytes = cache_bytes,
        .due_us = cache_bytes > 0 ? 0 : UINT64_MAX,
        .pause_us = PAUSE_US_MIN,
    };
    return evict;
}

static void drop_asks(struct evict *evict)
{
    for (size_t i = 0; i < evict->asks_count; i++) {
        free(evict->asks[i].indices);
    }
    evict->asks_count = 0;
    evict->answered_count = 0;
}

void evict_free(struct evict *evict)
{
    if (!evict) {
        return;
    }
    drop_asks(evict);
    free(evict->candidates);
    free(evict);
}

static void end_finds(struct evict *evict)
{
    for (size_t i = 0; i < evict->candidates_count; i++) {
        struct candidate *candidate = &evict->candidates[i];
        if (candidate->is_finding) {
            candidate->is_finding = false;
            fetch_find_end(evict->fetch, &candidate->find);
        }
    }
    evict->finding_count = 0;
}

void evict_end(struct evict *evict)
{
    end_finds(evict);
    evict->is_over = true;
    evict->due_us = UINT64_MAX;
}

const struct evict_counters *evict_counters(const struct evict *evict)
{
    return &evict->counters;
}

/* ---- by a worker: the end ----------------------------------------------------------------------
 */

struct evicting {
    struct work work;
    struct fetch_news news;
    struct evict *evict;
    uint64_t asked_us;
    struct id *promised;
    size_t promised_count;
    struct id *refused;
    size_t refused_count;
    uint64_t refused_bytes;
    struct store_evicted evicted; /* what was pinned meanwhile is not */
    int err;
};

static void rest(struct evict *evict, uint64_t for_us)
{
    struct fetch *fetch = evict->fetch;
    evict->phase = PHASE_IDLE;
    evict->due_us = evict->is_over ? UINT64_MAX : evict->wants_room ? 0 : network_now_us() + for_us;
    pthread_mutex_lock(&fetch->lock);
    fetch->evict_rounds++;
    pthread_cond_broadcast(&fetch->answered);
    pthread_mutex_unlock(&fetch->lock);
}

uint64_t evict_want_room(struct evict *evict)
{
    struct fetch *fetch = evict->fetch;
    if (evict->limit_bytes == 0 || evict->is_over) {
        return 0;
    }
    const bool is_idle = evict->phase == PHASE_IDLE;
    evict->wants_room = true;
    evict->due_us = is_idle ? 0 : evict->due_us;
    pthread_mutex_lock(&fetch->lock);
    /* The round that is under way does not know of it. */
    const uint64_t rounds = fetch->evict_rounds + (is_idle ? 1 : 2);
    pthread_mutex_unlock(&fetch->lock);
    return rounds;
}

/* After different times on different nodes. */
static void rest_longer(struct evict *evict)
{
    rest(evict, evict->pause_us + random_below(&evict->fetch->random, evict->pause_us));
    evict->pause_us = 2 * evict->pause_us < PAUSE_US_MAX ? 2 * evict->pause_us : PAUSE_US_MAX;
}

static void run_evicted(struct fetch *fetch, struct fetch_news *news)
{
    (void)fetch;
    struct evicting *evicting = CONTAINER_OF(news, struct evicting, news);
    struct evict *evict = evicting->evict;
    if (evicting->err) {
        log_warn("evict_failed", KV("error", err_name(evicting->err)));
    }
    evict->counters.refused_blocks += evicting->refused_count;
    evict->vain_bytes += evicting->refused_bytes;
    if (evicting->evicted.blocks_count > 0) {
        evict->counters.evicted_blocks += evicting->evicted.blocks_count;
        evict->counters.evicted_bytes += evicting->evicted.bytes;
        evict->pause_us = PAUSE_US_MIN;
        evict->vain_bytes = 0;
        if (evict->makes_room) {
            maintenance_hurry(evict->fetch->node->maintenance);
        }
        rest(evict, 0);
    } else if (evict->vain_bytes < evict->cached_bytes) {
        rest(evict, LOOK_US / 2 + random_below(&evict->fetch->random, LOOK_US)); /* others follow */
    } else {
        evict->vain_bytes = 0;
        rest_longer(evict);
    }
    free(evicting->promised);
    free(evicting->refused);
    free(evicting);
}

static void run_evicting(struct work *work)
{
    struct evicting *evicting = CONTAINER_OF(work, struct evicting, work);
    struct store *store = node_store(evicting->evict->fetch->node);
    /* This process may have stood still. */
    const bool is_late = network_now_us() > evicting->asked_us + USE_US;
    if (is_late) {
        store_evict_cancel(store, evicting->promised, evicting->promised_count);
    } else if (evicting->promised_count > 0) {
        evicting->err =
            store_evict(store, evicting->promised, evicting->promised_count, &evicting->evicted);
    }
    if (evicting->refused_count > 0) {
        const int err = store_evict_put_off(store, evicting->refused, evicting->refused_count);
        evicting->err = evicting->err ? evicting->err : err;
    }
    evicting->news.run = run_evicted;
    fetch_post(evicting->evict->fetch, &evicting->news);
}

static void begin_evicting(struct evict *evict)
{
    struct evicting *evicting = mem_alloc(sizeof *evicting);
    evicting->work.run = run_evicting;
    evicting->evict = evict;
    evicting->asked_us = evict->asked_us;
    evicting->promised = mem_alloc_array(CANDIDATES_MAX, sizeof *evicting->promised);
    evicting->refused = mem_alloc_array(CANDIDATES_MAX, sizeof *evicting->refused);
    for (size_t i = 0; i < evict->candidates_count; i++) {
        const struct candidate *candidate = &evict->candidates[i];
        if (candidate->is_promised) {
            evicting->promised[evicting->promised_count++] = candidate->id;
        } else {
            evicting->refused[evicting->refused_count++] = candidate->id;
            evicting->refused_bytes += candidate->size_bytes;
        }
    }
    free(STEAL_PTR(evict->candidates));
    evict->candidates_count = 0;
    drop_asks(evict);
    evict->phase = PHASE_EVICTING;
    evict->due_us = UINT64_MAX;
    workers_put(evict->fetch->workers, &evicting->work);
}

/* ---- asking ------------------------------------------------------------------------------------
 */

/* NULL: too many are asked already. */
static struct ask *find_ask(struct evict *evict, const struct node_id *node)
{
    for (size_t i = 0; i < evict->asks_count; i++) {
        if (node_id_equal(&evict->asks[i].node, node)) {
            return &evict->asks[i];
        }
    }
    if (evict->asks_count == ASKS_MAX) {
        return NULL;
    }
    struct ask *ask = &evict->asks[evict->asks_count++];
    *ask = (struct ask){
        .number = evict->fetch->next_number++,
        .node = *node,
        .indices = mem_alloc_array(evict->candidates_count, sizeof *ask->indices),
    };
    return ask;
}

static void send_ask(struct evict *evict, const struct ask *ask)
{
    CLEANUP_BUF struct buf blocks = BUF_INIT;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    for (size_t i = 0; i < ask->count; i++) {
        buf_add(&blocks, id_bytes(&evict->candidates[ask->indices[i]].id));
    }
    const struct keep_message message = {
        .type = KEEP_PROMISE, .number = ask->number, .blocks = buf_bytes(&blocks)};
    keep_message_format(&message, &bytes);
    network_send(evict->fetch->network, SERVICE_KEEP, &ask->node, buf_bytes(&bytes));
}

static void begin_asking(struct evict *evict)
{
    end_finds(evict);
    for (size_t i = 0; i < evict->candidates_count; i++) {
        const struct candidate *candidate = &evict->candidates[i];
        for (size_t j = 0; j < candidate->holders_count; j++) {
            struct ask *ask = find_ask(evict, &candidate->holders[j]);
            if (ask) {
                ask->indices[ask->count++] = (uint32_t)i;
            }
        }
    }
    evict->phase = PHASE_ASKING;
    evict->asked_us = network_now_us();
    evict->due_us = evict->asks_count > 0 ? evict->asked_us + ANSWER_US : 0;
    for (size_t i = 0; i < evict->asks_count; i++) {
        send_ask(evict, &evict->asks[i]);
    }
}

static void take_promises(struct evict *evict, const struct node_id *from,
                          const struct keep_message *message)
{
    for (size_t i = 0; evict->phase == PHASE_ASKING && i < evict->asks_count; i++) {
        struct ask *ask = &evict->asks[i];
        if (ask->number != message->number || ask->is_answered ||
            !node_id_equal(&ask->node, from) || message->promises.size != ask->count) {
            continue;
        }
        ask->is_answered = true;
        for (size_t j = 0; j < ask->count; j++) {
            struct candidate *candidate = &evict->candidates[ask->indices[j]];
            candidate->is_promised = candidate->is_promised || message->promises.data[j] == 1;
        }
        if (++evict->answered_count == evict->asks_count) {
            evict->due_us = 0;
        }
    }
}

/* ---- finding holders ---------------------------------------------------------------------------
 */

/* Some of those that have it whole, but for this node; from anywhere in the list, so that not all
 * ask the same. */
static void choose_holders(struct candidate *candidate, const struct locate_found *found)
{
    struct fetch *fetch = candidate->evict->fetch;
    const size_t count = found->holders_count;
    const size_t first = count > 0 ? random_below(&fetch->random, count) : 0;
    candidate->holders_count = 0;
    for (size_t i = 0; i < count && candidate->holders_count < HOLDERS_ASKED; i++) {
        const struct locate_held_by *holder = &found->holders[(first + i) % count];
        if (holder->state == LOCATE_COMPLETE &&
            !node_id_equal(&holder->node, node_identity(fetch->node))) {
            candidate->holders[candidate->holders_count++] = holder->node;
        }
    }
}

static void found(struct fetch *fetch, struct fetch_find *find, const struct locate_found *found)
{
    (void)fetch;
    struct candidate *candidate = CONTAINER_OF(find, struct candidate, find);
    struct evict *evict = candidate->evict;
    choose_holders(candidate, found);
    if (found->is_final) {
        candidate->is_finding = false;
        if (--evict->finding_count == 0) {
            evict->due_us = 0;
        }
    }
}

static void begin_finding(struct evict *evict)
{
    evict->phase = PHASE_FINDING;
    evict->due_us = network_now_us() + FIND_US;
    for (size_t i = 0; i < evict->candidates_count; i++) {
        struct candidate *candidate = &evict->candidates[i];
        candidate->find = (struct fetch_find){
            .key = ring_key_of(&candidate->id), .depth = LOCATE_INDEX, .found = found};
        candidate->is_finding = fetch_find_begin(evict->fetch, &candidate->find) == 0;
        evict->finding_count += candidate->is_finding;
    }
    if (evict->finding_count == 0) {
        evict->due_us = 0;
    }
}

/* ---- by a worker: is there too much? -----------------------------------------------------------
 */

struct looking {
    struct work work;
    struct fetch_news news;
    struct evict *evict;
    struct store_candidate candidates[CANDIDATES_MAX];
    size_t count;
    uint64_t cached_bytes;
    bool wants_room;
    int err;
};

static void run_looked(struct fetch *fetch, struct fetch_news *news)
{
    struct looking *looking = CONTAINER_OF(news, struct looking, news);
    struct evict *evict = looking->evict;
    if (looking->err) {
        log_warn("evict_failed", KV("error", err_name(looking->err)));
        rest_longer(evict);
    } else if (looking->count == 0) {
        rest(evict, LOOK_US);
    } else if (fetch->is_over) {
        /* The marks go with the process. */
        rest(evict, 0);
    } else {
        evict->cached_bytes = looking->cached_bytes;
        evict->candidates = mem_alloc_array(looking->count, sizeof *evict->candidates);
        evict->candidates_count = looking->count;
        for (size_t i = 0; i < looking->count; i++) {
            evict->candidates[i].evict = evict;
            evict->candidates[i].id = looking->candidates[i].id;
            evict->candidates[i].size_bytes = looking->candidates[i].size_bytes;
        }
        begin_finding(evict);
    }
    free(looking);
}

static void run_looking(struct work *work)
{
    struct looking *looking = CONTAINER_OF(work, struct looking, work);
    const struct evict *evict = looking->evict;
    struct store *store = node_store(evict->fetch->node);
    struct store_status status;
    looking->err = store_status(store, &status);
    looking->cached_bytes = looking->err ? 0 : status.cache_bytes;
    const bool is_beyond = looking->cached_bytes > evict->limit_bytes;
    uint64_t wanted = looking->wants_room ? ROOM_BYTES : 0;
    if (is_beyond) {
        const uint64_t beyond =
            status.cache_bytes - (evict->limit_bytes - evict->limit_bytes / SLACK_SHARE);
        wanted = wanted < beyond ? beyond : wanted;
    }
    if (!looking->err && wanted > 0 && looking->cached_bytes > 0) {
        looking->err = store_evict_candidates(store, wanted, CANDIDATES_MAX, looking->candidates,
                                              &looking->count);
    }
    looking->news.run = run_looked;
    fetch_post(evict->fetch, &looking->news);
}

static void begin_looking(struct evict *evict)
{
    struct looking *looking = mem_alloc(sizeof *looking);
    looking->work.run = run_looking;
    looking->evict = evict;
    looking->wants_room = evict->wants_room;
    evict->makes_room = evict->wants_room;
    evict->wants_room = false;
    evict->phase = PHASE_LOOKING;
    evict->due_us = UINT64_MAX;
    workers_put(evict->fetch->workers, &looking->work);
}

void evict_due(struct evict *evict)
{
    if (evict->is_over || network_now_us() < evict->due_us) {
        return;
    }
    switch (evict->phase) {
    case PHASE_IDLE:
        begin_looking(evict);
        break;
    case PHASE_FINDING:
        begin_asking(evict);
        break;
    case PHASE_ASKING:
        begin_evicting(evict);
        break;
    case PHASE_LOOKING:
    case PHASE_EVICTING:
        break; /* a worker tells */
    }
}

uint64_t evict_next_us(const struct evict *evict)
{
    return evict->due_us;
}

/* ---- what is promised to others ----------------------------------------------------------------
 */

struct promising {
    struct work work;
    struct fetch_news news;
    struct evict *evict;
    struct node_id from;
    uint64_t number;
    struct buf blocks;
    struct buf promises;
    uint64_t promised_count;
};

static void run_promised(struct fetch *fetch, struct fetch_news *news)
{
    struct promising *promising = CONTAINER_OF(news, struct promising, news);
    struct evict *evict = promising->evict;
    evict->promisings_count--;
    evict->counters.promised_blocks += promising->promised_count;
    if (!fetch->is_over) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        const struct keep_message message = {.type = KEEP_PROMISED,
                                             .number = promising->number,
                                             .promises = buf_bytes(&promising->promises)};
        keep_message_format(&message, &bytes);
        network_send(fetch->network, SERVICE_KEEP, &promising->from, buf_bytes(&bytes));
    }
    buf_done(&promising->blocks);
    buf_done(&promising->promises);
    free(promising);
}

static void run_promising(struct work *work)
{
    struct promising *promising = CONTAINER_OF(work, struct promising, work);
    struct fetch *fetch = promising->evict->fetch;
    const size_t count = promising->blocks.size / ID_BYTES;
    CLEANUP_FREE struct id *ids = mem_alloc_array(count, sizeof *ids);
    CLEANUP_FREE int *errs = mem_alloc_array(count, sizeof *errs);
    memcpy(ids, promising->blocks.data, count * sizeof *ids);
    store_promise_all(node_store(fetch->node), ids, count, STORE_PROMISE_MS_MAX, errs);
    for (size_t i = 0; i < count; i++) {
        buf_add_byte(&promising->promises, errs[i] ? 0 : 1);
        promising->promised_count += errs[i] == 0;
    }
    promising->news.run = run_promised;
    fetch_post(fetch, &promising->news);
}

static void promise(struct evict *evict, const struct node_id *from,
                    const struct keep_message *message)
{
    if (evict->promisings_count >= PROMISINGS_MAX) {
        return; /* as if it were silent */
    }
    evict->promisings_count++;
    struct promising *promising = mem_alloc(sizeof *promising);
    promising->work.run = run_promising;
    promising->evict = evict;
    promising->from = *from;
    promising->number = message->number;
    buf_add(&promising->blocks, message->blocks);
    workers_put(evict->fetch->workers, &promising->work);
}

bool evict_message(struct evict *evict, const struct node_id *from, struct bytes bytes)
{
    struct keep_message message;
    if (keep_message_parse(bytes, &message)) {
        return false;
    }
    if (message.type == KEEP_PROMISE) {
        promise(evict, from, &message);
    } else if (message.type == KEEP_PROMISED) {
        take_promises(evict, from, &message);
    }
    return message.type == KEEP_PROMISE || message.type == KEEP_PROMISED;
}
