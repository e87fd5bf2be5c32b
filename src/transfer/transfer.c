/* SPDX-License-Identifier: Apache-2.0 */

/* Fetches from start to end, and what is due. */

#include <errno.h>
#include <stdlib.h>

#include "transfer/transfer_priv.h"

/* With so many blocks on their way, what is not urgent waits so long. */
#define FLIGHTS_ENOUGH 2u
#define SOON_US MS
/* Room came back: so many fetches in a row are looked at that have no use for it. */
#define ROOM_LOOKS 16u
/* What is in use somewhere else is tried again after so long. */
#define BUSY_PAUSE_US (100 * MS)

struct transfer *transfer_new(const struct transfer_options *options, uint64_t now_us)
{
    struct transfer *transfer = mem_alloc(sizeof *transfer);
    transfer->id = options->id;
    transfer->host = options->host;
    transfer->now_us = now_us;
    transfer->due_us = NEVER;
    transfer->next_number = 1;
    transfer->wait_least_us = NEVER;
    transfer->wait_least_before_us = NEVER;
    random_init(&transfer->random, options->random_seed);
    bucket_init(&transfer->limit, now_us, options->rate_bytes_per_s);
    return transfer;
}

static void no_cancel(void *context, const struct node_id *peer, uint32_t number)
{
    (void)context;
    (void)peer;
    (void)number;
}

static void no_find_end(void *context, const struct id *id, bool is_block)
{
    (void)context;
    (void)id;
    (void)is_block;
}

static void no_stop(void *context, const struct node_id *peer, const struct id *file)
{
    (void)context;
    (void)peer;
    (void)file;
}

struct fetch *transfer_fetch_find(const struct transfer *transfer, const struct id *id)
{
    struct fetch *fetch;
    HASH_FIND(hh, transfer->fetches, id, sizeof *id, fetch);
    return fetch;
}

void transfer_fetch_ready(struct transfer *transfer, struct fetch *fetch)
{
    fetch->is_ready = true;
    due_sooner(&transfer->due_us, transfer->now_us);
}

void transfer_fetch_ready_soon(struct transfer *transfer, struct fetch *fetch)
{
    if (fetch->flights_count < FLIGHTS_ENOUGH) {
        transfer_fetch_ready(transfer, fetch);
    } else {
        transfer_fetch_wake(transfer, fetch, transfer->now_us + SOON_US);
    }
}

void transfer_fetch_wake(struct transfer *transfer, struct fetch *fetch, uint64_t at_us)
{
    due_sooner(&fetch->wake_us, at_us);
    due_sooner(&transfer->due_us, at_us);
}

void transfer_fetch_changed(struct transfer *transfer, const struct fetch *fetch)
{
    transfer->host.changed(transfer->host.context, &fetch->id);
}

void transfer_fetch_pause(struct transfer *transfer, struct fetch *fetch, int err,
                          uint64_t pause_us)
{
    const bool is_new = fetch->err != err;
    fetch->err = err;
    fetch->pause_us = transfer->now_us + pause_us;
    transfer_fetch_wake(transfer, fetch, fetch->pause_us);
    if (is_new || err == -ENOSPC) { /* each attempt that found no room is told */
        transfer_fetch_changed(transfer, fetch);
    }
}

/* The list of blocks, and all that hangs from it. */

static void forget_list(struct fetch *fetch)
{
    free(fetch->here);
    free(fetch->need);
    free(fetch->holders);
    free(fetch->first_same);
    free(fetch->next_same);
    free(fetch->refused_us);
    free(fetch->sought);
}

/* Out of the lists, and its memory freed; nothing is told to the host but what it must not keep. */
static void free_fetch(struct transfer *transfer, struct fetch *fetch)
{
    flight_drop_all(transfer, fetch);
    seek_end(transfer, fetch);
    while (fetch->sources_count > 0) {
        source_drop(transfer, fetch->sources[fetch->sources_count - 1]);
    }
    if (fetch->phase == TRANSFER_QUEUED) {
        DL_DELETE(transfer->queued[fetch->priority], fetch);
    } else {
        DL_DELETE(transfer->running[fetch->priority], fetch);
        transfer->running_count--;
    }
    HASH_DEL(transfer->fetches, fetch);
    forget_list(fetch);
    free((void *)fetch->sources);
    free(fetch->source_keys);
    free(fetch->source_dry);
    free(fetch->candidates);
    free(fetch->readers);
    free(fetch);
    due_sooner(&transfer->due_us, transfer->now_us); /* another one's turn */
}

