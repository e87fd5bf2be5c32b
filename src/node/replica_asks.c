/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who waits for others: until they have an op, or for what they say of their trees. Other threads
 * put what they ask on a list; the replica's thread takes it from there, so that no answer comes
 * before the call returns. How many may wait is the affair of those who ask: each holds a request.
 */

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "base/map.h"
#include "node/network_priv.h"
#include "node/replica_priv.h"

/* Asked at once; when all of them have answered, or after a while, so many others. */
#define ASK_AT_ONCE 64u
#define ASK_MORE_US 250000u

/* ---- from any thread ---------------------------------------------------------------------------
 */

void replica_await(struct replica *replica, const struct dot *dot, size_t count, uint64_t wait_ms,
                   replica_awaited_fn done, void *context)
{
    struct replica_await *await = mem_alloc(sizeof *await);
    *await = (struct replica_await){
        .dot = *dot,
        .count = count,
        .wait_ms = wait_ms < REPLICA_AWAIT_MS_MAX ? wait_ms : REPLICA_AWAIT_MS_MAX,
        .done = done,
        .context = context,
    };
    pthread_mutex_lock(&replica->lock);
    LL_PREPEND(replica->new_awaits, await);
    pthread_mutex_unlock(&replica->lock);
    replica_wake(replica);
}

void replica_ask_all(struct replica *replica, uint64_t wait_ms, replica_asked_fn done,
                     void *context)
{
    struct replica_ask *ask = mem_alloc(sizeof *ask);
    ask->done = done;
    ask->context = context;
    ask->wait_ms = wait_ms < REPLICA_AWAIT_MS_MAX ? wait_ms : REPLICA_AWAIT_MS_MAX;
    pthread_mutex_lock(&replica->lock);
    LL_PREPEND(replica->new_asks, ask);
    pthread_mutex_unlock(&replica->lock);
    replica_wake(replica);
}

/* ---- waiting for an op -------------------------------------------------------------------------
 */

static void begin_awaits(struct replica *replica, struct replica_await *awaits, uint64_t now_us)
{
    struct replica_await *await;
    struct replica_await *next;
    LL_FOREACH_SAFE(awaits, await, next)
    {
        await->number = replica->next_number++;
        HASH_ADD(hh, replica->awaits, number, sizeof await->number, await);
        tree_sync_await(replica->sync, now_us, &await->dot, await->count,
                        now_us + await->wait_ms * 1000, await->number);
    }
}

void replica_answer_await(struct replica *replica, uint64_t number, size_t count)
{
    struct replica_await *await = NULL;
    HASH_FIND(hh, replica->awaits, &number, sizeof number, await);
    if (await) {
        HASH_DEL(replica->awaits, await);
        await->done(await->context, count);
        free(await);
    }
}

/* ---- asking all --------------------------------------------------------------------------------
 */

static int order_members(const void *left, const void *right)
{
    const struct replica_member *a = left;
    const struct replica_member *b = right;
    return node_id_compare(&a->id, &b->id);
}

/* In the order of ids, as network_members() has them. */
static void find_members(struct replica *replica, struct replica_ask *ask)
{
    struct member_info *members = NULL;
    const size_t count = network_members(replica->network, &members);
    ask->members = mem_alloc_array(count + 1, sizeof *ask->members);
    for (size_t i = 0; i < count; i++) {
        if (!members[i].is_self && members[i].version.status == MEMBER_ALIVE) {
            ask->members[ask->members_count++].id = members[i].id;
        }
    }
    free(members);
}

static void begin_asks(struct replica *replica, struct replica_ask *asks, uint64_t now_us)
{
    struct replica_ask *ask;
    struct replica_ask *next;
    LL_FOREACH_SAFE(asks, ask, next)
    {
        ask->number = replica->next_number++;
        ask->deadline_us = now_us + ask->wait_ms * 1000;
        find_members(replica, ask);
        LL_PREPEND(replica->asks, ask);
    }
}

/* Others can be asked. */
static bool has_room(const struct replica_ask *ask)
{
    return ask->asked_count < ask->members_count &&
           ask->asked_count - ask->answered_count < ask->window;
}

