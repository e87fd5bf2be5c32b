/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SIM_SWIM_PRIV_H
#define SIM_SWIM_PRIV_H

/*
 * swim: the baseline that artel's membership is measured against: SWIM (Das, Gupta, Motivala 2002)
 * with Lifeguard (Dadgar, Phillips, Currey 2018), with the parameters that memberlist's
 * documentation gives for a local network, and Serf's attempts to reach again what failed. It is a
 * model: what is sent, when, to whom and how large is as published; how the bytes look is not.
 *
 * Members are known by their identity, and kept in arrays by it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/map.h"
#include "base/random.h"
#include "sim/world.h"

/* memberlist's DefaultLANConfig. */
#define SWIM_PROBE_MS 1000u
#define SWIM_PROBE_TIMEOUT_MS 500u
#define SWIM_INDIRECT_CHECKS 3u
#define SWIM_SUSPICION_MULT 4u
#define SWIM_SUSPICION_MAX_MULT 6u
#define SWIM_AWARENESS_MAX 8u
#define SWIM_GOSSIP_MS 200u
#define SWIM_GOSSIP_NODES 3u
#define SWIM_RETRANSMIT_MULT 4u
#define SWIM_PUSH_PULL_MS 30000u
#define SWIM_PUSH_PULL_NODES 32u /* with more, the interval grows with their logarithm */
#define SWIM_DEAD_MS 30000u      /* gossiped to for so long, then forgotten */
#define SWIM_PACKET_BYTES 1400u
/* Lifeguard: who was asked to ask says that it got no answer after 80% of the time-out. */
#define SWIM_NACK_MS 400u
/* Serf's. */
#define SWIM_RECONNECT_MS 30000u
/* Until somebody answers; an affair of the program above. */
#define SWIM_JOIN_MS 5000u
#define SWIM_LEAVE_MS 1000u

/* Sizes of memberlist's messages in MessagePack, with names of ten characters. */
#define SWIM_PING_BYTES 82u
#define SWIM_PING_REQ_BYTES 109u
#define SWIM_ACK_BYTES 22u
#define SWIM_NACK_BYTES 13u
#define SWIM_ALIVE_BYTES 72u
#define SWIM_SUSPECT_BYTES 51u
#define SWIM_STATE_BYTES 78u
#define SWIM_CHECKSUM_BYTES 5u
#define SWIM_COMPOUND_BYTES 2u /* and as many for each part */

#define SWIM_CONFIRMATIONS_MAX (SWIM_SUSPICION_MULT - 2)
/* Enough for log10 of 65,535. */
#define SWIM_TRANSMITS_MAX (SWIM_RETRANSMIT_MULT * 5 + 1)
/* As many suspicions as fit a packet, and more. */
#define SWIM_UPDATES_MAX 28u
#define SWIM_NOBODY UINT32_MAX

enum swim_state {
    SWIM_UNKNOWN = 0,
    SWIM_ALIVE = 1,
    SWIM_SUSPECT = 2,
    SWIM_DEAD = 3,
    SWIM_LEFT = 4,
};

/* A piece of gossip. */
struct swim_update {
    uint32_t subject;
    uint32_t incarnation;
    uint32_t from; /* who says so */
    uint16_t slot; /* of an alive one: its address */
    uint16_t state;
};

enum swim_packet_type {
    SWIM_PING = 1,
    SWIM_PING_REQ = 2,
    SWIM_ACK = 3,
    SWIM_NACK = 4,
    SWIM_GOSSIP = 5,
};

struct swim_packet {
    uint32_t number;
    uint32_t target;
    uint16_t target_slot;
    uint8_t type;
    uint8_t updates_count;
    struct swim_update updates[SWIM_UPDATES_MAX];
};

enum swim_message_type {
    SWIM_PUSH_PULL = 1,
    SWIM_PUSH_PULL_REPLY = 2,
    SWIM_STREAM_PING = 3,
    SWIM_STREAM_ACK = 4,
};

struct swim_message {
    uint32_t type;
    uint32_t number;
    /* Followed by updates: all members, for a push and pull. */
};

struct swim_queued {
    struct swim_update update;
    uint32_t next; /* index, SWIM_NOBODY: none */
    uint32_t previous;
    uint8_t transmits;
};

/* What is still to be gossiped, the least told first, then the newest. One piece for a subject. */
struct swim_queue {
    struct swim_queued *items;
    size_t items_count;
    size_t items_capacity;
    uint32_t free_first;
    uint32_t first[SWIM_TRANSMITS_MAX + 1]; /* by how often it was told */
    uint32_t *by_subject;
    size_t count;
};