void transfer_free(struct transfer *transfer)
{
    if (!transfer) {
        return;
    }
    transfer->host.cancel = no_cancel;
    transfer->host.find_end = no_find_end;
    transfer->host.stop = no_stop;
    while (transfer->fetches) {
        free_fetch(transfer, transfer->fetches);
    }
    struct peer *peer;
    struct peer *next;
    HASH_ITER(hh, transfer->peers, peer, next)
    {
        HASH_DEL(transfer->peers, peer);
        free(peer);
    }
    free(transfer->members);
    free(transfer);
}

void transfer_fetch_end(struct transfer *transfer, struct fetch *fetch, int err)
{
    transfer->counters.fetches_done += err == 0;
    transfer->counters.fetches_failed += err != 0;
    transfer->host.ended(transfer->host.context, &fetch->id, err);
    free_fetch(transfer, fetch);
}

static void commit(struct transfer *transfer, struct fetch *fetch)
{
    fetch->phase = TRANSFER_COMMITTING;
    seek_end(transfer, fetch);
    flight_end_late(transfer, fetch);
    transfer->host.commit(transfer->host.context, &fetch->id);
}

void transfer_fetch_block_needed(struct transfer *transfer, struct fetch *fetch, uint32_t index)
{
    if (bit_get(fetch->here, index)) {
        return;
    }
    if (!bit_get(fetch->need, index)) {
        bit_set(fetch->need, index);
        fetch->need_count++;
    }
    /* Also one that was released before, and now does not fly any more. */
    fetch->version++;
    fetch->returned[fetch->version % RETURNED_KEPT] = index;
    transfer_fetch_ready_soon(transfer, fetch);
}

void transfer_fetch_block_here(struct transfer *transfer, struct fetch *fetch, uint32_t index)
{
    if (fetch->phase != TRANSFER_FETCHING || bit_get(fetch->here, index)) {
        return;
    }
    if (bit_get(fetch->need, index)) {
        bit_clear(fetch->need, index);
        fetch->need_count--;
    }
    for (uint32_t i = index; i != NO_BLOCK; i = fetch->next_same ? fetch->next_same[i] : NO_BLOCK) {
        bit_set(fetch->here, i);
        fetch->here_count++;
        fetch->here_bytes += fetch->metadata->blocks[i].size_bytes;
    }
    fetch->moved_us = transfer->now_us;
    if (fetch->err) {
        fetch->err = 0;
        transfer_fetch_changed(transfer, fetch);
    }
    transfer_fetch_ready(transfer, fetch);
    if (fetch->here_count == fetch->blocks_count) {
        commit(transfer, fetch);
    }
}

struct first_place {
    struct id id;
    uint32_t first;
    uint32_t last;
    UT_hash_handle hh;
};

/* Blocks that stand in the list more than once are asked for once, by their first place. */
static void find_same(struct fetch *fetch)
{
    const uint32_t count = fetch->blocks_count;
    if (count < 2) {
        return;
    }
    struct first_place *all = mem_alloc_array(count, sizeof *all);
    struct first_place *by_id = NULL;
    for (uint32_t i = 0; i < count; i++) {
        const struct id *id = &fetch->metadata->blocks[i].id;
        struct first_place *place;
        HASH_FIND(hh, by_id, id, sizeof *id, place);
        if (!place) {
            all[i] = (struct first_place){.id = *id, .first = i, .last = i};
            HASH_ADD(hh, by_id, id, sizeof all[i].id, &all[i]);
            continue;
        }
        if (!fetch->first_same) {
            fetch->first_same = mem_alloc_array(count, sizeof *fetch->first_same);
            fetch->next_same = mem_alloc_array(count, sizeof *fetch->next_same);
            for (uint32_t j = 0; j < count; j++) {
                fetch->first_same[j] = j;
                fetch->next_same[j] = NO_BLOCK;
            }
        }
        fetch->first_same[i] = place->first;
        fetch->next_same[place->last] = i;
        place->last = i;
    }
    HASH_CLEAR(hh, by_id);
    free(all);
}

static void take_list(struct fetch *fetch, const struct file_metadata *metadata)
{
    fetch->metadata = metadata;
    fetch->blocks_count = (uint32_t)metadata->blocks_count;
    fetch->words_count = (fetch->blocks_count + 63) / 64;
    const size_t words = most(fetch->words_count, 1);
    fetch->here = mem_alloc_array(words, sizeof *fetch->here);
    fetch->need = mem_alloc_array(words, sizeof *fetch->need);
    fetch->holders = mem_alloc_array(words * 64, sizeof *fetch->holders);
    for (uint32_t i = 0; i < fetch->blocks_count; i++) {
        fetch->block_bytes_max =
            (uint32_t)most(fetch->block_bytes_max, metadata->blocks[i].size_bytes);
    }
    find_same(fetch);
    for (size_t i = 0; i < fetch->sources_count; i++) {
        source_sized(fetch->sources[i]);
    }
}

