/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Broadcasts. Who has something for everybody cuts the ring behind itself, up to itself again, into
 * BROADCAST_PARTS parts of equal numbers of alive members, and sends it to the first of each part
 * with the end of that part; each of these does the same with its own part. So N members are told
 * by N - 1 datagrams in log8 N steps, and there is no tree to keep: each node computes its cuts
 * from its own list. Where two lists differ, somebody gets it twice or not at all; the digests in
 * pings find the hole. A delegate that sends no receipt is replaced by the next member of its part.
 * (DESIGN's "first one per zone" is not made: ids are hashes, so eight delegates stand in different
 * zones as a rule, and a step between zones costs one way, not one way for each member.)
 *
 * Changes of members wait up to ANNOUNCE_PAUSE_US for others to go with them. When more change than
 * a list of broadcasts can carry (a partition, a power cut, a whole data centre that starts), each
 * of N members would be told N times: that is a storm, in which members are not broadcast at all,
 * and lists are exchanged in pairs (sync.c) instead.
 */

#include <stdlib.h>

#include "base/mem.h"
#include "cluster/cluster_priv.h"

#define ANNOUNCE_PAUSE_US (50 * MS)
#define ATTEMPTS_MAX 3u
/* More changes than so many in a second are a storm, for so long. */
#define STORM_CHANGES 64u
#define STORM_US (2 * SECOND)

static bool is_storm(const struct cluster *cluster)
{
    return cluster->now_us < cluster->storm_until_us;
}

void broadcast_count_change(struct cluster *cluster)
{
    if (cluster->now_us - cluster->storm_window_us >= SECOND) {
        cluster->storm_window_us = cluster->now_us;
        cluster->storm_count = 0;
    }
    cluster->storm_count++;
    if (cluster->storm_count > STORM_CHANGES) {
        cluster->storm_until_us = cluster->now_us + STORM_US;
        sync_eagerly(cluster);
    }
}

/* A name is remembered at one place in a table, until another comes there: what is forgotten is
 * taken twice at worst. */
static bool was_seen(struct cluster *cluster, uint64_t origin, uint32_t number)
{
    const uint64_t name = origin * 0x9e3779b97f4a7c15u ^ number * 0xbf58476d1ce4e5b9u;
    uint64_t *place = &cluster->seen[(name >> 32) % BROADCASTS_SEEN];
    if (*place == name) {
        return true;
    }
    *place = name;
    return false;
}

static void send_part(struct cluster *cluster, const struct carry *carry, const struct entry *to)
{
    struct datagram broadcast = {
        .type = DATAGRAM_BROADCAST,
        .number = carry->number,
        .range_end = carry->range_end,
        .origin = carry->origin,
        .origin_number = carry->origin_number,
        .payload_kind = carry->kind,
        .payload = BYTES(carry->payload, carry->payload_size),
    };
    cluster_send_to(cluster, to, &broadcast);
}

/* Alive members behind ourselves and before `range_end`; all others if that is ourselves. */
static size_t members_behind(const struct cluster *cluster, const struct node_id *range_end,
                             size_t *ret_first_rank)
{
    const struct view *view = &cluster->view;
    const size_t count = view->alive_count;
    const struct entry *self = view_find(view, &cluster->id);
    const size_t rank = view_rank(view, &cluster->id);
    *ret_first_rank = entry_is_alive(self) ? rank + 1 : rank;
    const size_t others = entry_is_alive(self) ? count - 1 : count;
    const int order = node_id_compare(range_end, &cluster->id);
    if (order == 0) {
        return others;
    }
    const size_t end_rank = view_rank(view, range_end);
    const size_t end = order > 0 ? end_rank : end_rank + count;
    return end > *ret_first_rank ? end - *ret_first_rank : 0;
}

/* A broadcast, whoever gets it. */
struct news {
    uint64_t origin;
    uint32_t origin_number;
    uint8_t kind;
    struct bytes payload;
};

