/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/replica_disk_priv.h"

#include <string.h>

#include "base/mem.h"
#include "tree/vector.h"

static struct kv *make_kv(void)
{
    const struct kv_options options = {.tables = tree_table_names, .tables_count = TREE_TABLES};
    struct kv *kv = NULL;
    const int err = kv_open_memory(&options, &kv);
    CHECK(!err);
    return kv;
}

static struct kv_txn *begin(struct kv *kv)
{
    struct kv_txn *txn = NULL;
    const int err = kv_write(kv, &txn);
    CHECK(!err);
    return txn;
}

/* The table with all its rows. */
static void copy_table(struct kv_txn *from, struct kv_txn *to, kv_table table)
{
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    int err = kv_cursor_open(from, table, &cursor);
    CHECK(!err);
    struct bytes key;
    struct bytes value;
    while (kv_next(cursor, &key, &value) == 0) {
        err = kv_append(to, table, key, value);
        CHECK(!err);
    }
}

/* Opens the tree that is there, or makes one. */
static void open_tree(struct replica_disk *disk, const struct tree_host *host,
                      const struct origin_id *origin, uint64_t epoch)
{
    struct kv_txn *txn = begin(disk->kv);
    int err = tree_open(txn, 0, host, origin, epoch, &disk->tree);
    CHECK(!err);
    err = kv_commit(txn);
    CHECK(!err);
}

static void forget_undos(struct replica_disk *disk, size_t first)
{
    for (size_t i = first; i < disk->undos_count; i++) {
        kv_abort(disk->undos[i].before);
    }
    disk->undos_count = first;
}

static struct kv *copy_kv(struct kv_txn *from)
{
    struct kv *kv = make_kv();
    struct kv_txn *to = begin(kv);
    for (kv_table table = 0; table < TREE_TABLES; table++) {
        copy_table(from, to, table);
    }
    const int err = kv_commit(to);
    CHECK(!err);
    return kv;
}

/* Makes the disk what `txn` sees; which may be of the disk itself. */
static void put_back(struct replica_disk *disk, const struct tree_host *host, struct kv_txn *txn)
{
    struct kv *kv = copy_kv(txn);
    forget_undos(disk, 0);
    tree_close(disk->tree);
    kv_close(disk->kv);
    disk->kv = kv;
    open_tree(disk, host, &(struct origin_id){0}, 0);
}

void replica_disk_make(struct replica_disk *disk, const struct tree_host *host,
                       const struct origin_id *origin, uint64_t epoch)
{
    CHECK(!disk->kv);
    disk->kv = make_kv();
    open_tree(disk, host, origin, epoch);
}

void replica_disk_renew(struct replica_disk *disk, const struct origin_id *origin)
{
    struct kv_txn *txn = begin(disk->kv);
    int err = tree_renew_origin(disk->tree, txn, origin);
    CHECK(!err);
    err = kv_commit(txn);
    CHECK(!err);
}

struct kv_txn *replica_disk_read(const struct replica_disk *disk)
{
    struct kv_txn *txn = NULL;
    const int err = kv_read(disk->kv, &txn);
    CHECK(!err);
    return txn;
}

/* Room for one more: those that are on disk for good are not needed. */
static void trim_undos(struct replica_disk *disk, uint64_t now_us)
{
    size_t gone = 0;
    while (gone + disk->torn_depth < disk->undos_count && disk->undos[gone].durable_us <= now_us) {
        gone++;
    }
    if (disk->undos_count - gone == REPLICA_UNDO_MAX) {
        gone++; /* a pile of writes that wait: the oldest counts as written */
    }
    for (size_t i = 0; i < gone; i++) {
        kv_abort(disk->undos[i].before);
    }
    disk->undos_count -= gone;
    memmove(disk->undos, disk->undos + gone, disk->undos_count * sizeof *disk->undos);
}

struct kv_txn *replica_disk_write(struct replica_disk *disk, uint64_t now_us)
{
    trim_undos(disk, now_us);
    disk->undos[disk->undos_count++] = (struct replica_undo){.before = replica_disk_read(disk)};
    return begin(disk->kv);
}

void replica_disk_written(struct replica_disk *disk, struct kv_txn *txn, uint64_t durable_us)
{
    const int err = kv_commit(txn);
    CHECK(!err);
    disk->undos[disk->undos_count - 1].durable_us = durable_us;
}

void replica_disk_not_written(struct replica_disk *disk, struct kv_txn *txn)
{
    kv_abort(txn);
    forget_undos(disk, disk->undos_count - 1);
}

void replica_disk_crash(struct replica_disk *disk, const struct tree_host *host, uint64_t now_us)
{
    size_t first = 0;
    while (first < disk->undos_count && disk->undos[first].durable_us <= now_us) {
        first++;
    }
    if (first < disk->undos_count) {
        put_back(disk, host, disk->undos[first].before);
    }
}

void replica_disk_tear(struct replica_disk *disk, const struct tree_host *host, size_t writes_count)
{
    const size_t count = writes_count < disk->undos_count ? writes_count : disk->undos_count;
    if (count > 0) {
        put_back(disk, host, disk->undos[disk->undos_count - count].before);
    }
}

void replica_disk_keep(struct replica_disk *disk)
{
    kv_close(disk->copy);
    disk->copy = NULL;
    if (disk->kv) {
        struct kv_txn *txn = replica_disk_read(disk);
        disk->copy = copy_kv(txn);
        kv_abort(txn);
    }
}

static void forget_inbox(struct replica_disk *disk)
{
    buf_done(&disk->inbox);
    disk->inbox = BUF_INIT;
    disk->has_inbox = false;
}

static void wipe_tables(struct replica_disk *disk)
{
    forget_undos(disk, 0);
    tree_close(disk->tree);
    kv_close(disk->kv);
    disk->tree = NULL;
    disk->kv = NULL;
}

void replica_disk_roll_back(struct replica_disk *disk, const struct tree_host *host)
{
    forget_inbox(disk);
    wipe_tables(disk);
    if (disk->copy) {
        struct kv_txn *txn = NULL;
        const int err = kv_read(disk->copy, &txn);
        CHECK(!err);
        disk->kv = copy_kv(txn);
        kv_abort(txn);
        open_tree(disk, host, &(struct origin_id){0}, 0);
    }
}

void replica_disk_wipe(struct replica_disk *disk)
{
    forget_inbox(disk);
    wipe_tables(disk);
    kv_close(disk->copy);
    disk->copy = NULL;
}
