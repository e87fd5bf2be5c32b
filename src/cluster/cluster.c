/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/cluster.h"

#include <stdlib.h>

#include "base/mem.h"
#include "cluster/cluster_priv.h"

/* A tick that comes so much later than it was due says that this process was held up. */
#define HELD_UP_US SECOND
/* What arrived meanwhile has been read after so long. */
#define WOKEN_US (100 * MS)

struct cluster *cluster_new(const struct cluster_options *options, uint64_t now_us)
{
    CHECK(options->boot_nonce != 0 && options->incarnation != 0);
    struct cluster *cluster = mem_alloc(sizeof *cluster);
    cluster->host = options->host;
    cluster->own_pool = options->pool ? NULL : member_pool_new();
    view_init(&cluster->view, options->pool ? options->pool : cluster->own_pool);
    cluster->id = options->id;
    cluster->boot_nonce = options->boot_nonce;
    random_init(&cluster->random, options->random_seed);
    cluster->now_us = now_us;
    cluster->started_us = now_us;
    /* Nobody can answer what was sent in an earlier life. */
    cluster->last_number = (uint32_t)random_u64(&cluster->random);
    const struct member_record self = {
        .id = options->id,
        .version = {options->incarnation, options->boot_nonce, MEMBER_ALIVE},
        .address = options->address,
        .capacity_bytes = options->capacity_bytes,
        .minor = DATAGRAM_MINOR,
        .name = bytes_of_string(options->name),
        .zone = bytes_of_string(options->zone),
    };
    struct entry *entry =
        view_add(&cluster->view, pool_take(cluster->view.pool, &self), MEMBER_ALIVE);
    entry->since_us = now_us;
    probe_start(cluster);
    join_start(cluster);
    cluster->settle_us = NEVER;
    cluster->refute_due_us = NEVER;
    return cluster;
}

void cluster_free(struct cluster *cluster)
{
    if (!cluster) {
        return;
    }
    broadcast_done(cluster);
    conflict_done(cluster);
    view_done(&cluster->view);
    member_pool_free(cluster->own_pool);
    buf_done(&cluster->out);
    buf_done(&cluster->message);
    free(cluster->forgotten);
    free(cluster);
}

struct entry *cluster_self(struct cluster *cluster)
{
    struct entry *self = view_find(&cluster->view, &cluster->id);
    CHECK(self);
    return self;
}

uint32_t cluster_number(struct cluster *cluster)
{
    cluster->last_number++;
    if (cluster->last_number == 0) {
        cluster->last_number = 1;
    }
    return cluster->last_number;
}

void cluster_send(struct cluster *cluster, const struct address *to, uint64_t receiver_nonce,
                  struct datagram *datagram)
{
    datagram->sender = cluster->id;
    datagram->sender_nonce = cluster->boot_nonce;
    datagram->receiver_nonce = (uint32_t)receiver_nonce;
    buf_clear(&cluster->out);
    const int err = datagram_format(datagram, &cluster->out);
    CHECK(!err);
    cluster->counters.datagrams_sent++;
    cluster->counters.datagram_bytes_sent += cluster->out.size;
    cluster->host.send_datagram(cluster->host.context, to, buf_bytes(&cluster->out));
}

void cluster_send_to(struct cluster *cluster, const struct entry *to, struct datagram *datagram)
{
    cluster_send(cluster, &to->record->address, to->record->boot_nonce, datagram);
}

struct cluster_member cluster_member_of(const struct cluster *cluster, const struct entry *entry)
{
    const bool is_self = node_id_equal(&entry->record->id, &cluster->id);
    struct cluster_member member = {
        .record = record_value(entry->record, (enum member_status)entry->status),
        .is_self = is_self,
        .in_ring = entry->ring == RING_IN,
        .since_us = entry->since_us,
        .proof_us = entry->proof_us,
        .rtt_us = entry->rtt_us,
    };
    if (cluster->is_isolated && !is_self && entry_is_alive(entry)) {
        member.record.version.status = MEMBER_UNREACHABLE;
        member.since_us = cluster->isolated_us;
    }
    return member;
}

