/* SPDX-License-Identifier: Apache-2.0 */

/*
 * artel's cluster (src/cluster), unchanged, behind the interface of the simulator. All nodes of a
 * world share one pool of records, so ten thousand views of ten thousand members are four
 * gigabytes.
 */

#include <stdio.h>
#include <stdlib.h>

#include "base/codec.h"
#include "base/mem.h"
#include "cluster/cluster.h"
#include "sim/world.h"

#define PORT 7420u
#define NAME_CHARS 16u

struct shared {
    struct member_pool *pool;
    size_t nodes_max;
    uint64_t seed;
};

struct node {
    struct cluster *cluster;
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

static void shared_free(void *context)
{
    struct shared *shared = context;
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

static void send_message(void *context, const struct node_id *to, const struct address *address,
                         struct bytes message)
{
    struct node *node = context;
    (void)to;
    sim_send_message(node->world, node->slot, slot_of(address), message, message.size);
}

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

static void on_broadcast(void *context, const struct node_id *from, uint8_t kind,
                         struct bytes payload)
{
    struct node *node = context;
    (void)from;
    struct node_id origin;
    if (kind == DATAGRAM_PAYLOAD_TREE && payload.size == sizeof origin.bytes) {
        memcpy(origin.bytes, payload.data, sizeof origin.bytes);
        sim_tell(node->world, node->slot, SIM_HEARD, identity_of(&origin), 0);
    }
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
    return node;
}

static void node_free(void *context)
{
    struct node *node = context;
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
}

/* The connection knows whose it is, as the handshake of the real one does. */
static void receive_message(void *context, uint64_t now_us, uint32_t from_slot,
                            uint32_t from_identity, struct bytes message)
{
    struct node *node = context;
    (void)from_slot;
    const struct node_id from = id_of(node->shared, from_identity);
    cluster_receive_message(node->cluster, now_us, &from, message);
}

static void tick(void *context, uint64_t now_us)
{
    struct node *node = context;
    cluster_tick(node->cluster, now_us);
}

static uint64_t next_us(const void *context)
{
    const struct node *node = context;
    return cluster_next_us(node->cluster);
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

const struct sim_protocol *sim_protocol_artel(void)
{
    static const struct sim_protocol protocol = {
        .name = "artel",
        .has_ring = true,
        .shared_new = shared_new,
        .shared_free = shared_free,
        .node_new = node_new,
        .node_free = node_free,
        .receive_datagram = receive_datagram,
        .receive_message = receive_message,
        .tick = tick,
        .next_us = next_us,
        .leave = leave,
        .broadcast = broadcast,
        .save = save,
        .forge = forge,
        .digest = digest,
        .alive_count = alive_count,
        .sees_alive = sees_alive,
    };
    return &protocol;
}
