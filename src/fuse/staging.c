/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/staging.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "wire/file_metadata.h"

/* What a small file is given at first; then twice as much each time. */
#define FIRST_BYTES ((size_t)4096)

struct staging {
    const char *directory;
    uint8_t *memory; /* zeros behind the size */
    size_t capacity;
    uint64_t size_bytes;
    int fd; /* -1: in memory */
};

struct staging *staging_new(const char *directory)
{
    struct staging *staging = mem_alloc(sizeof *staging);
    staging->directory = directory;
    staging->fd = -1;
    return staging;
}

void staging_free(struct staging *staging)
{
    if (!staging) {
        return;
    }
    if (staging->fd >= 0) {
        close(staging->fd);
    }
    free(staging->memory);
    free(staging);
}

uint64_t staging_size(const struct staging *staging)
{
    return staging->size_bytes;
}

struct bytes staging_memory(const struct staging *staging)
{
    return BYTES(staging->memory, staging->fd < 0 ? (size_t)staging->size_bytes : 0);
}

int staging_fd(const struct staging *staging)
{
    return staging->fd;
}

/* A file without a name; where the file system has no such thing, one that loses its name at once.
 */
static int open_nameless(const char *directory, int *ret_fd)
{
    int err = file_open_at(AT_FDCWD, directory, O_TMPFILE | O_RDWR, 0600, ret_fd);
    if (err != -EOPNOTSUPP && err != -EISDIR) {
        return err;
    }
    CLEANUP_FREE char *path = mem_format("%s/.artel-mount-XXXXXX", directory);
    const int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        return err_from_errno(errno);
    }
    unlink(path);
    *ret_fd = fd;
    return 0;
}

static int to_file(struct staging *staging)
{
    CLEANUP_FD int fd = -1;
    int err = open_nameless(staging->directory, &fd);
    if (!err && staging->size_bytes > 0) {
        err = file_write_all_at(fd, staging_memory(staging), 0);
    }
    if (err) {
        return err;
    }
    staging->fd = STEAL_FD(fd);
    free(STEAL_PTR(staging->memory));
    staging->capacity = 0;
    return 0;
}

/* Room for `size_bytes`, in memory or in a file. */
static int make_room(struct staging *staging, uint64_t size_bytes)
{
    if (size_bytes > FILE_METADATA_LENGTH_MAX) {
        return -EFBIG;
    }
    if (staging->fd >= 0 || size_bytes <= staging->capacity) {
        return 0;
    }
    if (size_bytes > STAGING_MEMORY_BYTES) {
        return to_file(staging);
    }
    size_t capacity = staging->capacity ? staging->capacity : FIRST_BYTES;
    while (capacity < size_bytes) {
        capacity *= 2;
    }
    staging->memory = mem_resize_array(staging->memory, capacity, 1);
    memset(staging->memory + staging->capacity, 0, capacity - staging->capacity);
    staging->capacity = capacity;
    return 0;
}

int staging_write(struct staging *staging, struct bytes data, uint64_t offset_bytes)
{
    const uint64_t end = offset_bytes + data.size;
    if (data.size == 0) {
        return 0;
    }
    if (end < offset_bytes) {
        return -EFBIG;
    }
    int err = make_room(staging, end);
    if (err) {
        return err;
    }
    if (staging->fd < 0) {
        memcpy(staging->memory + offset_bytes, data.data, data.size);
    } else {
        err = file_write_all_at(staging->fd, data, offset_bytes);
    }
    if (!err && end > staging->size_bytes) {
        staging->size_bytes = end;
    }
    return err;
}

int staging_resize(struct staging *staging, uint64_t size_bytes)
{
    const int err = make_room(staging, size_bytes);
    if (err) {
        return err;
    }
    if (staging->fd >= 0) {
        if (ftruncate(staging->fd, (off_t)size_bytes) < 0) {
            return err_from_errno(errno);
        }
    } else if (size_bytes < staging->size_bytes) {
        memset(staging->memory + size_bytes, 0, (size_t)(staging->size_bytes - size_bytes));
    }
    staging->size_bytes = size_bytes;
    return 0;
}

int staging_read(const struct staging *staging, uint64_t offset_bytes, void *data,
                 size_t size_bytes, size_t *ret_bytes)
{
    if (offset_bytes >= staging->size_bytes) {
        *ret_bytes = 0;
        return 0;
    }
    const uint64_t left = staging->size_bytes - offset_bytes;
    const size_t bytes = left < size_bytes ? (size_t)left : size_bytes;
    if (staging->fd < 0) {
        memcpy(data, staging->memory + offset_bytes, bytes);
    } else {
        const int err = file_read_all_at(staging->fd, data, bytes, offset_bytes);
        if (err) {
            return err == -ENOENT ? -EIO : err;
        }
    }
    *ret_bytes = bytes;
    return 0;
}
