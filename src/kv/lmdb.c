/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmdb: kv over LMDB 0.9, one environment a directory, one named database a table.
 *
 * Flags. MDB_NOTLS ties a reader to its transaction instead of its thread, so that a pool of
 * threads can share transactions. MDB_NORDAHEAD because the index outgrows memory and is read at
 * random: read-ahead would fetch 128 KiB from disk for each page of 4 KiB and push hot pages out.
 * No MDB_WRITEMAP: with it a stray pointer anywhere in the process writes into the database, and
 * the file is as large as the map. MDB_NOSYNC only when asked for.
 *
 * Readers. Beginning a read transaction allocates and takes a slot in the shared reader table
 * under a mutex of all processes; renewing one costs two stores. Ended ones are kept, reset (they
 * pin no pages then), in a small pool.
 *
 * Damage. LMDB has no checksums and reads through a map, so a file that lost its end would be a
 * SIGBUS at some later read. A shorter file than LMDB's count of pages is not always damage: pages
 * that a transaction allocated at the end and gave up again are counted and never written. So when
 * the file is short at open, it is made long enough (the missing part reads as zeros, which no
 * tree page is) and every page that the tables use is visited once: one that had been cut off is
 * -EIO. This costs a scan; each commit and a clean close make the file long enough, so that only a
 * crash in between leads to it. Elsewhere, damage is found only as far as LMDB notices it.
 *
 * Panic. After a commit that failed at its end LMDB refuses reads, too; rescue.c goes on with them.
 *
 * The map. 1 TiB of address space is free, except under `ulimit -v` or in a sanitizer. If it is
 * refused (with ENOMEM; valgrind says EINVAL) and the caller did not ask for a size, half is tried,
 * down to MAP_BYTES_FLOOR.
 */
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "kv/kv_priv.h"
#include "kv/rescue_priv.h"

/* A metadata index below this would not hold what one node stores; better to say so at start.
 * (Under valgrind there is room for 32 GiB.) */
#define MAP_BYTES_FLOOR ((uint64_t)16 << 30)

/* Reset read transactions kept. More threads than this reading in one instant are rare, and each
 * kept one holds one of KV_READERS_MAX slots; what is above is freed. */
#define READ_POOL_MAX 64

struct lmdb_txn {
    struct kv_txn base;
    MDB_txn *txn;
    const MDB_dbi *dbis; /* of the environment that it is in */
};

struct lmdb {
    struct kv base;
    MDB_env *env;
    MDB_dbi dbis[KV_TABLES_MAX];
    atomic_bool writing; /* a write transaction is open in this process */
    atomic_bool stopped; /* a commit could not be written or synced */

    pthread_mutex_t pool_mutex;
    struct lmdb_txn *pool[READ_POOL_MAX];
    size_t pool_count;

    /* After a panic; NULL before. Made under the mutex. */
    MDB_env *_Atomic rescue;
    MDB_dbi rescue_dbis[KV_TABLES_MAX];
    char *table_names[KV_TABLES_MAX];
};

struct lmdb_cursor {
    struct kv_cursor base;
    MDB_cursor *cursor;
};

static int err_from_lmdb(int rc)
{
    switch (rc) {
    case MDB_SUCCESS:
        return 0;
    case MDB_NOTFOUND:
        return -ENOENT;
    case MDB_KEYEXIST:
        return -EEXIST;
    case MDB_BAD_VALSIZE:
        return -EINVAL;
    case MDB_MAP_FULL:
    case MDB_MAP_RESIZED: /* another process has the larger map */
    case MDB_TXN_FULL:
    case EDQUOT:
    case EFBIG: /* ulimit -f, or the largest file of the file system */
        return -ENOSPC;
    case ENOMEM:
        mem_out_of_memory();
    case MDB_READERS_FULL:
        return -EAGAIN;
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
        return -EPROTONOSUPPORT;
    default:
        return rc > 0 ? err_from_errno(rc) : -EIO;
    }
}

