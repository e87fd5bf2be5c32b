/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUSE_NOTIFY_H
#define FUSE_NOTIFY_H

/*
 * notify: a thread that looks for changes of the tree several times a second and has the kernel
 * forget what it knows of their names. The kernel may wait for a request before it forgets, so none
 * waits for this thread.
 *
 * What it misses is not made up for: the kernel believes nothing for longer than CACHE_S.
 */

#include "fuse/mount_priv.h"

/* -EAGAIN, -EIO. */
[[nodiscard]] int notifier_start(struct mount *mount);
void notifier_stop(struct mount *mount);

#endif
