/* SPDX-License-Identifier: Apache-2.0 */

/*
 * To apply a change is to remove the heads that stand in its context and to add it as a head. The
 * outcome for a path depends on the set of changes alone, not on their order, as long as a change
 * is applied after all in its context; callers see to that.
 *
 * Directories exist as long as a row lives in them: the row of a directory counts its rows, the
 * first creates it, the last takes it away, upwards as far as that goes.
 *
 * The changes of one op mostly follow each other as the rows of the table do. So the way to the
 * last path is kept, and the row of the directory that was counted last, which is written when
 * another one is counted or the op ends: a change costs the same however deep its path is.
 */

#include "tree/apply_priv.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/map.h"
#include "hash/sha256.h"
#include "tree/entries_priv.h"
#include "wire/fields.h"

/* Origins named by contexts of one op come again and again: numbers found are kept. */
struct known_origin {
    struct origin_id id;
    uint32_t number;
    UT_hash_handle hh;
};

struct apply {
    const struct tree *tree;
    struct kv_txn *txn;
    const struct tree_op *op;
    struct tree_state state;
    uint32_t origin; /* number of the op's */
    uint64_t now_ms;
    bool is_own;
    struct known_origin *known;
    struct way way;
    uint64_t counted; /* directory whose row is below; 0: none */
    bool is_count_new;
    struct directory_row counted_row;
};

