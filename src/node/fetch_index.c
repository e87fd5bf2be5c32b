/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Two tables: rows by (key, holder), which are asked for by key, with their state; and the same
 * rows by (holder, key), which are walked when a holder goes. An empty file `clean` stands beside
 * them while the index is closed. What is set in some turns of the thread is one transaction: keys
 * have no order, so that each commit writes about a page for each row, and holders tell of many
 * small files in many small messages.
 */

#include "node/fetch_index_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "kv/kv.h"

#define ROW_BYTES (RING_KEY_BYTES + NODE_ID_BYTES)
/* A transaction ends after so long, or when it has changed so many rows: it keeps the pages of what
 * it has changed in memory, two for each row at most. */
#define COMMIT_US ((uint64_t)50 * 1000)
#define COMMIT_ROWS 1024u

enum index_table { TABLE_BY_KEY, TABLE_BY_HOLDER, TABLES };

struct fetch_index {
    struct kv *kv;
    struct kv_txn *txn;
    bool is_writing;     /* `txn` */
    uint64_t begun_us;   /* that, as far as fetch_index_tend() saw it; 0: not yet */
    unsigned rows_count; /* that it has changed */
    int dir_fd;
    int err;
};

static void wipe(int dir_fd)
{
    static const char *const files[] = {"clean", "data.mdb", "lock.mdb"};
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        (void)unlinkat(dir_fd, files[i], 0);
    }
}

static int open_kv(const char *path, struct kv **ret_kv)
{
    static const char *const tables[TABLES] = {"by_key", "by_holder"};
    const struct kv_options options = {
        .tables = tables,
        .tables_count = TABLES,
        .path = path,
        .no_sync = true,
    };
    return kv_open(&options, ret_kv);
}

/* The mark goes before anything is changed, and is gone for good: a power cut must not bring it
 * back together with half of what was written meanwhile. */
static bool take_mark(int dir_fd)
{
    return unlinkat(dir_fd, "clean", 0) == 0 && file_sync(dir_fd) == 0;
}

int fetch_index_open(const char *data, struct fetch_index **ret_index)
{
    char *path = mem_format("%s/holders", data);
    struct fetch_index *index = mem_alloc(sizeof *index);
    index->dir_fd = -1;
    int err = mkdir(path, 0700) < 0 && errno != EEXIST ? err_from_errno(errno) : 0;
    if (!err) {
        err = file_open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, &index->dir_fd);
    }
    if (!err && !take_mark(index->dir_fd)) {
        wipe(index->dir_fd);
    }
    if (!err) {
        err = open_kv(path, &index->kv);
    }
    if (err && index->dir_fd >= 0 && err != -EMFILE && err != -ENOMEM) {
        log_info("holders_discarded", KV("error", err_name(err)));
        wipe(index->dir_fd);
        err = open_kv(path, &index->kv);
    }
    free(path);
    if (err) {
        fetch_index_discard(index);
        return err;
    }
    *ret_index = index;
    return 0;
}

/* Ends the transaction under way: what was set is in the file. */
static void flush(struct fetch_index *index)
{
    if (!index->txn) {
        return;
    }
    struct kv_txn *txn = index->txn;
    index->txn = NULL;
    index->begun_us = 0;
    index->rows_count = 0;
    if (!index->is_writing) {
        kv_abort(txn);
        return;
    }
    index->is_writing = false;
    const int err = kv_commit(txn);
    if (err && index->err == 0) {
        index->err = err;
    }
}

void fetch_index_end_turns(struct fetch_index *index)
{
    if (index) {
        flush(index);
    }
}

static void close_index(struct fetch_index *index, bool is_kept)
{
    if (!index) {
        return;
    }
    if (index->kv) {
        flush(index);
    }
    kv_abort(index->txn);
    kv_close(index->kv);
    if (index->dir_fd >= 0) {
        /* Pages are with the system, not on the disk, when the mark is made: they are synced
         * first. */
        int fd = -1;
        bool is_synced = is_kept && index->err == 0 &&
                         file_open_at(index->dir_fd, "data.mdb", O_RDWR, 0, &fd) == 0 &&
                         file_sync(fd) == 0;
        if (fd >= 0) {
            close(fd);
        }
        if (!is_synced || file_replace(index->dir_fd, "clean", BYTES(NULL, 0)) != 0) {
            wipe(index->dir_fd);
        }
        close(index->dir_fd);
    }
    free(index);
}

void fetch_index_close(struct fetch_index *index)
{
    close_index(index, true);
}

void fetch_index_discard(struct fetch_index *index)
{
    close_index(index, false);
}

int fetch_index_failed(const struct fetch_index *index)
{
    return index ? index->err : 0;
}

uint64_t fetch_index_tend(struct fetch_index *index, uint64_t now_us)
{
    if (!index || !index->txn) {
        return UINT64_MAX;
    }
    if (index->begun_us == 0) {
        index->begun_us = now_us;
    }
    if (index->is_writing && index->rows_count < COMMIT_ROWS &&
        now_us < index->begun_us + COMMIT_US) {
        return index->begun_us + COMMIT_US;
    }
    flush(index);
    return UINT64_MAX;
}

