/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Joining, and growing together. A JOIN says who its sender is; whoever gets it takes the sender
 * into its list, tells everybody, and answers with a WELCOME: who it is itself, what it knew of the
 * newcomer (a node that lost its disk learns its incarnation from that), and some other members.
 * The newcomer then exchanges lists with random ones of these (sync.c), so that a seed through
 * which ten thousand join at once has little to do.
 *
 * A node that is alone asks its seeds and its old roster again and again. One that is not asks one
 * member that is not alive and one seed every CLUSTER_HEAL_MS: so networks that were cut apart find
 * each other again.
 */

#include <assert.h>

#include "cluster/cluster_priv.h"

#define JOIN_PAUSE_US_MIN (500 * MS)
#define JOIN_PAUSE_US_MAX (5 * SECOND)
/* Asked at once while alone: so many seeds and so many of the roster. */
#define JOIN_SEEDS 3u
#define JOIN_ROSTER 3u
#define GREETINGS_PER_SECOND 10u
/* A welcome has ten times the size of a join, and anybody can send one in the name of an address:
 * strangers are answered so often at most, 6 Mbit/s. Who gets no answer asks again, and of ten
 * thousand that come at once the others hear from those that were answered. */
#define WELCOMES_PER_SECOND 512u

static_assert(2 * MEMBER_UPDATE_BYTES_MAX <= DATAGRAM_PAYLOAD_BYTES_MAX,
              "who welcomes and who is welcomed fit");

void join_start(struct cluster *cluster)
{
    cluster->join_us = cluster->now_us;
    cluster->join_pause_us = JOIN_PAUSE_US_MIN;
    cluster->heal_us = cluster->now_us + random_below(&cluster->random, CLUSTER_HEAL_MS * MS);
}

void cluster_set_seeds(struct cluster *cluster, const struct address *seeds, size_t seeds_count)
{
    cluster->seeds_count = seeds_count < CLUSTER_SEEDS_MAX ? seeds_count : CLUSTER_SEEDS_MAX;
    if (cluster->seeds_count > 0) {
        memcpy(cluster->seeds, seeds, cluster->seeds_count * sizeof *seeds);
    }
    cluster->seed_next = 0;
    cluster->join_us = cluster->now_us;
}

void join_ask(struct cluster *cluster, const struct address *to)
{
    struct entry *self = cluster_self(cluster);
    struct datagram join = {
        .type = DATAGRAM_JOIN,
        .number = cluster_number(cluster),
        .updates = {cluster_update_of(cluster, self)},
        .updates_count = 1,
    };
    cluster->join_numbers[cluster->join_next++ % ARRAY_SIZE(cluster->join_numbers)] = join.number;
    cluster_send(cluster, to, 0, &join);
}

void join_greet(struct cluster *cluster, const struct address *to)
{
    if (cluster->now_us - cluster->greet_us >= SECOND) {
        cluster->greet_us = cluster->now_us;
        cluster->greet_tokens = GREETINGS_PER_SECOND;
    }
    if (cluster->greet_tokens > 0 && !cluster->is_leaving) {
        cluster->greet_tokens--;
        join_ask(cluster, to);
    }
}

/* Some member that is not alive and did not say good-bye, or NULL: of a random bucket, or of the
 * first behind it that has one. */
static const struct entry *random_silent(struct cluster *cluster)
{
    const struct view *view = &cluster->view;
    if (view->alive_count == view->count) {
        return NULL;
    }
    const size_t first = random_below(&cluster->random, MEMBER_BUCKETS);
    for (size_t i = 0; i < MEMBER_BUCKETS; i++) {
        const size_t index = (first + i) % MEMBER_BUCKETS;
        const struct bucket *bucket = &view->buckets[index];
        if (bucket->count == view->alive_counts[index]) {
            continue;
        }
        const size_t start = random_below(&cluster->random, bucket->count);
        for (size_t j = 0; j < bucket->count; j++) {
            const struct entry *entry = &bucket->entries[(start + j) % bucket->count];
            if (entry->status == MEMBER_UNREACHABLE) {
                return entry;
            }
        }
    }
    return NULL;
}

static bool is_known_alive(const struct cluster *cluster, const struct address *address)
{
    const struct view *view = &cluster->view;
    for (size_t i = 0; i < MEMBER_BUCKETS; i++) {
        const struct bucket *bucket = &view->buckets[i];
        for (size_t j = 0; j < bucket->count; j++) {
            if (entry_is_alive(&bucket->entries[j]) &&
                address_equal(&bucket->entries[j].record->address, address)) {
                return true;
            }
        }
    }
    return false;
}

