/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Broadcasts. Who has something for everybody cuts the ring behind itself, up to itself again, into
 * BROADCAST_PARTS parts of equal numbers of alive members, and sends it to the first of each part
 * with the end of that part; each of these does the same with its own part. So N members are told
 * by N - 1 datagrams in log8 N steps, and there is no tree to keep: each node computes its cuts
 * from its own list. Where two lists differ, somebody gets it twice or not at all; the digests in
 * pings find the hole.
 *
 * A delegate that sends no receipt in time gets it again, ATTEMPTS_MAX times in all, each time
 * after half as long again. From the second time on the members behind it no longer wait for it:
 * the next of them gets the part, and the silent one is asked for itself alone. With 5% of
 * datagrams lost, three lost in a row befall one node of ten thousand, and cost it 0.3 s.
 * (Delegates are not chosen by zone: ids are hashes, so eight delegates stand in different
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
#define ATTEMPTS_MAX 5u
/* From this attempt on, another delegate has the rest of the part. */
#define ATTEMPTS_ALONE 2u
/* Delegates of a part one after the other; in a part where so many are silent, most are lost. */
#define DELEGATES_MAX 4u
#define CARRIES_AT_FIRST 16u
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
        .origin = carry->news->origin,
        .origin_number = carry->news->origin_number,
        .payload_kind = carry->news->kind,
        .payload = carry->news->payload,
    };
    cluster_send_to(cluster, to, &broadcast);
}

static struct news *news_new(const struct news *said)
{
    struct news *news = mem_alloc(sizeof *news + said->payload.size);
    *news = *said;
    if (said->payload.size > 0) {
        memcpy(news + 1, said->payload.data, said->payload.size);
    }
    news->payload.data = (const uint8_t *)(news + 1);
    news->references = 1;
    return news;
}

static void news_give(struct news *news)
{
    if (--news->references == 0) {
        free(news);
    }
}

static void end(struct cluster *cluster, struct carry *carry)
{
    news_give(carry->news);
    *carry = cluster->carries[--cluster->carries_count];
}