/* Gives the transaction under way; what can only be read can't be written, so a read one is ended
 * for a write one. */
static int begin(struct fetch_index *index, bool writes)
{
    if (!index || index->err) {
        return index ? index->err : -EIO;
    }
    if (index->txn && writes && !index->is_writing) {
        kv_abort(index->txn);
        index->txn = NULL;
    }
    if (index->txn) {
        return 0;
    }
    const int err = writes ? kv_write(index->kv, &index->txn) : kv_read(index->kv, &index->txn);
    index->is_writing = !err && writes;
    return err;
}

static void make_key(const struct locate_row *row, uint8_t by_key[ROW_BYTES],
                     uint8_t by_holder[ROW_BYTES])
{
    memcpy(by_key, row->key.bytes, RING_KEY_BYTES);
    memcpy(by_key + RING_KEY_BYTES, row->holder.bytes, NODE_ID_BYTES);
    memcpy(by_holder, row->holder.bytes, NODE_ID_BYTES);
    memcpy(by_holder + NODE_ID_BYTES, row->key.bytes, RING_KEY_BYTES);
}

static int get_state(struct fetch_index *index, struct bytes key, enum locate_state *ret_state)
{
    struct bytes value;
    const int err = kv_get(index->txn, TABLE_BY_KEY, key, &value);
    if (err == -ENOENT) {
        *ret_state = LOCATE_NONE;
        return 0;
    }
    if (!err) {
        if (value.size != 1 || value.data[0] < LOCATE_PARTIAL || value.data[0] > LOCATE_COMPLETE) {
            return -EIO;
        }
        *ret_state = (enum locate_state)value.data[0];
    }
    return err;
}

static int change(struct fetch_index *index, const struct locate_row *row, struct bytes by_key,
                  struct bytes by_holder)
{
    if (row->state == LOCATE_NONE) {
        const int err = kv_delete(index->txn, TABLE_BY_KEY, by_key);
        return err ? err : kv_delete(index->txn, TABLE_BY_HOLDER, by_holder);
    }
    const uint8_t state = (uint8_t)row->state;
    const int err = kv_put(index->txn, TABLE_BY_KEY, by_key, BYTES(&state, 1));
    return err ? err : kv_put(index->txn, TABLE_BY_HOLDER, by_holder, BYTES(&state, 1));
}

int fetch_index_set(struct fetch_index *index, const struct locate_row *row,
                    enum locate_state *ret_old)
{
    uint8_t by_key[ROW_BYTES];
    uint8_t by_holder[ROW_BYTES];
    enum locate_state old = LOCATE_NONE;
    make_key(row, by_key, by_holder);
    int err = begin(index, true);
    if (err) {
        return err;
    }
    err = get_state(index, BYTES(by_key, sizeof by_key), &old);
    if (!err && old != row->state) {
        index->rows_count++;
        err = change(index, row, BYTES(by_key, sizeof by_key), BYTES(by_holder, sizeof by_holder));
    }
    if (err) {
        index->err = err; /* the transaction is lost, with what was set in it before */
        return err;
    }
    *ret_old = old;
    return 0;
}

static int take_row(struct bytes key, struct bytes value, bool by_holder,
                    struct locate_row *ret_row)
{
    if (key.size != ROW_BYTES || value.size != 1 || value.data[0] < LOCATE_PARTIAL ||
        value.data[0] > LOCATE_COMPLETE) {
        return -EIO;
    }
    const size_t key_at = by_holder ? NODE_ID_BYTES : 0;
    const size_t holder_at = by_holder ? 0 : RING_KEY_BYTES;
    memcpy(ret_row->key.bytes, key.data + key_at, RING_KEY_BYTES);
    memcpy(ret_row->holder.bytes, key.data + holder_at, NODE_ID_BYTES);
    ret_row->state = (enum locate_state)value.data[0];
    return 0;
}

int fetch_index_rows(struct fetch_index *index, const struct locate_row *from,
                     const struct node_id *holder, struct locate_row *ret_rows, size_t limit,
                     size_t *ret_count)
{
    int err = begin(index, false);
    if (err) {
        return err;
    }
    uint8_t by_key[ROW_BYTES];
    uint8_t by_holder[ROW_BYTES];
    struct locate_row first = *from;
    if (holder) {
        first.holder = *holder;
    }
    make_key(&first, by_key, by_holder);
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    err = kv_cursor_open(index->txn, holder ? TABLE_BY_HOLDER : TABLE_BY_KEY, &cursor);
    struct bytes key;
    struct bytes value;
    size_t count = 0;
    if (!err) {
        err = kv_seek(cursor, BYTES(holder ? by_holder : by_key, ROW_BYTES), &key, &value);
    }
    while (!err && count < limit) {
        err = take_row(key, value, holder != NULL, &ret_rows[count]);
        if (err || (holder && !node_id_equal(&ret_rows[count].holder, holder))) {
            break;
        }
        count++;
        if (count < limit) {
            err = kv_next(cursor, &key, &value);
        }
    }
    if (err && err != -ENOENT) {
        index->err = err;
        return err;
    }
    *ret_count = count;
    return 0;
}
