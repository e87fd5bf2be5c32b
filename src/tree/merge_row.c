/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One path: the versions that are heads here, those that are in the snapshot, and what comes of
 * them. A version that only one side has is one that the other does not know yet, or one that the
 * other knows to be gone; what it knows is its vector, and the versions that were replaced before
 * it covered them.
 */

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "tree/apply_priv.h"
#include "tree/merge_priv.h"

/* An origin of this database by its number. */
static int find_local(struct merge *merge, uint32_t number, struct merge_local **ret_local)
{
    struct merge_caches *caches = merge->caches;
    if (number >= caches->locals_count) {
        const size_t count = merge->state.next_origin > number ? merge->state.next_origin : 0;
        if (count == 0) {
            return -EIO;
        }
        caches->locals = mem_resize_array(caches->locals, count, sizeof *caches->locals);
        memset(caches->locals + caches->locals_count, 0,
               (count - caches->locals_count) * sizeof *caches->locals);
        caches->locals_count = count;
    }
    struct merge_local *local = &caches->locals[number];
    if (local->stamp != caches->stamp) {
        struct origin_row row;
        const int err = origin_get(merge->tree, merge->txn, number, &row);
        if (err) {
            return err == -ENOENT ? -EIO : err;
        }
        local->id = row.id;
        local->index = (uint32_t)snapshot_origin(merge->snapshot, &row.id);
        local->stamp = caches->stamp;
    }
    *ret_local = local;
    return 0;
}

/* A head that is not in the snapshot (rule 4). */
static bool goes(const struct merge *merge, const struct head *head, uint32_t index,
                 struct bytes path)
{
    const struct dot *dot = &head->version.dot;
    if (merge->options.mode == TREE_MERGE_UNION || (merge->tree->omits & OMIT_ABSENT)) {
        return false;
    }
    return (index < merge->snapshot->origins_count &&
            dot->seq <= merge->snapshot->origins[index].seq) ||
           snapshot_has_replaced(merge->snapshot, dot, path);
}

/* A version of the snapshot that is no head here (rule 4). */
static int find_whether_comes(struct merge *merge, const struct head *head, struct bytes path,
                              bool *ret_comes)
{
    struct merge_peer *peer = NULL;
    const struct dot *dot = &head->version.dot;
    int err = merge_peer(merge, head->origin, &peer);
    if (err) {
        return err;
    }
    const bool is_covered = dot->seq <= peer->seq;
    bool comes = false;
    if (!is_covered && peer->number == merge->state.own_origin) {
        return -EPROTO; /* a change of ours that we are yet to make */
    }
    switch (merge->options.mode) {
    case TREE_MERGE_NORMAL:
        comes = !is_covered || (merge->tree->omits & OMIT_GONE);
        break;
    case TREE_MERGE_UNION:
        /* Not what ops will bring: it would stand beside what it replaces until they come. */
        comes = (is_covered || dot->seq > merge->snapshot->origins[head->origin].seq) &&
                !merge_gone_has(merge, dot, path);
        break;
    }
    bool was_replaced = false;
    if (comes) {
        err = replaced_has(merge->tree, merge->txn, &merge->state, dot, path, &was_replaced);
    }
    *ret_comes = comes && !was_replaced;
    return err;
}

