/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Open files. Who only reads has the version that was there at open, whatever happens to the name;
 * who writes shares a draft with all others on this mount, which is published when one of them
 * closes.
 */

#include <fcntl.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "fuse/content.h"
#include "fuse/draft.h"
#include "fuse/file.h"
#include "fuse/mount_priv.h"
#include "fuse/publish.h"
#include "wire/path.h"

/* What is read on the stack, in memory that was used just before. */
#define SMALL_READ_BYTES ((size_t)16 * 1024)

static bool may_write(const struct fuse_file_info *info)
{
    return (info->flags & O_ACCMODE) != O_RDONLY;
}

int64_t file_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Under mount.lock: one more has the file open. */
static void open_inode(struct inode *inode, bool is_writer)
{
    inodes_pin(inode);
    inode->opens++;
    inode->writers += is_writer;
}

/* Under mount.lock. */
static void close_inode(struct mount *mount, struct inode *inode, bool is_writer)
{
    inode->opens--;
    inode->writers -= is_writer;
    draft_settle(inode);
    if (inode->opens == 0) {
        content_drop(inode->content);
        inode->content = NULL;
    }
    inodes_unpin(&mount->inodes, inode);
}

/* The version that is opened is the one that is there now, or the kernel looks again. */
static int check_version(struct mount *mount, uint64_t number)
{
    struct stat stat;
    pthread_mutex_lock(&mount->lock);
    const struct inode *inode = inodes_find(&mount->inodes, number);
    const bool went_here = inode && inode->went_here && !inode->parent;
    pthread_mutex_unlock(&mount->lock);
    if (went_here) {
        return 0;
    }
    const int err = look_again(mount, number, &stat);
    if (err) {
        return err == -ENOENT ? -ESTALE : err;
    }
    return stat.st_nlink == 0 ? -ESTALE : 0;
}

void on_open(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info)
{
    struct mount *mount = mount_of(request);
    const bool is_writer = may_write(info);
    int err = is_writer && !mount->is_live ? -ENOTCONN : check_version(mount, number);
    if (!err && is_writer && (info->flags & O_TRUNC)) {
        err = file_resize(mount, number, 0);
    }
    if (!err) {
        pthread_mutex_lock(&mount->lock);
        struct inode *inode = inodes_find(&mount->inodes, number);
        if (inode) {
            open_inode(inode, is_writer);
        } else {
            err = -ESTALE;
        }
        pthread_mutex_unlock(&mount->lock);
    }
    if (err) {
        reply(request, err);
        return;
    }
    info->fh = is_writer;
    info->keep_cache = 1;
    info->noflush = !is_writer; /* there is nothing to publish */
    if (fuse_reply_open(request, info) != 0) {
        file_close(mount, number, is_writer);
    }
}

void file_close(struct mount *mount, uint64_t number, bool is_writer)
{
    pthread_mutex_lock(&mount->lock);
    struct inode *inode = inodes_find(&mount->inodes, number);
    if (inode) {
        close_inode(mount, inode, is_writer);
    }
    pthread_mutex_unlock(&mount->lock);
    draft_reap(mount);
}

/* Bytes of a draft, or of a version that is published. */
static int read_file(struct mount *mount, uint64_t number, uint64_t offset_bytes, void *data,
                     size_t size, size_t *ret_bytes)
{
    pthread_mutex_lock(&mount->lock);
    struct inode *inode = inodes_find(&mount->inodes, number);
    struct draft *draft = inode ? inode->draft : NULL;
    struct content *content = NULL;
    if (draft) {
        draft->references++;
    } else if (inode) {
        content = content_of(inode);
    }
    pthread_mutex_unlock(&mount->lock);
    int err = inode ? 0 : -ESTALE;
    if (draft) {
        pthread_rwlock_rdlock(&draft->content);
        err = draft->fill_err;
        if (!err) {
            err = staging_read(draft->staging, offset_bytes, data, size, ret_bytes);
        }
        pthread_rwlock_unlock(&draft->content);
    } else if (content) {
        err = content_read(mount, content, offset_bytes, data, size, ret_bytes);
    }
    pthread_mutex_lock(&mount->lock);
    draft_drop(draft);
    content_drop(content);
    pthread_mutex_unlock(&mount->lock);
    if (draft) {
        draft_reap(mount);
    }
    return err;
}

