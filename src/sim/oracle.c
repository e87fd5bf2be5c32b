/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/oracle.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "hash/sha256.h"
#include "sim/oracle_priv.h"
#include "tree/feed.h"

/* Trees that are computed anew at the end; the others have the same fingerprint. */
#define RECOMPUTED_MAX 64u

void oracle_fault(struct sim_oracle *oracle, enum sim_fault fault, const char *format, ...)
{
    struct sim_oracle_fault *found = &oracle->faults[fault];
    if (found->count++ > 0) {
        return;
    }
    const int size =
        snprintf(found->text, sizeof found->text,
                 "at %.3f s: ", (double)sim_world_now_us(oracle->world) / (double)SIM_US_PER_S);
    CHECK(size > 0 && (size_t)size < sizeof found->text);
    va_list values;
    va_start(values, format);
    vsnprintf(found->text + size, sizeof found->text - (size_t)size, format, values);
    va_end(values);
}

/* ---- ops ---- */

struct known_op *oracle_find(const struct sim_oracle *oracle, const struct dot *dot,
                             const struct id *hash)
{
    struct known_op *op;
    HASH_FIND(hh, oracle->ops, dot, sizeof *dot, op);
    while (op && !id_equal(&op->hash, hash)) {
        op = op->other;
    }
    return op;
}

static struct known_op *learn_op(struct sim_oracle *oracle, uint32_t slot, struct bytes bytes)
{
    struct known_op *op = mem_alloc(sizeof *op + bytes.size);
    memcpy(op->bytes, bytes.data, bytes.size);
    const int err = tree_op_parse(BYTES(op->bytes, bytes.size), &op->parsed);
    CHECK(!err);
    op->dot = (struct dot){op->parsed.op.origin, op->parsed.op.seq};
    sha256_id(bytes, &op->hash);
    op->slot = slot;
    oracle->figures.ops++;
    struct known_op *first;
    HASH_FIND(hh, oracle->ops, &op->dot, sizeof op->dot, first);
    if (!first) {
        HASH_ADD(hh, oracle->ops, dot, sizeof op->dot, op);
        return op;
    }
    oracle->figures.forks++;
    oracle_fault(oracle, SIM_FAULT_NAME, "op %llu of one log was made at %u and, another, at %u",
                 (unsigned long long)op->dot.seq, first->slot, slot);
    op->other = first->other;
    first->other = op;
    return op;
}

static void free_ops(struct sim_oracle *oracle)
{
    struct known_op *op;
    struct known_op *next;
    HASH_ITER(hh, oracle->ops, op, next)
    {
        HASH_DEL(oracle->ops, op);
        while (op) {
            struct known_op *other = op->other;
            tree_op_parsed_done(&op->parsed);
            free(op);
            op = other;
        }
    }
}

static uint32_t number_of(struct sim_oracle *oracle, const struct origin_id *id)
{
    struct known_origin *origin;
    HASH_FIND(hh, oracle->origins, id, sizeof *id, origin);
    if (!origin) {
        origin = mem_alloc(sizeof *origin);
        origin->id = *id;
        origin->number = HASH_COUNT(oracle->origins);
        HASH_ADD(hh, oracle->origins, id, sizeof origin->id, origin);
    }
    return origin->number;
}

/* ---- watchers ---- */

static struct seen *seen_of(struct sim_oracle *oracle, struct watcher *watcher,
                            const struct origin_id *origin)
{
    const uint32_t number = number_of(oracle, origin);
    if (number >= watcher->seen_count) {
        const size_t count = (size_t)number + 8;
        watcher->seen = mem_resize_array(watcher->seen, count, sizeof *watcher->seen);
        memset(watcher->seen + watcher->seen_count, 0,
               (count - watcher->seen_count) * sizeof *watcher->seen);
        watcher->seen_count = count;
    }
    return &watcher->seen[number];
}

/* An op made here that the disk has now. */
static void promise(struct sim_oracle *oracle, uint32_t slot, const struct known_op *op)
{
    struct watcher *watcher = &oracle->watchers[slot];
    for (size_t i = 0; i < watcher->pending_count; i++) {
        const struct dot *dot = &watcher->pending[i];
        if (dot->seq != op->dot.seq || !origin_id_equal(&dot->origin, &op->dot.origin)) {
            continue;
        }
        watcher->pending[i] = watcher->pending[--watcher->pending_count];
        if (oracle->promises_count == oracle->promises_capacity) {
            oracle->promises_capacity =
                oracle->promises_capacity ? 2 * oracle->promises_capacity : 64;
            oracle->promises = mem_resize_array(oracle->promises, oracle->promises_capacity,
                                                sizeof *oracle->promises);
        }
        oracle->promises[oracle->promises_count++] =
            (struct promise){.op = op, .slot = slot, .disks_count = watcher->disks_count};
        oracle->figures.acknowledged++;
        return;
    }
}

