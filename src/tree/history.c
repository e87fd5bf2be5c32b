/* SPDX-License-Identifier: Apache-2.0 */
#include "base/codec.h"
#include "base/err.h"
#include "tree/change.h"
#include "tree/entries_priv.h"
#include "wire/fields.h"

/* `*path` becomes that of the row: NAME for NAME~file. */
static int visit_heads(const struct tree *tree, struct kv_txn *txn, struct bytes *path,
                       size_t *left, int (*visit)(void *context, const struct tree_past *past),
                       void *context)
{
    struct spot spot;
    CLEANUP_ENTRY_ROW struct entry_row row = {0};
    int err = spot_find(tree, txn, NULL, *path, &spot, &row);
    struct head *directory = NULL;
    struct head *file = NULL;
    if (!err) {
        err = entry_shown(tree, txn, &row, &directory, &file);
    }
    if (err) {
        return err == -ENOENT || err == -ENOTDIR ? 0 : err;
    }
    *path = spot.path;
    const bool shows_directory = row_is_directory(&row) && !spot.is_hidden_file;
    const struct head *shown = shows_directory ? directory : file;
    for (int others = 0; others < 2; others++) {
        for (size_t i = 0; !err && *left > 0 && i < row.heads_count; i++) {
            const struct head *head = &row.heads[i];
            if ((head == shown) == (others == 0)) {
                const struct tree_past past = {
                    .version = head->version,
                    .is_head = true,
                    .is_shown = head == shown,
                };
                err = visit(context, &past);
                (*left)--;
            }
        }
    }
    return err;
}

static int visit_past(const struct tree *tree, struct kv_txn *txn, const struct head *head,
                      uint64_t ended_ms, int (*visit)(void *context, const struct tree_past *past),
                      void *context)
{
    struct origin_row origin;
    const int err = origin_get(tree, txn, head->origin, &origin);
    if (err) {
        return err == -ENOENT ? -EIO : err;
    }
    struct tree_past past = {.version = head->version, .ended_ms = ended_ms};
    past.version.dot.origin = origin.id;
    return visit(context, &past);
}

int tree_log(const struct tree *tree, struct kv_txn *txn, struct bytes path, size_t limit,
             int (*visit)(void *context, const struct tree_past *past), void *context)
{
    int err = path.size > 0 ? visit_heads(tree, txn, &path, &limit, visit, context) : 0;
    if (err) {
        return err;
    }
    CLEANUP_HISTORY_WALK struct history_walk walk = {0};
    err = history_walk_begin(tree, txn, path, &walk);
    for (; !err && limit > 0; limit--) {
        uint64_t ended_ms = 0;
        struct head head = {0};
        err = history_walk_next(&walk, &ended_ms, &head);
        if (err) {
            return err == -ENOENT ? 0 : err;
        }
        err = visit_past(tree, txn, &head, ended_ms, visit, context);
    }
    return err;
}

int history_decode(struct bytes value, uint64_t *ret_ended_ms, struct head *ret_head)
{
    struct field_reader reader = field_reader_of(value);
    const uint64_t ended_ms = field_get_u64(&reader);
    struct head head = {0};
    head_read(&reader, &head);
    if (!field_reader_ended(&reader)) {
        return -EIO;
    }
    *ret_ended_ms = ended_ms;
    *ret_head = head;
    return 0;
}

int history_walk_begin(const struct tree *tree, struct kv_txn *txn, struct bytes path,
                       struct history_walk *ret_walk)
{
    /* From behind the newest row of the path backwards. */
    struct history_walk walk = {.before_bytes = sizeof walk.before};
    memset(walk.before, 0xff, sizeof walk.before);
    history_path_key(path, walk.before);
    const int err = kv_cursor_open(txn, tree_table(tree, TREE_HISTORY), &walk.cursor);
    if (!err) {
        *ret_walk = walk;
    }
    return err;
}

int history_walk_next(struct history_walk *walk, uint64_t *ret_ended_ms, struct head *ret_head)
{
    struct bytes key;
    struct bytes value;
    const int err =
        kv_seek_before(walk->cursor, BYTES(walk->before, walk->before_bytes), &key, &value);
    if (err) {
        return err;
    }
    if (key.size != HISTORY_KEY_BYTES || memcmp(key.data, walk->before, HISTORY_PATH_BYTES) != 0) {
        return -ENOENT;
    }
    memcpy(walk->before, key.data, key.size);
    walk->before_bytes = key.size;
    return history_decode(value, ret_ended_ms, ret_head);
}

