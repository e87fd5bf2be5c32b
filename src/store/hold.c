/* SPDX-License-Identifier: Apache-2.0 */
#include "store/hold.h"

#include "base/err.h"
#include "base/mem.h"
#include "store/files_priv.h"
#include "store/followed_priv.h"
#include "store/index_priv.h"
#include "store/pins_priv.h"
#include "store/put.h"
#include "store/read.h"
#include "store/store_priv.h"
#include "store/writer.h"

struct hold_job {
    struct store_job job;
    struct store *store;
    const struct id *file;
    enum store_reason reason;
};

static int hold_apply(struct store_job *job, struct kv_txn *txn)
{
    const struct hold_job *hold = CONTAINER_OF(job, struct hold_job, job);
    return files_hold(hold->store, txn, hold->file, hold->reason);
}

static int release_apply(struct store_job *job, struct kv_txn *txn)
{
    const struct hold_job *hold = CONTAINER_OF(job, struct hold_job, job);
    return files_release(hold->store, txn, hold->file, hold->reason);
}

static int change_hold(struct store *store, const struct id *file, enum store_reason reason,
                       store_apply_fn apply)
{
    struct hold_job hold = {
        .job = {.apply = apply},
        .store = store,
        .file = file,
        .reason = reason,
    };
    return store_submit_wait(store, &hold.job);
}

/* True if no block of the list lies in followed files alone. */
static int is_own(struct store *store, const struct file_metadata *metadata, bool *ret_is)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = kv_read(store->kv, &txn);
    bool has_other = true;
    for (size_t i = 0; !err && has_other && i < metadata->blocks_count; i++) {
        struct block_record record;
        err = index_block(txn, &metadata->blocks[i].id, &record);
        if (!err && record.locations_count == 0) {
            err = -ENOENT;
        }
        if (!err) {
            err = followed_has_other_place(txn, &record, &has_other);
        }
    }
    *ret_is = !err && has_other;
    return err;
}

static int copy_blocks(struct store *store, const struct file_metadata *metadata)
{
    struct store_put *put = NULL;
    CLEANUP_FREE uint8_t *data = mem_alloc_aligned(64, CHUNK_BLOCK_BYTES_MAX);
    int err = store_put_begin(store, STORE_CACHE, &put);
    for (size_t i = 0; !err && i < metadata->blocks_count; i++) {
        const struct block_ref *block = &metadata->blocks[i];
        err = store_read_block(store, &block->id, 0, data, block->size_bytes);
        if (!err) {
            err = store_put_block(put, &block->id, BYTES(data, block->size_bytes));
        }
    }
    if (err) {
        store_put_abort(put);
        return err == -EBADMSG ? -ENOENT : err;
    }
    struct store_put_result result;
    return store_put_commit(put, &result);
}

int store_own(struct store *store, const struct id *file)
{
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    bool is_own_already = false;
    int err = store_file_metadata(store, file, &metadata);
    if (!err) {
        err = is_own(store, &metadata, &is_own_already);
    }
    return err || is_own_already ? err : copy_blocks(store, &metadata);
}

int store_hold(struct store *store, const struct id *file, enum store_reason reason)
{
    int err = change_hold(store, file, reason, hold_apply);
    if (err == -EAGAIN && followed_is_shunned(reason) && store_own(store, file) == 0) {
        err = change_hold(store, file, reason, hold_apply);
    }
    return err == -EAGAIN ? -ENOENT : err;
}

int store_release(struct store *store, const struct id *file, enum store_reason reason)
{
    return change_hold(store, file, reason, release_apply);
}

int store_hold_in(struct store *store, struct kv_txn *txn, const struct id *file,
                  enum store_reason reason)
{
    const int err = files_hold(store, txn, file, reason);
    return err == -EAGAIN ? -ENOENT : err;
}

int store_release_in(struct store *store, struct kv_txn *txn, const struct id *file,
                     enum store_reason reason)
{
    return files_release(store, txn, file, reason);
}

int store_hold_again_in(struct store *store, struct kv_txn *txn, const struct id *file,
                        enum store_reason reason)
{
    struct file_row row;
    const int err = files_get(txn, file, &row);
    if (err || row.holders[reason] == 0) {
        return err ? err : -ENOENT;
    }
    return files_hold(store, txn, file, reason);
}

static void fill_info(const struct id *id, const struct file_row *row,
                      struct store_file_info *ret_info)
{
    ret_info->id = *id;
    ret_info->length_bytes = row->length_bytes;
    ret_info->blocks_count = row->blocks_count;
    memcpy(ret_info->holders, row->holders, sizeof row->holders);
    ret_info->is_held = files_is_held(row);
}

int store_file_info(struct store *store, const struct id *file, struct store_file_info *ret_info)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct file_row row;
    int err = kv_read(store->kv, &txn);
    if (!err) {
        err = files_get(txn, file, &row);
    }
    if (err) {
        return err;
    }
    fill_info(file, &row, ret_info);
    return 0;
}

int store_next_file(struct store *store, const struct id *after, struct store_file_info *ret_info)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    int err = kv_read(store->kv, &txn);
    if (err) {
        return err;
    }
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    err = kv_cursor_open(txn, TABLE_FILES, &cursor);
    if (err) {
        return err;
    }
    /* One byte more than `after` is the least key behind it. */
    uint8_t from[ID_BYTES + 1] = {0};
    if (after) {
        memcpy(from, after->bytes, ID_BYTES);
    }
    struct bytes key;
    struct bytes value;
    err = kv_seek(cursor, BYTES(from, after ? sizeof from : 0), &key, &value);
    if (err) {
        return err;
    }
    struct file_row row;
    err = key.size == ID_BYTES ? files_decode(value, &row) : -EIO;
    if (err) {
        return err;
    }
    struct id id;
    memcpy(id.bytes, key.data, ID_BYTES);
    fill_info(&id, &row, ret_info);
    return 0;
}

bool store_pin(struct store *store, const struct id *id)
{
    return pins_add(store->pins, id);
}

void store_unpin(struct store *store, const struct id *id)
{
    pins_drop(store->pins, id);
}
