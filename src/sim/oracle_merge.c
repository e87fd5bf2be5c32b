/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a set of ops makes of the tree, by the definition: of each path, all versions that ops of
 * the set gave it, but those that a change of the set names in its context. In whatever order.
 */

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "sim/oracle_priv.h"

/* A version of a path. */
struct version {
    bool is_replaced;
    UT_hash_handle hh;
    size_t key_size;
    uint8_t key[]; /* the dot, then the path */
};
#define KEY_DOT_BYTES (sizeof(struct origin_id) + sizeof(uint64_t))

/* A path with its heads. */
struct place {
    struct bytes path; /* of one of them */
    size_t heads_count;
    UT_hash_handle hh;
};

struct merge {
    struct sim_oracle *oracle;
    struct version *versions;
    struct place *places;
    struct buf key;
};

static struct bytes key_of(struct merge *merge, const struct dot *dot, struct bytes path)
{
    buf_clear(&merge->key);
    buf_add(&merge->key, BYTES(dot->origin.bytes, sizeof dot->origin.bytes));
    buf_add(&merge->key, BYTES((const uint8_t *)&dot->seq, sizeof dot->seq));
    buf_add(&merge->key, path);
    return buf_bytes(&merge->key);
}

static struct version *find_version(struct merge *merge, const struct dot *dot, struct bytes path)
{
    const struct bytes key = key_of(merge, dot, path);
    struct version *version;
    HASH_FIND(hh, merge->versions, key.data, key.size, version);
    return version;
}

static void add_versions(struct merge *merge, const struct known_op *known)
{
    for (size_t i = 0; i < known->parsed.op.changes_count; i++) {
        const struct tree_change *change = &known->parsed.op.changes[i];
        if (change->kind == TREE_DELETE) {
            continue;
        }
        const struct bytes key = key_of(merge, &known->dot, change->path);
        struct version *version = mem_alloc(sizeof *version + key.size);
        version->key_size = key.size;
        memcpy(version->key, key.data, key.size);
        HASH_ADD_KEYPTR(hh, merge->versions, version->key, version->key_size, version);
    }
}

static void replace_versions(struct merge *merge, const struct known_op *known)
{
    for (size_t i = 0; i < known->parsed.op.changes_count; i++) {
        const struct tree_change *change = &known->parsed.op.changes[i];
        for (size_t j = 0; j < change->context_count; j++) {
            struct version *version = find_version(merge, &change->context[j], change->path);
            if (version) {
                version->is_replaced = true;
            }
        }
    }
}

/* Follows each chain of `slot` from its end to its beginning. */
static bool mark_logs(struct sim_oracle *oracle, uint32_t slot, const struct tree *tree,
                      struct kv_txn *txn)
{
    struct vector_entry entry;
    struct origin_id last;
    const struct origin_id *after = NULL;
    while (tree_vector_next(tree, txn, after, &entry) == 0) {
        struct id hash = entry.hash;
        for (uint64_t seq = entry.seq; seq > 0; seq--) {
            const struct dot dot = {entry.origin, seq};
            struct known_op *op = oracle_find(oracle, &dot, &hash);
            if (!op) {
                oracle_fault(oracle, SIM_FAULT_MERGE, "%u has op %llu of a log that nobody made",
                             slot, (unsigned long long)seq);
                return false;
            }
            op->is_in_logs = true;
            hash = op->parsed.op.previous;
        }
        last = entry.origin;
        after = &last;
    }
    return true;
}

static void gather_places(struct merge *merge)
{
    struct version *version;
    struct version *next;
    HASH_ITER(hh, merge->versions, version, next)
    {
        if (version->is_replaced) {
            continue;
        }
        const struct bytes path =
            BYTES(version->key + KEY_DOT_BYTES, version->key_size - KEY_DOT_BYTES);
        struct place *place;
        HASH_FIND(hh, merge->places, path.data, path.size, place);
        if (!place) {
            place = mem_alloc(sizeof *place);
            place->path = path;
            HASH_ADD_KEYPTR(hh, merge->places, path.data, path.size, place);
        }
        place->heads_count++;
    }
}

struct heads {
    struct merge *merge;
    struct bytes path;
    size_t count;
    bool is_wrong;
};

/* Past versions come after the heads: 1 ends it. */
static int visit_head(void *context, const struct tree_past *past)
{
    struct heads *heads = context;
    if (!past->is_head) {
        return 1;
    }
    const struct version *version = find_version(heads->merge, &past->version.dot, heads->path);
    heads->count++;
    heads->is_wrong = heads->is_wrong || !version || version->is_replaced;
    return 0;
}

static void compare(struct merge *merge, uint32_t slot, const struct tree *tree, struct kv_txn *txn)
{
    struct tree_summary summary;
    const int err = tree_summary(tree, txn, &summary);
    CHECK(!err);
    const size_t places_count = HASH_COUNT(merge->places);
    if (summary.entries_count != places_count) {
        oracle_fault(merge->oracle, SIM_FAULT_MERGE, "%u has %llu entries, its logs make %zu", slot,
                     (unsigned long long)summary.entries_count, places_count);
    }
    struct place *place;
    struct place *next;
    HASH_ITER(hh, merge->places, place, next)
    {
        struct heads heads = {.merge = merge, .path = place->path};
        const int log_err = tree_log(tree, txn, place->path, SIZE_MAX, visit_head, &heads);
        if (log_err < 0 || heads.is_wrong || heads.count != place->heads_count) {
            oracle_fault(merge->oracle, SIM_FAULT_MERGE,
                         "%u has %zu heads of %.*s%s, its logs make %zu", slot, heads.count,
                         (int)place->path.size, (const char *)place->path.data,
                         heads.is_wrong ? " (others)" : "", place->heads_count);
        }
    }
}

static void merge_done(struct merge *merge)
{
    struct place *place;
    struct place *next_place;
    HASH_ITER(hh, merge->places, place, next_place)
    {
        HASH_DEL(merge->places, place);
        free(place);
    }
    struct version *version;
    struct version *next;
    HASH_ITER(hh, merge->versions, version, next)
    {
        HASH_DEL(merge->versions, version);
        free(version);
    }
    buf_done(&merge->key);
}

void oracle_check_merge(struct sim_oracle *oracle, uint32_t slot)
{
    struct kv_txn *txn = NULL;
    const struct tree *tree = sim_replicas_read(oracle->replicas, slot, &txn);
    struct merge merge = {.oracle = oracle};
    if (mark_logs(oracle, slot, tree, txn)) {
        for (const struct known_op *first = oracle->ops; first; first = first->hh.next) {
            for (const struct known_op *op = first; op; op = op->other) {
                if (op->is_in_logs) {
                    add_versions(&merge, op);
                }
            }
        }
        for (const struct known_op *first = oracle->ops; first; first = first->hh.next) {
            for (const struct known_op *op = first; op; op = op->other) {
                if (op->is_in_logs) {
                    replace_versions(&merge, op);
                }
            }
        }
        gather_places(&merge);
        compare(&merge, slot, tree, txn);
    }
    merge_done(&merge);
    kv_abort(txn);
}