void cluster_tell(struct cluster *cluster, enum cluster_event_kind kind, const struct entry *entry)
{
    const struct cluster_member member = cluster_member_of(cluster, entry);
    const struct cluster_event event = {.kind = kind, .member = &member};
    cluster->host.event(cluster->host.context, &event);
}

struct member_update cluster_update_of(const struct cluster *cluster, const struct entry *entry)
{
    const uint64_t age_us = cluster->now_us - entry->since_us;
    const uint64_t age_s = age_us / SECOND;
    return (struct member_update){
        .is_record = true,
        .age_s = age_s < UINT32_MAX ? (uint32_t)age_s : UINT32_MAX,
        .record = record_value(entry->record, (enum member_status)entry->status),
    };
}

struct entry *cluster_random_member(struct cluster *cluster)
{
    const struct view *view = &cluster->view;
    const struct entry *self = cluster_self(cluster);
    if (!entry_is_alive(self)) {
        return view->alive_count == 0
                   ? NULL
                   : view_at_rank(view, random_below(&cluster->random, view->alive_count));
    }
    if (view->alive_count < 2) {
        return NULL;
    }
    size_t rank = random_below(&cluster->random, view->alive_count - 1);
    rank += rank >= view_rank(view, &cluster->id);
    return view_at_rank(view, rank);
}

/* Messages between members that know each other. `sender` speaks from the life that we know. */
static void receive_known(struct cluster *cluster, const struct address *from, struct entry *sender,
                          const struct datagram *datagram)
{
    cluster->heard_us = cluster->now_us;
    switch (datagram->type) {
    case DATAGRAM_PING:
        probe_received_ping(cluster, from, sender, datagram);
        break;
    case DATAGRAM_ACK:
        probe_received_ack(cluster, sender, datagram);
        break;
    case DATAGRAM_PING_REQ:
        probe_received_request(cluster, sender, datagram);
        break;
    case DATAGRAM_PING_ACK:
        probe_received_relayed(cluster, datagram);
        break;
    case DATAGRAM_ALERT:
        vote_received_alert(cluster, sender, datagram);
        break;
    case DATAGRAM_VERDICT:
        vote_received_verdict(cluster, sender, datagram);
        break;
    case DATAGRAM_ACCUSE:
        merge_refute(cluster, datagram->subject_version.incarnation);
        if (datagram->subject_version.incarnation < cluster_self(cluster)->record->incarnation) {
            join_greet(cluster, from); /* with what refutes it */
        }
        break;
    case DATAGRAM_BROADCAST:
        broadcast_received(cluster, sender, datagram);
        break;
    case DATAGRAM_RECEIPT:
        broadcast_received_receipt(cluster, datagram);
        break;
    case DATAGRAM_JOIN:
    case DATAGRAM_WELCOME:
    case DATAGRAM_CONFLICT:
    case DATAGRAM_CHALLENGE:
    case DATAGRAM_RESPONSE:
    default:
        break; /* taken before */
    }
}

/* True if it was one of those that need no acquaintance. */
static bool receive_from_anyone(struct cluster *cluster, const struct address *from,
                                const struct datagram *datagram)
{
    switch (datagram->type) {
    case DATAGRAM_JOIN:
        join_received_join(cluster, from, datagram);
        return true;
    case DATAGRAM_WELCOME:
        join_received_welcome(cluster, from, datagram);
        return true;
    case DATAGRAM_CONFLICT:
        conflict_received_conflict(cluster, datagram);
        return true;
    case DATAGRAM_CHALLENGE:
        conflict_received_challenge(cluster, from, datagram);
        return true;
    case DATAGRAM_RESPONSE:
        conflict_received_response(cluster, from, datagram);
        return true;
    default:
        return false;
    }
}