static void read_into(fuse_req_t request, fuse_ino_t number, void *buffer, size_t size,
                      off_t offset)
{
    size_t bytes = 0;
    const int err = read_file(mount_of(request), number, (uint64_t)offset, buffer, size, &bytes);
    if (err) {
        reply(request, err);
    } else {
        fuse_reply_buf(request, buffer, bytes);
    }
}

void on_read(fuse_req_t request, fuse_ino_t number, size_t size, off_t offset,
             struct fuse_file_info *info)
{
    (void)info;
    if (size <= SMALL_READ_BYTES) {
        uint8_t buffer[SMALL_READ_BYTES];
        read_into(request, number, buffer, size, offset);
        return;
    }
    struct mount *mount = mount_of(request);
    void *buffer = buffer_take(mount);
    size = size < READ_BYTES_MAX ? size : READ_BYTES_MAX;
    read_into(request, number, buffer, size, offset);
    buffer_give(mount, buffer);
}

/* Under mount.lock: the draft has changed at `now_ns`. */
static void mark_changed(struct mount *mount, uint64_t number, struct draft *draft)
{
    struct inode *inode = inodes_find(&mount->inodes, number);
    draft->changed++;
    if (inode) {
        inode->shape.mtime_ns = file_now_ns();
        inode->shape.size_bytes = staging_size(draft->staging);
    }
}

int file_write(struct mount *mount, uint64_t number, struct bytes data, uint64_t offset_bytes)
{
    struct draft *draft = NULL;
    int err = draft_make(mount, number, false, &draft);
    if (err) {
        return err;
    }
    pthread_rwlock_wrlock(&draft->content);
    err = staging_write(draft->staging, data, offset_bytes);
    pthread_mutex_lock(&mount->lock);
    if (!err) {
        mark_changed(mount, number, draft);
    }
    pthread_mutex_unlock(&mount->lock);
    pthread_rwlock_unlock(&draft->content);
    draft_done(mount, number, draft);
    return err;
}

int file_resize(struct mount *mount, uint64_t number, uint64_t size_bytes)
{
    struct draft *draft = NULL;
    int err = draft_make(mount, number, size_bytes == 0, &draft);
    if (err) {
        return err;
    }
    pthread_rwlock_wrlock(&draft->content);
    err = staging_resize(draft->staging, size_bytes);
    pthread_mutex_lock(&mount->lock);
    if (!err) {
        mark_changed(mount, number, draft);
    }
    pthread_mutex_unlock(&mount->lock);
    pthread_rwlock_unlock(&draft->content);
    draft_done(mount, number, draft);
    return err;
}

void on_write(fuse_req_t request, fuse_ino_t number, const char *data, size_t size, off_t offset,
              struct fuse_file_info *info)
{
    (void)info;
    const struct bytes bytes = BYTES((const uint8_t *)data, size);
    const int err = file_write(mount_of(request), number, bytes, (uint64_t)offset);
    if (err) {
        reply(request, err);
    } else {
        fuse_reply_write(request, size);
    }
}

/* What close(2) waits for: room in the queue, or, of a large file, that it is published. */
void on_flush(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info)
{
    reply(request, info->fh ? publish_closed(mount_of(request), number) : 0);
}

void on_fsync(fuse_req_t request, fuse_ino_t number, int datasync, struct fuse_file_info *info)
{
    (void)datasync, (void)info;
    reply(request, publish_now(mount_of(request), number));
}

void on_fsyncdir(fuse_req_t request, fuse_ino_t number, int datasync, struct fuse_file_info *info)
{
    (void)number, (void)datasync, (void)info;
    reply(request, publish_all(mount_of(request)));
}

