/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Ops of others wait for their turn outside of the tree: what is applied is always a set that
 * holds all causes of what it holds. So a vector says all of it, and a change that comes after the
 * deletion that it caused can't bring anything back.
 */

#include "tree/remote.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "hash/sha256.h"
#include "tree/apply_priv.h"

struct tree_batch {
    const struct tree *tree;
    struct kv_txn *txn;
    struct apply *apply;
    bool is_merging;
    struct origin_id own; /* the log that nobody else writes */
    struct buf kept;      /* room for an op that is here already */
};

int tree_apply_begin(const struct tree *tree, struct kv_txn *txn, struct tree_batch **ret_batch)
{
    bool is_merging = false;
    struct apply *apply = NULL;
    int err = merge_mark_get(tree, txn, &is_merging);
    if (!err) {
        err = apply_begin(tree, txn, APPLY_REMOTE, &apply);
    }
    struct origin_row own;
    if (!err) {
        err = origin_get(tree, txn, apply_state(apply)->own_origin, &own);
        err = err == -ENOENT ? -EIO : err;
    }
    if (err) {
        apply_drop(apply);
        return err;
    }
    struct tree_batch *batch = mem_alloc(sizeof *batch);
    batch->tree = tree;
    batch->txn = txn;
    batch->apply = apply;
    batch->own = own.id;
    batch->is_merging = is_merging && !(tree->omits & OMIT_HELD_UP);
    *ret_batch = batch;
    return 0;
}

/* What no log can hold. */
static bool is_possible(const struct tree_op *op, uint64_t lamport)
{
    if (op->lamport == 0 || op->lamport > TREE_LAMPORT_MAX ||
        (op->lamport > lamport && op->lamport - lamport > TREE_LAMPORT_JUMP_MAX)) {
        return false;
    }
    for (size_t i = 0; i < op->changes_count; i++) {
        const struct tree_change *change = &op->changes[i];
        for (size_t j = 0; j < change->context_count; j++) {
            if (change->context[j].seq >= op->seq &&
                origin_id_equal(&change->context[j].origin, &op->origin)) {
                return false;
            }
        }
    }
    return changes_differ(op->changes, op->changes_count);
}

/* An op of this name was applied before: the same one? */
static int compare_known(struct tree_batch *batch, const struct tree_op *op, struct bytes bytes,
                         const struct origin_row *origin, enum tree_verdict *ret_verdict)
{
    *ret_verdict = TREE_KNOWN;
    if (op->seq == origin->seq) {
        struct id hash;
        sha256_id(bytes, &hash);
        *ret_verdict = id_equal(&hash, &origin->hash) ? TREE_KNOWN : TREE_FORKED;
        return 0;
    }
    uint32_t number = 0;
    buf_clear(&batch->kept);
    int err = origin_number(batch->tree, batch->txn, &op->origin, &number);
    if (!err) {
        err = op_get(batch->tree, batch->txn, number, op->seq, &batch->kept);
        if (err == -ENOENT) {
            return 0; /* forgotten; it can't be told from another one */
        }
    }
    if (!err && !bytes_equal(buf_bytes(&batch->kept), bytes)) {
        *ret_verdict = TREE_FORKED;
    }
    return err == -ENOENT ? -EIO : err;
}

/* *ret_lacks: *ret_missing has to come before. */
static int find_missing(struct tree_batch *batch, const struct tree_op *op,
                        const struct origin_row *origin, struct dot *ret_missing, bool *ret_lacks)
{
    *ret_lacks = op->seq > origin->seq + 1;
    if (*ret_lacks) {
        *ret_missing = (struct dot){op->origin, op->seq - 1};
        return 0;
    }
    for (size_t i = 0; i < op->changes_count; i++) {
        const struct tree_change *change = &op->changes[i];
        for (size_t j = 0; j < change->context_count; j++) {
            struct origin_row row;
            const int err = apply_origin(batch->apply, &change->context[j].origin, &row);
            if (err) {
                return err;
            }
            if (row.seq < change->context[j].seq) {
                *ret_missing = change->context[j];
                *ret_lacks = true;
                return 0;
            }
        }
    }
    return 0;
}

static int judge(struct tree_batch *batch, const struct tree_op *op, struct bytes bytes,
                 struct tree_remote *remote)
{
    if (!is_possible(op, apply_state(batch->apply)->lamport)) {
        remote->verdict = TREE_REFUSED;
        return 0;
    }
    remote->dot = (struct dot){op->origin, op->seq};
    struct origin_row origin;
    int err = apply_origin(batch->apply, &op->origin, &origin);
    if (err) {
        return err;
    }
    if (op->seq <= origin.seq) {
        return compare_known(batch, op, bytes, &origin, &remote->verdict);
    }
    if (origin_id_equal(&op->origin, &batch->own)) {
        remote->verdict = TREE_REFUSED; /* we never made it */
        return 0;
    }
    if (batch->is_merging) {
        remote->verdict = TREE_HELD_UP;
        return 0;
    }
    bool lacks = false;
    err = find_missing(batch, op, &origin, &remote->missing, &lacks);
    if (!err) {
        remote->verdict = lacks                                    ? TREE_EARLY
                          : !id_equal(&op->previous, &origin.hash) ? TREE_FORKED
                                                                   : TREE_APPLIED;
    }
    return err;
}

int tree_apply_next(struct tree_batch *batch, struct bytes op, struct tree_remote *ret_remote)
{
    struct tree_remote remote = {0};
    struct tree_op_parsed parsed = {0};
    int err = tree_op_parse(op, &parsed);
    if (err) {
        *ret_remote = (struct tree_remote){.verdict = TREE_REFUSED};
        return 0;
    }
    err = judge(batch, &parsed.op, op, &remote);
    if (!err && remote.verdict == TREE_APPLIED) {
        err = apply_op(batch->apply, &parsed.op, op);
    }
    tree_op_parsed_done(&parsed);
    if (err) {
        return err == -ENOENT ? -EIO : err;
    }
    *ret_remote = remote;
    return 0;
}

int tree_apply_end(struct tree_batch *batch)
{
    const int err = apply_end(STEAL_PTR(batch->apply));
    tree_apply_drop(batch);
    return err;
}

void tree_apply_drop(struct tree_batch *batch)
{
    if (!batch) {
        return;
    }
    apply_drop(batch->apply);
    buf_done(&batch->kept);
    free(batch);
}

int tree_apply(const struct tree *tree, struct kv_txn *txn, struct bytes op,
               struct tree_remote *ret_remote)
{
    CLEANUP(tree_apply_drop) struct tree_batch *batch = NULL;
    struct tree_remote remote;
    int err = tree_apply_begin(tree, txn, &batch);
    if (!err) {
        err = tree_apply_next(batch, op, &remote);
    }
    if (!err) {
        err = tree_apply_end(STEAL_PTR(batch));
    }
    if (!err) {
        *ret_remote = remote;
    }
    return err;
}

int tree_op_read(const struct tree *tree, struct kv_txn *txn, const struct dot *dot,
                 struct buf *ret_bytes)
{
    uint32_t number = 0;
    const int err = origin_number(tree, txn, &dot->origin, &number);
    return err ? err : op_get(tree, txn, number, dot->seq, ret_bytes);
}
