/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Finding holders, up a ladder: the owners of the key, one after another at short intervals; who
 * owned it before the ring changed; who is said to have it (the publisher, hints); everyone. What a
 * member says of itself counts more than what others say of it. All finds of one key share one
 * lookup; they differ in how far up they want to go.
 */

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "locate/locate_priv.h"

/* Who does not answer for so long is silent. */
#define ANSWER_US SECOND
/* When more wait than these, they are looked after in rounds of ROUND_US. */
#define LOOKUPS_FEW 256u
#define ROUND_US (5 * MS)

struct lookup *lookup_find(const struct locate *locate, uint64_t serial)
{
    struct lookup *lookup = NULL;
    HASH_FIND(hh_serial, locate->lookups_by_serial, &serial, sizeof serial, lookup);
    return lookup;
}

void lookup_ready(struct locate *locate, struct lookup *lookup)
{
    if (lookup->is_ready) {
        return;
    }
    lookup->is_ready = true;
    if (locate->ready_count == locate->ready_capacity) {
        locate->ready_capacity = locate->ready_capacity > 0 ? 2 * locate->ready_capacity : 16;
        locate->ready =
            mem_resize_array(locate->ready, locate->ready_capacity, sizeof *locate->ready);
    }
    locate->ready[locate->ready_count++] = lookup->serial;
    due_sooner(&locate->lookups_due_us, locate->now_us);
}

static void lookup_free(struct locate *locate, struct lookup *lookup)
{
    HASH_DELETE(hh, locate->lookups, lookup);
    HASH_DELETE(hh_serial, locate->lookups_by_serial, lookup);
    locate->counters.lookups_running--;
    free(lookup->asked);
    free(lookup->holders);
    free(lookup->answers);
    free(lookup);
}

/* Holders. */

static struct locate_held_by *find_holder(struct lookup *lookup, const struct node_id *node)
{
    for (size_t i = 0; i < lookup->holders_count; i++) {
        if (node_id_equal(&lookup->holders[i].node, node)) {
            return &lookup->holders[i];
        }
    }
    return NULL;
}

static void add_holder(struct lookup *lookup, const struct node_id *node, enum locate_state state)
{
    struct locate_held_by *holder = find_holder(lookup, node);
    if (holder) {
        lookup->version += holder->state != state;
        holder->state = state;
        return;
    }
    if (lookup->holders_count == LOCATE_HOLDERS_MAX) {
        return;
    }
    if (lookup->holders_count == lookup->holders_capacity) {
        lookup->holders_capacity = lookup->holders_capacity > 0 ? 2 * lookup->holders_capacity : 4;
        lookup->holders =
            mem_resize_array(lookup->holders, lookup->holders_capacity, sizeof *lookup->holders);
    }
    lookup->holders[lookup->holders_count++] =
        (struct locate_held_by){.node = *node, .state = state};
    lookup->version++;
}

static struct asked *find_asked(struct lookup *lookup, const struct node_id *node)
{
    for (size_t i = 0; i < lookup->asked_count; i++) {
        if (node_id_equal(&lookup->asked[i].node, node)) {
            return &lookup->asked[i];
        }
    }
    return NULL;
}

static struct asked *add_asked(struct lookup *lookup, const struct node_id *node)
{
    if (lookup->asked_count == lookup->asked_capacity) {
        lookup->asked_capacity = lookup->asked_capacity > 0 ? 2 * lookup->asked_capacity : 4;
        lookup->asked =
            mem_resize_array(lookup->asked, lookup->asked_capacity, sizeof *lookup->asked);
    }
    struct asked *asked = &lookup->asked[lookup->asked_count++];
    *asked = (struct asked){.node = *node};
    return asked;
}

/* What somebody else says of `node`. */
static void add_hearsay(struct locate *locate, struct lookup *lookup,
                        const struct locate_held_by *holder)
{
    const struct asked *asked = find_asked(lookup, &holder->node);
    const bool told_itself = asked && !asked->is_waiting && asked->outcome <= LOCATE_DENIED;
    if (!told_itself && peer_is_alive(locate, &holder->node)) {
        const struct locate_held_by *known = find_holder(lookup, &holder->node);
        if (!known || known->state < holder->state) {
            add_holder(lookup, &holder->node, holder->state);
        }
    }
}

