/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Local changes: look at what is there, refuse what makes no sense, and write one op whose contexts
 * name the heads that are replaced. The op is then applied like one from anywhere else.
 */

#include "tree/change.h"

#include <stddef.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "tree/apply_priv.h"
#include "tree/change_priv.h"
#include "tree/entries_priv.h"

/* An op in the making. Contexts are kept by index until it is done, since the arrays grow. */
struct builder {
    const struct tree *tree;
    struct kv_txn *txn;
    struct way way; /* of the path that was looked at last: nothing changes while it is made */
    struct tree_change *changes;
    size_t *context_begins;
    size_t changes_count;
    size_t changes_capacity;
    struct dot *dots;
    size_t dots_count;
    size_t dots_capacity;
    struct kept *kept; /* what must live as long as the op */
    bool has_hidden;   /* a change goes by another path than was asked for */
    bool has_copies;   /* of versions that the tree has: their content may be on other nodes only */
};

struct kept {
    struct kept *next;
    max_align_t room[]; /* attributes, too */
};

static void builder_done(struct builder *builder)
{
    way_done(&builder->way);
    while (builder->kept) {
        struct kept *next = builder->kept->next;
        free(builder->kept);
        builder->kept = next;
    }
    free(builder->changes);
    free(builder->context_begins);
    free(builder->dots);
}
#define CLEANUP_BUILDER __attribute__((cleanup(builder_done)))

static void *keep_room(struct builder *builder, size_t size)
{
    struct kept *kept = mem_alloc(sizeof *kept + size);
    kept->next = builder->kept;
    builder->kept = kept;
    return kept->room;
}

static struct bytes keep(struct builder *builder, struct bytes bytes)
{
    if (bytes.size == 0) {
        return BYTES(NULL, 0);
    }
    uint8_t *copy = keep_room(builder, bytes.size);
    memcpy(copy, bytes.data, bytes.size);
    return BYTES(copy, bytes.size);
}

/* "a" and "b" to "a/b". */
static struct bytes keep_joined(struct builder *builder, struct bytes top, struct bytes rest)
{
    if (top.size == 0 || rest.size == 0) {
        return keep(builder, top.size ? top : rest);
    }
    uint8_t *joined = keep_room(builder, top.size + 1 + rest.size);
    memcpy(joined, top.data, top.size);
    joined[top.size] = '/';
    memcpy(joined + top.size + 1, rest.data, rest.size);
    return BYTES(joined, top.size + 1 + rest.size);
}

/* spot_find() */
static int find_spot(struct builder *builder, struct bytes path, struct spot *ret_spot,
                     struct entry_row *ret_row)
{
    builder->way.forgets = builder->tree->forgets;
    return spot_find(builder->tree, builder->txn, &builder->way, path, ret_spot, ret_row);
}

/* Of more heads than a change can replace, the first so many: the change is shown all the same,
 * being the newest, and the next one replaces more. */
static int add_context(struct builder *builder, const struct entry_row *row, enum faces faces,
                       size_t *ret_count)
{
    *ret_count = 0;
    for (size_t i = 0; i < row->heads_count && *ret_count < TREE_OP_CONTEXT_MAX; i++) {
        const struct head *head = &row->heads[i];
        const enum faces face = head->version.kind == TREE_DIRECTORY ? FACE_DIRECTORY : FACE_FILE;
        if ((faces & face) == 0) {
            continue;
        }
        struct origin_row origin;
        const int err = origin_get(builder->tree, builder->txn, head->origin, &origin);
        if (err) {
            return err == -ENOENT ? -EIO : err;
        }
        if (builder->dots_count == builder->dots_capacity) {
            builder->dots_capacity = builder->dots_capacity ? 2 * builder->dots_capacity : 8;
            builder->dots =
                mem_resize_array(builder->dots, builder->dots_capacity, sizeof *builder->dots);
        }
        builder->dots[builder->dots_count++] = (struct dot){origin.id, head->version.dot.seq};
        (*ret_count)++;
    }
    return 0;
}

