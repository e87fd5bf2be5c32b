/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Ops that came. All that has arrived since the last time is applied in one transaction. An op
 * whose cause is lacking waits at the gate of that cause; when the cause is applied, in the same
 * transaction if it can be, its turn comes. If the cause does not come by itself, it is asked for.
 */

#include <stdlib.h>

#include "base/mem.h"
#include "tree/sync_priv.h"

/* Broadcasts overtake each other; a cause that is only late is not asked for. */
#define EARLY_PATIENCE_US (100 * MS)
/* Asked for again after so long, and given up after so long: comparing vectors finds what is left.
 */
#define EARLY_AGAIN_US (2 * SECOND)
#define EARLY_US_MAX (30 * SECOND)
/* Gates whose causes are asked for at a time. */
#define EARLY_ASKS_MAX 64u
/* Times that one transaction goes through what did not have its turn yet. */
#define PASSES_MAX 16u

void arrive(struct tree_sync *sync, const struct node_id *from, struct bytes op, bool is_sent)
{
    if (sync->own.is_merging) {
        sync->counters.ops_dropped++; /* the snapshot has it, or it is pulled afterwards */
        return;
    }
    if (sync->incoming_count == sync->incoming_capacity) {
        sync->incoming_capacity = sync->incoming_capacity ? 2 * sync->incoming_capacity : 16;
        sync->incoming =
            mem_resize_array(sync->incoming, sync->incoming_capacity, sizeof(struct arrived *));
    }
    struct arrived *arrived = mem_alloc(sizeof *arrived + op.size);
    arrived->from = *from;
    arrived->is_sent = is_sent;
    arrived->size = op.size;
    memcpy(arrived->bytes, op.data, op.size);
    sync->incoming[sync->incoming_count++] = arrived;
}

/* ---- the tables of early ops ------------------------------------------------------------------
 */

static void leave_gate(struct tree_sync *sync, struct arrived *arrived)
{
    struct gate *gate = NULL;
    HASH_FIND(hh, sync->gates, &arrived->missing, sizeof arrived->missing, gate);
    CHECK(gate);
    struct arrived **at = &gate->first;
    while (*at != arrived) {
        at = &(*at)->next;
    }
    *at = arrived->next;
    arrived->next = NULL;
    if (!gate->first) {
        HASH_DEL(sync->gates, gate);
        free(gate);
    }
}

static void enter_gate(struct tree_sync *sync, struct arrived *arrived)
{
    struct gate *gate = NULL;
    HASH_FIND(hh, sync->gates, &arrived->missing, sizeof arrived->missing, gate);
    if (!gate) {
        gate = mem_alloc(sizeof *gate);
        gate->missing = arrived->missing;
        HASH_ADD(hh, sync->gates, missing, sizeof gate->missing, gate);
    }
    arrived->next = gate->first;
    gate->first = arrived;
}

static void forget_early(struct tree_sync *sync, struct arrived *arrived)
{
    leave_gate(sync, arrived);
    HASH_DEL(sync->early, arrived);
    sync->early_bytes -= arrived->size;
    free(arrived);
}

static void keep_early(struct tree_sync *sync, struct arrived *arrived)
{
    struct arrived *other = NULL;
    HASH_FIND(hh, sync->early, &arrived->dot, sizeof arrived->dot, other);
    const bool has_room = HASH_COUNT(sync->early) < TREE_SYNC_EARLY_MAX &&
                          sync->early_bytes + arrived->size <= TREE_SYNC_EARLY_BYTES_MAX;
    const bool is_lost = arrived->is_sent && refused_is_behind(sync, &arrived->from, &arrived->dot);
    if (other || !has_room || is_lost) {
        sync->counters.ops_dropped += !other;
        free(arrived);
        return;
    }
    arrived->is_early = true;
    arrived->since_us = sync->now_us;
    HASH_ADD(hh, sync->early, dot, sizeof arrived->dot, arrived);
    sync->early_bytes += arrived->size;
    enter_gate(sync, arrived);
    const uint64_t due_us = sync->now_us + EARLY_PATIENCE_US;
    sync->early_due_us = due_us < sync->early_due_us ? due_us : sync->early_due_us;
}

