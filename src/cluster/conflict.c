/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Two nodes with one id: somebody copied a data directory. Each start of a node has a boot nonce of
 * its own, so a copy shows itself as another life of the same member at another address. A restart
 * at another address looks the same; the difference is that the old life still answers. So both
 * addresses are challenged; if both answer with their own nonces, both are told of each other, and
 * the one with the shorter uptime stops. It believes that only when it has challenged the other one
 * itself: a datagram alone stops nobody.
 */

#include "cluster/cluster_priv.h"

#define ANSWER_US (600 * MS)
/* Uptimes nearer to each other than this are told apart by nonce: the answers were on their way. */
#define UPTIME_EQUAL_MS 1000u

enum { KNOWN = 0, NEWCOMER = 1 };

static void send_challenge(struct cluster *cluster, const struct challenge *challenge,
                           const struct address *to)
{
    struct datagram datagram = {.type = DATAGRAM_CHALLENGE, .number = challenge->number};
    cluster_send(cluster, to, 0, &datagram);
}

static void end(struct cluster *cluster, struct challenge *challenge)
{
    pool_give(cluster->view.pool, challenge->record);
    *challenge = cluster->challenges[--cluster->challenges_count];
}

/* NULL: one of this member is under way, or too many are. */
static struct challenge *begin(struct cluster *cluster, const struct node_id *id)
{
    for (unsigned i = 0; i < cluster->challenges_count; i++) {
        if (node_id_equal(&cluster->challenges[i].id, id)) {
            return NULL;
        }
    }
    if (cluster->challenges_count == CHALLENGES_MAX) {
        return NULL;
    }
    struct challenge *challenge = &cluster->challenges[cluster->challenges_count++];
    *challenge = (struct challenge){
        .id = *id,
        .number = cluster_number(cluster),
        .deadline_us = cluster->now_us + ANSWER_US,
    };
    return challenge;
}

void conflict_check(struct cluster *cluster, const struct entry *known,
                    const struct member_record *newcomer)
{
    struct challenge *challenge = begin(cluster, &newcomer->id);
    if (challenge) {
        challenge->record = pool_take(cluster->view.pool, newcomer);
        challenge->addresses[KNOWN] = known->record->address;
        challenge->addresses[NEWCOMER] = newcomer->address;
        challenge->nonces[KNOWN] = known->record->boot_nonce;
        challenge->nonces[NEWCOMER] = newcomer->version.boot_nonce;
        send_challenge(cluster, challenge, &challenge->addresses[KNOWN]);
        send_challenge(cluster, challenge, &challenge->addresses[NEWCOMER]);
    }
}

void conflict_check_self(struct cluster *cluster, const struct address *address)
{
    struct challenge *challenge = begin(cluster, &cluster->id);
    if (challenge) {
        challenge->addresses[NEWCOMER] = *address;
        send_challenge(cluster, challenge, address);
    }
}

static void tell_of(struct cluster *cluster, const struct challenge *challenge, unsigned whom,
                    unsigned of)
{
    struct datagram conflict = {
        .type = DATAGRAM_CONFLICT,
        .number = challenge->number,
        .address = challenge->addresses[of],
        .uptime_ms = challenge->uptimes_ms[of],
    };
    cluster_send(cluster, &challenge->addresses[whom], challenge->nonces[whom], &conflict);
}

static void decide(struct cluster *cluster, struct challenge *challenge)
{
    if (!challenge->record) {
        end(cluster, challenge);
        return;
    }
    if (challenge->has_answered[KNOWN] && challenge->has_answered[NEWCOMER]) {
        tell_of(cluster, challenge, KNOWN, NEWCOMER);
        tell_of(cluster, challenge, NEWCOMER, KNOWN);
        end(cluster, challenge);
        return;
    }
    const bool is_moved = challenge->has_answered[NEWCOMER];
    struct record *record = record_share(challenge->record);
    end(cluster, challenge);
    if (is_moved) {
        const struct member_update update = {.is_record = true,
                                             .record = record_value(record, MEMBER_ALIVE)};
        if (merge_update(cluster, &update, FROM_BROADCAST)) {
            broadcast_member(cluster, view_find(&cluster->view, &record->id));
        }
    }
    pool_give(cluster->view.pool, record);
}