void lookup_answered(struct lookup *lookup, const struct node_id *node, enum locate_state state)
{
    struct asked *asked = find_asked(lookup, node);
    if (!asked && state == LOCATE_NONE && !find_holder(lookup, node)) {
        return; /* nobody thought that it has it */
    }
    if (!asked) {
        asked = add_asked(lookup, node);
    }
    asked->is_waiting = false;
    if (state != LOCATE_NONE) {
        asked->outcome = state == LOCATE_COMPLETE ? LOCATE_HAS_COMPLETE : LOCATE_HAS_PARTIAL;
        add_holder(lookup, node, state);
        return;
    }
    asked->outcome = LOCATE_DENIED;
    struct locate_held_by *holder = find_holder(lookup, node);
    if (holder) {
        *holder = lookup->holders[--lookup->holders_count];
        lookup->version++;
    }
}

/* Asking. */

static int compare_trips(const void *a, const void *b)
{
    const uint32_t one = *(const uint32_t *)a;
    const uint32_t other = *(const uint32_t *)b;
    return (one > other) - (one < other);
}

/* Twice the 99th percentile of the last answers, within bounds. */
static void note_trip(struct locate *locate, uint64_t trip_us)
{
    locate->trips_us[locate->trips_count++ % TRIPS_KEPT] = (uint32_t)trip_us;
    if (locate->trips_count % (TRIPS_KEPT / 8) != 0) {
        return;
    }
    uint32_t sorted[TRIPS_KEPT];
    const size_t count = locate->trips_count < TRIPS_KEPT ? locate->trips_count : TRIPS_KEPT;
    memcpy(sorted, locate->trips_us, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare_trips);
    const uint64_t wait_us = 2 * (uint64_t)sorted[count * 99 / 100];
    locate->next_owner_us = wait_us < LOCATE_NEXT_MS_MIN * MS   ? LOCATE_NEXT_MS_MIN * MS
                            : wait_us > LOCATE_NEXT_MS_MAX * MS ? LOCATE_NEXT_MS_MAX * MS
                                                                : wait_us;
}

static void ask(struct locate *locate, struct lookup *lookup, const struct node_id *node)
{
    if (node_id_equal(node, &locate->id) || find_asked(lookup, node)) {
        return;
    }
    struct asked *asked = add_asked(lookup, node);
    if (!peer_is_alive(locate, node)) {
        asked->outcome = LOCATE_UNREACHABLE;
        return;
    }
    asked->is_waiting = true;
    asked->asked_us = locate->now_us;
    lookup->last_asked_us = locate->now_us;
    const struct locate_message message = {
        .type = LOCATE_FIND, .number = lookup->serial, .key = lookup->key};
    locate_send_message(locate, node, &message);
}

static size_t waiting_count(const struct lookup *lookup)
{
    size_t count = 0;
    for (size_t i = 0; i < lookup->asked_count; i++) {
        count += lookup->asked[i].is_waiting;
    }
    return count;
}

static bool wants(const struct lookup *lookup, enum locate_depth depth)
{
    for (const struct find *find = lookup->finds; find; find = find->next) {
        if (find->depth == depth) {
            return true;
        }
    }
    return false;
}

/* The ladder. */

static void add_candidate(struct lookup *lookup, const struct node_id *node)
{
    if (lookup->candidates_count < CANDIDATES_MAX) {
        lookup->candidates[lookup->candidates_count++] = *node;
    }
}

static void add_owners(struct locate *locate, struct lookup *lookup, const struct ring *ring)
{
    struct node_id owners[LOCATE_OWNERS];
    const size_t count = ring_owners(ring, &lookup->key, owners);
    /* Any of them first, so that what many look for is not asked of one owner. */
    const size_t first = count > 0 ? random_below(&locate->random, count) : 0;
    for (size_t i = 0; i < count; i++) {
        add_candidate(lookup, &owners[(first + i) % count]);
    }
}

static void enter(struct locate *locate, struct lookup *lookup, enum rung rung)
{
    lookup->rung = rung;
    lookup->candidates_count = 0;
    if (rung == RUNG_OWNERS) {
        add_owners(locate, lookup, locate->ring);
    } else if (rung == RUNG_FORMER && locate->former) {
        add_owners(locate, lookup, locate->former);
    } else if (rung == RUNG_PUBLISHERS) {
        for (size_t i = 0; i < lookup->publishers_count; i++) {
            add_candidate(lookup, &lookup->publishers[i]);
        }
        struct node_id nodes[HINT_NODES_MAX];
        const size_t count = hint_nodes(locate, &lookup->key, nodes);
        for (size_t i = 0; i < count; i++) {
            add_candidate(lookup, &nodes[i]);
        }
    } else if (rung == RUNG_EVERYONE) {
        search_want(locate, lookup);
    }
}