static void watch_op(struct sim_oracle *oracle, uint32_t slot, struct bytes bytes,
                     const struct tree_op *op)
{
    struct watcher *watcher = &oracle->watchers[slot];
    const struct dot dot = {op->origin, op->seq};
    struct id hash;
    sha256_id(bytes, &hash);
    const struct known_op *known = oracle_find(oracle, &dot, &hash);
    if (!known) {
        known = learn_op(oracle, slot, bytes);
    }
    if (watcher->pending_count > 0) {
        promise(oracle, slot, known);
    }
    struct seen *seen = seen_of(oracle, watcher, &op->origin);
    if (op->seq != seen->seq + 1 && seen->gaps_count == watcher->gaps_count) {
        oracle_fault(oracle, SIM_FAULT_WATCHER, "a watcher at %u sees op %llu of a log after %llu",
                     slot, (unsigned long long)op->seq, (unsigned long long)seen->seq);
    }
    *seen = (struct seen){.seq = op->seq, .gaps_count = watcher->gaps_count};
}

/* Reads on to the end of the feed. */
static void read_feed(struct sim_oracle *oracle, uint32_t slot)
{
    struct watcher *watcher = &oracle->watchers[slot];
    struct kv_txn *txn = NULL;
    const struct tree *tree = sim_replicas_read(oracle->replicas, slot, &txn);
    if (!tree) {
        return;
    }
    int err = 0;
    while (!err) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        struct tree_feed_item item = {0};
        err = tree_feed_next(tree, txn, watcher->cursor, &bytes, &item);
        if (err) {
            break;
        }
        watcher->cursor = item.position;
        if (item.kind == TREE_FEED_OP) {
            watch_op(oracle, slot, buf_bytes(&bytes), &item.parsed.op);
        } else if (item.kind == TREE_FEED_GAP) {
            watcher->gaps_count++;
            oracle->figures.gaps++;
        }
        if (item.kind != TREE_FEED_GAP) {
            tree_op_parsed_done(&item.parsed);
        }
    }
    if (err != -ENOENT) {
        oracle_fault(oracle, SIM_FAULT_WATCHER, "a watcher at %u: %s", slot, err_text(err));
    }
    kv_abort(txn);
}

/* A new watcher, that begins with what is there. */
static void begin_anew(struct sim_oracle *oracle, uint32_t slot)
{
    struct watcher *watcher = &oracle->watchers[slot];
    watcher->disks_count++;
    watcher->cursor = 0;
    memset(watcher->seen, 0, watcher->seen_count * sizeof *watcher->seen);
    watcher->gaps_count = 0;
    struct kv_txn *txn = NULL;
    const struct tree *tree = sim_replicas_read(oracle->replicas, slot, &txn);
    if (!tree) {
        return;
    }
    struct tree_summary summary;
    int err = tree_summary(tree, txn, &summary);
    CHECK(!err);
    watcher->cursor = summary.feed_last;
    struct vector_entry entry;
    const struct origin_id *after = NULL;
    struct origin_id last;
    while (tree_vector_next(tree, txn, after, &entry) == 0) {
        seen_of(oracle, watcher, &entry.origin)->seq = entry.seq;
        last = entry.origin;
        after = &last;
    }
    /* A merge that goes on was announced before this watcher came. */
    watcher->gaps_count = summary.is_merging ? 1 : 0;
    kv_abort(txn);
}

/* ---- what happens ---- */

static void on_durable(void *context, uint32_t slot)
{
    struct sim_oracle *oracle = context;
    read_feed(oracle, slot);
    if (oracle->forward.durable) {
        oracle->forward.durable(oracle->forward.context, slot);
    }
}

