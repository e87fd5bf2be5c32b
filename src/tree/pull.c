/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The logs that somebody lacks as one stream. An op's lamport is higher than those of all ops that
 * its maker had applied, so the log whose next op has the lowest comes next, out of a binary heap.
 * Of each log but the one in turn only the beginning of one op is read.
 */

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "tree/remote.h"
#include "tree/rows_priv.h"

struct log {
    struct origin_id origin;
    uint32_t number;
    uint64_t next_seq;
    uint64_t through_seq;
    uint64_t lamport; /* of the next op; 0: it is forgotten, and may be the cause of any */
};

struct tree_pull {
    const struct tree *tree;
    struct kv_txn *txn;
    struct log *logs; /* a heap, the least first */
    size_t logs_count;
    struct buf op; /* handed out last */
};

static bool is_before(const struct log *a, const struct log *b)
{
    if (a->lamport != b->lamport) {
        return a->lamport < b->lamport;
    }
    return a->number < b->number;
}

/* Moves the log at `at` down to its place in the heap. */
static void sink(struct tree_pull *pull, size_t at)
{
    for (;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2; child++) {
            if (child < pull->logs_count && is_before(&pull->logs[child], &pull->logs[least])) {
                least = child;
            }
        }
        if (least == at) {
            return;
        }
        const struct log moved = pull->logs[at];
        pull->logs[at] = pull->logs[least];
        pull->logs[least] = moved;
        at = least;
    }
}

static int read_lamport(struct tree_pull *pull, struct log *log)
{
    log->lamport = 0;
    const int err =
        op_get_lamport(pull->tree, pull->txn, log->number, log->next_seq, &log->lamport);
    return err == -ENOENT ? 0 : err;
}

static int add_log(struct tree_pull *pull, const struct tree_lack *lack)
{
    struct log log = {.origin = lack->origin};
    int err = origin_number(pull->tree, pull->txn, &lack->origin, &log.number);
    if (err) {
        return err == -ENOENT ? 0 : err;
    }
    struct origin_row row;
    err = origin_get(pull->tree, pull->txn, log.number, &row);
    if (err) {
        return err == -ENOENT ? -EIO : err;
    }
    log.through_seq = lack->through_seq < row.seq ? lack->through_seq : row.seq;
    if (lack->after_seq >= log.through_seq) {
        return 0;
    }
    log.next_seq = lack->after_seq + 1;
    err = read_lamport(pull, &log);
    if (!err) {
        pull->logs[pull->logs_count++] = log;
    }
    return err;
}

int tree_pull_open(const struct tree *tree, struct kv_txn *txn, const struct tree_lack *lacks,
                   size_t lacks_count, struct tree_pull **ret_pull)
{
    if (lacks_count > TREE_WANT_LACKS_MAX) {
        return -EFBIG;
    }
    CLEANUP(tree_pull_close) struct tree_pull *pull = mem_alloc(sizeof *pull);
    pull->tree = tree;
    pull->txn = txn;
    pull->logs = mem_alloc_array(lacks_count + 1, sizeof *pull->logs);
    for (size_t i = 0; i < lacks_count; i++) {
        const int err = add_log(pull, &lacks[i]);
        if (err) {
            return err;
        }
    }
    for (size_t i = pull->logs_count / 2; i > 0; i--) {
        sink(pull, i - 1);
    }
    *ret_pull = STEAL_PTR(pull);
    return 0;
}

int tree_pull_next(struct tree_pull *pull, struct dot *ret_dot, struct bytes *ret_op)
{
    if (pull->logs_count == 0) {
        return -ENOENT;
    }
    struct log *log = &pull->logs[0];
    buf_clear(&pull->op);
    int err = op_get(pull->tree, pull->txn, log->number, log->next_seq, &pull->op);
    if (err) {
        return err == -ENOENT ? -ESTALE : err;
    }
    const struct dot dot = {log->origin, log->next_seq};
    if (log->next_seq == log->through_seq) {
        *log = pull->logs[--pull->logs_count];
    } else {
        log->next_seq++;
        err = read_lamport(pull, log);
        if (err) {
            return err;
        }
    }
    sink(pull, 0);
    *ret_dot = dot;
    *ret_op = buf_bytes(&pull->op);
    return 0;
}

void tree_pull_close(struct tree_pull *pull)
{
    if (!pull) {
        return;
    }
    free(pull->logs);
    buf_done(&pull->op);
    free(pull);
}