/* Adds a change whose context is what `row` has of `faces`. */
static int add_change(struct builder *builder, const struct tree_change *change,
                      const struct entry_row *row, enum faces faces)
{
    if (builder->changes_count >= TREE_OP_CHANGES_MAX) {
        return -EFBIG;
    }
    if (builder->changes_count == builder->changes_capacity) {
        const size_t capacity = builder->changes_capacity ? 2 * builder->changes_capacity : 8;
        builder->changes = mem_resize_array(builder->changes, capacity, sizeof *builder->changes);
        builder->context_begins =
            mem_resize_array(builder->context_begins, capacity, sizeof *builder->context_begins);
        builder->changes_capacity = capacity;
    }
    const size_t begin = builder->dots_count;
    size_t count = 0;
    const int err = add_context(builder, row, faces, &count);
    if (err) {
        return err;
    }
    builder->context_begins[builder->changes_count] = begin;
    builder->changes[builder->changes_count] = *change;
    builder->changes[builder->changes_count++].context_count = count;
    return 0;
}

static int add_deletion(struct builder *builder, struct bytes path, const struct entry_row *row,
                        enum faces faces)
{
    const struct tree_change change = {.kind = TREE_DELETE, .path = path};
    return add_change(builder, &change, row, faces);
}

static int add_put(struct builder *builder, const struct tree_put *put, struct bytes path,
                   const struct entry_row *row, enum faces faces)
{
    const struct tree_change change = {
        .kind = put->kind,
        .path = path,
        .mode = put->mode,
        .mtime_ns = put->mtime_ns,
        .file_id = put->file_id,
        .size_bytes = put->size_bytes,
        .target = put->target,
        .attributes = put->attributes,
        .attributes_count = put->attributes_count,
    };
    return add_change(builder, &change, row, faces);
}

/* A rename is planned path by path; what comes out is all that goes, then all that comes, so that
 * each half stays in one part of the tree. */
static void put_deletions_first(struct builder *builder)
{
    struct tree_change *sorted = mem_alloc_array(builder->changes_count, sizeof *sorted);
    size_t count = 0;
    for (int puts = 0; puts < 2; puts++) {
        for (size_t i = 0; i < builder->changes_count; i++) {
            if ((builder->changes[i].kind != TREE_DELETE) == puts) {
                sorted[count++] = builder->changes[i];
            }
        }
    }
    free(builder->changes);
    builder->changes = sorted;
}

static int apply_built(const struct builder *builder, const struct tree_op *op, struct bytes bytes)
{
    const enum apply_kind kind = builder->has_copies ? APPLY_AGAIN : APPLY_LOCAL;
    CLEANUP(apply_drop) struct apply *apply = NULL;
    int err = apply_begin(builder->tree, builder->txn, kind, &apply);
    if (!err) {
        err = apply_op(apply, op, bytes);
    }
    return err ? err : apply_end(STEAL_PTR(apply));
}

/* Writes and applies the op. */
static int build(struct builder *builder, enum tree_event event, struct bytes event_path,
                 struct bytes event_source, struct dot *ret_dot)
{
    struct tree_state state;
    struct origin_row origin;
    int err = 0;
    if (builder->has_hidden && !changes_differ(builder->changes, builder->changes_count)) {
        err = -EEXIST;
    }
    if (!err) {
        err = state_get(builder->tree, builder->txn, &state);
    }
    if (!err && state.lamport >= TREE_LAMPORT_MAX) {
        err = -EOVERFLOW;
    }
    if (!err) {
        err = origin_get(builder->tree, builder->txn, state.own_origin, &origin);
    }
    if (err) {
        return err;
    }
    for (size_t i = 0; builder->dots && i < builder->changes_count; i++) {
        builder->changes[i].context = builder->dots + builder->context_begins[i];
    }
    if (event == TREE_EVENT_RENAME) {
        put_deletions_first(builder);
    }
    const struct tree_op op = {
        .origin = origin.id,
        .seq = origin.seq + 1,
        .previous = origin.hash,
        .lamport = state.lamport + 1,
        .event = event,
        .event_path = event_path,
        .event_source = event_source,
        .changes = builder->changes,
        .changes_count = builder->changes_count,
    };
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    err = tree_op_format(&op, &bytes);
    if (!err) {
        err = apply_built(builder, &op, buf_bytes(&bytes));
    }
    if (err) {
        return err;
    }
    *ret_dot = (struct dot){op.origin, op.seq};
    return 0;
}

