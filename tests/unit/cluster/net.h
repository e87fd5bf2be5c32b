/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_CLUSTER_NET_H
#define TESTS_CLUSTER_NET_H

/*
 * net: a handful of clusters on one virtual clock, for the tests of src/cluster: what one sends
 * arrives at the other a millisecond later, unless the test says that it does not. Node i is at
 * 10.0.0.1 + i, port 7420, unless it is moved.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "cluster/cluster.h"

#define NET_NODES_MAX 128u
#define NET_MS ((uint64_t)1000)
#define NET_SECOND (1000 * NET_MS)
#define NET_LATENCY_US NET_MS
#define NET_EVENTS_MAX 4096u

struct net;

struct net_event {
    enum cluster_event_kind kind;
    struct node_id id;
    uint64_t at_us;
};

struct net_node {
    struct net *net;
    unsigned index;
    struct cluster *cluster; /* NULL: down */
    struct address address;
    uint64_t offset_us; /* its clock is ahead of the net's by this */
    bool is_paused;
    struct net_event *events;
    size_t events_count;
};

struct net_packet {
    uint64_t at_us;
    uint64_t number; /* of equal times, the first goes first */
    unsigned from;
    struct address to;
    bool is_message;
    struct node_id to_id;
    struct bytes bytes; /* owned */
};

struct net {
    uint64_t now_us;
    struct member_pool *pool;
    struct net_node nodes[NET_NODES_MAX];
    unsigned count;
    struct net_packet *packets;
    size_t packets_count;
    size_t packets_capacity;
    uint64_t packets_sent;
    uint64_t datagrams_delivered;
    /* True: it is lost. */
    bool (*loses)(struct net *net, unsigned from, unsigned to, struct bytes bytes, bool is_message);
    void *context;
};

static inline struct node_id net_id(unsigned index)
{
    /* Spread over the ring, and in an order other than that of the numbers. */
    struct node_id id = {{0}};
    uint64_t hash = ((uint64_t)index + 1) * 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < sizeof id.bytes; i++) {
        id.bytes[i] = (uint8_t)(hash >> (8 * (7 - i % 8)));
        if (i % 8 == 7) {
            hash = hash * 0xbf58476d1ce4e5b9u + index;
        }
    }
    return id;
}

static inline struct address net_address(unsigned index)
{
    char text[64];
    struct address address;
    snprintf(text, sizeof text, "10.%u.%u.%u:7420", index / 40000 % 200, index / 200 % 200,
             index % 200 + 1);
    assert_int_equal(address_parse(text, &address), 0);
    return address;
}

static inline void net_put(struct net *net, struct net_packet packet)
{
    if (net->packets_count == net->packets_capacity) {
        net->packets_capacity = net->packets_capacity ? 2 * net->packets_capacity : 64;
        net->packets = mem_resize_array(net->packets, net->packets_capacity, sizeof *net->packets);
    }
    packet.number = net->packets_sent++;
    packet.bytes.data = mem_copy(packet.bytes.data, packet.bytes.size);
    net->packets[net->packets_count++] = packet;
}

static inline void net_on_datagram(void *context, const struct address *to, struct bytes datagram)
{
    struct net_node *node = context;
    assert_true(datagram.size <= DATAGRAM_BYTES_MAX);
    net_put(node->net, (struct net_packet){.at_us = node->net->now_us + NET_LATENCY_US,
                                           .from = node->index,
                                           .to = *to,
                                           .bytes = datagram});
}

static inline void net_on_message(void *context, const struct node_id *to,
                                  const struct address *address, struct bytes message)
{
    struct net_node *node = context;
    net_put(node->net, (struct net_packet){.at_us = node->net->now_us + 3 * NET_LATENCY_US,
                                           .from = node->index,
                                           .to = *address,
                                           .is_message = true,
                                           .to_id = *to,
                                           .bytes = message});
}

static inline void net_on_event(void *context, const struct cluster_event *event)
{
    struct net_node *node = context;
    if (node->events_count < NET_EVENTS_MAX) {
        node->events[node->events_count++] = (struct net_event){
            .kind = event->kind, .id = event->member->record.id, .at_us = node->net->now_us};
    }
}

static inline struct net *net_new(void)
{
    struct net *net = mem_alloc(sizeof *net);
    net->pool = member_pool_new();
    net->now_us = 1000 * NET_SECOND;
    return net;
}

static inline uint64_t net_clock(const struct net_node *node)
{
    return node->net->now_us + node->offset_us;
}

static inline struct cluster_options net_options(struct net_node *node)
{
    return (struct cluster_options){
        .id = net_id(node->index),
        .boot_nonce = 0x1000000u * (node->index + 1) + node->net->packets_sent + 1,
        .incarnation = 1,
        .address = node->address,
        .name = "node",
        .zone = "default",
        .random_seed = node->index,
        .pool = node->net->pool,
        .host = {.send_datagram = net_on_datagram,
                 .send_message = net_on_message,
                 .event = net_on_event,
                 .context = node},
    };
}

/* Starts node `index` (again), with its own options or those given, joining through node 0. */
static inline struct cluster *net_start(struct net *net, unsigned index,
                                        const struct cluster_options *given)
{
    struct net_node *node = &net->nodes[index];
    if (!node->net) {
        *node = (struct net_node){.net = net, .index = index, .address = net_address(index)};
        node->events = mem_alloc_array(NET_EVENTS_MAX, sizeof *node->events);
        net->count = index + 1 > net->count ? index + 1 : net->count;
    }
    cluster_free(node->cluster);
    const struct cluster_options options = given ? *given : net_options(node);
    node->cluster = cluster_new(&options, net_clock(node));
    const struct address seed = net_address(0);
    if (index != 0) {
        cluster_set_seeds(node->cluster, &seed, 1);
    }
    return node->cluster;
}

