/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/unpack.h"

#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "client/content_id.h"
#include "client/out_file.h"
#include "wire/path.h"

/* Until its own is set. */
#define DIRECTORY_MODE 0755

struct directory {
    char *path;
    mode_t mode;
    struct timespec mtime;
};

struct unpack {
    struct unpack_options options;
    struct content_id *content;
    char *parent; /* the directory used last, so that its other files find it open */
    int parent_fd;
    struct directory *directories;
    size_t directories_count;
    size_t directories_capacity;
};

struct unpack *unpack_new(const struct unpack_options *options)
{
    struct unpack *unpack = mem_alloc(sizeof *unpack);
    unpack->options = *options;
    unpack->content = content_id_new();
    unpack->parent_fd = -1;
    return unpack;
}

static void forget_parent(struct unpack *unpack)
{
    if (unpack->parent_fd >= 0) {
        close(unpack->parent_fd);
        unpack->parent_fd = -1;
    }
    free(STEAL_PTR(unpack->parent));
}

void unpack_free(struct unpack *unpack)
{
    if (!unpack) {
        return;
    }
    forget_parent(unpack);
    for (size_t i = 0; i < unpack->directories_count; i++) {
        free(unpack->directories[i].path);
    }
    free(unpack->directories);
    content_id_free(unpack->content);
    free(unpack);
}

/* Opens the directory `path`; makes what is missing if `is_made`. */
static int open_directory(const struct unpack *unpack, struct bytes path, bool is_made, int *ret_fd)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    CLEANUP_FD int fd = openat(unpack->options.root_fd, ".", flags);
    while (fd >= 0 && path.size) {
        const struct bytes part = path_next(&path);
        char name[PATH_NAME_BYTES_MAX + 1];
        memcpy(name, part.data, part.size);
        name[part.size] = 0;
        if (is_made && mkdirat(fd, name, DIRECTORY_MODE) < 0 && errno != EEXIST) {
            return err_from_errno(errno);
        }
        const int next = openat(fd, name, flags);
        const int number = errno;
        close(fd);
        fd = next;
        errno = number;
    }
    if (fd < 0) {
        /* A link is on the way. */
        return errno == ELOOP ? -ENOTDIR : err_from_errno(errno);
    }
    *ret_fd = STEAL_FD(fd);
    return 0;
}

int unpack_parent(struct unpack *unpack, const char *path, int *ret_dir_fd, const char **ret_name)
{
    struct bytes parent;
    struct bytes name;
    path_split(bytes_of_string(path), &parent, &name);
    if (!unpack->parent || !bytes_equal(bytes_of_string(unpack->parent), parent)) {
        forget_parent(unpack);
        const int err = open_directory(unpack, parent, true, &unpack->parent_fd);
        if (err) {
            return err;
        }
        unpack->parent = mem_alloc(parent.size + 1);
        memcpy(unpack->parent, path, parent.size);
    }
    *ret_dir_fd = unpack->parent_fd;
    *ret_name = path + strlen(path) - name.size;
    return 0;
}

static int fault(const struct unpack *unpack, const char *path, const char *what, int err)
{
    unpack->options.on_fault(unpack->options.context, path, what);
    return err;
}

static struct timespec mtime_of(struct archive_entry *entry)
{
    return (struct timespec){archive_entry_mtime(entry), archive_entry_mtime_nsec(entry)};
}

static int take_directory(struct unpack *unpack, const char *path, struct archive_entry *entry)
{
    int fd = -1;
    const int err = open_directory(unpack, bytes_of_string(path), true, &fd);
    if (err) {
        return fault(unpack, path, err_text(err), err);
    }
    close(fd);
    if (unpack->directories_count == unpack->directories_capacity) {
        unpack->directories_capacity = unpack->directories_capacity * 2 + 64;
        unpack->directories = mem_resize_array(unpack->directories, unpack->directories_capacity,
                                               sizeof *unpack->directories);
    }
    unpack->directories[unpack->directories_count++] = (struct directory){
        .path = mem_copy_string(path),
        .mode = archive_entry_perm(entry),
        .mtime = mtime_of(entry),
    };
    return 0;
}

static int copy_content(struct unpack *unpack, struct archive *archive, struct out_file *file)
{
    for (;;) {
        const void *data = NULL;
        size_t size = 0;
        la_int64_t offset = 0;
        const int result = archive_read_data_block(archive, &data, &size, &offset);
        if (result == ARCHIVE_EOF) {
            return 0;
        }
        if (result < ARCHIVE_WARN) {
            return -EPROTO;
        }
        int err = out_file_write(file, BYTES(data, size));
        if (!err) {
            err = content_id_add(unpack->content, BYTES(data, size));
        }
        if (err) {
            return err;
        }
        unpack->options.on_bytes(unpack->options.context, size);
    }
}

