/* SPDX-License-Identifier: Apache-2.0 */
#include "tree/tree.h"

#include <stdlib.h>

#include "base/codec.h"
#include "base/err.h"
#include "base/mem.h"
#include "tree/rows_priv.h"
#include "wire/fields.h"

_Static_assert(TREE_REPLACED + 1 == TREE_TABLES, "every table has a name");

static int make_tree(const struct tree *tree, struct kv_txn *txn, const struct origin_id *origin,
                     uint64_t epoch)
{
    struct tree_state state = {
        .next_directory = DIRECTORY_ROOT + 1,
        .epoch = epoch,
        .feed_first = 1,
        .next_origin = 1,
    };
    int err = origin_add(tree, txn, &state, origin, &state.own_origin);
    if (!err) {
        err = directory_put(tree, txn, DIRECTORY_ROOT, &(struct directory_row){0});
    }
    return err ? err : state_put(tree, txn, &state);
}

int tree_open(struct kv_txn *txn, kv_table first_table, const struct tree_host *host,
              const struct origin_id *origin, uint64_t epoch, struct tree **ret_tree)
{
    struct tree *tree = mem_alloc(sizeof *tree);
    *tree = (struct tree){.first_table = first_table, .host = *host};
    struct tree_state state;
    int err = state_get(tree, txn, &state);
    if (err == -ENOENT) {
        err = make_tree(tree, txn, origin, epoch);
    }
    if (err) {
        free(tree);
        return err;
    }
    *ret_tree = tree;
    return 0;
}

void tree_close(struct tree *tree)
{
    free(tree);
}

bool tree_attribute_next(struct bytes *attributes, struct tree_attribute *ret_attribute)
{
    struct field_reader reader = field_reader_of(*attributes);
    if (attributes->size == 0) {
        return false;
    }
    const struct bytes name = field_get_string(&reader, TREE_ATTRIBUTE_NAME_BYTES_MAX);
    const struct bytes value = field_get_string(&reader, TREE_ATTRIBUTE_BYTES_MAX);
    if (reader.bad) {
        return false;
    }
    *ret_attribute = (struct tree_attribute){name, value};
    *attributes = reader.left;
    return true;
}

int tree_summary(const struct tree *tree, struct kv_txn *txn, struct tree_summary *ret_summary)
{
    struct tree_state state;
    struct origin_row origin;
    bool is_merging = false;
    int err = state_get(tree, txn, &state);
    if (!err) {
        err = origin_get(tree, txn, state.own_origin, &origin);
    }
    if (!err) {
        err = merge_mark_get(tree, txn, &is_merging);
    }
    if (err) {
        return err;
    }
    *ret_summary = (struct tree_summary){
        .entries_count = state.entries_count,
        .lamport = state.lamport,
        .epoch = state.epoch,
        .feed_last = state.feed_last,
        .feed_first = state.feed_first,
        .origin = origin.id,
        .origin_seq = origin.seq,
        .origin_hash = origin.hash,
        .vector_sum = state.vector_sum,
        .ops_count = state.ops_count,
        .is_merging = is_merging,
    };
    for (int i = 0; i < 4; i++) {
        codec_put_le64(ret_summary->fingerprint + 8 * i, state.fingerprint[i]);
    }
    return 0;
}