/* ---- one transaction --------------------------------------------------------------------------
 */

struct batch {
    struct tree_sync *sync;
    struct arrived **ops;
    size_t count;
    size_t capacity;
    size_t
        incoming_count; /* the first of `ops`; behind them, early ones whose turn may have come */
    unsigned attempt;
};

static void batch_add(struct batch *batch, struct arrived *arrived)
{
    if (batch->count == batch->capacity) {
        batch->capacity = batch->capacity ? 2 * batch->capacity : 16;
        batch->ops = mem_resize_array(batch->ops, batch->capacity, sizeof(struct arrived *));
    }
    arrived->attempt = batch->attempt;
    arrived->verdict = TREE_EARLY;
    batch->ops[batch->count++] = arrived;
}

/* As the op says; causes have lower ones, so that a batch in this order needs one pass as a rule.
 */
static uint64_t lamport_of(const struct arrived *arrived)
{
    struct dot dot;
    uint64_t lamport = 0;
    (void)tree_op_peek(BYTES(arrived->bytes, arrived->size), &dot, &lamport);
    return lamport;
}

static int compare_lamports(const void *left, const void *right)
{
    const struct arrived *const *a = left;
    const struct arrived *const *b = right;
    const uint64_t lamport_a = lamport_of(*a);
    const uint64_t lamport_b = lamport_of(*b);
    return (lamport_a > lamport_b) - (lamport_a < lamport_b);
}

/* Early ops that waited for `dot`. */
static void open_gate(struct batch *batch, const struct dot *dot)
{
    struct gate *gate = NULL;
    HASH_FIND(hh, batch->sync->gates, dot, sizeof *dot, gate);
    for (struct arrived *early = gate ? gate->first : NULL; early; early = early->next) {
        if (early->attempt != batch->attempt) {
            batch_add(batch, early);
        }
    }
}

static int apply_pass(struct batch *batch, struct tree_batch *applying, bool *ret_progress)
{
    for (size_t i = 0; i < batch->count; i++) {
        struct arrived *arrived = batch->ops[i];
        if (arrived->verdict != TREE_EARLY) {
            continue;
        }
        struct tree_remote remote = {0};
        const int err = tree_apply_next(applying, BYTES(arrived->bytes, arrived->size), &remote);
        if (err) {
            return err;
        }
        arrived->verdict = remote.verdict;
        if (!arrived->is_early) {
            arrived->dot = remote.dot;
        }
        arrived->now_missing = remote.missing;
        if (remote.verdict == TREE_APPLIED) {
            *ret_progress = true;
            open_gate(batch, &remote.dot);
        }
    }
    return 0;
}

static int apply_batch(void *context, struct kv_txn *txn)
{
    struct batch *batch = context;
    batch->attempt++;
    batch->count = batch->incoming_count;
    for (size_t i = 0; i < batch->count; i++) {
        batch->ops[i]->attempt = batch->attempt;
        batch->ops[i]->verdict = TREE_EARLY;
    }
    CLEANUP(tree_apply_drop) struct tree_batch *applying = NULL;
    int err = tree_apply_begin(batch->sync->tree, txn, &applying);
    bool has_progress = true;
    for (unsigned pass = 0; !err && has_progress && pass < PASSES_MAX; pass++) {
        has_progress = false;
        err = apply_pass(batch, applying, &has_progress);
    }
    return err ? err : tree_apply_end(STEAL_PTR(applying));
}