static void ask_more(struct replica *replica, struct replica_ask *ask, uint64_t now_us)
{
    if (now_us >= ask->more_us) { /* the silent ones hold nobody up */
        ask->more_us = now_us + ASK_MORE_US;
        ask->window += ASK_AT_ONCE;
    }
    while (has_room(ask)) {
        tree_sync_ask(replica->sync, now_us, &ask->members[ask->asked_count++].id, ask->number);
    }
}

static void read_own(struct replica *replica, struct tree_sync_state *ret_own)
{
    struct tree_summary summary = {0};
    struct kv_txn *txn = NULL;
    *ret_own = (struct tree_sync_state){0};
    if (node_snapshot(replica->node, &txn) == 0 &&
        tree_summary(node_tree(replica->node), txn, &summary) == 0) {
        ret_own->vector_sum = summary.vector_sum;
        memcpy(ret_own->fingerprint, summary.fingerprint, sizeof ret_own->fingerprint);
        ret_own->ops_count = summary.ops_count;
        ret_own->entries_count = summary.entries_count;
    }
    kv_abort(txn);
}

static void end_ask(struct replica *replica, struct replica_ask *ask)
{
    struct tree_sync_state own;
    read_own(replica, &own);
    ask->done(ask->context, &own, ask->members, ask->members_count);
    free(ask->members);
    free(ask);
}

void replica_answer_ask(struct replica *replica, uint64_t number, const struct node_id *member,
                        const struct tree_sync_state *state)
{
    struct replica_ask *ask;
    LL_FOREACH(replica->asks, ask)
    {
        if (ask->number != number) {
            continue;
        }
        const struct replica_member key = {.id = *member};
        struct replica_member *found =
            bsearch(&key, ask->members, ask->members_count, sizeof *ask->members, order_members);
        if (found && !found->has_answered) {
            found->has_answered = true;
            found->state = *state;
            ask->answered_count++;
        }
        return;
    }
}

/* ---- what is due -------------------------------------------------------------------------------
 */

void replica_asks_due(struct replica *replica, uint64_t now_us)
{
    pthread_mutex_lock(&replica->lock);
    struct replica_await *new_awaits = STEAL_PTR(replica->new_awaits);
    struct replica_ask *new_asks = STEAL_PTR(replica->new_asks);
    pthread_mutex_unlock(&replica->lock);
    begin_awaits(replica, new_awaits, now_us);
    begin_asks(replica, new_asks, now_us);
    struct replica_ask *ask;
    struct replica_ask *next;
    LL_FOREACH_SAFE(replica->asks, ask, next)
    {
        ask_more(replica, ask, now_us);
        if (ask->answered_count == ask->members_count || now_us >= ask->deadline_us) {
            LL_DELETE(replica->asks, ask);
            end_ask(replica, ask);
        }
    }
}

uint64_t replica_asks_next_us(const struct replica *replica)
{
    uint64_t next_us = UINT64_MAX;
    const struct replica_ask *ask;
    LL_FOREACH(replica->asks, ask)
    {
        const uint64_t due_us =
            ask->answered_count == ask->members_count ? 0
            : ask->asked_count == ask->members_count || ask->deadline_us < ask->more_us
                ? ask->deadline_us
            : has_room(ask) ? 0
                            : ask->more_us;
        next_us = due_us < next_us ? due_us : next_us;
    }
    return next_us;
}

void replica_asks_end(struct replica *replica)
{
    pthread_mutex_lock(&replica->lock);
    struct replica_await *new_awaits = STEAL_PTR(replica->new_awaits);
    struct replica_ask *new_asks = STEAL_PTR(replica->new_asks);
    pthread_mutex_unlock(&replica->lock);
    struct replica_await *await;
    struct replica_await *next_await;
    LL_FOREACH_SAFE(new_awaits, await, next_await)
    {
        await->done(await->context, 0);
        free(await);
    }
    HASH_ITER(hh, replica->awaits, await, next_await)
    {
        replica_answer_await(replica, await->number, 0);
    }
    LL_CONCAT(replica->asks, new_asks);
    struct replica_ask *ask;
    struct replica_ask *next_ask;
    LL_FOREACH_SAFE(replica->asks, ask, next_ask)
    {
        end_ask(replica, ask);
    }
    replica->asks = NULL;
}
