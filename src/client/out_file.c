/* SPDX-License-Identifier: Apache-2.0 */
#include "client/out_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/random.h"
#include "client/text.h"

struct out_file {
    int dir_fd;
    int fd;
    char *name;
    char *temporary; /* its name so far; NULL: none */
};

/* A name that nobody else uses. Random, because other processes may write the same directory from
 * other machines, where the same process number says nothing. */
static char *temporary_name(void)
{
    uint64_t number = 0;
    random_system(&number, sizeof number);
    return mem_format(".artel-%ld-%016llx", (long)getpid(), (unsigned long long)number);
}

int out_file_open(int dir_fd, const char *name, struct out_file **ret_file)
{
    char *temporary = NULL;
    int fd = openat(dir_fd, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600);
    if (fd < 0) {
        temporary = temporary_name();
        fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    }
    if (fd < 0) {
        const int err = err_from_errno(errno);
        free(temporary);
        return err;
    }
    struct out_file *file = mem_alloc(sizeof *file);
    *file = (struct out_file){
        .dir_fd = dir_fd, .fd = fd, .name = mem_copy_string(name), .temporary = temporary};
    *ret_file = file;
    return 0;
}

int out_file_write(struct out_file *file, struct bytes data)
{
    return file_write_all(file->fd, data);
}

int out_file_write_at(struct out_file *file, uint64_t offset_bytes, struct bytes data)
{
    return file_write_all_at(file->fd, data, offset_bytes);
}

static void free_file(struct out_file *file)
{
    close(file->fd);
    free(file->name);
    free(file->temporary);
    free(file);
}

/* linkat() never replaces: where something is there already, what has no name gets a temporary one
 * first. */
static int give_name(struct out_file *file, int dir_fd, const char *name)
{
    if (!file->temporary) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", file->fd);
        if (linkat(AT_FDCWD, path, dir_fd, name, AT_SYMLINK_FOLLOW) == 0) {
            return 0;
        }
        if (errno != EEXIST) {
            return err_from_errno(errno);
        }
        CLEANUP_FREE char *temporary = temporary_name();
        if (linkat(AT_FDCWD, path, file->dir_fd, temporary, AT_SYMLINK_FOLLOW) < 0) {
            return err_from_errno(errno);
        }
        file->temporary = STEAL_PTR(temporary);
    }
    if (renameat(file->dir_fd, file->temporary, dir_fd, name) < 0) {
        return err_from_errno(errno);
    }
    free(STEAL_PTR(file->temporary));
    return 0;
}

int out_file_prepare(struct out_file *file, const struct out_file_options *options,
                     struct stat *ret_info)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, options->mtime};
    struct stat info;
    int err = 0;
    if (fchmod(file->fd, options->mode & 0777) < 0 || futimens(file->fd, times) < 0 ||
        fstat(file->fd, &info) < 0) {
        err = err_from_errno(errno);
    }
    if (!err && options->is_synced) {
        err = file_sync(file->fd);
    }
    if (err) {
        out_file_abort(file);
        return err;
    }
    *ret_info = info;
    return 0;
}

int out_file_sync(const struct out_file *file)
{
    return file_sync(file->fd);
}

int out_file_appear(struct out_file *file, int dir_fd, const char *name)
{
    const int err = give_name(file, dir_fd, name);
    if (err) {
        out_file_abort(file);
        return err;
    }
    free_file(file);
    return 0;
}

int out_file_commit(struct out_file *file, const struct out_file_options *options)
{
    struct stat info;
    const int err = out_file_prepare(file, options, &info);
    return err ? err : out_file_appear(file, file->dir_fd, file->name);
}

void out_file_abort(struct out_file *file)
{
    if (!file) {
        return;
    }
    if (file->temporary) {
        unlinkat(file->dir_fd, file->temporary, 0);
    }
    free_file(file);
}

int out_file_open_parent(const char *path, int *ret_dir_fd)
{
    CLEANUP_FREE char *parent = mem_copy_string(path);
    char *name = parent + (text_last_name(path) - path);
    if (!*name) {
        return -EISDIR;
    }
    *name = 0;
    return file_open_at(AT_FDCWD, *parent ? parent : ".", O_RDONLY | O_DIRECTORY, 0, ret_dir_fd);
}

int out_file_open_special(const char *path, int *ret_fd)
{
    struct stat info;
    if (stat(path, &info) < 0 || S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)) {
        return -ENOENT;
    }
    return file_open_at(AT_FDCWD, path, O_WRONLY | O_NOCTTY, 0, ret_fd);
}

int out_file_link(int dir_fd, const char *name, const char *target, const struct timespec *mtime)
{
    CLEANUP_FREE char *temporary = temporary_name();
    if (symlinkat(target, dir_fd, temporary) < 0) {
        return err_from_errno(errno);
    }
    const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, *mtime};
    if (utimensat(dir_fd, temporary, times, AT_SYMLINK_NOFOLLOW) < 0 ||
        renameat(dir_fd, temporary, dir_fd, name) < 0) {
        const int err = err_from_errno(errno);
        unlinkat(dir_fd, temporary, 0);
        return err;
    }
    return 0;
}
