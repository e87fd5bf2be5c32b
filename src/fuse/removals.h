/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUSE_REMOVALS_H
#define FUSE_REMOVALS_H

/*
 * removals: files that were unlinked here, on their way to the node. unlink(2) does not
 * wait for it: from then on this mount does not see what was there, and a thread has the node
 * delete it, with all others that wait, in one change.
 *
 * What goes is the version that was there: what another node makes of the name meanwhile stays, and
 * can be seen. Whatever else changes a name, and whatever a new file under it is published by,
 * waits until the removal is done. What the node can't do now (it is not there, its disk is full)
 * is tried again until it succeeds or the mount ends.
 */

#include "fuse/mount_priv.h"

/* Starts the thread. -EAGAIN. */
[[nodiscard]] int removals_start(struct mount *mount);
/* Sends what waits and ends the thread. -EIO: something is lost, it is in the log. */
[[nodiscard]] int removals_stop(struct mount *mount);

/* Under mount.lock: takes the name of `inode` away, which is published and has no draft, and queues
 * its removal. The inode may be freed by it. False: nothing was done, it has to be removed while
 * unlink(2) waits, which is told what is wrong. */
bool removals_add(struct mount *mount, struct inode *inode);

/* Under mount.lock: what was found at a name in the tree is going. */
bool removals_hide(const struct mount *mount, uint64_t parent, struct bytes name,
                   const struct shape *shape);
/* Under mount.lock: something at that name is. */
bool removals_have(const struct mount *mount, uint64_t parent, struct bytes name);
/* Under mount.lock: how many were done so far, so that who reads a listing knows whether some were
 * meanwhile. */
uint64_t removals_ended(const struct mount *mount);
/* Under mount.lock: why nothing can be removed at present; 0. */
int removals_err(const struct mount *mount);

/* Under mount.lock: somebody waits for `settled` until one is done. */
void removals_hurry(struct mount *mount);
/* Waits until all that were queued are in the tree. -ENOTCONN, -ENOSPC, -EIO: they are not, but
 * will be tried again. */
[[nodiscard]] int removals_wait(struct mount *mount);

#endif