/* What is here, and so what is not. Nothing is on its way. */
static void take_have(struct fetch *fetch, const uint8_t *have)
{
    memset(fetch->here, 0, fetch->words_count * sizeof *fetch->here);
    memset(fetch->need, 0, fetch->words_count * sizeof *fetch->need);
    fetch->here_count = 0;
    fetch->here_bytes = 0;
    fetch->need_count = 0;
    fetch->version += RETURNED_KEPT + 1; /* all are to be looked for */
    for (uint32_t i = 0; i < fetch->blocks_count; i++) {
        const uint32_t first = fetch->first_same ? fetch->first_same[i] : i;
        if (have[first / 8] >> (first % 8) & 1) {
            bit_set(fetch->here, i);
            fetch->here_count++;
            fetch->here_bytes += fetch->metadata->blocks[i].size_bytes;
        } else if (first == i) {
            bit_set(fetch->need, i);
            fetch->need_count++;
        }
    }
}

static void begin_fetching(struct transfer *transfer, struct fetch *fetch)
{
    fetch->phase = TRANSFER_FETCHING;
    fetch->moved_us = transfer->now_us;
    transfer_fetch_ready(transfer, fetch);
    transfer_fetch_changed(transfer, fetch);
    if (fetch->here_count == fetch->blocks_count) {
        commit(transfer, fetch);
    }
}

static void begin_seeking(struct transfer *transfer, struct fetch *fetch)
{
    fetch->phase = TRANSFER_SEEKING;
    fetch->err = 0;
    transfer_fetch_ready(transfer, fetch);
}

/* Its turn has come. */
static void run(struct transfer *transfer, struct fetch *fetch)
{
    DL_DELETE(transfer->queued[fetch->priority], fetch);
    DL_APPEND(transfer->running[fetch->priority], fetch);
    transfer->running_count++;
    if (fetch->has_publisher) {
        source_add_candidate(transfer, fetch, &fetch->publisher, true);
    }
    if (fetch->metadata) {
        begin_fetching(transfer, fetch);
    } else {
        begin_seeking(transfer, fetch);
    }
}

int transfer_start(struct transfer *transfer, uint64_t now_us, const struct id *file,
                   const struct node_id *publisher_or_null, int priority)
{
    transfer->now_us = now_us;
    priority = priority < 0                       ? 0
               : priority > TRANSFER_PRIORITY_MAX ? TRANSFER_PRIORITY_MAX
                                                  : priority;
    struct fetch *fetch = transfer_fetch_find(transfer, file);
    if (!fetch) {
        if (HASH_COUNT(transfer->fetches) >= TRANSFER_FETCHES_MAX) {
            return -EBUSY;
        }
        fetch = mem_alloc(sizeof *fetch);
        fetch->id = *file;
        fetch->phase = TRANSFER_QUEUED;
        fetch->priority = priority;
        fetch->started_us = now_us;
        fetch->wake_us = NEVER;
        fetch->version = 1;
        HASH_ADD(hh, transfer->fetches, id, sizeof fetch->id, fetch);
        DL_APPEND(transfer->queued[priority], fetch);
        transfer->counters.fetches_started++;
    } else if (priority > fetch->priority) {
        struct fetch **lists =
            fetch->phase == TRANSFER_QUEUED ? transfer->queued : transfer->running;
        DL_DELETE(lists[fetch->priority], fetch);
        fetch->priority = priority;
        DL_APPEND(lists[priority], fetch);
    }
    if (publisher_or_null && !fetch->has_publisher) {
        fetch->publisher = *publisher_or_null;
        fetch->has_publisher = true;
        if (fetch->phase != TRANSFER_QUEUED) {
            source_add_candidate(transfer, fetch, publisher_or_null, true);
        }
    }
    due_sooner(&transfer->due_us, now_us);
    return 0;
}

void transfer_stop(struct transfer *transfer, uint64_t now_us, const struct id *file)
{
    transfer->now_us = now_us;
    struct fetch *fetch = transfer_fetch_find(transfer, file);
    if (fetch) {
        free_fetch(transfer, fetch);
    }
}

/* What the host did. */

/* It goes on later, or ends. */
static void take_failure(struct transfer *transfer, struct fetch *fetch, int err)
{
    if (err == -ENOSPC) {
        transfer_fetch_pause(transfer, fetch, err, TRANSFER_NOSPACE_MS * MS);
    } else if (err == -EBUSY || err == -EAGAIN) {
        transfer_fetch_pause(transfer, fetch, err, BUSY_PAUSE_US);
    } else {
        transfer_fetch_end(transfer, fetch, err);
    }
}

