/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_NODE_BLOCKS_HELPERS_H
#define TESTS_UNIT_NODE_BLOCKS_HELPERS_H

/*
 * Nodes that ask each other for blocks, all in this process on loopback, each with a link and a
 * store; and records of what they were told.
 */

#include "../link/helpers.h"
#include "../store/intake_helpers.h"

#include "node/blocks_priv.h"

#define SIDES_MAX 24u
#define EVENTS_MAX 4096u
#define NEVER_ADDRESS 9u /* the number of a member that nobody knows */

struct offer_seen {
    struct node_id peer;
    uint32_t number;
    struct id file;
    enum transfer_state state;
    struct buf text;
    struct buf have;
    struct node_id others[TRANSFER_ASKERS_MAX];
    size_t others_count;
};

struct end_seen {
    uint32_t number;
    uint16_t position;
    int err;
    uint32_t size_bytes;
};

struct refusal_seen {
    uint32_t number;
    uint16_t position;
    enum transfer_refusal why;
    struct node_id others[TRANSFER_OTHERS_MAX];
    size_t others_count;
};

/* What one side was told. */
struct seen {
    pthread_mutex_t lock; /* over the arrays while they grow */
    struct offer_seen offers[EVENTS_MAX];
    _Atomic size_t offers_count;
    uint32_t more[EVENTS_MAX];
    _Atomic size_t more_count;
    struct end_seen ends[EVENTS_MAX];
    _Atomic size_t ends_count;
    struct refusal_seen refusals[EVENTS_MAX];
    _Atomic size_t refusals_count;
    struct id asked[EVENTS_MAX];
    _Atomic size_t asked_count;
    _Atomic size_t lost_count;
    _Atomic enum blocks_end lost_why;
    _Atomic uint64_t received_bytes;
    _Atomic size_t delivered_count;
    _Atomic size_t wrong_count;      /* delivered with bytes that are not the block's */
    _Atomic bool is_slow;            /* deliveries wait until it is false */
    _Atomic int deliver_err;         /* what deliveries end with, if it is not 0 */
    _Atomic size_t waiting_count;    /* deliveries that do */
    struct store_intake *_Atomic to; /* where blocks go, by their index; may be NULL */
    _Atomic bool trusts;             /* whatever comes goes there */
};

struct side {
    struct scratch *scratch;
    struct blocks *blocks; /* NULL: a stranger to the format, with a service of the test's own */
    struct test_node *node;
    struct seen *seen;
};

struct world {
    struct side sides[SIDES_MAX];
    size_t count;
};

/* Node i of the world has the id i + 1. */
static inline bool world_find(void *context, const struct node_id *id, struct address *ret_address)
{
    const struct world *world = context;
    for (size_t i = 0; i < SIDES_MAX; i++) {
        const struct test_node *node = world->sides[i].node;
        if (node && node_id_equal(&node->id, id)) {
            *ret_address = node->address;
            return true;
        }
    }
    return false;
}

static inline void seen_offer(void *context, const struct node_id *peer, struct blocks_offer *offer)
{
    struct seen *seen = context;
    pthread_mutex_lock(&seen->lock);
    MUST(seen->offers_count < EVENTS_MAX);
    struct offer_seen *at = &seen->offers[seen->offers_count];
    *at = (struct offer_seen){
        .peer = *peer, .number = offer->number, .file = offer->file, .state = offer->state};
    buf_add(&at->text, offer->metadata_text);
    buf_add(&at->have, offer->have);
    for (size_t i = 0; i < offer->others_count; i++) {
        at->others[at->others_count++] = offer->others[i];
    }
    seen->offers_count++;
    pthread_mutex_unlock(&seen->lock);
}

static inline void seen_more(void *context, const struct node_id *peer, const struct id *file,
                             const uint32_t *indices, size_t count)
{
    struct seen *seen = context;
    (void)peer;
    (void)file;
    pthread_mutex_lock(&seen->lock);
    for (size_t i = 0; i < count; i++) {
        MUST(seen->more_count < EVENTS_MAX);
        seen->more[seen->more_count] = indices[i];
        seen->more_count++;
    }
    pthread_mutex_unlock(&seen->lock);
}

static inline int seen_deliver(void *context, const struct node_id *peer, const struct id *file,
                               uint32_t index, const struct id *block, struct bytes bytes)
{
    struct seen *seen = context;
    struct id id;
    (void)peer;
    (void)file;
    seen->waiting_count++;
    while (seen->is_slow) {
        test_nap();
    }
    seen->waiting_count--;
    sha256_id(bytes, &id);
    const bool is_wrong = !id_equal(&id, block);
    seen->wrong_count += is_wrong;
    seen->delivered_count++;
    if (!seen->trusts && (seen->deliver_err || is_wrong)) {
        return is_wrong ? -EBADMSG : seen->deliver_err;
    }
    return seen->to ? store_intake_block(seen->to, index, bytes) : 0;
}

static inline void seen_block(void *context, const struct node_id *peer, uint32_t number,
                              uint16_t position, int err, uint32_t size_bytes)
{
    struct seen *seen = context;
    (void)peer;
    pthread_mutex_lock(&seen->lock);
    MUST(seen->ends_count < EVENTS_MAX);
    seen->ends[seen->ends_count] = (struct end_seen){number, position, err, size_bytes};
    seen->ends_count++;
    pthread_mutex_unlock(&seen->lock);
}