static int check_path(struct bytes path)
{
    return path.size == 0 ? -EINVAL : path_check(path);
}

/* The condition on what a spot shows now. */
static int check_condition(struct builder *builder, enum tree_condition condition,
                           const struct id *match, struct entry_row *row, bool is_hidden_file)
{
    if (condition == TREE_ANY) {
        return 0;
    }
    struct tree_entry entry;
    const int err = row_show(builder->tree, builder->txn, row, is_hidden_file, &entry);
    if (err && err != -ENOENT) {
        return err;
    }
    if (condition == TREE_ABSENT) {
        return err ? 0 : -EEXIST;
    }
    if (err) {
        return -ENOENT;
    }
    return entry.version.kind == TREE_FILE && id_equal(&entry.version.file_id, match) ? 0 : -ESTALE;
}

/* One put against what is there. */
static int plan_put(struct builder *builder, const struct tree_put *put)
{
    int err = check_path(put->path);
    if (!err && put->kind != TREE_FILE && put->kind != TREE_DIRECTORY &&
        put->kind != TREE_SYMLINK) {
        err = -EINVAL;
    }
    if (err) {
        return err;
    }
    struct spot spot;
    CLEANUP_ENTRY_ROW struct entry_row row = {0};
    err = find_spot(builder, put->path, &spot, &row);
    if (err && err != -ENOENT) {
        return err;
    }
    err = check_condition(builder, put->condition, &put->match, &row, spot.is_hidden_file);
    if (err) {
        return err;
    }
    const bool wants_directory = put->kind == TREE_DIRECTORY;
    const bool is_directory = row_is_directory(&row) && !spot.is_hidden_file;
    if (wants_directory && row_has_file(&row) && !is_directory) {
        return -EEXIST;
    }
    if (!wants_directory && is_directory) {
        return -EISDIR;
    }
    if (wants_directory && spot.is_hidden_file) {
        return -EEXIST;
    }
    builder->has_hidden = builder->has_hidden || spot.is_hidden_file;
    return add_put(builder, put, keep(builder, spot.path), &row,
                   wants_directory ? FACE_DIRECTORY : FACE_FILE);
}

int tree_change_put(const struct tree *tree, struct kv_txn *txn, const struct tree_put *put,
                    struct dot *ret_dot)
{
    return tree_change_put_many(tree, txn, put, 1, ret_dot);
}

static int compare_paths(const void *left, const void *right)
{
    const struct tree_put *const *a = left;
    const struct tree_put *const *b = right;
    return path_compare((*a)->path, (*b)->path);
}

/* Puts by path, to see how they stand to each other and to find one. */
struct sorted {
    const struct tree_put **puts;
    size_t count;
};

static void sorted_done(struct sorted *sorted)
{
    free(sorted->puts);
}
#define CLEANUP_SORTED __attribute__((cleanup(sorted_done)))

/* -EEXIST: a path twice; -ENOTDIR: a path below one that is no directory; -EFBIG. */
static int sort_puts(const struct tree_put *puts, size_t puts_count, struct sorted *ret_sorted)
{
    if (puts_count > TREE_OP_CHANGES_MAX) {
        return -EFBIG;
    }
    const struct tree_put **sorted = mem_alloc_array(puts_count + 1, sizeof(struct tree_put *));
    for (size_t i = 0; i < puts_count; i++) {
        sorted[i] = &puts[i];
    }
    *ret_sorted = (struct sorted){sorted, puts_count};
    qsort(sorted, puts_count, sizeof(struct tree_put *), compare_paths);
    /* What is below a file follows it at once. */
    for (size_t i = 1; i < puts_count; i++) {
        const struct tree_put *before = sorted[i - 1];
        if (bytes_equal(before->path, sorted[i]->path)) {
            return -EEXIST;
        }
        if (before->kind != TREE_DIRECTORY && path_is_within(sorted[i]->path, before->path)) {
            return -ENOTDIR;
        }
    }
    return 0;
}