static void on_event(void *context, uint32_t slot, const struct tree_sync_event *event)
{
    struct sim_oracle *oracle = context;
    struct sim_oracle_figures *figures = &oracle->figures;
    switch (event->kind) {
    case TREE_SYNC_FORK:
        figures->fork_events++;
        if (!oracle->allows_fork_events) {
            oracle_fault(oracle, SIM_FAULT_SYNC, "%u tells of a fork", slot);
        }
        break;
    case TREE_SYNC_REFUSED:
        figures->refused_events++;
        break;
    case TREE_SYNC_DIVERGED:
        figures->diverged_events++;
        oracle_fault(oracle, SIM_FAULT_SYNC, "%u tells of a divergence", slot);
        break;
    case TREE_SYNC_FAILED:
        figures->failed_events++;
        oracle_fault(oracle, SIM_FAULT_SYNC, "%u tells of a failure: %s", slot,
                     err_text(event->err));
        break;
    case TREE_SYNC_MERGE_DONE:
        figures->merges++;
        break;
    default:
        break;
    }
    if (oracle->forward.event) {
        oracle->forward.event(oracle->forward.context, slot, event);
    }
}

static void on_started(void *context, uint32_t slot, enum sim_disk disk)
{
    struct sim_oracle *oracle = context;
    if (disk == SIM_DISK_KEPT) {
        read_feed(oracle, slot);
    } else {
        begin_anew(oracle, slot);
    }
    if (oracle->forward.started) {
        oracle->forward.started(oracle->forward.context, slot, disk);
    }
}

static void on_ended(void *context, uint32_t slot)
{
    struct sim_oracle *oracle = context;
    oracle->watchers[slot].pending_count = 0;
    if (oracle->forward.ended) {
        oracle->forward.ended(oracle->forward.context, slot);
    }
}

struct sim_oracle *sim_oracle_new(struct sim_world *world, size_t slots_max)
{
    struct sim_oracle *oracle = mem_alloc(sizeof *oracle);
    oracle->world = world;
    oracle->replicas = sim_artel_replicas(world);
    oracle->slots_max = slots_max;
    oracle->watchers = mem_alloc_array(slots_max, sizeof *oracle->watchers);
    const struct sim_replica_observer observer = {.durable = on_durable,
                                                  .event = on_event,
                                                  .started = on_started,
                                                  .ended = on_ended,
                                                  .context = oracle};
    sim_replicas_observe(oracle->replicas, &observer);
    return oracle;
}

void sim_oracle_free(struct sim_oracle *oracle)
{
    if (!oracle) {
        return;
    }
    sim_replicas_observe(oracle->replicas, NULL);
    free_ops(oracle);
    struct known_origin *origin;
    struct known_origin *next;
    HASH_ITER(hh, oracle->origins, origin, next)
    {
        HASH_DEL(oracle->origins, origin);
        free(origin);
    }
    for (size_t i = 0; i < oracle->slots_max; i++) {
        free(oracle->watchers[i].seen);
        free(oracle->watchers[i].pending);
    }
    free(oracle->watchers);
    free(oracle->promises);
    free(oracle);
}

void sim_oracle_forward(struct sim_oracle *oracle, const struct sim_replica_observer *observer)
{
    oracle->forward = *observer;
}

void sim_oracle_allow_fork_events(struct sim_oracle *oracle)
{
    oracle->allows_fork_events = true;
}

void sim_oracle_made(struct sim_oracle *oracle, uint32_t slot, const struct dot *dot)
{
    CHECK(slot < oracle->slots_max);
    struct watcher *watcher = &oracle->watchers[slot];
    watcher->pending =
        mem_resize_array(watcher->pending, watcher->pending_count + 1, sizeof *watcher->pending);
    watcher->pending[watcher->pending_count++] = *dot;
}

/* ---- agreement ---- */

struct look {
    uint64_t vector_sum;
    uint8_t fingerprint[TREE_FINGERPRINT_BYTES];
    uint32_t slot;
};

static bool summarise(const struct sim_oracle *oracle, uint32_t slot,
                      struct tree_summary *ret_summary)
{
    struct kv_txn *txn = NULL;
    const struct tree *tree = sim_replicas_read(oracle->replicas, slot, &txn);
    if (!tree) {
        return false;
    }
    const int err = tree_summary(tree, txn, ret_summary);
    CHECK(!err);
    kv_abort(txn);
    return true;
}

static int compare_looks(const void *left, const void *right)
{
    const struct look *a = left;
    const struct look *b = right;
    if (a->vector_sum != b->vector_sum) {
        return a->vector_sum < b->vector_sum ? -1 : 1;
    }
    return (a->slot > b->slot) - (a->slot < b->slot);
}

