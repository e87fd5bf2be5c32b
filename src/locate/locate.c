/* SPDX-License-Identifier: Apache-2.0 */
#include "locate/locate.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "locate/locate_priv.h"

void due_sooner(uint64_t *due_us, uint64_t us)
{
    if (us < *due_us) {
        *due_us = us;
    }
}

void locate_send(struct locate *locate, const struct node_id *to, struct bytes message)
{
    locate->counters.messages_sent++;
    locate->counters.message_bytes_sent += message.size;
    locate->host.send(locate->host.context, to, message);
}

void locate_send_message(struct locate *locate, const struct node_id *to,
                         const struct locate_message *message)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    locate_message_format(message, &bytes);
    locate_send(locate, to, buf_bytes(&bytes));
}

/* Members. */

struct peer *peer_find(const struct locate *locate, const struct node_id *id)
{
    struct peer *peer = NULL;
    HASH_FIND(hh, locate->peers, id, sizeof *id, peer);
    return peer;
}

struct peer *peer_enter(struct locate *locate, const struct node_id *id)
{
    struct peer *peer = peer_find(locate, id);
    if (!peer) {
        peer = mem_alloc(sizeof *peer);
        peer->id = *id;
        peer->compare_us = NEVER;
        HASH_ADD(hh, locate->peers, id, sizeof peer->id, peer);
        locate->counters.peers_count++;
    }
    return peer;
}

void peer_remove(struct locate *locate, struct peer *peer)
{
    tell_drop(locate, peer);
    walk_forget(peer);
    HASH_DELETE(hh, locate->peers, peer);
    locate->counters.peers_count--;
    free(peer->points);
    free(peer);
}

bool peer_is_alive(const struct locate *locate, const struct node_id *id)
{
    const struct peer *peer = peer_find(locate, id);
    return node_id_equal(id, &locate->id) || (peer && peer->is_alive);
}

static void set_alive(struct locate *locate, struct peer *peer, bool is_alive)
{
    if (peer->is_alive == is_alive) {
        return;
    }
    peer->is_alive = is_alive;
    if (!is_alive) {
        lookup_lost(locate, &peer->id);
        search_lost(locate, &peer->id);
        return;
    }
    tell_alive(locate, peer);
    due_sooner(&locate->walk_due_us, locate->now_us);
    if (peer->drop == DROP_DONE) {
        peer->drop = DROP_NONE;
        locate_send_message(locate, &peer->id,
                            &(struct locate_message){.type = LOCATE_COMPARE_ASK});
    }
}

static void set_in_ring(struct locate *locate, struct peer *peer, bool in_ring)
{
    if (peer->in_ring == in_ring) {
        return;
    }
    peer->in_ring = in_ring;
    locate->ring_changes = true;
    if (!in_ring) { /* it owns nothing any more */
        tell_drop(locate, peer);
        walk_forget(peer);
        peer->compare_us = NEVER;
        return;
    }
    if (!peer->points) {
        peer->points = mem_alloc_array(LOCATE_POINTS, sizeof *peer->points);
        ring_points(&peer->id, peer->points);
    }
    compare_soon(locate, peer);
}

static void set_member(struct locate *locate, const struct locate_member *member)
{
    struct peer *peer = peer_enter(locate, &member->id);
    const bool is_new_life = peer->is_listed && peer->life != member->life;
    peer->is_listed = true;
    peer->was_listed = false;
    peer->life = member->life;
    set_alive(locate, peer, member->is_alive);
    set_in_ring(locate, peer, member->in_ring);
    if (is_new_life && peer->in_ring) {
        compare_soon(locate, peer); /* it may have lost what it knew */
    }
}

