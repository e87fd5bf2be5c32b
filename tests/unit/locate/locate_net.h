/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_LOCATE_NET_H
#define TESTS_UNIT_LOCATE_NET_H

/*
 * A small network for tests of locate: nodes that hold keys, with an index in memory each; messages
 * take a millisecond, those of a pair stay in order. Who is up, who sees whom, and what is lost, is
 * the test's to say. Time is virtual and jumps to whatever is due next; the seed decides the rest.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/codec.h"
#include "base/mem.h"
#include "base/random.h"
#include "hash/sha256.h"
#include "locate/locate.h"
#include "wire/datagram.h"

#define TRIP_US 1000u
#define MS_US UINT64_C(1000)
#define RESULTS_MAX 64u

struct packet {
    uint64_t due_us;
    uint64_t order;
    uint32_t from;
    uint32_t to;
    bool is_broadcast;
    struct bytes bytes; /* the packet's own */
};

struct result {
    uint64_t number;
    unsigned told; /* times */
    bool is_final;
    bool asked_everyone;
    struct locate_held_by holders[LOCATE_HOLDERS_MAX];
    size_t holders_count;
    size_t outcomes[LOCATE_UNREACHABLE + 1];
    uint64_t us; /* of the last word */
};

struct net;

struct net_node {
    struct net *net;
    uint32_t index;
    struct locate *locate; /* NULL: down */
    bool is_alive;         /* as all others see it */
    bool in_ring;
    uint64_t life;
    struct locate_held *held; /* sorted */
    size_t held_count;
    size_t held_capacity;
    struct locate_row *rows; /* sorted */
    size_t rows_count;
    size_t rows_capacity;
    int held_err; /* of calls to come */
    struct result results[RESULTS_MAX];
    size_t results_count;
};

struct net {
    struct net_node *nodes;
    uint32_t count;
    uint64_t now_us;
    struct packet *packets; /* a heap */
    size_t packets_count;
    size_t packets_capacity;
    uint64_t order;
    struct random random;
    unsigned loss_percent; /* of messages */
    unsigned broadcast_loss_percent;
    uint64_t messages_count[16]; /* by type */
    uint64_t bytes_count[16];
};

static inline struct node_id node_id_of(uint32_t index)
{
    struct id hash;
    sha256_id(BYTES((const uint8_t *)&index, sizeof index), &hash);
    struct node_id id;
    memcpy(id.bytes, hash.bytes, sizeof id.bytes);
    memcpy(id.bytes + 16, &index, sizeof index);
    return id;
}

static inline uint32_t index_of(const struct node_id *id)
{
    uint32_t index = 0;
    memcpy(&index, id->bytes + 16, sizeof index);
    return index;
}

static inline struct ring_key key_of(uint64_t number)
{
    struct id hash;
    sha256_id(BYTES((const uint8_t *)&number, sizeof number), &hash);
    return ring_key_of(&hash);
}

/* Packets. */

static inline bool packet_is_before(const struct packet *a, const struct packet *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->order < b->order;
}

static inline void packet_swap(struct packet *a, struct packet *b)
{
    const struct packet kept = *a;
    *a = *b;
    *b = kept;
}

