/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUSE_SEND_H
#define FUSE_SEND_H

/* send: drafts on their way to the node. Blocks; not under mount.lock. */

#include "fuse/draft.h"

/* One draft; publish.c has pinned its inode, and nobody else sends it. */
struct send_job {
    struct send_job *prev, *next; /* of those under way; publish.c's, under mount.lock */
    struct inode *inode;
    struct draft *draft;
    /* Filled by sending. */
    struct buf path;
    struct shape shape;
    uint64_t changed; /* which change of the draft it was */
    struct buf content;
    struct id id;
    bool is_gone; /* it has no name any more: nothing was sent */
    int err;      /* of a request, see ask() */
};

void send_job_done(struct send_job *job);

/* A file of any size. */
void send_one(struct mount *mount, struct send_job *job);

/* As one request if they are small; each for itself if that fails. */
void send_many(struct mount *mount, struct send_job *jobs, size_t count);

#endif