/* Early ops of the same log that the same peer sent, behind `dot`: their turn does not come. */
static void forget_behind(struct tree_sync *sync, const struct node_id *peer, struct dot dot)
{
    bool has_one = true;
    for (; has_one; dot.seq++) {
        struct gate *gate = NULL;
        HASH_FIND(hh, sync->gates, &dot, sizeof dot, gate);
        has_one = false;
        for (struct arrived *early = gate ? gate->first : NULL; early && !has_one;) {
            struct arrived *next = early->next;
            const bool is_settled = early->attempt != sync->attempts; /* not in this batch */
            if (is_settled && early->is_sent && node_id_equal(&early->from, peer) &&
                origin_id_equal(&early->dot.origin, &dot.origin)) {
                sync->counters.ops_dropped++;
                forget_early(sync, early);
                has_one = true;
            }
            early = next;
        }
    }
}

/* `from` answers for what it sent itself: more of it would be refused, too. */
static void leave_alone(struct tree_sync *sync, const struct node_id *from, const struct dot *dot)
{
    if (refused_note(sync, from, dot)) {
        pull_drop(sync, from, &dot->origin);
        forget_behind(sync, from, *dot);
    }
}

/* An op that had its turn. True if it was applied. */
static bool settle(struct tree_sync *sync, struct arrived *arrived)
{
    const enum tree_verdict verdict = arrived->verdict;
    const struct node_id from = arrived->from;
    struct dot dot = {.seq = 0};
    uint64_t lamport = 0;
    const bool is_sent =
        arrived->is_sent && tree_op_peek(BYTES(arrived->bytes, arrived->size), &dot, &lamport);
    if (arrived->is_early) {
        forget_early(sync, arrived);
    } else {
        free(arrived);
    }
    switch (verdict) {
    case TREE_APPLIED:
        sync->counters.ops_applied++;
        if (is_sent) {
            pull_moved(sync, &from, &dot.origin);
            refused_was_applied(sync, &from, &dot.origin);
        }
        return true;
    case TREE_KNOWN:
        sync->counters.ops_known++;
        break;
    case TREE_FORKED:
        sync->counters.ops_forked++;
        sync_event(sync, TREE_SYNC_FORK, &from, 1);
        break;
    case TREE_REFUSED:
        sync->counters.ops_refused++;
        sync_event(sync, TREE_SYNC_REFUSED, &from, 1);
        break;
    case TREE_HELD_UP:
        sync->counters.ops_dropped++;
        break;
    case TREE_EARLY:
        break;
    }
    if (is_sent && (verdict == TREE_FORKED || verdict == TREE_REFUSED)) {
        leave_alone(sync, &from, &dot);
    }
    return false;
}

static void forget_all(struct arrived *const *arrived, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(arrived[i]);
    }
}

/* True if what the op misses was applied in the same batch, after its last try. */
static bool has_come(struct tree_sync *sync, struct kv_txn *txn, const struct dot *missing)
{
    return sync_seq_of(sync, txn, &missing->origin) >= missing->seq;
}

/* Where an op goes that did not have its turn. */
static void settle_early(struct tree_sync *sync, struct kv_txn *txn, struct arrived *arrived)
{
    const bool shall_retry = has_come(sync, txn, &arrived->now_missing);
    if (arrived->is_early &&
        (shall_retry || !dot_equal(&arrived->missing, &arrived->now_missing))) {
        leave_gate(sync, arrived);
        arrived->missing = arrived->now_missing;
        enter_gate(sync, arrived);
    }
    if (shall_retry) {
        arrive(sync, &arrived->from, BYTES(arrived->bytes, arrived->size), arrived->is_sent);
        if (arrived->is_early) {
            forget_early(sync, arrived);
        } else {
            free(arrived);
        }
        return;
    }
    if (!arrived->is_early) {
        sync->counters.ops_early++;
        arrived->missing = arrived->now_missing;
        keep_early(sync, arrived);
    }
}

