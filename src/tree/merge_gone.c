/* SPDX-License-Identifier: Apache-2.0 */

/*
 * In the two modes that add what our vector covers and we lack, a version may be lacking because an
 * op that the snapshot does not know has replaced it. Those ops are the newest ones of their logs;
 * what their contexts name is not added again.
 */

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/map.h"
#include "tree/merge_priv.h"

/* 100 MiB or so. A snapshot that lacks so much is taken anew. */
#define GONE_MAX 1000000u

struct merge_gone {
    uint8_t key[REPLACED_KEY_BYTES];
    UT_hash_handle hh;
};

bool merge_gone_has(const struct merge *merge, const struct dot *dot, struct bytes path)
{
    uint8_t key[REPLACED_KEY_BYTES];
    if (!merge->caches->gone) {
        return false;
    }
    (void)replaced_key(dot, path, key);
    const struct merge_gone *found = NULL;
    HASH_FIND(hh, merge->caches->gone, key, sizeof key, found);
    return found != NULL;
}

void merge_gone_clear(struct merge_caches *caches)
{
    struct merge_gone *gone;
    struct merge_gone *next;
    HASH_ITER(hh, caches->gone, gone, next)
    {
        HASH_DEL(caches->gone, gone);
        free(gone);
    }
    free(STEAL_PTR(caches->scanned));
    caches->scanned_count = 0;
}

static int add(struct merge *merge, const struct dot *dot, struct bytes path)
{
    if (merge_gone_has(merge, dot, path)) {
        return 0;
    }
    if (HASH_COUNT(merge->caches->gone) >= GONE_MAX) {
        return -EAGAIN;
    }
    struct merge_gone *gone = mem_alloc(sizeof *gone);
    (void)replaced_key(dot, path, gone->key);
    HASH_ADD(hh, merge->caches->gone, key, sizeof gone->key, gone);
    return 0;
}

static int scan_op(struct merge *merge, uint32_t number, uint64_t seq)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    struct tree_op_parsed parsed = {0};
    int err = op_get(merge->tree, merge->txn, number, seq, &bytes);
    if (err) {
        return err == -ENOENT ? -EAGAIN : err;
    }
    err = tree_op_parse(buf_bytes(&bytes), &parsed);
    if (err) {
        return -EIO;
    }
    for (size_t i = 0; !err && i < parsed.op.changes_count; i++) {
        const struct tree_change *change = &parsed.op.changes[i];
        for (size_t j = 0; !err && j < change->context_count; j++) {
            err = add(merge, &change->context[j], change->path);
        }
    }
    tree_op_parsed_done(&parsed);
    return err;
}

static int scan_origin(struct merge *merge, uint32_t number)
{
    struct origin_row row;
    int err = origin_get(merge->tree, merge->txn, number, &row);
    if (err) {
        return err == -ENOENT ? -EIO : err;
    }
    const size_t index = snapshot_origin(merge->snapshot, &row.id);
    uint64_t seq = merge->caches->scanned[number];
    if (index < merge->snapshot->origins_count && merge->snapshot->origins[index].seq > seq) {
        seq = merge->snapshot->origins[index].seq;
    }
    while (!err && seq < row.seq) {
        err = scan_op(merge, number, ++seq);
    }
    merge->caches->scanned[number] = seq;
    return err;
}

int merge_gone_update(struct merge *merge)
{
    struct merge_caches *caches = merge->caches;
    const size_t count = merge->state.next_origin;
    if (count > caches->scanned_count) {
        caches->scanned = mem_resize_array(caches->scanned, count, sizeof *caches->scanned);
        memset(caches->scanned + caches->scanned_count, 0,
               (count - caches->scanned_count) * sizeof *caches->scanned);
        caches->scanned_count = count;
    }
    int err = 0;
    for (uint32_t number = 1; !err && number < count; number++) {
        err = scan_origin(merge, number);
    }
    return err;
}
