/* SPDX-License-Identifier: Apache-2.0 */
#include "kv/kv.h"

#include "base/err.h"
#include "base/mem.h"
#include "kv/kv_priv.h"

void kv_close(struct kv *kv)
{
    if (kv) {
        kv->ops->close(kv);
    }
}

uint64_t kv_version(struct kv *kv)
{
    return kv->ops->version(kv);
}

int kv_read(struct kv *kv, struct kv_txn **ret_txn)
{
    return kv->ops->read(kv, ret_txn);
}

uint64_t kv_snapshot(struct kv_txn *txn)
{
    CHECK(!txn->writes);
    return txn->kv->ops->snapshot(txn);
}

int kv_write(struct kv *kv, struct kv_txn **ret_txn)
{
    if (kv->read_only) {
        return -EROFS;
    }
    return kv->ops->write(kv, ret_txn);
}

int kv_commit(struct kv_txn *txn)
{
    CHECK(txn->writes);
    if (txn->failed) {
        const int err = txn->failed;
        txn->kv->ops->abort(txn);
        return err;
    }
    return txn->kv->ops->commit(txn);
}

void kv_abort(struct kv_txn *txn)
{
    if (txn) {
        txn->kv->ops->abort(txn);
    }
}

/* Some answers are news about the data; after any other the transaction is lost: a half-done
 * change of a tree can't be taken back alone. */
static int txn_note(struct kv_txn *txn, int err)
{
    if (err && err != -ENOENT && err != -EEXIST && err != -EINVAL) {
        txn->failed = err;
    }
    return err;
}

static int txn_note_change(struct kv_txn *txn, kv_table table, int err)
{
    if (!err) {
        txn->changes++;
        txn->table_changes[table]++;
    }
    return txn_note(txn, err);
}

static bool key_is_valid(struct bytes key)
{
    return key.size > 0 && key.size <= KV_KEY_BYTES_MAX;
}

int kv_get(struct kv_txn *txn, kv_table table, struct bytes key, struct bytes *ret_value)
{
    CHECK(table < txn->kv->tables_count);
    if (txn->failed) {
        return txn->failed;
    }
    if (!key_is_valid(key)) {
        return -EINVAL;
    }
    return txn_note(txn, txn->kv->ops->get(txn, table, key, ret_value));
}

int kv_put(struct kv_txn *txn, kv_table table, struct bytes key, struct bytes value)
{
    CHECK(txn->writes && table < txn->kv->tables_count);
    if (txn->failed) {
        return txn->failed;
    }
    if (!key_is_valid(key) || value.size > KV_VALUE_BYTES_MAX) {
        return -EINVAL;
    }
    return txn_note_change(txn, table, txn->kv->ops->put(txn, table, key, value));
}

int kv_append(struct kv_txn *txn, kv_table table, struct bytes key, struct bytes value)
{
    CHECK(txn->writes && table < txn->kv->tables_count);
    if (txn->failed) {
        return txn->failed;
    }
    if (!key_is_valid(key) || value.size > KV_VALUE_BYTES_MAX) {
        return -EINVAL;
    }
    return txn_note_change(txn, table, txn->kv->ops->append(txn, table, key, value));
}

int kv_delete(struct kv_txn *txn, kv_table table, struct bytes key)
{
    CHECK(txn->writes && table < txn->kv->tables_count);
    if (txn->failed) {
        return txn->failed;
    }
    if (!key_is_valid(key)) {
        return -EINVAL;
    }
    return txn_note_change(txn, table, txn->kv->ops->remove(txn, table, key));
}

int kv_count(struct kv_txn *txn, kv_table table, uint64_t *ret_count)
{
    CHECK(table < txn->kv->tables_count);
    if (txn->failed) {
        return txn->failed;
    }
    return txn_note(txn, txn->kv->ops->count(txn, table, ret_count));
}

uint64_t kv_changes(const struct kv_txn *txn)
{
    return txn->changes;
}

int kv_cursor_open(struct kv_txn *txn, kv_table table, struct kv_cursor **ret_cursor)
{
    CHECK(table < txn->kv->tables_count);
    if (txn->failed) {
        return txn->failed;
    }
    struct kv_cursor *cursor = NULL;
    const int err = txn->kv->ops->cursor_open(txn, table, &cursor);
    if (err) {
        return txn_note(txn, err);
    }
    cursor->txn = txn;
    cursor->table = table;
    cursor->place = KV_PLACE_BEFORE;
    cursor->table_changes = txn->table_changes[table];
    *ret_cursor = cursor;
    return 0;
}

void kv_cursor_close(struct kv_cursor *cursor)
{
    if (cursor) {
        cursor->txn->kv->ops->cursor_close(cursor);
    }
}

static int cursor_note(struct kv_cursor *cursor, enum kv_place end, int err)
{
    cursor->place = err ? end : KV_PLACE_AT;
    cursor->table_changes = cursor->txn->table_changes[cursor->table];
    return txn_note(cursor->txn, err);
}

int kv_seek(struct kv_cursor *cursor, struct bytes key, struct bytes *ret_key,
            struct bytes *ret_value)
{
    struct kv_txn *txn = cursor->txn;
    if (txn->failed) {
        return txn->failed;
    }
    if (key.size > KV_KEY_BYTES_MAX) {
        return -EINVAL;
    }
    return cursor_note(cursor, KV_PLACE_AFTER, txn->kv->ops->seek(cursor, key, ret_key, ret_value));
}

int kv_seek_before(struct kv_cursor *cursor, struct bytes key, struct bytes *ret_key,
                   struct bytes *ret_value)
{
    struct kv_txn *txn = cursor->txn;
    if (txn->failed) {
        return txn->failed;
    }
    if (key.size > KV_KEY_BYTES_MAX) {
        return -EINVAL;
    }
    return cursor_note(cursor, KV_PLACE_BEFORE,
                       txn->kv->ops->seek_before(cursor, key, ret_key, ret_value));
}

int kv_next(struct kv_cursor *cursor, struct bytes *ret_key, struct bytes *ret_value)
{
    struct kv_txn *txn = cursor->txn;
    if (txn->failed) {
        return txn->failed;
    }
    CHECK(cursor->table_changes == txn->table_changes[cursor->table]);
    int err = -ENOENT;
    if (cursor->place == KV_PLACE_BEFORE) {
        err = txn->kv->ops->seek(cursor, BYTES(NULL, 0), ret_key, ret_value);
    } else if (cursor->place == KV_PLACE_AT) {
        err = txn->kv->ops->next(cursor, ret_key, ret_value);
    }
    return cursor_note(cursor, KV_PLACE_AFTER, err);
}
