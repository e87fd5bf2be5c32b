/* SPDX-License-Identifier: Apache-2.0 */
#include "follow/local_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "client/content_id.h"
#include "client/text.h"
#include "hash/sha256.h"

#define DIRECTORY_MODE 0755
#define READ_BYTES ((size_t)1024 * 1024)
/* Tries at names that somebody took already. */
#define KEEP_TRIES 1000u
#define DIRECTORY_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW)

struct local {
    char *dir;
    int dir_fd;
    int follow_fd;
    int staging_fd;
    char *parent; /* the directory used last, so that its other files find it open */
    int parent_fd;
};

static void empty_directory(int fd)
{
    const int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = again < 0 ? NULL : fdopendir(again);
    const struct dirent *found = dir ? readdir(dir) : NULL;
    while (found) {
        if (found->d_name[0] != '.' || strncmp(found->d_name, ".artel-", 7) == 0) {
            unlinkat(fd, found->d_name, 0);
        }
        found = readdir(dir);
    }
    if (dir) {
        closedir(dir);
    }
}

static int make_and_open(int dir_fd, const char *name, mode_t mode, int flags, int *ret_fd)
{
    if (mkdirat(dir_fd, name, mode) < 0 && errno != EEXIST) {
        return err_from_errno(errno);
    }
    return file_open_at(dir_fd, name, flags, 0, ret_fd);
}

int local_open(const char *dir, struct local **ret_local)
{
    struct local *local = mem_alloc(sizeof *local);
    *local = (struct local){.dir_fd = -1, .follow_fd = -1, .staging_fd = -1, .parent_fd = -1};
    local->dir = mem_copy_string(dir);
    int err = make_and_open(AT_FDCWD, dir, DIRECTORY_MODE, O_RDONLY | O_DIRECTORY, &local->dir_fd);
    if (!err) {
        err = make_and_open(local->dir_fd, FOLLOW_DIR, 0700, DIRECTORY_FLAGS, &local->follow_fd);
    }
    if (!err) {
        err = make_and_open(local->follow_fd, "tmp", 0700, DIRECTORY_FLAGS, &local->staging_fd);
    }
    if (err) {
        local_close(local);
        return err;
    }
    *ret_local = local;
    return 0;
}

void local_empty_staging(struct local *local)
{
    empty_directory(local->staging_fd);
}

void local_forget(struct local *local)
{
    if (local->parent_fd >= 0 && local->parent_fd != local->dir_fd) {
        close(local->parent_fd);
    }
    local->parent_fd = -1;
    free(STEAL_PTR(local->parent));
}

void local_close(struct local *local)
{
    if (!local) {
        return;
    }
    local_forget(local);
    const int fds[] = {local->staging_fd, local->follow_fd, local->dir_fd};
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    free(local->dir);
    free(local);
}

int local_dir_fd(const struct local *local)
{
    return local->dir_fd;
}

int local_follow_fd(const struct local *local)
{
    return local->follow_fd;
}

int local_staging_fd(const struct local *local)
{
    return local->staging_fd;
}

/* ---- walking ----------------------------------------------------------------------------------
 */

/* Opens the directory `path` (size bytes of it) below the followed one. */
static int open_directory(struct local *local, const char *path, size_t size, bool make,
                          int *ret_fd)
{
    CLEANUP_FD int fd = -1;
    int err = file_open_at(local->dir_fd, ".", DIRECTORY_FLAGS, 0, &fd);
    for (size_t at = 0; !err && at < size;) {
        const size_t count = strcspn(path + at, "/");
        CLEANUP_FREE char *name = mem_format("%.*s", (int)count, path + at);
        int next = -1;
        err = file_open_at(fd, name, DIRECTORY_FLAGS, 0, &next);
        if (err == -ENOENT && make) {
            err = make_and_open(fd, name, DIRECTORY_MODE, DIRECTORY_FLAGS, &next);
        }
        if (!err) {
            close(fd);
            fd = next;
        }
        at += count + 1;
    }
    if (!err) {
        *ret_fd = STEAL_FD(fd);
    }
    return err;
}

int local_parent(struct local *local, const char *path, bool make, int *ret_fd,
                 const char **ret_name)
{
    const char *name = text_last_name(path);
    const size_t size = name == path ? 0 : (size_t)(name - path) - 1;
    if (local->parent_fd < 0 || strlen(local->parent) != size ||
        memcmp(local->parent, path, size) != 0) {
        int fd = local->dir_fd;
        const int err = size > 0 ? open_directory(local, path, size, make, &fd) : 0;
        if (err) {
            return err;
        }
        local_forget(local);
        local->parent_fd = fd;
        local->parent = mem_format("%.*s", (int)size, path);
    }
    *ret_fd = local->parent_fd;
    *ret_name = name;
    return 0;
}

