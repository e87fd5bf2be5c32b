/* SPDX-License-Identifier: Apache-2.0 */

/*
 * artel's cluster (src/cluster), unchanged, behind the interface of the simulator, with or without
 * a tree (replica.h) beside it. All nodes of a world share one pool of records, so ten thousand
 * views of ten thousand members are four gigabytes.
 */

#include <stdio.h>
#include <stdlib.h>

#include "base/codec.h"
#include "base/mem.h"
#include "cluster/cluster.h"
#include "sim/artel.h"
#include "sim/world.h"

#define PORT 7420u
#define NAME_CHARS 16u
#define MESSAGE_MEMBERS 1u
#define MESSAGE_TREE 2u

struct shared {
    struct member_pool *pool;
    struct sim_replicas *replicas; /* NULL: nodes have no tree */
    size_t nodes_max;
    uint64_t seed;
};

struct node {
    struct cluster *cluster;
    struct sim_replica *replica; /* NULL: nodes have no tree */
    struct sim_world *world;
    const struct shared *shared;
    uint32_t slot;
    uint32_t identity;
    /* As its events tell it: cluster_count() would have to look at everybody. A bit for each. */
    size_t alive_count;
    uint64_t *alive;
};

static void *shared_new(size_t nodes_max, uint64_t seed)
{
    struct shared *shared = mem_alloc(sizeof *shared);
    shared->pool = member_pool_new();
    shared->nodes_max = nodes_max;
    shared->seed = seed;
    return shared;
}

static void *shared_new_tree(size_t nodes_max, uint64_t seed)
{
    struct shared *shared = shared_new(nodes_max, seed);
    shared->replicas = sim_replicas_new(nodes_max, seed ^ 0x7ee5);
    return shared;
}

static void shared_free(void *context)
{
    struct shared *shared = context;
    sim_replicas_free(shared->replicas);
    member_pool_free(shared->pool);
    free(shared);
}

/* As a hash of a key would be; the end tells who it is. */
static struct node_id id_of(const struct shared *shared, uint32_t identity)
{
    struct node_id id = {0};
    struct random random;
    random_init(&random, shared->seed ^ identity);
    random_fill(&random, id.bytes, sizeof id.bytes);
    codec_put_be32(id.bytes + NODE_ID_BYTES - 4, identity);
    return id;
}

static uint32_t identity_of(const struct node_id *id)
{
    return codec_get_be32(id->bytes + NODE_ID_BYTES - 4);
}

/* 10.0.0.1 is slot 0. */
static struct address address_of(uint32_t slot)
{
    struct address address = {.ip = {[10] = 0xff, [11] = 0xff}, .port = PORT};
    codec_put_be32(address.ip + 12, (UINT32_C(10) << 24) + slot + 1);
    return address;
}

/* UINT32_MAX, which is no slot, for what nobody has. */
static uint32_t slot_of(const struct address *address)
{
    const uint32_t slot = codec_get_be32(address->ip + 12) - (UINT32_C(10) << 24) - 1;
    const struct address own = address_of(slot);
    return address_equal(address, &own) ? slot : UINT32_MAX;
}

static void send_datagram(void *context, const struct address *to, struct bytes datagram)
{
    struct node *node = context;
    sim_send_datagram(node->world, node->slot, slot_of(to), datagram, datagram.size);
}

/* The tag stands for the channel that a message of a real connection names. */
static void send_tagged(struct sim_world *world, uint32_t from, uint32_t to, uint8_t tag,
                        struct bytes message)
{
    CLEANUP_BUF struct buf tagged = BUF_INIT;
    buf_add_byte(&tagged, tag);
    buf_add(&tagged, message);
    sim_send_message(world, from, to, buf_bytes(&tagged), message.size);
}

static void send_message(void *context, const struct node_id *to, const struct address *address,
                         struct bytes message)
{
    struct node *node = context;
    (void)to;
    send_tagged(node->world, node->slot, slot_of(address), MESSAGE_MEMBERS, message);
}

/* ---- the tree ---- */

static void tree_broadcast(void *context, uint64_t now_us, struct bytes payload)
{
    struct node *node = context;
    cluster_broadcast(node->cluster, now_us, DATAGRAM_PAYLOAD_TREE, payload);
}

static void tree_send(void *context, const struct node_id *to, struct bytes message)
{
    struct node *node = context;
    struct cluster_member member;
    if (cluster_find(node->cluster, to, &member) && member.record.version.status == MEMBER_ALIVE) {
        send_tagged(node->world, node->slot, slot_of(&member.record.address), MESSAGE_TREE,
                    message);
    }
}

