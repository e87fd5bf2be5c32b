/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BASE_FILE_H
#define BASE_FILE_H

/*
 * file: reads and writes that do all of what was asked, syncs, and locks.
 *
 * All functions block, retry on EINTR, and return 0 or an error of base/err.h.
 */

#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/bytes.h"

/* Writes all of `data` at `offset_bytes`; after an error a part may have been written.
 * -EOVERFLOW beyond 2^63 bytes, as with all offsets here. */
[[nodiscard]] int file_write_all_at(int fd, struct bytes data, uint64_t offset_bytes);

/* Writes all of `data` at the file position (files, pipes, sockets). -EPIPE (in a process that
 * ignores SIGPIPE), -EIO, -ENOSPC. */
[[nodiscard]] int file_write_all(int fd, struct bytes data);

/* Reads exactly `size_bytes` at `offset_bytes`; -ENOENT if the file ends before. After an error
 * the content of `data` is undefined. */
[[nodiscard]] int file_read_all_at(int fd, void *data, size_t size_bytes, uint64_t offset_bytes);

/* Reads until `size_bytes` are here or the input ends, from the file position. */
[[nodiscard]] int file_read_full(int fd, void *data, size_t size_bytes, size_t *ret_read_bytes);

/* Opens `path` relative to `dir_fd` (or AT_FDCWD), close-on-exec. The caller closes *ret_fd. */
[[nodiscard]] int file_open_at(int dir_fd, const char *path, int flags, mode_t mode, int *ret_fd);

/* The whole content of `path`, appended to `buf`; -EFBIG above `limit_bytes`. After an error
 * `buf` is as before. */
[[nodiscard]] int file_read_path(int dir_fd, const char *path, size_t limit_bytes, struct buf *buf);

/* Puts `data` in place of `path` in one step that survives a power cut: a temporary file, synced,
 * renamed over it, the directory synced. Whatever fails, `path` is the old or the new content.
 * Only its owner may read the new file (mode 0600). The temporary file is `path` with ".tmp"
 * behind it, so two callers must not replace the same path at once. */
[[nodiscard]] int file_replace(int dir_fd, const char *path, struct bytes data);

/* Removes what stands at `path`, with all that is in it, as far as that can be done; no link is
 * followed. */
void file_remove_tree(const char *path);

/* fdatasync() and fsync() of a file; fsync() of a directory makes its names durable. */
[[nodiscard]] int file_sync_data(int fd);
[[nodiscard]] int file_sync(int fd);

/* Gives the pages of [offset, offset + size) back to the file system; the length stays, the range
 * reads as zeros. Both are multiples of the file system's block or the edges are zeroed.
 * -EOPNOTSUPP if the file system has no holes: the range is as before then. */
[[nodiscard]] int file_punch(int fd, uint64_t offset_bytes, uint64_t size_bytes);

/* An exclusive lock on the open file `fd`, kept until it is closed or the process ends; never
 * waits: -EBUSY when it is held through another open of the file, by this process or another. */
[[nodiscard]] int file_lock(int fd);

#endif
