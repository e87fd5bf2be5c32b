/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sim/swim_priv.h"

/* The only thing that all nodes share is how many there can be. */
static void *shared_new(size_t nodes_max, uint64_t seed)
{
    (void)seed;
    size_t *shared = mem_alloc(sizeof *shared);
    *shared = nodes_max;
    return shared;
}

/* Between 0 and `period_ms`, so that nodes which start together do not stay in step. */
static uint64_t stagger(struct swim *swim, uint64_t period_ms)
{
    return random_below(&swim->random, period_ms);
}

static void read_roster(struct swim *swim, struct bytes roster)
{
    uint16_t slot;
    const size_t count = roster.size / sizeof slot;
    for (size_t i = 0; i < SIM_SEEDS_MAX && count > 0; i++) {
        const size_t at = (size_t)random_below(&swim->random, count) * sizeof slot;
        memcpy(&slot, roster.data + at, sizeof slot);
        swim->seeds[swim->seeds_count++] = slot;
    }
}

static void *node_new(const struct sim_birth *birth, uint64_t now_us)
{
    const uint64_t now_ms = now_us / SIM_US_PER_MS;
    struct swim *swim = mem_alloc(sizeof *swim);
    swim->world = birth->world;
    swim->slot = birth->slot;
    swim->self = birth->identity;
    swim->nodes_max = *(const size_t *)birth->shared;
    random_init(&swim->random, birth->random_seed);
    swim->incarnations = mem_alloc_array(swim->nodes_max, sizeof *swim->incarnations);
    swim->states = mem_alloc_array(swim->nodes_max, sizeof *swim->states);
    swim->slots = mem_alloc_array(swim->nodes_max, sizeof *swim->slots);
    swim_queue_init(&swim->queue, swim->nodes_max);
    swim->probe.target = SWIM_NOBODY;
    swim->leave_ms = UINT64_MAX;
    for (size_t i = 0; i < birth->seeds_count; i++) {
        swim->seeds[swim->seeds_count++] = birth->seeds[i];
    }
    read_roster(swim, birth->roster);
    swim_begin(swim);
    swim->probe_ms = now_ms + stagger(swim, SWIM_PROBE_MS);
    swim->gossip_ms = now_ms + stagger(swim, SWIM_GOSSIP_MS);
    swim->push_pull_ms = now_ms + stagger(swim, SWIM_PUSH_PULL_MS);
    swim->reconnect_ms = now_ms + stagger(swim, SWIM_RECONNECT_MS);
    swim->join_ms = now_ms;
    return swim;
}

static void node_free(void *node)
{
    struct swim *swim = node;
    swim_state_done(swim);
    swim_queue_done(&swim->queue);
    free(swim->incarnations);
    free(swim->states);
    free(swim->slots);
    free(swim->members);
    free(swim->relays);
    free(swim);
}

static bool is_alive_member(const struct swim *swim, uint32_t member, uint64_t now_ms)
{
    (void)now_ms;
    return swim->states[member] == SWIM_ALIVE;
}

static void begin_probe(struct swim *swim, uint64_t now_ms)
{
    uint32_t target = SWIM_NOBODY;
    for (size_t checked = 0; checked < swim->members_count && target == SWIM_NOBODY; checked++) {
        if (swim->probe_at >= swim->members_count) {
            swim_reset_members(swim, now_ms);
            swim->probe_at = 0;
        }
        const uint32_t member = swim->members[swim->probe_at++];
        const enum swim_state state = swim->states[member];
        if (member != swim->self && (state == SWIM_ALIVE || state == SWIM_SUSPECT)) {
            target = member;
        }
    }
    if (target == SWIM_NOBODY) {
        return;
    }
    swim->probe =
        (struct swim_probe){.target = target,
                            .number = ++swim->numbers,
                            .indirect_ms = now_ms + SWIM_PROBE_TIMEOUT_MS,
                            .end_ms = now_ms + (uint64_t)SWIM_PROBE_MS * (swim->awareness + 1)};
    struct swim_packet ping = {.type = SWIM_PING, .number = swim->probe.number, .target = target};
    if (swim->states[target] == SWIM_SUSPECT) {
        /* So that it learns of it and can refute. */
        ping.updates[ping.updates_count++] =
            (struct swim_update){.subject = target,
                                 .incarnation = swim->incarnations[target],
                                 .from = swim->self,
                                 .state = SWIM_SUSPECT};
    }
    swim_send(swim, swim->slots[target], &ping);
}