/* The first alive one from a random place on. */
static bool tree_pick(void *context, struct random *random, struct node_id *ret_member)
{
    const struct node *node = context;
    const size_t count = node->shared->nodes_max;
    const uint32_t own = sim_world_identity(node->world, node->slot);
    size_t at = (size_t)random_below(random, count);
    for (size_t left = count; left > 0; left--) {
        if (at % 64 == 0 && left >= 64 && at + 64 <= count && node->alive[at / 64] == 0) {
            left -= 63;
            at = (at + 64) % count;
            continue;
        }
        if ((node->alive[at / 64] >> at % 64 & 1) != 0 && at != own) {
            *ret_member = id_of(node->shared, (uint32_t)at);
            return !cluster_is_isolated(node->cluster);
        }
        at = (at + 1) % count;
    }
    return false;
}

static void tree_digests(void *context, uint64_t vector, uint64_t tree)
{
    struct node *node = context;
    cluster_set_digests(node->cluster, vector, tree);
}

static void on_digests(void *context, const struct node_id *member, const struct digests *digests)
{
    struct node *node = context;
    sim_replica_digests(node->replica, member, digests);
}

/* Without a tree, what is broadcast is who does: broadcast(). */
static void on_broadcast(void *context, const struct node_id *from, uint8_t kind,
                         struct bytes payload)
{
    struct node *node = context;
    struct node_id origin;
    if (kind != DATAGRAM_PAYLOAD_TREE) {
        return;
    }
    if (node->replica) {
        sim_replica_broadcast(node->replica, from, payload);
    } else if (payload.size == sizeof origin.bytes) {
        memcpy(origin.bytes, payload.data, sizeof origin.bytes);
        sim_tell(node->world, node->slot, SIM_HEARD, identity_of(&origin), 0);
    }
}

static void work(struct node *node, uint64_t now_us)
{
    if (node->replica) {
        sim_replica_work(node->replica, now_us);
    }
}

/* ---- the node ---- */

static void set_alive(struct node *node, uint32_t identity, bool is_alive)
{
    if (identity >= node->shared->nodes_max) {
        return; /* made up by a forger, and believed */
    }
    uint64_t *word = &node->alive[identity / 64];
    const uint64_t bit = UINT64_C(1) << identity % 64;
    if (((*word & bit) != 0) != is_alive) {
        *word ^= bit;
        node->alive_count += is_alive ? 1 : SIZE_MAX;
    }
}

static void on_event(void *context, const struct cluster_event *event)
{
    struct node *node = context;
    const struct member_record *record = &event->member->record;
    static const enum sim_news news[] = {
        [CLUSTER_JOINED] = SIM_SEES_ALIVE,
        [CLUSTER_ALIVE] = SIM_SEES_ALIVE,
        [CLUSTER_UNREACHABLE] = SIM_SEES_UNREACHABLE,
        [CLUSTER_LEFT] = SIM_SEES_LEFT,
        [CLUSTER_FORGOTTEN] = SIM_SEES_FORGOTTEN,
        [CLUSTER_RING_ENTERED] = SIM_RING_ENTERED,
        [CLUSTER_RING_LEFT] = SIM_RING_LEFT,
        [CLUSTER_ISOLATED] = SIM_ISOLATED,
        [CLUSTER_CONNECTED] = SIM_CONNECTED,
        [CLUSTER_INCARNATION] = SIM_INCARNATION,
        [CLUSTER_CONFLICT] = SIM_CONFLICT,
        [CLUSTER_LEAVE_DONE] = SIM_LEAVE_DONE,
    };
    CHECK((size_t)event->kind < ARRAY_SIZE(news));
    if (event->kind == CLUSTER_JOINED || event->kind == CLUSTER_ALIVE) {
        set_alive(node, identity_of(&record->id), true);
    } else if (event->kind == CLUSTER_UNREACHABLE || event->kind == CLUSTER_LEFT) {
        set_alive(node, identity_of(&record->id), false);
    }
    if (event->kind != CLUSTER_UPDATED) {
        sim_tell(node->world, node->slot, news[event->kind], identity_of(&record->id),
                 record->version.incarnation);
    }
}

static void start_replica(struct node *node, const struct sim_birth *birth, uint64_t now_us)
{
    const struct sim_replica_options options = {
        .replicas = node->shared->replicas,
        .birth = birth,
        .id = id_of(node->shared, birth->identity),
        .host = {.broadcast = tree_broadcast,
                 .send = tree_send,
                 .pick = tree_pick,
                 .digests = tree_digests,
                 .context = node},
    };
    node->replica = sim_replica_new(&options, now_us);
    work(node, now_us);
}

