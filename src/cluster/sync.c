/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Making lists equal. Every ping and every answer tells the sum of its sender's list. When sums
 * differ for longer than a broadcast takes, lists are exchanged by the three messages of
 * wire/member_sync.h.
 *
 * After joining, and in a storm of changes, a node does not wait for pings: it is *eager*, and
 * exchanges lists with one random member after the other, until some exchanges in a row found
 * nothing. What one knows of N doubles with each round, so all know all after log2 N of them.
 */

#include "cluster/cluster_priv.h"

/* A difference that lasts so long is no broadcast on its way. */
#define DIFFERS_US SECOND
/* One that was not seen again for so long was such a broadcast: a random member tells its digest
 * each second. */
#define DIFFERS_FORGET_US (5 * SECOND)
#define ANSWER_US (2 * SECOND)
/* Rounds of an eager node follow each other by 50 us for each member: that is what exchanging two
 * such lists costs on a slow link. */
#define ROUND_US_MIN (200 * MS)
#define ROUND_US_MAX (1000 * MS)
#define ROUND_US_PER_MEMBER 50u
/* Exchanges in a row that found nothing. */
#define CALM_ROUNDS 3u
/* Lists given out in a second; who gets none asks somebody else. */
#define SERVED_MAX 20u
/* Memory for messages that is kept from one to the next: an OPEN fits. Lists are large and rare. */
#define FETCHED_AHEAD 4u
#define KEPT_BYTES_MAX ((size_t)8 * 1024)

static uint64_t round_us(struct cluster *cluster)
{
    uint64_t pause_us = (uint64_t)cluster->view.count * ROUND_US_PER_MEMBER;
    pause_us = pause_us < ROUND_US_MIN ? ROUND_US_MIN : pause_us;
    pause_us = pause_us > ROUND_US_MAX ? ROUND_US_MAX : pause_us;
    /* Not all at once. */
    return pause_us / 2 + random_below(&cluster->random, pause_us);
}

void sync_eagerly(struct cluster *cluster)
{
    cluster->calm_count = 0;
    if (!cluster->is_eager) {
        cluster->is_eager = true;
        cluster->sync_us = cluster->now_us + random_below(&cluster->random, ROUND_US_MIN);
    }
}

static void send(struct cluster *cluster, const struct entry *to)
{
    cluster->counters.messages_sent++;
    cluster->counters.message_bytes_sent += cluster->message.size;
    cluster->host.send_message(cluster->host.context, &to->record->id, &to->record->address,
                               buf_bytes(&cluster->message));
    if (cluster->message.capacity > KEPT_BYTES_MAX) {
        buf_done(&cluster->message);
    }
}

void sync_with(struct cluster *cluster, struct entry *member)
{
    if (cluster->is_leaving) {
        return;
    }
    struct member_sync open = {.type = MEMBER_SYNC_OPEN};
    for (size_t i = 0; i < MEMBER_BUCKETS; i++) {
        open.digests[i] = cluster->view.buckets[i].digest;
    }
    cluster->sync_is_open = true;
    cluster->sync_peer = member->record->id;
    cluster->sync_deadline_us = cluster->now_us + ANSWER_US;
    cluster->counters.syncs_begun++;
    buf_clear(&cluster->message);
    member_sync_format(&open, &cluster->message);
    send(cluster, member);
}

void sync_saw_digest(struct cluster *cluster, struct entry *member, uint64_t digest)
{
    /* That others have the same list proves nothing: those next to us on the ring, whom we hear
     * most, lack the same when their part of a broadcast was lost. */
    if (digest == cluster->view.digest || cluster->is_eager || !entry_is_alive(member)) {
        return;
    }
    if (cluster->now_us - cluster->differs_last_us > DIFFERS_FORGET_US) {
        cluster->differs_since_us = cluster->now_us;
    }
    cluster->differs_last_us = cluster->now_us;
    if (cluster->now_us - cluster->differs_since_us >= DIFFERS_US && !cluster->sync_is_open &&
        cluster->now_us >= cluster->sync_us) {
        cluster->sync_us = cluster->now_us + round_us(cluster);
        cluster->differs_since_us = cluster->now_us;
        sync_with(cluster, member);
    }
}

void sync_due(struct cluster *cluster)
{
    if (cluster->sync_is_open && cluster->now_us >= cluster->sync_deadline_us) {
        cluster->sync_is_open = false;
    }
    if (!cluster->is_eager || cluster->now_us < cluster->sync_us) {
        return;
    }
    cluster->sync_us = cluster->now_us + round_us(cluster);
    struct entry *member = cluster_random_member(cluster);
    if (!member) {
        cluster->is_eager = false;
        return;
    }
    if (member->proof_us == 0) {
        /* It may not know us: then it would not answer. */
        cluster->wants_sync_after_join = true;
        cluster->sync_after_join = member->record->id;
        join_ask(cluster, &member->record->address);
    } else {
        sync_with(cluster, member);
    }
}

