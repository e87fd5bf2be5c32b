/* SPDX-License-Identifier: Apache-2.0 */
#include "store/externals_priv.h"

#include <fcntl.h>

#include "base/codec.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "hash/sha256.h"
#include "store/followed_priv.h"
#include "store/index_priv.h"
#include "store/store_priv.h"
#include "store/writer.h"

#define HEADER_BYTES 49
#define FLAG_WITHDRAWN 1u
#define FLAG_FOLLOWED 2u
/* Places dropped in one job: a withdrawal of a large file must not hold up the other writers. */
#define WITHDRAW_BATCH 1024

static int64_t nanoseconds(const struct timespec *time)
{
    return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

void file_identity_of(const struct stat *stat, struct file_identity *ret_identity)
{
    *ret_identity = (struct file_identity){
        .device = stat->st_dev,
        .inode = stat->st_ino,
        .size_bytes = (uint64_t)stat->st_size,
        .mtime_ns = nanoseconds(&stat->st_mtim),
        .ctime_ns = nanoseconds(&stat->st_ctim),
    };
}

/* Not the device: its number may be another one after each mount and restart. */
bool file_identity_equal(const struct file_identity *a, const struct file_identity *b)
{
    return a->inode == b->inode && a->size_bytes == b->size_bytes && a->mtime_ns == b->mtime_ns &&
           a->ctime_ns == b->ctime_ns;
}

bool file_identity_is_touched(const struct file_identity *a, const struct file_identity *b)
{
    struct file_identity other = *b;
    other.ctime_ns = a->ctime_ns;
    return file_identity_equal(a, &other) && a->ctime_ns != b->ctime_ns;
}

static struct bytes external_key(uint64_t container, uint8_t key[8])
{
    codec_put_be64(key, container);
    return BYTES(key, 8);
}

static int put_external(struct kv_txn *txn, uint64_t container, const struct external *external)
{
    uint8_t value[HEADER_BYTES + PATH_MAX];
    const struct file_identity *identity = &external->identity;
    codec_put_le64(value, identity->device);
    codec_put_le64(value + 8, identity->inode);
    codec_put_le64(value + 16, identity->size_bytes);
    codec_put_le64(value + 24, (uint64_t)identity->mtime_ns);
    codec_put_le64(value + 32, (uint64_t)identity->ctime_ns);
    codec_put_le64(value + 40, external->blocks_count);
    value[48] = (uint8_t)((external->withdrawn ? FLAG_WITHDRAWN : 0) |
                          (external->is_followed ? FLAG_FOLLOWED : 0));
    const size_t path_bytes = strlen(external->path);
    memcpy(value + HEADER_BYTES, external->path, path_bytes);
    uint8_t key[8];
    return kv_put(txn, TABLE_EXTERNALS, external_key(container, key),
                  BYTES(value, HEADER_BYTES + path_bytes));
}

int externals_get(struct kv_txn *txn, uint64_t container, struct external *ret_external)
{
    uint8_t key[8];
    struct bytes value;
    const int err = kv_get(txn, TABLE_EXTERNALS, external_key(container, key), &value);
    if (err) {
        return err;
    }
    if (value.size <= HEADER_BYTES || value.size - HEADER_BYTES >= PATH_MAX) {
        return -EIO;
    }
    const uint8_t *at = value.data;
    ret_external->identity = (struct file_identity){
        .device = codec_get_le64(at),
        .inode = codec_get_le64(at + 8),
        .size_bytes = codec_get_le64(at + 16),
        .mtime_ns = (int64_t)codec_get_le64(at + 24),
        .ctime_ns = (int64_t)codec_get_le64(at + 32),
    };
    ret_external->blocks_count = codec_get_le64(at + 40);
    ret_external->withdrawn = at[48] & FLAG_WITHDRAWN;
    ret_external->is_followed = at[48] & FLAG_FOLLOWED;
    memcpy(ret_external->path, at + HEADER_BYTES, value.size - HEADER_BYTES);
    ret_external->path[value.size - HEADER_BYTES] = 0;
    return 0;
}

int externals_add(struct kv_txn *txn, const struct file_identity *identity, const char *path,
                  bool is_followed, uint64_t *ret_container)
{
    uint64_t number = 0;
    int err = index_number(txn, META_NEXT_EXTERNAL, &number);
    if (!err) {
        err = index_set_number(txn, META_NEXT_EXTERNAL, number + 1);
    }
    if (err) {
        return err;
    }
    struct external external = {.identity = *identity, .is_followed = is_followed};
    CHECK(strlen(path) < sizeof external.path);
    strcpy(external.path, path);
    *ret_container = number | CONTAINER_EXTERNAL;
    return put_external(txn, *ret_container, &external);
}

int externals_renew(struct kv_txn *txn, uint64_t container, const struct file_identity *identity)
{
    struct external external;
    const int err = externals_get(txn, container, &external);
    if (err) {
        return err;
    }
    external.identity = *identity;
    return put_external(txn, container, &external);
}

int externals_end(struct kv_txn *txn, uint64_t container)
{
    struct external external;
    const int err = externals_get(txn, container, &external);
    if (err) {
        return err;
    }
    external.withdrawn = true;
    uint8_t key[8];
    return external.blocks_count > 0
               ? put_external(txn, container, &external)
               : index_forget(txn, TABLE_EXTERNALS, external_key(container, key));
}

int externals_count(struct kv_txn *txn, uint64_t container, int by)
{
    struct external external;
    const int err = externals_get(txn, container, &external);
    if (err) {
        return err == -ENOENT && by < 0 ? 0 : err;
    }
    external.blocks_count += (uint64_t)by;
    if (external.blocks_count == 0) {
        uint8_t key[8];
        return kv_delete(txn, TABLE_EXTERNALS, external_key(container, key));
    }
    return put_external(txn, container, &external);
}

struct withdrawal {
    struct store_job job;
    struct store *store;
    uint64_t container;
    const struct place *places;
    size_t places_count;
};

static int drop_place(struct store *store, struct kv_txn *txn, const struct place *place)
{
    struct block_record record;
    const int err = index_block(txn, &place->id, &record);
    if (err) {
        return err == -ENOENT ? 0 : err;
    }
    for (uint8_t i = 0; i < record.locations_count; i++) {
        if (location_equal(&record.locations[i], &place->location)) {
            const int failed = index_remove_location(store, txn, &record, i);
            return failed ? failed : index_put_block(store, txn, &place->id, &record);
        }
    }
    return 0;
}

static int withdraw_apply(struct store_job *job, struct kv_txn *txn)
{
    struct withdrawal *withdrawal = CONTAINER_OF(job, struct withdrawal, job);
    struct external external;
    int err = externals_get(txn, withdrawal->container, &external);
    if (err) {
        return err == -ENOENT ? 0 : err;
    }
    if (!external.withdrawn) {
        external.withdrawn = true;
        err = put_external(txn, withdrawal->container, &external);
    }
    if (!err && external.is_followed) {
        err = followed_release(withdrawal->store, txn, external.path, withdrawal->container);
    }
    for (size_t i = 0; !err && i < withdrawal->places_count; i++) {
        err = drop_place(withdrawal->store, txn, &withdrawal->places[i]);
    }
    struct external left;
    if (!err && external.is_followed &&
        externals_get(txn, withdrawal->container, &left) == -ENOENT) {
        err = followed_forget(withdrawal->store, txn, external.path, withdrawal->container);
    }
    return err;
}

int externals_withdraw(struct store *store, uint64_t container)
{
    CLEANUP_FREE struct place *places = mem_alloc_array(WITHDRAW_BATCH, sizeof *places);
    const struct location from = {container, 0};
    for (;;) {
        size_t count = 0;
        int err = index_list_places(store->kv, &from, true, WITHDRAW_BATCH, places, &count);
        if (err || count == 0) {
            return err;
        }
        struct withdrawal withdrawal = {
            .job = {.apply = withdraw_apply},
            .store = store,
            .container = container,
            .places = places,
            .places_count = count,
        };
        err = store_submit_wait(store, &withdrawal.job);
        if (err) {
            return err;
        }
    }
}

static bool is_unchanged(const struct external *external, const struct stat *stat)
{
    struct file_identity identity;
    file_identity_of(stat, &identity);
    return S_ISREG(stat->st_mode) &&
           (file_identity_equal(&identity, &external->identity) ||
            (external->is_followed && file_identity_is_touched(&identity, &external->identity)));
}

/* The file at its path, if it still is the one that was registered. */
static int open_unchanged(const struct external *external, int *ret_fd)
{
    /* Looked at before it is opened: what took its place may be a pipe that waits, a socket that
     * can't be opened, or a device to which opening does something. */
    struct stat found;
    if (stat(external->path, &found) < 0) {
        const bool is_gone = errno == ENOENT || errno == ENOTDIR || errno == ELOOP;
        return is_gone ? -ESTALE : err_from_errno(errno);
    }
    if (!is_unchanged(external, &found)) {
        return -ESTALE;
    }
    CLEANUP_FD int fd = -1;
    const int err =
        file_open_at(AT_FDCWD, external->path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &fd);
    if (err) {
        return err == -ENOENT || err == -ENOTDIR ? -ESTALE : err;
    }
    if (fstat(fd, &found) < 0) {
        return err_from_errno(errno);
    }
    if (!is_unchanged(external, &found)) {
        return -ESTALE;
    }
    *ret_fd = STEAL_FD(fd);
    return 0;
}

/* Compares the block at `location` with its id, if the ctime of the file says that it may be
 * another one. -ESTALE: it is. */
static int compare_touched(struct store *store, const struct external *external,
                           const struct stat *stat, int fd, const struct location *location)
{
    struct file_identity identity;
    file_identity_of(stat, &identity);
    if (file_identity_equal(&identity, &external->identity)) {
        return 0;
    }
    struct place place;
    size_t count = 0;
    int err = index_list_places(store->kv, location, true, 1, &place, &count);
    if (err || count == 0 || !location_equal(&place.location, location)) {
        return err ? err : -ESTALE;
    }
    CLEANUP_FREE uint8_t *data = mem_alloc_aligned(64, place.size_bytes);
    err = file_read_all_at(fd, data, place.size_bytes, location->offset_bytes);
    if (err) {
        return err == -ENOENT ? -ESTALE : err;
    }
    struct id id;
    sha256_id(BYTES(data, place.size_bytes), &id);
    return id_equal(&id, &place.id) ? 0 : -ESTALE;
}

static int read_unchanged(struct store *store, const struct external *external,
                          const struct location *location, uint32_t offset_bytes, void *data,
                          uint32_t size_bytes)
{
    CLEANUP_FD int fd = -1;
    int err = open_unchanged(external, &fd);
    if (err) {
        return err;
    }
    err = file_read_all_at(fd, data, size_bytes, location->offset_bytes + offset_bytes);
    if (err) {
        return err == -ENOENT ? -ESTALE : err;
    }
    struct stat stat;
    if (fstat(fd, &stat) < 0) {
        return err_from_errno(errno);
    }
    return is_unchanged(external, &stat) ? compare_touched(store, external, &stat, fd, location)
                                         : -ESTALE;
}

int externals_read(struct store *store, const struct location *location, uint32_t offset_bytes,
                   void *data, uint32_t size_bytes)
{
    const uint64_t container = location->container;
    struct external external;
    struct kv_txn *txn = NULL;
    int err = kv_read(store->kv, &txn);
    if (err) {
        return err;
    }
    err = externals_get(txn, container, &external);
    kv_abort(txn);
    if (err) {
        return err == -ENOENT ? -ESTALE : err;
    }
    err = external.withdrawn
              ? -ESTALE
              : read_unchanged(store, &external, location, offset_bytes, data, size_bytes);
    if (err == -EACCES && external.is_followed) {
        err = -ESTALE; /* what we may not read is no copy of ours */
    }
    if (err == -ESTALE && store->writer) {
        /* If it was withdrawn already, somebody is at it, or was interrupted by a crash. */
        if (!external.withdrawn) {
            store->withdrawn_count++;
            log_warn("external_withdrawn", KV("path", external.path));
        }
        const int failed = externals_withdraw(store, container);
        if (failed) {
            log_error("withdrawal_failed", KV("path", external.path),
                      KV("error", err_name(failed)));
        }
    }
    return err;
}