/* Sends a part to `delegate`, and again until it sends a receipt. May move the carries. */
static void hand_over(struct cluster *cluster, struct news *news, const struct entry *delegate,
                      const struct node_id *range_end, unsigned delegates)
{
    const struct carry carry = {
        .number = cluster_number(cluster),
        .delegate = delegate->record->id,
        .range_end = *range_end,
        .news = news,
        .delegates = (uint8_t)delegates,
        .wait_us = cluster->receipt_us,
        .deadline_us = cluster->now_us + cluster->receipt_us,
    };
    send_part(cluster, &carry, delegate);
    if (cluster->carries_count == CARRIES_MAX) {
        cluster->counters.broadcast_parts_unwatched++;
        return;
    }
    if (cluster->carries_count == cluster->carries_capacity) {
        const unsigned doubled = 2 * cluster->carries_capacity;
        cluster->carries_capacity = doubled > 0 ? doubled : CARRIES_AT_FIRST;
        cluster->carries =
            mem_resize_array(cluster->carries, cluster->carries_capacity, sizeof *cluster->carries);
    }
    news->references++;
    cluster->carries[cluster->carries_count++] = carry;
    if (carry.deadline_us < cluster->carries_us || cluster->carries_count == 1) {
        cluster->carries_us = carry.deadline_us;
    }
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

static void distribute(struct cluster *cluster, const struct node_id *range_end,
                       const struct news *said)
{
    size_t first_rank;
    const size_t members = members_behind(cluster, range_end, &first_rank);
    const size_t parts = members < BROADCAST_PARTS ? members : BROADCAST_PARTS;
    if (parts == 0) {
        return;
    }
    const size_t count = cluster->view.alive_count;
    struct news *news = news_new(said);
    for (size_t part = 0; part < parts; part++) {
        const size_t begin = first_rank + part * members / parts;
        const size_t end = first_rank + (part + 1) * members / parts;
        const bool is_last = part + 1 == parts;
        const struct node_id part_end =
            is_last ? *range_end : view_at_rank(&cluster->view, end % count)->record->id;
        hand_over(cluster, news, view_at_rank(&cluster->view, begin % count), &part_end, 0);
    }
    news_give(news);
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

/* We know something later than `update`, and so does whoever was told of that. */
static bool is_superseded(const struct cluster *cluster, const struct member_update *update)
{
    const struct entry *entry = view_find(&cluster->view, &update->record.id);
    if (!entry) {
        return false;
    }
    const struct member_version known = entry_version(entry);
    return member_version_compare(&known, &update->record.version) > 0;
}

/* Takes what is news of members, if it is well formed. True: it is worth passing on. */
static bool take_updates(struct cluster *cluster, struct bytes payload)
{
    struct member_update updates[DATAGRAM_UPDATES_MAX];
    size_t count = 0;
    if (datagram_parse_updates(payload, updates, &count)) {
        cluster->counters.datagrams_refused++;
        return false;
    }
    bool is_current = count == 0;
    for (size_t i = 0; i < count; i++) {
        (void)merge_update(cluster, &updates[i], FROM_BROADCAST);
        is_current |= !is_superseded(cluster, &updates[i]);
    }
    return is_current;
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
    bool is_current = true;
    if (is_of_members) {
        is_current = take_updates(cluster, broadcast->payload);
    } else if (cluster->host.broadcast) {
        cluster->host.broadcast(cluster->host.context, &broadcast->sender, broadcast->payload_kind,
                                broadcast->payload);
    }
    /* What waited for us while we were held up was passed on by others long ago. */
    if (!is_current || cluster->is_leaving || (is_of_members && is_storm(cluster)) ||
        cluster_was_held_up(cluster)) {
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

/* From whichever delegate of the part that was asked: the number is of this part alone. */
void broadcast_received_receipt(struct cluster *cluster, const struct datagram *receipt)
{
    for (unsigned i = 0; i < cluster->carries_count; i++) {
        struct carry *carry = &cluster->carries[i];
        if (carry->number == receipt->number && node_id_equal(&carry->delegate, &receipt->sender)) {
            end(cluster, carry);
            return;
        }
    }
}

/* The first alive member behind the delegate of the part, or NULL: it is alone there. */
static const struct entry *second_of_part(const struct cluster *cluster, const struct carry *carry)
{
    const struct view *view = &cluster->view;
    const struct entry *first = view_find(view, &carry->delegate);
    if (view->alive_count == 0) {
        return NULL;
    }
    const size_t rank =
        view_rank(view, &carry->delegate) + (first && entry_is_alive(first) ? 1 : 0);
    const struct entry *second = view_at_rank(view, rank % view->alive_count);
    const struct node_id *id = &second->record->id;
    /* As far behind the delegate as the end of the part is, or nearer. On a ring, compare the
     * distances from the delegate. */
    const bool wraps = node_id_compare(&carry->range_end, &carry->delegate) <= 0;
    const bool is_behind = node_id_compare(id, &carry->delegate) > 0;
    const bool is_before_end = node_id_compare(id, &carry->range_end) < 0;
    const bool is_in = wraps ? is_behind || is_before_end : is_behind && is_before_end;
    return is_in && !node_id_equal(id, &cluster->id) && !node_id_equal(id, &carry->delegate)
               ? second
               : NULL;
}

/* What stands behind the delegate of carry `index` no longer waits for it. */
static void split(struct cluster *cluster, unsigned index)
{
    struct carry *carry = &cluster->carries[index];
    const struct entry *second = second_of_part(cluster, carry);
    if (!second || carry->delegates + 1u >= DELEGATES_MAX) {
        return;
    }
    const struct node_id part_end = carry->range_end;
    carry->range_end = second->record->id;
    hand_over(cluster, carry->news, second, &part_end, carry->delegates + 1u);
}

/* Sends the part of carry `index` again, or gives it up. */
static void retry(struct cluster *cluster, unsigned index)
{
    struct carry *carry = &cluster->carries[index];
    const struct entry *delegate = view_find(&cluster->view, &carry->delegate);
    const bool is_alive = delegate && entry_is_alive(delegate);
    carry->attempt++;
    if (carry->attempt == ATTEMPTS_ALONE || (!is_alive && carry->attempt < ATTEMPTS_ALONE)) {
        split(cluster, index);
        carry = &cluster->carries[index];
    }
    if (carry->attempt >= ATTEMPTS_MAX || !is_alive) {
        cluster->counters.broadcast_parts_lost += is_alive;
        end(cluster, carry);
        return;
    }
    cluster->counters.broadcast_parts_resent++;
    carry->wait_us += carry->wait_us / 2;
    carry->deadline_us = cluster->now_us + carry->wait_us;
    send_part(cluster, carry, delegate);
}

static void retry_all(struct cluster *cluster)
{
    /* Ending one moves the last into its place; what is added stands behind. */
    for (unsigned i = cluster->carries_count; i-- > 0;) {
        if (cluster->now_us >= cluster->carries[i].deadline_us) {
            retry(cluster, i);
        }
    }
    cluster->carries_us = NEVER;
    for (unsigned i = 0; i < cluster->carries_count; i++) {
        if (cluster->carries[i].deadline_us < cluster->carries_us) {
            cluster->carries_us = cluster->carries[i].deadline_us;
        }
    }
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
    if (cluster->carries_count > 0 && cluster->now_us >= cluster->carries_us) {
        retry_all(cluster);
    }
    broadcast_flush(cluster);
}

uint64_t broadcast_next_us(const struct cluster *cluster)
{
    const uint64_t flush_us = cluster->announced_count > 0 ? cluster->announce_us : NEVER;
    const uint64_t retry_us = cluster->carries_count > 0 ? cluster->carries_us : NEVER;
    return flush_us < retry_us ? flush_us : retry_us;
}

void broadcast_done(struct cluster *cluster)
{
    while (cluster->carries_count > 0) {
        end(cluster, &cluster->carries[0]);
    }
    free(cluster->carries);
    cluster->carries = NULL;
}
