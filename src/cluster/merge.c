/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What happens when somebody says something of a member. The higher version wins
 * (wire/member.h); what is lower or equal changes nothing, so whatever is said twice, late, or
 * in another order ends in the same list.
 *
 * Three things are not taken on hearsay: an incarnation that jumps far ahead (only its member
 * knows; it is asked); another life of a member that is alive elsewhere (conflict.c asks both); and
 * what somebody's list has had as unreachable for long while ours has it alive. That is what two
 * sides of a healed partition say of each other's members. Were it taken, all of them would be
 * unreachable for all until each has refuted it; so the member is told, to refute it, and probed,
 * in case that it is true.
 *
 * What others say of this node itself is never taken. If it is higher than what we say, we say
 * something higher still.
 */

#include "cluster/cluster_priv.h"

/* A member raises its incarnation when it starts and when it refutes, at most once a second; nobody
 * misses a million of these. */
#define INCARNATION_JUMP_MAX ((uint64_t)1 << 20)
/* Nor one from which on no number is left to refute with. */
#define INCARNATION_MAX ((uint64_t)1 << 62)
/* A second refutation waits a second, the next two, and so on: a member that others can hardly hear
 * shall not make the whole network talk of it. */
#define REFUTE_PAUSE_US SECOND
#define REFUTE_PAUSE_US_MAX (8 * SECOND)
#define REFUTE_CALM_US (60 * SECOND)
/* What is unreachable for longer than this has been told to all whom a broadcast reaches. */
#define CLAIM_FRESH_S 10u
/* Each is answered by a refutation that all are told of; the rest can wait for the next packet. */
#define WARNINGS_PER_SECOND 64u
/* Who answered us so lately is told at once what others say of it. */
#define PROOF_FRESH_US (2 * SECOND)

static void tell_change(struct cluster *cluster, struct entry *entry, enum member_status before,
                        bool is_new_life)
{
    cluster->change_count++;
    if (before != (enum member_status)entry->status) {
        ring_changed(cluster, entry);
        static const enum cluster_event_kind kinds[] = {
            [MEMBER_ALIVE] = CLUSTER_ALIVE,
            [MEMBER_UNREACHABLE] = CLUSTER_UNREACHABLE,
            [MEMBER_LEFT] = CLUSTER_LEFT,
        };
        cluster_tell(cluster, kinds[entry->status], entry);
    } else if (is_new_life && entry_is_alive(entry)) {
        cluster_tell(cluster, CLUSTER_UPDATED, entry);
    }
}

/* Since when it has its status, so that all forget it at about the same time. */
static uint64_t since(const struct cluster *cluster, const struct member_update *update)
{
    if (update->record.version.status == MEMBER_ALIVE) {
        return cluster->now_us;
    }
    const uint64_t age_us = update->age_s * SECOND;
    return age_us < cluster->now_us ? cluster->now_us - age_us : 0;
}

static bool add(struct cluster *cluster, const struct member_update *update)
{
    const struct member_record *member = &update->record;
    if (!update->is_record || ring_was_forgotten(cluster, &member->id, &member->version)) {
        return false;
    }
    if (cluster->view.count >= MEMBERS_MAX) {
        cluster->counters.updates_refused++;
        return false;
    }
    struct entry *entry =
        view_add(&cluster->view, pool_take(cluster->view.pool, member), member->version.status);
    entry->since_us = since(cluster, update);
    cluster->change_count++;
    if (entry_is_alive(entry)) {
        cluster_tell(cluster, CLUSTER_JOINED, entry);
    } else {
        ring_added_lost(entry, update->age_s);
        ring_changed(cluster, entry);
    }
    broadcast_count_change(cluster);
    return true;
}

static void replace(struct cluster *cluster, struct entry *entry,
                    const struct member_update *update)
{
    const struct member_record *member = &update->record;
    const enum member_status before = (enum member_status)entry->status;
    const bool is_new_life = member->version.boot_nonce != entry->record->boot_nonce;
    const bool has_moved =
        update->is_record && !address_equal(&member->address, &entry->record->address);
    const bool is_same_record = member->version.boot_nonce == entry->record->boot_nonce &&
                                member->version.incarnation == entry->record->incarnation;
    struct record *record =
        is_same_record ? record_share(entry->record) : pool_take(cluster->view.pool, member);
    view_replace(&cluster->view, entry, record, member->version.status);
    entry->is_restored = false;
    /* Lost again counts anew: it was alive in between, though we did not hear of it. */
    if (before != member->version.status || is_new_life || !entry_is_alive(entry)) {
        entry->since_us = since(cluster, update);
    }
    broadcast_count_change(cluster);
    tell_change(cluster, entry, before, is_new_life || has_moved);
    if (entry->status == MEMBER_UNREACHABLE && entry->proof_us != 0 &&
        cluster->now_us - entry->proof_us < PROOF_FRESH_US) {
        merge_warn(cluster, entry, &entry->record->address, entry->record->boot_nonce);
    }
}

void merge_warn(struct cluster *cluster, const struct entry *entry, const struct address *to,
                uint64_t receiver_nonce)
{
    if (cluster->now_us - cluster->warnings_us >= SECOND) {
        cluster->warnings_us = cluster->now_us;
        cluster->warnings_left = WARNINGS_PER_SECOND;
    }
    if (cluster->warnings_left == 0) {
        return;
    }
    cluster->warnings_left--;
    struct datagram accusation = {
        .type = DATAGRAM_ACCUSE,
        .number = cluster_number(cluster),
        .subject_version = entry_version(entry),
    };
    if (entry_is_alive(entry)) {
        accusation.subject_version.status = MEMBER_UNREACHABLE; /* as others say */
    }
    cluster_send(cluster, to, receiver_nonce, &accusation);
}