static void distribute(struct cluster *cluster, const struct node_id *range_end,
                       const struct news *news)
{
    size_t first_rank;
    const size_t members = members_behind(cluster, range_end, &first_rank);
    const size_t parts = members < BROADCAST_PARTS ? members : BROADCAST_PARTS;
    const size_t count = cluster->view.alive_count;
    for (size_t part = 0; part < parts; part++) {
        if (cluster->carries_count == CARRIES_MAX) {
            return;
        }
        const size_t begin = first_rank + part * members / parts;
        const size_t end = first_rank + (part + 1) * members / parts;
        const struct entry *delegate = view_at_rank(&cluster->view, begin % count);
        struct carry *carry = &cluster->carries[cluster->carries_count++];
        const bool is_last = part + 1 == parts;
        *carry = (struct carry){
            .number = cluster_number(cluster),
            .delegate = delegate->record->id,
            .range_end =
                is_last ? *range_end : view_at_rank(&cluster->view, end % count)->record->id,
            .origin = news->origin,
            .origin_number = news->origin_number,
            .kind = news->kind,
            .deadline_us = cluster->now_us + cluster->answer_us,
            .payload = mem_copy(news->payload.data, news->payload.size),
            .payload_size = news->payload.size,
        };
        send_part(cluster, carry, delegate);
    }
}

void broadcast_begin(struct cluster *cluster, uint8_t kind, struct bytes payload)
{
    const struct news news = {
        .origin = cluster->boot_nonce,
        .origin_number = cluster_number(cluster),
        .kind = kind,
        .payload = payload,
    };
    (void)was_seen(cluster, news.origin, news.origin_number);
    cluster->counters.broadcasts_begun++;
    distribute(cluster, &cluster->id, &news);
}

void broadcast_received(struct cluster *cluster, struct entry *sender,
                        const struct datagram *broadcast)
{
    struct datagram receipt = {.type = DATAGRAM_RECEIPT, .number = broadcast->number};
    cluster_send_to(cluster, sender, &receipt);
    if (was_seen(cluster, broadcast->origin, broadcast->origin_number)) {
        return;
    }
    const bool is_of_members = broadcast->payload_kind == DATAGRAM_PAYLOAD_MEMBERS;
    const struct node_id from = sender->record->id; /* merging may move the entry */
    if (is_of_members) {
        struct member_update updates[DATAGRAM_UPDATES_MAX];
        size_t count = 0;
        if (datagram_parse_updates(broadcast->payload, updates, &count)) {
            cluster->counters.datagrams_refused++;
            return;
        }
        for (size_t i = 0; i < count; i++) {
            (void)merge_update(cluster, &updates[i], FROM_BROADCAST);
        }
    } else if (cluster->host.broadcast) {
        cluster->host.broadcast(cluster->host.context, &from, broadcast->payload_kind,
                                broadcast->payload);
    }
    if (cluster->is_leaving || (is_of_members && is_storm(cluster))) {
        return;
    }
    const struct news news = {
        .origin = broadcast->origin,
        .origin_number = broadcast->origin_number,
        .kind = broadcast->payload_kind,
        .payload = broadcast->payload,
    };
    cluster->counters.broadcasts_forwarded++;
    distribute(cluster, &broadcast->range_end, &news);
}

static void end(struct cluster *cluster, struct carry *carry)
{
    free(carry->payload);
    *carry = cluster->carries[--cluster->carries_count];
}

void broadcast_received_receipt(struct cluster *cluster, struct entry *sender,
                                const struct datagram *receipt)
{
    for (unsigned i = 0; i < cluster->carries_count; i++) {
        struct carry *carry = &cluster->carries[i];
        if (carry->number == receipt->number &&
            node_id_equal(&carry->delegate, &sender->record->id)) {
            end(cluster, carry);
            return;
        }
    }
}

/* The member behind the delegate takes its place, unless the part ends there. False: nobody is
 * left. */