static void probe_indirectly(struct swim *swim, uint64_t now_ms)
{
    struct swim_probe *probe = &swim->probe;
    probe->indirect_ms = UINT64_MAX;
    uint32_t asked[SWIM_INDIRECT_CHECKS];
    for (size_t i = 0; i < SWIM_INDIRECT_CHECKS; i++) {
        asked[i] = swim_pick(swim, is_alive_member, now_ms);
        bool again = asked[i] == SWIM_NOBODY || asked[i] == probe->target;
        for (size_t j = 0; j < i; j++) {
            again = again || asked[j] == asked[i];
        }
        if (!again) {
            struct swim_packet request = {.type = SWIM_PING_REQ,
                                          .number = probe->number,
                                          .target = probe->target,
                                          .target_slot = swim->slots[probe->target]};
            swim_send(swim, swim->slots[asked[i]], &request);
            probe->nacks_expected++;
        }
    }
    const struct swim_message ping = {.type = SWIM_STREAM_PING, .number = probe->number};
    sim_send_message(swim->world, swim->slot, swim->slots[probe->target],
                     BYTES((const uint8_t *)&ping, sizeof ping), SWIM_PING_BYTES);
}

static void end_probe(struct swim *swim, uint64_t now_ms)
{
    const struct swim_probe probe = swim->probe;
    swim->probe.target = SWIM_NOBODY;
    if (probe.nacks_expected == 0) {
        swim_aware(swim, 1);
    } else if (probe.nacks < probe.nacks_expected) {
        swim_aware(swim, (int)(probe.nacks_expected - probe.nacks));
    }
    const struct swim_update suspect = {.subject = probe.target,
                                        .incarnation = swim->incarnations[probe.target],
                                        .from = swim->self,
                                        .state = SWIM_SUSPECT};
    swim_suspect(swim, now_ms, &suspect);
}

static void tick_probe(struct swim *swim, uint64_t now_ms)
{
    if (swim->probe.target != SWIM_NOBODY) {
        if (now_ms >= swim->probe.indirect_ms) {
            probe_indirectly(swim, now_ms);
        }
        if (now_ms >= swim->probe.end_ms) {
            end_probe(swim, now_ms);
        }
    }
    if (now_ms >= swim->probe_ms && swim->probe.target == SWIM_NOBODY) {
        swim->probe_ms += ((now_ms - swim->probe_ms) / SWIM_PROBE_MS + 1) * SWIM_PROBE_MS;
        begin_probe(swim, now_ms);
    }
}

static void tick_relays(struct swim *swim, uint64_t now_ms)
{
    size_t kept = 0;
    for (size_t i = 0; i < swim->relays_count; i++) {
        const struct swim_relay relay = swim->relays[i];
        if (relay.nack_ms <= now_ms) {
            struct swim_packet nack = {.type = SWIM_NACK, .number = relay.asker_number};
            swim_send(swim, relay.asker_slot, &nack);
        } else {
            swim->relays[kept++] = relay;
        }
    }
    swim->relays_count = kept;
}

static uint64_t push_pull_interval_ms(const struct swim *swim)
{
    if (swim->members_count <= SWIM_PUSH_PULL_NODES) {
        return SWIM_PUSH_PULL_MS;
    }
    const double doublings =
        ceil(log2((double)swim->members_count) - log2((double)SWIM_PUSH_PULL_NODES)) + 1;
    return (uint64_t)(doublings * SWIM_PUSH_PULL_MS);
}

