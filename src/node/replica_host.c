/* SPDX-License-Identifier: Apache-2.0 */

/* What tree_sync asks of its host, on the replica's thread. */

#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "node/network_priv.h"
#include "node/replica_priv.h"

/* A peer that sends nonsense does so often: more lines in this time are only counted. */
#define LOG_WINDOW_US ((uint64_t)60 * 1000 * 1000)
#define LOG_LINES_MAX 20u

/* ---- the network -------------------------------------------------------------------------------
 */

static void host_broadcast(void *context, struct bytes payload)
{
    struct replica *replica = context;
    network_broadcast(replica->network, DATAGRAM_PAYLOAD_TREE, payload);
}

static void host_send(void *context, const struct node_id *to, struct bytes message)
{
    struct replica *replica = context;
    network_send(replica->network, SERVICE_TREE, to, message);
}

static bool host_pick(void *context, struct node_id *ret_member)
{
    struct replica *replica = context;
    return network_pick(replica->network, &replica->random, ret_member);
}

static void host_digests(void *context, uint64_t vector, uint64_t tree)
{
    struct replica *replica = context;
    network_set_digests(replica->network, vector, tree);
}

/* ---- the tree ----------------------------------------------------------------------------------
 */

static int host_read(void *context, struct kv_txn **ret_txn)
{
    struct replica *replica = context;
    return node_snapshot(replica->node, ret_txn);
}

static int host_write(void *context, int (*job)(void *job_context, struct kv_txn *txn),
                      void *job_context)
{
    struct replica *replica = context;
    return node_write(replica->node, job, job_context);
}

/* ---- what happened -----------------------------------------------------------------------------
 */

static bool may_log(struct replica *replica)
{
    const uint64_t now_us = network_now_us();
    if (now_us - replica->log_window_us >= LOG_WINDOW_US) {
        if (replica->log_lines > LOG_LINES_MAX) {
            log_warn("more_tree_events", KV("not_logged", replica->log_lines - LOG_LINES_MAX));
        }
        replica->log_window_us = now_us;
        replica->log_lines = 0;
    }
    return ++replica->log_lines <= LOG_LINES_MAX;
}

static void log_about(struct replica *replica, enum log_level level, const char *name,
                      const struct tree_sync_event *event)
{
    if (!may_log(replica)) {
        return;
    }
    static const struct node_id nobody = {0};
    char member[NODE_ID_HEX_CHARS + 1];
    node_id_format(&event->member, member);
    const bool has_member = !node_id_equal(&event->member, &nobody);
    const struct log_field fields[] = {
        KV("member", has_member ? (const char *)member : NULL),
        KV("error", event->err ? err_name(event->err) : NULL),
        LOG_FIELDS_END,
    };
    log_emit(level, name, fields);
}

static void host_event(void *context, const struct tree_sync_event *event)
{
    struct replica *replica = context;
    switch (event->kind) {
    case TREE_SYNC_APPLIED:
        break;
    case TREE_SYNC_AWAITED:
        replica_answer_await(replica, event->number, event->count);
        break;
    case TREE_SYNC_STATE:
        replica_answer_ask(replica, event->number, &event->member, &event->state);
        break;
    case TREE_SYNC_FORK:
        log_about(replica, LOG_WARN, "tree_log_forked", event);
        break;
    case TREE_SYNC_REFUSED:
        log_about(replica, LOG_WARN, "tree_message_refused", event);
        break;
    case TREE_SYNC_DIVERGED:
        log_about(replica, LOG_ERROR, "tree_diverged", event);
        break;
    case TREE_SYNC_MERGE_BEGUN:
        log_about(replica, LOG_INFO, "tree_merge_begun", event);
        break;
    case TREE_SYNC_MERGE_DONE:
        log_about(replica, LOG_INFO, "tree_merge_done", event);
        break;
    case TREE_SYNC_FAILED:
        log_about(replica, LOG_WARN, "tree_sync_failed", event);
        break;
    }
}

struct tree_sync_host replica_host(struct replica *replica)
{
    return (struct tree_sync_host){
        .broadcast = host_broadcast,
        .send = host_send,
        .pick = host_pick,
        .read = host_read,
        .write = host_write,
        .spool = replica_spool,
        .spool_read = replica_spool_read,
        .spool_drop = replica_spool_drop,
        .inbox_open = replica_arrival_open,
        .inbox_append = replica_arrival_append,
        .inbox_read = replica_arrival_read,
        .inbox_find = replica_arrival_find,
        .inbox_drop = replica_arrival_drop,
        .digests = host_digests,
        .event = host_event,
        .context = replica,
    };
}
