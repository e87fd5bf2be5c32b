/* SPDX-License-Identifier: Apache-2.0 */

/*
 * To apply a change is to remove the heads that stand in its context and to add it as a head. The
 * outcome for a path depends on the set of changes alone, not on their order, as long as a change
 * is applied after all in its context; callers see to that.
 */

#include "tree/apply_priv.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/map.h"
#include "hash/sha256.h"
#include "tree/place_priv.h"
#include "wire/fields.h"

/* Origins of ops and of their contexts come again and again: their rows are kept. */
struct known_origin {
    struct origin_row row;
    uint32_t number; /* 0: it is in no table yet */
    bool is_new;     /* the row in the table is older */
    UT_hash_handle hh;
};
/* About 1 MiB of them and of one op's, then all are written and looked for again. */
#define KNOWN_ORIGINS_MAX 8192u

struct apply {
    const struct tree *tree;
    struct kv_txn *txn;
    enum apply_kind kind;
    struct tree_state state;
    bool is_state_new;
    const struct tree_op *op;
    uint32_t origin; /* number of the op's */
    uint64_t now_ms;
    struct known_origin *known;
    struct place place;
};

static int find_origin(struct apply *apply, const struct origin_id *id,
                       struct known_origin **ret_known)
{
    struct known_origin *known = NULL;
    HASH_FIND(hh, apply->known, id, sizeof *id, known);
    if (!known) {
        uint32_t number = 0;
        struct origin_row row = {.id = *id};
        int err = origin_number(apply->tree, apply->txn, id, &number);
        if (!err) {
            err = origin_get(apply->tree, apply->txn, number, &row);
            err = err == -ENOENT ? -EIO : err;
        } else if (err == -ENOENT) {
            err = 0;
        }
        if (err) {
            return err;
        }
        known = mem_alloc(sizeof *known);
        *known = (struct known_origin){.row = row, .number = number};
        HASH_ADD(hh, apply->known, row.id, sizeof known->row.id, known);
    }
    *ret_known = known;
    return 0;
}

static void forget_origins(struct apply *apply)
{
    struct known_origin *known;
    struct known_origin *next;
    HASH_ITER(hh, apply->known, known, next)
    {
        HASH_DEL(apply->known, known);
        free(known);
    }
}

static int write_origins(struct apply *apply)
{
    for (struct known_origin *known = apply->known; known; known = known->hh.next) {
        if (known->is_new) {
            const int err = origin_put(apply->tree, apply->txn, known->number, &known->row);
            if (err) {
                return err;
            }
            known->is_new = false;
        }
    }
    return 0;
}

/* Adds or subtracts what a head means for the fingerprint. */
static int count_head(struct apply *apply, struct bytes path, struct head *head,
                      void (*count)(uint64_t sum[4], const uint64_t part[4]))
{
    struct origin_row origin = {.id = apply->op->origin};
    if (head->origin != apply->origin) {
        const int err = origin_get(apply->tree, apply->txn, head->origin, &origin);
        if (err) {
            return err == -ENOENT ? -EIO : err;
        }
    }
    head->version.dot.origin = origin.id;
    uint64_t part[4];
    fingerprint_of(path, &head->version, part);
    count(apply->state.fingerprint, part);
    return 0;
}

static int in_context(struct apply *apply, const struct tree_change *change,
                      const struct head *head, bool *ret_in)
{
    *ret_in = false;
    for (size_t i = 0; i < change->context_count; i++) {
        if (change->context[i].seq != head->version.dot.seq) {
            continue;
        }
        struct known_origin *known = NULL;
        const int err = find_origin(apply, &change->context[i].origin, &known);
        if (err) {
            return err;
        }
        if (known->number == head->origin) {
            *ret_in = true;
            return 0;
        }
    }
    return 0;
}

/* Moves the heads that the change replaces from the row to the history. */
static int retire_heads(struct apply *apply, const struct tree_change *change,
                        struct entry_row *row)
{
    size_t kept = 0;
    for (size_t i = 0; i < row->heads_count; i++) {
        struct head *head = &row->heads[i];
        bool retires = false;
        int err = in_context(apply, change, head, &retires);
        if (!err && !retires) {
            row->heads[kept++] = *head;
            continue;
        }
        if (!err) {
            err = count_head(apply, change->path, head, fingerprint_subtract);
        }
        if (!err) {
            err = history_add(apply->tree, apply->txn, change->path, head, apply->now_ms);
        }
        if (err) {
            return err;
        }
    }
    row->heads_count = kept;
    return 0;
}

