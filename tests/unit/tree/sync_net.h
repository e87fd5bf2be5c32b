/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_TREE_SYNC_NET_H
#define TESTS_UNIT_TREE_SYNC_NET_H

/*
 * A small network for tests of sync: some nodes with a tree in memory each, messages that take a
 * millisecond, and pings with digests every other second. What is lost, and who reaches whom, is
 * the test's to say. Time is virtual; the seed decides the rest.
 */

#include "base/random.h"
#include "helpers.h"
#include "tree/sync.h"

#define NODES_MAX 8u
#define TRIP_US 1000u
#define PING_US 2000000u
#define EVENTS_KEPT 64u

enum packet_kind { PACKET_BROADCAST, PACKET_MESSAGE, PACKET_DIGESTS };

struct packet {
    uint64_t due_us;
    uint32_t from;
    uint32_t to;
    enum packet_kind kind;
    struct digests digests;
    struct bytes bytes; /* the packet's own */
};

struct net;

struct net_node {
    struct net *net;
    uint32_t index;
    struct fixture *fixture;
    struct tree_sync *sync; /* NULL: down */
    /* Answers messages in place of a sync that is down, as the test likes. */
    void (*puppet)(struct net *net, uint32_t index, uint32_t from,
                   const struct tree_message *message);
    struct digests digests;
    struct buf spool;
    bool spool_asked;
    unsigned spools_count;
    struct buf inbox;
    struct id inbox_id;
    bool has_inbox;
    int write_err; /* of writes to come */
    struct tree_sync_event events[EVENTS_KEPT];
    size_t events_count;
};

struct net {
    struct net_node nodes[NODES_MAX];
    uint32_t count;
    uint64_t now_us;
    uint64_t ping_us;
    struct packet *packets;
    size_t packets_count;
    size_t packets_capacity;
    struct random random;
    unsigned broadcast_loss_percent;
    bool cut[NODES_MAX][NODES_MAX]; /* from, to */
    uint64_t lost_offset;           /* pieces of snapshots from there on are lost; 0: none */
    uint64_t message_bytes;         /* sent so far */
    uint64_t messages_count[64];    /* by type */
};

static inline struct node_id node_id_of(uint32_t index)
{
    struct node_id id = {0};
    id.bytes[0] = 0x42;
    id.bytes[19] = (uint8_t)index;
    return id;
}

static inline void net_queue(struct net *net, const struct packet *packet)
{
    if (net->cut[packet->from][packet->to]) {
        return;
    }
    if (net->packets_count == net->packets_capacity) {
        net->packets_capacity = net->packets_capacity ? 2 * net->packets_capacity : 64;
        net->packets = mem_resize_array(net->packets, net->packets_capacity, sizeof *net->packets);
    }
    struct packet *queued = &net->packets[net->packets_count++];
    *queued = *packet;
    queued->due_us = net->now_us + TRIP_US;
    if (packet->bytes.size > 0) {
        queued->bytes.data = mem_copy(packet->bytes.data, packet->bytes.size);
    }
}

static inline void net_broadcast(void *context, struct bytes payload)
{
    struct net_node *node = context;
    assert_true(payload.size <= DATAGRAM_PAYLOAD_BYTES_MAX);
    for (uint32_t to = 0; to < node->net->count; to++) {
        const bool is_lost =
            random_below(&node->net->random, 100) < node->net->broadcast_loss_percent;
        if (to != node->index && !is_lost) {
            net_queue(node->net, &(struct packet){.from = node->index,
                                                  .to = to,
                                                  .kind = PACKET_BROADCAST,
                                                  .bytes = payload});
        }
    }
}

static inline void net_send(void *context, const struct node_id *to, struct bytes message)
{
    struct net_node *node = context;
    assert_true(message.size <= TREE_MESSAGE_BYTES_MAX);
    node->net->message_bytes += message.size;
    node->net->messages_count[message.data[2] % 64]++;
    struct tree_message parsed;
    if (node->net->lost_offset > 0 && tree_message_parse(message, false, &parsed) == 0 &&
        parsed.type == TREE_MESSAGE_SNAPSHOT_PIECE &&
        parsed.offset_bytes >= node->net->lost_offset) {
        return;
    }
    net_queue(node->net, &(struct packet){.from = node->index,
                                          .to = to->bytes[19],
                                          .kind = PACKET_MESSAGE,
                                          .bytes = message});
}

