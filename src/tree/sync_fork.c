/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A log that went two ways: a data directory was copied and put back, and the node went on with a
 * log of which others have more. New logs after a start are there to prevent it (sync_spread.c); if
 * it happens anyhow, the maker gives way. It makes the changes that only it knows again in a new
 * log, and takes a snapshot of another node in place of what its own log did.
 *
 * Who is not the maker refuses what does not continue the log that it has, counts it, and tells the
 * one who sent it.
 */

#include <stdlib.h>

#include "base/mem.h"
#include "tree/sync_priv.h"

struct give_way {
    struct tree_sync *sync;
    struct dot from;
    struct origin_id fresh;
};

static int give_way(void *context, struct kv_txn *txn)
{
    const struct give_way *job = context;
    const int err = tree_renew_origin(job->sync->tree, txn, &job->fresh);
    return err ? err : tree_issue_again(job->sync->tree, txn, &job->from);
}

/* Ours is another log than `peer`'s from `from` on. */
static void own_log_forked(struct tree_sync *sync, const struct node_id *peer,
                           const struct dot *from)
{
    struct give_way job = {.sync = sync, .from = *from};
    random_fill(&sync->random, &job.fresh, sizeof job.fresh);
    const int err = sync->host.write(sync->host.context, give_way, &job);
    if (err) {
        sync_failed(sync, err);
        return;
    }
    sync->counters.origins_renewed++;
    sync->must_renew = false;
    sync->has_forked = true;
    sync->fork = from->origin;
    sync_event(sync, TREE_SYNC_FORK, peer, 1);
    sync_advanced(sync);
    spread_due(sync);
    snapshot_fetch(sync, peer, TREE_MERGE_ADOPT);
}

static bool is_own_log(const struct tree_sync *sync, const struct origin_id *origin)
{
    return origin_id_equal(origin, &sync->own.origin);
}

static bool may_have_forked(const struct tree_sync *sync, const struct origin_id *origin)
{
    return sync->may_fork && origin_id_equal(origin, &sync->first_origin);
}

void fork_found(struct tree_sync *sync, const struct node_id *from, const struct dot *dot)
{
    if (is_own_log(sync, &dot->origin) && may_have_forked(sync, &dot->origin)) {
        own_log_forked(sync, from, dot);
        return;
    }
    sync_event(sync, TREE_SYNC_FORK, from, 1);
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct vector_entry entry = {.seq = 0};
    if (sync->host.read(sync->host.context, &txn) != 0 ||
        tree_vector_get(sync->tree, txn, &dot->origin, &entry) != 0) {
        return;
    }
    const struct tree_message forked = {
        .type = TREE_MESSAGE_FORKED,
        .dot = {dot->origin, entry.seq},
        .id = entry.hash,
    };
    sync_send_message(sync, from, &forked);
}

/* Asks for all of our log that the peer has: the first op that is not ours tells where they part.
 */
static void look_closer(struct tree_sync *sync, const struct node_id *peer, uint64_t their_seq)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    const struct tree_message want = {.type = TREE_MESSAGE_WANT};
    tree_message_format(&want, &bytes);
    const struct tree_message_lack lack = {sync->own.origin, 0, their_seq};
    tree_message_put_lack(&bytes, &lack);
    sync_send(sync, peer, buf_bytes(&bytes));
}

void fork_received(struct tree_sync *sync, const struct node_id *from,
                   const struct tree_message *forked)
{
    if (!is_own_log(sync, &forked->dot.origin) ||
        (forked->dot.seq == sync->own.seq && id_equal(&forked->id, &sync->own.hash))) {
        return;
    }
    if (sync->must_renew) {
        sync->claim = CLAIM_LOST; /* the next local change begins a new log */
        return;
    }
    if (may_have_forked(sync, &forked->dot.origin)) {
        look_closer(sync, from, forked->dot.seq);
    }
}

void fork_compare(struct tree_sync *sync, const struct node_id *peer,
                  const struct tree_message_entry *entry)
{
    if (!is_own_log(sync, &entry->origin)) {
        return;
    }
    const bool is_same_op = entry->seq == sync->own.seq;
    const bool has_other = is_same_op && entry->hash_head != codec_get_le64(sync->own.hash.bytes);
    if (entry->seq > sync->own.seq || has_other) {
        if (sync->must_renew) {
            sync->claim = CLAIM_LOST;
        } else if (may_have_forked(sync, &entry->origin)) {
            look_closer(sync, peer, entry->seq);
        }
    }
}