uint64_t sync_next_us(const struct cluster *cluster)
{
    const uint64_t round = cluster->is_eager ? cluster->sync_us : NEVER;
    const uint64_t answer = cluster->sync_is_open ? cluster->sync_deadline_us : NEVER;
    return round < answer ? round : answer;
}

static void add_entry(struct cluster *cluster, const struct entry *entry)
{
    const struct member_update update = cluster_update_of(cluster, entry);
    field_put_member_update(&cluster->message, &update);
}

/* Records lie anywhere in memory: waiting for it is most of what walking along a list costs. */
static void fetch_ahead(const struct bucket *bucket, size_t index)
{
    if (index + FETCHED_AHEAD < bucket->count) {
        const char *record = (const char *)bucket->entries[index + FETCHED_AHEAD].record;
        __builtin_prefetch(record);
        __builtin_prefetch(record + 64);
    }
}

static bool take_token(struct cluster *cluster)
{
    if (cluster->now_us - cluster->serve_us >= SECOND) {
        cluster->serve_us = cluster->now_us;
        cluster->serve_tokens = SERVED_MAX;
    }
    if (cluster->serve_tokens == 0) {
        return false;
    }
    cluster->serve_tokens--;
    return true;
}

static void answer_open(struct cluster *cluster, const struct entry *sender,
                        const struct member_sync *open)
{
    if (!take_token(cluster)) {
        return;
    }
    struct member_sync answer = {.type = MEMBER_SYNC_ANSWER};
    const struct view *view = &cluster->view;
    /* Which buckets are told stands at the front; so first count what goes in. */
    size_t room = MEMBER_SYNC_BYTES_MAX - MEMBER_UPDATE_BYTES_MAX;
    const size_t first = random_below(&cluster->random, MEMBER_BUCKETS);
    for (size_t i = 0; i < MEMBER_BUCKETS; i++) {
        const size_t index = (first + i) % MEMBER_BUCKETS;
        const size_t needed = view->buckets[index].count * (size_t)MEMBER_UPDATE_BYTES_MAX;
        if (view->buckets[index].digest != open->digests[index] && needed <= room) {
            /* Records are a third of the largest as a rule. */
            room -= needed / 3;
            answer.buckets[index / 8] |= (uint8_t)(1u << index % 8);
        }
    }
    buf_clear(&cluster->message);
    member_sync_format(&answer, &cluster->message);
    const size_t head = cluster->message.size;
    for (size_t i = 0; i < MEMBER_BUCKETS; i++) {
        const struct bucket *bucket = &view->buckets[i];
        if (!(answer.buckets[i / 8] >> i % 8 & 1)) {
            continue;
        }
        if (cluster->message.size + bucket->count * (size_t)MEMBER_UPDATE_BYTES_MAX >
            MEMBER_SYNC_BYTES_MAX) {
            answer.buckets[i / 8] &= (uint8_t) ~(1u << i % 8);
            continue;
        }
        for (size_t j = 0; j < bucket->count; j++) {
            fetch_ahead(bucket, j);
            add_entry(cluster, &bucket->entries[j]);
        }
    }
    CLEANUP_BUF struct buf front = BUF_INIT;
    member_sync_format(&answer, &front);
    CHECK(front.size == head);
    memcpy(cluster->message.data, front.data, head);
    send(cluster, sender);
}

/* Adds what the answer lacks of one bucket, between two ids that it has. */
struct closing {
    struct cluster *cluster;
    size_t bucket; /* MEMBER_BUCKETS: none yet */
    size_t index;
};

/* All that stands before `theirs`, and what is better; NULL: all that is left of the bucket. True:
 * we know a version of it that is equal or better. */
static bool add_known_better(struct closing *closing, const struct member_record *theirs)
{
    struct cluster *cluster = closing->cluster;
    const struct bucket *bucket = &cluster->view.buckets[closing->bucket];
    while (closing->index < bucket->count &&
           cluster->message.size + MEMBER_UPDATE_BYTES_MAX <= MEMBER_SYNC_BYTES_MAX) {
        const struct entry *entry = &bucket->entries[closing->index];
        const int order = theirs ? node_id_compare(&entry->record->id, &theirs->id) : -1;
        if (order > 0) {
            return false;
        }
        fetch_ahead(bucket, closing->index);
        closing->index++;
        if (order < 0) {
            add_entry(cluster, entry);
            continue;
        }
        const struct member_version own = entry_version(entry);
        const int better = member_version_compare(&own, &theirs->version);
        if (better > 0) {
            add_entry(cluster, entry);
        }
        return better >= 0;
    }
    return false;
}