struct swim_suspicion {
    uint32_t subject;
    uint32_t incarnation;
    uint32_t from[SWIM_CONFIRMATIONS_MAX + 1];
    uint32_t confirmations; /* beyond the first */
    uint32_t confirmations_wanted;
    uint64_t begun_ms;
    uint64_t deadline_ms;
    uint64_t min_ms;
    uint64_t max_ms;
    UT_hash_handle hh;
};

/* When a suspicion may be over; passed over if its deadline is another by then. */
struct swim_deadline {
    uint64_t at_ms;
    uint32_t subject;
};

/* A ping on behalf of another. */
struct swim_relay {
    uint32_t number;
    uint32_t asker_number;
    uint16_t asker_slot;
    uint64_t nack_ms;
};

struct swim_probe {
    uint32_t target; /* SWIM_NOBODY: none under way */
    uint32_t number;
    uint64_t indirect_ms; /* UINT64_MAX: done */
    uint64_t end_ms;
    uint32_t nacks_expected;
    uint32_t nacks;
};

struct swim {
    struct sim_world *world;
    struct random random;
    uint32_t slot;
    uint32_t self;
    size_t nodes_max;
    uint32_t *incarnations; /* these three by identity */
    uint8_t *states;
    uint16_t *slots;
    uint32_t *members; /* all that are known, in the order of probing */
    size_t members_count;
    size_t members_capacity;
    size_t probe_at;
    size_t alive_count; /* suspects too */
    uint64_t digest;
    struct swim_queue queue;
    struct swim_suspicion *suspicions;
    struct swim_deadline *deadlines; /* a heap */
    size_t deadlines_count;
    size_t deadlines_capacity;
    struct {
        uint32_t subject;
        uint64_t since_ms;
    } * dead;
    size_t dead_count;
    size_t dead_capacity;
    uint32_t *failed; /* forgotten by memberlist, not by Serf */
    size_t failed_count;
    size_t failed_capacity;
    struct swim_relay *relays;
    size_t relays_count;
    size_t relays_capacity;
    struct swim_probe probe;
    uint32_t awareness;
    uint32_t numbers;
    uint64_t probe_ms;
    uint64_t gossip_ms;
    uint64_t push_pull_ms;
    uint64_t reconnect_ms;
    uint64_t join_ms;
    uint64_t leave_ms; /* UINT64_MAX: stays */
    uint32_t seeds[SIM_SEEDS_MAX * 2];
    size_t seeds_count;
};

/* swim_queue.c */
void swim_queue_init(struct swim_queue *queue, size_t nodes_max);
void swim_queue_done(struct swim_queue *queue);
/* In place of what is said of the same subject. */
void swim_queue_add(struct swim_queue *queue, const struct swim_update *update);
/* Fills `packet` up to `room_bytes`; the bytes that it took. */
size_t swim_queue_fill(struct swim_queue *queue, size_t room_bytes, size_t transmits_max,
                       struct swim_packet *packet);

/* swim_state.c: what is believed of whom. */
void swim_hear(struct swim *swim, uint64_t now_ms, const struct swim_update *update);
/* What another believes, out of a push and pull. */
void swim_merge(struct swim *swim, uint64_t now_ms, const struct swim_update *update);
void swim_suspect(struct swim *swim, uint64_t now_ms, const struct swim_update *update);
/* Declares dead what was suspected for long enough. */
void swim_expire(struct swim *swim, uint64_t now_ms);
uint64_t swim_expire_next_ms(const struct swim *swim);
/* Forgets the dead, and shuffles the order of probing. */
void swim_reset_members(struct swim *swim, uint64_t now_ms);
void swim_aware(struct swim *swim, int change);
/* Back to the first state of itself. */
void swim_begin(struct swim *swim);
void swim_state_done(struct swim *swim);

/* swim_gossip.c: packets and messages. */
size_t swim_transmits(const struct swim *swim);
/* Sends `packet`, with gossip if there is room. */
void swim_send(struct swim *swim, uint32_t to_slot, struct swim_packet *packet);
void swim_gossip(struct swim *swim, uint64_t now_ms);
void swim_push_pull(struct swim *swim, uint32_t to_slot, enum swim_message_type type);
void swim_receive_message(void *node, uint64_t now_us, uint32_t from_slot, uint32_t from_identity,
                          struct bytes message);
/* A random member for which `is_good` holds, or SWIM_NOBODY. */
uint32_t swim_pick(struct swim *swim,
                   bool (*is_good)(const struct swim *swim, uint32_t member, uint64_t now_ms),
                   uint64_t now_ms);

#endif
