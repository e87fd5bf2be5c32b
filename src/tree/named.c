/* SPDX-License-Identifier: Apache-2.0 */

/* The content that versions name, in the order of rows and of the feed: no paths are made. */

#include <errno.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "tree/rows_priv.h"

static void visit_row(const struct entry_row *row,
                      void (*visit)(void *context, const struct id *file), void *context)
{
    for (size_t i = 0; i < row->heads_count; i++) {
        if (row->heads[i].version.kind == TREE_FILE) {
            visit(context, &row->heads[i].version.file_id);
        }
    }
}

int tree_named(const struct tree *tree, struct kv_txn *txn, struct buf *position, size_t limit,
               void (*visit)(void *context, const struct id *file), void *context)
{
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    struct bytes key;
    struct bytes value;
    int err = kv_cursor_open(txn, tree_table(tree, TREE_ENTRIES), &cursor);
    if (!err) {
        err = kv_seek(cursor, buf_bytes(position), &key, &value);
    }
    for (size_t i = 0; !err && i < limit; i++) {
        CLEANUP_ENTRY_ROW struct entry_row row = {0};
        err = entry_decode(value, &row);
        if (!err) {
            visit_row(&row, visit, context);
            /* One byte more is the least key behind it. */
            buf_clear(position);
            buf_add(position, key);
            buf_add_byte(position, 0);
            err = kv_next(cursor, &key, &value);
        }
    }
    return err;
}

int tree_named_since(const struct tree *tree, struct kv_txn *txn, uint64_t *position, size_t limit,
                     void (*visit)(void *context, const struct id *file), void *context)
{
    for (size_t i = 0; i < limit; i++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        struct tree_feed_item item;
        const int err = tree_feed_next(tree, txn, *position, &bytes, &item);
        if (err) {
            return err;
        }
        if (item.kind == TREE_FEED_GAP) {
            tree_op_parsed_done(&item.parsed);
            return -ESTALE;
        }
        for (size_t j = 0; j < item.parsed.op.changes_count; j++) {
            if (item.parsed.changes[j].kind == TREE_FILE) {
                visit(context, &item.parsed.changes[j].file_id);
            }
        }
        *position = item.position;
        tree_op_parsed_done(&item.parsed);
    }
    return 0;
}