/* Asks who is to be asked now. */
static void ask_candidates(struct locate *locate, struct lookup *lookup)
{
    const bool all = lookup->rung != RUNG_OWNERS || wants(lookup, LOCATE_INDEX);
    while (lookup->candidates_count > 0) {
        if (!all && waiting_count(lookup) > 0 &&
            locate->now_us < lookup->last_asked_us + locate->next_owner_us) {
            return;
        }
        const struct node_id node = lookup->candidates[0];
        lookup->candidates_count--;
        memmove(lookup->candidates, lookup->candidates + 1, lookup->candidates_count * sizeof node);
        ask(locate, lookup, &node);
    }
}

static uint64_t patience_us(const struct locate *locate, const struct lookup *lookup)
{
    return lookup->last_asked_us + 2 * locate->next_owner_us;
}

/* True if it came to the next rung. */
static bool climb(struct locate *locate, struct lookup *lookup)
{
    switch (lookup->rung) {
    case RUNG_OWNERS:
    case RUNG_FORMER:
    case RUNG_PUBLISHERS:
        ask_candidates(locate, lookup);
        if (lookup->candidates_count > 0 ||
            (waiting_count(lookup) > 0 && locate->now_us < patience_us(locate, lookup))) {
            return false;
        }
        enter(locate, lookup, lookup->rung + 1);
        return true;
    case RUNG_LATE: /* only who wants no more than the index waits for those that are late */
        if (wants(lookup, LOCATE_UNTIL_COMPLETE)) {
            enter(locate, lookup, RUNG_EVERYONE);
            return true;
        }
        if (waiting_count(lookup) > 0) {
            return false;
        }
        enter(locate, lookup, RUNG_OVER);
        return true;
    case RUNG_EVERYONE:
        if (lookup->is_searched) {
            enter(locate, lookup, RUNG_OVER);
            return true;
        }
        return false;
    case RUNG_OVER:
        break;
    }
    return false;
}

/* Telling. */

static bool has_complete(const struct locate *locate, const struct lookup *lookup)
{
    for (size_t i = 0; i < lookup->holders_count; i++) {
        if (lookup->holders[i].state == LOCATE_COMPLETE &&
            !node_id_equal(&lookup->holders[i].node, &locate->id)) {
            return true;
        }
    }
    return false;
}

static bool is_over(const struct locate *locate, const struct lookup *lookup,
                    const struct find *find)
{
    if (lookup->rung == RUNG_OVER) {
        return true;
    }
    switch (find->depth) {
    case LOCATE_UNTIL_COMPLETE:
        return has_complete(locate, lookup);
    case LOCATE_INDEX:
        return lookup->rung >= RUNG_LATE && waiting_count(lookup) == 0;
    case LOCATE_EVERYONE:
        break;
    }
    return false;
}

static void make_answers(struct lookup *lookup)
{
    if (lookup->is_searched) {
        return;
    }
    free(lookup->answers);
    lookup->answers = mem_alloc_array(lookup->asked_count + 1, sizeof *lookup->answers);
    lookup->answers_count = lookup->asked_count;
    for (size_t i = 0; i < lookup->asked_count; i++) {
        const struct asked *asked = &lookup->asked[i];
        lookup->answers[i] = (struct locate_answer){
            .node = asked->node,
            .outcome = asked->is_waiting ? LOCATE_SILENT : asked->outcome,
        };
    }
}

static void tell(struct locate *locate, struct lookup *lookup, struct find *find, bool is_final)
{
    if (is_final) {
        make_answers(lookup);
        locate->counters.lookups_failed += lookup->holders_count == 0;
    }
    find->told_version = lookup->version;
    const struct locate_found found = {
        .key = lookup->key,
        .holders = lookup->holders,
        .holders_count = lookup->holders_count,
        .is_final = is_final,
        .answers = is_final ? lookup->answers : NULL,
        .answers_count = is_final ? lookup->answers_count : 0,
        .asked_everyone = is_final && lookup->is_searched,
    };
    locate->host.found(locate->host.context, find->number, &found);
}

