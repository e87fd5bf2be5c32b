/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interposed calls of libfault: each becomes a struct call and goes through call_run(). All
 * functions of one kind end in one: write() is a gathering write of one part.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "libfault.h"

#define COPY_BYTES_MAX                                                                             \
    (1024 * 1024) /* of one traced copy; the caller goes on after a short one                      \
                   */

/* ---- data ----------------------------------------------------------------------------------- */

static long real_write(struct call *call)
{
    if (call->flags != 0) {
        return syscall(SYS_pwritev2, call->fd, call->parts, call->parts_count, call->offset, 0L,
                       call->flags);
    }
    if (call->offset < 0) {
        return syscall(SYS_writev, call->fd, call->parts, call->parts_count);
    }
    return syscall(SYS_pwritev, call->fd, call->parts, call->parts_count, call->offset, 0L);
}

static long write_parts(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    struct call call = {.class = CLASS_WRITE,
                        .kind = KIND_WRITE,
                        .fd = fd,
                        .parts = parts,
                        .parts_count = count,
                        .offset = offset,
                        .flags = flags};
    if (fd == STDOUT_FILENO && tracing()) {
        trace_output(&call);
    }
    return count > PARTS_MAX ? real_write(&call) : call_run(&call, real_write);
}

ssize_t write(int fd, const void *data, size_t size)
{
    const struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    return write_parts(fd, &part, 1, -1, 0);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    const struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    return write_parts(fd, &part, 1, offset, 0);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return write_parts(fd, parts, count, -1, 0);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return write_parts(fd, parts, count, offset, 0);
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    return write_parts(fd, parts, count, offset, flags);
}

static long real_read(struct call *call)
{
    if (call->flags != 0) {
        return syscall(SYS_preadv2, call->fd, call->parts, call->parts_count, call->offset, 0L,
                       call->flags);
    }
    if (call->offset < 0) {
        return syscall(SYS_readv, call->fd, call->parts, call->parts_count);
    }
    return syscall(SYS_preadv, call->fd, call->parts, call->parts_count, call->offset, 0L);
}

static long read_parts(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    struct call call = {.class = CLASS_READ,
                        .kind = KIND_OTHER,
                        .fd = fd,
                        .parts = parts,
                        .parts_count = count,
                        .offset = offset,
                        .flags = flags};
    return count > PARTS_MAX ? real_read(&call) : call_run(&call, real_read);
}

ssize_t read(int fd, void *data, size_t size)
{
    const struct iovec part = {.iov_base = data, .iov_len = size};
    return read_parts(fd, &part, 1, -1, 0);
}

ssize_t pread(int fd, void *data, size_t size, off_t offset)
{
    const struct iovec part = {.iov_base = data, .iov_len = size};
    return read_parts(fd, &part, 1, offset, 0);
}

ssize_t readv(int fd, const struct iovec *parts, int count)
{
    return read_parts(fd, parts, count, -1, 0);
}

ssize_t preadv(int fd, const struct iovec *parts, int count, off_t offset)
{
    return read_parts(fd, parts, count, offset, 0);
}

ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    return read_parts(fd, parts, count, offset, flags);
}

/* What _FORTIFY_SOURCE makes of read() and pread(). */
ssize_t __read_chk(int fd, void *data, size_t size, size_t room);
ssize_t __read_chk(int fd, void *data, size_t size, size_t room)
{
    if (size > room) {
        abort();
    }
    return read(fd, data, size);
}

ssize_t __pread_chk(int fd, void *data, size_t size, off_t offset, size_t room);
ssize_t __pread_chk(int fd, void *data, size_t size, off_t offset, size_t room)
{
    if (size > room) {
        abort();
    }
    return pread(fd, data, size, offset);
}

static long real_copy_file_range(struct call *call)
{
    return syscall(SYS_copy_file_range, call->fd2, call->offset_in, call->fd, call->offset_out,
                   (size_t)call->length, call->flags);
}

static long real_sendfile(struct call *call)
{
    return syscall(SYS_sendfile, call->fd, call->fd2, call->offset_in, (size_t)call->length);
}

