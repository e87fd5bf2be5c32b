/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What this node wants others to keep. Of each wish as many members are asked as are still wanting;
 * one that refuses, says nothing, or is lost is given up for the next one. It is counted all the
 * same if it says later that it has everything.
 */

#include <errno.h>
#include <stdlib.h>

#include "base/list.h"
#include "transfer/copies_priv.h"

/* ---- whom to ask -------------------------------------------------------------------------------
 */

struct place {
    struct node_id id;
    struct bytes zone;
    bool wraps; /* before the key, so behind all others */
    bool is_taken;
};

static int order_places(const void *left, const void *right)
{
    const struct place *a = left;
    const struct place *b = right;
    return a->wraps != b->wraps ? (int)a->wraps - (int)b->wraps : node_id_compare(&a->id, &b->id);
}

static bool is_new_zone(const struct copies_wish *wanted, const struct bytes *zones, size_t count,
                        struct bytes zone)
{
    if (bytes_equal(zone, wanted->zone)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (bytes_equal(zone, zones[i])) {
            return false;
        }
    }
    return true;
}

static void choose(struct wish *wish, const struct copies_wish *wanted)
{
    struct place *places = mem_alloc_array(wanted->members_count + 1, sizeof *places);
    for (size_t i = 0; i < wanted->members_count; i++) {
        const struct copies_member *member = &wanted->members[i];
        places[i] = (struct place){.id = member->id, .zone = member->zone};
        places[i].wraps = memcmp(member->id.bytes, wish->files[0].bytes, NODE_ID_BYTES) < 0;
    }
    qsort(places, wanted->members_count, sizeof *places, order_places);
    struct bytes zones[COPIES_ASKED_MAX];
    size_t count = 0;
    for (size_t i = 0; i < wanted->members_count && count < COPIES_ASKED_MAX; i++) {
        if (is_new_zone(wanted, zones, count, places[i].zone)) {
            zones[count] = places[i].zone;
            wish->candidates[count++] = places[i].id;
            places[i].is_taken = true;
        }
    }
    for (size_t i = 0; i < wanted->members_count && count < COPIES_ASKED_MAX; i++) {
        if (!places[i].is_taken) {
            wish->candidates[count++] = places[i].id;
        }
    }
    wish->candidates_count = count;
    free(places);
}

/* ---- asking ------------------------------------------------------------------------------------
 */

static void send_files(struct copies *copies, const struct ask *ask)
{
    const struct wish *wish = ask->wish;
    for (unsigned part = 0; part < wish->parts_count; part++) {
        const size_t first = (size_t)part * KEEP_FILES_MAX;
        const size_t left = wish->files_count - first;
        const size_t count = left < KEEP_FILES_MAX ? left : KEEP_FILES_MAX;
        if (ask->done_parts & (uint64_t)1 << part) {
            continue;
        }
        const struct keep_message message = {
            .type = KEEP_KEEP,
            .number = ask->id << PART_BITS | part,
            .files = BYTES(wish->files[first].bytes, count * sizeof *wish->files),
        };
        copies_send(copies, &ask->node, &message);
    }
}

static void release(struct copies *copies, const struct ask *ask)
{
    for (unsigned part = 0; part < ask->wish->parts_count; part++) {
        const struct keep_message message = {
            .type = KEEP_RELEASE,
            .number = ask->id << PART_BITS | part,
        };
        copies_send(copies, &ask->node, &message);
    }
}

static void ask_next(struct copies *copies, struct wish *wish)
{
    struct ask *ask = mem_alloc(sizeof *ask);
    *ask = (struct ask){
        .id = copies->next_id++,
        .wish = wish,
        .node = wish->candidates[wish->candidates_asked++],
        .deadline_us = copies->now_us + (uint64_t)COPIES_REPLY_MS * 1000,
    };
    LL_PREPEND(wish->asks, ask);
    HASH_ADD(hh, copies->asks, id, sizeof ask->id, ask);
    wish->running_count++;
    send_files(copies, ask);
    copies_due_at(copies, ask->deadline_us);
}

static bool is_over(const struct copies *copies, const struct wish *wish)
{
    return wish->done_count >= wish->count || copies->now_us >= wish->until_us ||
           (wish->running_count == 0 && wish->candidates_asked == wish->candidates_count);
}

/* Asks as many as are wanting. */
static void ask_more(struct copies *copies, struct wish *wish)
{
    while (wish->done_count + wish->running_count < wish->count &&
           wish->candidates_asked < wish->candidates_count) {
        ask_next(copies, wish);
    }
    if (is_over(copies, wish)) {
        copies_due_at(copies, copies->now_us); /* its end is told by the tick */
    }
}