static const struct address *next_seed(struct cluster *cluster)
{
    return cluster->seeds_count == 0 ? NULL
                                     : &cluster->seeds[cluster->seed_next++ % cluster->seeds_count];
}

static void ask_while_alone(struct cluster *cluster)
{
    for (unsigned i = 0; i < JOIN_SEEDS && i < cluster->seeds_count; i++) {
        join_ask(cluster, next_seed(cluster));
    }
    for (unsigned i = 0; i < JOIN_ROSTER; i++) {
        const struct entry *silent = random_silent(cluster);
        if (silent) {
            join_ask(cluster, &silent->record->address);
        }
    }
    cluster->join_us = cluster->now_us + cluster->join_pause_us / 2 +
                       random_below(&cluster->random, cluster->join_pause_us);
    const uint64_t longer_us = cluster->join_pause_us * 3 / 2;
    cluster->join_pause_us = longer_us < JOIN_PAUSE_US_MAX ? longer_us : JOIN_PAUSE_US_MAX;
}

static void ask_the_lost(struct cluster *cluster)
{
    const struct entry *silent = random_silent(cluster);
    if (silent) {
        join_ask(cluster, &silent->record->address);
    }
    const struct address *seed = next_seed(cluster);
    if (seed && !is_known_alive(cluster, seed)) {
        join_ask(cluster, seed);
    }
    cluster->heal_us = cluster->now_us + CLUSTER_HEAL_MS * MS;
}

void join_due(struct cluster *cluster)
{
    if (cluster->is_leaving) {
        return;
    }
    if (cluster_others(cluster) == 0) {
        if (cluster->now_us >= cluster->join_us) {
            ask_while_alone(cluster);
        }
        cluster->heal_us = cluster->now_us + CLUSTER_HEAL_MS * MS;
    } else {
        cluster->join_pause_us = JOIN_PAUSE_US_MIN;
        cluster->join_us = cluster->now_us;
        if (cluster->now_us >= cluster->heal_us) {
            ask_the_lost(cluster);
        }
    }
}

uint64_t join_next_us(const struct cluster *cluster)
{
    if (cluster->is_leaving) {
        return NEVER;
    }
    return cluster_others(cluster) == 0 ? cluster->join_us : cluster->heal_us;
}

/* The record that somebody sent of itself: we know it now, and know that it is there. */
static struct entry *merge_sender(struct cluster *cluster, const struct datagram *datagram)
{
    if (datagram->updates[0].record.version.status != MEMBER_ALIVE) {
        return NULL; /* whoever speaks is */
    }
    const struct entry *known = view_find(&cluster->view, &datagram->sender);
    const bool is_stranger = !known || known->record->boot_nonce != datagram->sender_nonce;
    const bool is_news = merge_update(cluster, &datagram->updates[0], FROM_ITSELF);
    struct entry *sender = view_find(&cluster->view, &datagram->sender);
    if (!sender || sender->record->boot_nonce != datagram->sender_nonce) {
        return NULL;
    }
    if (is_news && is_stranger) {
        broadcast_member(cluster, sender); /* others would not listen to itself */
    }
    cluster->heard_us = cluster->now_us;
    return sender;
}

/* Behind the two records that it begins with, some others, as many as fit. */
static void add_sample(struct cluster *cluster, struct datagram *welcome,
                       const struct node_id *joiner)
{
    /* The header and a seal have the rest of a datagram. */
    size_t room = DATAGRAM_PAYLOAD_BYTES_MAX;
    for (size_t i = 0; i < welcome->updates_count; i++) {
        room -= member_update_bytes(&welcome->updates[i]);
    }
    const size_t others = cluster_others(cluster);
    const size_t wanted = others < 16 ? others : 16;
    for (size_t i = 0; i < wanted; i++) {
        const struct entry *entry = cluster_random_member(cluster);
        if (!entry || node_id_equal(&entry->record->id, joiner)) {
            continue;
        }
        const struct member_update update = cluster_update_of(cluster, entry);
        const size_t update_bytes = member_update_bytes(&update);
        if (update_bytes > room || welcome->updates_count == DATAGRAM_UPDATES_MAX) {
            return;
        }
        room -= update_bytes;
        welcome->updates[welcome->updates_count++] = update;
    }
}