/* A traced copy is cut, read from its source, and shown as the write that it is. */
static long copy_run(struct call *call, call_fn *real)
{
    if (!tracing() || !call_in_scope(call)) {
        return call_run(call, real);
    }
    if (call->length > COPY_BYTES_MAX) {
        call->length = COPY_BYTES_MAX;
    }
    const off_t from = call->offset_in != NULL ? *call->offset_in : lseek(call->fd2, 0, SEEK_CUR);
    call->offset = call->offset_out != NULL ? *call->offset_out : -1;
    void *memory =
        mmap(NULL, COPY_BYTES_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return -1;
    }
    const long size = syscall(SYS_pread64, call->fd2, memory, (size_t)call->length, from);
    const struct iovec part = {.iov_base = memory, .iov_len = size > 0 ? (size_t)size : 0};
    call->parts = &part;
    call->parts_count = 1;
    const long result = call_run_in_scope(call, real);
    const int saved = errno;
    munmap(memory, COPY_BYTES_MAX);
    errno = saved;
    return result;
}

ssize_t copy_file_range(int fd_in, off_t *offset_in, int fd_out, off_t *offset_out, size_t size,
                        unsigned flags)
{
    struct call call = {.class = CLASS_WRITE,
                        .kind = KIND_WRITE,
                        .fd = fd_out,
                        .fd2 = fd_in,
                        .offset = -1,
                        .offset_in = offset_in,
                        .offset_out = offset_out,
                        .length = (off_t)size,
                        .flags = (int)flags};
    return copy_run(&call, real_copy_file_range);
}

ssize_t sendfile(int fd_out, int fd_in, off_t *offset, size_t size)
{
    struct call call = {.class = CLASS_WRITE,
                        .kind = KIND_WRITE,
                        .fd = fd_out,
                        .fd2 = fd_in,
                        .offset = -1,
                        .offset_in = offset,
                        .length = (off_t)size};
    return copy_run(&call, real_sendfile);
}

/* ---- syncs ---------------------------------------------------------------------------------- */

static long real_fsync(struct call *call)
{
    return syscall(SYS_fsync, call->fd);
}

int fsync(int fd)
{
    struct call call = {.class = CLASS_SYNC, .kind = KIND_SYNC, .fd = fd};
    return (int)call_run(&call, real_fsync);
}

static long real_fdatasync(struct call *call)
{
    return syscall(SYS_fdatasync, call->fd);
}

int fdatasync(int fd)
{
    struct call call = {.class = CLASS_SYNC, .kind = KIND_SYNC, .fd = fd, .trace_flags = FLAG_DATA};
    return (int)call_run(&call, real_fdatasync);
}

static long real_syncfs(struct call *call)
{
    return syscall(SYS_syncfs, call->fd);
}

int syncfs(int fd)
{
    struct call call = {.class = CLASS_SYNC, .kind = KIND_SYNC_ALL, .fd = fd};
    return (int)call_run(&call, real_syncfs);
}

static long real_sync_file_range(struct call *call)
{
    return syscall(SYS_sync_file_range, call->fd, call->offset, call->length, call->flags);
}

int sync_file_range(int fd, off_t offset, off_t size, unsigned flags)
{
    struct call call = {.class = CLASS_SYNC,
                        .kind = KIND_OTHER,
                        .fd = fd,
                        .offset = offset,
                        .length = size,
                        .flags = (int)flags};
    return (int)call_run(&call, real_sync_file_range);
}

static long real_msync(struct call *call)
{
    return syscall(SYS_msync, call->memory, (size_t)call->length, call->flags);
}

/* Of which file it is would take a look at /proc/self/maps; each one counts. */
int msync(void *memory, size_t size, int flags)
{
    struct call call = {.class = CLASS_SYNC,
                        .kind = KIND_OTHER,
                        .fd = -1,
                        .memory = memory,
                        .length = (off_t)size,
                        .flags = flags};
    return (int)(fault_has_root() ? call_run_in_scope(&call, real_msync) : real_msync(&call));
}

/* ---- mappings ------------------------------------------------------------------------------- */

static long real_mmap(struct call *call)
{
    return syscall(SYS_mmap, call->memory, (size_t)call->length, call->protection, call->flags,
                   call->fd, call->offset);
}

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    struct call call = {.class = CLASS_MAP,
                        .kind = KIND_OTHER,
                        .fd = fd,
                        .memory = address,
                        .length = (off_t)size,
                        .protection = protection,
                        .flags = flags,
                        .offset = offset};
    const bool is_file = fd >= 0 && (flags & MAP_ANONYMOUS) == 0;
    return (void *)(is_file ? call_run(&call, real_mmap) : real_mmap(&call));
}

