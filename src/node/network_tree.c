/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the replica and the fetch ask of the network. Their threads take the lock for a moment; what
 * only the core thread may do goes there by a bounded queue.
 */

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "link/message.h"
#include "node/network_priv.h"

void network_broadcast(struct network *network, enum datagram_payload kind, struct bytes payload)
{
    if (inbox_put(network->outbox, (uint8_t)kind, node_identity(network->node), payload)) {
        uv_async_send(&network->wake);
    }
}

bool network_find_address(struct network *network, const struct node_id *id,
                          struct address *ret_address)
{
    struct cluster_member member;
    pthread_mutex_lock(&network->lock);
    const bool is_known = cluster_find(network->cluster, id, &member);
    if (is_known) {
        *ret_address = member.record.address;
    }
    pthread_mutex_unlock(&network->lock);
    return is_known;
}

void network_send(struct network *network, uint8_t service, const struct node_id *to,
                  struct bytes bytes)
{
    struct link_message message = {.peer = *to, .service = service, .bytes = bytes};
    if (!network_find_address(network, to, &message.address)) {
        return;
    }
    const int err = link_send_message(network->link, &message);
    if (err) {
        log_debug("message_dropped", KV("service", (uint64_t)service), KV("error", err_name(err)));
    }
}

bool network_knows(struct network *network, const struct node_id *id)
{
    struct address address;
    return network_find_address(network, id, &address);
}

struct peers {
    const char *zone;
    struct network_peer *peers;
    size_t count;
    size_t capacity;
};

static bool add_peer(void *context, const struct cluster_member *member)
{
    struct peers *peers = context;
    if (member->is_self) {
        return true;
    }
    if (peers->count == peers->capacity) {
        peers->capacity = peers->capacity > 0 ? 2 * peers->capacity : 64;
        peers->peers = mem_resize_array(peers->peers, peers->capacity, sizeof *peers->peers);
    }
    peers->peers[peers->count++] = (struct network_peer){
        .id = member->record.id,
        .boot_nonce = member->record.version.boot_nonce,
        .is_alive = member->record.version.status == MEMBER_ALIVE,
        .in_ring = member->in_ring,
        .is_near = bytes_equal(member->record.zone, bytes_of_string(peers->zone)),
    };
    return true;
}

uint64_t network_change_count(struct network *network)
{
    pthread_mutex_lock(&network->lock);
    const uint64_t count = cluster_change_count(network->cluster);
    pthread_mutex_unlock(&network->lock);
    return count;
}

size_t network_peers(struct network *network, struct network_peer **ret_peers, uint64_t *ret_change)
{
    struct peers peers = {.zone = node_zone(network->node)};
    pthread_mutex_lock(&network->lock);
    cluster_walk(network->cluster, add_peer, &peers);
    *ret_change = cluster_change_count(network->cluster);
    pthread_mutex_unlock(&network->lock);
    *ret_peers = peers.peers;
    return peers.count;
}

struct pick {
    struct random *random;
    size_t seen_count;
    struct node_id picked;
};

/* Each of those seen so far is the one with the same chance (Vitter 1985, algorithm R). */
static bool consider(void *context, const struct cluster_member *member)
{
    struct pick *pick = context;
    if (!member->is_self && member->record.version.status == MEMBER_ALIVE) {
        pick->seen_count++;
        if (random_below(pick->random, pick->seen_count) == 0) {
            pick->picked = member->record.id;
        }
    }
    return true;
}

bool network_pick(struct network *network, struct random *random, struct node_id *ret_member)
{
    struct pick pick = {.random = random};
    pthread_mutex_lock(&network->lock);
    cluster_walk(network->cluster, consider, &pick);
    pthread_mutex_unlock(&network->lock);
    if (pick.seen_count > 0) {
        *ret_member = pick.picked;
    }
    return pick.seen_count > 0;
}

void network_set_digests(struct network *network, uint64_t vector, uint64_t tree)
{
    pthread_mutex_lock(&network->lock);
    network->own.vector = vector;
    network->own.tree = tree;
    cluster_set_digests(network->cluster, vector, tree);
    pthread_mutex_unlock(&network->lock);
}