/* LMDB's values are not const, but it does not write through those it is given. */
static MDB_val val_from_bytes(struct bytes bytes)
{
    static const uint8_t nothing[1];
    const union {
        const uint8_t *in;
        void *out;
    } data = {.in = bytes.size ? bytes.data : nothing};
    return (MDB_val){.mv_size = bytes.size, .mv_data = data.out};
}

static struct bytes bytes_from_val(const MDB_val *val)
{
    return BYTES(val->mv_data, val->mv_size);
}

static struct lmdb *lmdb_of(const struct kv_txn *txn)
{
    return CONTAINER_OF(txn->kv, struct lmdb, base);
}

static MDB_txn *mdb_txn_of(struct kv_txn *txn)
{
    return CONTAINER_OF(txn, struct lmdb_txn, base)->txn;
}

static MDB_dbi dbi_of(struct kv_txn *txn, kv_table table)
{
    return CONTAINER_OF(txn, struct lmdb_txn, base)->dbis[table];
}

/* ---- the length of the file ---- */

static int file_lengths(MDB_env *env, uint64_t *ret_is_bytes, uint64_t *ret_must_bytes)
{
    int fd;
    MDB_envinfo info;
    MDB_stat stat;
    struct stat file;
    int rc = mdb_env_get_fd(env, &fd);
    if (!rc) {
        rc = mdb_env_info(env, &info);
    }
    if (!rc) {
        rc = mdb_env_stat(env, &stat);
    }
    if (!rc && fstat(fd, &file) < 0) {
        rc = errno;
    }
    if (rc) {
        return err_from_lmdb(rc);
    }
    *ret_is_bytes = (uint64_t)file.st_size;
    *ret_must_bytes = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
    return 0;
}

static int file_set_length(MDB_env *env, uint64_t bytes)
{
    int fd;
    const int rc = mdb_env_get_fd(env, &fd);
    if (rc) {
        return err_from_lmdb(rc);
    }
    return ftruncate(fd, (off_t)bytes) < 0 ? err_from_lmdb(errno) : 0;
}

/* Under the write lock, or another process's commit could be cut off. *ret_short_bytes is the
 * length that the file had, or 0 if it was long enough. */
static int file_lengthen(MDB_env *env, uint64_t *ret_short_bytes)
{
    uint64_t is_bytes = 0;
    uint64_t must_bytes = 0;
    int err = file_lengths(env, &is_bytes, &must_bytes);
    if (err) {
        return err;
    }
    *ret_short_bytes = 0;
    if (is_bytes < must_bytes) {
        err = file_set_length(env, must_bytes);
        if (!err) {
            *ret_short_bytes = is_bytes;
        }
    }
    return err;
}

/* The same after each commit, so that a process that is killed leaves no short file either. Other
 * processes may commit meanwhile: fallocate() never makes a file shorter. Best effort: a file that
 * stays short costs the next opening a scan. */
static void file_stay_long(MDB_env *env)
{
    uint64_t is_bytes = 0;
    uint64_t must_bytes = 0;
    int fd;
    if (file_lengths(env, &is_bytes, &must_bytes) == 0 && is_bytes < must_bytes &&
        mdb_env_get_fd(env, &fd) == 0) {
        (void)!fallocate(fd, 0, (off_t)is_bytes, (off_t)(must_bytes - is_bytes));
    }
}

/* Visits all of one table; -EIO if a value lies in what had been missing. A value begins in the
 * first page of its node, and each page begins with its own number. */
static int table_check(MDB_txn *txn, MDB_dbi dbi, size_t page_bytes, uint64_t valid_bytes)
{
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, dbi, &cursor);
    if (rc) {
        return err_from_lmdb(rc);
    }
    MDB_val key;
    MDB_val value;
    while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        const size_t offset = (uintptr_t)value.mv_data & (page_bytes - 1);
        size_t page;
        memcpy(&page, (const uint8_t *)value.mv_data - offset, sizeof(page));
        if (page < 2 || page > valid_bytes / page_bytes ||
            page * page_bytes + offset + value.mv_size > valid_bytes) {
            rc = MDB_CORRUPTED;
            break;
        }
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : err_from_lmdb(rc);
}