static void change_ring(struct locate *locate)
{
    locate->ring_changes = false;
    struct ring *old = locate->ring;
    locate->ring = ring_new(locate);
    walk_ring_changed(locate, old);
    /* Of several changes in a short time, what was before them all is worth most: the owners in
     * between were told less. Alone, this node knew nothing of others. */
    if (locate->former || old->ids_count == 1) {
        ring_free(old);
    } else {
        locate->former = old;
        locate->former_end_us = locate->now_us + UNQUIET * LOCATE_FORMER_MS * MS;
    }
    if (locate->former) {
        locate->former_until_us = locate->now_us + LOCATE_FORMER_MS * MS;
        due_sooner(&locate->former_until_us, locate->former_end_us);
    }
}

void locate_set_members(struct locate *locate, uint64_t now_us, const struct locate_member *members,
                        size_t members_count)
{
    locate->now_us = now_us;
    struct peer *peer = NULL;
    struct peer *next = NULL;
    for (peer = locate->peers; peer; peer = peer->hh.next) {
        peer->was_listed = peer->is_listed;
    }
    const size_t count = members_count < LOCATE_MEMBERS_MAX ? members_count : LOCATE_MEMBERS_MAX;
    for (size_t i = 0; i < count; i++) {
        if (!node_id_equal(&members[i].id, &locate->id)) {
            set_member(locate, &members[i]);
        }
    }
    HASH_ITER(hh, locate->peers, peer, next)
    {
        if (peer->was_listed) {
            peer->was_listed = false;
            peer->is_listed = false;
            set_alive(locate, peer, false);
            set_in_ring(locate, peer, false);
            tell_drop(locate, peer);
        }
    }
    index_members_changed(locate, locate->ring_changes);
    if (locate->ring_changes) {
        change_ring(locate);
    }
}

size_t locate_owners(const struct locate *locate, const struct ring_key *key,
                     struct node_id ret_owners[LOCATE_OWNERS])
{
    return ring_owners(locate->ring, key, ret_owners);
}

/* What is here. */

void locate_changed(struct locate *locate, uint64_t now_us, const struct locate_held *held,
                    size_t held_count)
{
    locate->now_us = now_us;
    for (size_t i = 0; i < held_count; i++) {
        struct node_id owners[LOCATE_OWNERS];
        const size_t count = ring_owners(locate->ring, &held[i].key, owners);
        for (size_t j = 0; j < count; j++) {
            struct peer *peer = peer_find(locate, &owners[j]);
            if (peer) {
                tell_queue(locate, peer, &held[i]);
                walk_changed(locate, peer, &held[i]);
            }
        }
    }
}

void locate_changes_lost(struct locate *locate, uint64_t now_us)
{
    locate->now_us = now_us;
    for (struct peer *peer = locate->peers; peer; peer = peer->hh.next) {
        if (peer->in_ring) {
            compare_soon(locate, peer);
        }
    }
}

/* What is known of a key. */

struct visitor {
    bool (*visit)(void *context, const struct locate_held_by *holder);
    void *context;
    bool is_over;
};

static bool visit_row(void *context, const struct locate_held_by *holder)
{
    struct visitor *visitor = context;
    visitor->is_over = !visitor->visit(visitor->context, holder);
    return !visitor->is_over;
}

int locate_stored(struct locate *locate, uint64_t now_us, const struct ring_key *key,
                  bool (*visit)(void *context, const struct locate_held_by *holder), void *context)
{
    locate->now_us = now_us;
    struct visitor visitor = {.visit = visit, .context = context};
    const int err = index_visit(locate, key, visit_row, &visitor);
    if (err) {
        return err;
    }
    struct node_id nodes[HINT_NODES_MAX];
    const size_t count = hint_nodes(locate, key, nodes);
    for (size_t i = 0; i < count && !visitor.is_over; i++) {
        (void)visit_row(&visitor, &(struct locate_held_by){.node = nodes[i]});
    }
    return 0;
}

/* Messages. */

