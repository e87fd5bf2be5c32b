/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Three clusters, and an input that is a script of what happens to them: datagrams and messages,
 * raw or made by the codec from a few bytes, from members and from strangers, cut, changed and
 * replayed; time; starts and farewells. After each step it holds what src/cluster promises
 * whatever arrives:
 *
 *   - a node says of itself that it is alive until it leaves; its incarnation never falls;
 *   - no member's version falls, and the list is in order;
 *   - a stranger's datagram changes nobody's version, a join only its sender's;
 *   - what is sent is in form, from this life of the node, and bounded in number;
 *   - who has left sends nothing;
 *   - time that is due is done: no tick leaves something due at once again and again.
 *
 * A script is a run of steps of a few bytes each; step() has them all. Bytes beyond its end are 0.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/codec.h"
#include "base/mem.h"
#include "cluster/cluster.h"
#include "fuzz.h"
#include "wire/member_sync.h"

#define NODES 3u
#define MS ((uint64_t)1000)
#define SECOND (1000 * MS)
#define INPUT_BYTES_MAX 4096u
#define STEPS_MAX 128u
/* The last packets sent, which can be delivered or replayed. */
#define SENT_MAX 64u
/* Ticks in one step of time; what is left of it is a pause of the process. */
#define TICKS_MAX 32u
/* A list: 16 claims to be probed, 64 warnings, 10 greetings, 2 challenges, 8 parts of a broadcast.
 */
#define RECEIVE_SENDS_MAX 100u
/* All probes again with requests, all votes, all parts of broadcasts, all challenges. */
#define TICK_SENDS_MAX 1000u
/* The highest incarnation that a node lets itself be pushed to. */
#define INCARNATION_MAX ((uint64_t)1 << 62)
/* As long as names and zones may be. */
#define LONG_NAME "a-name-of-64-bytes-as-long-as-names-of-members-and-zones-may-be."
#define NONCE_OF_OTHERS UINT64_C(0x7777000000000100)

struct script {
    const uint8_t *data;
    size_t left;
};

struct known {
    struct node_id id;
    struct member_version version;
};

/* What a node knew after the step before. */
struct list {
    struct known *members; /* owned */
    size_t count;
    size_t capacity;
    uint64_t digest;
    bool is_isolated; /* others are shown as unreachable, whatever they are */
};

struct packet {
    unsigned from;
    struct address to;
    bool is_message;
    uint8_t *data; /* owned; NULL: none */
    size_t size;
};

struct world;

struct node {
    struct world *world;
    unsigned index;
    struct node_id id;
    struct cluster *cluster;
    uint64_t boot_nonce;
    uint64_t incarnation;
    bool is_leaving;
    bool is_gone;
    struct list list;
};

struct world {
    uint64_t now_us;
    struct member_pool *pool;
    struct node nodes[NODES];
    struct packet sent[SENT_MAX];
    size_t sent_count; /* since the start */
    unsigned sends;    /* in this call */
    uint64_t lives;
};

/* The script */

static uint8_t take_u8(struct script *script)
{
    if (script->left == 0) {
        return 0;
    }
    script->left--;
    return *script->data++;
}

static struct bytes take(struct script *script, size_t size)
{
    const size_t taken = size < script->left ? size : script->left;
    const struct bytes bytes = BYTES(script->data, taken);
    script->data += taken;
    script->left -= taken;
    return bytes;
}

/* Below NODES: a node. Others are members that exist only in what is said of them. */
static struct node_id id_of(unsigned who)
{
    struct node_id id;
    memset(id.bytes, 0, sizeof id.bytes);
    id.bytes[0] = (uint8_t)(who < NODES ? who * 90 : who);
    id.bytes[NODE_ID_BYTES - 1] = (uint8_t)(who + 1);
    return id;
}

static struct address address_of(unsigned who)
{
    char text[32];
    snprintf(text, sizeof text, "10.0.%u.%u:7420", who / 256 % 256, who % 256);
    struct address address;
    CHECK(address_parse(text, &address) == 0);
    return address;
}

static uint64_t nonce_of(const struct world *world, unsigned who)
{
    return who < NODES ? world->nodes[who].boot_nonce : NONCE_OF_OTHERS + who;
}