/* The place of a version in the record, or its heads_count. */
static size_t find_in_record(const struct snapshot_record *record, uint32_t index, uint64_t seq)
{
    size_t low = 0;
    size_t high = record->heads_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct head *head = &record->heads[middle];
        if (head->origin == index && head->version.dot.seq == seq) {
            return middle;
        }
        if (head->origin < index || (head->origin == index && head->version.dot.seq < seq)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return record->heads_count;
}

static bool has_same_content(const struct tree_version *a, const struct tree_version *b)
{
    return a->kind == b->kind && a->mode == b->mode && a->mtime_ns == b->mtime_ns &&
           a->lamport == b->lamport && a->size_bytes == b->size_bytes &&
           id_equal(&a->file_id, &b->file_id) && bytes_equal(a->target, b->target) &&
           bytes_equal(a->attributes, b->attributes);
}

static struct head *shown(struct head *heads, size_t count, bool is_directory)
{
    struct head *best = NULL;
    for (size_t i = 0; i < count; i++) {
        if ((heads[i].version.kind == TREE_DIRECTORY) == is_directory &&
            (!best || head_is_greater(&heads[i], best))) {
            best = &heads[i];
        }
    }
    return best;
}

/* What is not as it was, for watchers: what went first. */
static int tell(struct merge *merge, struct bytes path, struct head *const before[2],
                struct head *const after[2])
{
    int err = 0;
    for (int comes = 0; comes < 2; comes++) {
        for (int face = 0; !err && face < 2; face++) {
            const struct head *old = before[face];
            const struct head *new = after[face];
            if (old && new && old->origin == new->origin &&
                old->version.dot.seq ==
                    new->version.dot.seq &&has_same_content(&old->version, &new->version)) {
                continue;
            }
            if (comes && new) {
                err = merge_feed_add(&merge->feed, path, &new->version, false);
            } else if (!comes && old && !new) {
                err = merge_feed_add(&merge->feed, path, &old->version, true);
            }
        }
    }
    return err;
}

static int retire(struct merge *merge, struct bytes path, const struct head *head)
{
    uint64_t part[4];
    fingerprint_of(path, &head->version, part);
    fingerprint_subtract(merge->state.fingerprint, part);
    return history_add(merge->tree, merge->txn, path, head, merge->now_ms);
}

static struct head *add_after(struct merge *merge, size_t count)
{
    struct merge_caches *caches = merge->caches;
    if (count == caches->after_capacity) {
        caches->after_capacity = count ? 2 * count : 16;
        caches->after =
            mem_resize_array(caches->after, caches->after_capacity, sizeof *caches->after);
    }
    return &caches->after[count];
}

/* A version of the snapshot as a head of ours. */
static int take(struct merge *merge, struct bytes path, const struct head *from,
                struct head *ret_head)
{
    struct merge_peer *peer = NULL;
    int err = merge_peer_add(merge, from->origin, &peer);
    if (err) {
        return err;
    }
    *ret_head = *from;
    ret_head->origin = peer->number;
    ret_head->is_held = false;
    if (from->version.kind == TREE_FILE) {
        const struct tree_host *host = &merge->tree->host;
        err = host->hold(host->context, merge->txn, &from->version.file_id, false);
        if (err && err != -ENOENT) {
            return err;
        }
        ret_head->is_held = !err;
    }
    uint64_t part[4];
    fingerprint_of(path, &from->version, part);
    fingerprint_add(merge->state.fingerprint, part);
    return 0;
}

/* The sum of the version as our log has it; -ENOENT: the op is not kept. */
static int sum_of_log(struct merge *merge, struct bytes path, const struct head *head,
                      uint64_t ret_sum[4])
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    struct tree_op_parsed parsed = {0};
    int err = op_get(merge->tree, merge->txn, head->origin, head->version.dot.seq, &bytes);
    if (err) {
        return err;
    }
    if (tree_op_parse(buf_bytes(&bytes), &parsed) != 0) {
        return -ENOENT; /* no better than the rows */
    }
    err = -ENOENT;
    for (size_t i = 0; i < parsed.op.changes_count; i++) {
        const struct tree_change *change = &parsed.op.changes[i];
        if (bytes_equal(change->path, path)) {
            CLEANUP_BUF struct buf attributes = BUF_INIT;
            const struct tree_version version = version_of(&parsed.op, change, &attributes);
            fingerprint_of(path, &version, ret_sum);
            err = 0;
            break;
        }
    }
    tree_op_parsed_done(&parsed);
    return err;
}

static bool is_greater(const uint64_t a[4], const uint64_t b[4])
{
    for (int i = 3; i >= 0; i--) {
        if (a[i] != b[i]) {
            return a[i] > b[i];
        }
    }
    return false;
}

/* Two contents of one version, which must not be. The one that the op made is right; if the op is
 * not kept, the one of the greater sum is, here as there, so that both come to the same. */
static int find_whether_theirs(struct merge *merge, struct bytes path, const struct head *ours,
                               const struct head *theirs, bool *ret_theirs)
{
    uint64_t sums[3][4];
    fingerprint_of(path, &ours->version, sums[0]);
    fingerprint_of(path, &theirs->version, sums[1]);
    const int err = sum_of_log(merge, path, ours, sums[2]);
    if (err && err != -ENOENT) {
        return err;
    }
    *ret_theirs = is_greater(sums[1], sums[0]);
    for (int i = 0; !err && i < 2; i++) {
        if (memcmp(sums[i], sums[2], sizeof sums[i]) == 0) {
            *ret_theirs = i == 1;
        }
    }
    return 0;
}

/* A version that both have: ours stays as it is, but for what a repair finds to be wrong. */
static int join_same(struct merge *merge, struct bytes path, const struct head *ours,
                     const struct head *theirs, struct head *ret_head, bool *ret_changed)
{
    bool is_theirs = false;
    *ret_head = *ours;
    if (merge->options.mode != TREE_MERGE_UNION ||
        has_same_content(&ours->version, &theirs->version)) {
        return 0;
    }
    int err = find_whether_theirs(merge, path, ours, theirs, &is_theirs);
    if (!err && is_theirs) {
        *ret_changed = true;
        err = retire(merge, path, ours);
        if (!err) {
            err = take(merge, path, theirs, ret_head);
        }
    }
    return err;
}