int copies_wish(struct copies *copies, uint64_t now_us, const struct copies_wish *wanted)
{
    CHECK(wanted->files_count > 0 && wanted->files_count <= COPIES_FILES_MAX);
    CHECK(wanted->count > 0 && wanted->count <= COPIES_NODES_MAX);
    copies->now_us = now_us;
    if (copies->counters.wishes_running == COPIES_WISHES_MAX) {
        return -EBUSY;
    }
    struct wish *wish = mem_alloc(sizeof *wish);
    wish->number = wanted->number;
    wish->until_us = wanted->until_us;
    wish->count = wanted->count;
    wish->files = mem_copy(wanted->files, wanted->files_count * sizeof *wanted->files);
    wish->files_count = wanted->files_count;
    wish->parts_count = (unsigned)((wanted->files_count + KEEP_FILES_MAX - 1) / KEEP_FILES_MAX);
    choose(wish, wanted);
    DL_APPEND(copies->wishes, wish);
    copies->counters.wishes++;
    copies->counters.wishes_running++;
    copies_due_at(copies, wish->until_us);
    ask_more(copies, wish);
    return 0;
}

void copies_cancel(struct copies *copies, uint64_t now_us, uint64_t number)
{
    copies->now_us = now_us;
    struct wish *wish;
    DL_SEARCH_SCALAR(copies->wishes, wish, number, number);
    if (wish && wish->until_us > now_us) {
        wish->until_us = now_us;
        copies_due_at(copies, now_us); /* its end is told by the tick */
    }
}

/* ---- what they say -----------------------------------------------------------------------------
 */

static void give_up(struct copies *copies, struct ask *ask)
{
    if (ask->state == ASK_RUNNING) {
        ask->state = ASK_GIVEN_UP;
        ask->wish->running_count--;
        ask_more(copies, ask->wish);
    }
}

static void take_done(struct copies *copies, struct ask *ask, unsigned part)
{
    struct wish *wish = ask->wish;
    ask->done_parts |= (uint64_t)1 << part;
    for (unsigned i = 0; i < wish->parts_count; i++) {
        if (!(ask->done_parts & (uint64_t)1 << i)) {
            return;
        }
    }
    if (ask->state == ASK_DONE) {
        return;
    }
    wish->running_count -= ask->state == ASK_RUNNING;
    ask->state = ASK_DONE;
    wish->done_count++;
    if (is_over(copies, wish)) {
        copies_due_at(copies, copies->now_us);
    }
}

void wish_take_kept(struct copies *copies, const struct node_id *from,
                    const struct keep_message *message)
{
    const uint64_t id = message->number >> PART_BITS;
    const unsigned part = (unsigned)(message->number & (PARTS_MAX - 1));
    struct ask *ask = NULL;
    HASH_FIND(hh, copies->asks, &id, sizeof id, ask);
    if (!ask || !node_id_equal(&ask->node, from) || part >= ask->wish->parts_count) {
        return; /* of a wish that is over */
    }
    ask->was_heard = true;
    ask->deadline_us = copies->now_us + (uint64_t)COPIES_SILENT_MS * 1000;
    copies_due_at(copies, ask->deadline_us);
    if (message->verdict == KEEP_DONE) {
        take_done(copies, ask, part);
    } else if (message->verdict == KEEP_REFUSED) {
        give_up(copies, ask);
    }
}

void wishes_lost(struct copies *copies, const struct node_id *member)
{
    struct ask *ask;
    struct ask *next;
    HASH_ITER(hh, copies->asks, ask, next)
    {
        if (node_id_equal(&ask->node, member)) {
            give_up(copies, ask);
        }
    }
}

/* ---- time --------------------------------------------------------------------------------------
 */

static void wish_free(struct copies *copies, struct wish *wish)
{
    while (wish->asks) {
        struct ask *ask = wish->asks;
        LL_DELETE(wish->asks, ask);
        HASH_DELETE(hh, copies->asks, ask);
        free(ask);
    }
    DL_DELETE(copies->wishes, wish);
    copies->counters.wishes_running--;
    free(wish->files);
    free(wish);
}

static void end(struct copies *copies, struct wish *wish)
{
    const bool is_reached = wish->done_count >= wish->count;
    const struct ask *ask;
    LL_FOREACH(wish->asks, ask)
    {
        /* What others have by now is enough. */
        if (is_reached && ask->state != ASK_DONE) {
            release(copies, ask);
        }
    }
    copies->counters.wishes_short += !is_reached;
    copies->host.kept(copies->host.context, wish->number, wish->done_count);
    wish_free(copies, wish);
}

static void ask_tick(struct copies *copies, struct ask *ask)
{
    if (ask->state != ASK_RUNNING) {
        return;
    }
    if (copies->now_us < ask->deadline_us) {
        copies_due_at(copies, ask->deadline_us);
    } else if (ask->was_heard || ask->was_asked_again) {
        give_up(copies, ask);
    } else {
        ask->was_asked_again = true;
        ask->deadline_us = copies->now_us + (uint64_t)COPIES_REPLY_MS * 1000;
        copies_due_at(copies, ask->deadline_us);
        send_files(copies, ask);
    }
}

void wishes_tick(struct copies *copies)
{
    struct wish *wish;
    struct wish *next;
    DL_FOREACH_SAFE(copies->wishes, wish, next)
    {
        struct ask *ask;
        LL_FOREACH(wish->asks, ask)
        {
            ask_tick(copies, ask);
        }
        if (is_over(copies, wish)) {
            end(copies, wish);
        } else {
            copies_due_at(copies, wish->until_us);
        }
    }
}

void wishes_free(struct copies *copies)
{
    while (copies->wishes) {
        wish_free(copies, copies->wishes);
    }
}
