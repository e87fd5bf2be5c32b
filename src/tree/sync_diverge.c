/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Equal vectors and unequal trees must not be: an op was applied otherwise here than there, or a
 * disk has decayed. It is told, and what can be mended is: a sum that is not that of the rows, by
 * counting; rows that differ, by a merge in which both keep all. If that does not help, or a peer
 * only says so, it is told again and again, and tried less and less often.
 */

#include "tree/sync_priv.h"

/* Told at least twice, so far apart: no moment between two writes. */
#define DIVERGES_US (1 * SECOND)
/* Told again of a peer with which it lasts. */
#define ALARM_US (600 * SECOND)
/* Between two repairs; each that comes soon after another doubles it. */
#define REPAIR_US_MIN (30 * SECOND)
#define REPAIR_US_MAX (3600 * SECOND)

static int mend(void *context, struct kv_txn *txn)
{
    const struct tree_sync *sync = context;
    return tree_miscount_mend(sync->tree, txn, &sync->miscount);
}

/* Makes our sum that of our rows. */
static int mend_sum(struct tree_sync *sync)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = sync->host.read(sync->host.context, &txn);
    if (!err) {
        err = tree_miscount(sync->tree, txn, &sync->miscount);
    }
    kv_abort(STEAL_PTR(txn));
    if (err || tree_miscount_is_none(&sync->miscount)) {
        return err;
    }
    err = sync->host.write(sync->host.context, mend, sync);
    if (!err) {
        sync_advanced(sync);
    }
    return err;
}

static void repair(struct tree_sync *sync, struct sync_peer *peer)
{
    const uint64_t since_us = sync->now_us - sync->repaired_us;
    const uint64_t pause_us = sync->repair_pause_us;
    if (pause_us == 0 || since_us >= 4 * pause_us) {
        sync->repair_pause_us = REPAIR_US_MIN;
    } else {
        sync->repair_pause_us = pause_us < REPAIR_US_MAX / 2 ? 2 * pause_us : REPAIR_US_MAX;
    }
    sync->repaired_us = sync->now_us;
    peer->diverges_us = 0;
    const int err = mend_sum(sync);
    if (err) {
        sync_failed(sync, err);
    } else if (peer->tree_sum != sync->own.tree_sum) {
        snapshot_fetch(sync, &peer->id, TREE_MERGE_UNION);
    }
}

void diverge_look(struct tree_sync *sync, struct sync_peer *peer)
{
    if (peer->tree_sum == sync->own.tree_sum || sync->own.is_merging || sync->own.vector_sum == 0) {
        peer->diverges_us = 0;
        return;
    }
    if (peer->diverges_us == 0) {
        peer->diverges_us = sync->now_us;
        return;
    }
    if (sync->now_us - peer->diverges_us < DIVERGES_US || sync->fetch.state != FETCH_NONE) {
        return;
    }
    if (sync->now_us >= peer->alarm_us) {
        peer->alarm_us = sync->now_us + ALARM_US;
        sync->counters.divergences++;
        sync_event(sync, TREE_SYNC_DIVERGED, &peer->id, 0);
    }
    if (sync->now_us >= sync->fetch.not_before_us && sync->now_us >= sync->retry_us &&
        sync->now_us - sync->repaired_us >= sync->repair_pause_us) {
        repair(sync, peer);
    }
}
