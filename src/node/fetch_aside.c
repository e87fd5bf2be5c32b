/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Files that nobody waits for any more, and of which something came: a reader left, or nobody had
 * the rest. It is kept for FETCH_ASIDE_MS, as who has most of a file often wants the rest a little
 * later, and as it may be the last copy of these blocks; others get it meanwhile. It can't be
 * evicted as cached files can, so it is bounded in time and number, and goes when the disk is full
 * (for a put only as much as it takes: fetch_room.c).
 * After a restart the time begins anew.
 */

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "node/fetch_files_priv.h"
#include "node/maintenance_priv.h"
#include "node/network_priv.h"
#include "node/node_priv.h"

struct fetch_aside {
    struct id id;
    uint64_t until_us;
    UT_hash_handle hh; /* in the order in which they were added */
};

struct forgetting {
    struct work work;
    struct fetch_news news;
    struct fetch *fetch;
    struct id id;
    bool is_for_room;
    int err;
};

static struct fetch_aside *find(const struct fetch *fetch, const struct id *id)
{
    struct fetch_aside *aside = NULL;
    HASH_FIND(hh, fetch->asides, id, sizeof *id, aside);
    return aside;
}

static void run_forgotten(struct fetch *fetch, struct fetch_news *news)
{
    struct forgetting *forgetting = CONTAINER_OF(news, struct forgetting, news);
    const bool is_again = fetch_file_find(fetch, &forgetting->id) != NULL;
    if (forgetting->err && !fetch->is_over && !is_again) {
        fetch_aside_add(fetch, &forgetting->id);
    }
    free(forgetting);
}

static void work_forget(struct work *work)
{
    struct forgetting *forgetting = CONTAINER_OF(work, struct forgetting, work);
    struct fetch *fetch = forgetting->fetch;
    forgetting->err = store_intake_forget(node_store(fetch->node), &forgetting->id);
    if (!forgetting->err && forgetting->is_for_room) {
        maintenance_hurry(fetch->node->maintenance);
    }
    fetch_post(fetch, &forgetting->news);
}

static void remove_aside(struct fetch *fetch, struct fetch_aside *aside)
{
    HASH_DEL(fetch->asides, aside);
    free(aside);
}

static void forget(struct fetch *fetch, struct fetch_aside *aside, bool is_for_room)
{
    struct forgetting *forgetting = mem_alloc(sizeof *forgetting);
    *forgetting = (struct forgetting){
        .work = {.run = work_forget},
        .news = {.run = run_forgotten},
        .fetch = fetch,
        .id = aside->id,
        .is_for_room = is_for_room,
    };
    workers_put(fetch->workers, &forgetting->work);
    remove_aside(fetch, aside);
}

void fetch_aside_add(struct fetch *fetch, const struct id *id)
{
    fetch_aside_take(fetch, id);
    if (HASH_COUNT(fetch->asides) >= FETCH_ASIDES_MAX) {
        forget(fetch, fetch->asides, false);
    }
    struct fetch_aside *aside = mem_alloc(sizeof *aside);
    aside->id = *id;
    aside->until_us = network_now_us() + FETCH_ASIDE_MS * 1000;
    HASH_ADD(hh, fetch->asides, id, sizeof aside->id, aside);
}

void fetch_aside_take(struct fetch *fetch, const struct id *id)
{
    struct fetch_aside *aside = find(fetch, id);
    if (aside) {
        remove_aside(fetch, aside);
    }
}

bool fetch_aside_take_oldest(struct fetch *fetch, struct id *ret_id)
{
    struct fetch_aside *oldest = fetch->asides;
    if (oldest) {
        *ret_id = oldest->id;
        remove_aside(fetch, oldest);
    }
    return oldest != NULL;
}

void fetch_asides_forget(struct fetch *fetch)
{
    while (fetch->asides && !fetch->is_over) {
        forget(fetch, fetch->asides, true);
    }
}

void fetch_asides_due(struct fetch *fetch, uint64_t now_us)
{
    while (fetch->asides && fetch->asides->until_us <= now_us) {
        forget(fetch, fetch->asides, false);
    }
}

uint64_t fetch_asides_next_us(const struct fetch *fetch)
{
    return fetch->asides ? fetch->asides->until_us : UINT64_MAX;
}

size_t fetch_asides_count(const struct fetch *fetch)
{
    return HASH_COUNT(fetch->asides);
}

void fetch_asides_free(struct fetch *fetch)
{
    while (fetch->asides) {
        remove_aside(fetch, fetch->asides);
    }
}
