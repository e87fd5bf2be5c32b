/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"

/* How much file_read_path() asks for at once. */
#define READ_STEP_BYTES ((size_t)64 * 1024)

/* Whether the range ends within what off_t can say. */
static bool range_fits(uint64_t offset_bytes, uint64_t size_bytes)
{
    return offset_bytes <= INT64_MAX && size_bytes <= INT64_MAX - offset_bytes;
}

int file_write_all_at(int fd, struct bytes data, uint64_t offset_bytes)
{
    if (!range_fits(offset_bytes, data.size)) {
        return -EOVERFLOW;
    }
    while (data.size > 0) {
        const ssize_t written = pwrite(fd, data.data, data.size, (off_t)offset_bytes);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return written < 0 ? err_from_errno(errno) : -EIO;
        }
        data = BYTES(data.data + written, data.size - (size_t)written);
        offset_bytes += (uint64_t)written;
    }
    return 0;
}

int file_write_all(int fd, struct bytes data)
{
    while (data.size > 0) {
        const ssize_t written = write(fd, data.data, data.size);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return written < 0 ? err_from_errno(errno) : -EIO;
        }
        data = BYTES(data.data + written, data.size - (size_t)written);
    }
    return 0;
}

int file_read_all_at(int fd, void *data, size_t size_bytes, uint64_t offset_bytes)
{
    if (!range_fits(offset_bytes, size_bytes)) {
        return -EOVERFLOW;
    }
    uint8_t *at = data;
    while (size_bytes > 0) {
        const ssize_t got = pread(fd, at, size_bytes, (off_t)offset_bytes);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got < 0 ? err_from_errno(errno) : -ENOENT;
        }
        at += got;
        size_bytes -= (size_t)got;
        offset_bytes += (uint64_t)got;
    }
    return 0;
}

int file_read_full(int fd, void *data, size_t size_bytes, size_t *ret_read_bytes)
{
    uint8_t *at = data;
    size_t read_bytes = 0;
    while (read_bytes < size_bytes) {
        const ssize_t got = read(fd, at + read_bytes, size_bytes - read_bytes);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return err_from_errno(errno);
        }
        if (got == 0) {
            break;
        }
        read_bytes += (size_t)got;
    }
    *ret_read_bytes = read_bytes;
    return 0;
}

int file_open_at(int dir_fd, const char *path, int flags, mode_t mode, int *ret_fd)
{
    int fd;
    do {
        fd = openat(dir_fd, path, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    *ret_fd = fd;
    return 0;
}

int file_read_path(int dir_fd, const char *path, size_t limit_bytes, struct buf *buf)
{
    CLEANUP_FD int fd = -1;
    int err = file_open_at(dir_fd, path, O_RDONLY, 0, &fd);
    if (err) {
        return err;
    }
    /* Reads until the end, not st_size: files of /proc say 0, and others may grow meanwhile. */
    CLEANUP_BUF struct buf content = BUF_INIT;
    size_t step = READ_STEP_BYTES;
    for (size_t got = step; got == step;) {
        const size_t before = content.size;
        err = file_read_full(fd, buf_extend(&content, step), step, &got);
        if (err) {
            return err;
        }
        content.size = before + got;
        if (content.size > limit_bytes) {
            return -EFBIG;
        }
    }
    buf_add(buf, buf_bytes(&content));
    return 0;
}

/* Syncs the directory that holds `path`. */
static int sync_parent(int dir_fd, const char *path)
{
    const char *slash = strrchr(path, '/');
    CLEANUP_FREE char *parent = NULL;
    if (!slash) {
        parent = mem_copy_string(".");
    } else {
        /* With its slash, so that the root is not the empty path. */
        parent = mem_format("%.*s", (int)(slash - path + 1), path);
    }
    CLEANUP_FD int fd = -1;
    int err = file_open_at(dir_fd, parent, O_RDONLY | O_DIRECTORY, 0, &fd);
    if (err) {
        return err;
    }
    return file_sync(fd);
}

/* Makes `path` anew with `data` in it, durable but for its name. */
static int write_synced(int dir_fd, const char *path, struct bytes data)
{
    CLEANUP_FD int fd = -1;
    int err = file_open_at(dir_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600, &fd);
    if (err) {
        return err;
    }
    err = file_write_all(fd, data);
    if (err) {
        return err;
    }
    return file_sync(fd);
}

int file_replace(int dir_fd, const char *path, struct bytes data)
{
    CLEANUP_FREE char *temporary = mem_format("%s.tmp", path);
    int err = write_synced(dir_fd, temporary, data);
    if (!err && renameat(dir_fd, temporary, dir_fd, path) != 0) {
        err = err_from_errno(errno);
    }
    if (err) {
        /* Best effort: one left behind is overwritten by the next try. */
        unlinkat(dir_fd, temporary, 0);
        return err;
    }
    return sync_parent(dir_fd, path);
}

int file_sync_data(int fd)
{
    int result;
    do {
        result = fdatasync(fd);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : err_from_errno(errno);
}

int file_sync(int fd)
{
    int result;
    do {
        result = fsync(fd);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : err_from_errno(errno);
}

int file_punch(int fd, uint64_t offset_bytes, uint64_t size_bytes)
{
    if (!range_fits(offset_bytes, size_bytes)) {
        return -EOVERFLOW;
    }
    if (size_bytes == 0) {
        return 0; /* which fallocate() calls invalid */
    }
    int result;
    do {
        result = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset_bytes,
                           (off_t)size_bytes);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : err_from_errno(errno);
}

int file_lock(int fd)
{
    /* flock() belongs to the open file, not to the process: two nodes in one process exclude
     * each other too, and closing another descriptor of the same file does not drop the lock,
     * as it would with POSIX record locks. */
    int result;
    do {
        result = flock(fd, LOCK_EX | LOCK_NB);
    } while (result != 0 && errno == EINTR);
    if (result != 0) {
        return errno == EWOULDBLOCK ? -EBUSY : err_from_errno(errno);
    }
    return 0;
}

void file_remove_tree(const char *path)
{
    CLEANUP_FREE char *top = mem_copy_string(path);
    char *const roots[] = {top, NULL};
    FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    const FTSENT *found = fts ? fts_read(fts) : NULL;
    while (found) {
        if (found->fts_info == FTS_D) {
            /* A mode that came with it may forbid to look inside. */
            (void)chmod(found->fts_path, 0700);
        } else {
            (void)unlinkat(AT_FDCWD, found->fts_path, found->fts_info == FTS_DP ? AT_REMOVEDIR : 0);
        }
        found = fts_read(fts);
    }
    if (fts) {
        fts_close(fts);
    }
}