struct tree_version version_of(const struct tree_op *op, const struct tree_change *change,
                               struct buf *ret_attributes)
{
    for (size_t i = 0; i < change->attributes_count; i++) {
        field_put_string(ret_attributes, change->attributes[i].name);
        field_put_string(ret_attributes, change->attributes[i].value);
    }
    return (struct tree_version){
        .kind = change->kind,
        .mode = change->mode,
        .mtime_ns = change->mtime_ns,
        .file_id = change->file_id,
        .size_bytes = change->size_bytes,
        .target = change->target,
        .attributes = buf_bytes(ret_attributes),
        .lamport = op->lamport,
        .dot = {op->origin, op->seq},
    };
}

static int add_head(struct apply *apply, const struct tree_change *change,
                    const struct tree_version *version, struct entry_row *row)
{
    struct head *head = entry_row_add(row);
    head->origin = apply->origin;
    head->version = *version;
    if (change->kind == TREE_FILE) {
        const struct tree_host *host = &apply->tree->host;
        const int err =
            host->hold(host->context, apply->txn, &change->file_id, apply->kind == APPLY_LOCAL);
        if (err && (err != -ENOENT || apply->kind == APPLY_LOCAL)) {
            return err;
        }
        head->is_held = !err;
    }
    return count_head(apply, change->path, head, fingerprint_add);
}

/* A local change may replace what a snapshot brought and the vector does not cover yet. */
static int note_replaced(struct apply *apply, const struct tree_change *change)
{
    for (size_t i = 0; i < change->context_count; i++) {
        const struct dot *dot = &change->context[i];
        struct known_origin *known = NULL;
        int err = find_origin(apply, &dot->origin, &known);
        if (!err && dot->seq > known->row.seq) {
            err = replaced_add(apply->tree, apply->txn, &apply->state, dot, change->path);
        }
        if (err) {
            return err;
        }
    }
    return 0;
}

/* Whether a version comes into being: not if a local change has replaced it before it came. */
static int find_whether_adds(struct apply *apply, const struct tree_change *change, bool *ret_adds)
{
    if (change->kind == TREE_DELETE) {
        *ret_adds = false;
        return 0;
    }
    const struct dot dot = {apply->op->origin, apply->op->seq};
    bool was_replaced = false;
    const int err =
        replaced_has(apply->tree, apply->txn, &apply->state, &dot, change->path, &was_replaced);
    *ret_adds = !was_replaced;
    return err;
}

/* A snapshot that was merged in part brought it. */
static bool is_head(const struct apply *apply, const struct entry_row *row)
{
    for (size_t i = 0; i < row->heads_count; i++) {
        if (row->heads[i].version.dot.seq == apply->op->seq &&
            row->heads[i].origin == apply->origin) {
            return true;
        }
    }
    return false;
}

static int apply_change(struct apply *apply, const struct tree_change *change)
{
    uint64_t directory = 0;
    struct bytes name;
    bool adds = false;
    int err = apply->kind == APPLY_REMOTE ? 0 : note_replaced(apply, change);
    if (!err) {
        err = find_whether_adds(apply, change, &adds);
    }
    if (!err) {
        err = place_find(&apply->place, change->path, adds, &directory, &name);
        if (err == -ENOENT && !adds) {
            return 0;
        }
    }
    if (err) {
        return err;
    }
    CLEANUP_BUF struct buf attributes = BUF_INIT;
    CLEANUP_BUF struct buf copy = BUF_INIT;
    CLEANUP_ENTRY_ROW struct entry_row row = {0};
    err = entry_copy(apply->tree, apply->txn, directory, name, &copy, &row);
    if (err && err != -ENOENT) {
        return err;
    }
    const struct place_before before = {.existed = !err, .had_heads = row.heads_count > 0};
    err = retire_heads(apply, change, &row);
    if (!err && adds && !is_head(apply, &row)) {
        const struct tree_version version = version_of(apply->op, change, &attributes);
        err = add_head(apply, change, &version, &row);
    }
    return err ? err : place_settle(&apply->place, directory, name, &row, before);
}

static int limit_origins(struct apply *apply)
{
    if (HASH_COUNT(apply->known) < KNOWN_ORIGINS_MAX) {
        return 0;
    }
    const int err = write_origins(apply);
    forget_origins(apply);
    return err;
}