static void find_free(struct locate *locate, struct find *find)
{
    DL_DELETE(find->lookup->finds, find);
    HASH_DELETE(hh, locate->finds, find);
    free(find);
}

/* When it has to be looked after again if nothing comes until then. */
static void set_wake(struct locate *locate, struct lookup *lookup)
{
    lookup->wake_us = NEVER;
    const bool is_asking = lookup->rung <= RUNG_PUBLISHERS;
    if (is_asking && lookup->candidates_count > 0) {
        lookup->wake_us = lookup->last_asked_us + locate->next_owner_us;
    } else if (is_asking) {
        lookup->wake_us = patience_us(locate, lookup);
    }
    for (size_t i = 0; i < lookup->asked_count; i++) {
        if (lookup->asked[i].is_waiting) {
            due_sooner(&lookup->wake_us, lookup->asked[i].asked_us + ANSWER_US);
        }
    }
    if (locate->counters.lookups_running > LOOKUPS_FEW && lookup->wake_us != NEVER) {
        lookup->wake_us = (lookup->wake_us / ROUND_US + 1) * ROUND_US;
    }
    due_sooner(&locate->lookups_due_us, lookup->wake_us);
}

static void go_on(struct locate *locate, struct lookup *lookup)
{
    for (size_t i = 0; i < lookup->asked_count; i++) {
        struct asked *asked = &lookup->asked[i];
        if (asked->is_waiting && locate->now_us >= asked->asked_us + ANSWER_US) {
            asked->is_waiting = false;
            asked->outcome = LOCATE_SILENT;
        }
    }
    /* Not further than somebody wants. */
    while ((!has_complete(locate, lookup) || wants(lookup, LOCATE_INDEX) ||
            wants(lookup, LOCATE_EVERYONE)) &&
           climb(locate, lookup)) {
    }
    set_wake(locate, lookup);
}

void lookup_step(struct locate *locate, struct lookup *lookup)
{
    lookup->is_ready = false;
    go_on(locate, lookup);
    struct find *find = NULL;
    struct find *next = NULL;
    DL_FOREACH_SAFE(lookup->finds, find, next)
    {
        if (is_over(locate, lookup, find)) {
            tell(locate, lookup, find, true);
            find_free(locate, find);
        } else if (find->told_version != lookup->version) {
            tell(locate, lookup, find, false);
        }
    }
    if (!lookup->finds) {
        lookup_free(locate, lookup);
    }
}

/* Beginning and ending. */

struct own_rows {
    struct locate *locate;
    struct lookup *lookup;
};

static bool visit_own_row(void *context, const struct locate_held_by *holder)
{
    const struct own_rows *rows = context;
    add_hearsay(rows->locate, rows->lookup, holder);
    return rows->lookup->holders_count < LOCATE_HOLDERS_MAX;
}

static struct lookup *lookup_new(struct locate *locate, const struct ring_key *key)
{
    struct lookup *lookup = mem_alloc(sizeof *lookup);
    lookup->key = *key;
    lookup->serial = locate->next_serial++;
    HASH_ADD(hh, locate->lookups, key, sizeof lookup->key, lookup);
    HASH_ADD(hh_serial, locate->lookups_by_serial, serial, sizeof lookup->serial, lookup);
    locate->counters.lookups++;
    locate->counters.lookups_running++;
    const enum locate_state own = locate->host.state(locate->host.context, key);
    if (own != LOCATE_NONE) {
        add_holder(lookup, &locate->id, own);
    }
    struct own_rows rows = {locate, lookup};
    (void)index_visit(locate, key, visit_own_row, &rows); /* counted; others know it, too */
    enter(locate, lookup, RUNG_OWNERS);
    return lookup;
}

static void add_publisher(struct locate *locate, struct lookup *lookup,
                          const struct node_id *publisher)
{
    if (lookup->publishers_count < ARRAY_SIZE(lookup->publishers)) {
        lookup->publishers[lookup->publishers_count++] = *publisher;
    }
    if (lookup->rung >= RUNG_PUBLISHERS && lookup->rung < RUNG_EVERYONE) {
        ask(locate, lookup, publisher); /* it came late to the others' lookup */
    }
}