static inline bool net_reaches(const struct net_node *node, uint32_t other)
{
    return other != node->index && node->net->nodes[other].sync &&
           !node->net->cut[node->index][other];
}

static inline size_t net_others(void *context)
{
    const struct net_node *node = context;
    size_t count = 0;
    for (uint32_t i = 0; i < node->net->count; i++) {
        count += net_reaches(node, i);
    }
    return count;
}

static inline bool net_pick(void *context, struct node_id *ret_member)
{
    struct net_node *node = context;
    const size_t others = net_others(context);
    if (others == 0) {
        return false;
    }
    uint64_t which = random_below(&node->net->random, others);
    for (uint32_t i = 0; i < node->net->count; i++) {
        if (net_reaches(node, i) && which-- == 0) {
            *ret_member = node_id_of(i);
            return true;
        }
    }
    return false;
}

static inline int net_read(void *context, struct kv_txn **ret_txn)
{
    return kv_read(((struct net_node *)context)->fixture->kv, ret_txn);
}

static inline int net_write(void *context, int (*job)(void *job_context, struct kv_txn *txn),
                            void *job_context)
{
    struct net_node *node = context;
    if (node->write_err) {
        return node->write_err;
    }
    struct kv_txn *txn = NULL;
    assert_int_equal(kv_write(node->fixture->kv, &txn), 0);
    const int err = job(job_context, txn);
    if (err) {
        kv_abort(txn);
        return err;
    }
    return kv_commit(txn);
}

static inline int net_spool_piece(void *context, struct bytes bytes)
{
    buf_add(context, bytes);
    return 0;
}

static inline void net_spool(void *context)
{
    ((struct net_node *)context)->spool_asked = true;
}

static inline int net_copy(const struct buf *from, uint64_t offset, void *ret_bytes, size_t size)
{
    if (offset + size > from->size) {
        return -EIO;
    }
    memcpy(ret_bytes, from->data + offset, size);
    return 0;
}

static inline int net_spool_read(void *context, uint64_t offset, void *ret_bytes, size_t size)
{
    return net_copy(&((struct net_node *)context)->spool, offset, ret_bytes, size);
}

static inline void net_spool_drop(void *context)
{
    buf_done(&((struct net_node *)context)->spool);
}

static inline int net_inbox_open(void *context, const struct id *id, uint64_t *ret_bytes)
{
    struct net_node *node = context;
    if (!node->has_inbox || !id_equal(&node->inbox_id, id)) {
        buf_clear(&node->inbox);
    }
    node->has_inbox = true;
    node->inbox_id = *id;
    *ret_bytes = node->inbox.size;
    return 0;
}

static inline int net_inbox_append(void *context, struct bytes bytes)
{
    buf_add(&((struct net_node *)context)->inbox, bytes);
    return 0;
}

static inline int net_inbox_read(void *context, uint64_t offset, void *ret_bytes, size_t size)
{
    return net_copy(&((struct net_node *)context)->inbox, offset, ret_bytes, size);
}

static inline bool net_inbox_find(void *context, struct id *ret_id, uint64_t *ret_bytes)
{
    const struct net_node *node = context;
    *ret_id = node->inbox_id;
    *ret_bytes = node->inbox.size;
    return node->has_inbox;
}

static inline void net_inbox_drop(void *context)
{
    struct net_node *node = context;
    buf_done(&node->inbox);
    node->has_inbox = false;
}

static inline void net_digests(void *context, uint64_t vector, uint64_t tree)
{
    struct net_node *node = context;
    node->digests = (struct digests){.vector = vector, .tree = tree};
}

static inline void net_event(void *context, const struct tree_sync_event *event)
{
    struct net_node *node = context;
    node->events[node->events_count++ % EVENTS_KEPT] = *event;
}

static inline size_t count_events(const struct net_node *node, enum tree_sync_event_kind kind)
{
    size_t count = 0;
    const size_t kept = node->events_count < EVENTS_KEPT ? node->events_count : EVENTS_KEPT;
    for (size_t i = 0; i < kept; i++) {
        count += node->events[i].kind == kind;
    }
    return count;
}