static uint64_t incarnation_of(const struct world *world, unsigned who)
{
    struct cluster_member self;
    const struct node_id id = id_of(who);
    if (who >= NODES || !cluster_find(world->nodes[who].cluster, &id, &self)) {
        return 1;
    }
    return self.record.version.incarnation;
}

/* What always holds */

struct comparison {
    struct node *node;
    struct list now;
    size_t at;                     /* in the list before */
    bool is_quiet;                 /* nobody's version may have changed but that of `speaker` */
    const struct node_id *speaker; /* NULL: nobody's */
};

static bool may_change(const struct comparison *comparison, const struct node_id *id)
{
    return !comparison->is_quiet || (comparison->speaker && node_id_equal(comparison->speaker, id));
}

static void check_self(const struct node *node, const struct cluster_member *self)
{
    CHECK(node->is_leaving || self->record.version.status == MEMBER_ALIVE);
    CHECK(self->record.version.boot_nonce == node->boot_nonce);
    CHECK(self->record.version.incarnation >= node->incarnation);
    CHECK(self->record.version.incarnation <= INCARNATION_MAX);
    const struct address address = address_of(node->index);
    CHECK(address_equal(&self->record.address, &address));
}

static bool compare_member(void *context, const struct cluster_member *member)
{
    struct comparison *comparison = context;
    const struct list *before = &comparison->node->list;
    struct list *now = &comparison->now;
    const struct node_id id = member->record.id;
    CHECK(now->count == 0 || node_id_compare(&now->members[now->count - 1].id, &id) < 0);
    CHECK(member_version_is_valid(&member->record.version));
    CHECK(member->is_self == node_id_equal(&comparison->node->id, &id));
    if (member->is_self) {
        check_self(comparison->node, member);
    }

    while (comparison->at < before->count &&
           node_id_compare(&before->members[comparison->at].id, &id) < 0) {
        CHECK(!comparison->is_quiet); /* one was forgotten */
        comparison->at++;
    }
    if (comparison->at < before->count && node_id_equal(&before->members[comparison->at].id, &id)) {
        struct member_version version = before->members[comparison->at].version;
        if (!member->is_self && (before->is_isolated || now->is_isolated)) {
            version.status = member->record.version.status; /* as shown, not as known */
        }
        const int order = member_version_compare(&member->record.version, &version);
        CHECK(order >= 0);
        CHECK(order == 0 || may_change(comparison, &id));
        comparison->at++;
    } else {
        CHECK(may_change(comparison, &id));
    }

    if (now->count == now->capacity) {
        now->capacity = now->capacity ? 2 * now->capacity : 16;
        now->members = mem_resize_array(now->members, now->capacity, sizeof *now->members);
    }
    now->members[now->count++] = (struct known){id, member->record.version};
    return true;
}

/* The list is as it may be after what it was at the last look. */
static void check_list(struct node *node, bool is_quiet, const struct node_id *speaker)
{
    struct comparison comparison = {
        .node = node,
        .now = {.digest = cluster_digest(node->cluster),
                .is_isolated = cluster_is_isolated(node->cluster)},
        .is_quiet = is_quiet,
        .speaker = speaker,
    };
    cluster_walk(node->cluster, compare_member, &comparison);
    CHECK(!is_quiet || comparison.at == node->list.count);
    free(node->list.members);
    node->list = comparison.now;
    const size_t count = cluster_count(node->cluster, MEMBER_ALIVE) +
                         cluster_count(node->cluster, MEMBER_UNREACHABLE) +
                         cluster_count(node->cluster, MEMBER_LEFT);
    CHECK(count == node->list.count && count >= 1 && count <= MEMBERS_MAX);

    struct cluster_member self;
    CHECK(cluster_find(node->cluster, &node->id, &self) && self.is_self);
    node->incarnation = self.record.version.incarnation;
}

/* The same; an equal digest is taken at its word, since every step ends with a look at all. */
static void check_node(struct node *node, bool is_quiet, const struct node_id *speaker)
{
    if (node->list.digest != cluster_digest(node->cluster) ||
        node->list.is_isolated != cluster_is_isolated(node->cluster)) {
        check_list(node, is_quiet, speaker);
    }
}

/* The host */

