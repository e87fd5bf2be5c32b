/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_TREE_KV_COPY_H
#define TESTS_UNIT_TREE_KV_COPY_H

/*
 * A copy of all tables of a kv, and putting it back: what copying a data directory does.
 */

#include "helpers.h"

struct copied_row {
    kv_table table;
    struct buf key;
    struct buf value;
};

struct copy {
    struct copied_row *rows;
    size_t count;
};

static inline struct copy *kv_copy_out(struct kv *kv, unsigned tables_count)
{
    struct copy *copy = mem_alloc(sizeof *copy);
    struct kv_txn *txn = NULL;
    assert_int_equal(kv_read(kv, &txn), 0);
    for (kv_table table = 0; table < tables_count; table++) {
        struct kv_cursor *cursor = NULL;
        assert_int_equal(kv_cursor_open(txn, table, &cursor), 0);
        struct bytes key;
        struct bytes value;
        while (kv_next(cursor, &key, &value) == 0) {
            copy->rows = mem_resize_array(copy->rows, copy->count + 1, sizeof *copy->rows);
            struct copied_row *row = &copy->rows[copy->count++];
            *row = (struct copied_row){.table = table};
            buf_add(&row->key, key);
            buf_add(&row->value, value);
        }
        kv_cursor_close(cursor);
    }
    kv_abort(txn);
    return copy;
}

/* Takes the copy. */
static inline void kv_copy_in(struct kv *kv, unsigned tables_count, struct copy *copy)
{
    struct kv_txn *txn = NULL;
    assert_int_equal(kv_write(kv, &txn), 0);
    for (kv_table table = 0; table < tables_count; table++) {
        for (;;) {
            struct kv_cursor *cursor = NULL;
            struct bytes key;
            struct bytes value;
            assert_int_equal(kv_cursor_open(txn, table, &cursor), 0);
            const int err = kv_next(cursor, &key, &value);
            CLEANUP_BUF struct buf found = BUF_INIT;
            if (!err) {
                buf_add(&found, key);
            }
            kv_cursor_close(cursor);
            if (err) {
                break;
            }
            assert_int_equal(kv_delete(txn, table, buf_bytes(&found)), 0);
        }
    }
    for (size_t i = 0; i < copy->count; i++) {
        struct copied_row *row = &copy->rows[i];
        assert_int_equal(kv_put(txn, row->table, buf_bytes(&row->key), buf_bytes(&row->value)), 0);
        buf_done(&row->key);
        buf_done(&row->value);
    }
    assert_int_equal(kv_commit(txn), 0);
    free(copy->rows);
    free(copy);
}

#endif