static inline void net_start(struct net *net, uint32_t index)
{
    struct net_node *node = &net->nodes[index];
    const struct tree_sync_options options = {
        .tree = node->fixture->tree,
        .id = node_id_of(index),
        .random_seed = random_u64(&net->random),
        .host = {.broadcast = net_broadcast,
                 .send = net_send,
                 .pick = net_pick,
                 .read = net_read,
                 .write = net_write,
                 .spool = net_spool,
                 .spool_read = net_spool_read,
                 .spool_drop = net_spool_drop,
                 .inbox_open = net_inbox_open,
                 .inbox_append = net_inbox_append,
                 .inbox_read = net_inbox_read,
                 .inbox_find = net_inbox_find,
                 .inbox_drop = net_inbox_drop,
                 .digests = net_digests,
                 .event = net_event,
                 .context = node},
    };
    node->sync = tree_sync_new(&options, net->now_us);
}

/* As a process that opens the tree anew. */
static inline void net_restart(struct net *net, uint32_t index)
{
    struct fixture *fixture = net->nodes[index].fixture;
    struct origin_id fresh;
    random_fill(&net->random, &fresh, sizeof fresh);
    begin(fixture);
    assert_int_equal(tree_renew_origin(fixture->tree, fixture->txn, &fresh), 0);
    commit(fixture);
    net_start(net, index);
}

static inline void net_stop(struct net *net, uint32_t index)
{
    tree_sync_free(STEAL_PTR(net->nodes[index].sync));
}

/* `count` nodes; node 0 writes to origin 'A', and so on. */
static inline struct net *net_new(uint32_t count, uint64_t seed)
{
    struct net *net = mem_alloc(sizeof *net);
    net->count = count;
    net->now_us = 1000000;
    net->ping_us = net->now_us;
    random_init(&net->random, seed);
    for (uint32_t i = 0; i < count; i++) {
        struct net_node *node = &net->nodes[i];
        *node = (struct net_node){.net = net, .index = i};
        node->fixture = fixture_new(false, (char)('A' + i));
        commit(node->fixture);
        net_start(net, i);
    }
    return net;
}

static inline void net_free(struct net *net)
{
    for (uint32_t i = 0; i < net->count; i++) {
        struct net_node *node = &net->nodes[i];
        tree_sync_free(node->sync);
        buf_done(&node->spool);
        buf_done(&node->inbox);
        fixture_free(node->fixture);
    }
    for (size_t i = 0; i < net->packets_count; i++) {
        free((void *)(uintptr_t)net->packets[i].bytes.data);
    }
    free(net->packets);
    free(net);
}

static inline void net_ping_all(struct net *net)
{
    for (uint32_t from = 0; from < net->count; from++) {
        for (uint32_t to = 0; to < net->count; to++) {
            if (from != to && (net->nodes[from].sync || net->nodes[from].puppet)) {
                net_queue(net, &(struct packet){.from = from,
                                                .to = to,
                                                .kind = PACKET_DIGESTS,
                                                .digests = net->nodes[from].digests});
            }
        }
    }
}

static inline void net_deliver(struct net *net, const struct packet *packet)
{
    struct net_node *node = &net->nodes[packet->to];
    const struct node_id from = node_id_of(packet->from);
    if (node->sync && packet->kind == PACKET_BROADCAST) {
        tree_sync_broadcast(node->sync, net->now_us, &from, packet->bytes);
    } else if (node->sync && packet->kind == PACKET_MESSAGE) {
        tree_sync_message(node->sync, net->now_us, &from, packet->bytes);
    } else if (node->sync) {
        tree_sync_digests(node->sync, net->now_us, &from, &packet->digests);
    }
    struct tree_message message;
    if (node->puppet && packet->kind == PACKET_MESSAGE &&
        tree_message_parse(packet->bytes, false, &message) == 0) {
        node->puppet(net, packet->to, packet->from, &message);
    }
    free((void *)(uintptr_t)packet->bytes.data);
}