static void keep(struct world *world, struct packet packet, struct bytes bytes)
{
    struct packet *place = &world->sent[world->sent_count++ % SENT_MAX];
    free(place->data);
    *place = packet;
    place->data = mem_copy(bytes.data, bytes.size);
    place->size = bytes.size;
}

static void on_datagram(void *context, const struct address *to, struct bytes bytes)
{
    struct node *node = context;
    struct datagram datagram;
    CHECK(!node->is_gone);
    CHECK(datagram_parse(bytes, &datagram) == 0);
    CHECK(node_id_equal(&datagram.sender, &node->id) && datagram.sender_nonce == node->boot_nonce);
    node->world->sends++;
    keep(node->world, (struct packet){.from = node->index, .to = *to}, bytes);
}

static void on_message(void *context, const struct node_id *to, const struct address *address,
                       struct bytes message)
{
    struct node *node = context;
    struct member_sync sync;
    CHECK(!node->is_gone && !node_id_equal(to, &node->id));
    CHECK(member_sync_parse(message, &sync) == 0);
    node->world->sends++;
    keep(node->world, (struct packet){.from = node->index, .to = *address, .is_message = true},
         message);
}

static void on_event(void *context, const struct cluster_event *event)
{
    struct node *node = context;
    CHECK(event->kind >= CLUSTER_JOINED && event->kind <= CLUSTER_LEAVE_DONE);
    CHECK(member_version_is_valid(&event->member->record.version));
    CHECK(!node->is_gone);
    node->is_gone = event->kind == CLUSTER_LEAVE_DONE || event->kind == CLUSTER_CONFLICT;
}

static void on_digests(void *context, const struct node_id *member, const struct digests *digests)
{
    const struct node *node = context;
    CHECK(digests && !node_id_equal(member, &node->id));
}

static void on_broadcast(void *context, const struct node_id *from, uint8_t kind,
                         struct bytes payload)
{
    const struct node *node = context;
    CHECK(!node_id_equal(from, &node->id) && kind != 0 && kind != DATAGRAM_PAYLOAD_MEMBERS);
    CHECK(payload.size <= DATAGRAM_PAYLOAD_BYTES_MAX);
}

static void start(struct world *world, unsigned index, bool has_long_name)
{
    struct node *node = &world->nodes[index];
    node->boot_nonce = UINT64_C(0x1111000000000000) + ++world->lives;
    node->incarnation++;
    node->is_leaving = false;
    node->is_gone = false;
    node->list.count = 0;
    const struct cluster_options options = {
        .id = node->id,
        .boot_nonce = node->boot_nonce,
        .incarnation = node->incarnation,
        .address = address_of(index),
        .name = has_long_name ? LONG_NAME : "node",
        .zone = has_long_name ? LONG_NAME : "default",
        .random_seed = node->boot_nonce,
        .pool = world->pool,
        .host = {.send_datagram = on_datagram,
                 .send_message = on_message,
                 .event = on_event,
                 .digests = on_digests,
                 .broadcast = on_broadcast,
                 .context = node},
    };
    node->cluster = cluster_new(&options, world->now_us);
    const struct address seeds[] = {address_of((index + 1) % NODES), address_of(200)};
    cluster_set_seeds(node->cluster, seeds, ARRAY_SIZE(seeds));
    check_list(node, false, NULL);
}

/* What arrives */

/* From strangers, to another life of ours, or such that only asks or points. */
static bool is_of_no_effect(const struct node *node, const struct datagram *datagram)
{
    const bool is_to_us = datagram->receiver_nonce == (uint32_t)node->boot_nonce;
    struct cluster_member sender;
    switch (datagram->type) {
    case DATAGRAM_JOIN:
        return false;
    case DATAGRAM_WELCOME:
        return !is_to_us;
    case DATAGRAM_CHALLENGE:
    case DATAGRAM_RESPONSE:
    case DATAGRAM_CONFLICT:
        return true;
    default:
        return !is_to_us || !cluster_find(node->cluster, &datagram->sender, &sender) ||
               sender.is_self || sender.record.version.boot_nonce != datagram->sender_nonce;
    }
}