static int tables_check(struct lmdb *lmdb, uint64_t valid_bytes)
{
    MDB_stat stat;
    MDB_txn *txn;
    int rc = mdb_env_stat(lmdb->env, &stat);
    if (!rc) {
        rc = mdb_txn_begin(lmdb->env, NULL, MDB_RDONLY, &txn);
    }
    if (rc) {
        return err_from_lmdb(rc);
    }
    int err = 0;
    for (size_t i = 0; i < lmdb->base.tables_count && !err; i++) {
        err = table_check(txn, lmdb->dbis[i], stat.ms_psize, valid_bytes);
    }
    mdb_txn_abort(txn);
    return err;
}

/* ---- open and close ---- */

/* LMDB makes its reader table a sparse file and maps it: on a full disk the first touch of a page
 * would be SIGBUS. So the pages are asked for first. Not while LMDB has the file open: closing a
 * descriptor of it gives up the locks of the process. */
static int readers_reserve(const char *path)
{
    /* A cache line a reader and one for the head, as LMDB has it, and a page to spare. */
    const off_t bytes = (KV_READERS_MAX + 1) * 64 + 4096;
    char *name = mem_format("%s/lock.mdb", path);
    const int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int rc = fd < 0 ? errno : 0;
    free(name);
    if (!rc && fallocate(fd, 0, 0, bytes) < 0 && errno != EOPNOTSUPP) {
        rc = errno;
    }
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

static int env_open(const struct kv_options *options, uint64_t map_bytes, MDB_env **ret_env)
{
    unsigned flags = MDB_NOTLS | MDB_NORDAHEAD;
    if (options->no_sync) {
        flags |= MDB_NOSYNC;
    }
    if (options->read_only) {
        flags |= MDB_RDONLY;
    }
    MDB_env *env;
    int rc = mdb_env_create(&env);
    if (rc) {
        return rc;
    }
    rc = mdb_env_set_maxdbs(env, (MDB_dbi)options->tables_count);
    if (!rc) {
        rc = mdb_env_set_maxreaders(env, KV_READERS_MAX);
    }
    if (!rc) {
        rc = mdb_env_set_mapsize(env, map_bytes);
    }
    if (!rc && !options->read_only) {
        rc = readers_reserve(options->path);
    }
    if (!rc) {
        rc = mdb_env_open(env, options->path, flags, 0600);
    }
    if (rc) {
        mdb_env_close(env);
        return rc;
    }
    *ret_env = env;
    return 0;
}

static bool is_map_refused(int rc)
{
    return rc == ENOMEM || rc == EINVAL;
}

static int env_open_largest(const struct kv_options *options, MDB_env **ret_env)
{
    uint64_t map_bytes = options->map_bytes ? options->map_bytes : KV_MAP_BYTES_DEFAULT;
    const uint64_t floor_bytes = options->map_bytes ? options->map_bytes : MAP_BYTES_FLOOR;
    int rc = env_open(options, map_bytes, ret_env);
    while (is_map_refused(rc) && map_bytes / 2 >= floor_bytes) {
        map_bytes /= 2;
        rc = env_open(options, map_bytes, ret_env);
    }
    /* An address space is limited on purpose and is no heap: this one is for people to mend. */
    return rc == ENOMEM ? -ENOMEM : err_from_lmdb(rc);
}

/* Handles that a transaction opens are everybody's once it has committed, a reader too. */
static int tables_open(struct lmdb *lmdb, const struct kv_options *options)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(lmdb->env, NULL, options->read_only ? MDB_RDONLY : 0, &txn);
    if (rc) {
        return err_from_lmdb(rc);
    }
    uint64_t short_bytes = 0;
    int err = options->read_only ? 0 : file_lengthen(lmdb->env, &short_bytes);
    const unsigned flags = options->read_only ? 0 : MDB_CREATE;
    for (size_t i = 0; i < options->tables_count && !err; i++) {
        err = err_from_lmdb(mdb_dbi_open(txn, options->tables[i], flags, &lmdb->dbis[i]));
    }
    if (err) {
        mdb_txn_abort(txn);
    } else {
        err = err_from_lmdb(mdb_txn_commit(txn));
    }
    if (short_bytes) {
        if (!err) {
            err = tables_check(lmdb, short_bytes);
        }
        if (err) {
            /* As it was, so that the next open finds the damage again. */
            const int ignored = file_set_length(lmdb->env, short_bytes);
            (void)ignored;
        }
    }
    return err;
}