static inline void net_stop(struct net *net, unsigned index)
{
    cluster_free(net->nodes[index].cluster);
    net->nodes[index].cluster = NULL;
}

static inline void net_free(struct net *net)
{
    for (unsigned i = 0; i < net->count; i++) {
        cluster_free(net->nodes[i].cluster);
        free(net->nodes[i].events);
    }
    for (size_t i = 0; i < net->packets_count; i++) {
        free((void *)(uintptr_t)net->packets[i].bytes.data);
    }
    free(net->packets);
    member_pool_free(net->pool);
    free(net);
}

static inline void net_deliver(struct net *net, const struct net_packet *packet)
{
    for (unsigned i = 0; i < net->count; i++) {
        struct net_node *node = &net->nodes[i];
        const struct node_id id = net_id(i);
        if (!node->cluster || !address_equal(&node->address, &packet->to) ||
            (packet->is_message && !node_id_equal(&id, &packet->to_id)) ||
            (net->loses && net->loses(net, packet->from, i, packet->bytes, packet->is_message))) {
            continue;
        }
        const struct net_node *from = &net->nodes[packet->from];
        if (packet->is_message) {
            const struct node_id from_id = net_id(packet->from);
            cluster_receive_message(node->cluster, net_clock(node), &from_id, packet->bytes);
        } else {
            net->datagrams_delivered++;
            cluster_receive_datagram(node->cluster, net_clock(node), &from->address, packet->bytes);
        }
    }
}

/* The next packet of a node that is not paused, or NULL. */
static inline struct net_packet *net_next_packet(struct net *net)
{
    struct net_packet *next = NULL;
    for (size_t i = 0; i < net->packets_count; i++) {
        struct net_packet *packet = &net->packets[i];
        bool is_held = false;
        for (unsigned j = 0; j < net->count; j++) {
            is_held |=
                net->nodes[j].is_paused && address_equal(&net->nodes[j].address, &packet->to);
        }
        if (!is_held && (!next || packet->at_us < next->at_us ||
                         (packet->at_us == next->at_us && packet->number < next->number))) {
            next = packet;
        }
    }
    return next;
}

/* Runs everything that happens until `until_us`. */
static inline void net_run_until(struct net *net, uint64_t until_us)
{
    for (;;) {
        struct net_packet *packet = net_next_packet(net);
        uint64_t next_us = packet ? packet->at_us : UINT64_MAX;
        struct net_node *due = NULL;
        for (unsigned i = 0; i < net->count; i++) {
            struct net_node *node = &net->nodes[i];
            if (!node->cluster || node->is_paused) {
                continue;
            }
            const uint64_t tick_us = cluster_next_us(node->cluster);
            if (tick_us != UINT64_MAX && tick_us - node->offset_us < next_us) {
                next_us = tick_us - node->offset_us;
                due = node;
            }
        }
        if (next_us > until_us) {
            net->now_us = until_us;
            return;
        }
        net->now_us = next_us > net->now_us ? next_us : net->now_us;
        if (due) {
            cluster_tick(due->cluster, net_clock(due));
            continue;
        }
        const struct net_packet taken = *packet;
        *packet = net->packets[--net->packets_count];
        net_deliver(net, &taken);
        free((void *)(uintptr_t)taken.bytes.data);
    }
}

static inline void net_run(struct net *net, uint64_t for_us)
{
    net_run_until(net, net->now_us + for_us);
}

/* The status that node `at` sees of node `of`; 0: unknown. */
static inline int net_sees(struct net *net, unsigned at, unsigned of)
{
    const struct node_id id = net_id(of);
    struct cluster_member member;
    return cluster_find(net->nodes[at].cluster, &id, &member) ? (int)member.record.version.status
                                                              : 0;
}

/* All running nodes have equal lists with exactly the running ones alive. */
static inline bool net_agrees(struct net *net)
{
    size_t running = 0;
    for (unsigned i = 0; i < net->count; i++) {
        running += net->nodes[i].cluster != NULL;
    }
    const struct cluster *first = NULL;
    for (unsigned i = 0; i < net->count; i++) {
        const struct cluster *cluster = net->nodes[i].cluster;
        if (!cluster) {
            continue;
        }
        first = first ? first : cluster;
        if (cluster_digest(cluster) != cluster_digest(first) ||
            cluster_count(cluster, MEMBER_ALIVE) != running) {
            return false;
        }
    }
    return true;
}

/* Runs until they agree, for `limit_us` at most. */
static inline bool net_run_until_agreed(struct net *net, uint64_t limit_us)
{
    const uint64_t end_us = net->now_us + limit_us;
    while (!net_agrees(net) && net->now_us < end_us) {
        net_run(net, 10 * NET_MS);
    }
    return net_agrees(net);
}

static inline size_t net_count_events(const struct net *net, unsigned at,
                                      enum cluster_event_kind kind, unsigned of)
{
    const struct node_id id = net_id(of);
    size_t count = 0;
    for (size_t i = 0; i < net->nodes[at].events_count; i++) {
        const struct net_event *event = &net->nodes[at].events[i];
        count += event->kind == kind && node_id_equal(&event->id, &id);
    }
    return count;
}

/* `count` nodes that all know each other. */
static inline struct net *net_of(unsigned count)
{
    struct net *net = net_new();
    for (unsigned i = 0; i < count; i++) {
        net_start(net, i, NULL);
    }
    assert_true(net_run_until_agreed(net, 20 * NET_SECOND));
    return net;
}

#endif
