/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who stands in the ring, and who is still on the roster. The ring says who keeps what others look
 * up, so each change of it moves data; it therefore follows the list of members slowly. A member
 * that is unreachable leaves the ring after CLUSTER_RING_LEAVE_MS without a break, and comes back
 * when it was alive without a break for CLUSTER_RING_RETURN_MS, twice as long after each further
 * time. So one that comes and goes changes the ring once, and one that restarts not at all. Who
 * says good-bye goes at once, and enters at once when it comes again. A node that was held up
 * itself first hears what it missed: it takes nobody out of the ring for WOKEN_US.
 *
 * A member that was not alive for CLUSTER_ROSTER_MS is forgotten. All do that at about the same
 * time, since the age of a status goes with it; for an hour after that nobody takes it back by
 * hearsay from one that is late.
 */

#include <stdlib.h>

#include "base/mem.h"
#include "cluster/cluster_priv.h"

#define FORGOTTEN_US (3600 * SECOND)
/* A few rounds of probes and digests. */
#define WOKEN_US (10 * SECOND)
/* Departures are remembered so long. */
#define DEPARTURES_US (3600 * SECOND)
/* To find who is due, everybody is looked at: not more often than this when many are. */
#define SETTLE_PAUSE_US SECOND
#define ROSTER_US (CLUSTER_ROSTER_MS * MS)

static void leave(struct cluster *cluster, struct entry *entry, enum ring_place place)
{
    const bool was_in = entry->ring == RING_IN;
    entry->ring = (uint8_t)place;
    if (was_in) {
        cluster->change_count++;
        cluster_tell(cluster, CLUSTER_RING_LEFT, entry);
    }
}

static void enter(struct cluster *cluster, struct entry *entry)
{
    entry->ring = RING_IN;
    cluster->change_count++;
    cluster_tell(cluster, CLUSTER_RING_ENTERED, entry);
}

static uint64_t return_us(const struct entry *entry)
{
    uint64_t wait_ms = CLUSTER_RING_RETURN_MS;
    for (unsigned i = 1; i < entry->ring_departures && wait_ms < CLUSTER_RING_RETURN_MS_MAX; i++) {
        wait_ms *= 2;
    }
    return (wait_ms < CLUSTER_RING_RETURN_MS_MAX ? wait_ms : CLUSTER_RING_RETURN_MS_MAX) * MS;
}

/* When something changes about `entry` if nothing is heard of it until then. */
static uint64_t due_us(const struct cluster *cluster, const struct entry *entry)
{
    if (entry_is_alive(entry)) {
        if (entry->ring == RING_OUT) {
            return entry->since_us + return_us(entry);
        }
        return entry->ring_departures > 0 ? entry->since_us + DEPARTURES_US : NEVER;
    }
    if (entry->ring == RING_IN) {
        const uint64_t leave_us = entry->since_us + CLUSTER_RING_LEAVE_MS * MS;
        const uint64_t sure_us = cluster->woken_us == 0 ? 0 : cluster->woken_us + WOKEN_US;
        return leave_us > sure_us ? leave_us : sure_us;
    }
    return entry->since_us + ROSTER_US;
}

static void wake_for(struct cluster *cluster, const struct entry *entry)
{
    uint64_t wake_us = due_us(cluster, entry);
    /* What was due long ago makes no tick late. */
    wake_us = wake_us > cluster->now_us ? wake_us : cluster->now_us;
    const uint64_t pause_us = cluster->settled_us + SETTLE_PAUSE_US;
    wake_us = wake_us > pause_us ? wake_us : pause_us;
    if (wake_us < cluster->settle_us) {
        cluster->settle_us = wake_us;
    }
}

void ring_added_lost(struct entry *entry, uint32_t age_s)
{
    if (entry->status == MEMBER_LEFT) {
        entry->ring = RING_GONE;
    } else {
        entry->ring = age_s * MS >= CLUSTER_RING_LEAVE_MS ? RING_OUT : RING_IN;
    }
}

void ring_changed(struct cluster *cluster, struct entry *entry)
{
    if (entry->status == MEMBER_LEFT) {
        leave(cluster, entry, RING_GONE);
        entry->ring_departures = 0;
    } else if (entry_is_alive(entry) && entry->ring == RING_GONE) {
        enter(cluster, entry);
    }
    wake_for(cluster, entry);
}

static void forget(struct cluster *cluster, struct entry *entry)
{
    cluster_tell(cluster, CLUSTER_FORGOTTEN, entry);
    if (!cluster->forgotten) {
        cluster->forgotten = mem_alloc_array(FORGOTTEN_MAX, sizeof *cluster->forgotten);
    }
    /* The oldest makes room. */
    cluster->forgotten[cluster->forgotten_count++ % FORGOTTEN_MAX] = (struct forgotten){
        .id = entry->record->id,
        .version = entry_version(entry),
        .until_us = cluster->now_us + FORGOTTEN_US,
    };
    view_remove(&cluster->view, entry);
    cluster->change_count++;
}

bool ring_was_forgotten(const struct cluster *cluster, const struct node_id *id,
                        const struct member_version *version)
{
    const size_t count =
        cluster->forgotten_count < FORGOTTEN_MAX ? cluster->forgotten_count : FORGOTTEN_MAX;
    for (size_t i = 0; i < count; i++) {
        const struct forgotten *forgotten = &cluster->forgotten[i];
        if (node_id_equal(&forgotten->id, id) && cluster->now_us < forgotten->until_us &&
            member_version_compare(version, &forgotten->version) <= 0) {
            return true;
        }
    }
    return false;
}

/* True if it is still on the roster. */
static bool settle(struct cluster *cluster, struct entry *entry)
{
    if (cluster->now_us < due_us(cluster, entry) ||
        node_id_equal(&entry->record->id, &cluster->id)) {
        return true;
    }
    if (entry_is_alive(entry)) {
        if (entry->ring == RING_OUT) {
            enter(cluster, entry);
        } else {
            entry->ring_departures = 0;
        }
        return true;
    }
    if (entry->ring == RING_IN) {
        leave(cluster, entry, RING_OUT);
        if (entry->ring_departures < UINT8_MAX) {
            entry->ring_departures++;
        }
        return true;
    }
    forget(cluster, entry);
    return false;
}

void ring_due(struct cluster *cluster)
{
    if (cluster->now_us < cluster->settle_us) {
        return;
    }
    cluster->settle_us = NEVER;
    cluster->settled_us = cluster->now_us;
    for (size_t i = 0; i < MEMBER_BUCKETS; i++) {
        struct bucket *bucket = &cluster->view.buckets[i];
        for (size_t j = 0; j < bucket->count;) {
            if (settle(cluster, &bucket->entries[j])) {
                wake_for(cluster, &bucket->entries[j]);
                j++;
            }
        }
    }
}