static int find_origin(struct apply *apply, const struct origin_id *id, uint32_t *ret_number)
{
    struct known_origin *known = NULL;
    HASH_FIND(hh, apply->known, id, sizeof *id, known);
    if (!known) {
        uint32_t number = 0;
        const int err = origin_number(apply->tree, apply->txn, id, &number);
        if (err) {
            return err;
        }
        known = mem_alloc(sizeof *known);
        *known = (struct known_origin){.id = *id, .number = number};
        HASH_ADD(hh, apply->known, id, sizeof known->id, known);
    }
    *ret_number = known->number;
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

static int write_count(struct apply *apply)
{
    if (!apply->is_count_new) {
        return 0;
    }
    apply->is_count_new = false;
    return directory_put(apply->tree, apply->txn, apply->counted, &apply->counted_row);
}

/* Keeps the row of another directory: the one in the table, or `row`. */
static int turn_count(struct apply *apply, uint64_t directory, const struct directory_row *row)
{
    if (apply->counted == directory) {
        return 0;
    }
    int err = write_count(apply);
    apply->counted = 0;
    if (row) {
        apply->counted_row = *row;
        apply->is_count_new = true;
    } else if (!err) {
        err = directory_get(apply->tree, apply->txn, directory, &apply->counted_row);
    }
    if (err) {
        return err == -ENOENT ? -EIO : err;
    }
    apply->counted = directory;
    return apply->tree->forgets ? write_count(apply) : 0;
}

/* A directory without rows goes, and its name's row if nothing else is in that. *ret_went: so it
 * was, *ret_parent has a row less. */
static int remove_directory(struct apply *apply, uint64_t directory, uint64_t *ret_parent,
                            bool *ret_went)
{
    const struct directory_row *row = &apply->counted_row;
    const struct bytes name = BYTES((const uint8_t *)row->name, row->name_bytes);
    apply->counted = 0;
    apply->is_count_new = false;
    way_leave(&apply->way, directory);
    CLEANUP_ENTRY_ROW struct entry_row entry = {0};
    int err = directory_remove(apply->tree, apply->txn, directory);
    if (!err) {
        err = entry_get(apply->tree, apply->txn, row->parent, name, &entry);
    }
    if (err) {
        return err == -ENOENT ? -EIO : err;
    }
    entry.child = 0;
    *ret_parent = row->parent;
    *ret_went = entry.heads_count == 0;
    return *ret_went ? entry_remove(apply->tree, apply->txn, row->parent, name)
                     : entry_put(apply->tree, apply->txn, row->parent, name, &entry);
}

/* One row more (+1) or less in a directory. At 0 the directory goes, and so on upwards. */
static int count_rows(struct apply *apply, uint64_t directory, int by)
{
    for (;;) {
        int err = turn_count(apply, directory, NULL);
        if (err) {
            return err;
        }
        apply->counted_row.entries_count += (uint64_t)by;
        apply->is_count_new = true;
        if (apply->counted_row.entries_count > 0 || directory == DIRECTORY_ROOT) {
            return apply->tree->forgets ? write_count(apply) : 0;
        }
        bool went = false;
        err = remove_directory(apply, directory, &directory, &went);
        if (err || !went) {
            return err;
        }
        by = -1;
    }
}

/* The directory below `name`, made if it is missing. */
static int enter_directory(struct apply *apply, uint64_t *directory, struct bytes name)
{
    CLEANUP_ENTRY_ROW struct entry_row entry = {0};
    int err = entry_get(apply->tree, apply->txn, *directory, name, &entry);
    const bool is_new = err == -ENOENT;
    if (err && !is_new) {
        return err;
    }
    if (entry.child == 0) {
        struct directory_row row = {.parent = *directory, .name_bytes = name.size};
        memcpy(row.name, name.data, name.size);
        entry.child = apply->state.next_directory++;
        /* The row first: what it borrows ends with the next change. */
        err = entry_put(apply->tree, apply->txn, *directory, name, &entry);
        if (!err && is_new) {
            err = count_rows(apply, *directory, 1);
        }
        if (!err) {
            err = turn_count(apply, entry.child, &row);
        }
        if (err) {
            return err;
        }
    }
    *directory = entry.child;
    return 0;
}

/* The directory that the change's row is in. -ENOENT: it does not exist and is not made, since the
 * change only removes. */
static int find_directory(struct apply *apply, const struct tree_change *change,
                          uint64_t *ret_directory, struct bytes *ret_name)
{
    struct bytes rest;
    uint64_t directory = way_back(&apply->way, change->path, &rest);
    struct bytes name = path_next(&rest);
    while (rest.size > 0) {
        int err = 0;
        if (change->kind != TREE_DELETE) {
            err = enter_directory(apply, &directory, name);
        } else {
            CLEANUP_ENTRY_ROW struct entry_row entry = {0};
            err = entry_get(apply->tree, apply->txn, directory, name, &entry);
            directory = entry.child;
            err = !err && directory == 0 ? -ENOENT : err;
        }
        if (err) {
            return err;
        }
        way_enter(&apply->way, change->path, rest, directory);
        name = path_next(&rest);
    }
    *ret_directory = directory;
    *ret_name = name;
    return 0;
}

/* Adds or subtracts what a head means for the fingerprint. */
static int count_head(struct apply *apply, struct bytes path, struct head *head,
                      void (*count)(uint64_t sum[4], const uint64_t part[4]))
{
    struct origin_row origin;
    const int err = origin_get(apply->tree, apply->txn, head->origin, &origin);
    if (err) {
        return err == -ENOENT ? -EIO : err;
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
        uint32_t number = 0;
        const int err = find_origin(apply, &change->context[i].origin, &number);
        if (err && err != -ENOENT) {
            return err;
        }
        if (!err && number == head->origin) {
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

static int add_head(struct apply *apply, const struct tree_change *change, struct bytes attributes,
                    struct entry_row *row)
{
    struct head *head = entry_row_add(row);
    head->origin = apply->origin;
    head->version = (struct tree_version){
        .kind = change->kind,
        .mode = change->mode,
        .mtime_ns = change->mtime_ns,
        .file_id = change->file_id,
        .size_bytes = change->size_bytes,
        .target = change->target,
        .attributes = attributes,
        .lamport = apply->op->lamport,
        .dot = {.seq = apply->op->seq},
    };
    if (change->kind == TREE_FILE) {
        const struct tree_host *host = &apply->tree->host;
        const int err = host->hold(host->context, apply->txn, &change->file_id);
        if (err && (err != -ENOENT || apply->is_own)) {
            return err;
        }
        head->is_held = !err;
    }
    return count_head(apply, change->path, head, fingerprint_add);
}

/* Writes the row or takes it away, and keeps the counts. */
static int settle_row(struct apply *apply, uint64_t directory, struct bytes name,
                      const struct entry_row *row, bool existed, bool had_heads)
{
    const bool has_heads = row->heads_count > 0;
    apply->state.entries_count += (uint64_t)has_heads - (uint64_t)had_heads;
    if (has_heads || row->child != 0) {
        const int err = entry_put(apply->tree, apply->txn, directory, name, row);
        return err || existed ? err : count_rows(apply, directory, 1);
    }
    if (!existed) {
        return 0;
    }
    const int err = entry_remove(apply->tree, apply->txn, directory, name);
    return err ? err : count_rows(apply, directory, -1);
}

static void format_attributes(const struct tree_change *change, struct buf *ret_bytes)
{
    for (size_t i = 0; i < change->attributes_count; i++) {
        field_put_string(ret_bytes, change->attributes[i].name);
        field_put_string(ret_bytes, change->attributes[i].value);
    }
}

static int apply_change(struct apply *apply, const struct tree_change *change)
{
    uint64_t directory = 0;
    struct bytes name;
    int err = find_directory(apply, change, &directory, &name);
    if (err) {
        return err == -ENOENT && change->kind == TREE_DELETE ? 0 : err;
    }
    CLEANUP_BUF struct buf attributes = BUF_INIT;
    CLEANUP_BUF struct buf copy = BUF_INIT;
    CLEANUP_ENTRY_ROW struct entry_row row = {0};
    err = entry_copy(apply->tree, apply->txn, directory, name, &copy, &row);
    if (err && err != -ENOENT) {
        return err;
    }
    const bool existed = !err;
    const bool had_heads = row.heads_count > 0;
    err = retire_heads(apply, change, &row);
    if (!err && change->kind != TREE_DELETE) {
        format_attributes(change, &attributes);
        err = add_head(apply, change, buf_bytes(&attributes), &row);
    }
    return err ? err : settle_row(apply, directory, name, &row, existed, had_heads);
}

/* The log of the origin, the feed of this database, and the single values. */
static int finish(struct apply *apply, struct bytes bytes)
{
    struct origin_row origin = {.id = apply->op->origin, .seq = apply->op->seq};
    sha256_id(bytes, &origin.hash);
    struct tree_state *state = &apply->state;
    int err = write_count(apply);
    state->feed_last++;
    if (state->lamport < apply->op->lamport) {
        state->lamport = apply->op->lamport;
    }
    const struct feed_row feed = {TREE_FEED_OP, apply->origin, apply->op->seq, apply->now_ms};
    if (!err) {
        err = origin_put(apply->tree, apply->txn, apply->origin, &origin);
    }
    if (!err) {
        err = op_put(apply->tree, apply->txn, apply->origin, apply->op->seq, bytes);
    }
    if (!err) {
        err = feed_put(apply->tree, apply->txn, state->feed_last, &feed);
    }
    return err ? err : state_put(apply->tree, apply->txn, state);
}

int op_apply(const struct tree *tree, struct kv_txn *txn, const struct tree_op *op,
             struct bytes bytes, bool is_own)
{
    struct apply apply = {
        .tree = tree,
        .txn = txn,
        .op = op,
        .now_ms = tree->host.now_ms(tree->host.context),
        .is_own = is_own,
        .way = {.forgets = tree->forgets},
    };
    int err = state_get(tree, txn, &apply.state);
    if (!err) {
        err = origin_number(tree, txn, &op->origin, &apply.origin);
        if (err == -ENOENT) {
            err = origin_add(tree, txn, &apply.state, &op->origin, &apply.origin);
        }
    }
    for (size_t i = 0; !err && i < op->changes_count; i++) {
        err = apply_change(&apply, &op->changes[i]);
    }
    if (!err) {
        err = finish(&apply, bytes);
    }
    forget_origins(&apply);
    way_done(&apply.way);
    return err;
}
