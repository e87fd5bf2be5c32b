/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Logs as a peer has them that are none of ours: what it sent of them was refused, or forks. To
 * pull them again at once would end in the same way, and never end; so such a log is not asked for
 * of that peer for a while, and of nobody else is it held against: whoever forges the log of
 * another can't keep it from us.
 */

#include <stdlib.h>

#include "base/map.h"
#include "tree/sync_priv.h"

/* The first pause; each refusal behind it doubles it. What made us refuse may pass: a lamport that
 * jumps does when what is between has come. */
#define PAUSE_US_MIN (10 * SECOND)
#define PAUSE_US_MAX (600 * SECOND)
/* Beyond, the oldest is forgotten, and pulled once more. */
#define REFUSALS_MAX 1024u

struct refusal_key {
    struct node_id peer;
    struct origin_id origin;
};

struct refusal {
    struct refusal_key key;
    uint64_t seq; /* of the first op that was refused */
    uint64_t until_us;
    uint64_t pause_us;
    UT_hash_handle hh;
};

static struct refusal *find(const struct tree_sync *sync, const struct node_id *peer,
                            const struct origin_id *origin)
{
    const struct refusal_key key = {*peer, *origin};
    struct refusal *refusal = NULL;
    HASH_FIND(hh, sync->refusals, &key, sizeof key, refusal);
    return refusal;
}

static void forget(struct tree_sync *sync, struct refusal *refusal)
{
    HASH_DEL(sync->refusals, refusal);
    free(refusal);
}

bool refused_note(struct tree_sync *sync, const struct node_id *peer, const struct dot *dot)
{
    struct refusal *refusal = find(sync, peer, &dot->origin);
    if (refusal && sync->now_us < refusal->until_us) {
        refusal->seq = dot->seq < refusal->seq ? dot->seq : refusal->seq;
        return false;
    }
    if (!refusal) {
        if (HASH_COUNT(sync->refusals) == REFUSALS_MAX) {
            forget(sync, sync->refusals);
        }
        refusal = mem_alloc(sizeof *refusal);
        *refusal = (struct refusal){.key = {*peer, dot->origin}, .pause_us = PAUSE_US_MIN};
        HASH_ADD(hh, sync->refusals, key, sizeof refusal->key, refusal);
    } else {
        refusal->pause_us =
            refusal->pause_us < PAUSE_US_MAX / 2 ? 2 * refusal->pause_us : PAUSE_US_MAX;
    }
    refusal->seq = dot->seq;
    refusal->until_us = sync->now_us + refusal->pause_us;
    return true;
}

bool refused_is(const struct tree_sync *sync, const struct node_id *peer,
                const struct origin_id *origin)
{
    const struct refusal *refusal = find(sync, peer, origin);
    return refusal && sync->now_us < refusal->until_us;
}

bool refused_is_behind(const struct tree_sync *sync, const struct node_id *peer,
                       const struct dot *dot)
{
    const struct refusal *refusal = find(sync, peer, &dot->origin);
    return refusal && sync->now_us < refusal->until_us && dot->seq > refusal->seq;
}

void refused_was_applied(struct tree_sync *sync, const struct node_id *peer,
                         const struct origin_id *origin)
{
    struct refusal *refusal = find(sync, peer, origin);
    if (refusal) {
        forget(sync, refusal);
    }
}

void refused_done(struct tree_sync *sync)
{
    while (sync->refusals) {
        forget(sync, sync->refusals);
    }
}