static void blame_list(struct transfer *transfer, struct fetch *fetch)
{
    struct source *source =
        fetch->has_metadata_from ? source_find(fetch, &fetch->metadata_from) : NULL;
    fetch->bad_count++;
    if (source) {
        struct peer *peer = source->peer;
        source->told.bad++;
        transfer_peer_is_bad(transfer, peer);
        /* It may have blocks all the same, but nobody can say which. */
        source_drop(transfer, source);
    }
    begin_seeking(transfer, fetch);
}

void transfer_opened(struct transfer *transfer, uint64_t now_us, const struct id *file, int err,
                     const struct file_metadata *metadata, const uint8_t *have)
{
    transfer->now_us = now_us;
    struct fetch *fetch = transfer_fetch_find(transfer, file);
    if (!fetch || fetch->phase > TRANSFER_OPENING) {
        return;
    }
    if (err == -EBADMSG && fetch->phase == TRANSFER_OPENING) {
        blame_list(transfer, fetch);
        return;
    }
    if (err) {
        if (fetch->phase == TRANSFER_OPENING && !fetch->metadata) {
            fetch->phase = TRANSFER_SEEKING; /* the list is asked for again, after a while */
        }
        take_failure(transfer, fetch, err);
        return;
    }
    if (!fetch->metadata) {
        take_list(fetch, metadata);
    }
    take_have(fetch, have);
    fetch->err = 0;
    if (fetch->phase != TRANSFER_QUEUED) {
        begin_fetching(transfer, fetch);
    }
}

void transfer_copied(struct transfer *transfer, uint64_t now_us, const struct id *file,
                     uint32_t index, int err)
{
    transfer->now_us = now_us;
    struct fetch *fetch = transfer_fetch_find(transfer, file);
    if (!fetch || fetch->phase != TRANSFER_FETCHING || index >= fetch->blocks_count ||
        fetch->copying_count == 0) {
        return; /* while one is under way, not all blocks are here, and nothing is committed */
    }
    fetch->copying_count--;
    if (!err) {
        transfer_fetch_block_here(transfer, fetch, index);
        return;
    }
    transfer_fetch_block_needed(transfer, fetch, index);
    if (err == -ENOSPC || err == -ENOTRECOVERABLE) {
        take_failure(transfer, fetch, err);
    }
}

void transfer_committed(struct transfer *transfer, uint64_t now_us, const struct id *file, int err)
{
    transfer->now_us = now_us;
    struct fetch *fetch = transfer_fetch_find(transfer, file);
    if (!fetch || fetch->phase != TRANSFER_COMMITTING) {
        return;
    }
    if (err == -EAGAIN) {
        fetch->phase = TRANSFER_OPENING;
        transfer->host.open(transfer->host.context, file, (struct bytes){0});
    } else if (err) {
        take_failure(transfer, fetch, err);
    } else {
        transfer_fetch_end(transfer, fetch, 0);
    }
}

/* Members and peers. */

static int compare_members(const void *a, const void *b)
{
    return node_id_compare(&((const struct transfer_member *)a)->id,
                           &((const struct transfer_member *)b)->id);
}

/* Its stream is gone, or it is: nothing is told to it, and nothing awaited. */
static void lose_peer(struct transfer *transfer, struct peer *peer)
{
    const struct node_id node = peer->id;
    const bool is_alive = peer->is_alive;
    peer->is_alive = false;
    peer->sources_count++; /* so that it outlives its requests */
    flight_drop_peer(transfer, peer);
    for (size_t i = 0; i < PRIORITIES; i++) {
        struct fetch *fetch;
        DL_FOREACH(transfer->running[i], fetch)
        {
            struct source *source = source_find(fetch, &node);
            if (source && is_alive) {
                source_lost(transfer, source);
            } else if (source) {
                source_drop(transfer, source);
            }
            if (source) {
                transfer_fetch_ready(transfer, fetch);
            }
        }
    }
    peer->is_alive = is_alive;
    peer->sources_count--;
    transfer_peer_unuse(transfer, peer);
}

