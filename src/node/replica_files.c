/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Snapshots on the disk. One is written by a thread of its own from one transaction, which may take
 * seconds for a large tree, and then handed out from the file, so that no transaction waits for the
 * network. One that arrives is a file named by its id; only a merge that is under way needs it
 * after a restart.
 *
 * None of it is synced: the id is a hash of all bytes, and what was damaged is fetched again.
 */

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "hash/sha256.h"
#include "node/replica_priv.h"

#define SPOOL_NAME "snapshot.out"
#define ARRIVAL_PREFIX "snapshot."
#define ARRIVAL_SUFFIX ".in"
#define ARRIVAL_NAME_CHARS (sizeof ARRIVAL_PREFIX - 1 + ID_HEX_CHARS + sizeof ARRIVAL_SUFFIX - 1)
#define WRITE_BYTES ((size_t)256 * 1024)
/* What others send does not take the last of the disk: puts, and the merge itself, need some. */
#define FREE_BYTES_MIN (4 * STORE_RESERVE_BYTES_DEFAULT)

/* ---- on its way out ----------------------------------------------------------------------------
 */

struct spooling {
    struct replica *replica;
    struct sha256 *sha256;
    struct buf buf;
    uint64_t bytes;
};

static int flush(struct spooling *spooling)
{
    const struct bytes bytes = buf_bytes(&spooling->buf);
    const int err = file_write_all(spooling->replica->spool.new_fd, bytes);
    if (!err) {
        sha256_add(spooling->sha256, bytes);
        spooling->bytes += bytes.size;
        buf_clear(&spooling->buf);
    }
    return err;
}

static int spool_write(void *context, struct bytes bytes)
{
    struct spooling *spooling = context;
    if (spooling->replica->stopping) {
        return -ECANCELED;
    }
    buf_add(&spooling->buf, bytes);
    return spooling->buf.size < WRITE_BYTES ? 0 : flush(spooling);
}

static int write_spool(struct replica *replica)
{
    struct replica_spool *spool = &replica->spool;
    struct spooling spooling = {.replica = replica, .sha256 = sha256_new()};
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct tree_snapshot_info info;
    /* The old one may still be read by its descriptor. */
    (void)unlinkat(replica->dir_fd, SPOOL_NAME, 0);
    int err =
        file_open_at(replica->dir_fd, SPOOL_NAME, O_RDWR | O_CREAT | O_EXCL, 0600, &spool->new_fd);
    if (!err) {
        err = node_snapshot(replica->node, &txn);
    }
    if (!err) {
        err = tree_snapshot_write(node_tree(replica->node), txn, spool_write, &spooling, &info);
    }
    if (!err) {
        err = flush(&spooling);
    }
    sha256_take(spooling.sha256, &spool->id);
    spool->bytes = spooling.bytes;
    sha256_free(spooling.sha256);
    buf_done(&spooling.buf);
    return err;
}

static void *run_spool(void *argument)
{
    struct replica *replica = argument;
    replica->spool.err = write_spool(replica);
    replica->spool.is_over = true;
    replica_wake(replica);
    return NULL;
}