/* Serf tries one that failed, with the probability of failed over alive. */
static void reconnect(struct swim *swim)
{
    size_t kept = 0;
    for (size_t i = 0; i < swim->failed_count; i++) {
        if (swim->states[swim->failed[i]] == SWIM_UNKNOWN) {
            swim->failed[kept++] = swim->failed[i];
        }
    }
    swim->failed_count = kept;
    if (kept > 0 && random_below(&swim->random, swim->alive_count) < kept) {
        const uint32_t failed = swim->failed[random_below(&swim->random, kept)];
        swim_push_pull(swim, swim->slots[failed], SWIM_PUSH_PULL);
    }
}

static void tick(void *node, uint64_t now_us)
{
    struct swim *swim = node;
    const uint64_t now_ms = now_us / SIM_US_PER_MS;
    if (now_ms >= swim->leave_ms) {
        sim_tell(swim->world, swim->slot, SIM_LEAVE_DONE, swim->self, 0);
        return;
    }
    swim_expire(swim, now_ms);
    tick_relays(swim, now_ms);
    tick_probe(swim, now_ms);
    if (now_ms >= swim->gossip_ms) {
        swim->gossip_ms += ((now_ms - swim->gossip_ms) / SWIM_GOSSIP_MS + 1) * SWIM_GOSSIP_MS;
        swim_gossip(swim, now_ms);
    }
    if (now_ms >= swim->push_pull_ms) {
        swim->push_pull_ms = now_ms + push_pull_interval_ms(swim);
        const uint32_t member = swim_pick(swim, is_alive_member, now_ms);
        if (member != SWIM_NOBODY) {
            swim_push_pull(swim, swim->slots[member], SWIM_PUSH_PULL);
        }
    }
    if (now_ms >= swim->reconnect_ms) {
        swim->reconnect_ms = now_ms + SWIM_RECONNECT_MS;
        reconnect(swim);
    }
    if (now_ms >= swim->join_ms && swim->alive_count <= 1 && swim->seeds_count > 0) {
        swim->join_ms = now_ms + SWIM_JOIN_MS;
        for (size_t i = 0; i < swim->seeds_count; i++) {
            if (swim->seeds[i] != swim->slot) {
                swim_push_pull(swim, swim->seeds[i], SWIM_PUSH_PULL);
            }
        }
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_us(const void *node)
{
    const struct swim *swim = node;
    uint64_t next = least(swim->leave_ms, swim_expire_next_ms(swim));
    if (swim->probe.target != SWIM_NOBODY) {
        next = least(next, least(swim->probe.indirect_ms, swim->probe.end_ms));
    } else {
        next = least(next, swim->probe_ms);
    }
    if (swim->queue.count > 0) {
        next = least(next, swim->gossip_ms);
    }
    for (size_t i = 0; i < swim->relays_count; i++) {
        next = least(next, swim->relays[i].nack_ms);
    }
    if (swim->alive_count <= 1 && swim->seeds_count > 0) {
        next = least(next, swim->join_ms);
    }
    next = least(next, least(swim->push_pull_ms, swim->reconnect_ms));
    return next * SIM_US_PER_MS;
}

static void add_relay(struct swim *swim, const struct swim_relay *relay)
{
    if (swim->relays_count == swim->relays_capacity) {
        swim->relays_capacity = swim->relays_capacity ? 2 * swim->relays_capacity : 4;
        swim->relays = mem_resize_array(swim->relays, swim->relays_capacity, sizeof *swim->relays);
    }
    swim->relays[swim->relays_count++] = *relay;
}

static void receive_ping_req(struct swim *swim, uint64_t now_ms, uint32_t from_slot,
                             const struct swim_packet *packet)
{
    const struct swim_relay relay = {.number = ++swim->numbers,
                                     .asker_number = packet->number,
                                     .asker_slot = (uint16_t)from_slot,
                                     .nack_ms = now_ms + SWIM_NACK_MS};
    add_relay(swim, &relay);
    struct swim_packet ping = {.type = SWIM_PING, .number = relay.number, .target = packet->target};
    swim_send(swim, packet->target_slot, &ping);
}

static void receive_ack(struct swim *swim, const struct swim_packet *packet)
{
    if (swim->probe.target != SWIM_NOBODY && swim->probe.number == packet->number) {
        swim->probe.target = SWIM_NOBODY;
        swim_aware(swim, -1);
        return;
    }
    for (size_t i = 0; i < swim->relays_count; i++) {
        if (swim->relays[i].number == packet->number) {
            struct swim_packet ack = {.type = SWIM_ACK, .number = swim->relays[i].asker_number};
            swim_send(swim, swim->relays[i].asker_slot, &ack);
            swim->relays[i] = swim->relays[--swim->relays_count];
            return;
        }
    }
}

static void receive_datagram(void *node, uint64_t now_us, uint32_t from_slot, struct bytes datagram)
{
    struct swim *swim = node;
    const uint64_t now_ms = now_us / SIM_US_PER_MS;
    struct swim_packet packet;
    const size_t head_bytes = offsetof(struct swim_packet, updates);
    if (datagram.size < head_bytes || datagram.size > sizeof packet ||
        swim->leave_ms != UINT64_MAX) {
        return;
    }
    memcpy(&packet, datagram.data, datagram.size);
    if (packet.updates_count != (datagram.size - head_bytes) / sizeof *packet.updates ||
        (packet.type == SWIM_PING_REQ && packet.target >= swim->nodes_max)) {
        return;
    }
    for (size_t i = 0; i < packet.updates_count; i++) {
        swim_hear(swim, now_ms, &packet.updates[i]);
    }
    struct swim_packet ack = {.type = SWIM_ACK, .number = packet.number};
    switch (packet.type) {
    case SWIM_PING:
        if (packet.target == swim->self) {
            swim_send(swim, from_slot, &ack);
        }
        break;
    case SWIM_PING_REQ:
        receive_ping_req(swim, now_ms, from_slot, &packet);
        break;
    case SWIM_ACK:
        receive_ack(swim, &packet);
        break;
    case SWIM_NACK:
        if (swim->probe.target != SWIM_NOBODY && swim->probe.number == packet.number) {
            swim->probe.nacks++;
        }
        break;
    default:
        break;
    }
}

/* Tells that it goes to a few at once, who gossip it. */
static void leave(void *node, uint64_t now_us)
{
    struct swim *swim = node;
    const uint64_t now_ms = now_us / SIM_US_PER_MS;
    const struct swim_update left = {.subject = swim->self,
                                     .incarnation = swim->incarnations[swim->self],
                                     .from = swim->self,
                                     .state = SWIM_LEFT};
    swim->leave_ms = now_ms + SWIM_LEAVE_MS;
    swim_queue_add(&swim->queue, &left);
    swim_gossip(swim, now_ms);
}

static void save(const void *node, struct buf *ret_bytes)
{
    const struct swim *swim = node;
    for (uint32_t i = 0; i < swim->nodes_max; i++) {
        const enum swim_state state = swim->states[i];
        if (i != swim->self && (state == SWIM_ALIVE || state == SWIM_SUSPECT)) {
            memcpy(buf_extend(ret_bytes, sizeof *swim->slots), &swim->slots[i],
                   sizeof *swim->slots);
        }
    }
}

static uint64_t digest(const void *node)
{
    const struct swim *swim = node;
    return swim->digest;
}

static size_t alive_count(const void *node)
{
    const struct swim *swim = node;
    return swim->alive_count;
}

static bool sees_alive(const void *node, uint32_t identity)
{
    const struct swim *swim = node;
    return identity < swim->nodes_max &&
           (swim->states[identity] == SWIM_ALIVE || swim->states[identity] == SWIM_SUSPECT);
}

const struct sim_protocol *sim_protocol_swim(void)
{
    static const struct sim_protocol protocol = {
        .name = "swim",
        .shared_new = shared_new,
        .shared_free = free,
        .node_new = node_new,
        .node_free = node_free,
        .receive_datagram = receive_datagram,
        .receive_message = swim_receive_message,
        .tick = tick,
        .next_us = next_us,
        .leave = leave,
        .save = save,
        .digest = digest,
        .alive_count = alive_count,
        .sees_alive = sees_alive,
    };
    return &protocol;
}