static void receive(struct cluster *cluster, const struct address *from,
                    const struct datagram *datagram)
{
    const bool is_own = node_id_equal(&datagram->sender, &cluster->id);
    if (receive_from_anyone(cluster, from, datagram)) {
        return;
    }
    struct entry *sender = view_find(&cluster->view, &datagram->sender);
    if (is_own || !sender || sender->record->boot_nonce != datagram->sender_nonce) {
        /* A stranger, or a life of a member that we have not heard of: let it say who it is. */
        cluster->counters.datagrams_refused++;
        if (!is_own && (datagram->receiver_nonce == (uint32_t)cluster->boot_nonce ||
                        datagram->type == DATAGRAM_PING)) {
            join_greet(cluster, from);
        }
        return;
    }
    if (!entry_is_alive(sender) && datagram->type != DATAGRAM_ACCUSE) {
        /* So that it refutes. No accusation for an accusation: two nodes that hold each other for
         * lost would go on for ever. */
        merge_warn(cluster, sender, from, datagram->sender_nonce);
    }
    if (datagram->receiver_nonce != (uint32_t)cluster->boot_nonce) {
        /* It knows an earlier life of ours. An answer tells it. */
        cluster->counters.datagrams_refused++;
        if (datagram->type == DATAGRAM_PING) {
            probe_received_ping(cluster, from, NULL, datagram);
        }
        return;
    }
    receive_known(cluster, from, sender, datagram);
}

void cluster_receive_datagram(struct cluster *cluster, uint64_t now_us, const struct address *from,
                              struct bytes bytes)
{
    cluster->now_us = now_us;
    cluster->counters.datagrams_received++;
    cluster->counters.datagram_bytes_received += bytes.size;
    if (cluster->has_left) {
        return;
    }
    struct datagram datagram;
    if (datagram_parse(bytes, &datagram)) {
        cluster->counters.datagrams_refused++;
        return;
    }
    receive(cluster, from, &datagram);
    broadcast_flush(cluster);
}

void cluster_receive_message(struct cluster *cluster, uint64_t now_us, const struct node_id *from,
                             struct bytes bytes)
{
    cluster->now_us = now_us;
    cluster->counters.message_bytes_received += bytes.size;
    struct entry *sender = view_find(&cluster->view, from);
    struct member_sync sync;
    if (cluster->has_left || !sender || node_id_equal(from, &cluster->id) ||
        member_sync_parse(bytes, &sync)) {
        cluster->counters.messages_refused++;
        return;
    }
    sync_received(cluster, sender, &sync);
    broadcast_flush(cluster);
}

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t cluster_next_us(const struct cluster *cluster)
{
    if (cluster->has_left) {
        return NEVER;
    }
    uint64_t next_us = probe_next_us(cluster);
    next_us = earliest(next_us, vote_next_us(cluster));
    next_us = earliest(next_us, broadcast_next_us(cluster));
    next_us = earliest(next_us, sync_next_us(cluster));
    next_us = earliest(next_us, join_next_us(cluster));
    next_us = earliest(next_us, conflict_next_us(cluster));
    next_us = earliest(next_us, cluster->settle_us);
    next_us = earliest(next_us, cluster->refute_due_us);
    if (!cluster->is_leaving) {
        return next_us;
    }
    return cluster->carries_count == 0 ? cluster->now_us : earliest(next_us, cluster->leave_us);
}

bool cluster_was_held_up(const struct cluster *cluster)
{
    const uint64_t due_us = cluster_next_us(cluster);
    return (cluster->now_us > due_us && cluster->now_us - due_us > HELD_UP_US) ||
           (cluster->woken_us != 0 && cluster->now_us - cluster->woken_us < WOKEN_US);
}

static void leave_due(struct cluster *cluster)
{
    if (!cluster->is_leaving || cluster->has_left ||
        (cluster->now_us < cluster->leave_us && cluster->carries_count > 0)) {
        return;
    }
    cluster->has_left = true;
    cluster_tell(cluster, CLUSTER_LEAVE_DONE, cluster_self(cluster));
}