static void receive_datagram(struct node *node, const struct address *from, struct bytes bytes)
{
    struct datagram datagram;
    const bool is_malformed = datagram_parse(bytes, &datagram) != 0;
    const bool is_of_none = is_malformed || is_of_no_effect(node, &datagram);
    const bool is_join = !is_malformed && datagram.type == DATAGRAM_JOIN;
    const uint64_t digest = cluster_digest(node->cluster);
    const bool was_gone = node->is_gone;
    struct world *world = node->world;
    world->sends = 0;
    cluster_receive_datagram(node->cluster, world->now_us, from, bytes);
    CHECK(world->sends <= RECEIVE_SENDS_MAX && (!was_gone || world->sends == 0));
    CHECK(cluster_digest(node->cluster) == digest || !is_of_none);
    check_node(node, is_of_none || is_join, is_join ? &datagram.sender : NULL);
}

static void receive_message(struct node *node, unsigned from, struct bytes bytes)
{
    const struct node_id id = id_of(from);
    struct cluster_member sender;
    const bool is_stranger = from == node->index || !cluster_find(node->cluster, &id, &sender);
    struct world *world = node->world;
    world->sends = 0;
    cluster_receive_message(node->cluster, world->now_us, &id, bytes);
    CHECK(world->sends <= RECEIVE_SENDS_MAX);
    check_node(node, is_stranger, NULL);
}

struct change {
    uint8_t cut; /* bytes at the end */
    uint8_t at;
    uint8_t flip;
};

static struct change take_change(struct script *script)
{
    struct change change = {.cut = take_u8(script)};
    change.at = take_u8(script);
    change.flip = take_u8(script);
    return change;
}

/* In memory of its own size. */
static struct bytes changed(struct bytes bytes, struct change change)
{
    const size_t size = bytes.size > change.cut ? bytes.size - change.cut : 0;
    uint8_t *copy = mem_copy(bytes.data, size);
    if (size > 0) {
        copy[change.at % size] ^= change.flip;
    }
    return BYTES(copy, size);
}

static void deliver(struct world *world, const struct packet *packet, struct bytes bytes)
{
    for (unsigned i = 0; i < NODES; i++) {
        const struct address address = address_of(i);
        if (!address_equal(&address, &packet->to)) {
            continue;
        }
        if (packet->is_message) {
            receive_message(&world->nodes[i], packet->from, bytes);
        } else {
            const struct address from = address_of(packet->from);
            receive_datagram(&world->nodes[i], &from, bytes);
        }
    }
}

/* Delivers one of those sent, `back` before the last, as it was or changed. */
static void replay(struct world *world, size_t back, struct change change)
{
    const size_t count = world->sent_count < SENT_MAX ? world->sent_count : SENT_MAX;
    if (count == 0) {
        return;
    }
    const struct packet packet = world->sent[(world->sent_count - 1 - back % count) % SENT_MAX];
    const struct bytes bytes = changed(BYTES(packet.data, packet.size), change);
    deliver(world, &packet, bytes);
    free((void *)(uintptr_t)bytes.data);
}

/* Time */

static void tick(struct node *node)
{
    struct world *world = node->world;
    const bool was_gone = node->is_gone;
    world->sends = 0;
    cluster_tick(node->cluster, world->now_us);
    CHECK(world->sends <= TICK_SENDS_MAX && (!was_gone || world->sends == 0));
    check_node(node, was_gone, NULL);
}

/* A tick may leave something that is due at once, but not for ever. */
static void tick_while_due(struct node *node)
{
    for (unsigned i = 0; cluster_next_us(node->cluster) <= node->world->now_us; i++) {
        CHECK(i < 8);
        tick(node);
    }
}

/* Runs for `for_us`, with all that is sent arriving at once if `delivers`. */
static void run(struct world *world, uint64_t for_us, bool delivers)
{
    const uint64_t end_us = world->now_us + for_us;
    size_t delivered = world->sent_count;
    for (unsigned i = 0; i < TICKS_MAX && world->now_us < end_us; i++) {
        uint64_t next_us = end_us;
        for (unsigned j = 0; j < NODES; j++) {
            const uint64_t due_us = cluster_next_us(world->nodes[j].cluster);
            next_us = due_us < next_us ? due_us : next_us;
        }
        world->now_us = next_us > world->now_us ? next_us : world->now_us;
        for (unsigned j = 0; j < NODES; j++) {
            tick_while_due(&world->nodes[j]);
        }
        for (unsigned j = 0; delivers && delivered < world->sent_count && j < SENT_MAX; j++) {
            const size_t back = world->sent_count - 1 - delivered;
            replay(world, back < SENT_MAX ? back : SENT_MAX - 1, (struct change){0});
            delivered++;
        }
    }
    world->now_us = end_us;
    for (unsigned j = 0; j < NODES; j++) {
        tick_while_due(&world->nodes[j]);
    }
}