static void *node_new(const struct sim_birth *birth, uint64_t now_us)
{
    const struct shared *shared = birth->shared;
    struct node *node = mem_alloc(sizeof *node);
    node->world = birth->world;
    node->shared = shared;
    node->slot = birth->slot;
    node->identity = birth->identity;
    node->alive = mem_alloc_array(shared->nodes_max / 64 + 1, sizeof *node->alive);
    set_alive(node, birth->identity, true);
    char name[NAME_CHARS];
    snprintf(name, sizeof name, "node-%05u", birth->identity);
    const bool has_tree = shared->replicas != NULL;
    const struct cluster_options options = {
        .id = id_of(shared, birth->identity),
        .boot_nonce = birth->boot_nonce,
        .incarnation = birth->incarnation,
        .address = address_of(birth->slot),
        .name = name,
        .zone = "sim",
        .random_seed = birth->random_seed,
        .pool = shared->pool,
        .host = {.send_datagram = send_datagram,
                 .send_message = send_message,
                 .event = on_event,
                 .digests = has_tree ? on_digests : NULL,
                 .broadcast = on_broadcast,
                 .context = node},
    };
    node->cluster = cluster_new(&options, now_us);
    if (birth->roster.size > 0) {
        const int err = cluster_restore(node->cluster, now_us, birth->roster);
        CHECK(!err);
    }
    struct address seeds[SIM_SEEDS_MAX];
    for (size_t i = 0; i < birth->seeds_count; i++) {
        seeds[i] = address_of(birth->seeds[i]);
    }
    cluster_set_seeds(node->cluster, seeds, birth->seeds_count);
    if (has_tree) {
        start_replica(node, birth, now_us);
    }
    return node;
}

static void node_free(void *context)
{
    struct node *node = context;
    if (node->replica) {
        sim_replica_free(node->replica);
    }
    cluster_free(node->cluster);
    free(node->alive);
    free(node);
}

static void receive_datagram(void *context, uint64_t now_us, uint32_t from_slot,
                             struct bytes datagram)
{
    struct node *node = context;
    const struct address from = address_of(from_slot);
    cluster_receive_datagram(node->cluster, now_us, &from, datagram);
    work(node, now_us);
}

/* The connection knows whose it is, as the handshake of the real one does. */
static void receive_message(void *context, uint64_t now_us, uint32_t from_slot,
                            uint32_t from_identity, struct bytes message)
{
    struct node *node = context;
    (void)from_slot;
    const struct node_id from = id_of(node->shared, from_identity);
    if (message.size == 0) {
        return;
    }
    const struct bytes body = BYTES(message.data + 1, message.size - 1);
    if (message.data[0] == MESSAGE_MEMBERS) {
        cluster_receive_message(node->cluster, now_us, &from, body);
    } else if (node->replica) {
        sim_replica_message(node->replica, &from, body);
    }
    work(node, now_us);
}

static void tick(void *context, uint64_t now_us)
{
    struct node *node = context;
    cluster_tick(node->cluster, now_us);
    work(node, now_us);
}

static uint64_t next_us(const void *context)
{
    const struct node *node = context;
    const uint64_t next_us = cluster_next_us(node->cluster);
    const uint64_t tree_us = node->replica ? sim_replica_next_us(node->replica) : UINT64_MAX;
    return next_us < tree_us ? next_us : tree_us;
}

static void leave(void *context, uint64_t now_us)
{
    struct node *node = context;
    cluster_leave(node->cluster, now_us, MEMBER_LEFT);
}

static void broadcast(void *context, uint64_t now_us)
{
    struct node *node = context;
    const struct node_id id = id_of(node->shared, node->identity);
    cluster_broadcast(node->cluster, now_us, DATAGRAM_PAYLOAD_TREE,
                      BYTES(id.bytes, sizeof id.bytes));
}

static void save(const void *context, struct buf *ret_bytes)
{
    const struct node *node = context;
    cluster_save(node->cluster, ret_bytes);
}

static uint64_t digest(const void *context)
{
    const struct node *node = context;
    /* Who is isolated shows nobody as alive, whatever is on its list. */
    return cluster_is_isolated(node->cluster) ? ~cluster_digest(node->cluster)
                                              : cluster_digest(node->cluster);
}

static size_t alive_count(const void *context)
{
    const struct node *node = context;
    return cluster_is_isolated(node->cluster) ? 1 : node->alive_count;
}

static bool sees_alive(const void *context, uint32_t identity)
{
    const struct node *node = context;
    const struct node_id id = id_of(node->shared, identity);
    struct cluster_member member;
    return cluster_find(node->cluster, &id, &member) &&
           member.record.version.status == MEMBER_ALIVE;
}

/* A record of a member as only that member may tell it. */
static struct member_update forged_update(const struct shared *shared, struct random *random,
                                          uint32_t identity)
{
    return (struct member_update){
        .is_record = random_below(random, 2) == 0,
        .record = {.id = id_of(shared, identity),
                   .version = {.incarnation = random_u64(random) >> random_below(random, 64) | 1,
                               .boot_nonce = random_u64(random) | 1,
                               .status = (enum member_status)(1 + random_below(random, 3))},
                   .address = address_of((uint32_t)random_below(random, SIM_NODES_MAX)),
                   .name = bytes_of_string("forged"),
                   .zone = bytes_of_string("sim")}};
}

