/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sim/swim_priv.h"

size_t swim_transmits(const struct swim *swim)
{
    const double scale = ceil(log10((double)swim->members_count + 1));
    const size_t transmits = SWIM_RETRANSMIT_MULT * (size_t)scale;
    return transmits < SWIM_TRANSMITS_MAX ? transmits : SWIM_TRANSMITS_MAX;
}

static size_t own_bytes(enum swim_packet_type type)
{
    switch (type) {
    case SWIM_PING:
        return SWIM_PING_BYTES;
    case SWIM_PING_REQ:
        return SWIM_PING_REQ_BYTES;
    case SWIM_ACK:
        return SWIM_ACK_BYTES;
    case SWIM_NACK:
        return SWIM_NACK_BYTES;
    default:
        return 0;
    }
}

void swim_send(struct swim *swim, uint32_t to_slot, struct swim_packet *packet)
{
    size_t bytes = SWIM_CHECKSUM_BYTES + own_bytes(packet->type);
    bytes += packet->updates_count * (SWIM_COMPOUND_BYTES + SWIM_SUSPECT_BYTES);
    const size_t overhead_bytes = 2 * SWIM_COMPOUND_BYTES;
    bytes += swim_queue_fill(&swim->queue, SWIM_PACKET_BYTES - bytes - overhead_bytes,
                             swim_transmits(swim), packet);
    if (packet->type == SWIM_GOSSIP && packet->updates_count == 0) {
        return;
    }
    bytes += packet->updates_count > 0 ? overhead_bytes : 0;
    const size_t size_bytes =
        offsetof(struct swim_packet, updates) + packet->updates_count * sizeof *packet->updates;
    sim_send_datagram(swim->world, swim->slot, to_slot, BYTES((const uint8_t *)packet, size_bytes),
                      bytes);
}

uint32_t swim_pick(struct swim *swim,
                   bool (*is_good)(const struct swim *swim, uint32_t member, uint64_t now_ms),
                   uint64_t now_ms)
{
    for (size_t tries = 3 * swim->members_count; tries > 0; tries--) {
        const size_t at = (size_t)random_below(&swim->random, swim->members_count);
        const uint32_t member = swim->members[at];
        if (member != swim->self && is_good(swim, member, now_ms)) {
            return member;
        }
    }
    return SWIM_NOBODY;
}

static uint64_t dead_since_ms(const struct swim *swim, uint32_t member)
{
    for (size_t i = swim->dead_count; i > 0; i--) {
        if (swim->dead[i - 1].subject == member) {
            return swim->dead[i - 1].since_ms;
        }
    }
    return 0;
}

static bool is_gossiped_to(const struct swim *swim, uint32_t member, uint64_t now_ms)
{
    const enum swim_state state = swim->states[member];
    return state == SWIM_ALIVE || state == SWIM_SUSPECT ||
           (state == SWIM_DEAD && now_ms - dead_since_ms(swim, member) <= SWIM_DEAD_MS);
}

void swim_gossip(struct swim *swim, uint64_t now_ms)
{
    uint32_t told[SWIM_GOSSIP_NODES];
    for (size_t i = 0; i < SWIM_GOSSIP_NODES && swim->queue.count > 0; i++) {
        told[i] = swim_pick(swim, is_gossiped_to, now_ms);
        bool again = told[i] == SWIM_NOBODY;
        for (size_t j = 0; j < i; j++) {
            again = again || told[j] == told[i];
        }
        if (!again) {
            struct swim_packet packet = {.type = SWIM_GOSSIP};
            swim_send(swim, swim->slots[told[i]], &packet);
        }
    }
}

void swim_push_pull(struct swim *swim, uint32_t to_slot, enum swim_message_type type)
{
    CLEANUP_BUF struct buf message = BUF_INIT;
    const struct swim_message head = {.type = type};
    memcpy(buf_extend(&message, sizeof head), &head, sizeof head);
    uint8_t *at = buf_extend(&message, swim->members_count * sizeof(struct swim_update));
    for (size_t i = 0; i < swim->members_count; i++) {
        const uint32_t member = swim->members[i];
        const struct swim_update update = {.subject = member,
                                           .incarnation = swim->incarnations[member],
                                           .from = swim->self,
                                           .slot = swim->slots[member],
                                           .state = swim->states[member]};
        memcpy(at + i * sizeof update, &update, sizeof update);
    }
    sim_send_message(swim->world, swim->slot, to_slot, buf_bytes(&message),
                     (uint64_t)swim->members_count * SWIM_STATE_BYTES);
}

static void merge_all(struct swim *swim, uint64_t now_ms, struct bytes updates)
{
    for (size_t at = 0; at + sizeof(struct swim_update) <= updates.size;
         at += sizeof(struct swim_update)) {
        struct swim_update update;
        memcpy(&update, updates.data + at, sizeof update);
        swim_merge(swim, now_ms, &update);
    }
}

void swim_receive_message(void *node, uint64_t now_us, uint32_t from_slot, uint32_t from_identity,
                          struct bytes message)
{
    struct swim *swim = node;
    const uint64_t now_ms = now_us / SIM_US_PER_MS;
    struct swim_message head;
    if (message.size < sizeof head || swim->leave_ms != UINT64_MAX) {
        return;
    }
    memcpy(&head, message.data, sizeof head);
    const struct bytes rest = BYTES(message.data + sizeof head, message.size - sizeof head);
    switch (head.type) {
    case SWIM_PUSH_PULL:
        swim_push_pull(swim, from_slot, SWIM_PUSH_PULL_REPLY);
        merge_all(swim, now_ms, rest);
        break;
    case SWIM_PUSH_PULL_REPLY:
        merge_all(swim, now_ms, rest);
        break;
    case SWIM_STREAM_PING: {
        const struct swim_message ack = {.type = SWIM_STREAM_ACK, .number = head.number};
        sim_send_message(swim->world, swim->slot, from_slot,
                         BYTES((const uint8_t *)&ack, sizeof ack), SWIM_ACK_BYTES);
        break;
    }
    case SWIM_STREAM_ACK:
        if (swim->probe.target == from_identity && swim->probe.number == head.number) {
            swim->probe.target = SWIM_NOBODY;
            swim_aware(swim, -1);
        }
        break;
    default:
        break;
    }
}
