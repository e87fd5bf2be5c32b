/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Room on a full disk for a put that waits for it. Nothing is given up that somebody else may need:
 * first goes what is held by nobody and only waits for its time of grace, then what came of files
 * that nobody waits for (fetch_aside.c), the oldest first and no more than it takes, then cached
 * blocks that others promise to keep (evict.c), if this node has a limit for them.
 *
 * Who waits is a thread of the front end. One makes room at a time: those that waited for it try
 * what it made. When there was nothing to be made, none is looked for again for some seconds, so
 * that many who put to a full disk are told so at once.
 */

#include "base/clock.h"
#include "node/evict_priv.h"
#include "node/fetch_files_priv.h"
#include "node/maintenance_priv.h"
#include "node/network_priv.h"
#include "node/node_priv.h"
#include "store/intake.h"

#define NO_ROOM_US ((uint64_t)5 * 1000 * 1000)
/* To look for holders, ask them, and evict; others are slow if they don't answer by then, and the
 * eviction goes on without the one who waits. */
#define EVICT_WAIT_US ((uint64_t)2 * 1000 * 1000)

/* ---- what nobody waits for ---------------------------------------------------------------------
 */

struct taken {
    struct id id;
    bool has;
    int err;
};

static void ask_take(struct fetch *fetch, void *context)
{
    struct taken *taken = context;
    taken->has = fetch_aside_take_oldest(fetch, &taken->id);
}

static void ask_give_back(struct fetch *fetch, void *context)
{
    const struct taken *taken = context;
    if (!fetch->is_over && !fetch_file_find(fetch, &taken->id)) {
        fetch_aside_add(fetch, &taken->id);
    }
}

static bool drop_oldest(struct fetch *fetch)
{
    struct taken taken = {0};
    fetch_ask(fetch, ask_take, &taken);
    if (!taken.has) {
        return false;
    }
    taken.err = store_intake_forget(node_store(fetch->node), &taken.id);
    if (taken.err) {
        fetch_ask(fetch, ask_give_back, &taken);
        return false;
    }
    (void)maintenance_give_back(fetch->node->maintenance);
    return true;
}

/* ---- what others have, too ---------------------------------------------------------------------
 */

struct wish {
    uint64_t rounds; /* 0: nothing is evicted here */
    uint64_t evicted_bytes;
};

static void ask_evict(struct fetch *fetch, void *context)
{
    struct wish *wish = context;
    wish->rounds = fetch->is_over ? 0 : evict_want_room(fetch->evict);
    wish->evicted_bytes = evict_counters(fetch->evict)->evicted_bytes;
}

static void ask_evicted(struct fetch *fetch, void *context)
{
    struct wish *wish = context;
    wish->evicted_bytes = evict_counters(fetch->evict)->evicted_bytes - wish->evicted_bytes;
}

static void await_rounds(struct fetch *fetch, uint64_t rounds)
{
    const uint64_t until_us = network_now_us() + EVICT_WAIT_US;
    int over = 0;
    pthread_mutex_lock(&fetch->lock);
    while (fetch->evict_rounds < rounds && !fetch->stopping && !over) {
        over = clock_wait_until(&fetch->answered, &fetch->lock, until_us);
    }
    pthread_mutex_unlock(&fetch->lock);
}

static bool evict_some(struct fetch *fetch)
{
    struct wish wish = {0};
    fetch_ask(fetch, ask_evict, &wish);
    if (wish.rounds == 0) {
        return false;
    }
    await_rounds(fetch, wish.rounds);
    fetch_ask(fetch, ask_evicted, &wish);
    if (wish.evicted_bytes > 0) {
        (void)maintenance_give_back(fetch->node->maintenance);
    }
    return wish.evicted_bytes > 0;
}

bool fetch_make_room(struct fetch *fetch)
{
    const uint64_t rooms_made = fetch->rooms_made;
    bool is_made = true;
    pthread_mutex_lock(&fetch->room_lock);
    if (fetch->no_room_us != 0 && network_now_us() < fetch->no_room_us + NO_ROOM_US) {
        is_made = false;
    } else if (fetch->rooms_made == rooms_made) {
        is_made = maintenance_give_back(fetch->node->maintenance) || drop_oldest(fetch) ||
                  evict_some(fetch);
        fetch->no_room_us = is_made ? 0 : network_now_us();
        fetch->rooms_made += is_made;
    }
    pthread_mutex_unlock(&fetch->room_lock);
    return is_made;
}