void conflict_due(struct cluster *cluster)
{
    for (unsigned i = cluster->challenges_count; i-- > 0;) {
        if (cluster->now_us >= cluster->challenges[i].deadline_us) {
            decide(cluster, &cluster->challenges[i]);
        }
    }
}

uint64_t conflict_next_us(const struct cluster *cluster)
{
    uint64_t next_us = NEVER;
    for (unsigned i = 0; i < cluster->challenges_count; i++) {
        if (cluster->challenges[i].deadline_us < next_us) {
            next_us = cluster->challenges[i].deadline_us;
        }
    }
    return next_us;
}

static uint64_t uptime_ms(const struct cluster *cluster)
{
    return (cluster->now_us - cluster->started_us) / MS;
}

void conflict_received_challenge(struct cluster *cluster, const struct address *from,
                                 const struct datagram *challenge)
{
    struct datagram response = {
        .type = DATAGRAM_RESPONSE,
        .number = challenge->number,
        .incarnation = cluster_self(cluster)->record->incarnation,
        .uptime_ms = uptime_ms(cluster),
    };
    cluster_send(cluster, from, challenge->sender_nonce, &response);
}

/* The other node with our id answered our own challenge. */
static void meet_twin(struct cluster *cluster, const struct address *address,
                      const struct datagram *response)
{
    const uint64_t own_ms = uptime_ms(cluster);
    const uint64_t other_ms = response->uptime_ms;
    const uint64_t apart_ms = own_ms > other_ms ? own_ms - other_ms : other_ms - own_ms;
    const bool is_younger = apart_ms < UPTIME_EQUAL_MS
                                ? cluster->boot_nonce < response->sender_nonce
                                : own_ms < other_ms;
    if (is_younger) {
        const struct cluster_member self = cluster_member_of(cluster, cluster_self(cluster));
        const struct cluster_event event = {
            .kind = CLUSTER_CONFLICT, .member = &self, .other = *address};
        cluster->has_left = true; /* what it says from now on only does harm */
        cluster->host.event(cluster->host.context, &event);
        return;
    }
    const struct address own = cluster_self(cluster)->record->address;
    struct datagram conflict = {
        .type = DATAGRAM_CONFLICT,
        .number = cluster_number(cluster),
        .address = own,
        .uptime_ms = own_ms,
    };
    cluster_send(cluster, address, response->sender_nonce, &conflict);
}

void conflict_received_response(struct cluster *cluster, const struct address *from,
                                const struct datagram *response)
{
    for (unsigned i = 0; i < cluster->challenges_count; i++) {
        struct challenge *challenge = &cluster->challenges[i];
        if (challenge->number != response->number ||
            !node_id_equal(&challenge->id, &response->sender)) {
            continue;
        }
        if (!challenge->record) {
            end(cluster, challenge);
            if (response->sender_nonce != cluster->boot_nonce) {
                meet_twin(cluster, from, response);
            }
            return;
        }
        for (unsigned j = 0; j < 2; j++) {
            if (response->sender_nonce == challenge->nonces[j]) {
                challenge->has_answered[j] = true;
                challenge->uptimes_ms[j] = response->uptime_ms;
            }
        }
        return;
    }
}

void conflict_received_conflict(struct cluster *cluster, const struct datagram *conflict)
{
    if (!cluster->is_leaving && conflict->receiver_nonce == (uint32_t)cluster->boot_nonce) {
        conflict_check_self(cluster, &conflict->address);
    }
}

void conflict_done(struct cluster *cluster)
{
    while (cluster->challenges_count > 0) {
        end(cluster, &cluster->challenges[0]);
    }
}