static void lmdb_free(struct lmdb *lmdb)
{
    for (size_t i = 0; i < lmdb->pool_count; i++) {
        mdb_txn_abort(lmdb->pool[i]->txn);
        free(lmdb->pool[i]);
    }
    mdb_env_close(atomic_load(&lmdb->rescue));
    mdb_env_close(lmdb->env);
    for (size_t i = 0; i < lmdb->base.tables_count; i++) {
        free(lmdb->table_names[i]);
    }
    pthread_mutex_destroy(&lmdb->pool_mutex);
    free(lmdb);
}

static void lmdb_close(struct kv *kv)
{
    struct lmdb *lmdb = CONTAINER_OF(kv, struct lmdb, base);
    CHECK(!atomic_load(&lmdb->writing)); /* or this would wait for itself */
    MDB_txn *txn;
    if (!kv->read_only && mdb_txn_begin(lmdb->env, NULL, 0, &txn) == 0) {
        /* If it fails, the next open does it. */
        uint64_t short_bytes;
        const int ignored = file_lengthen(lmdb->env, &short_bytes);
        (void)ignored;
        mdb_txn_abort(txn);
    }
    lmdb_free(lmdb);
}

/* ---- transactions ---- */

static struct lmdb_txn *pool_take(struct lmdb *lmdb)
{
    struct lmdb_txn *txn = NULL;
    pthread_mutex_lock(&lmdb->pool_mutex);
    if (lmdb->pool_count > 0) {
        txn = lmdb->pool[--lmdb->pool_count];
    }
    pthread_mutex_unlock(&lmdb->pool_mutex);
    return txn;
}

static bool pool_give(struct lmdb *lmdb, struct lmdb_txn *txn)
{
    bool given = false;
    pthread_mutex_lock(&lmdb->pool_mutex);
    if (lmdb->pool_count < READ_POOL_MAX) {
        lmdb->pool[lmdb->pool_count++] = txn;
        given = true;
    }
    pthread_mutex_unlock(&lmdb->pool_mutex);
    return given;
}

/* A read transaction after a panic. */
static int rescue_begin(struct lmdb *lmdb, struct kv_txn **ret_txn)
{
    MDB_env *env = NULL;
    MDB_txn *mdb_txn = NULL;
    int rc = 0;
    pthread_mutex_lock(&lmdb->pool_mutex);
    env = atomic_load(&lmdb->rescue);
    if (!env) {
        rc = rescue_open(lmdb->env, lmdb->table_names, lmdb->base.tables_count, &env,
                         lmdb->rescue_dbis);
        if (!rc) {
            atomic_store(&lmdb->rescue, env);
        }
    }
    pthread_mutex_unlock(&lmdb->pool_mutex);
    if (!rc) {
        rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &mdb_txn);
    }
    if (rc) {
        return rc == ENOMEM ? -EIO : err_from_lmdb(rc);
    }
    struct lmdb_txn *txn = mem_alloc(sizeof(*txn));
    txn->base.kv = &lmdb->base;
    txn->txn = mdb_txn;
    txn->dbis = lmdb->rescue_dbis;
    *ret_txn = &txn->base;
    return 0;
}

static int txn_begin(struct lmdb *lmdb, bool writes, struct kv_txn **ret_txn)
{
    const unsigned flags = writes ? 0 : MDB_RDONLY;
    MDB_txn *mdb_txn;
    int rc = mdb_txn_begin(lmdb->env, NULL, flags, &mdb_txn);
    if (rc == MDB_READERS_FULL) {
        /* A process that died may still have slots. */
        rc = mdb_reader_check(lmdb->env, NULL);
        if (!rc) {
            rc = mdb_txn_begin(lmdb->env, NULL, flags, &mdb_txn);
        }
    }
    if (rc == MDB_PANIC && !writes) {
        return rescue_begin(lmdb, ret_txn);
    }
    if (rc) {
        return err_from_lmdb(rc);
    }
    struct lmdb_txn *txn = mem_alloc(sizeof(*txn));
    txn->base.kv = &lmdb->base;
    txn->base.writes = writes;
    txn->txn = mdb_txn;
    txn->dbis = lmdb->dbis;
    *ret_txn = &txn->base;
    return 0;
}