int local_stat(struct local *local, const char *path, struct stat *ret_info)
{
    int fd = -1;
    const char *name = NULL;
    int err = local_parent(local, path, false, &fd, &name);
    if (!err && fstatat(fd, name, ret_info, AT_SYMLINK_NOFOLLOW) < 0) {
        err = err_from_errno(errno);
    }
    return err == -ENOTDIR ? -ENOENT : err;
}

int local_sync_parent(struct local *local, const char *path)
{
    int fd = -1;
    const char *name = NULL;
    const int err = local_parent(local, path, false, &fd, &name);
    return err ? err : file_sync(fd);
}

/* ---- whose it is ------------------------------------------------------------------------------
 */

void local_link_id(const char *target, struct id *ret_id)
{
    sha256_id(bytes_of_string(target), ret_id);
}

bool local_has_content(struct local *local, const char *path, const struct id *id)
{
    int dir_fd = -1;
    const char *name = NULL;
    CLEANUP_FD int fd = -1;
    if (local_parent(local, path, false, &dir_fd, &name) ||
        file_open_at(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, &fd)) {
        return false;
    }
    struct content_id *content = content_id_new();
    CLEANUP_FREE uint8_t *data = mem_alloc(READ_BYTES);
    size_t count = READ_BYTES;
    int err = 0;
    while (!err && count == READ_BYTES) {
        err = file_read_full(fd, data, READ_BYTES, &count);
        if (!err) {
            err = content_id_add(content, BYTES(data, count));
        }
    }
    struct id actual;
    content_id_take(content, &actual);
    content_id_free(content);
    return !err && id_equal(&actual, id);
}

static bool is_link_to(struct local *local, const struct place *place)
{
    int fd = -1;
    const char *name = NULL;
    char target[PATH_MAX];
    struct id id;
    if (local_parent(local, place->path, false, &fd, &name)) {
        return false;
    }
    const ssize_t size = readlinkat(fd, name, target, sizeof target - 1);
    if (size < 0) {
        return false;
    }
    target[size] = 0;
    local_link_id(target, &id);
    return id_equal(&id, &place->id);
}

bool local_is_ours(struct local *local, const struct place *place, const struct stat *info)
{
    switch (place->kind) {
    case PLACE_DIRECTORY:
        return S_ISDIR(info->st_mode);
    case PLACE_SYMLINK:
        return S_ISLNK(info->st_mode) && is_link_to(local, place);
    case PLACE_FILE:
    default:
        break;
    }
    const struct mark mark = mark_of(info);
    if (!S_ISREG(info->st_mode) || mark.size_bytes != place->mark.size_bytes) {
        return false;
    }
    /* A version of a directory shares its files with the next one, and links change the ctime. */
    if (place->version || place->is_intended) {
        return mark_is_same_content(&mark, &place->mark);
    }
    /* A crash between a change of the time and its note here leaves another time. */
    return mark_equal(&mark, &place->mark) || local_has_content(local, place->path, &place->id);
}

int local_keep(struct local *local, const char *path, char **ret_beside)
{
    int fd = -1;
    const char *name = NULL;
    int err = local_parent(local, path, false, &fd, &name);
    if (err) {
        return err;
    }
    const time_t now = (time_t)(clock_wall_ms(clock_real()) / 1000);
    struct tm parts;
    char time[32];
    if (!gmtime_r(&now, &parts) || strftime(time, sizeof time, "%Y%m%dT%H%M%SZ", &parts) == 0) {
        time[0] = 0;
    }
    for (unsigned i = 1; i <= KEEP_TRIES; i++) {
        CLEANUP_BUF struct buf suffix = BUF_INIT;
        buf_add_format(&suffix, ".local-%s", time);
        if (i > 1) {
            buf_add_format(&suffix, "-%u", i);
        }
        const size_t room = NAME_MAX - suffix.size;
        size_t size = strlen(name) < room ? strlen(name) : room;
        while (size > 0 && ((unsigned char)name[size] & 0xc0) == 0x80) {
            size--; /* of a character all or nothing */
        }
        CLEANUP_FREE char *kept = mem_format("%.*s%s", (int)size, name, buf_string(&suffix));
        if (renameat2(fd, name, fd, kept, RENAME_NOREPLACE) == 0) {
            *ret_beside = mem_format("%.*s%s", (int)(name - path), path, kept);
            local_forget(local);
            return 0;
        }
        if (errno != EEXIST) {
            return err_from_errno(errno);
        }
    }
    return -EEXIST;
}

void local_remove_tree(struct local *local, const char *path)
{
    CLEANUP_FREE char *full = mem_format("%s/%s", local->dir, path);
    local_forget(local);
    file_remove_tree(full);
}
