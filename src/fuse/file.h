/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUSE_FILE_H
#define FUSE_FILE_H

/* file: changes of the content of a file, by its number. */

#include "fuse/mount_priv.h"

/* -ESTALE, or as draft_make() and staging_write(). */
[[nodiscard]] int file_write(struct mount *mount, uint64_t number, struct bytes data,
                             uint64_t offset_bytes);
[[nodiscard]] int file_resize(struct mount *mount, uint64_t number, uint64_t size_bytes);
void file_close(struct mount *mount, uint64_t number, bool is_writer);

/* Nanoseconds since 1970. */
int64_t file_now_ns(void);

#endif