static bool sorted_has(const struct sorted *sorted, struct bytes path)
{
    const struct tree_put wanted = {.path = path};
    const struct tree_put *key = &wanted;
    return sorted->count > 0 && bsearch(&key, sorted->puts, sorted->count,
                                        sizeof(struct tree_put *), compare_paths) != NULL;
}

int tree_change_put_many(const struct tree *tree, struct kv_txn *txn, const struct tree_put *puts,
                         size_t puts_count, struct dot *ret_dot)
{
    CLEANUP_BUILDER struct builder builder = {.tree = tree, .txn = txn};
    CLEANUP_SORTED struct sorted sorted = {0};
    int err = sort_puts(puts, puts_count, &sorted);
    for (size_t i = 0; !err && i < puts_count; i++) {
        err = plan_put(&builder, &puts[i]);
    }
    return err ? err : build(&builder, TREE_EVENT_CHANGES, BYTES(NULL, 0), BYTES(NULL, 0), ret_dot);
}

/* Deletes what is below `top` and is not wanted. */
static int plan_leftovers(struct builder *builder, struct bytes top, const struct sorted *wanted)
{
    struct tree_walk *walk = NULL;
    int err = tree_walk_open(builder->tree, builder->txn, top, BYTES(NULL, 0), &walk);
    if (err) {
        return err == -ENOENT ? 0 : err;
    }
    while (!err) {
        struct bytes path;
        struct tree_entry entry;
        err = tree_walk_next(walk, &path, &entry);
        if (err || sorted_has(wanted, path)) {
            continue;
        }
        struct spot spot;
        CLEANUP_ENTRY_ROW struct entry_row row = {0};
        err = find_spot(builder, path, &spot, &row);
        if (!err && !spot.is_hidden_file && row.heads_count > 0) {
            err = add_deletion(builder, keep(builder, path), &row, FACE_BOTH);
        }
    }
    tree_walk_close(walk);
    return err == -ENOENT ? 0 : err;
}

/* A path that is wanted replaces whatever its row has. */
static int plan_wanted(struct builder *builder, const struct tree_put *put)
{
    /* -ENOTDIR: what is in the way goes with the leftovers. */
    struct spot spot = {0};
    CLEANUP_ENTRY_ROW struct entry_row row = {0};
    const int err = find_spot(builder, put->path, &spot, &row);
    if (err && err != -ENOENT && err != -ENOTDIR) {
        return err;
    }
    if (spot.is_hidden_file) {
        /* A real NAME~file from now on; the hidden one goes with the leftovers of NAME. */
        entry_row_done(&row);
    }
    return add_put(builder, put, put->path, &row, FACE_BOTH);
}

static int check_below(struct bytes top, const struct tree_put *puts, size_t puts_count)
{
    for (size_t i = 0; i < puts_count; i++) {
        const int err = check_path(puts[i].path);
        if (err) {
            return err;
        }
        if (!path_is_within(puts[i].path, top) || puts[i].path.size == top.size) {
            return -EINVAL;
        }
    }
    return 0;
}

int tree_change_replace_directory(const struct tree *tree, struct kv_txn *txn,
                                  const struct tree_put *top, const struct tree_put *puts,
                                  size_t puts_count, struct dot *ret_dot)
{
    CLEANUP_BUILDER struct builder builder = {.tree = tree, .txn = txn};
    CLEANUP_SORTED struct sorted sorted = {0};
    int err = top->kind == TREE_DIRECTORY ? 0 : -EINVAL;
    if (!err) {
        err = check_below(top->path, puts, puts_count);
    }
    if (!err) {
        err = sort_puts(puts, puts_count, &sorted);
    }
    if (!err) {
        err = plan_put(&builder, top);
    }
    if (!err) {
        err = plan_leftovers(&builder, top->path, &sorted);
    }
    /* As they stand in the tables. Nobody else sees the order. */
    for (size_t i = 0; !err && i < puts_count; i++) {
        err = plan_wanted(&builder, sorted.puts[i]);
    }
    return err ? err : build(&builder, TREE_EVENT_ATOMIC, top->path, BYTES(NULL, 0), ret_dot);
}

