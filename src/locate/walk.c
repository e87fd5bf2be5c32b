/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Going through what is held here, in the order of keys and a step at a time, for three reasons:
 *
 *   an arc     whose owners changed: the new ones are told what is in it
 *   a part     a sixteenth of all keys in which an owner knows something else than what is so: the
 *              owner is told all of it
 *   sums       of everything, to be compared with what owners know: after a start, when an owner
 *              was away or began anew, and every hour
 *
 * One walk serves all owners at once, so its cost does not depend on their number. While a part is
 * walked, what changes behind the walk's back is added to it, so that a message about a range says
 * what is so at the moment when it enters the queue; of sums it is noted where that happened.
 */

#include <stdlib.h>

#include "base/codec.h"
#include "base/mem.h"
#include "locate/locate_priv.h"

/* Others that change at the same time are compared in the same walk. */
#define COMPARE_SPREAD_US SECOND
/* After the host could not tell what is held. */
#define RETRY_US SECOND
/* Beyond, owners are compared with instead: 30 MB. */
#define ARCS_MAX ((size_t)256 * 1024)

static const struct ring_key key_lowest = {{0}};

static struct ring_key key_highest(void)
{
    struct ring_key key;
    memset(key.bytes, 0xff, sizeof key.bytes);
    return key;
}

unsigned part_of(const struct ring_key *key)
{
    return key->bytes[0] >> 4;
}

/* The finalizer of splitmix64 (Steele, Lea, Flood 2014). Keys are hashes already; the state must
 * not be swapped between two of them unnoticed. */