static inline void net_queue(struct net *net, uint32_t from, uint32_t to, bool is_broadcast,
                             struct bytes bytes)
{
    const unsigned loss = is_broadcast ? net->broadcast_loss_percent : net->loss_percent;
    if (random_below(&net->random, 100) < loss) {
        return;
    }
    if (net->packets_count == net->packets_capacity) {
        net->packets_capacity = net->packets_capacity ? 2 * net->packets_capacity : 256;
        net->packets = mem_resize_array(net->packets, net->packets_capacity, sizeof *net->packets);
    }
    size_t at = net->packets_count++;
    net->packets[at] = (struct packet){
        .due_us = net->now_us + TRIP_US,
        .order = net->order++,
        .from = from,
        .to = to,
        .is_broadcast = is_broadcast,
        .bytes = BYTES(mem_copy(bytes.data, bytes.size), bytes.size),
    };
    while (at > 0 && packet_is_before(&net->packets[at], &net->packets[(at - 1) / 2])) {
        packet_swap(&net->packets[at], &net->packets[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
}

static inline struct packet net_pop(struct net *net)
{
    const struct packet first = net->packets[0];
    net->packets[0] = net->packets[--net->packets_count];
    for (size_t at = 0;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < net->packets_count;
             child++) {
            if (packet_is_before(&net->packets[child], &net->packets[least])) {
                least = child;
            }
        }
        if (least == at) {
            return first;
        }
        packet_swap(&net->packets[at], &net->packets[least]);
        at = least;
    }
}

static inline void net_send(void *context, const struct node_id *to, struct bytes message)
{
    struct net_node *node = context;
    assert_true(message.size <= LOCATE_MESSAGE_BYTES_MAX);
    node->net->messages_count[message.data[2] % 16]++;
    node->net->bytes_count[message.data[2] % 16] += message.size;
    net_queue(node->net, node->index, index_of(to), false, message);
}

static inline void net_broadcast(void *context, struct bytes payload)
{
    struct net_node *node = context;
    assert_true(payload.size <= DATAGRAM_PAYLOAD_BYTES_MAX);
    for (uint32_t to = 0; to < node->net->count; to++) {
        if (to != node->index && node->net->nodes[to].is_alive) {
            net_queue(node->net, node->index, to, true, payload);
        }
    }
}

static inline struct result *result_of(struct net_node *node, uint64_t number)
{
    for (size_t i = 0; i < node->results_count; i++) {
        if (node->results[i].number == number) {
            return &node->results[i];
        }
    }
    assert_true(node->results_count < RESULTS_MAX);
    struct result *result = &node->results[node->results_count++];
    *result = (struct result){.number = number};
    return result;
}

static inline void net_found(void *context, uint64_t number, const struct locate_found *found)
{
    struct net_node *node = context;
    struct result *result = result_of(node, number);
    assert_false(result->is_final);
    result->told++;
    result->is_final = found->is_final;
    result->asked_everyone = found->asked_everyone;
    result->us = node->net->now_us;
    result->holders_count = found->holders_count;
    memset(result->outcomes, 0, sizeof result->outcomes);
    for (size_t i = 0; i < found->holders_count; i++) {
        result->holders[i] = found->holders[i];
    }
    for (size_t i = 0; i < found->answers_count; i++) {
        result->outcomes[found->answers[i].outcome]++;
    }
}

/* What a node holds. */

static inline size_t held_place(const struct net_node *node, const struct ring_key *key)
{
    size_t low = 0;
    size_t high = node->held_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (ring_key_compare(&node->held[middle].key, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static inline enum locate_state net_state(void *context, const struct ring_key *key)
{
    const struct net_node *node = context;
    const size_t at = held_place(node, key);
    return at < node->held_count && ring_key_equal(&node->held[at].key, key) ? node->held[at].state
                                                                             : LOCATE_NONE;
}

static inline int net_held(void *context, const struct ring_key *first, const struct ring_key *last,
                           struct locate_held *ret_held, size_t limit, size_t *ret_count)
{
    const struct net_node *node = context;
    assert_true(ring_key_compare(first, last) <= 0);
    if (node->held_err) {
        return node->held_err;
    }
    size_t count = 0;
    for (size_t at = held_place(node, first); at < node->held_count && count < limit; at++) {
        if (ring_key_compare(&node->held[at].key, last) > 0) {
            break;
        }
        ret_held[count++] = node->held[at];
    }
    *ret_count = count;
    return 0;
}

/* Its index. */

static inline int row_order(const struct locate_row *a, const struct locate_row *b)
{
    const int order = ring_key_compare(&a->key, &b->key);
    return order != 0 ? order : node_id_compare(&a->holder, &b->holder);
}

static inline size_t row_place(const struct net_node *node, const struct locate_row *row)
{
    size_t low = 0;
    size_t high = node->rows_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (row_order(&node->rows[middle], row) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static inline int net_row_set(void *context, const struct locate_row *row,
                              enum locate_state *ret_old)
{
    struct net_node *node = context;
    const size_t at = row_place(node, row);
    const bool is_here = at < node->rows_count && row_order(&node->rows[at], row) == 0;
    *ret_old = is_here ? node->rows[at].state : LOCATE_NONE;
    if (is_here && row->state == LOCATE_NONE) {
        node->rows_count--;
        memmove(node->rows + at, node->rows + at + 1, (node->rows_count - at) * sizeof *node->rows);
    } else if (is_here) {
        node->rows[at] = *row;
    } else if (row->state != LOCATE_NONE) {
        if (node->rows_count == node->rows_capacity) {
            node->rows_capacity = node->rows_capacity ? 2 * node->rows_capacity : 64;
            node->rows = mem_resize_array(node->rows, node->rows_capacity, sizeof *node->rows);
        }
        memmove(node->rows + at + 1, node->rows + at, (node->rows_count - at) * sizeof *node->rows);
        node->rows[at] = *row;
        node->rows_count++;
    }
    return 0;
}

static inline int net_rows(void *context, const struct locate_row *from,
                           const struct node_id *holder, struct locate_row *ret_rows, size_t limit,
                           size_t *ret_count)
{
    const struct net_node *node = context;
    size_t count = 0;
    for (size_t at = row_place(node, from); at < node->rows_count && count < limit; at++) {
        if (!holder || node_id_equal(&node->rows[at].holder, holder)) {
            ret_rows[count++] = node->rows[at];
        }
    }
    *ret_count = count;
    return 0;
}

/* Nodes. */

static inline void net_tell_members(struct net *net, uint32_t index)
{
    struct locate_member *members = mem_alloc_array(net->count, sizeof *members);
    size_t count = 0;
    for (uint32_t i = 0; i < net->count; i++) {
        const struct net_node *node = &net->nodes[i];
        if (node->life != 0) {
            members[count++] = (struct locate_member){.id = node_id_of(i),
                                                      .life = node->life,
                                                      .is_alive = node->is_alive,
                                                      .in_ring = node->in_ring};
        }
    }
    locate_set_members(net->nodes[index].locate, net->now_us, members, count);
    free(members);
}

/* All that are up see the members as they are. */
static inline void net_members_changed(struct net *net)
{
    for (uint32_t i = 0; i < net->count; i++) {
        if (net->nodes[i].locate) {
            net_tell_members(net, i);
        }
    }
}

static inline void net_begin(struct net *net, uint32_t index)
{
    struct net_node *node = &net->nodes[index];
    const struct locate_options options = {
        .id = node_id_of(index),
        .random_seed = random_u64(&net->random),
        .host = {.send = net_send,
                 .broadcast = net_broadcast,
                 .found = net_found,
                 .state = net_state,
                 .held = net_held,
                 .row_set = net_row_set,
                 .rows = net_rows,
                 .context = node},
    };
    node->locate = locate_new(&options, net->now_us);
    node->life = random_u64(&net->random) | 1;
    node->is_alive = true;
    node->in_ring = true;
}

/* The process of a node ends; others believe in it until told otherwise. */
static inline void net_kill(struct net *net, uint32_t index)
{
    locate_free(net->nodes[index].locate);
    net->nodes[index].locate = NULL;
}

/* `count` nodes; the first `up_count` of them are up and know each other. */
static inline struct net *net_new(uint32_t count, uint32_t up_count, uint64_t seed)
{
    struct net *net = mem_alloc(sizeof *net);
    net->nodes = mem_alloc_array(count, sizeof *net->nodes);
    net->count = count;
    net->now_us = 1000000;
    random_init(&net->random, seed);
    for (uint32_t i = 0; i < count; i++) {
        net->nodes[i].net = net;
        net->nodes[i].index = i;
    }
    for (uint32_t i = 0; i < up_count; i++) {
        net_begin(net, i);
    }
    net_members_changed(net);
    return net;
}

static inline void net_free(struct net *net)
{
    for (uint32_t i = 0; i < net->count; i++) {
        locate_free(net->nodes[i].locate);
        free(net->nodes[i].held);
        free(net->nodes[i].rows);
    }
    for (size_t i = 0; i < net->packets_count; i++) {
        free((void *)(uintptr_t)net->packets[i].bytes.data);
    }
    free(net->packets);
    free(net->nodes);
    free(net);
}

/* What a node has of a key changes; `is_told`: its locate hears of it. */
static inline void net_hold(struct net *net, uint32_t index, const struct ring_key *key,
                            enum locate_state state, bool is_told)
{
    struct net_node *node = &net->nodes[index];
    const size_t at = held_place(node, key);
    const bool is_here = at < node->held_count && ring_key_equal(&node->held[at].key, key);
    if (is_here && state == LOCATE_NONE) {
        node->held_count--;
        memmove(node->held + at, node->held + at + 1, (node->held_count - at) * sizeof *node->held);
    } else if (is_here) {
        node->held[at].state = state;
    } else if (state != LOCATE_NONE) {
        if (node->held_count == node->held_capacity) {
            node->held_capacity = node->held_capacity ? 2 * node->held_capacity : 64;
            node->held = mem_resize_array(node->held, node->held_capacity, sizeof *node->held);
        }
        memmove(node->held + at + 1, node->held + at, (node->held_count - at) * sizeof *node->held);
        node->held[at] = (struct locate_held){*key, state};
        node->held_count++;
    }
    if (is_told && node->locate) {
        locate_changed(node->locate, net->now_us, &(struct locate_held){*key, state}, 1);
    }
}

/* Time. */

static inline void net_deliver(struct net *net, const struct packet *packet)
{
    const struct net_node *node = &net->nodes[packet->to];
    const struct node_id from = node_id_of(packet->from);
    if (node->locate && packet->is_broadcast) {
        locate_broadcast(node->locate, net->now_us, packet->bytes);
    } else if (node->locate) {
        locate_message(node->locate, net->now_us, &from, packet->bytes);
    }
    free((void *)(uintptr_t)packet->bytes.data);
}

/* To the next thing that happens, or to `end_us`. */
static inline void net_step(struct net *net, uint64_t end_us)
{
    uint64_t next_us = end_us;
    for (uint32_t i = 0; i < net->count; i++) {
        struct locate *locate = net->nodes[i].locate;
        if (locate && locate_next_us(locate) < next_us) {
            next_us = locate_next_us(locate);
        }
    }
    if (net->packets_count > 0 && net->packets[0].due_us < next_us) {
        next_us = net->packets[0].due_us;
    }
    net->now_us = next_us > net->now_us ? next_us : net->now_us;
    while (net->packets_count > 0 && net->packets[0].due_us <= net->now_us) {
        const struct packet packet = net_pop(net);
        net_deliver(net, &packet);
    }
    for (uint32_t i = 0; i < net->count; i++) {
        struct locate *locate = net->nodes[i].locate;
        if (locate && locate_next_us(locate) <= net->now_us) {
            locate_tick(locate, net->now_us);
        }
    }
}

static inline void net_run(struct net *net, uint64_t ms)
{
    const uint64_t end_us = net->now_us + ms * MS_US;
    while (net->now_us < end_us) {
        net_step(net, end_us);
    }
}

/* A find, to its end. The result is borrowed until the next one at this node. */
static inline const struct result *net_find(struct net *net, uint32_t index,
                                            const struct ring_key *key, enum locate_depth depth,
                                            const struct node_id *publisher)
{
    struct net_node *node = &net->nodes[index];
    node->results_count = 0;
    const struct locate_find find = {
        .key = *key, .number = 77, .depth = depth, .publisher = publisher};
    assert_int_equal(locate_find(node->locate, net->now_us, &find), 0);
    const uint64_t end_us = net->now_us + 10000 * MS_US;
    const struct result *result = result_of(node, 77);
    while (!result->is_final) {
        assert_true(net->now_us < end_us);
        net_step(net, end_us);
    }
    return result;
}

static inline bool result_has(const struct result *result, uint32_t index, enum locate_state state)
{
    for (size_t i = 0; i < result->holders_count; i++) {
        if (index_of(&result->holders[i].node) == index && result->holders[i].state == state) {
            return true;
        }
    }
    return false;
}

/* How far the indexes are from the truth: rows that lack at an owner, and rows of alive owners that
 * say what is not so. */
static inline size_t net_wrong_rows(struct net *net)
{
    size_t wrong = 0;
    for (uint32_t i = 0; i < net->count; i++) {
        const struct net_node *node = &net->nodes[i];
        for (size_t j = 0; node->locate && j < node->held_count; j++) {
            struct node_id owners[LOCATE_OWNERS];
            const size_t count = locate_owners(node->locate, &node->held[j].key, owners);
            for (size_t k = 0; k < count; k++) {
                const struct net_node *owner = &net->nodes[index_of(&owners[k])];
                if (owner == node || !owner->locate) {
                    continue;
                }
                const struct locate_row row = {node->held[j].key, node_id_of(i), LOCATE_NONE};
                const size_t at = row_place(owner, &row);
                wrong += at == owner->rows_count || row_order(&owner->rows[at], &row) != 0 ||
                         owner->rows[at].state != node->held[j].state;
            }
        }
        for (size_t j = 0; node->locate && j < node->rows_count; j++) {
            struct net_node *holder = &net->nodes[index_of(&node->rows[j].holder)];
            wrong += net_state(holder, &node->rows[j].key) != node->rows[j].state;
        }
    }
    return wrong;
}

#endif
