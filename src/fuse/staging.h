/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUSE_STAGING_H
#define FUSE_STAGING_H

/*
 * staging: the content of a file while it is being written: in memory as long as it is small, then
 * in a file without a name, so that nothing is left behind whatever ends the process. Holes take no
 * room. The caller locks; reads may go on beside each other.
 */

#include "base/bytes.h"

/* A block of a small file: most files that are written are smaller, and they cost no file then. */
#define STAGING_MEMORY_BYTES ((size_t)256 * 1024)

struct staging;

/* Empty. `directory` is where a file is made if it comes to that; it outlives the staging. */
struct staging *staging_new(const char *directory);
/* NULL is allowed. */
void staging_free(struct staging *staging);

uint64_t staging_size(const struct staging *staging);

/* All of it if it is in memory, else no bytes at all though the size is not 0. */
struct bytes staging_memory(const struct staging *staging);

/* What it is written to, borrowed; -1 while it is in memory. */
int staging_fd(const struct staging *staging);

/* -EFBIG: beyond FILE_METADATA_LENGTH_MAX; -ENOSPC, -EMFILE, -EIO. A part may have been written. */
[[nodiscard]] int staging_write(struct staging *staging, struct bytes data, uint64_t offset_bytes);

/* Makes it shorter, or longer by zeros. Errors as above. */
[[nodiscard]] int staging_resize(struct staging *staging, uint64_t size_bytes);

/* *ret_bytes is less than `size_bytes` at the end. -EIO. */
[[nodiscard]] int staging_read(const struct staging *staging, uint64_t offset_bytes, void *data,
                               size_t size_bytes, size_t *ret_bytes);

#endif