static inline void seen_refused(void *context, const struct node_id *peer, uint32_t number,
                                uint16_t position, enum transfer_refusal why,
                                const struct node_id *others, size_t others_count)
{
    struct seen *seen = context;
    (void)peer;
    pthread_mutex_lock(&seen->lock);
    MUST(seen->refusals_count < EVENTS_MAX);
    struct refusal_seen *at = &seen->refusals[seen->refusals_count];
    *at = (struct refusal_seen){.number = number, .position = position, .why = why};
    for (size_t i = 0; i < others_count; i++) {
        at->others[at->others_count++] = others[i];
    }
    seen->refusals_count++;
    pthread_mutex_unlock(&seen->lock);
}

static inline void seen_received(void *context, const struct node_id *peer, size_t bytes_count)
{
    struct seen *seen = context;
    (void)peer;
    seen->received_bytes += bytes_count;
}

static inline void seen_lost(void *context, const struct node_id *peer, enum blocks_end why)
{
    struct seen *seen = context;
    (void)peer;
    seen->lost_why = why;
    seen->lost_count++;
}

static inline void seen_asked(void *context, const struct node_id *peer, const struct id *file)
{
    struct seen *seen = context;
    (void)peer;
    pthread_mutex_lock(&seen->lock);
    MUST(seen->asked_count < EVENTS_MAX);
    seen->asked[seen->asked_count] = *file;
    seen->asked_count++;
    pthread_mutex_unlock(&seen->lock);
}

static inline struct seen *seen_new(void)
{
    struct seen *seen = mem_alloc(sizeof *seen);
    pthread_mutex_init(&seen->lock, NULL);
    return seen;
}

static inline void seen_free(struct seen *seen)
{
    for (size_t i = 0; i < seen->offers_count; i++) {
        buf_done(&seen->offers[i].text);
        buf_done(&seen->offers[i].have);
    }
    pthread_mutex_destroy(&seen->lock);
    free(seen);
}

/* A node that asks and answers; `options` without what the world sets. */
static inline struct side *world_add(struct world *world, struct blocks_options options)
{
    struct side *side = &world->sides[world->count];
    MUST(world->count < SIDES_MAX && scratch_set_up((void **)&side->scratch) == 0);
    side->seen = seen_new();
    options.store = side->scratch->store;
    options.events = (struct blocks_events){
        .offer = seen_offer,
        .more = seen_more,
        .deliver = seen_deliver,
        .block = seen_block,
        .refused = seen_refused,
        .received = seen_received,
        .lost = seen_lost,
        .asked = seen_asked,
    };
    options.context = side->seen;
    options.find_member = world_find;
    options.member_context = world;
    options.workers = options.workers ? options.workers : 2;
    assert_ok(blocks_open(&options, &side->blocks));
    const struct link_service service = blocks_service(side->blocks);
    side->node = test_node_new((uint8_t)(world->count + 1),
                               (struct link_options){.services = &service, .services_count = 1});
    blocks_start(side->blocks, side->node->link);
    world->count++;
    return side;
}

static inline void side_stop(struct side *side)
{
    if (side->blocks) {
        blocks_stop(side->blocks);
    }
    if (side->node) {
        test_node_free(side->node);
        side->node = NULL;
    }
    blocks_free(side->blocks);
    side->blocks = NULL;
}

static inline int world_set_up(void **state)
{
    *state = mem_alloc(sizeof(struct world));
    return 0;
}

static inline int world_tear_down(void **state)
{
    struct world *world = *state;
    for (size_t i = 0; i < world->count; i++) {
        if (world->sides[i].seen) {
            world->sides[i].seen->is_slow = false;
        }
    }
    int failed = 0;
    for (size_t i = 0; i < world->count; i++) {
        struct side *side = &world->sides[i];
        side_stop(side);
        if (side->seen) {
            (void)store_intake_close(side->seen->to);
            seen_free(side->seen);
        }
        if (side->scratch) {
            failed |= scratch_tear_down((void **)&side->scratch);
        }
    }
    free(world);
    return failed;
}

#define WORLD_TEST(test) cmocka_unit_test_setup_teardown(test, world_set_up, world_tear_down)

static inline struct blocks_counters counters_of(const struct side *side)
{
    struct blocks_counters counters;
    blocks_read_counters(side->blocks, &counters);
    return counters;
}

/* Asks for the blocks from `begin` to `end`, as one request. */
static inline void request(struct side *from, const struct side *to, uint32_t number, bool insists,
                           const struct coming *file, uint32_t begin, uint32_t end)
{
    struct transfer_part parts[TRANSFER_REQUEST_BLOCKS_MAX];
    for (uint32_t i = begin; i < end; i++) {
        parts[i - begin] =
            (struct transfer_part){.id = file->metadata.blocks[i].id,
                                   .index = i,
                                   .size_bytes = file->metadata.blocks[i].size_bytes};
    }
    blocks_request(from->blocks, &to->node->id, number, insists, &file->id, parts, end - begin);
    blocks_flush(from->blocks);
}

static inline void ask(struct side *from, const struct side *to, uint32_t number, uint8_t flags,
                       const struct id *file)
{
    blocks_ask(from->blocks, &to->node->id, number, flags, file);
    blocks_flush(from->blocks);
}

#endif