/* ---- lengths and holes ---------------------------------------------------------------------- */

static long real_ftruncate(struct call *call)
{
    return syscall(SYS_ftruncate, call->fd, call->length);
}

int ftruncate(int fd, off_t length)
{
    struct call call = {.class = CLASS_TRUNCATE, .kind = KIND_TRUNCATE, .fd = fd, .length = length};
    return (int)call_run(&call, real_ftruncate);
}

int truncate(const char *path, off_t length)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    const int result = ftruncate(fd, length);
    const int saved = errno;
    syscall(SYS_close, fd);
    errno = saved;
    return result;
}

static long real_fallocate(struct call *call)
{
    return syscall(SYS_fallocate, call->fd, call->flags, call->offset, call->length);
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    const bool punch = (mode & ~FALLOC_FL_KEEP_SIZE) != 0;
    struct call call = {.class = punch ? CLASS_PUNCH : CLASS_TRUNCATE,
                        .kind = punch ? KIND_PUNCH : KIND_ALLOCATE,
                        .fd = fd,
                        .offset = offset,
                        .length = size,
                        .flags = mode};
    if (mode & FALLOC_FL_KEEP_SIZE) {
        call.trace_flags = FLAG_KEEP_SIZE;
    }
    return (int)call_run(&call, real_fallocate);
}

int posix_fallocate(int fd, off_t offset, off_t size)
{
    const int saved = errno;
    const int error = fallocate(fd, 0, offset, size) == 0 ? 0 : errno;
    errno = saved;
    return error;
}

/* ---- names ---------------------------------------------------------------------------------- */

static long real_open(struct call *call)
{
    return syscall(SYS_openat, call->fd, call->path, call->flags, call->mode);
}

static int open_at(int dir_fd, const char *path, int flags, mode_t mode)
{
    struct call call = {.class = CLASS_OPEN,
                        .kind = KIND_OTHER,
                        .names = true,
                        .fd = dir_fd,
                        .path = path,
                        .flags = flags | O_LARGEFILE,
                        .mode = mode};
    if (!call_in_scope(&call)) {
        return (int)real_open(&call);
    }
    const int saved = errno;
    const bool exists = syscall(SYS_faccessat, dir_fd, path, F_OK) == 0;
    errno = saved;
    if ((flags & O_TMPFILE) == O_TMPFILE) {
        call.class = CLASS_CREATE;
        call.kind = KIND_CREATE;
        call.trace_flags = FLAG_NO_NAME;
    } else if ((flags & O_CREAT) && !exists) {
        call.class = CLASS_CREATE;
        call.kind = KIND_CREATE;
    } else if ((flags & O_TRUNC) && exists) {
        call.class = CLASS_TRUNCATE;
        call.kind = KIND_TRUNCATE;
    }
    return (int)call_run_in_scope(&call, real_open);
}