static int lmdb_read(struct kv *kv, struct kv_txn **ret_txn)
{
    struct lmdb *lmdb = CONTAINER_OF(kv, struct lmdb, base);
    if (atomic_load(&lmdb->rescue)) {
        return rescue_begin(lmdb, ret_txn);
    }
    struct lmdb_txn *txn = pool_take(lmdb);
    if (!txn) {
        return txn_begin(lmdb, false, ret_txn);
    }
    const int rc = mdb_txn_renew(txn->txn);
    if (rc) {
        mdb_txn_abort(txn->txn);
        free(txn);
        return rc == MDB_PANIC ? rescue_begin(lmdb, ret_txn) : err_from_lmdb(rc);
    }
    *ret_txn = &txn->base;
    return 0;
}

static int lmdb_write(struct kv *kv, struct kv_txn **ret_txn)
{
    struct lmdb *lmdb = CONTAINER_OF(kv, struct lmdb, base);
    if (atomic_load(&lmdb->stopped)) {
        return -ENOTRECOVERABLE;
    }
    const int err = txn_begin(lmdb, true, ret_txn);
    if (!err) {
        atomic_store(&lmdb->writing, true);
    }
    return err;
}

/* LMDB says EIO when a write stops half-way, and a disk that fills up does just that. The part that
 * was written took what was left, so there is less than a megabyte now. */
static bool disk_is_full(MDB_env *env)
{
    const off_t probe_bytes = 1 << 20;
    int fd;
    struct stat file;
    struct rlimit limit;
    if (mdb_env_get_fd(env, &fd) != 0 || fstat(fd, &file) < 0) {
        return false;
    }
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, file.st_size, probe_bytes) < 0 &&
        (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) {
        return true;
    }
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
           (rlim_t)(file.st_size + probe_bytes) > limit.rlim_cur;
}

static bool has_panicked(struct lmdb *lmdb)
{
    MDB_txn *txn;
    const int rc = mdb_txn_begin(lmdb->env, NULL, MDB_RDONLY, &txn);
    if (!rc) {
        mdb_txn_abort(txn);
    }
    return rc == MDB_PANIC;
}

static int lmdb_commit(struct kv_txn *base)
{
    struct lmdb *lmdb = lmdb_of(base);
    struct lmdb_txn *txn = CONTAINER_OF(base, struct lmdb_txn, base);
    atomic_store(&lmdb->writing, false); /* before the lock is free for the next one */
    int err = err_from_lmdb(mdb_txn_commit(txn->txn));
    free(txn);
    if (err == -EIO && disk_is_full(lmdb->env)) {
        err = -ENOSPC;
    }
    if (err && has_panicked(lmdb)) {
        err = -EIO; /* be it for lack of space: nothing can be written from now on */
    }
    if (err == -EIO) {
        atomic_store(&lmdb->stopped, true);
    }
    if (!err) {
        file_stay_long(lmdb->env);
    }
    return err;
}

static void lmdb_abort(struct kv_txn *base)
{
    struct lmdb_txn *txn = CONTAINER_OF(base, struct lmdb_txn, base);
    if (base->writes) {
        atomic_store(&lmdb_of(base)->writing, false);
    } else if (!base->failed) {
        mdb_txn_reset(txn->txn);
        if (txn->dbis == lmdb_of(base)->dbis && pool_give(lmdb_of(base), txn)) {
            return;
        }
    }
    mdb_txn_abort(txn->txn);
    free(txn);
}

/* A number that LMDB itself counts up; an empty database has 0. */
static uint64_t lmdb_snapshot(struct kv_txn *txn)
{
    return (uint64_t)mdb_txn_id(mdb_txn_of(txn)) + 1;
}

