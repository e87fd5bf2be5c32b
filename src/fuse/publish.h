/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUSE_PUBLISH_H
#define FUSE_PUBLISH_H

/*
 * publish: drafts become versions in the tree. A small file that is closed is queued: it can be
 * seen at once on this mount, a thread publishes it with all others that wait, and close(2) waits
 * only if too many do. A large one is published while close(2) waits, and so is each at fsync(2).
 *
 * What fails for the sake of the node (it is not there, its disk is not) is tried again until it
 * succeeds or the mount ends. What the tree refuses is logged and given up.
 */

#include "fuse/mount_priv.h"

/* Starts the thread. -EAGAIN. */
[[nodiscard]] int publisher_start(struct mount *mount);
/* Publishes what waits and ends the thread. -EIO: something is lost, it is in the log. */
[[nodiscard]] int publisher_stop(struct mount *mount);

/* Of who closed a descriptor. Errors of the node for a large file; -ENOTCONN: the node is not
 * there, it will be tried again. */
[[nodiscard]] int publish_closed(struct mount *mount, uint64_t number);
/* Of the last close: whatever is not published is queued. */
void publish_released(struct mount *mount, uint64_t number);

/* When it returns, all that was written to the file is in the tree and durable at the node. */
[[nodiscard]] int publish_now(struct mount *mount, uint64_t number);
/* The same for all that was closed. */
[[nodiscard]] int publish_all(struct mount *mount);

/* Between these two the name is being changed by this mount (`busy` is the caller's, and so is its
 * name): nothing goes out under it, and the notifier does not take what we do for what somebody
 * else did. */
void publish_hold(struct mount *mount, struct busy_name *busy);
void publish_let_go(struct mount *mount, const struct busy_name *busy);
/* Returns when what was under way under names that are held has ended, so that nothing comes to
 * stand there again. */
void publish_pause(struct mount *mount);
/* Under mount.lock: its name, or that of a directory that it is in, is being changed. */
bool publish_is_held(const struct mount *mount, const struct inode *inode);

/* Under mount.lock, which is given back meanwhile: waits until nothing of the file is under way.
 * NULL: the file went. */
struct inode *publish_wait(struct mount *mount, uint64_t number);

#endif