void replica_spool(void *context)
{
    struct replica *replica = context;
    struct replica_spool *spool = &replica->spool;
    CHECK(!spool->is_running);
    spool->is_running = true;
    spool->is_over = false;
    spool->err = 0;
    spool->has_thread = pthread_create(&spool->thread, NULL, run_spool, replica) == 0;
    if (!spool->has_thread) {
        spool->err = -EAGAIN;
        spool->is_over = true;
        replica_wake(replica);
    }
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static void join_spool(struct replica *replica)
{
    struct replica_spool *spool = &replica->spool;
    if (spool->has_thread) {
        pthread_join(spool->thread, NULL);
    }
    spool->has_thread = false;
    spool->is_running = false;
}

void replica_spool_due(struct replica *replica, uint64_t now_us)
{
    struct replica_spool *spool = &replica->spool;
    if (!spool->is_running || !spool->is_over) {
        return;
    }
    join_spool(replica);
    close_fd(&spool->fd);
    if (spool->err) {
        close_fd(&spool->new_fd);
        (void)unlinkat(replica->dir_fd, SPOOL_NAME, 0);
    } else {
        spool->fd = spool->new_fd;
        spool->new_fd = -1;
    }
    tree_sync_spooled(replica->sync, now_us, spool->err, &spool->id, spool->bytes);
}

int replica_spool_read(void *context, uint64_t offset, void *ret_bytes, size_t size)
{
    const struct replica *replica = context;
    const int fd = replica->spool.fd;
    return fd >= 0 && file_read_all_at(fd, ret_bytes, size, offset) == 0 ? 0 : -EIO;
}

void replica_spool_drop(void *context)
{
    struct replica *replica = context;
    close_fd(&replica->spool.fd);
    if (!replica->spool.is_running) {
        (void)unlinkat(replica->dir_fd, SPOOL_NAME, 0);
    }
}

/* ---- on its way in -----------------------------------------------------------------------------
 */

static void name_arrival(const struct id *id, char ret_name[ARRIVAL_NAME_CHARS + 1])
{
    char hex[ID_HEX_CHARS + 1];
    id_format(id, hex);
    snprintf(ret_name, ARRIVAL_NAME_CHARS + 1, ARRIVAL_PREFIX "%s" ARRIVAL_SUFFIX, hex);
}

static bool is_arrival(const char *name, struct id *ret_id)
{
    const struct bytes text = bytes_of_string(name);
    const size_t prefix = sizeof ARRIVAL_PREFIX - 1;
    if (text.size != ARRIVAL_NAME_CHARS || memcmp(name, ARRIVAL_PREFIX, prefix) != 0 ||
        strcmp(name + prefix + ID_HEX_CHARS, ARRIVAL_SUFFIX) != 0) {
        return false;
    }
    return id_parse(BYTES(text.data + prefix, ID_HEX_CHARS), ret_id) == 0;
}

static int open_arrival(struct replica *replica, const struct id *id, int flags)
{
    struct replica_arrival *arrival = &replica->arrival;
    char name[ARRIVAL_NAME_CHARS + 1];
    name_arrival(id, name);
    int fd = -1;
    int err = file_open_at(replica->dir_fd, name, O_RDWR | flags, 0600, &fd);
    struct stat info;
    if (!err && fstat(fd, &info) != 0) {
        err = err_from_errno(errno);
        close(fd);
    }
    if (!err) {
        *arrival = (struct replica_arrival){fd, *id, (uint64_t)info.st_size};
    }
    return err;
}

int replica_arrival_open(void *context, const struct id *id, uint64_t *ret_bytes)
{
    struct replica *replica = context;
    struct replica_arrival *arrival = &replica->arrival;
    if (arrival->fd >= 0 && !id_equal(&arrival->id, id)) {
        replica_arrival_drop(replica);
    }
    const int err = arrival->fd >= 0 ? 0 : open_arrival(replica, id, O_CREAT);
    if (!err) {
        *ret_bytes = arrival->bytes;
    }
    return err;
}

int replica_arrival_append(void *context, struct bytes bytes)
{
    struct replica *replica = context;
    struct replica_arrival *arrival = &replica->arrival;
    struct statvfs disk;
    if (arrival->fd < 0) {
        return -EIO;
    }
    if (fstatvfs(arrival->fd, &disk) == 0 &&
        (uint64_t)disk.f_bavail * disk.f_frsize < FREE_BYTES_MIN + bytes.size) {
        return -ENOSPC;
    }
    const int err = file_write_all_at(arrival->fd, bytes, arrival->bytes);
    if (!err) {
        arrival->bytes += bytes.size;
    }
    return err;
}

int replica_arrival_read(void *context, uint64_t offset, void *ret_bytes, size_t size)
{
    const struct replica *replica = context;
    const int fd = replica->arrival.fd;
    return fd >= 0 && file_read_all_at(fd, ret_bytes, size, offset) == 0 ? 0 : -EIO;
}

bool replica_arrival_find(void *context, struct id *ret_id, uint64_t *ret_bytes)
{
    const struct replica *replica = context;
    if (replica->arrival.fd < 0) {
        return false;
    }
    *ret_id = replica->arrival.id;
    *ret_bytes = replica->arrival.bytes;
    return true;
}

void replica_arrival_drop(void *context)
{
    struct replica *replica = context;
    struct replica_arrival *arrival = &replica->arrival;
    if (arrival->fd >= 0) {
        char name[ARRIVAL_NAME_CHARS + 1];
        name_arrival(&arrival->id, name);
        (void)unlinkat(replica->dir_fd, name, 0);
        close_fd(&arrival->fd);
    }
}

/* ---- opening and closing -----------------------------------------------------------------------
 */

/* What a merge under way is about; false: there is none. */
static int find_merge(struct replica *replica, bool *ret_is_merging, struct id *ret_id)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct tree_merge_state merge;
    int err = node_snapshot(replica->node, &txn);
    if (!err) {
        err = tree_merge_state(node_tree(replica->node), txn, &merge);
    }
    *ret_is_merging = !err;
    if (!err) {
        *ret_id = merge.options.snapshot;
    }
    return err == -ENOENT ? 0 : err;
}

int replica_files_open(struct replica *replica)
{
    struct id merged = {0};
    bool is_merging = false;
    int err = find_merge(replica, &is_merging, &merged);
    if (err) {
        return err;
    }
    (void)unlinkat(replica->dir_fd, SPOOL_NAME, 0);
    DIR *dir = opendir(node_data(replica->node));
    if (!dir) {
        return err_from_errno(errno);
    }
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        struct id id;
        if (is_arrival(entry->d_name, &id) && !(is_merging && id_equal(&id, &merged))) {
            (void)unlinkat(replica->dir_fd, entry->d_name, 0);
        }
    }
    closedir(dir);
    err = is_merging ? open_arrival(replica, &merged, 0) : 0;
    return err == -ENOENT ? 0 : err;
}

void replica_files_close(struct replica *replica)
{
    join_spool(replica);
    close_fd(&replica->spool.new_fd);
    if (replica->spool.fd >= 0) {
        (void)unlinkat(replica->dir_fd, SPOOL_NAME, 0);
    }
    close_fd(&replica->spool.fd);
    close_fd(&replica->arrival.fd);
}