int locate_find(struct locate *locate, uint64_t now_us, const struct locate_find *options)
{
    locate->now_us = now_us;
    struct find *find = NULL;
    HASH_FIND(hh, locate->finds, &options->number, sizeof options->number, find);
    CHECK(!find);
    struct lookup *lookup = NULL;
    HASH_FIND(hh, locate->lookups, &options->key, sizeof options->key, lookup);
    if (HASH_COUNT(locate->finds) >= LOCATE_FINDS_MAX ||
        (!lookup && locate->counters.lookups_running >= LOCATE_LOOKUPS_MAX)) {
        return -EBUSY;
    }
    if (!lookup) {
        lookup = lookup_new(locate, &options->key);
    }
    locate->counters.finds++;
    find = mem_alloc(sizeof *find);
    find->number = options->number;
    find->depth = options->depth;
    find->lookup = lookup;
    HASH_ADD(hh, locate->finds, number, sizeof find->number, find);
    DL_APPEND(lookup->finds, find);
    if (options->publisher) {
        add_publisher(locate, lookup, options->publisher);
    }
    /* What came to its end in the index has not, for whoever wants more. */
    const bool ended_early = lookup->rung == RUNG_OVER && !lookup->is_searched;
    if (options->depth == LOCATE_EVERYONE ? lookup->rung < RUNG_EVERYONE || ended_early
                                          : options->depth != LOCATE_INDEX && ended_early) {
        enter(locate, lookup, RUNG_EVERYONE);
    }
    go_on(locate, lookup);
    lookup_ready(locate, lookup); /* what is known already is told by the next tick */
    return 0;
}

void locate_cancel(struct locate *locate, uint64_t number)
{
    struct find *find = NULL;
    HASH_FIND(hh, locate->finds, &number, sizeof number, find);
    if (!find) {
        return;
    }
    struct lookup *lookup = find->lookup;
    find_free(locate, find);
    if (!lookup->finds) {
        lookup_free(locate, lookup);
    }
}

void lookup_found(struct locate *locate, const struct node_id *from,
                  const struct locate_message *message)
{
    struct lookup *lookup = lookup_find(locate, message->number);
    const struct asked *asked = lookup ? find_asked(lookup, from) : NULL;
    if (!asked) {
        return; /* it is over, or was never asked */
    }
    if (asked->is_waiting) {
        note_trip(locate, locate->now_us - asked->asked_us);
    }
    lookup_answered(lookup, from, message->state);
    struct bytes list = message->list;
    struct locate_held_by holder;
    while (locate_message_next_holder(&list, &holder)) {
        add_hearsay(locate, lookup, &holder);
    }
    lookup_step(locate, lookup);
}

void lookup_lost(struct locate *locate, const struct node_id *node)
{
    for (struct lookup *lookup = locate->lookups; lookup; lookup = lookup->hh.next) {
        struct asked *asked = find_asked(lookup, node);
        if (asked && asked->is_waiting) {
            asked->is_waiting = false;
            asked->outcome = LOCATE_UNREACHABLE;
            lookup_ready(locate, lookup);
        }
    }
}

void lookup_due(struct locate *locate)
{
    if (locate->now_us < locate->lookups_due_us) {
        return;
    }
    locate->lookups_due_us = NEVER;
    struct lookup *lookup = NULL;
    struct lookup *next = NULL;
    HASH_ITER(hh, locate->lookups, lookup, next)
    {
        if (lookup->wake_us <= locate->now_us && !lookup->is_ready) {
            lookup_step(locate, lookup);
        } else {
            due_sooner(&locate->lookups_due_us, lookup->wake_us);
        }
    }
    const size_t count = locate->ready_count;
    locate->ready_count = 0;
    for (size_t i = 0; i < count; i++) {
        lookup = lookup_find(locate, locate->ready[i]);
        if (lookup) {
            lookup_step(locate, lookup);
        }
    }
}

void lookup_done(struct locate *locate)
{
    struct find *find = NULL;
    struct find *next_find = NULL;
    HASH_ITER(hh, locate->finds, find, next_find)
    {
        find_free(locate, find);
    }
    struct lookup *lookup = NULL;
    struct lookup *next = NULL;
    HASH_ITER(hh, locate->lookups, lookup, next)
    {
        lookup_free(locate, lookup);
    }
    free(locate->ready);
}