/* After the commit: what became of each op, which is given away here. */
static size_t settle_batch(struct tree_sync *sync, const struct batch *batch)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    const int err = sync->host.read(sync->host.context, &txn);
    size_t applied_count = 0;
    for (size_t i = 0; i < batch->count; i++) {
        struct arrived *arrived = batch->ops[i];
        if (arrived->verdict != TREE_EARLY) {
            applied_count += settle(sync, arrived);
        } else if (!err) {
            settle_early(sync, txn, arrived);
        } else if (!arrived->is_early) {
            free(arrived);
        }
    }
    return applied_count;
}

/* Applies what has come in. False: the disk failed. */
static bool apply_incoming(struct tree_sync *sync, size_t *ret_applied_count)
{
    qsort(sync->incoming, sync->incoming_count, sizeof(struct arrived *), compare_lamports);
    struct batch batch = {
        .sync = sync,
        .ops = sync->incoming,
        .count = sync->incoming_count,
        .capacity = sync->incoming_capacity,
        .incoming_count = sync->incoming_count,
        .attempt = sync->attempts,
    };
    sync->incoming = NULL;
    sync->incoming_count = 0;
    sync->incoming_capacity = 0;
    const int err = sync->host.write(sync->host.context, apply_batch, &batch);
    sync->attempts = batch.attempt;
    if (err) {
        forget_all(batch.ops, batch.incoming_count);
        sync_failed(sync, err);
        pull_stop(sync);
    } else {
        *ret_applied_count = settle_batch(sync, &batch);
    }
    free(batch.ops);
    return !err;
}

void tree_sync_apply(struct tree_sync *sync, uint64_t now_us)
{
    sync->now_us = now_us;
    /* Each further round applied a cause of one more at least. */
    while (sync->incoming_count > 0) {
        size_t applied_count = 0;
        if (!apply_incoming(sync, &applied_count)) {
            return;
        }
        if (applied_count > 0) {
            sync_advanced(sync);
            sync_event(sync, TREE_SYNC_APPLIED, NULL, applied_count);
        }
    }
}

/* All early ops have another try: a snapshot may have brought what they waited for. */
void arrive_again(struct tree_sync *sync)
{
    struct arrived *early;
    struct arrived *next;
    HASH_ITER(hh, sync->early, early, next)
    {
        arrive(sync, &early->from, BYTES(early->bytes, early->size), early->is_sent);
        forget_early(sync, early);
    }
    tree_sync_apply(sync, sync->now_us);
}

/* Asks for the causes of those who have waited long enough, and gives up those who waited too
 * long. */
void arrive_due(struct tree_sync *sync)
{
    if (sync->now_us < sync->early_due_us) {
        return;
    }
    sync->early_due_us = NEVER;
    unsigned asks = 0;
    struct arrived *early;
    struct arrived *next;
    HASH_ITER(hh, sync->early, early, next)
    {
        if (sync->now_us - early->since_us >= EARLY_US_MAX) {
            sync->counters.ops_dropped++;
            forget_early(sync, early);
            continue;
        }
        const uint64_t due_us = early->asked_us ? early->asked_us + EARLY_AGAIN_US
                                                : early->since_us + EARLY_PATIENCE_US;
        if (sync->now_us < due_us) {
            sync->early_due_us = due_us < sync->early_due_us ? due_us : sync->early_due_us;
            continue;
        }
        const uint64_t again_us = sync->now_us + EARLY_AGAIN_US;
        sync->early_due_us = again_us < sync->early_due_us ? again_us : sync->early_due_us;
        if (asks++ < EARLY_ASKS_MAX) {
            early->asked_us = sync->now_us;
            pull_from(sync, &early->from, &early->missing.origin, early->missing.seq);
        }
    }
}

void arrive_done(struct tree_sync *sync)
{
    forget_all(sync->incoming, sync->incoming_count);
    free(sync->incoming);
    struct arrived *early;
    struct arrived *next;
    HASH_ITER(hh, sync->early, early, next)
    {
        forget_early(sync, early);
    }
}
