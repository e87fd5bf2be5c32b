/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Consistent hashing (Karger et al. 1997): each member stands at LOCATE_POINTS places, so that the
 * shares of members differ by tens of percent and not by factors, and what one leaves behind goes
 * to many. The owners of all keys between two points are the same; they are worked out once for
 * each point, so that asking costs one binary search.
 */

#include <stdlib.h>

#include "base/mem.h"
#include "hash/sha256.h"
#include "locate/locate_priv.h"

void ring_points(const struct node_id *id, struct ring_key ret_points[LOCATE_POINTS])
{
    uint8_t text[NODE_ID_BYTES + 1];
    memcpy(text, id->bytes, NODE_ID_BYTES);
    for (unsigned i = 0; i < LOCATE_POINTS; i++) {
        text[NODE_ID_BYTES] = (uint8_t)i;
        struct id hash;
        sha256_id(BYTES(text, sizeof text), &hash);
        ret_points[i] = ring_key_of(&hash);
    }
}

static int compare_points(const void *a, const void *b)
{
    const struct point *one = a;
    const struct point *other = b;
    return ring_key_compare(&one->key, &other->key);
}

static void add_member(struct ring *ring, const struct node_id *id, const struct ring_key *points)
{
    const uint32_t member = (uint32_t)ring->ids_count++;
    ring->ids[member] = *id;
    for (size_t i = 0; i < LOCATE_POINTS; i++) {
        ring->points[ring->points_count++] = (struct point){.key = points[i], .member = member};
    }
}

static void find_owners(const struct ring *ring, size_t first, struct point *point)
{
    size_t count = 0;
    for (size_t i = 0; i < ring->points_count && count < LOCATE_OWNERS; i++) {
        const uint32_t member = ring->points[(first + i) % ring->points_count].member;
        bool is_new = true;
        for (size_t j = 0; j < count; j++) {
            is_new = is_new && point->owners[j] != member;
        }
        if (is_new) {
            point->owners[count++] = member;
        }
    }
    for (; count < LOCATE_OWNERS; count++) {
        point->owners[count] = NO_OWNER;
    }
}

struct ring *ring_new(const struct locate *locate)
{
    size_t count = 1;
    for (const struct peer *peer = locate->peers; peer; peer = peer->hh.next) {
        count += peer->in_ring;
    }
    struct ring *ring = mem_alloc(sizeof *ring);
    ring->ids = mem_alloc_array(count, sizeof *ring->ids);
    ring->points = mem_alloc_array(count * LOCATE_POINTS, sizeof *ring->points);
    add_member(ring, &locate->id, locate->own_points);
    for (const struct peer *peer = locate->peers; peer; peer = peer->hh.next) {
        if (peer->in_ring) {
            add_member(ring, &peer->id, peer->points);
        }
    }
    qsort(ring->points, ring->points_count, sizeof *ring->points, compare_points);
    for (size_t i = 0; i < ring->points_count; i++) {
        find_owners(ring, i, &ring->points[i]);
    }
    return ring;
}

void ring_free(struct ring *ring)
{
    if (ring) {
        free(ring->points);
        free(ring->ids);
        free(ring);
    }
}

size_t ring_find(const struct ring *ring, const struct ring_key *key)
{
    size_t low = 0;
    size_t high = ring->points_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (ring_key_compare(&ring->points[middle].key, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == ring->points_count ? 0 : low;
}

size_t ring_owners(const struct ring *ring, const struct ring_key *key,
                   struct node_id ret_owners[LOCATE_OWNERS])
{
    const struct point *point = &ring->points[ring_find(ring, key)];
    size_t count = 0;
    while (count < LOCATE_OWNERS && point->owners[count] != NO_OWNER) {
        ret_owners[count] = ring->ids[point->owners[count]];
        count++;
    }
    return count;
}

bool ring_is_owner(const struct ring *ring, const struct ring_key *key, const struct node_id *node)
{
    struct node_id owners[LOCATE_OWNERS];
    const size_t count = ring_owners(ring, key, owners);
    for (size_t i = 0; i < count; i++) {
        if (node_id_equal(&owners[i], node)) {
            return true;
        }
    }
    return false;
}