int tree_change_delete(const struct tree *tree, struct kv_txn *txn,
                       const struct tree_delete *deletion, struct dot *ret_dot)
{
    int err = check_path(deletion->path);
    if (err) {
        return err;
    }
    CLEANUP_BUILDER struct builder builder = {.tree = tree, .txn = txn};
    struct spot spot;
    CLEANUP_ENTRY_ROW struct entry_row row = {0};
    err = find_spot(&builder, deletion->path, &spot, &row);
    if (!err) {
        err = check_condition(&builder, deletion->condition, &deletion->match, &row,
                              spot.is_hidden_file);
    }
    if (err) {
        return err;
    }
    const bool is_directory = row_is_directory(&row) && !spot.is_hidden_file;
    if (is_directory && row.child != 0 && !deletion->recursive) {
        return -ENOTEMPTY;
    }
    if (is_directory) {
        err = plan_leftovers(&builder, spot.path, &(struct sorted){0});
    }
    const enum faces face = is_directory ? FACE_DIRECTORY : FACE_FILE;
    size_t heads = 0;
    for (size_t i = 0; i < row.heads_count; i++) {
        heads += (row.heads[i].version.kind == TREE_DIRECTORY) == is_directory;
    }
    if (!err && heads > 0) {
        err = add_deletion(&builder, keep(&builder, spot.path), &row, face);
    }
    return err ? err : build(&builder, TREE_EVENT_CHANGES, BYTES(NULL, 0), BYTES(NULL, 0), ret_dot);
}

/* One of many: what can't go is left out. */
static int plan_removal(struct builder *builder, const struct tree_delete *deletion)
{
    struct spot spot;
    CLEANUP_ENTRY_ROW struct entry_row row = {0};
    int err = check_path(deletion->path);
    if (err) {
        return err;
    }
    err = find_spot(builder, deletion->path, &spot, &row);
    if (!err) {
        err = check_condition(builder, deletion->condition, &deletion->match, &row,
                              spot.is_hidden_file);
    }
    if (err == -ENOENT || err == -ENOTDIR || err == -ESTALE) {
        return 0;
    }
    const bool is_directory = row_is_directory(&row) && !spot.is_hidden_file;
    if (err || is_directory || row.heads_count == 0) {
        return err;
    }
    builder->has_hidden = builder->has_hidden || spot.is_hidden_file;
    return add_deletion(builder, keep(builder, spot.path), &row, FACE_FILE);
}

int tree_change_delete_many(const struct tree *tree, struct kv_txn *txn,
                            const struct tree_delete *deletions, size_t deletions_count,
                            size_t *ret_count, struct dot *ret_dot)
{
    CLEANUP_BUILDER struct builder builder = {.tree = tree, .txn = txn};
    int err = 0;
    for (size_t i = 0; !err && i < deletions_count; i++) {
        err = plan_removal(&builder, &deletions[i]);
    }
    if (!err && builder.changes_count > 0) {
        err = build(&builder, TREE_EVENT_CHANGES, BYTES(NULL, 0), BYTES(NULL, 0), ret_dot);
    }
    if (!err) {
        *ret_count = builder.changes_count;
    }
    return err;
}

/* A copy of a version as a put at another path. */
static int plan_copy(struct builder *builder, const struct tree_version *version, struct bytes path,
                     const struct entry_row *replaced, enum faces faces)
{
    struct bytes rest = version->attributes;
    struct tree_attribute attribute;
    size_t count = 0;
    while (tree_attribute_next(&rest, &attribute)) {
        count++;
    }
    struct tree_attribute *attributes = keep_room(builder, count * sizeof *attributes);
    rest = keep(builder, version->attributes);
    for (size_t i = 0; i < count && tree_attribute_next(&rest, &attribute); i++) {
        attributes[i] = attribute;
    }
    builder->has_copies = true;
    const struct tree_put put = {
        .kind = version->kind,
        .mode = version->mode,
        .mtime_ns = version->mtime_ns,
        .file_id = version->file_id,
        .size_bytes = version->size_bytes,
        .target = keep(builder, version->target),
        .attributes = attributes,
        .attributes_count = count,
    };
    return add_put(builder, &put, path, replaced, faces);
}

