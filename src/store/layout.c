/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A new data directory is made in an order that a crash can't spoil: lock, directories, index,
 * and the format file last. Until that is there the directory holds no store, and the next opening
 * makes it again; what a half-made one may contain is a closed list of names.
 */

#include "store/layout_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "store/store.h"
#include "store/touched_priv.h"

#define FORMAT_PREFIX "artel store "
#define FORMAT_BYTES_MAX 64
#define LOCK_BYTES_MAX 32

static int make_directory(int dir_fd, const char *name)
{
    if (mkdirat(dir_fd, name, 0777) < 0 && errno != EEXIST) {
        return err_from_errno(errno);
    }
    return 0;
}

/* -ENOENT: there is no format file. */
static int read_format(int dir_fd, unsigned *ret_version)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    const int err = file_read_path(dir_fd, "format", FORMAT_BYTES_MAX, &text);
    if (err == -EFBIG) {
        return -EPROTONOSUPPORT;
    }
    if (err) {
        return err;
    }
    unsigned version = 0;
    char newline = 0;
    if (sscanf(buf_string(&text), FORMAT_PREFIX "%5u%c", &version, &newline) != 2 ||
        newline != '\n' || version == 0) {
        return -EPROTONOSUPPORT;
    }
    *ret_version = version;
    return 0;
}

/* True if the directory is not there, or holds nothing but `names`. */
static int holds_only(int dir_fd, const char *directory, const char *const *names,
                      size_t names_count, bool *ret_only)
{
    const int fd = openat(dir_fd, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        const int err = errno == ENOENT ? 0 : err_from_errno(errno);
        if (fd >= 0) {
            close(fd);
        }
        *ret_only = true;
        return err;
    }
    bool only = true;
    for (const struct dirent *entry = readdir(dir); entry && only; entry = readdir(dir)) {
        bool known = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
        for (size_t i = 0; i < names_count; i++) {
            known = known || strcmp(entry->d_name, names[i]) == 0;
        }
        only = known;
    }
    closedir(dir);
    *ret_only = only;
    return 0;
}

static const char *const index_files[] = {"data.mdb", "lock.mdb"};

/* True if nothing but the traces of a half-made store is in the directory: no segment for one,
 * since the format file is there before the first. */
static int is_empty_enough(int dir_fd, bool *ret_empty)
{
    static const char *const ours[] = {"lock", "index", "segments", "format.tmp", TOUCHED_FILE};
    bool empty = false;
    int err = holds_only(dir_fd, ".", ours, ARRAY_SIZE(ours), &empty);
    if (!err && empty) {
        err = holds_only(dir_fd, "index", index_files, ARRAY_SIZE(index_files), &empty);
    }
    if (!err && empty) {
        err = holds_only(dir_fd, "segments", NULL, 0, &empty);
    }
    *ret_empty = empty;
    return err;
}

/* A finished store has an index. LMDB would make an empty one without a word, and then nothing that
 * is in the segments would be known any more. */
static int check_index(int dir_fd)
{
    struct stat stat;
    if (fstatat(dir_fd, "index/data.mdb", &stat, 0) < 0) {
        return errno == ENOENT ? -EBADMSG : err_from_errno(errno);
    }
    return stat.st_size > 0 ? 0 : -EBADMSG;
}

static int check_format(struct layout *layout, bool read_only, bool must_exist)
{
    unsigned version = 0;
    int err = read_format(layout->dir_fd, &version);
    if (err == 0) {
        return version == STORE_FORMAT ? check_index(layout->dir_fd) : -EPROTONOSUPPORT;
    }
    if (err != -ENOENT || read_only) {
        return err;
    }
    bool empty = false;
    err = is_empty_enough(layout->dir_fd, &empty);
    if (err) {
        return err;
    }
    if (!empty) {
        return -ENOTEMPTY;
    }
    return must_exist ? -ENOENT : 0;
}

/* A store that was never finished holds nothing that anybody was promised, and what a crash left of
 * its index may not even open. check_format() has seen that nothing else is there. */
static int clear_half_made(int dir_fd)
{
    unsigned version = 0;
    const int err = read_format(dir_fd, &version);
    if (err != -ENOENT) {
        return err;
    }
    for (size_t i = 0; i < ARRAY_SIZE(index_files); i++) {
        char name[32];
        snprintf(name, sizeof name, "index/%s", index_files[i]);
        if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT) {
            return err_from_errno(errno);
        }
    }
    return 0;
}