/* What is made from a few bytes */

#define UPDATE_STATUS 0x03u
#define UPDATE_IS_RECORD 0x04u
#define UPDATE_OTHER_LIFE 0x08u
#define UPDATE_FAR_AHEAD 0x10u
#define UPDATE_MOVED 0x20u
#define UPDATE_LONG 0x40u
#define UPDATE_OLD 0x80u

/* Four bytes: of whom, flags, incarnation above its present one, age. */
static struct member_update take_update(const struct world *world, struct script *script)
{
    const unsigned who = take_u8(script);
    const unsigned flags = take_u8(script);
    const uint64_t incarnation = incarnation_of(world, who) + take_u8(script);
    const uint8_t age = take_u8(script);
    const struct bytes text = bytes_of_string(flags & UPDATE_LONG ? LONG_NAME : "node");
    return (struct member_update){
        .is_record = flags & UPDATE_IS_RECORD,
        .age_s = flags & UPDATE_OLD ? UINT32_MAX - age : age,
        .record =
            {
                .id = id_of(who),
                .version = {flags & UPDATE_FAR_AHEAD ? UINT64_MAX - incarnation : incarnation,
                            nonce_of(world, who) + (flags & UPDATE_OTHER_LIFE ? 1000 : 0),
                            (enum member_status)(1 + (flags & UPDATE_STATUS) % 3)},
                .address = address_of(flags & UPDATE_MOVED ? who + 100 : who),
                .name = text,
                .zone = text,
            },
    };
}

static void take_updates(const struct world *world, struct script *script, struct buf *ret_updates,
                         size_t bytes_max)
{
    for (unsigned count = take_u8(script); count > 0; count--) {
        const struct member_update update = take_update(world, script);
        if (ret_updates->size + member_update_bytes(&update) > bytes_max) {
            return;
        }
        field_put_member_update(ret_updates, &update);
    }
}

#define FROM_OTHER_LIFE 0x01u
#define TO_OTHER_LIFE 0x02u
#define FROM_ELSEWHERE 0x04u
#define OF_LAST_NUMBER 0x08u
#define CHANGED 0x10u

/* The number of a packet that `node` sent, `back` before its last, or `back`. */
static uint32_t number_sent(const struct node *node, uint8_t back)
{
    const struct world *world = node->world;
    const size_t count = world->sent_count < SENT_MAX ? world->sent_count : SENT_MAX;
    for (size_t i = 0; i < count; i++) {
        const struct packet *packet = &world->sent[(world->sent_count - 1 - i) % SENT_MAX];
        if (packet->from == node->index && !packet->is_message && back-- == 0) {
            return codec_get_le32(packet->data + 36);
        }
    }
    return back;
}

/* The fields of every type, whether this one has them or not. */
static void take_fields(const struct world *world, struct script *script, struct datagram *datagram,
                        struct buf *payload)
{
    const struct member_update subject = take_update(world, script);
    datagram->incarnation = subject.record.version.incarnation;
    datagram->digests.members = take_u8(script);
    datagram->subject = subject.record.id;
    datagram->subject_version = subject.record.version;
    datagram->address = subject.record.address;
    datagram->verdict = (enum datagram_verdict)(1 + take_u8(script) % 3);
    datagram->uptime_ms = subject.age_s;
    datagram->range_end = id_of(take_u8(script));
    datagram->origin = 1 + (uint64_t)take_u8(script);
    datagram->origin_number = take_u8(script);
    datagram->payload_kind = (uint8_t)(1 + take_u8(script) % 3);
    if (datagram->type == DATAGRAM_BROADCAST) {
        take_updates(world, script, payload, DATAGRAM_PAYLOAD_BYTES_MAX);
        datagram->payload = buf_bytes(payload);
    }
}