static int take_file(struct unpack *unpack, const char *path, struct archive_entry *entry,
                     struct archive *archive)
{
    int dir_fd = -1;
    const char *name = NULL;
    struct out_file *file = NULL;
    int err = unpack_parent(unpack, path, &dir_fd, &name);
    if (!err) {
        err = out_file_open(dir_fd, name, &file);
    }
    if (!err) {
        err = copy_content(unpack, archive, file);
    }
    struct id id;
    content_id_take(unpack->content, &id);
    if (err) {
        out_file_abort(file);
        return fault(unpack, path, err_text(err), err);
    }
    const struct id *wanted = unpack->options.wanted(unpack->options.context, path);
    if (!wanted || !id_equal(wanted, &id)) {
        out_file_abort(file);
        return unpack->options.on_other(unpack->options.context, path);
    }
    const struct out_file_options options = {.mode = archive_entry_perm(entry),
                                             .mtime = mtime_of(entry)};
    err = out_file_commit(file, &options);
    return err ? fault(unpack, path, err_text(err), err) : 0;
}

static int take_link(struct unpack *unpack, const char *path, struct archive_entry *entry)
{
    int dir_fd = -1;
    const char *name = NULL;
    const char *target = archive_entry_symlink(entry);
    const struct timespec mtime = mtime_of(entry);
    int err = target ? unpack_parent(unpack, path, &dir_fd, &name) : -EPROTO;
    if (!err) {
        err = out_file_link(dir_fd, name, target, &mtime);
    }
    return err ? fault(unpack, path, err_text(err), err) : 0;
}

/* "./a/b/" is "a/b", "./" is "". */
static char *path_of(struct archive_entry *entry)
{
    const char *name = archive_entry_pathname(entry);
    if (!name) {
        return NULL;
    }
    while (name[0] == '.' && (name[1] == '/' || name[1] == 0)) {
        name += 1 + strspn(name + 1, "/");
    }
    size_t size = strlen(name);
    while (size > 1 && name[size - 1] == '/') {
        size--;
    }
    char *path = mem_copy(name, size + 1);
    path[size] = 0;
    return path;
}

static int take_entry(struct unpack *unpack, struct archive *archive, struct archive_entry *entry)
{
    CLEANUP_FREE char *path = path_of(entry);
    const bool is_directory = archive_entry_filetype(entry) == AE_IFDIR;
    if (!path || (*path && path_check(bytes_of_string(path))) || (!*path && !is_directory)) {
        return fault(unpack, path ? path : "?", "no path that can be", -EPROTO);
    }
    if (archive_entry_hardlink(entry)) {
        return fault(unpack, path, "a hard link", -EPROTO);
    }
    switch (archive_entry_filetype(entry)) {
    case AE_IFDIR:
        return take_directory(unpack, path, entry);
    case AE_IFREG:
        return take_file(unpack, path, entry, archive);
    case AE_IFLNK:
        return take_link(unpack, path, entry);
    default:
        return fault(unpack, path, "neither file, directory nor link", -EPROTO);
    }
}

int unpack_run(struct unpack *unpack, struct archive *archive)
{
    for (;;) {
        struct archive_entry *entry = NULL;
        const int result = archive_read_next_header(archive, &entry);
        if (result == ARCHIVE_EOF) {
            return 0;
        }
        /* A warning tells that the name is no ASCII: it comes as the bytes it has. */
        if (result < ARCHIVE_WARN) {
            return -EPROTO;
        }
        const int err = take_entry(unpack, archive, entry);
        if (err) {
            return err;
        }
    }
}

int unpack_finish(struct unpack *unpack)
{
    forget_parent(unpack);
    /* What is deeper comes later in the stream, and a mode may forbid to go there again. */
    for (size_t i = unpack->directories_count; i > 0; i--) {
        const struct directory *directory = &unpack->directories[i - 1];
        CLEANUP_FD int fd = -1;
        int err = open_directory(unpack, bytes_of_string(directory->path), false, &fd);
        const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, directory->mtime};
        if (!err && (fchmod(fd, directory->mode & 0777) < 0 || futimens(fd, times) < 0)) {
            err = err_from_errno(errno);
        }
        if (err) {
            return fault(unpack, directory->path, err_text(err), err);
        }
    }
    return 0;
}