static int take_lock(struct layout *layout)
{
    int err = file_open_at(layout->dir_fd, "lock", O_RDWR | O_CREAT, 0666, &layout->lock_fd);
    if (err) {
        return err;
    }
    err = file_lock(layout->lock_fd);
    if (err) {
        return err;
    }
    char text[LOCK_BYTES_MAX];
    const int size = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (ftruncate(layout->lock_fd, 0) < 0) {
        return err_from_errno(errno);
    }
    return file_write_all_at(layout->lock_fd, BYTES((const uint8_t *)text, (size_t)size), 0);
}

static int open_parts(struct layout *layout, const char *path, bool read_only, bool must_exist)
{
    if (!read_only) {
        int err = take_lock(layout);
        if (err) {
            return err;
        }
        /* Somebody else may have made or replaced the store until we had the lock. */
        err = check_format(layout, read_only, must_exist);
        if (!err) {
            err = clear_half_made(layout->dir_fd);
        }
        if (err) {
            return err;
        }
        err = make_directory(layout->dir_fd, "index");
        if (err) {
            return err;
        }
        err = make_directory(layout->dir_fd, "segments");
        if (err) {
            return err;
        }
    }
    layout->index_path = mem_format("%s/index", path);
    return file_open_at(layout->dir_fd, "segments", O_RDONLY | O_DIRECTORY, 0,
                        &layout->segments_fd);
}

int layout_open(const char *path, bool read_only, bool must_exist, struct layout **ret_layout)
{
    if (!read_only && !must_exist) {
        const int err = make_directory(AT_FDCWD, path);
        if (err) {
            return err;
        }
    }
    struct layout *layout = mem_alloc(sizeof *layout);
    *layout = (struct layout){.dir_fd = -1, .segments_fd = -1, .lock_fd = -1};
    int err = file_open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, &layout->dir_fd);
    if (!err) {
        err = check_format(layout, read_only, must_exist);
    }
    if (!err) {
        err = open_parts(layout, path, read_only, must_exist);
    }
    if (err) {
        layout_close(layout);
        return err;
    }
    *ret_layout = layout;
    return 0;
}

static int sync_child(int dir_fd, const char *name)
{
    CLEANUP_FD int fd = -1;
    const int err = file_open_at(dir_fd, name, O_RDONLY, 0, &fd);
    return err ? err : file_sync(fd);
}

int layout_finish(struct layout *layout)
{
    unsigned version = 0;
    int err = read_format(layout->dir_fd, &version);
    if (err != -ENOENT) {
        return err;
    }
    /* The names must be durable before the file that vouches for them: index and segments in this
     * directory, the database in index, this directory in its parent. */
    static const char *const names[] = {"index/data.mdb", "index", "segments", ".", ".."};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        err = sync_child(layout->dir_fd, names[i]);
        if (err == -EACCES && strcmp(names[i], "..") == 0) {
            err = 0; /* a parent that we may not read is not ours to sync */
        }
        if (err) {
            return err;
        }
    }
    char text[FORMAT_BYTES_MAX];
    snprintf(text, sizeof text, FORMAT_PREFIX "%u\n", STORE_FORMAT);
    return file_replace(layout->dir_fd, "format", bytes_of_string(text));
}

void layout_close(struct layout *layout)
{
    if (!layout) {
        return;
    }
    const int fds[] = {layout->segments_fd, layout->lock_fd, layout->dir_fd};
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    free(layout->index_path);
    free(layout);
}

unsigned store_format_found(const char *path)
{
    CLEANUP_FD int dir_fd = -1;
    unsigned version = 0;
    if (file_open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, &dir_fd) ||
        read_format(dir_fd, &version)) {
        return 0;
    }
    return version;
}

long store_owner(const char *path)
{
    CLEANUP_FD int dir_fd = -1;
    CLEANUP_BUF struct buf text = BUF_INIT;
    long owner = 0;
    if (file_open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, &dir_fd) ||
        file_read_path(dir_fd, "lock", LOCK_BYTES_MAX, &text) ||
        sscanf(buf_string(&text), "%10ld", &owner) != 1) {
        return 0;
    }
    return owner;
}
