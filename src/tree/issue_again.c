/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A log that went two ways: a data directory was put back, or copied, and written to under a name
 * that others know more of. What stands in our branch is not lost: its ops are made again, one for
 * one, in another log. Where they name each other, they name what took the other's place; all else
 * is as it was, but for the clock. Heads of the branch stay here until the others' is adopted.
 */

#include "base/err.h"
#include "base/mem.h"
#include "tree/apply_priv.h"
#include "tree/remote.h"

struct again {
    const struct tree *tree;
    struct kv_txn *txn;
    struct apply *apply;
    struct dot from;
    struct origin_id own;
    uint64_t own_seq; /* of the last op before those that are made here */
};

static uint64_t again_seq(const struct again *again, uint64_t seq)
{
    return again->own_seq + 1 + (seq - again->from.seq);
}

/* The dots of an op's contexts follow each other in `parsed`. */
static void name_anew(const struct again *again, struct tree_op_parsed *parsed)
{
    struct dot *dot = parsed->dots;
    for (size_t i = 0; i < parsed->op.changes_count; i++) {
        for (size_t j = 0; j < parsed->op.changes[i].context_count; j++, dot++) {
            if (dot->seq >= again->from.seq && origin_id_equal(&dot->origin, &again->from.origin)) {
                *dot = (struct dot){again->own, again_seq(again, dot->seq)};
            }
        }
    }
}

static int issue(struct again *again, uint64_t seq)
{
    CLEANUP_BUF struct buf old_bytes = BUF_INIT;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    struct tree_op_parsed parsed = {0};
    struct origin_row own;
    const struct dot old = {again->from.origin, seq};
    int err = tree_op_read(again->tree, again->txn, &old, &old_bytes);
    if (!err) {
        err = tree_op_parse(buf_bytes(&old_bytes), &parsed);
    }
    if (err) {
        return -EIO; /* it was seen to be there, and was whole when it was written */
    }
    err = apply_origin(again->apply, &again->own, &own);
    if (!err) {
        name_anew(again, &parsed);
        parsed.op.origin = again->own;
        parsed.op.seq = own.seq + 1;
        parsed.op.previous = own.hash;
        parsed.op.lamport = apply_state(again->apply)->lamport + 1;
        CHECK(parsed.op.seq == again_seq(again, seq));
        err = tree_op_format(&parsed.op, &bytes);
    }
    if (!err) {
        err = apply_op(again->apply, &parsed.op, buf_bytes(&bytes));
    }
    tree_op_parsed_done(&parsed);
    return err;
}

/* -EIO: one of the ops is forgotten. */
static int check_kept(const struct tree *tree, struct kv_txn *txn, const struct dot *from,
                      uint64_t through_seq)
{
    uint32_t number = 0;
    int err = origin_number(tree, txn, &from->origin, &number);
    for (uint64_t seq = from->seq; !err && seq <= through_seq; seq++) {
        uint64_t lamport = 0;
        err = op_get_lamport(tree, txn, number, seq, &lamport);
    }
    return err == -ENOENT ? -EIO : err;
}

int tree_issue_again(const struct tree *tree, struct kv_txn *txn, const struct dot *from)
{
    struct tree_summary summary;
    struct vector_entry fork;
    int err = tree_summary(tree, txn, &summary);
    if (!err) {
        err = tree_vector_get(tree, txn, &from->origin, &fork);
    }
    if (err) {
        return err;
    }
    if (from->seq == 0 || from->seq > fork.seq || origin_id_equal(&from->origin, &summary.origin)) {
        return -EINVAL;
    }
    err = check_kept(tree, txn, from, fork.seq);
    CLEANUP(apply_drop) struct apply *apply = NULL;
    if (!err) {
        err = apply_begin(tree, txn, APPLY_AGAIN, &apply);
    }
    struct again again = {
        .tree = tree,
        .txn = txn,
        .apply = apply,
        .from = *from,
        .own = summary.origin,
        .own_seq = summary.origin_seq,
    };
    for (uint64_t seq = from->seq; !err && seq <= fork.seq; seq++) {
        err = issue(&again, seq);
    }
    return err ? err : apply_end(STEAL_PTR(apply));
}
