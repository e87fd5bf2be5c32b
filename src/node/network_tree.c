/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the replica asks of the network. Its thread takes the lock for a moment; what only the core
 * thread may do goes there by a bounded queue.
 */

#include "base/err.h"
#include "base/log.h"
#include "base/random.h"
#include "link/message.h"
#include "node/network_priv.h"

void network_broadcast(struct network *network, struct bytes payload)
{
    if (inbox_put(network->outbox, DATAGRAM_PAYLOAD_TREE, node_identity(network->node), payload)) {
        uv_async_send(&network->wake);
    }
}

void network_send(struct network *network, const struct node_id *to, struct bytes bytes)
{
    struct cluster_member member;
    struct address address = {0};
    pthread_mutex_lock(&network->lock);
    const bool is_known = cluster_find(network->cluster, to, &member);
    if (is_known) {
        address = member.record.address;
    }
    pthread_mutex_unlock(&network->lock);
    if (!is_known) {
        return;
    }
    const struct link_message message = {
        .peer = *to,
        .address = address,
        .service = SERVICE_TREE,
        .bytes = bytes,
    };
    const int err = link_send_message(network->link, &message);
    if (err) {
        log_debug("tree_message_dropped", KV("error", err_name(err)));
    }
}

bool network_knows(struct network *network, const struct node_id *id)
{
    struct cluster_member member;
    pthread_mutex_lock(&network->lock);
    const bool is_known = cluster_find(network->cluster, id, &member);
    pthread_mutex_unlock(&network->lock);
    return is_known;
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