int change_copy(const struct tree *tree, struct kv_txn *txn, const struct tree_version *version,
                struct bytes path, const struct entry_row *row, enum faces faces,
                struct dot *ret_dot)
{
    CLEANUP_BUILDER struct builder builder = {.tree = tree, .txn = txn};
    const int err = plan_copy(&builder, version, keep(&builder, path), row, faces);
    return err ? err : build(&builder, TREE_EVENT_CHANGES, BYTES(NULL, 0), BYTES(NULL, 0), ret_dot);
}

/* Moves everything below the directory `from` to the same place below `to`. Nothing is below `to`
 * that it could meet. A hidden file goes by the name that it is shown under. */
static int plan_move_below(struct builder *builder, struct bytes from, struct bytes to)
{
    struct tree_walk *walk = NULL;
    int err = tree_walk_open(builder->tree, builder->txn, from, BYTES(NULL, 0), &walk);
    while (!err) {
        struct bytes path;
        struct tree_entry entry;
        err = tree_walk_next(walk, &path, &entry);
        if (err) {
            break;
        }
        struct spot spot;
        CLEANUP_ENTRY_ROW struct entry_row row = {0};
        err = find_spot(builder, path, &spot, &row);
        if (!err && !spot.is_hidden_file && row.heads_count > 0) {
            err = add_deletion(builder, keep(builder, path), &row, FACE_BOTH);
        }
        if (!err && entry.is_explicit) {
            const struct bytes rest = BYTES(path.data + from.size + 1, path.size - from.size - 1);
            const struct bytes target = keep_joined(builder, to, rest);
            err = path_check(target);
            const struct entry_row nothing = {0};
            if (!err) {
                err = plan_copy(builder, &entry.version, target, &nothing, FACE_BOTH);
            }
        }
    }
    tree_walk_close(walk);
    return err == -ENOENT ? 0 : err;
}

/* What is at the target of a rename must be of the same sort, and a directory empty. */
static int check_target(const struct entry_row *row, const struct spot *spot, bool is_directory)
{
    const bool is_there = row->heads_count > 0 || row->child != 0;
    const bool target_is_directory = row_is_directory(row) && !spot->is_hidden_file;
    if (!is_there) {
        return 0;
    }
    if (is_directory != target_is_directory) {
        return is_directory ? -ENOTDIR : -EISDIR;
    }
    return is_directory && row->child != 0 ? -ENOTEMPTY : 0;
}

int tree_change_rename(const struct tree *tree, struct kv_txn *txn, struct bytes from,
                       struct bytes to, struct dot *ret_dot)
{
    int err = check_path(from);
    if (!err) {
        err = check_path(to);
    }
    if (err) {
        return err;
    }
    CLEANUP_BUILDER struct builder builder = {.tree = tree, .txn = txn};
    struct spot spot;
    struct spot target_spot;
    struct tree_entry entry;
    CLEANUP_ENTRY_ROW struct entry_row row = {0};
    CLEANUP_ENTRY_ROW struct entry_row target = {0};
    err = find_spot(&builder, from, &spot, &row);
    if (!err) {
        err = row_show(tree, txn, &row, spot.is_hidden_file, &entry);
    }
    if (err) {
        return err;
    }
    const bool is_directory = entry.version.kind == TREE_DIRECTORY;
    if (path_is_within(to, from) && (is_directory || bytes_equal(from, to))) {
        return -EINVAL;
    }
    err = find_spot(&builder, to, &target_spot, &target);
    if (err && err != -ENOENT) {
        return err;
    }
    err = check_target(&target, &target_spot, is_directory);
    const enum faces face = is_directory ? FACE_DIRECTORY : FACE_FILE;
    if (!err && entry.is_explicit) {
        err = add_deletion(&builder, keep(&builder, spot.path), &row, face);
    }
    if (!err && entry.is_explicit) {
        err = plan_copy(&builder, &entry.version, keep(&builder, target_spot.path), &target, face);
    }
    if (!err && is_directory) {
        err = plan_move_below(&builder, from, to);
    }
    return err ? err : build(&builder, TREE_EVENT_RENAME, to, from, ret_dot);
}
