/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUSE_DRAFT_H
#define FUSE_DRAFT_H

/*
 * draft: what was written to a file by this mount and is not published yet. All who have the file
 * open here read and write one draft; nobody else sees anything of it. It is made by the first
 * change of a file, from what the file holds, and goes when it is published and nobody writes.
 */

#include "fuse/mount_priv.h"
#include "fuse/staging.h"

struct draft {
    struct mount *mount;
    struct draft *next_dropped; /* of mount->dropped_drafts */
    pthread_rwlock_t content;   /* over the staging */
    struct staging *staging;
    int fill_err; /* what the file held could not be read; under `content` */

    /* Under mount.lock. */
    unsigned references;
    unsigned changers;  /* who are about to change it: it stays the draft of its inode */
    uint64_t changed;   /* counts changes of content, mode or time */
    uint64_t published; /* the change that is published */
    bool is_new;        /* the name is in the tree only when this is published */
    bool is_queued;
    bool is_in_flight;
    int err; /* why it could not be published, the last time */
};

/* The draft of a file, made if there is none; `is_empty`: what the file held does not matter. The
 * caller gives *ret_draft to draft_done(), and until then it stays the file's. Blocks. -ESTALE: no
 * such file; otherwise as content_read() and staging_write(). */
[[nodiscard]] int draft_make(struct mount *mount, uint64_t number, bool is_empty,
                             struct draft **ret_draft);
void draft_done(struct mount *mount, uint64_t number, struct draft *draft);
/* Under mount.lock: an empty one for a file that is made now; the inode has it. */
void draft_begin(struct mount *mount, struct inode *inode);

/* Under mount.lock. */
static inline bool draft_is_dirty(const struct draft *draft)
{
    return draft->changed != draft->published;
}
void draft_drop(struct draft *draft);
/* Not under mount.lock: frees those that were dropped. A large file takes its time to go, so this
 * comes after all that may have dropped one. */
void draft_reap(struct mount *mount);
/* Under mount.lock: lets the draft of `inode` go if it is not needed any more. */
void draft_settle(struct inode *inode);

#endif
