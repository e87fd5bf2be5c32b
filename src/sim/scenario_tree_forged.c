/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "sim/tree_run_priv.h"

/*
 * One node says what can't be: ops of others' logs with a wrong chain, ops that name themselves as
 * a cause, from the end of time, of another version, beyond limits, cut, and noise; as messages and
 * as broadcasts. It is refused and counted, and nobody's tree suffers, while the others go on.
 */

#define MEASURED_S 20u
#define FORGERIES_PER_S 20u
#define CHANGES_PER_S 10u
#define FILES 50u
#define NOISE_BYTES 1000u
/* No op is shorter. */
#define OP_HEAD_BYTES 66u

enum forgery {
    FORGED_CHAIN,   /* continues a log of another with a wrong hash */
    FORGED_AGAIN,   /* another op of a name that was used */
    FORGED_CYCLE,   /* names itself as what it replaces */
    FORGED_LAMPORT, /* from the end of time */
    FORGED_VERSION, /* of an op */
    FORGED_MESSAGE_VERSION,
    FORGED_SIZE,  /* says that it is longer than it is, or may be */
    FORGED_SHORT, /* cut */
    FORGED_NOISE,
    FORGERIES,
};

struct forger {
    struct tree_run tree;
    struct random random;
    uint32_t slot; /* the liar */
    uint64_t sent;
};

/* An op that is: the last of the log of a node that made one. */
static bool find_op(struct forger *forger, struct buf *ret_bytes, struct vector_entry *ret_entry)
{
    struct tree_run *run = &forger->tree;
    const uint32_t slot = (uint32_t)random_below(&forger->random, run->run->nodes);
    struct kv_txn *txn = NULL;
    const struct tree *tree = sim_replicas_read(run->replicas, slot, &txn);
    if (!tree) {
        return false;
    }
    struct tree_summary summary;
    int err = tree_summary(tree, txn, &summary);
    if (!err && (slot == forger->slot || summary.origin_seq == 0)) {
        err = -ENOENT;
    }
    if (!err) {
        err = tree_vector_get(tree, txn, &summary.origin, ret_entry);
    }
    if (!err) {
        const struct dot dot = {summary.origin, ret_entry->seq};
        err = ret_entry->seq > 0 ? tree_op_read(tree, txn, &dot, ret_bytes) : -ENOENT;
    }
    kv_abort(txn);
    return !err && ret_bytes->size > OP_HEAD_BYTES;
}

/* An op of that log, with that number, that replaces `context`. */
static void format_op(const struct vector_entry *entry, uint64_t seq, uint64_t lamport,
                      const struct id *previous, const struct dot *context, struct buf *ret_bytes)
{
    const struct tree_change change = {.kind = TREE_FILE,
                                       .path = bytes_of_string("top0/forged"),
                                       .mode = 0644,
                                       .context = context,
                                       .context_count = context ? 1 : 0};
    const struct tree_op op = {.origin = entry->origin,
                               .seq = seq,
                               .previous = *previous,
                               .lamport = lamport,
                               .event = TREE_EVENT_CHANGES,
                               .changes = &change,
                               .changes_count = 1};
    const int err = tree_op_format(&op, ret_bytes);
    CHECK(!err);
}

/* The bytes of an op that is none. */
static void forge_op(struct forger *forger, enum forgery forgery, const struct vector_entry *entry,
                     struct buf *op)
{
    const struct id wrong = {.bytes = {(uint8_t)random_u64(&forger->random), 1}};
    const struct dot self = {entry->origin, entry->seq + 1};
    const uint64_t lamport = 1 + random_below(&forger->random, 1000);
    if (forgery != FORGED_VERSION) {
        buf_clear(op);
    }
    switch (forgery) {
    case FORGED_CHAIN:
        format_op(entry, entry->seq + 1, lamport, &wrong, NULL, op);
        break;
    case FORGED_AGAIN:
        format_op(entry, entry->seq, lamport, &wrong, NULL, op);
        break;
    case FORGED_CYCLE:
        format_op(entry, entry->seq + 1, lamport, &entry->hash, &self, op);
        break;
    case FORGED_LAMPORT:
        format_op(entry, entry->seq + 1, UINT64_C(1) << 62, &entry->hash, NULL, op);
        break;
    default:
        op->data[0] = 2;
        break;
    }
}