static void recompute(struct sim_oracle *oracle, uint32_t slot)
{
    struct kv_txn *txn = NULL;
    const struct tree *tree = sim_replicas_read(oracle->replicas, slot, &txn);
    struct tree_summary summary;
    uint8_t fingerprint[TREE_FINGERPRINT_BYTES] = {0};
    uint64_t entries_count = 0;
    int err = tree_summary(tree, txn, &summary);
    if (!err) {
        err = tree_recompute(tree, txn, fingerprint, &entries_count);
    }
    CHECK(!err);
    kv_abort(txn);
    if (memcmp(fingerprint, summary.fingerprint, sizeof fingerprint) != 0 ||
        entries_count != summary.entries_count) {
        oracle_fault(oracle, SIM_FAULT_FINGERPRINT,
                     "the fingerprint of %u is not that of its entries (%llu, counted %llu)", slot,
                     (unsigned long long)entries_count, (unsigned long long)summary.entries_count);
    }
}

void sim_oracle_look(struct sim_oracle *oracle, bool with_sums)
{
    const uint32_t slots = (uint32_t)sim_world_slots_count(oracle->world);
    struct look *looks = mem_alloc_array(slots, sizeof *looks);
    size_t count = 0;
    for (uint32_t slot = 0; slot < slots; slot++) {
        struct tree_summary summary;
        if (summarise(oracle, slot, &summary) && !summary.is_merging) {
            struct look *look = &looks[count++];
            look->vector_sum = summary.vector_sum;
            memcpy(look->fingerprint, summary.fingerprint, sizeof look->fingerprint);
            look->slot = slot;
        }
    }
    qsort(looks, count, sizeof *looks, compare_looks);
    for (size_t i = 1; i < count; i++) {
        if (looks[i].vector_sum == looks[i - 1].vector_sum &&
            memcmp(looks[i].fingerprint, looks[i - 1].fingerprint, TREE_FINGERPRINT_BYTES) != 0) {
            oracle_fault(oracle, SIM_FAULT_FINGERPRINT, "%u and %u have one vector and two trees",
                         looks[i - 1].slot, looks[i].slot);
        }
    }
    if (with_sums && count > 0) {
        struct random *random = sim_world_random(oracle->world);
        recompute(oracle, looks[random_below(random, count)].slot);
    }
    free(looks);
}

bool sim_oracle_is_agreed(const struct sim_oracle *oracle)
{
    const uint32_t slots = (uint32_t)sim_world_slots_count(oracle->world);
    struct tree_summary first = {0};
    bool has_first = false;
    for (uint32_t slot = 0; slot < slots; slot++) {
        struct tree_summary summary;
        if (sim_world_state(oracle->world, slot) != SIM_RUNNING) {
            continue;
        }
        if (!summarise(oracle, slot, &summary) || summary.is_merging) {
            return false;
        }
        if (has_first &&
            (summary.vector_sum != first.vector_sum ||
             memcmp(summary.fingerprint, first.fingerprint, sizeof first.fingerprint) != 0)) {
            return false;
        }
        first = summary;
        has_first = true;
    }
    return true;
}

static void check_promise(struct sim_oracle *oracle, const struct promise *made)
{
    const struct known_op *op = made->op;
    const struct known_op *first;
    HASH_FIND(hh, oracle->ops, &op->dot, sizeof op->dot, first);
    if (made->disks_count != oracle->watchers[made->slot].disks_count ||
        sim_world_state(oracle->world, made->slot) != SIM_RUNNING || op->is_in_logs) {
        return;
    }
    oracle_fault(oracle, SIM_FAULT_LOST, "op %llu of %u was acknowledged and is nowhere",
                 (unsigned long long)op->dot.seq, made->slot);
}

void sim_oracle_judge(struct sim_oracle *oracle)
{
    const uint32_t slots = (uint32_t)sim_world_slots_count(oracle->world);
    uint32_t checked = 0;
    for (uint32_t slot = 0; slot < slots; slot++) {
        if (sim_world_state(oracle->world, slot) != SIM_RUNNING) {
            continue;
        }
        if (checked == 0) {
            oracle_check_merge(oracle, slot);
        }
        if (checked++ < RECOMPUTED_MAX) {
            recompute(oracle, slot);
        }
    }
    for (size_t i = 0; i < oracle->promises_count; i++) {
        check_promise(oracle, &oracle->promises[i]);
    }
}

const struct sim_oracle_fault *sim_oracle_faults(const struct sim_oracle *oracle,
                                                 enum sim_fault fault)
{
    return &oracle->faults[fault];
}

const struct sim_oracle_figures *sim_oracle_figures(const struct sim_oracle *oracle)
{
    return &oracle->figures;
}