void on_release(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info)
{
    struct mount *mount = mount_of(request);
    if (info->fh) {
        /* What was written through a mapping comes behind the last close. */
        publish_released(mount, number);
    }
    file_close(mount, number, info->fh != 0);
    reply(request, 0);
}

/* ---- new files --------------------------------------------------------------------------------
 */

/* Under mount.lock: a file that is nowhere yet, with a lookup more. */
static struct inode *add_file(struct mount *mount, struct inode *parent, struct bytes name,
                              mode_t mode)
{
    const struct shape shape = {
        .kind = TREE_FILE,
        .mode = mode & 07777,
        .mtime_ns = file_now_ns(),
    };
    struct inode *there = inodes_child(&mount->inodes, parent, name);
    if (there) {
        inodes_detach(&mount->inodes, there);
    }
    struct inode *inode = inodes_add(&mount->inodes, parent, name, &shape, NULL);
    draft_begin(mount, inode);
    mount->changes++;
    return inode;
}

/* Opens what is there after all, or makes it. */
static int create(struct mount *mount, uint64_t parent_number, struct bytes name, mode_t mode,
                  struct fuse_file_info *info, struct fuse_entry_param *ret_entry)
{
    int err = path_check_name(name);
    if (!err && !mount->is_live) {
        err = -ENOTCONN;
    }
    if (err) {
        return err;
    }
    err = look_up(mount, parent_number, name, ret_entry);
    if (err && err != -ENOENT) {
        return err;
    }
    const bool is_here = !err;
    if (is_here && (!info || (info->flags & O_EXCL))) {
        err = -EEXIST;
    } else if (is_here && !S_ISREG(ret_entry->attr.st_mode)) {
        err = S_ISDIR(ret_entry->attr.st_mode) ? -EISDIR : -ESTALE;
    } else if (is_here && may_write(info) && (info->flags & O_TRUNC)) {
        err = file_resize(mount, ret_entry->ino, 0);
    } else {
        err = 0;
    }
    CLEANUP_BUF struct buf path = BUF_INIT;
    pthread_mutex_lock(&mount->lock);
    struct inode *parent = inodes_find(&mount->inodes, parent_number);
    struct inode *inode = is_here ? inodes_find(&mount->inodes, ret_entry->ino) : NULL;
    if (is_here && err) {
        inodes_forget(&mount->inodes, inode, 1);
    } else if (!err && !is_here) {
        err = parent ? inode_child_path(parent, name, &path) : -ESTALE;
        if (!err) {
            inode = add_file(mount, parent, name, mode);
            look_entry(mount, inode, ret_entry);
        }
    }
    if (!err && info) {
        open_inode(inode, may_write(info));
    }
    pthread_mutex_unlock(&mount->lock);
    return err == -ENOENT ? -ESTALE : err;
}

void on_create(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode,
               struct fuse_file_info *info)
{
    struct mount *mount = mount_of(request);
    struct fuse_entry_param entry;
    const int err = create(mount, parent, bytes_of_string(name), mode, info, &entry);
    if (err) {
        reply(request, err);
        return;
    }
    info->fh = may_write(info);
    info->keep_cache = 1;
    if (fuse_reply_create(request, &entry, info) != 0) {
        file_close(mount, entry.ino, info->fh != 0);
    }
}

/* Only regular files; devices, pipes and sockets are of one machine. */
void on_mknod(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode, dev_t device)
{
    (void)device;
    struct mount *mount = mount_of(request);
    struct fuse_entry_param entry;
    if (!S_ISREG(mode)) {
        reply(request, -EPERM);
        return;
    }
    int err = create(mount, parent, bytes_of_string(name), mode, NULL, &entry);
    if (!err) {
        err = publish_closed(mount, entry.ino);
    }
    if (err) {
        reply(request, err);
    } else {
        fuse_reply_entry(request, &entry);
    }
}