void cluster_tick(struct cluster *cluster, uint64_t now_us)
{
    const uint64_t due_us = cluster_next_us(cluster);
    cluster->now_us = now_us;
    if (cluster->has_left || now_us < due_us) {
        return;
    }
    if (now_us - due_us > HELD_UP_US) {
        probe_held_up(cluster);
        vote_end_all(cluster);
    }
    probe_due(cluster);
    vote_due(cluster);
    sync_due(cluster);
    join_due(cluster);
    conflict_due(cluster);
    merge_due(cluster);
    ring_due(cluster);
    broadcast_due(cluster);
    leave_due(cluster);
}

void cluster_leave(struct cluster *cluster, uint64_t now_us, enum member_status status)
{
    CHECK(status == MEMBER_LEFT || status == MEMBER_UNREACHABLE);
    cluster->now_us = now_us;
    if (cluster->is_leaving) {
        return;
    }
    struct entry *self = cluster_self(cluster);
    view_replace(&cluster->view, self, record_share(self->record), status);
    self->since_us = now_us;
    cluster->change_count++;
    cluster->is_leaving = true;
    cluster->leave_us = now_us + CLUSTER_LEAVE_MS * MS;
    /* Not with others' news, and whatever storm there is: this is the last occasion. */
    const struct member_update update = {.is_record = false,
                                         .record = record_value(self->record, status)};
    CLEANUP_BUF struct buf payload = BUF_INIT;
    field_put_member_update(&payload, &update);
    broadcast_begin(cluster, DATAGRAM_PAYLOAD_MEMBERS, buf_bytes(&payload));
}

void cluster_set_digests(struct cluster *cluster, uint64_t vector, uint64_t tree)
{
    cluster->digests.vector = vector;
    cluster->digests.tree = tree;
}

void cluster_broadcast(struct cluster *cluster, uint64_t now_us, uint8_t kind, struct bytes payload)
{
    CHECK(kind != DATAGRAM_PAYLOAD_MEMBERS && payload.size <= DATAGRAM_PAYLOAD_BYTES_MAX);
    cluster->now_us = now_us;
    if (!cluster->is_leaving) {
        broadcast_begin(cluster, kind, payload);
    }
}

bool cluster_is_alone(const struct cluster *cluster)
{
    return cluster_others(cluster) == 0;
}

bool cluster_is_isolated(const struct cluster *cluster)
{
    return cluster->is_isolated;
}

size_t cluster_count(const struct cluster *cluster, enum member_status status)
{
    size_t count = 0;
    for (size_t i = 0; i < MEMBER_BUCKETS; i++) {
        const struct bucket *bucket = &cluster->view.buckets[i];
        for (size_t j = 0; j < bucket->count; j++) {
            count +=
                cluster_member_of(cluster, &bucket->entries[j]).record.version.status == status;
        }
    }
    return count;
}

uint64_t cluster_digest(const struct cluster *cluster)
{
    return cluster->view.digest;
}

uint64_t cluster_change_count(const struct cluster *cluster)
{
    return cluster->change_count;
}

bool cluster_find(const struct cluster *cluster, const struct node_id *id,
                  struct cluster_member *ret_member)
{
    const struct entry *entry = view_find(&cluster->view, id);
    if (!entry) {
        return false;
    }
    *ret_member = cluster_member_of(cluster, entry);
    return true;
}

void cluster_walk(const struct cluster *cluster,
                  bool (*visit)(void *context, const struct cluster_member *member), void *context)
{
    for (size_t i = 0; i < MEMBER_BUCKETS; i++) {
        const struct bucket *bucket = &cluster->view.buckets[i];
        for (size_t j = 0; j < bucket->count; j++) {
            const struct cluster_member member = cluster_member_of(cluster, &bucket->entries[j]);
            if (!visit(context, &member)) {
                return;
            }
        }
    }
}

const struct cluster_counters *cluster_counters(const struct cluster *cluster)
{
    return &cluster->counters;
}