/* Answers an update of theirs, and takes it if it is news. True if our list changed. */
static bool exchange(struct closing *closing, const struct member_update *theirs)
{
    if (add_known_better(closing, &theirs->record)) {
        return false;
    }
    const struct bucket *bucket = &closing->cluster->view.buckets[closing->bucket];
    const uint32_t count = bucket->count;
    const bool has_changed = merge_update(closing->cluster, theirs, FROM_LIST);
    closing->index += bucket->count - count; /* it stands before what we have not come to */
    return has_changed;
}

static void close_bucket(struct closing *closing, uint8_t *told)
{
    if (closing->bucket < MEMBER_BUCKETS) {
        (void)add_known_better(closing, NULL);
        told[closing->bucket / 8] &= (uint8_t) ~(1u << closing->bucket % 8);
    }
}

/* Takes what is news in the answer, and writes what we know better in the buckets that it tells of.
 * Its updates stand in the order of ids; one that does not makes us send more than is needed, no
 * worse. In one pass: where lists are nearly equal, little is done for each member but to read it.
 * True if our list changed. */
static bool merge_and_format_close(struct cluster *cluster, const struct member_sync *answer)
{
    const struct member_sync close = {.type = MEMBER_SYNC_CLOSE};
    buf_clear(&cluster->message);
    member_sync_format(&close, &cluster->message);
    uint8_t told[MEMBER_BUCKETS / 8];
    memcpy(told, answer->buckets, sizeof told);
    struct closing closing = {.cluster = cluster, .bucket = MEMBER_BUCKETS};
    struct field_reader reader = field_reader_of(answer->updates);
    struct member_update update;
    bool has_changed = false;
    while (field_get_member_update(&reader, &update)) {
        const size_t bucket = view_bucket_of(&update.record.id);
        if (bucket != closing.bucket) {
            close_bucket(&closing, told);
            closing = (struct closing){.cluster = cluster, .bucket = bucket};
        }
        has_changed |= exchange(&closing, &update);
    }
    close_bucket(&closing, told);
    for (size_t i = 0; i < MEMBER_BUCKETS; i++) {
        if (told[i / 8] >> i % 8 & 1) {
            closing = (struct closing){.cluster = cluster, .bucket = i};
            (void)add_known_better(&closing, NULL);
        }
    }
    return has_changed;
}

static bool merge_all(struct cluster *cluster, struct bytes updates)
{
    struct field_reader reader = field_reader_of(updates);
    struct member_update update;
    bool has_changed = false;
    while (field_get_member_update(&reader, &update)) {
        has_changed |= merge_update(cluster, &update, FROM_LIST);
    }
    return has_changed;
}

static void received_answer(struct cluster *cluster, const struct entry *sender,
                            const struct member_sync *answer)
{
    if (!cluster->sync_is_open || !node_id_equal(&cluster->sync_peer, &sender->record->id)) {
        cluster->counters.messages_refused++;
        return;
    }
    cluster->sync_is_open = false;
    const struct member_sync empty = {.type = MEMBER_SYNC_CLOSE};
    CLEANUP_BUF struct buf nothing = BUF_INIT;
    member_sync_format(&empty, &nothing);
    /* Copied: taking what is news may move the sender's entry. */
    const struct node_id to = sender->record->id;
    const bool has_learnt = merge_and_format_close(cluster, answer);
    if (cluster->message.size > nothing.size) {
        send(cluster, view_find(&cluster->view, &to));
    }
    /* That the other lacked something does not count: it may refuse it. */
    cluster->calm_count = has_learnt ? 0 : cluster->calm_count + 1;
    if (has_learnt) {
        sync_eagerly(cluster); /* what was news to us is so to others, too */
    } else if (cluster->calm_count >= CALM_ROUNDS) {
        cluster->is_eager = false;
    }
}

void sync_received(struct cluster *cluster, struct entry *sender, const struct member_sync *sync)
{
    switch (sync->type) {
    case MEMBER_SYNC_OPEN:
        answer_open(cluster, sender, sync);
        break;
    case MEMBER_SYNC_ANSWER:
        received_answer(cluster, sender, sync);
        break;
    case MEMBER_SYNC_CLOSE:
    default:
        if (merge_all(cluster, sync->updates)) {
            sync_eagerly(cluster);
        }
        break;
    }
}