int openat(int dir_fd, const char *path, int flags, ...)
{
    mode_t mode = 0;
    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) {
        va_list arguments;
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    return open_at(dir_fd, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) {
        va_list arguments;
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    return open_at(AT_FDCWD, path, flags, mode);
}

int creat(const char *path, mode_t mode)
{
    return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* What _FORTIFY_SOURCE makes of open() and openat() without a mode. */
int __open_2(const char *path, int flags);
int __open_2(const char *path, int flags)
{
    return open_at(AT_FDCWD, path, flags, 0);
}

int __openat_2(int dir_fd, const char *path, int flags);
int __openat_2(int dir_fd, const char *path, int flags)
{
    return open_at(dir_fd, path, flags, 0);
}

static long real_rename(struct call *call)
{
    return syscall(SYS_renameat2, call->fd, call->path, call->fd2, call->path2, call->flags);
}

int renameat2(int old_fd, const char *old_path, int new_fd, const char *new_path, unsigned flags)
{
    struct call call = {.class = CLASS_RENAME,
                        .kind = KIND_RENAME,
                        .names = true,
                        .fd = old_fd,
                        .path = old_path,
                        .fd2 = new_fd,
                        .path2 = new_path,
                        .flags = (int)flags,
                        .trace_flags = (flags & RENAME_EXCHANGE) ? FLAG_EXCHANGE : 0};
    return (int)call_run(&call, real_rename);
}

int renameat(int old_fd, const char *old_path, int new_fd, const char *new_path)
{
    return renameat2(old_fd, old_path, new_fd, new_path, 0);
}

int rename(const char *old_path, const char *new_path)
{
    return renameat2(AT_FDCWD, old_path, AT_FDCWD, new_path, 0);
}

static long real_link(struct call *call)
{
    return syscall(SYS_linkat, call->fd, call->path, call->fd2, call->path2, call->flags);
}

int linkat(int old_fd, const char *old_path, int new_fd, const char *new_path, int flags)
{
    struct call call = {.class = CLASS_CREATE,
                        .kind = KIND_LINK,
                        .names = true,
                        .fd = old_fd,
                        .path = old_path,
                        .fd2 = new_fd,
                        .path2 = new_path,
                        .flags = flags};
    return (int)call_run(&call, real_link);
}

int link(const char *old_path, const char *new_path)
{
    return linkat(AT_FDCWD, old_path, AT_FDCWD, new_path, 0);
}

static long real_unlink(struct call *call)
{
    return syscall(SYS_unlinkat, call->fd, call->path, call->flags);
}

int unlinkat(int dir_fd, const char *path, int flags)
{
    struct call call = {.class = CLASS_UNLINK,
                        .kind = (flags & AT_REMOVEDIR) ? KIND_RMDIR : KIND_UNLINK,
                        .names = true,
                        .fd = dir_fd,
                        .path = path,
                        .flags = flags};
    return (int)call_run(&call, real_unlink);
}

int unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

static long real_mkdir(struct call *call)
{
    return syscall(SYS_mkdirat, call->fd, call->path, call->mode);
}

int mkdirat(int dir_fd, const char *path, mode_t mode)
{
    struct call call = {.class = CLASS_CREATE,
                        .kind = KIND_MKDIR,
                        .names = true,
                        .fd = dir_fd,
                        .path = path,
                        .mode = mode};
    return (int)call_run(&call, real_mkdir);
}

int mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

/* ---- the names for 64-bit offsets, which are all there are here ------------------------------ */

static_assert(sizeof(off_t) == 8, "the functions below would need their own types");

#define ALIAS(target) __attribute__((alias(#target), copy(target)))

int open64(const char *path, int flags, ...) ALIAS(open);
int openat64(int dir_fd, const char *path, int flags, ...) ALIAS(openat);
int creat64(const char *path, mode_t mode) ALIAS(creat);
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) ALIAS(pwrite);
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) ALIAS(pwritev);
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at, int flags)
    ALIAS(pwritev2);
ssize_t pread64(int fd, void *data, size_t size, off64_t offset) ALIAS(pread);
ssize_t preadv64(int fd, const struct iovec *parts, int count, off64_t at) ALIAS(preadv);
ssize_t preadv64v2(int fd, const struct iovec *parts, int count, off64_t at, int flags)
    ALIAS(preadv2);
ssize_t sendfile64(int fd_out, int fd_in, off64_t *offset, size_t size) ALIAS(sendfile);
void *mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t offset)
    ALIAS(mmap);
int ftruncate64(int fd, off64_t length) ALIAS(ftruncate);
int truncate64(const char *path, off64_t length) ALIAS(truncate);
int fallocate64(int fd, int mode, off64_t offset, off64_t size) ALIAS(fallocate);
int posix_fallocate64(int fd, off64_t offset, off64_t size) ALIAS(posix_fallocate);
int __open64_2(const char *path, int flags);
int __open64_2(const char *path, int flags) ALIAS(__open_2);
int __openat64_2(int dir_fd, const char *path, int flags);
int __openat64_2(int dir_fd, const char *path, int flags) ALIAS(__openat_2);
ssize_t __pread64_chk(int fd, void *data, size_t size, off64_t offset, size_t room);
ssize_t __pread64_chk(int fd, void *data, size_t size, off64_t offset, size_t room)
    ALIAS(__pread_chk);