void history_walk_done(struct history_walk *walk)
{
    kv_cursor_close(walk->cursor);
}

int history_forget(const struct tree *tree, struct kv_txn *txn, struct bytes key)
{
    struct bytes value;
    int err = kv_get(txn, tree_table(tree, TREE_HISTORY), key, &value);
    if (err) {
        return err;
    }
    uint64_t ended_ms = 0;
    struct head head = {0};
    err = history_decode(value, &ended_ms, &head);
    if (err || key.size != HISTORY_KEY_BYTES) {
        return -EIO;
    }
    uint8_t expiry[EXPIRY_KEY_BYTES];
    codec_put_be64(expiry, ended_ms);
    memcpy(expiry + 8, key.data, HISTORY_KEY_BYTES);
    const struct id file = head.version.file_id;
    const bool is_held = head.is_held;
    err = kv_delete(txn, tree_table(tree, TREE_HISTORY), key);
    if (!err) {
        err = kv_delete(txn, tree_table(tree, TREE_EXPIRY), BYTES(expiry, sizeof expiry));
        err = err == -ENOENT ? 0 : err;
    }
    if (!err && is_held) {
        err = tree->host.release(tree->host.context, txn, &file);
    }
    return err;
}

/* The first row of a table whose keys begin with a time. -ENOENT: none before `before_ms`. */
static int first_before(const struct tree *tree, struct kv_txn *txn, uint64_t before_ms,
                        uint8_t ret_key[EXPIRY_KEY_BYTES])
{
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    int err = kv_cursor_open(txn, tree_table(tree, TREE_EXPIRY), &cursor);
    struct bytes key;
    struct bytes value;
    if (!err) {
        err = kv_seek(cursor, BYTES(NULL, 0), &key, &value);
    }
    if (err) {
        return err;
    }
    if (key.size != EXPIRY_KEY_BYTES) {
        return -EIO;
    }
    if (codec_get_be64(key.data) >= before_ms) {
        return -ENOENT;
    }
    memcpy(ret_key, key.data, EXPIRY_KEY_BYTES);
    return 0;
}

static int expire_history(const struct tree *tree, struct kv_txn *txn, uint64_t before_ms,
                          size_t limit, bool *more)
{
    for (size_t i = 0; i < limit; i++) {
        uint8_t key[EXPIRY_KEY_BYTES];
        int err = first_before(tree, txn, before_ms, key);
        if (err) {
            return err == -ENOENT ? 0 : err;
        }
        err = history_forget(tree, txn, BYTES(key + 8, HISTORY_KEY_BYTES));
        if (err == -ENOENT) {
            err = kv_delete(txn, tree_table(tree, TREE_EXPIRY), BYTES(key, sizeof key));
        }
        if (err) {
            return err;
        }
    }
    uint8_t next[EXPIRY_KEY_BYTES];
    const int err = first_before(tree, txn, before_ms, next);
    *more = !err;
    return err == -ENOENT ? 0 : err;
}

static int expire_feed(const struct tree *tree, struct kv_txn *txn, uint64_t before_ms,
                       size_t limit, bool *more)
{
    struct tree_state state;
    int err = state_get(tree, txn, &state);
    const uint64_t first = state.feed_first;
    for (size_t i = 0; !err && state.feed_first <= state.feed_last; i++) {
        uint8_t key[8];
        codec_put_be64(key, state.feed_first);
        struct bytes value;
        struct feed_row row;
        err = kv_get(txn, tree_table(tree, TREE_FEED), BYTES(key, sizeof key), &value);
        if (!err) {
            err = feed_decode(value, &row);
        }
        if (err || row.at_ms >= before_ms) {
            break;
        }
        if (i == limit) {
            *more = true;
            break;
        }
        err = kv_delete(txn, tree_table(tree, TREE_FEED), BYTES(key, sizeof key));
        if (!err) {
            err = op_remove(tree, txn, row.origin, row.seq);
        }
        state.feed_first++;
    }
    if (err) {
        return err == -ENOENT ? -EIO : err;
    }
    return state.feed_first == first ? 0 : state_put(tree, txn, &state);
}

int tree_expire(const struct tree *tree, struct kv_txn *txn, uint64_t before_ms, size_t limit,
                bool *ret_more)
{
    *ret_more = false;
    const int err = expire_history(tree, txn, before_ms, limit, ret_more);
    return err ? err : expire_feed(tree, txn, before_ms, limit, ret_more);
}