static void dispatch(struct locate *locate, struct peer *peer, const struct locate_message *message)
{
    switch (message->type) {
    case LOCATE_TELL:
    case LOCATE_ARC:
        index_tell(locate, peer, message);
        break;
    case LOCATE_COMPARE:
        index_compare(locate, peer, message);
        break;
    case LOCATE_TAKEN:
        tell_taken(locate, peer, message);
        break;
    case LOCATE_COMPARE_ASK:
        if (peer->in_ring) {
            compare_soon(locate, peer);
        }
        break;
    case LOCATE_FIND:
        search_answer_find(locate, &peer->id, message);
        break;
    case LOCATE_FOUND:
        lookup_found(locate, &peer->id, message);
        break;
    case LOCATE_WHO_HAS:
        search_answer(locate, message);
        break;
    case LOCATE_HAVE:
        search_have(locate, &peer->id, message);
        break;
    }
}

void locate_message(struct locate *locate, uint64_t now_us, const struct node_id *from,
                    struct bytes bytes)
{
    locate->now_us = now_us;
    locate->counters.messages_received++;
    locate->counters.message_bytes_received += bytes.size;
    struct peer *peer = peer_find(locate, from);
    struct locate_message message;
    if (!peer || !peer->is_listed || locate_message_parse(bytes, false, &message)) {
        locate->counters.messages_refused++;
        return;
    }
    dispatch(locate, peer, &message);
}

void locate_broadcast(struct locate *locate, uint64_t now_us, struct bytes payload)
{
    locate->now_us = now_us;
    locate->counters.messages_received++;
    locate->counters.message_bytes_received += payload.size;
    struct locate_message message;
    if (locate_message_parse(payload, true, &message)) {
        locate->counters.messages_refused++;
        return;
    }
    search_answer(locate, &message);
}

/* Opening, and what is due. */

struct locate *locate_new(const struct locate_options *options, uint64_t now_us)
{
    struct locate *locate = mem_alloc(sizeof *locate);
    locate->id = options->id;
    locate->host = options->host;
    locate->now_us = now_us;
    locate->begun_us = now_us;
    random_init(&locate->random, options->random_seed);
    locate->life = random_u64(&locate->random);
    locate->next_number = 1;
    locate->next_serial = 1;
    locate->peers_due_us = NEVER;
    locate->lookups_due_us = NEVER;
    locate->searches_due_us = NEVER;
    locate->next_owner_us = LOCATE_NEXT_MS_MIN * MS;
    /* Not all at the same time of an hour. */
    locate->compare_us = now_us + LOCATE_COMPARE_MS * MS / 2 +
                         random_below(&locate->random, LOCATE_COMPARE_MS * MS / 2);
    locate->walk_due_us = locate->compare_us;
    ring_points(&locate->id, locate->own_points);
    locate->ring = ring_new(locate);
    index_begin(locate);
    return locate;
}

void locate_free(struct locate *locate)
{
    if (!locate) {
        return;
    }
    search_done(locate);
    lookup_done(locate);
    hint_done(locate);
    walk_done(locate);
    struct peer *peer = NULL;
    struct peer *next = NULL;
    HASH_ITER(hh, locate->peers, peer, next)
    {
        peer_remove(locate, peer);
    }
    ring_free(locate->ring);
    ring_free(locate->former);
    free(locate);
}

void locate_tick(struct locate *locate, uint64_t now_us)
{
    locate->now_us = now_us;
    if (locate->former && now_us >= locate->former_until_us) {
        ring_free(locate->former);
        locate->former = NULL;
    }
    lookup_due(locate);
    search_due(locate);
    index_due(locate);
    walk_due(locate);
    tell_due(locate);
}

uint64_t locate_next_us(const struct locate *locate)
{
    uint64_t next_us = locate->former ? locate->former_until_us : NEVER;
    due_sooner(&next_us, locate->lookups_due_us);
    due_sooner(&next_us, locate->searches_due_us);
    due_sooner(&next_us, locate->index_due_us);
    due_sooner(&next_us, locate->walk_due_us);
    due_sooner(&next_us, locate->peers_due_us);
    return next_us;
}

const struct locate_counters *locate_counters(const struct locate *locate)
{
    return &locate->counters;
}