uint64_t held_sum(const struct ring_key *key, enum locate_state state)
{
    uint64_t sum = codec_get_le64(key->bytes) + UINT64_C(0x9e3779b97f4a7c15) * (uint64_t)state;
    sum = (sum ^ (sum >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    sum = (sum ^ (sum >> 27)) * UINT64_C(0x94d049bb133111eb);
    return sum ^ (sum >> 31);
}

void compare_soon(struct locate *locate, struct peer *peer)
{
    due_sooner(&peer->compare_us,
               locate->now_us + random_below(&locate->random, COMPARE_SPREAD_US));
    due_sooner(&locate->walk_due_us, peer->compare_us);
}

void walk_forget(struct peer *peer)
{
    batch_free(peer->arc);
    peer->arc = NULL;
    peer->is_rewritten = false;
    peer->is_summing = false;
    peer->differs = 0;
}

/* Arcs with new owners. */

static void add_arc(struct locate *locate, const struct arc *arc)
{
    /* One that is being walked ends where it ended when that began. */
    const bool is_walked = locate->walk.kind == WALK_ARC && locate->arcs_count == 1;
    if (locate->arcs_count > 0 && !is_walked) {
        struct arc *last = &locate->arcs[locate->arcs_first + locate->arcs_count - 1];
        struct ring_key behind = last->last;
        if (ring_key_increment(&behind) && ring_key_equal(&behind, &arc->first) &&
            last->gained_count == arc->gained_count &&
            memcmp(last->gained, arc->gained, arc->gained_count * sizeof arc->gained[0]) == 0) {
            last->last = arc->last;
            return;
        }
    }
    if (locate->arcs_count == ARCS_MAX) {
        for (size_t i = 0; i < arc->gained_count; i++) {
            struct peer *peer = peer_find(locate, &arc->gained[i]);
            if (peer) {
                compare_soon(locate, peer);
            }
        }
        return;
    }
    if (locate->arcs_first > 0 &&
        locate->arcs_first + locate->arcs_count == locate->arcs_capacity) {
        memmove(locate->arcs, locate->arcs + locate->arcs_first,
                locate->arcs_count * sizeof *locate->arcs);
        locate->arcs_first = 0;
    }
    if (locate->arcs_count == locate->arcs_capacity) {
        locate->arcs_capacity = locate->arcs_capacity > 0 ? 2 * locate->arcs_capacity : 64;
        locate->arcs = mem_resize_array(locate->arcs, locate->arcs_capacity, sizeof *locate->arcs);
    }
    locate->arcs[locate->arcs_first + locate->arcs_count++] = *arc;
}

static bool is_among(const struct ring *ring, const struct point *point, const struct node_id *id)
{
    for (size_t i = 0; i < LOCATE_OWNERS && point->owners[i] != NO_OWNER; i++) {
        if (node_id_equal(&ring->ids[point->owners[i]], id)) {
            return true;
        }
    }
    return false;
}

/* Whoever is compared with soon needs no arcs. */
static void compare_owners(struct locate *locate, const struct ring_key *first,
                           const struct ring_key *last, const struct ring *old,
                           const struct point *before, const struct point *now)
{
    struct arc arc = {.first = *first, .last = *last};
    for (size_t i = 0; i < LOCATE_OWNERS && now->owners[i] != NO_OWNER; i++) {
        const struct node_id *owner = &locate->ring->ids[now->owners[i]];
        const struct peer *peer = peer_find(locate, owner);
        if (peer && peer->compare_us == NEVER && !is_among(old, before, owner)) {
            arc.gained[arc.gained_count++] = *owner;
        }
    }
    if (arc.gained_count > 0) {
        add_arc(locate, &arc);
    }
}

static void find_arcs(struct locate *locate, const struct ring *old)
{
    const struct ring *ring = locate->ring;
    struct ring_key first = key_lowest;
    bool is_over = false;
    size_t i = 0;
    size_t j = 0;
    while (!is_over && (i < old->points_count || j < ring->points_count)) {
        const struct point *before = &old->points[i < old->points_count ? i : 0];
        const struct point *now = &ring->points[j < ring->points_count ? j : 0];
        bool from_old = i < old->points_count;
        bool from_new = j < ring->points_count;
        if (from_old && from_new) {
            const int order = ring_key_compare(&before->key, &now->key);
            from_old = order <= 0;
            from_new = order >= 0;
        }
        const struct ring_key last = from_old ? before->key : now->key;
        compare_owners(locate, &first, &last, old, before, now);
        i += from_old;
        j += from_new;
        first = last;
        is_over = !ring_key_increment(&first);
    }
    if (!is_over) {
        const struct ring_key last = key_highest();
        compare_owners(locate, &first, &last, old, &old->points[0], &ring->points[0]);
    }
}

void walk_ring_changed(struct locate *locate, const struct ring *old)
{
    for (struct peer *peer = locate->peers; peer; peer = peer->hh.next) {
        const uint16_t differs = peer->differs;
        if (peer->is_summing || peer->is_summed) {
            peer->dirty = UINT16_MAX; /* it is a sum over what was the owner's before */
            compare_soon(locate, peer);
        }
        walk_forget(peer);
        peer->differs = differs;
    }
    if (locate->walk.kind != WALK_ARC) {
        locate->walk.kind = WALK_NONE;
    }
    find_arcs(locate, old);
    due_sooner(&locate->walk_due_us, locate->now_us);
}

/* Which walk is next. */

static bool is_owner_now(const struct peer *peer)
{
    return peer->in_ring && peer->is_alive;
}

static bool begin_part(struct locate *locate)
{
    unsigned wanted = 0;
    for (const struct peer *peer = locate->peers; peer; peer = peer->hh.next) {
        wanted |= is_owner_now(peer) ? peer->differs : 0;
    }
    if (wanted == 0) {
        return false;
    }
    struct walk *walk = &locate->walk;
    walk->kind = WALK_PART;
    walk->part = (unsigned)__builtin_ctz(wanted);
    walk->next = key_lowest;
    walk->next.bytes[0] = (uint8_t)(walk->part << 4);
    walk->last = key_highest();
    walk->last.bytes[0] = (uint8_t)(walk->part << 4 | 0x0f);
    for (struct peer *peer = locate->peers; peer; peer = peer->hh.next) {
        if (is_owner_now(peer) && (peer->differs & 1u << walk->part)) {
            peer->is_rewritten = true;
            peer->arc = batch_new(LOCATE_ARC);
            peer->arc->first = walk->next;
        }
    }
    return true;
}

static bool begin_sums(struct locate *locate)
{
    bool is_due = false;
    for (const struct peer *peer = locate->peers; peer; peer = peer->hh.next) {
        if (is_owner_now(peer) && !peer->is_summed) {
            is_due = is_due || peer->compare_us <= locate->now_us;
            due_sooner(&locate->walk_due_us, peer->compare_us);
        }
    }
    if (!is_due) {
        return false;
    }
    for (struct peer *peer = locate->peers; peer; peer = peer->hh.next) {
        if (is_owner_now(peer) && !peer->is_summed &&
            peer->compare_us <= locate->now_us + COMPARE_SPREAD_US) {
            peer->compare_us = NEVER;
            peer->is_summing = true;
            peer->dirty = 0;
            memset(peer->sums, 0, sizeof peer->sums);
        }
    }
    locate->walk = (struct walk){.kind = WALK_SUMS, .next = key_lowest, .last = key_highest()};
    return true;
}

static bool begin(struct locate *locate)
{
    locate->walk_due_us = locate->compare_us;
    if (!tell_is_full(locate)) { /* else a TAKEN wakes us */
        if (locate->arcs_count > 0) {
            const struct arc *arc = &locate->arcs[locate->arcs_first];
            locate->walk = (struct walk){.kind = WALK_ARC, .next = arc->first, .last = arc->last};
            return true;
        }
        if (begin_part(locate)) {
            return true;
        }
    }
    return begin_sums(locate);
}

/* A step of it. */

static void push_arc(struct locate *locate, struct peer *peer, const struct ring_key *last)
{
    struct batch *batch = peer->arc;
    peer->arc = NULL;
    batch->last = *last;
    tell_push(locate, peer, batch);
}

static void add_to_arc(struct locate *locate, struct peer *peer, const struct locate_held *held,
                       const struct ring_key *last)
{
    batch_add(peer->arc, held);
    if (peer->arc->held_count < LOCATE_HELD_MAX) {
        return;
    }
    push_arc(locate, peer, last);
    if (peer->is_rewritten) {
        peer->arc = batch_new(LOCATE_ARC);
        peer->arc->first = *last;
        if (!ring_key_increment(&peer->arc->first)) {
            peer->is_rewritten = false;
            peer->differs &= (uint16_t) ~(1u << locate->walk.part);
            batch_free(peer->arc);
            peer->arc = NULL;
        }
    }
}

static void visit(struct locate *locate, const struct locate_held *held)
{
    struct node_id owners[LOCATE_OWNERS];
    const size_t count = ring_owners(locate->ring, &held->key, owners);
    for (size_t i = 0; i < count; i++) {
        struct peer *peer = peer_find(locate, &owners[i]);
        if (peer && locate->walk.kind == WALK_SUMS && peer->is_summing) {
            peer->sums[part_of(&held->key)] += held_sum(&held->key, held->state);
        } else if (peer && locate->walk.kind == WALK_PART && peer->is_rewritten) {
            add_to_arc(locate, peer, held, &held->key);
        } else if (peer && locate->walk.kind == WALK_ARC) {
            const struct arc *arc = &locate->arcs[locate->arcs_first];
            for (size_t j = 0; j < arc->gained_count; j++) {
                if (node_id_equal(&arc->gained[j], &owners[i])) {
                    tell_queue(locate, peer, held);
                }
            }
        }
    }
}

static void end(struct locate *locate)
{
    const struct walk walk = locate->walk;
    locate->walk.kind = WALK_NONE;
    due_sooner(&locate->walk_due_us, locate->now_us);
    if (walk.kind == WALK_ARC) {
        locate->arcs_first++;
        locate->arcs_count--;
        return;
    }
    for (struct peer *peer = locate->peers; peer; peer = peer->hh.next) {
        if (walk.kind == WALK_PART && peer->is_rewritten) {
            peer->is_rewritten = false;
            peer->differs &= (uint16_t) ~(1u << walk.part);
            push_arc(locate, peer, &walk.last);
        } else if (walk.kind == WALK_SUMS && peer->is_summing) {
            peer->is_summing = false;
            peer->is_summed = true;
            tell_push(locate, peer, batch_new(LOCATE_COMPARE));
        }
    }
}

/* Peers from which a walk took its reason stay as they are until the next try. */
static void fail(struct locate *locate)
{
    locate->counters.host_errors++;
    locate->walk_due_us = locate->now_us + RETRY_US;
}

void walk_due(struct locate *locate)
{
    if (locate->now_us < locate->walk_due_us) {
        return;
    }
    if (locate->now_us >= locate->compare_us) {
        locate->compare_us = locate->now_us + LOCATE_COMPARE_MS * MS;
        for (struct peer *peer = locate->peers; peer; peer = peer->hh.next) {
            compare_soon(locate, peer);
        }
    }
    if (locate->walk.kind == WALK_NONE && !begin(locate)) {
        return;
    }
    struct locate_held held[STEP_ROWS];
    size_t count = 0;
    struct walk *walk = &locate->walk;
    if (locate->host.held(locate->host.context, &walk->next, &walk->last, held, STEP_ROWS,
                          &count)) {
        fail(locate);
        return;
    }
    locate->walk_due_us = locate->now_us;
    for (size_t i = 0; i < count; i++) {
        visit(locate, &held[i]);
    }
    if (count == STEP_ROWS) {
        walk->next = held[count - 1].key;
        if (ring_key_increment(&walk->next) && ring_key_compare(&walk->next, &walk->last) <= 0) {
            return;
        }
    }
    end(locate);
}

void walk_changed(struct locate *locate, struct peer *peer, const struct locate_held *held)
{
    const struct walk *walk = &locate->walk;
    const bool is_behind = ring_key_compare(&held->key, &walk->next) < 0;
    if (peer->is_summed || (peer->is_summing && is_behind)) {
        peer->dirty |= (uint16_t)(1u << part_of(&held->key));
    }
    if (peer->is_rewritten && is_behind && ring_key_compare(&held->key, &peer->arc->first) >= 0) {
        struct ring_key last = walk->next; /* the one before it */
        for (size_t i = sizeof last.bytes; i-- > 0 && last.bytes[i]-- == 0;) {
        }
        add_to_arc(locate, peer, held, &last);
    }
}

void walk_done(struct locate *locate)
{
    free(locate->arcs);
}
