/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Copies: what transfer/copies.h asks of its host, on the fetch thread, and those who ask for
 * copies.
 */

#include <errno.h>
#include <stdlib.h>

#include "base/list.h"
#include "base/mem.h"
#include "node/fetch_files_priv.h"
#include "node/fetch_priv.h"
#include "node/maintenance_priv.h"
#include "node/network_priv.h"
#include "node/node_priv.h"

/* ---- what this node wants others to keep ------------------------------------------------------
 */

struct copying {
    struct fetch_news news; /* on its way to the thread, and back */
    struct id *files;
    size_t files_count;
    size_t count; /* wanted, then what came of it */
    uint64_t wait_ms;
    fetch_copied_fn done;
    void *context;
    uint64_t number;
    UT_hash_handle hh;
};

static void run_told(struct fetch *fetch, struct fetch_news *news)
{
    (void)fetch;
    struct copying *copying = CONTAINER_OF(news, struct copying, news);
    copying->done(copying->context, copying->count);
    free(copying->files);
    free(copying);
}

static void tell(struct fetch *fetch, struct copying *copying, size_t count)
{
    copying->count = count;
    copying->news.run = run_told;
    fetch_later(fetch, &copying->news);
}

/* All others that are alive, with their zones. */
static int begin_wish(struct fetch *fetch, const struct copying *copying)
{
    struct member_info *infos = NULL;
    const size_t count = network_members(fetch->network, &infos);
    struct copies_member *members = mem_alloc_array(count + 1, sizeof *members);
    size_t members_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (!infos[i].is_self && infos[i].version.status == MEMBER_ALIVE) {
            members[members_count++] =
                (struct copies_member){infos[i].id, bytes_of_string(infos[i].zone)};
        }
    }
    const uint64_t now_us = network_now_us();
    const struct copies_wish wish = {
        .number = copying->number,
        .files = copying->files,
        .files_count = copying->files_count,
        .count = copying->count,
        .until_us = now_us + copying->wait_ms * 1000,
        .zone = bytes_of_string(node_zone(fetch->node)),
        .members = members,
        .members_count = members_count,
    };
    const int err = copies_wish(fetch->copies, now_us, &wish);
    free(members);
    free(infos);
    return err;
}

static void run_copying(struct fetch *fetch, struct fetch_news *news)
{
    struct copying *copying = CONTAINER_OF(news, struct copying, news);
    copying->number = fetch->next_number++;
    if (fetch->is_over || copying->files_count > COPIES_FILES_MAX ||
        begin_wish(fetch, copying) != 0) {
        tell(fetch, copying, 0);
        return;
    }
    HASH_ADD(hh, fetch->copyings, number, sizeof copying->number, copying);
}

void fetch_copies(struct fetch *fetch, const struct fetch_copies_options *options,
                  fetch_copied_fn done, void *context)
{
    CHECK(options->files_count > 0);
    CHECK(options->count > 0 && options->count <= FETCH_COPIES_MAX);
    CHECK(options->wait_ms <= FETCH_COPIES_MS_MAX);
    struct copying *copying = mem_alloc(sizeof *copying);
    *copying = (struct copying){
        .news = {.run = run_copying},
        .files = mem_copy(options->files, options->files_count * sizeof *options->files),
        .files_count = options->files_count,
        .count = options->count,
        .wait_ms = options->wait_ms,
        .done = done,
        .context = context,
    };
    fetch_post(fetch, &copying->news);
}

struct canceling {
    struct fetch_news news;
    const void *context;
};

static void run_canceling(struct fetch *fetch, struct fetch_news *news)
{
    struct canceling *canceling = CONTAINER_OF(news, struct canceling, news);
    struct copying *copying;
    struct copying *next;
    HASH_ITER(hh, fetch->copyings, copying, next)
    {
        if (copying->context == canceling->context) {
            copies_cancel(fetch->copies, network_now_us(), copying->number);
        }
    }
    free(canceling);
}

void fetch_copies_cancel(struct fetch *fetch, void *context)
{
    struct canceling *canceling = mem_alloc(sizeof *canceling);
    *canceling = (struct canceling){.news = {.run = run_canceling}, .context = context};
    fetch_post(fetch, &canceling->news);
}

static void host_kept(void *context, uint64_t number, size_t count)
{
    struct fetch *fetch = context;
    struct copying *copying = NULL;
    HASH_FIND(hh, fetch->copyings, &number, sizeof number, copying);
    CHECK(copying);
    HASH_DELETE(hh, fetch->copyings, copying);
    tell(fetch, copying, count);
}