/* `before`: what was known of the sender of `join`; NULL: nothing. */
static void send_welcome(struct cluster *cluster, const struct address *to,
                         const struct datagram *join, const struct record *before,
                         enum member_status status)
{
    struct datagram welcome = {
        .type = DATAGRAM_WELCOME,
        .number = join->number,
        .updates = {cluster_update_of(cluster, cluster_self(cluster))},
        .updates_count = 1,
    };
    if (before) {
        welcome.updates[welcome.updates_count++] =
            (struct member_update){.is_record = true, .record = record_value(before, status)};
    }
    add_sample(cluster, &welcome, &join->sender);
    cluster_send(cluster, to, join->sender_nonce, &welcome);
}

static bool may_welcome(struct cluster *cluster, const struct address *from,
                        const struct datagram *join, const struct entry *known)
{
    if (known && known->record->boot_nonce == join->sender_nonce &&
        address_equal(&known->record->address, from)) {
        return true;
    }
    if (cluster->now_us - cluster->welcome_us >= SECOND) {
        cluster->welcome_us = cluster->now_us;
        cluster->welcome_tokens = WELCOMES_PER_SECOND;
    }
    if (cluster->welcome_tokens == 0) {
        cluster->counters.welcomes_withheld++;
        return false;
    }
    cluster->welcome_tokens--;
    return true;
}

void join_received_join(struct cluster *cluster, const struct address *from,
                        const struct datagram *join)
{
    if (cluster->is_leaving || node_id_equal(&join->sender, &cluster->id)) {
        if (join->sender_nonce != cluster->boot_nonce && !cluster->is_leaving) {
            conflict_check_self(cluster, from);
        }
        return;
    }
    const struct entry *known = view_find(&cluster->view, &join->sender);
    /* Its strings are borrowed: keep the record until the welcome is sent. */
    struct record *before = known ? record_share(known->record) : NULL;
    const enum member_status status = known ? (enum member_status)known->status : MEMBER_ALIVE;
    const bool is_answered = may_welcome(cluster, from, join, known);
    (void)merge_sender(cluster, join);
    if (is_answered) {
        send_welcome(cluster, from, join, before, status);
    }
    pool_give(cluster->view.pool, before);
}

static bool was_asked(const struct cluster *cluster, uint32_t number)
{
    for (size_t i = 0; i < ARRAY_SIZE(cluster->join_numbers); i++) {
        if (cluster->join_numbers[i] == number && number != 0) {
            return true;
        }
    }
    return false;
}

void join_received_welcome(struct cluster *cluster, const struct address *from,
                           const struct datagram *welcome)
{
    if (cluster->is_leaving || node_id_equal(&welcome->sender, &cluster->id) ||
        !was_asked(cluster, welcome->number) ||
        welcome->receiver_nonce != (uint32_t)cluster->boot_nonce) {
        cluster->counters.datagrams_refused++;
        return;
    }
    const bool was_alone = cluster_others(cluster) == 0;
    const struct entry *known = view_find(&cluster->view, &welcome->sender);
    const bool was_lost = !known || !entry_is_alive(known);
    struct entry *sender = merge_sender(cluster, welcome);
    if (!sender) {
        /* A new life that does not know how far its member has come: its disk is old or lost. */
        known = view_find(&cluster->view, &welcome->sender);
        if (known) {
            merge_warn(cluster, known, from, welcome->sender_nonce);
        }
        return;
    }
    sender->proof_us = cluster->now_us;
    if (!entry_is_alive(sender)) {
        merge_warn(cluster, sender, from,
                   welcome->sender_nonce); /* and it will say that it is alive */
    }
    const uint64_t incarnation = cluster_self(cluster)->record->incarnation;
    for (size_t i = 1; i < welcome->updates_count; i++) {
        (void)merge_update(cluster, &welcome->updates[i], FROM_LIST);
    }
    if (cluster_self(cluster)->record->incarnation != incarnation) {
        join_ask(cluster, from); /* it knew us as lost */
    }
    if (was_alone || was_lost) {
        sync_eagerly(cluster);
    }
    if (was_lost && !cluster->sync_is_open) {
        sync_with(cluster, view_find(&cluster->view, &welcome->sender));
    }
    if (cluster->wants_sync_after_join &&
        node_id_equal(&cluster->sync_after_join, &welcome->sender)) {
        cluster->wants_sync_after_join = false;
        sync_with(cluster, view_find(&cluster->view, &welcome->sender));
    }
}