/* Goes through the heads that are here: what stays is put into caches->after. */
static int join_ours(struct merge *merge, struct bytes path, const struct snapshot_record *record,
                     struct entry_row *row, size_t *ret_count, bool *ret_changed)
{
    *ret_count = 0;
    *ret_changed = false;
    for (size_t i = 0; i < row->heads_count; i++) {
        struct head *head = &row->heads[i];
        struct merge_local *local = NULL;
        int err = find_local(merge, head->origin, &local);
        if (err) {
            return err;
        }
        head->version.dot.origin = local->id;
        const size_t at = record ? find_in_record(record, local->index, head->version.dot.seq) : 0;
        const bool is_there = record && at < record->heads_count;
        if (is_there) {
            merge->caches->matched[at] = true;
            struct head *after = add_after(merge, (*ret_count)++);
            err = join_same(merge, path, head, &record->heads[at], after, ret_changed);
        } else if (!goes(merge, head, local->index, path)) {
            *add_after(merge, (*ret_count)++) = *head;
        } else {
            *ret_changed = true;
            err = retire(merge, path, head);
        }
        if (err) {
            return err;
        }
    }
    return 0;
}

static int join_theirs(struct merge *merge, struct bytes path, const struct snapshot_record *record,
                       size_t *count)
{
    for (size_t i = 0; record && i < record->heads_count; i++) {
        bool comes = false;
        int err = merge->caches->matched[i]
                      ? 0
                      : find_whether_comes(merge, &record->heads[i], path, &comes);
        if (!err && comes) {
            err = take(merge, path, &record->heads[i], add_after(merge, *count));
            (*count)++;
        }
        if (err) {
            return err;
        }
    }
    return 0;
}

/* Where the row is or will be. */
static int find_place(struct merge *merge, struct bytes path, bool has_row, uint64_t *ret_directory,
                      struct bytes *ret_name, uint64_t *ret_child, struct place_before *ret_before)
{
    const struct row_walk *walk = &merge->walk;
    *ret_before = (struct place_before){0};
    *ret_child = 0;
    if (has_row) {
        *ret_directory = row_walk_directory(walk);
        *ret_name = row_walk_name(walk);
        *ret_child = walk->row.child;
        *ret_before = (struct place_before){.existed = true, .had_heads = true};
        return 0;
    }
    int err = place_find(&merge->place, path, true, ret_directory, ret_name);
    if (err) {
        return err;
    }
    if (*ret_directory == merge->state.next_directory - 1) {
        /* The newest directory holds no other, so no row without heads; those with heads the walk
         * tells. And no row of the table comes behind its last one. */
        ret_before->is_last = true;
        return 0;
    }
    CLEANUP_ENTRY_ROW struct entry_row row = {0};
    err = entry_get(merge->tree, merge->txn, *ret_directory, *ret_name, &row);
    if (!err && row.heads_count > 0) {
        return -EIO;
    }
    ret_before->existed = !err;
    *ret_child = row.child;
    return err == -ENOENT ? 0 : err;
}

static int settle(struct merge *merge, struct bytes path, bool has_row, size_t count)
{
    uint64_t directory = 0;
    struct bytes name;
    struct place_before before;
    struct entry_row after = {.heads = merge->caches->after, .heads_count = count};
    const int err = find_place(merge, path, has_row, &directory, &name, &after.child, &before);
    return err ? err : place_settle(&merge->place, directory, name, &after, before);
}

static void clear_matched(struct merge_caches *caches, const struct snapshot_record *record)
{
    if (record && record->heads_count > caches->matched_capacity) {
        caches->matched_capacity = 2 * record->heads_count;
        caches->matched =
            mem_resize_array(caches->matched, caches->matched_capacity, sizeof *caches->matched);
    }
    if (record) {
        memset(caches->matched, 0, record->heads_count * sizeof *caches->matched);
    }
}

int merge_path(struct merge *merge, struct bytes path, const struct snapshot_record *record,
               bool has_row)
{
    struct entry_row nothing = {0};
    struct entry_row *row = has_row ? &merge->walk.row : &nothing;
    clear_matched(merge->caches, record);
    size_t stayed = 0;
    bool has_changed = false;
    int err = join_ours(merge, path, record, row, &stayed, &has_changed);
    size_t count = stayed;
    if (!err) {
        err = join_theirs(merge, path, record, &count);
    }
    if (err || (!has_changed && count == stayed)) {
        return err;
    }
    struct head *heads = merge->caches->after;
    struct head *const before[2] = {
        shown(row->heads, row->heads_count, false),
        shown(row->heads, row->heads_count, true),
    };
    struct head *const after[2] = {shown(heads, count, false), shown(heads, count, true)};
    err = tell(merge, path, before, after);
    return err ? err : settle(merge, path, has_row, count);
}