static bool merge_self(struct cluster *cluster, const struct member_update *update)
{
    const struct entry *self = cluster_self(cluster);
    const struct member_version own = entry_version(self);
    const struct member_version *said = &update->record.version;
    if (member_version_compare(said, &own) <= 0 || cluster->is_leaving) {
        return false;
    }
    if (said->boot_nonce != cluster->boot_nonce && update->is_record &&
        !address_equal(&update->record.address, &self->record->address)) {
        conflict_check_self(cluster, &update->record.address);
    }
    merge_refute(cluster, said->incarnation);
    return false;
}

bool merge_update(struct cluster *cluster, const struct member_update *update, enum source source)
{
    const struct member_record *member = &update->record;
    if (member->version.incarnation >= INCARNATION_MAX) {
        cluster->counters.updates_refused++;
        return false;
    }
    if (node_id_equal(&member->id, &cluster->id)) {
        return merge_self(cluster, update);
    }
    struct entry *entry = view_find(&cluster->view, &member->id);
    if (!entry) {
        return add(cluster, update);
    }
    const struct member_version known = entry_version(entry);
    if (member_version_compare(&member->version, &known) <= 0) {
        return false;
    }
    const bool is_same_life = member->version.boot_nonce == known.boot_nonce;
    if (!update->is_record && (!is_same_life || member->version.incarnation != known.incarnation)) {
        return false; /* of a record that we don't have; digests will bring it */
    }
    if (source != FROM_ITSELF &&
        member->version.incarnation - known.incarnation > INCARNATION_JUMP_MAX) {
        cluster->counters.updates_refused++;
        join_greet(cluster, &entry->record->address);
        return false;
    }
    /* Another life may be a copy; and who jumps far ahead may not be the one it says it is. */
    const bool is_doubtful = !address_equal(&member->address, &entry->record->address) ||
                             member->version.incarnation - known.incarnation > INCARNATION_JUMP_MAX;
    if (source == FROM_ITSELF && !is_same_life && entry_is_alive(entry) && is_doubtful) {
        conflict_check(cluster, entry, member);
        return false;
    }
    /* Of the very version that we have; who knows a later one than we knows better. */
    if (source == FROM_LIST && member->version.status == MEMBER_UNREACHABLE && is_same_life &&
        member->version.incarnation == known.incarnation && update->age_s > CLAIM_FRESH_S &&
        entry_is_alive(entry) && !entry->is_restored) {
        probe_claim(cluster, entry);
        return false;
    }
    replace(cluster, entry, update);
    return true;
}

void merge_accusation(struct cluster *cluster, struct entry *entry)
{
    const enum member_status before = (enum member_status)entry->status;
    view_replace(&cluster->view, entry, record_share(entry->record), MEMBER_UNREACHABLE);
    entry->since_us = cluster->now_us;
    cluster->counters.accusations++;
    broadcast_count_change(cluster);
    broadcast_member(cluster, entry);
    merge_warn(cluster, entry, &entry->record->address, entry->record->boot_nonce);
    tell_change(cluster, entry, before, false);
}

static void refute_now(struct cluster *cluster, uint64_t above)
{
    struct entry *self = cluster_self(cluster);
    struct member_record record = record_value(self->record, MEMBER_ALIVE);
    if (above < record.version.incarnation) {
        return;
    }
    record.version.incarnation = above + 1;
    /* Its strings are borrowed from the record that is replaced. */
    struct record *raised = pool_take(cluster->view.pool, &record);
    view_replace(&cluster->view, self, raised, MEMBER_ALIVE);
    cluster->counters.refutations++;
    cluster->change_count++;
    cluster->refuted_us = cluster->now_us;
    cluster_tell(cluster, CLUSTER_INCARNATION, self);
    broadcast_member(cluster, self);
}

void merge_refute(struct cluster *cluster, uint64_t incarnation)
{
    if (cluster->is_leaving || incarnation < cluster_self(cluster)->record->incarnation) {
        return;
    }
    if (incarnation >= INCARNATION_MAX) {
        cluster->counters.updates_refused++;
        return;
    }
    if (cluster->refuted_us == 0 || cluster->now_us - cluster->refuted_us >= REFUTE_CALM_US) {
        cluster->refute_pause_us = 0;
    }
    if (cluster->now_us >= cluster->refuted_us + cluster->refute_pause_us) {
        const uint64_t doubled = 2 * cluster->refute_pause_us;
        cluster->refute_pause_us = doubled < REFUTE_PAUSE_US       ? REFUTE_PAUSE_US
                                   : doubled > REFUTE_PAUSE_US_MAX ? REFUTE_PAUSE_US_MAX
                                                                   : doubled;
        refute_now(cluster, incarnation);
        return;
    }
    if (cluster->refute_due_us == NEVER || incarnation > cluster->refute_above) {
        cluster->refute_above = incarnation;
    }
    cluster->refute_due_us = cluster->refuted_us + cluster->refute_pause_us;
}

void merge_due(struct cluster *cluster)
{
    if (cluster->now_us < cluster->refute_due_us) {
        return;
    }
    cluster->refute_due_us = NEVER;
    merge_refute(cluster, cluster->refute_above);
}