static void take_own_updates(const struct world *world, struct script *script,
                             struct datagram *datagram, unsigned sender)
{
    const size_t count = datagram->type == DATAGRAM_JOIN ? 1 : 1 + take_u8(script) % 16;
    for (size_t i = 0; i < count; i++) {
        datagram->updates[i] = take_update(world, script);
    }
    struct member_update *own = &datagram->updates[0];
    own->is_record = true;
    own->record.id = id_of(sender);
    datagram->sender_nonce = own->record.version.boot_nonce;
    datagram->updates_count = count;
}

/* A datagram in form: type, sender, flags, number, and its fields. */
static void step_datagram(struct node *node, struct script *script)
{
    const struct world *world = node->world;
    struct datagram datagram = {.type = (enum datagram_type)(1 + take_u8(script) % 14)};
    const unsigned sender = take_u8(script);
    const unsigned flags = take_u8(script);
    const uint8_t number = take_u8(script);
    CLEANUP_BUF struct buf payload = BUF_INIT;
    datagram.sender = id_of(sender);
    datagram.sender_nonce = nonce_of(world, sender) + (flags & FROM_OTHER_LIFE ? 1000 : 0);
    datagram.receiver_nonce = (uint32_t)(node->boot_nonce + (flags & TO_OTHER_LIFE ? 1000 : 0));
    datagram.number = flags & OF_LAST_NUMBER ? number_sent(node, number) : number;
    if (datagram.type == DATAGRAM_JOIN || datagram.type == DATAGRAM_WELCOME) {
        take_own_updates(world, script, &datagram, sender);
    } else {
        take_fields(world, script, &datagram, &payload);
    }
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    if (datagram_format(&datagram, &bytes)) {
        return; /* too large, or a number beyond its limits */
    }
    const struct change change = flags & CHANGED ? take_change(script) : (struct change){0};
    const struct bytes sent = changed(buf_bytes(&bytes), change);
    const struct address from = address_of(flags & FROM_ELSEWHERE ? 99 : sender);
    receive_datagram(node, &from, sent);
    free((void *)(uintptr_t)sent.data);
}

/* Any bytes, with the front of a header in form: from a member in its present life, to us. */
static void step_raw_datagram(struct node *node, struct script *script)
{
    const unsigned sender = take_u8(script);
    const unsigned flags = take_u8(script);
    const struct bytes given = take(script, take_u8(script));
    const struct bytes bytes = changed(given, (struct change){0});
    uint8_t *data = (uint8_t *)(uintptr_t)bytes.data;
    if (bytes.size >= 36 && !(flags & CHANGED)) {
        const struct node_id id = id_of(sender);
        data[0] = DATAGRAM_MAGIC;
        data[1] = DATAGRAM_MAJOR;
        memcpy(data + 4, id.bytes, sizeof id.bytes);
        codec_put_le64(data + 24, nonce_of(node->world, sender));
        codec_put_le32(data + 32, (uint32_t)node->boot_nonce);
    }
    const struct address from = address_of(sender);
    receive_datagram(node, &from, bytes);
    free(data);
}

/* A message in form: sender, type, what it has; or any bytes. */
static void step_message(struct node *node, struct script *script)
{
    const unsigned from = take_u8(script);
    const unsigned kind = take_u8(script);
    CLEANUP_BUF struct buf message = BUF_INIT;
    struct member_sync sync = {.type = (enum member_sync_type)(1 + kind % 3)};
    if (kind & 0x80) {
        buf_add(&message, take(script, 2 * (size_t)take_u8(script)));
    } else {
        for (size_t i = 0; i < MEMBER_BUCKETS; i++) {
            sync.digests[i] = kind & 0x40 ? 0 : i;
        }
        memset(sync.buckets, kind & 0x20 ? 0xff : take_u8(script), sizeof sync.buckets);
        member_sync_format(&sync, &message);
        if (sync.type != MEMBER_SYNC_OPEN) {
            take_updates(node->world, script, &message, MEMBER_SYNC_BYTES_MAX);
        }
    }
    const struct bytes sent = changed(buf_bytes(&message), (struct change){0});
    receive_message(node, from, sent);
    free((void *)(uintptr_t)sent.data);
}

/* What the node's owner does */