/* ---- what others want to be kept here ---------------------------------------------------------
 */

static void host_send(void *context, const struct node_id *to, struct bytes message)
{
    struct fetch *fetch = context;
    network_send(fetch->network, SERVICE_KEEP, to, message);
}

/* A file that is fetched for another node. */
struct keeping {
    struct fetch_news news; /* its fetch could not begin */
    struct fetch *fetch;
    uint64_t list;
    uint32_t index;
    int err;
    struct keeping *prev;
    struct keeping *next;
};

static void keeping_free(struct fetch *fetch, struct keeping *keeping)
{
    DL_DELETE(fetch->keepings, keeping);
    free(keeping);
}

static void kept(void *context, const struct fetch_result *result)
{
    struct keeping *keeping = context;
    struct fetch *fetch = keeping->fetch;
    const uint64_t list = keeping->list;
    const uint32_t index = keeping->index;
    keeping_free(fetch, keeping);
    copies_fetched(fetch->copies, network_now_us(), list, index, result->err);
}

static void is_full(void *context, const struct fetch_result *result)
{
    (void)result;
    const struct keeping *keeping = context;
    copies_fetched(keeping->fetch->copies, network_now_us(), keeping->list, keeping->index,
                   -EAGAIN);
}

static void run_refused(struct fetch *fetch, struct fetch_news *news)
{
    struct keeping *keeping = CONTAINER_OF(news, struct keeping, news);
    (void)fetch;
    const struct fetch_result result = {.err = keeping->err};
    kept(keeping, &result);
}

static void host_fetch(void *context, uint64_t list, uint32_t index,
                       const struct node_id *publisher, const struct id *file)
{
    struct fetch *fetch = context;
    struct keeping *keeping = mem_alloc(sizeof *keeping);
    *keeping = (struct keeping){
        .news = {.run = run_refused},
        .fetch = fetch,
        .list = list,
        .index = index,
    };
    DL_APPEND(fetch->keepings, keeping);
    /* It may be here, and about to be let go of: the change that names it again comes later. */
    maintenance_want(fetch->node->maintenance, file);
    const struct fetch_options options = {
        .file = *file,
        .publisher = publisher,
        .reason = STORE_COPY,
    };
    const struct fetch_waiter waiter = {.done = kept, .full = is_full, .context = keeping};
    keeping->err = fetch_join(fetch, &options, &waiter);
    if (keeping->err) {
        fetch_later(fetch, &keeping->news);
    }
}

static void host_fetch_end(void *context, uint64_t list, uint32_t index, const struct id *file)
{
    struct fetch *fetch = context;
    struct keeping *keeping;
    DL_FOREACH(fetch->keepings, keeping)
    {
        if (keeping->list == list && keeping->index == index) {
            /* What can't be taken back any more is told to a list that is gone. */
            if (fetch_leave(fetch, file, keeping)) {
                keeping_free(fetch, keeping);
            }
            return;
        }
    }
}

/* ---- opening, and what is due -----------------------------------------------------------------
 */

void fetch_copies_open(struct fetch *fetch)
{
    const struct copies_host host = {
        .send = host_send,
        .kept = host_kept,
        .fetch = host_fetch,
        .fetch_end = host_fetch_end,
        .context = fetch,
    };
    fetch->copies = copies_new(&host, random_u64(&fetch->random));
}

void fetch_copies_end(struct fetch *fetch)
{
    struct copying *copying;
    struct copying *next;
    HASH_ITER(hh, fetch->copyings, copying, next)
    {
        HASH_DELETE(hh, fetch->copyings, copying);
        tell(fetch, copying, 0);
    }
}

void fetch_copies_close(struct fetch *fetch)
{
    while (fetch->keepings) {
        keeping_free(fetch, fetch->keepings);
    }
    copies_free(fetch->copies);
}

void fetch_copies_members(struct fetch *fetch, const struct network_peer *peers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!peers[i].is_alive) {
            copies_lost(fetch->copies, network_now_us(), &peers[i].id);
        }
    }
}

void fetch_copies_due(struct fetch *fetch)
{
    const uint64_t now_us = network_now_us();
    if (now_us >= copies_next_us(fetch->copies)) {
        copies_tick(fetch->copies, now_us);
    }
}
