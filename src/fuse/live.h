/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUSE_LIVE_H
#define FUSE_LIVE_H

/*
 * live: a thread that keeps a connection to the node open and so knows at once when it goes away
 * and when it is back: mount.is_live.
 */

#include "fuse/mount_priv.h"

/* -EAGAIN. Returns when it is known whether the node is there. */
[[nodiscard]] int live_start(struct mount *mount);
void live_stop(struct mount *mount);

#endif