/* The log of the origin, the feed of this database, and the single values. */
static int finish_op(struct apply *apply, struct known_origin *origin, struct bytes bytes)
{
    struct tree_state *state = &apply->state;
    const struct tree_op *op = apply->op;
    struct origin_row row = {.id = op->origin, .seq = op->seq};
    sha256_id(bytes, &row.hash);
    state_count_origin(state, &origin->row, &row);
    origin->row = row;
    origin->is_new = true;
    state->feed_last++;
    if (state->lamport < op->lamport) {
        state->lamport = op->lamport;
    }
    const struct feed_row feed = {TREE_FEED_OP, apply->origin, op->seq, apply->now_ms};
    int err = op_put(apply->tree, apply->txn, apply->origin, op->seq, bytes);
    if (!err) {
        err = feed_put(apply->tree, apply->txn, state->feed_last, &feed);
    }
    const struct dot dot = {op->origin, op->seq};
    return err ? err : replaced_trim(apply->tree, apply->txn, state, &dot);
}

int apply_begin(const struct tree *tree, struct kv_txn *txn, enum apply_kind kind,
                struct apply **ret_apply)
{
    struct tree_state state;
    const int err = state_get(tree, txn, &state);
    if (err) {
        return err;
    }
    struct apply *apply = mem_alloc(sizeof *apply);
    apply->tree = tree;
    apply->txn = txn;
    apply->kind = kind;
    apply->state = state;
    apply->place = (struct place){
        .tree = tree, .txn = txn, .state = &apply->state, .way.forgets = tree->forgets};
    *ret_apply = apply;
    return 0;
}

const struct tree_state *apply_state(const struct apply *apply)
{
    return &apply->state;
}

int apply_origin(struct apply *apply, const struct origin_id *id, struct origin_row *ret_row)
{
    struct known_origin *known = NULL;
    int err = limit_origins(apply);
    if (!err) {
        err = find_origin(apply, id, &known);
    }
    if (!err) {
        *ret_row = known->row;
    }
    return err;
}

int apply_op(struct apply *apply, const struct tree_op *op, struct bytes bytes)
{
    apply->op = op;
    apply->now_ms = apply->tree->host.now_ms(apply->tree->host.context);
    apply->is_state_new = true;
    int err = limit_origins(apply);
    struct known_origin *origin = NULL;
    if (!err) {
        err = find_origin(apply, &op->origin, &origin);
    }
    if (!err && origin->number == 0) {
        err = origin_add(apply->tree, apply->txn, &apply->state, &op->origin, &origin->number);
    }
    if (err) {
        return err;
    }
    apply->origin = origin->number;
    for (size_t i = 0; !err && i < op->changes_count; i++) {
        err = apply_change(apply, &op->changes[i]);
    }
    return err ? err : finish_op(apply, origin, bytes);
}

int apply_end(struct apply *apply)
{
    int err = place_end(&apply->place);
    if (!err) {
        err = write_origins(apply);
    }
    if (!err && apply->is_state_new) {
        err = state_put(apply->tree, apply->txn, &apply->state);
    }
    apply_drop(apply);
    return err;
}

void apply_drop(struct apply *apply)
{
    if (!apply) {
        return;
    }
    forget_origins(apply);
    place_done(&apply->place);
    free(apply);
}

static int compare_changes(const void *left, const void *right)
{
    const struct tree_change *const *a = left;
    const struct tree_change *const *b = right;
    return bytes_compare((*a)->path, (*b)->path);
}

bool changes_differ(const struct tree_change *changes, size_t count)
{
    bool is_sorted = true;
    for (size_t i = 1; is_sorted && i < count; i++) {
        is_sorted = bytes_compare(changes[i - 1].path, changes[i].path) < 0;
    }
    if (is_sorted) {
        return true;
    }
    const struct tree_change **sorted = mem_alloc_array(count, sizeof(struct tree_change *));
    for (size_t i = 0; i < count; i++) {
        sorted[i] = &changes[i];
    }
    qsort(sorted, count, sizeof(struct tree_change *), compare_changes);
    bool differ = true;
    for (size_t i = 1; differ && i < count; i++) {
        differ = !bytes_equal(sorted[i - 1]->path, sorted[i]->path);
    }
    free(sorted);
    return differ;
}
