/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_MEMBER_EVENTS_H
#define NODE_MEMBER_EVENTS_H

/*
 * member_events: the last events of membership, in order, for readers that each have a position
 * of their own. The oldest make room; who reads too slowly is told how many it missed.
 *
 * Threads: any.
 */

#include <stddef.h>
#include <stdint.h>

#include "node/member_info.h"

/* A storm in a network of some thousand members, and 1 MiB. */
#define MEMBER_EVENTS_KEPT 4096u

struct member_events;

struct member_event {
    uint64_t number; /* from 1, without gaps */
    int64_t wall_ms;
    enum cluster_event_kind kind;
    struct member_info member;
};

struct member_events *member_events_new(size_t kept_count);
/* NULL is allowed. */
void member_events_free(struct member_events *events);

/* `event->number` is given here. */
void member_events_add(struct member_events *events, const struct member_event *event);

/* The number of the newest; 0: there was none. */
uint64_t member_events_newest(const struct member_events *events);

/* Up to `room` events behind *position, which moves to the last of them. *ret_missed: those behind
 * the old position that are gone; what is given begins after them. */
size_t member_events_read(const struct member_events *events, uint64_t *position,
                          struct member_event *ret_events, size_t room, uint64_t *ret_missed);

/* A stable name ("member_joined"), or NULL for what is no event of membership. */
const char *member_event_name(enum cluster_event_kind kind);

#endif
