/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/draft.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "fuse/content.h"

static struct draft *new_draft(struct mount *mount)
{
    struct draft *draft = mem_alloc(sizeof *draft);
    draft->mount = mount;
    draft->staging = staging_new(mount->staging_path);
    draft->references = 1;
    pthread_rwlock_init(&draft->content, NULL);
    return draft;
}

void draft_drop(struct draft *draft)
{
    if (draft && --draft->references == 0) {
        draft->next_dropped = draft->mount->dropped_drafts;
        draft->mount->dropped_drafts = draft;
    }
}

void draft_reap(struct mount *mount)
{
    pthread_mutex_lock(&mount->lock);
    struct draft *draft = STEAL_PTR(mount->dropped_drafts);
    pthread_mutex_unlock(&mount->lock);
    while (draft) {
        struct draft *next = draft->next_dropped;
        staging_free(draft->staging);
        pthread_rwlock_destroy(&draft->content);
        free(draft);
        draft = next;
    }
}

void draft_begin(struct mount *mount, struct inode *inode)
{
    inode->draft = new_draft(mount);
    inode->draft->is_new = true;
    inode->draft->changed = 1;
}

void draft_settle(struct inode *inode)
{
    struct draft *draft = inode->draft;
    if (!draft || draft->is_in_flight || draft->is_queued || draft->changers > 0 ||
        inode->writers > 0) {
        return;
    }
    if (draft_is_dirty(draft) && (inode->parent || inode->opens > 0)) {
        return;
    }
    inode->draft = NULL;
    draft_drop(draft);
}

/* Copies what the file holds into its new draft, whose content is locked. */
static int fill(struct mount *mount, struct draft *draft, struct content *content,
                uint64_t size_bytes)
{
    void *buffer = buffer_take(mount);
    int err = 0;
    for (uint64_t at = 0; !err && at < size_bytes;) {
        size_t bytes = 0;
        err = content_read(mount, content, at, buffer, READ_BYTES_MAX, &bytes);
        if (!err && bytes == 0) {
            err = -EIO;
        }
        if (!err) {
            err = staging_write(draft->staging, BYTES(buffer, bytes), at);
        }
        at += bytes;
    }
    buffer_give(mount, buffer);
    return err;
}

/* It stays only if it could be filled. */
static void give_up(struct mount *mount, uint64_t number, struct draft *draft)
{
    pthread_mutex_lock(&mount->lock);
    struct inode *inode = inodes_find(&mount->inodes, number);
    if (inode && inode->draft == draft) {
        inode->draft = NULL;
        draft_drop(draft);
    }
    draft_drop(draft);
    pthread_mutex_unlock(&mount->lock);
}

void draft_done(struct mount *mount, uint64_t number, struct draft *draft)
{
    pthread_mutex_lock(&mount->lock);
    struct inode *inode = inodes_find(&mount->inodes, number);
    draft->changers--;
    if (inode) {
        draft_settle(inode);
    }
    draft_drop(draft);
    pthread_mutex_unlock(&mount->lock);
    draft_reap(mount);
}

/* The draft that there is, as soon as it is filled. */
static int wait_for(struct mount *mount, uint64_t number, struct draft *draft)
{
    pthread_rwlock_rdlock(&draft->content);
    const int err = draft->fill_err;
    pthread_rwlock_unlock(&draft->content);
    if (err) {
        draft_done(mount, number, draft);
    }
    return err;
}

/* The draft of the file, for who changes it, or `fresh` if it has none: then *ret_content is what
 * the file holds. -ESTALE. */
static int take_draft(struct mount *mount, uint64_t number, struct draft *fresh,
                      struct draft **ret_draft, struct content **ret_content,
                      uint64_t *ret_size_bytes)
{
    int err = 0;
    pthread_mutex_lock(&mount->lock);
    struct inode *inode = inodes_find(&mount->inodes, number);
    if (!inode || inode->shape.kind != TREE_FILE) {
        err = -ESTALE;
    } else if (inode->draft || fresh) {
        if (!inode->draft) {
            *ret_content = content_of(inode);
            *ret_size_bytes = inode->shape.size_bytes;
            inode->draft = fresh;
            fresh->references++;
        }
        inode->draft->references++;
        inode->draft->changers++;
        *ret_draft = inode->draft;
    }
    pthread_mutex_unlock(&mount->lock);
    return err;
}

/* A draft that nobody else knows yet, and that has no other reference then. */
static int make_draft(struct mount *mount, uint64_t number, bool is_empty, struct draft **ret_draft)
{
    struct content *content = NULL;
    uint64_t size_bytes = 0;
    struct draft *fresh = new_draft(mount);
    /* Whoever finds it waits until it is filled. */
    pthread_rwlock_wrlock(&fresh->content);
    int err = take_draft(mount, number, fresh, ret_draft, &content, &size_bytes);
    if (content && !is_empty) {
        err = fill(mount, fresh, content, size_bytes);
    }
    fresh->fill_err = err;
    pthread_rwlock_unlock(&fresh->content);
    if (content && err) {
        give_up(mount, number, fresh);
    }
    pthread_mutex_lock(&mount->lock);
    content_drop(content);
    draft_drop(fresh);
    pthread_mutex_unlock(&mount->lock);
    draft_reap(mount);
    return err;
}

int draft_make(struct mount *mount, uint64_t number, bool is_empty, struct draft **ret_draft)
{
    struct content *content = NULL;
    uint64_t size_bytes = 0;
    struct draft *draft = NULL;
    int err = take_draft(mount, number, NULL, &draft, &content, &size_bytes);
    if (!err && !draft) {
        err = make_draft(mount, number, is_empty, &draft);
    }
    if (!err) {
        err = wait_for(mount, number, draft);
    }
    if (!err) {
        *ret_draft = draft;
    }
    return err;
}