static bool replace_delegate(struct cluster *cluster, struct carry *carry)
{
    const struct view *view = &cluster->view;
    const struct entry *old = view_find(view, &carry->delegate);
    const size_t count = view->alive_count;
    if (carry->attempt + 1 >= ATTEMPTS_MAX || count == 0) {
        return false;
    }
    size_t rank = view_rank(view, &carry->delegate);
    rank += old && entry_is_alive(old);
    const struct entry *next = view_at_rank(view, rank % count);
    const struct node_id *id = &next->record->id;
    /* In the part: as far behind the delegate as its end is, or nearer. On a ring, compare the
     * distances from the delegate. */
    const bool wraps = node_id_compare(&carry->range_end, &carry->delegate) <= 0;
    const bool is_behind = node_id_compare(id, &carry->delegate) > 0;
    const bool is_before_end = node_id_compare(id, &carry->range_end) < 0;
    const bool is_in = wraps ? is_behind || is_before_end : is_behind && is_before_end;
    if (!is_in || node_id_equal(id, &cluster->id)) {
        /* It was alone in its part: it may only have been slow. */
        next = old;
    }
    if (!next || !entry_is_alive(next)) {
        return false;
    }
    carry->attempt++;
    carry->delegate = next->record->id;
    carry->number = cluster_number(cluster);
    carry->deadline_us = cluster->now_us + cluster->answer_us;
    send_part(cluster, carry, next);
    return true;
}

/* Members whose news wait */

void broadcast_member(struct cluster *cluster, const struct entry *entry)
{
    if (is_storm(cluster)) {
        sync_eagerly(cluster);
        return;
    }
    for (unsigned i = 0; i < cluster->announced_count; i++) {
        if (node_id_equal(&cluster->announced[i], &entry->record->id)) {
            return;
        }
    }
    if (cluster->announced_count == ANNOUNCE_MAX) {
        sync_eagerly(cluster);
        return;
    }
    if (cluster->announced_count == 0) {
        const uint64_t earliest_us = cluster->announced_last_us + ANNOUNCE_PAUSE_US;
        cluster->announce_us = earliest_us > cluster->now_us ? earliest_us : cluster->now_us;
    }
    cluster->announced[cluster->announced_count++] = entry->record->id;
}

void broadcast_flush(struct cluster *cluster)
{
    if (cluster->announced_count == 0 || cluster->now_us < cluster->announce_us) {
        return;
    }
    cluster->announced_last_us = cluster->now_us;
    if (is_storm(cluster) || cluster->is_leaving) {
        cluster->announced_count = 0;
        return;
    }
    CLEANUP_BUF struct buf payload = BUF_INIT;
    unsigned taken = 0;
    while (taken < cluster->announced_count && taken < DATAGRAM_UPDATES_MAX) {
        const struct entry *entry = view_find(&cluster->view, &cluster->announced[taken]);
        if (entry) {
            struct member_update update = cluster_update_of(cluster, entry);
            /* Who is silent is known to all; who speaks may be new. */
            update.is_record = entry_is_alive(entry);
            if (payload.size + MEMBER_UPDATE_BYTES_MAX > DATAGRAM_PAYLOAD_BYTES_MAX) {
                break;
            }
            field_put_member_update(&payload, &update);
        }
        taken++;
    }
    cluster->announced_count -= taken;
    memmove(cluster->announced, cluster->announced + taken,
            cluster->announced_count * sizeof cluster->announced[0]);
    cluster->announce_us = cluster->now_us + ANNOUNCE_PAUSE_US;
    broadcast_begin(cluster, DATAGRAM_PAYLOAD_MEMBERS, buf_bytes(&payload));
}

void broadcast_due(struct cluster *cluster)
{
    for (unsigned i = cluster->carries_count; i-- > 0;) {
        struct carry *carry = &cluster->carries[i];
        if (cluster->now_us >= carry->deadline_us && !replace_delegate(cluster, carry)) {
            end(cluster, carry);
        }
    }
    broadcast_flush(cluster);
}

uint64_t broadcast_next_us(const struct cluster *cluster)
{
    uint64_t next_us = cluster->announced_count > 0 ? cluster->announce_us : NEVER;
    for (unsigned i = 0; i < cluster->carries_count; i++) {
        if (cluster->carries[i].deadline_us < next_us) {
            next_us = cluster->carries[i].deadline_us;
        }
    }
    return next_us;
}

void broadcast_done(struct cluster *cluster)
{
    for (unsigned i = 0; i < cluster->carries_count; i++) {
        free(cluster->carries[i].payload);
    }
    cluster->carries_count = 0;
}
