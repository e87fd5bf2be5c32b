/* SPDX-License-Identifier: Apache-2.0 */
#include "node/member_events.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/mem.h"

struct member_events {
    pthread_mutex_t lock; /* over all below */
    uint64_t newest;
    size_t kept_count;
    struct member_event *kept; /* number N stands at N % kept_count */
};

struct member_events *member_events_new(size_t kept_count)
{
    CHECK(kept_count > 0);
    struct member_events *events = mem_alloc(sizeof *events);
    pthread_mutex_init(&events->lock, NULL);
    events->kept_count = kept_count;
    events->kept = mem_alloc_array(kept_count, sizeof *events->kept);
    return events;
}

void member_events_free(struct member_events *events)
{
    if (events) {
        pthread_mutex_destroy(&events->lock);
        free(events->kept);
        free(events);
    }
}

/* Locking does not change what the events are. */
static pthread_mutex_t *lock_of(const struct member_events *events)
{
    return (pthread_mutex_t *)(uintptr_t)&events->lock;
}

void member_events_add(struct member_events *events, const struct member_event *event)
{
    pthread_mutex_lock(&events->lock);
    events->newest++;
    struct member_event *slot = &events->kept[events->newest % events->kept_count];
    *slot = *event;
    slot->number = events->newest;
    pthread_mutex_unlock(&events->lock);
}

uint64_t member_events_newest(const struct member_events *events)
{
    pthread_mutex_lock(lock_of(events));
    const uint64_t newest = events->newest;
    pthread_mutex_unlock(lock_of(events));
    return newest;
}

size_t member_events_read(const struct member_events *events, uint64_t *position,
                          struct member_event *ret_events, size_t room, uint64_t *ret_missed)
{
    size_t count = 0;
    pthread_mutex_lock(lock_of(events));
    const uint64_t gone =
        events->newest > events->kept_count ? events->newest - events->kept_count : 0;
    *ret_missed = *position < gone ? gone - *position : 0;
    *position += *ret_missed;
    for (; *position < events->newest && count < room; count++) {
        ++*position;
        ret_events[count] = events->kept[*position % events->kept_count];
    }
    pthread_mutex_unlock(lock_of(events));
    return count;
}

const char *member_event_name(enum cluster_event_kind kind)
{
    switch (kind) {
    case CLUSTER_JOINED:
        return "member_joined";
    case CLUSTER_ALIVE:
        return "member_alive";
    case CLUSTER_UNREACHABLE:
        return "member_unreachable";
    case CLUSTER_LEFT:
        return "member_left";
    case CLUSTER_UPDATED:
        return "member_updated";
    case CLUSTER_FORGOTTEN:
        return "member_forgotten";
    case CLUSTER_RING_ENTERED:
        return "ring_entered";
    case CLUSTER_RING_LEFT:
        return "ring_left";
    case CLUSTER_ISOLATED:
        return "node_isolated";
    case CLUSTER_CONNECTED:
        return "node_connected";
    case CLUSTER_INCARNATION:
    case CLUSTER_CONFLICT:
    case CLUSTER_LEAVE_DONE:
    default:
        return NULL;
    }
}
