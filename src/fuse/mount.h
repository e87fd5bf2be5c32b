/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUSE_MOUNT_H
#define FUSE_MOUNT_H

/*
 * mount: the tree of a node as a directory of this machine, by libfuse's low level
 * (docs/MOUNT.md tells what programs see of it).
 *
 * A mount is a process of its own. It reads tree and blocks straight from the store of the node,
 * and asks the node over its Unix socket for all else: changes, and content that is not here.
 */

#include <stdbool.h>

struct mount_options {
    const char *data;      /* the data directory of the node, whose socket is DATA/socket */
    const char *directory; /* where to mount */
    const char *options;   /* "ro,allow_other", as of mount(8); NULL: none */
    /* Called once, by a thread of the mount's, when the directory shows the tree. */
    void (*ready)(const char *directory);
};

struct mount;

/* Opens the store and mounts. The caller gives *ret_mount to mount_close(). Blocks on the disk.
 *
 *   -EINVAL        an option that is none
 *   -ELOOP         the data, or what is written, would be below the directory
 *   -ENOTDIR, -EACCES, -EBUSY, -EPROTONOSUPPORT, -ENOENT  as store_open() of data
 *   -EIO           mounting failed; libfuse said why on standard error
 *
 * A directory where a mount was killed is freed first. */
[[nodiscard]] int mount_open(const struct mount_options *options, struct mount **ret_mount);

/* Serves until the directory is unmounted, or SIGTERM, SIGINT or SIGHUP comes, which unmount it.
 * Then what was closed and is not published yet is published. -EIO: serving failed, or something
 * could not be published (it is in the log). */
[[nodiscard]] int mount_run(struct mount *mount);

/* Unmounts if need be. NULL is allowed. */
void mount_close(struct mount *mount);

#endif