static void forge(struct forger *forger, bool is_broadcast, struct buf *ret_message)
{
    struct random *random = &forger->random;
    enum forgery forgery = (enum forgery)random_below(random, FORGERIES);
    CLEANUP_BUF struct buf op = BUF_INIT;
    struct vector_entry entry;
    if (!find_op(forger, &op, &entry)) {
        forgery = FORGED_NOISE;
    }
    if (forgery == FORGED_NOISE) {
        const size_t size = (size_t)random_below(random, NOISE_BYTES);
        random_fill(random, buf_extend(ret_message, size), size);
        return;
    }
    if (forgery < FORGED_MESSAGE_VERSION) {
        forge_op(forger, forgery, &entry, &op);
    }
    const struct tree_message message = {.type = is_broadcast ? TREE_MESSAGE_SPREAD_OPS
                                                              : TREE_MESSAGE_OPS};
    tree_message_format(&message, ret_message);
    const size_t head = ret_message->size;
    tree_message_put_op(ret_message, buf_bytes(&op));
    if (forgery == FORGED_MESSAGE_VERSION) {
        ret_message->data[0] ^= 0x40;
    } else if (forgery == FORGED_SIZE) {
        memset(ret_message->data + head, 0xff, sizeof(uint32_t));
    } else if (forgery == FORGED_SHORT) {
        ret_message->size = (size_t)random_below(random, ret_message->size);
    }
}

static void attack(struct forger *forger)
{
    struct tree_run *tree = &forger->tree;
    const uint64_t seconds =
        tree->run->options->duration_s ? tree->run->options->duration_s : MEASURED_S;
    sim_workload_run(&tree->workload, seconds * SIM_US_PER_S);
    for (uint64_t i = 0; i < seconds * FORGERIES_PER_S; i++) {
        CLEANUP_BUF struct buf message = BUF_INIT;
        const uint32_t to = (uint32_t)random_below(&forger->random, tree->run->nodes);
        const bool is_broadcast = random_below(&forger->random, 4) == 0;
        forge(forger, is_broadcast, &message);
        if (is_broadcast && message.size <= DATAGRAM_PAYLOAD_BYTES_MAX) {
            sim_artel_broadcast_tree(tree->world, forger->slot, buf_bytes(&message));
        } else if (to != forger->slot) {
            sim_artel_send_tree(tree->world, forger->slot, to, buf_bytes(&message));
        }
        forger->sent++;
        sim_world_run(tree->world, SIM_US_PER_S / FORGERIES_PER_S);
    }
}

/* What the others counted. */
static uint64_t refused(const struct tree_run *tree)
{
    uint64_t count = 0;
    for (uint32_t slot = 0; slot < tree->run->nodes; slot++) {
        const struct tree_sync_counters *counters =
            sim_replica_counters(sim_replicas_find(tree->replicas, slot));
        count += counters->ops_refused + counters->ops_forked + counters->messages_refused;
    }
    return count;
}

static void run_tree_forged(struct sim_run *run)
{
    struct forger forger = {0};
    struct tree_run *tree = &forger.tree;
    if (!tree_run_begin(tree, run, 0)) {
        return;
    }
    random_init(&forger.random, run->options->seed ^ 0xf0f0);
    sim_oracle_allow_fork_events(tree->oracle);
    tree->workload.pause_us = SIM_US_PER_S / CHANGES_PER_S;
    if (run_ready(run)) {
        forger.slot = run_pick(run);
        tree_fill(tree, FILES);
        attack(&forger);
        tree_check_agreed(tree, "converged", TREE_CONVERGE_US);
        run_figure(run, "forgeries", "", (double)forger.sent);
        run_check(run, "forgeries-are-refused", refused(tree) >= forger.sent / 2, "%llu times",
                  (unsigned long long)refused(tree));
        tree_check_oracle(tree);
        run_check_watch(run, true);
    }
    tree_run_end(tree);
}

const struct sim_scenario scenario_tree_forged = {
    .name = "tree-forged",
    .summary = "a node forges ops: wrong chains, cycles, of other versions, oversized, noise",
    .run = run_tree_forged,
};