void transfer_set_members(struct transfer *transfer, uint64_t now_us,
                          const struct transfer_member *members, size_t members_count)
{
    transfer->now_us = now_us;
    free(transfer->members);
    members_count = least(members_count, TRANSFER_MEMBERS_MAX);
    transfer->members = mem_alloc_array(most(members_count, 1), sizeof *members);
    memcpy(transfer->members, members, members_count * sizeof *members);
    transfer->members_count = members_count;
    qsort(transfer->members, members_count, sizeof *members, compare_members);
    struct peer *peer;
    struct peer *next;
    HASH_ITER(hh, transfer->peers, peer, next)
    {
        const struct transfer_member *member = member_find(transfer, &peer->id);
        peer->is_alive = member && member->is_alive;
        peer->is_near = member && member->is_near;
        if (!peer->is_alive) {
            lose_peer(transfer, peer);
        }
    }
}

void transfer_peer_lost(struct transfer *transfer, uint64_t now_us, const struct node_id *node)
{
    transfer->now_us = now_us;
    struct peer *peer = transfer_peer_find(transfer, node);
    if (peer) {
        lose_peer(transfer, peer);
    }
}

/* Readers. */

int transfer_want(struct transfer *transfer, uint64_t now_us, const struct id *file,
                  uint64_t number, uint32_t first, uint32_t count)
{
    transfer->now_us = now_us;
    struct fetch *fetch = transfer_fetch_find(transfer, file);
    if (!fetch) {
        return -ENOENT;
    }
    size_t at = 0;
    while (at < fetch->readers_count && fetch->readers[at].number != number) {
        at++;
    }
    if (count == 0) {
        if (at < fetch->readers_count) {
            fetch->readers[at] = fetch->readers[--fetch->readers_count];
        }
        return 0;
    }
    if (at == TRANSFER_READERS_MAX) {
        return -EBUSY;
    }
    if (at == fetch->readers_count) {
        fetch->readers =
            mem_resize_array(fetch->readers, fetch->readers_count + 1, sizeof *fetch->readers);
        fetch->readers_count++;
    }
    fetch->readers[at] = (struct reader){.number = number, .first = first, .count = count};
    transfer_fetch_ready(transfer, fetch);
    return 0;
}

/* What is due. */

static void step(struct transfer *transfer, struct fetch *fetch)
{
    const bool is_awake = fetch->wake_us <= transfer->now_us;
    if (!fetch->is_ready && !is_awake) {
        return;
    }
    fetch->is_ready = false;
    if (is_awake) {
        fetch->wake_us = NEVER;
    }
    if (fetch->pause_us > transfer->now_us) {
        transfer_fetch_wake(transfer, fetch, fetch->pause_us);
        return;
    }
    if (fetch->phase == TRANSFER_COMMITTING && fetch->err) {
        fetch->err = 0;
        transfer->host.commit(transfer->host.context, &fetch->id);
        return;
    }
    if (fetch->phase == TRANSFER_OPENING && fetch->err) {
        fetch->err = 0;
        transfer->host.open(transfer->host.context, &fetch->id, (struct bytes){0});
        return;
    }
    if (!seek_step(transfer, fetch) && fetch->phase == TRANSFER_FETCHING) {
        pick_blocks(transfer, fetch);
    }
}

void transfer_tick(struct transfer *transfer, uint64_t now_us)
{
    transfer->now_us = now_us;
    transfer->due_us = NEVER;
    transfer_peer_look_for_late(transfer);
    unsigned looks_left = transfer->has_room ? ROOM_LOOKS : 0;
    transfer->has_room = false;
    for (size_t i = PRIORITIES; i-- > 0;) {
        struct fetch *fetch;
        struct fetch *next;
        DL_FOREACH_SAFE(transfer->running[i], fetch, next)
        {
            if (looks_left > 0 && fetch->wants_room && !fetch->is_ready) {
                fetch->is_ready = true;
                looks_left--;
            }
            const uint64_t on_way_bytes = transfer->on_way_bytes;
            step(transfer, fetch);
            looks_left =
                transfer->on_way_bytes > on_way_bytes && looks_left > 0 ? ROOM_LOOKS : looks_left;
        }
    }
    for (size_t i = PRIORITIES; i-- > 0;) {
        const size_t reserve = i >= TRANSFER_PRIORITY_READER ? TRANSFER_RUNNING_READERS_MAX : 0;
        while (transfer->queued[i] && transfer->running_count < TRANSFER_RUNNING_MAX + reserve) {
            run(transfer, transfer->queued[i]);
        }
    }
    if (transfer->working) {
        due_sooner(&transfer->due_us, most(transfer->late_us, now_us));
    }
    for (size_t i = PRIORITIES; i-- > 0;) {
        const struct fetch *fetch;
        DL_FOREACH(transfer->running[i], fetch)
        {
            due_sooner(&transfer->due_us, fetch->is_ready ? now_us : fetch->wake_us);
        }
    }
}

uint64_t transfer_next_us(const struct transfer *transfer)
{
    return transfer->due_us;
}