/* ---- keys ---- */

static int lmdb_get(struct kv_txn *txn, kv_table table, struct bytes key, struct bytes *ret_value)
{
    MDB_val mdb_key = val_from_bytes(key);
    MDB_val mdb_value;
    const int rc = mdb_get(mdb_txn_of(txn), dbi_of(txn, table), &mdb_key, &mdb_value);
    if (rc) {
        return err_from_lmdb(rc);
    }
    *ret_value = bytes_from_val(&mdb_value);
    return 0;
}

static int txn_put(struct kv_txn *txn, kv_table table, struct bytes key, struct bytes value,
                   unsigned flags)
{
    MDB_val mdb_key = val_from_bytes(key);
    MDB_val mdb_value = val_from_bytes(value);
    return err_from_lmdb(mdb_put(mdb_txn_of(txn), dbi_of(txn, table), &mdb_key, &mdb_value, flags));
}

static int lmdb_put(struct kv_txn *txn, kv_table table, struct bytes key, struct bytes value)
{
    return txn_put(txn, table, key, value, 0);
}

static int lmdb_append(struct kv_txn *txn, kv_table table, struct bytes key, struct bytes value)
{
    return txn_put(txn, table, key, value, MDB_APPEND);
}

static int lmdb_remove(struct kv_txn *txn, kv_table table, struct bytes key)
{
    MDB_val mdb_key = val_from_bytes(key);
    return err_from_lmdb(mdb_del(mdb_txn_of(txn), dbi_of(txn, table), &mdb_key, NULL));
}

static int lmdb_count(struct kv_txn *txn, kv_table table, uint64_t *ret_count)
{
    MDB_stat stat;
    const int rc = mdb_stat(mdb_txn_of(txn), dbi_of(txn, table), &stat);
    if (rc) {
        return err_from_lmdb(rc);
    }
    *ret_count = stat.ms_entries;
    return 0;
}

/* ---- cursors ---- */

static int lmdb_cursor_open(struct kv_txn *txn, kv_table table, struct kv_cursor **ret_cursor)
{
    MDB_cursor *mdb_cursor;
    const int rc = mdb_cursor_open(mdb_txn_of(txn), dbi_of(txn, table), &mdb_cursor);
    if (rc) {
        return err_from_lmdb(rc);
    }
    struct lmdb_cursor *cursor = mem_alloc(sizeof(*cursor));
    cursor->cursor = mdb_cursor;
    *ret_cursor = &cursor->base;
    return 0;
}

static void lmdb_cursor_close(struct kv_cursor *base)
{
    struct lmdb_cursor *cursor = CONTAINER_OF(base, struct lmdb_cursor, base);
    mdb_cursor_close(cursor->cursor);
    free(cursor);
}

/* LMDB starts a search at the page where the cursor stands. It repairs its cursors when pages
 * change underneath; a fresh one needs no repair. */
static int cursor_refresh(struct lmdb_cursor *cursor)
{
    struct kv_txn *txn = cursor->base.txn;
    const kv_table table = cursor->base.table;
    if (cursor->base.table_changes == txn->table_changes[table]) {
        return 0;
    }
    MDB_cursor *fresh;
    const int rc = mdb_cursor_open(mdb_txn_of(txn), dbi_of(txn, table), &fresh);
    if (rc) {
        return rc;
    }
    mdb_cursor_close(cursor->cursor);
    cursor->cursor = fresh;
    return 0;
}

static int cursor_answer(int rc, const MDB_val *key, const MDB_val *value, struct bytes *ret_key,
                         struct bytes *ret_value)
{
    if (rc) {
        return err_from_lmdb(rc);
    }
    *ret_key = bytes_from_val(key);
    *ret_value = bytes_from_val(value);
    return 0;
}

static int lmdb_seek(struct kv_cursor *base, struct bytes key, struct bytes *ret_key,
                     struct bytes *ret_value)
{
    struct lmdb_cursor *cursor = CONTAINER_OF(base, struct lmdb_cursor, base);
    MDB_val mdb_key = val_from_bytes(key);
    MDB_val mdb_value;
    int rc = cursor_refresh(cursor);
    if (!rc) {
        rc = mdb_cursor_get(cursor->cursor, &mdb_key, &mdb_value,
                            key.size ? MDB_SET_RANGE : MDB_FIRST);
    }
    return cursor_answer(rc, &mdb_key, &mdb_value, ret_key, ret_value);
}

