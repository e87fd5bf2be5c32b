/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What other threads ask. They take the lock to copy and make nothing of it there.
 */

#include <stdlib.h>

#include "base/mem.h"
#include "node/network_priv.h"

/* More than were there a moment ago: some may have joined since. */
#define MEMBERS_SPARE 64u

struct copy {
    struct member_info *members;
    size_t room;
    size_t count;
    int64_t wall_offset_us;
};

static bool copy_member(void *context, const struct cluster_member *member)
{
    struct copy *copy = context;
    if (copy->count < copy->room) {
        member_info_init(&copy->members[copy->count], member, copy->wall_offset_us);
    }
    copy->count++;
    return true;
}

size_t network_members(struct network *network, struct member_info **ret_members)
{
    struct copy copy = {.room = MEMBERS_SPARE};
    for (;;) {
        copy.members = mem_alloc_array(copy.room, sizeof *copy.members);
        copy.count = 0;
        pthread_mutex_lock(&network->lock);
        copy.wall_offset_us = network->wall_offset_us;
        cluster_walk(network->cluster, copy_member, &copy);
        pthread_mutex_unlock(&network->lock);
        if (copy.count <= copy.room) {
            break;
        }
        free(copy.members);
        copy.room = copy.count + MEMBERS_SPARE;
    }
    *ret_members = copy.members;
    return copy.count;
}

struct writer {
    const struct origin_id *origin;
    char *name;         /* NULL: not asked for */
    struct node_id *id; /* likewise */
    bool is_found;
};

static bool look_at_writer(void *context, const struct cluster_member *member)
{
    struct writer *writer = context;
    const struct bytes name = member->record.name;
    writer->is_found = origin_id_is_of(writer->origin, &member->record.id);
    if (writer->is_found && writer->id) {
        *writer->id = member->record.id;
    }
    if (writer->is_found && writer->name) {
        memcpy(writer->name, name.data, name.size);
        writer->name[name.size] = 0;
    }
    return !writer->is_found;
}

bool network_writer(struct network *network, const struct origin_id *origin, struct node_id *ret_id)
{
    struct cluster_member member;
    pthread_mutex_lock(&network->lock);
    bool is_found = network->has_writer && origin_id_equal(&network->writer_origin, origin) &&
                    cluster_find(network->cluster, &network->writer, &member);
    if (!is_found) {
        struct writer writer = {.origin = origin, .id = &network->writer};
        cluster_walk(network->cluster, look_at_writer, &writer);
        is_found = writer.is_found;
        network->has_writer = is_found;
        network->writer_origin = *origin;
    }
    if (is_found) {
        *ret_id = network->writer;
    }
    pthread_mutex_unlock(&network->lock);
    return is_found;
}

bool network_writer_name(struct network *network, const struct origin_id *origin,
                         char ret_name[MEMBER_NAME_BYTES_MAX + 1])
{
    struct writer writer = {.origin = origin, .name = ret_name};
    pthread_mutex_lock(&network->lock);
    cluster_walk(network->cluster, look_at_writer, &writer);
    pthread_mutex_unlock(&network->lock);
    return writer.is_found;
}

static bool tells_our_list(const struct network *network, const struct told *told)
{
    return told->digests.members == cluster_digest(network->cluster);
}

static bool tells_our_tree(const struct network *network, const struct told *told)
{
    return told->digests.vector == network->own.vector && told->digests.tree == network->own.tree;
}

static bool agrees(const struct network *network, uint64_t now_us,
                   bool (*is_ours)(const struct network *network, const struct told *told))
{
    for (size_t i = 0; i < TOLD_MAX; i++) {
        const struct told *told = &network->told[i];
        struct cluster_member member;
        if (told->at_us == 0 || now_us - told->at_us > NETWORK_AGREE_MS * (uint64_t)1000 ||
            is_ours(network, told)) {
            continue;
        }
        /* One that has gone since does not count. */
        if (cluster_find(network->cluster, &told->id, &member) &&
            member.record.version.status == MEMBER_ALIVE) {
            return false;
        }
    }
    return true;
}

static bool has_been_told_our_tree(const struct network *network, uint64_t now_us)
{
    for (size_t i = 0; i < TOLD_MAX; i++) {
        const struct told *told = &network->told[i];
        if (told->at_us != 0 && now_us - told->at_us <= NETWORK_AGREE_MS * (uint64_t)1000 &&
            tells_our_tree(network, told)) {
            return true;
        }
    }
    return false;
}

bool network_is_settled(void *context)
{
    struct network *network = context;
    const uint64_t now_us = network_now_us();
    pthread_mutex_lock(&network->lock);
    const bool is_settled =
        has_been_told_our_tree(network, now_us) && agrees(network, now_us, tells_our_tree);
    pthread_mutex_unlock(&network->lock);
    return is_settled;
}

void network_summarise(struct network *network, struct network_summary *ret_summary)
{
    pthread_mutex_lock(&network->lock);
    const bool is_isolated = cluster_is_isolated(network->cluster);
    *ret_summary = (struct network_summary){
        .alive_count = cluster_count(network->cluster, MEMBER_ALIVE),
        .unreachable_count = cluster_count(network->cluster, MEMBER_UNREACHABLE),
        .left_count = cluster_count(network->cluster, MEMBER_LEFT),
        .is_isolated = is_isolated,
        .agrees = !is_isolated && agrees(network, network_now_us(), tells_our_list),
        .trees_agree = !is_isolated && agrees(network, network_now_us(), tells_our_tree),
    };
    pthread_mutex_unlock(&network->lock);
}

const struct member_events *network_events(const struct network *network)
{
    return network->events;
}

void network_listen(struct network *network, void (*changed)(void *context), void *context)
{
    pthread_mutex_lock(&network->listen_lock);
    network->changed = changed;
    network->changed_context = context;
    pthread_mutex_unlock(&network->listen_lock);
}

void network_read_counters(struct network *network, struct network_counters *ret_counters)
{
    *ret_counters = (struct network_counters){
        .messages_dropped = inbox_dropped(network->inbox),
        .broadcasts_dropped = inbox_dropped(network->outbox),
        .saves = network->saves,
        .saves_failed = network->saves_failed,
    };
    pthread_mutex_lock(&network->lock);
    ret_counters->cluster = *cluster_counters(network->cluster);
    pthread_mutex_unlock(&network->lock);
    udp_read_counters(network->udp, &ret_counters->udp);
    link_read_counters(network->link, &ret_counters->link);
}