/* All that is not secret is right: ids, addresses, versions of the protocol. Nonces are guessed. */
static void forge(const void *context, struct random *random, uint32_t identity,
                  struct buf *ret_bytes)
{
    const struct shared *shared = context;
    const enum datagram_type type =
        (enum datagram_type)(DATAGRAM_PING + random_below(random, DATAGRAM_RESPONSE));
    const struct member_update update = forged_update(shared, random, identity);
    CLEANUP_BUF struct buf payload = BUF_INIT;
    field_put_member_update(&payload, &update);
    struct datagram datagram = {
        .type = type,
        .sender = id_of(shared, identity),
        .sender_nonce = random_u64(random),
        .receiver_nonce = (uint32_t)random_u64(random),
        .number = (uint32_t)random_u64(random),
        .incarnation = update.record.version.incarnation,
        .digests = {.members = random_u64(random)},
        .subject = id_of(shared, (uint32_t)random_below(random, SIM_NODES_MAX)),
        .subject_version = update.record.version,
        .address = update.record.address,
        .verdict = DATAGRAM_VERDICT_SILENT,
        .uptime_ms = random_u64(random) >> random_below(random, 64),
        .range_end = id_of(shared, (uint32_t)random_below(random, SIM_NODES_MAX)),
        .origin = random_u64(random),
        .origin_number = (uint32_t)random_u64(random),
        .payload_kind = DATAGRAM_PAYLOAD_MEMBERS,
        .payload = buf_bytes(&payload),
        .updates = {update},
        .updates_count = 1,
    };
    if (datagram_format(&datagram, ret_bytes) != 0) {
        buf_add_byte(ret_bytes, DATAGRAM_MAGIC); /* a kind that can't say this */
    }
}

static void snapshot_disk(void *context, uint32_t slot)
{
    const struct shared *shared = context;
    if (shared->replicas) {
        sim_replicas_snapshot_disk(shared->replicas, slot);
    }
}

#define ARTEL                                                                                      \
    .name = "artel", .has_ring = true, .shared_free = shared_free, .snapshot_disk = snapshot_disk, \
    .node_new = node_new, .node_free = node_free, .receive_datagram = receive_datagram,            \
    .receive_message = receive_message, .tick = tick, .next_us = next_us, .leave = leave,          \
    .broadcast = broadcast, .save = save, .forge = forge, .digest = digest,                        \
    .alive_count = alive_count, .sees_alive = sees_alive

const struct sim_protocol *sim_protocol_artel(void)
{
    static const struct sim_protocol protocol = {.shared_new = shared_new, ARTEL};
    return &protocol;
}

const struct sim_protocol *sim_protocol_artel_tree(void)
{
    static const struct sim_protocol protocol = {.shared_new = shared_new_tree, ARTEL};
    return &protocol;
}

struct sim_replicas *sim_artel_replicas(const struct sim_world *world)
{
    const struct shared *shared = sim_world_shared(world);
    return shared->replicas;
}

void sim_artel_send_tree(struct sim_world *world, uint32_t from, uint32_t to, struct bytes message)
{
    send_tagged(world, from, to, MESSAGE_TREE, message);
}

struct forged {
    struct bytes payload;
};

static void broadcast_forged(void *context, void *protocol_node, uint64_t now_us)
{
    const struct forged *forged = context;
    tree_broadcast(protocol_node, now_us, forged->payload);
}

void sim_artel_broadcast_tree(struct sim_world *world, uint32_t from, struct bytes payload)
{
    struct forged forged = {.payload = payload};
    sim_world_call(world, from, broadcast_forged, &forged);
}

struct local_change {
    sim_replica_change_fn change;
    void *context;
    struct dot *ret_dot;
    int err;
};

static void change_here(void *context, void *protocol_node, uint64_t now_us)
{
    struct local_change *change = context;
    struct node *node = protocol_node;
    change->err =
        sim_replica_change(node->replica, now_us, change->change, change->context, change->ret_dot);
    work(node, now_us);
}

int sim_artel_change(struct sim_world *world, uint32_t slot, sim_replica_change_fn change,
                     void *context, struct dot *ret_dot)
{
    struct local_change call = {.change = change, .context = context, .ret_dot = ret_dot};
    sim_world_call(world, slot, change_here, &call);
    return call.err;
}

static void expire_here(void *context, void *protocol_node, uint64_t now_us)
{
    const uint64_t *age_ms = context;
    struct node *node = protocol_node;
    sim_replica_expire(node->replica, now_us, *age_ms);
    work(node, now_us);
}

void sim_artel_expire(struct sim_world *world, uint32_t slot, uint64_t age_ms)
{
    sim_world_call(world, slot, expire_here, &age_ms);
}