static inline void net_work(struct net *net)
{
    for (uint32_t i = 0; i < net->count; i++) {
        struct net_node *node = &net->nodes[i];
        if (!node->sync) {
            continue;
        }
        tree_sync_apply(node->sync, net->now_us);
        if (tree_sync_next_us(node->sync) <= net->now_us) {
            tree_sync_tick(node->sync, net->now_us);
        }
        if (node->spool_asked) {
            node->spool_asked = false;
            node->spools_count++;
            buf_clear(&node->spool);
            struct tree_snapshot_info info;
            struct kv_txn *txn = NULL;
            assert_int_equal(net_read(node, &txn), 0);
            const int err =
                tree_snapshot_write(node->fixture->tree, txn, net_spool_piece, &node->spool, &info);
            kv_abort(txn);
            struct id id;
            sha256_id(buf_bytes(&node->spool), &id);
            tree_sync_spooled(node->sync, net->now_us, err, &id, node->spool.size);
        }
    }
}

/* Half a millisecond further. */
static inline void net_step(struct net *net)
{
    net->now_us += TRIP_US / 2;
    if (net->now_us >= net->ping_us) {
        net->ping_us += PING_US;
        net_ping_all(net);
    }
    struct packet *packets = STEAL_PTR(net->packets);
    const size_t count = net->packets_count;
    net->packets_count = 0;
    net->packets_capacity = 0;
    for (size_t i = 0; i < count; i++) {
        if (packets[i].due_us <= net->now_us) {
            net_deliver(net, &packets[i]);
        } else { /* keeps its time */
            const uint64_t due_us = packets[i].due_us;
            net_queue(net, &packets[i]);
            free((void *)(uintptr_t)packets[i].bytes.data);
            if (net->packets_count > 0) {
                net->packets[net->packets_count - 1].due_us = due_us;
            }
        }
    }
    free(packets);
    net_work(net);
}

static inline void net_run(struct net *net, uint64_t ms)
{
    const uint64_t end_us = net->now_us + ms * 1000;
    while (net->now_us < end_us) {
        net_step(net);
    }
}

/* The same in coarse steps, for minutes in which little happens. */
static inline void net_pass(struct net *net, uint64_t ms)
{
    const uint64_t end_us = net->now_us + ms * 1000;
    while (net->now_us < end_us) {
        net->now_us += 20 * TRIP_US;
        net_step(net);
    }
}

static inline struct tree_summary summary_of(const struct net_node *node)
{
    struct kv_txn *txn = NULL;
    struct tree_summary summary;
    assert_int_equal(kv_read(node->fixture->kv, &txn), 0);
    assert_int_equal(tree_summary(node->fixture->tree, txn, &summary), 0);
    kv_abort(txn);
    return summary;
}

static inline bool net_agrees(const struct net *net)
{
    const struct tree_summary first = summary_of(&net->nodes[0]);
    for (uint32_t i = 0; i < net->count; i++) {
        const struct tree_summary summary = summary_of(&net->nodes[i]);
        if (summary.vector_sum != first.vector_sum || summary.is_merging ||
            memcmp(summary.fingerprint, first.fingerprint, sizeof first.fingerprint) != 0) {
            return false;
        }
    }
    return true;
}

/* Until all have the same; fails after `limit_ms` of virtual time. */
static inline void net_run_until_agreed(struct net *net, uint64_t limit_ms)
{
    const uint64_t end_us = net->now_us + limit_ms * 1000;
    while (!net_agrees(net)) {
        if (net->now_us >= end_us) {
            fail_msg("the trees do not agree");
        }
        net_step(net);
    }
}

/* A change at a node, as its host makes it: in a transaction, and told. */
static inline void change_begin(struct net *net, uint32_t index)
{
    struct net_node *node = &net->nodes[index];
    begin(node->fixture);
}

static inline void change_end(struct net *net, uint32_t index)
{
    struct net_node *node = &net->nodes[index];
    commit(node->fixture);
    if (node->sync) {
        tree_sync_changed(node->sync, net->now_us);
    }
}

static inline void net_put(struct net *net, uint32_t index, const char *path, char content)
{
    change_begin(net, index);
    assert_int_equal(put_file(net->nodes[index].fixture, path, content), 0);
    change_end(net, index);
}

/* The tree of a node, as text. */
static inline void assert_node_tree(struct net *net, uint32_t index, const char *expected)
{
    struct fixture *fixture = net->nodes[index].fixture;
    begin(fixture);
    assert_tree(fixture, expected);
    check_sums(fixture);
    kv_abort(STEAL_PTR(fixture->txn));
}

#endif
