/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_OUT_FILE_H
#define CLIENT_OUT_FILE_H

/*
 * out_file: a file that appears under its name in one step, when all of it was written. Until
 * then it has no name at all where the file system can do that (O_TMPFILE), so that nothing is
 * left behind whatever ends the process; elsewhere ".artel-PID-NUMBER".
 */

#include <stdbool.h>
#include <sys/stat.h>
#include <time.h>

#include "base/bytes.h"

struct out_file;

/* `dir_fd` (or AT_FDCWD) stays open until the end, `name` has no '/'. */
[[nodiscard]] int out_file_open(int dir_fd, const char *name, struct out_file **ret_file);

[[nodiscard]] int out_file_write(struct out_file *file, struct bytes data);

/* At a place of its own, in whatever order; one does not use both. */
[[nodiscard]] int out_file_write_at(struct out_file *file, uint64_t offset_bytes,
                                    struct bytes data);

struct out_file_options {
    mode_t mode; /* the permissions count, nothing else */
    struct timespec mtime;
    bool is_synced; /* to the disk, before it appears */
};

/* Gives it its name, in place of whatever file is there, and frees it, on failure too. -EISDIR. */
[[nodiscard]] int out_file_commit(struct out_file *file, const struct out_file_options *options);

/* The same in two steps, for who makes many durable at once. Gives it mode and time, and syncs it
 * if asked to; *ret_info is what the file will be but for its ctime. On failure it is dropped. */
[[nodiscard]] int out_file_prepare(struct out_file *file, const struct out_file_options *options,
                                   struct stat *ret_info);
/* Makes a prepared one durable. */
[[nodiscard]] int out_file_sync(const struct out_file *file);
/* Gives a prepared file the name `name` in `dir_fd`, of the same file system as the directory that
 * it was opened in, in place of whatever file is there, and frees it, on failure too. */
[[nodiscard]] int out_file_appear(struct out_file *file, int dir_fd, const char *name);

/* Opens the directory that `path` is to stand in; its name there is text_last_name(). The caller
 * closes *ret_dir_fd. -EISDIR: a '/' at its end. */
[[nodiscard]] int out_file_open_parent(const char *path, int *ret_dir_fd);

/* Drops it. NULL is allowed. */
void out_file_abort(struct out_file *file);

/* A target that is neither a file nor a directory (a device, a pipe) is written to, not replaced:
 * opens it, behind links too. -ENOENT: `path` is no such thing. The caller closes *ret_fd. */
[[nodiscard]] int out_file_open_special(const char *path, int *ret_fd);

/* As out_file for a symbolic link, in one go. */
[[nodiscard]] int out_file_link(int dir_fd, const char *name, const char *target,
                                const struct timespec *mtime);

#endif