/* Starts the node again, with the list that it kept, or with a damaged one. */
static void step_restart(struct node *node, struct script *script)
{
    const uint8_t flags = take_u8(script);
    struct world *world = node->world;
    CLEANUP_BUF struct buf kept = BUF_INIT;
    cluster_save(node->cluster, &kept);
    const size_t count = node->list.count;
    cluster_free(node->cluster);
    start(world, node->index, flags & 0x01);
    if (flags & 0x02) {
        return; /* its disk is lost */
    }
    const struct change damage = {.at = take_u8(script), .flip = flags & 0x04 ? 1 : 0};
    const struct bytes read = changed(buf_bytes(&kept), damage);
    const int err = cluster_restore(node->cluster, world->now_us, read);
    free((void *)(uintptr_t)read.data);
    CHECK(err == (flags & 0x04 ? -EPROTO : 0));
    check_node(node, err != 0, NULL);
    CHECK(node->list.count == (err ? 1 : count));
}

static void step_of_owner(struct node *node, struct script *script)
{
    struct world *world = node->world;
    const uint8_t what = take_u8(script);
    world->sends = 0;
    switch (what % 4) {
    case 0:
        step_restart(node, script);
        return;
    case 1:
        node->is_leaving = true;
        if (!node->is_gone) {
            cluster_leave(node->cluster, world->now_us,
                          what & 0x80 ? MEMBER_LEFT : MEMBER_UNREACHABLE);
        }
        break;
    case 2:
        cluster_set_digests(node->cluster, what, what);
        break;
    default:
        if (!node->is_gone) {
            cluster_broadcast(node->cluster, world->now_us, DATAGRAM_PAYLOAD_TREE,
                              take(script, take_u8(script)));
        }
        break;
    }
    CHECK(world->sends <= RECEIVE_SENDS_MAX);
    check_node(node, false, NULL);
}

static void step_time(struct world *world, struct script *script)
{
    static const uint64_t steps_ms[] = {1,     50,     100,         300,
                                        1000,  2000,   5000,        11000,
                                        31000, 600000, 3600 * 1000, 8 * 24 * 3600 * (uint64_t)1000};
    const uint8_t step = take_u8(script);
    run(world, steps_ms[(step & 0x7f) % ARRAY_SIZE(steps_ms)] * MS, step & 0x80);
}

/* One byte says what (its lower half) and to which node (its upper half). */
static void step(struct world *world, struct script *script)
{
    const uint8_t head = take_u8(script);
    struct node *node = &world->nodes[head / 16 % NODES];
    switch (head % 16) {
    case 0:
    case 1:
    case 2:
        step_time(world, script);
        break;
    case 3:
        step_raw_datagram(node, script);
        break;
    case 4:
        replay(world, take_u8(script), (struct change){0});
        break;
    case 5: {
        const size_t back = take_u8(script);
        replay(world, back, take_change(script));
        break;
    }
    case 6:
    case 7:
    case 8:
        step_message(node, script);
        break;
    case 9:
        step_of_owner(node, script);
        break;
    default:
        step_datagram(node, script);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > INPUT_BYTES_MAX) {
        return 0;
    }
    struct world world = {.now_us = 1000 * SECOND, .pool = member_pool_new()};
    struct script script = {data, size};
    const uint8_t first = take_u8(&script);
    for (unsigned i = 0; i < NODES; i++) {
        world.nodes[i] = (struct node){.world = &world, .index = i, .id = id_of(i)};
        start(&world, i, first & 0x02);
    }
    if (first & 0x01) {
        run(&world, 3 * SECOND, true); /* they know each other */
    }
    for (unsigned i = 0; i < STEPS_MAX && script.left > 0; i++) {
        step(&world, &script);
        for (unsigned j = 0; j < NODES; j++) {
            const bool is_same =
                world.nodes[j].list.digest == cluster_digest(world.nodes[j].cluster);
            check_list(&world.nodes[j], is_same, NULL);
        }
    }
    for (unsigned i = 0; i < NODES; i++) {
        cluster_free(world.nodes[i].cluster);
        free(world.nodes[i].list.members);
    }
    for (size_t i = 0; i < SENT_MAX; i++) {
        free(world.sent[i].data);
    }
    member_pool_free(world.pool); /* no record is left over */
    return 0;
}
