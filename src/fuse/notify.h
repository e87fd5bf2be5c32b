/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUSE_NOTIFY_H
#define FUSE_NOTIFY_H

/*
 * notify: a thread that listens to the changes of the node and has the kernel forget what it knows
 * of their names. It never waits for a request of the kernel, which may wait for it.
 *
 * While it listens, mount.is_live is true: a node that goes away is noticed at once. Changes that
 * are missed while nobody listens are not made up for: the kernel believes nothing for longer than
 * CACHE_S.
 */

#include "fuse/mount_priv.h"

/* -EAGAIN. Returns when the node is known to listen, or that it does not. */
[[nodiscard]] int notifier_start(struct mount *mount);
void notifier_stop(struct mount *mount);

#endif