static int lmdb_seek_before(struct kv_cursor *base, struct bytes key, struct bytes *ret_key,
                            struct bytes *ret_value)
{
    struct lmdb_cursor *cursor = CONTAINER_OF(base, struct lmdb_cursor, base);
    MDB_val mdb_key = val_from_bytes(key);
    MDB_val mdb_value;
    int rc = cursor_refresh(cursor);
    if (rc) {
        return err_from_lmdb(rc);
    }
    if (key.size) {
        rc = mdb_cursor_get(cursor->cursor, &mdb_key, &mdb_value, MDB_SET_RANGE);
    } else {
        rc = MDB_NOTFOUND;
    }
    if (rc == MDB_NOTFOUND) {
        rc = mdb_cursor_get(cursor->cursor, &mdb_key, &mdb_value, MDB_LAST);
    } else if (!rc) {
        rc = mdb_cursor_get(cursor->cursor, &mdb_key, &mdb_value, MDB_PREV);
    }
    return cursor_answer(rc, &mdb_key, &mdb_value, ret_key, ret_value);
}

static int lmdb_next(struct kv_cursor *base, struct bytes *ret_key, struct bytes *ret_value)
{
    struct lmdb_cursor *cursor = CONTAINER_OF(base, struct lmdb_cursor, base);
    MDB_val mdb_key;
    MDB_val mdb_value;
    const int rc = mdb_cursor_get(cursor->cursor, &mdb_key, &mdb_value, MDB_NEXT);
    return cursor_answer(rc, &mdb_key, &mdb_value, ret_key, ret_value);
}

/* Of a snapshot, as those who look get it: in the file (mdb_env_info()) a commit stands as soon as
 * it is written, but is given to readers only when its sync is over. */
static uint64_t lmdb_version(struct kv *kv)
{
    struct kv_txn *txn = NULL;
    if (lmdb_read(kv, &txn)) {
        return 0;
    }
    const uint64_t version = mdb_txn_id(CONTAINER_OF(txn, struct lmdb_txn, base)->txn);
    lmdb_abort(txn);
    return version;
}

static const struct kv_ops lmdb_ops = {
    .close = lmdb_close,
    .version = lmdb_version,
    .read = lmdb_read,
    .write = lmdb_write,
    .commit = lmdb_commit,
    .abort = lmdb_abort,
    .snapshot = lmdb_snapshot,
    .get = lmdb_get,
    .put = lmdb_put,
    .append = lmdb_append,
    .remove = lmdb_remove,
    .count = lmdb_count,
    .cursor_open = lmdb_cursor_open,
    .cursor_close = lmdb_cursor_close,
    .seek = lmdb_seek,
    .seek_before = lmdb_seek_before,
    .next = lmdb_next,
};

int kv_open(const struct kv_options *options, struct kv **ret_kv)
{
    if (options->tables_count > KV_TABLES_MAX) {
        return -EINVAL;
    }
    MDB_env *env;
    int err = env_open_largest(options, &env);
    if (err) {
        return err;
    }
    struct lmdb *lmdb = mem_alloc(sizeof(*lmdb));
    lmdb->base.ops = &lmdb_ops;
    lmdb->base.tables_count = options->tables_count;
    lmdb->base.read_only = options->read_only;
    lmdb->env = env;
    for (size_t i = 0; i < options->tables_count; i++) {
        lmdb->table_names[i] = mem_copy_string(options->tables[i]);
    }
    pthread_mutex_init(&lmdb->pool_mutex, NULL);

    err = err_from_lmdb(mdb_reader_check(env, NULL));
    if (!err) {
        err = tables_open(lmdb, options);
    }
    if (err) {
        lmdb_free(lmdb);
        return err;
    }
    *ret_kv = &lmdb->base;
    return 0;
}
