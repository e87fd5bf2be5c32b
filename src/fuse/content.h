/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUSE_CONTENT_H
#define FUSE_CONTENT_H

/*
 * content: the bytes of a file version, for as long as somebody has it open: from the store of the
 * node, or through the node from others, somewhat ahead of who reads in order.
 */

#include "fuse/mount_priv.h"

struct content;

/* Under mount.lock: what `inode` has, with a reference more. */
struct content *content_of(struct inode *inode);
/* Under mount.lock. NULL is allowed. */
void content_drop(struct content *content);

/* *ret_bytes is less than `size_bytes` at the end only. Blocks until the content is here. -EIO,
 * -ENOTCONN. */
[[nodiscard]] int content_read(struct mount *mount, struct content *content, uint64_t offset_bytes,
                               void *data, size_t size_bytes, size_t *ret_bytes);

#endif
