/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_UNPACK_H
#define CLI_UNPACK_H

/*
 * unpack: a tar stream into a directory. Nothing leaves the directory: names are checked, each
 * directory on the way is opened by itself without following a link, links are made as they are.
 * Hard links, devices and the like are refused. A file appears in one step, and only if its
 * content is the one that is wanted.
 */

#include <archive.h>

#include "hash/id.h"

struct unpack_options {
    int root_fd; /* borrowed */
    /* The id that the file at `path` must have; NULL: none is known. */
    const struct id *(*wanted)(void *context, const char *path);
    /* A file whose content is not the wanted one, or whose id can't be told by it alone: it was
     * not made. An error ends the unpacking. */
    int (*on_other)(void *context, const char *path);
    /* Told what is wrong with `path`, before the error is returned. */
    void (*on_fault)(void *context, const char *path, const char *what);
    void (*on_bytes)(void *context, uint64_t bytes);
    void *context;
};

struct unpack;

struct unpack *unpack_new(const struct unpack_options *options);
void unpack_free(struct unpack *unpack);

/* All of the stream. `archive` was opened by the caller, who frees it. */
[[nodiscard]] int unpack_run(struct unpack *unpack, struct archive *archive);

/* The directory that `path` is in, made if it is missing; borrowed until the next call. `ret_name`
 * points into `path`. -ENOTDIR: something else is on the way. */
[[nodiscard]] int unpack_parent(struct unpack *unpack, const char *path, int *ret_dir_fd,
                                const char **ret_name);

/* Modes and times of the directories, which are set last: after files were added to them. */
[[nodiscard]] int unpack_finish(struct unpack *unpack);

#endif
