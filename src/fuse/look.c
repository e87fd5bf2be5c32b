/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the tree has, as the kernel asks for it: each time in a snapshot of its own, so that an
 * answer is never older than its question. What this mount has changed is in the tree before that
 * is told; between a look and the lock something may still have changed, and then it is looked at
 * again (mount.changes).
 */

#include <stdlib.h>
#include <sys/statvfs.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "fuse/draft.h"
#include "fuse/mount_priv.h"
#include "fuse/publish.h"
#include "fuse/removals.h"
#include "wire/path.h"

/* The least that programs take for a good size of a read or write. */
#define IO_BYTES 131072
#define SECTOR_BYTES 512
/* What a mount that changes all the time makes us look again. */
#define LOOKS_MAX 8
#define STATFS_BLOCK_BYTES 4096u

void reply(fuse_req_t request, int err)
{
    /* Errors of ours that no program would understand. */
    switch (err) {
    case -EBADMSG:
    case -EPROTO:
    case -ENOTRECOVERABLE:
    case -EHOSTUNREACH:
    case -ECANCELED:
    case -EPIPE:
        err = -EIO;
        break;
    default:
        break;
    }
    fuse_reply_err(request, -err);
}

void look_shape(const struct tree_entry *entry, struct shape *ret_shape)
{
    const struct tree_version *version = &entry->version;
    *ret_shape = (struct shape){
        .kind = version->kind,
        .mode = version->mode,
        .mtime_ns = version->mtime_ns,
        .size_bytes = version->kind == TREE_SYMLINK ? version->target.size : version->size_bytes,
        .file_id = version->file_id,
        .has_attributes = version->attributes.size > 0,
        .is_explicit = entry->is_explicit,
    };
}

static char *copy_target(const struct tree_entry *entry)
{
    const struct bytes target = entry->version.target;
    return entry->version.kind == TREE_SYMLINK
               ? mem_format("%.*s", (int)target.size, (const char *)target.data)
               : NULL;
}

/* As look_at(); *now gets the snapshot of this look. If it is the moment `before`, nothing is
 * looked for: true in *ret_same. */
static int look_since(struct mount *mount, struct bytes path, const struct moment *before,
                      struct moment *now, bool *ret_same, struct shape *ret_shape,
                      char **ret_target)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct tree_entry entry;
    int err = kv_read(store_kv(mount->store), &txn);
    if (err) {
        return err;
    }
    now->snapshot = kv_snapshot(txn);
    *ret_same = moment_equal(before, now);
    if (*ret_same) {
        return 0;
    }
    err = tree_find(mount->tree, txn, path, &entry);
    if (err) {
        return err == -ENOTDIR ? -ENOENT : err;
    }
    look_shape(&entry, ret_shape);
    *ret_target = copy_target(&entry);
    return 0;
}

static int look_now(struct mount *mount, struct bytes path, struct moment *now,
                    struct shape *ret_shape, char **ret_target)
{
    const struct moment never = {0};
    bool is_same = false;
    return look_since(mount, path, &never, now, &is_same, ret_shape, ret_target);
}

int look_at(struct mount *mount, struct bytes path, struct shape *ret_shape, char **ret_target)
{
    struct moment now = {0};
    return look_now(mount, path, &now, ret_shape, ret_target);
}

void look_stat_shape(const struct mount *mount, uint64_t number, const struct shape *shape,
                     bool is_named, struct stat *ret_stat)
{
    const bool is_directory = shape->kind == TREE_DIRECTORY;
    const mode_t type = is_directory ? S_IFDIR : shape->kind == TREE_SYMLINK ? S_IFLNK : S_IFREG;
    int64_t seconds = shape->mtime_ns / 1000000000;
    int64_t ns = shape->mtime_ns % 1000000000;
    if (ns < 0) {
        seconds--;
        ns += 1000000000;
    }
    const struct timespec time = {.tv_sec = seconds, .tv_nsec = ns};
    *ret_stat = (struct stat){
        .st_ino = number,
        .st_mode = type | (shape->kind == TREE_SYMLINK ? 0777 : (mode_t)shape->mode),
        .st_nlink = is_named ? (is_directory ? 2 : 1) : 0,
        .st_uid = mount->uid,
        .st_gid = mount->gid,
        .st_size = (off_t)shape->size_bytes,
        .st_blksize = IO_BYTES,
        .st_blocks = (blkcnt_t)((shape->size_bytes + SECTOR_BYTES - 1) / SECTOR_BYTES),
        .st_atim = time,
        .st_mtim = time,
        .st_ctim = time,
    };
}

void look_stat(const struct mount *mount, const struct inode *inode, struct stat *ret_stat)
{
    const bool is_named = inode->parent || inode->number == INODE_ROOT;
    look_stat_shape(mount, inode->number, &inode->shape, is_named, ret_stat);
}

void look_entry(const struct mount *mount, struct inode *inode, struct fuse_entry_param *ret_entry)
{
    inode->lookups++;
    *ret_entry = (struct fuse_entry_param){
        .ino = inode->number,
        .attr_timeout = CACHE_S,
        .entry_timeout = CACHE_S,
    };
    look_stat(mount, inode, &ret_entry->attr);
}

int look_path(struct mount *mount, uint64_t number, struct bytes name, struct buf *path)
{
    if (name.size > 0) {
        const int err = path_check_name(name);
        if (err) {
            return err;
        }
    }
    pthread_mutex_lock(&mount->lock);
    const struct inode *inode = inodes_find(&mount->inodes, number);
    int err = inode ? 0 : -ESTALE;
    if (!err) {
        err = name.size > 0 ? inode_child_path(inode, name, path) : inode_path(inode, path);
    }
    pthread_mutex_unlock(&mount->lock);
    return err;
}

static bool has_work(const struct inode *inode)
{
    if (inode->draft || inode->writers > 0) {
        return true;
    }
    for (const struct inode *child = inode->children; child; child = child->next) {
        if (has_work(child)) {
            return true;
        }
    }
    return false;
}

/* Under the lock: it keeps its name though something else, or nothing, is there in the tree: who
 * writes to it, or below it, will publish it there; or we are changing that name ourselves. */
static bool stays(const struct mount *mount, const struct inode *inode)
{
    return has_work(inode) || publish_is_held(mount, inode);
}

/* Under the lock: the inode of what was found at `moment`, that there is or a new one. */
static struct inode *settle(struct mount *mount, struct inode *parent, struct bytes name,
                            const struct moment *moment, const struct shape *shape,
                            const char *target)
{
    struct inode *inode = inodes_child(&mount->inodes, parent, name);
    if (inode && !inode->draft && !inode_is(inode, shape, target)) {
        if (stays(mount, inode)) {
            return inode;
        }
        inodes_detach(&mount->inodes, inode);
        inode = NULL;
    }
    if (!inode) {
        inode = inodes_add(&mount->inodes, parent, name, shape, target);
    }
    if (!inode->draft) {
        inode->shape = *shape;
        inode->found = *moment;
    }
    return inode;
}

/* One look. -EAGAIN: something changed meanwhile. */
static int look_once(struct mount *mount, uint64_t parent_number, struct bytes name, bool is_last,
                     struct fuse_entry_param *ret_entry)
{
    CLEANUP_BUF struct buf path = BUF_INIT;
    struct shape shape;
    CLEANUP_FREE char *target = NULL;
    pthread_mutex_lock(&mount->lock);
    struct moment now = {.changes = mount->changes};
    struct inode *parent = inodes_find(&mount->inodes, parent_number);
    struct inode *inode = parent ? inodes_child(&mount->inodes, parent, name) : NULL;
    int err = parent ? inode_child_path(parent, name, &path) : -ESTALE;
    const bool is_here = !err && inode && inode->draft;
    if (is_here) {
        look_entry(mount, inode, ret_entry);
    }
    pthread_mutex_unlock(&mount->lock);
    if (err || is_here) {
        return err;
    }
    err = look_now(mount, buf_bytes(&path), &now, &shape, &target);
    pthread_mutex_lock(&mount->lock);
    parent = inodes_find(&mount->inodes, parent_number);
    if (!err && removals_hide(mount, parent_number, name, &shape)) {
        err = -ENOENT;
    }
    if (!parent) {
        err = -ESTALE;
    } else if (now.changes != mount->changes && !is_last) {
        err = -EAGAIN;
    } else if (!err) {
        now.snapshot = now.changes == mount->changes ? now.snapshot : 0;
        look_entry(mount, settle(mount, parent, name, &now, &shape, target), ret_entry);
    } else if (err == -ENOENT) {
        inode = inodes_child(&mount->inodes, parent, name);
        if (inode && stays(mount, inode)) {
            look_entry(mount, inode, ret_entry);
            err = 0;
        } else if (inode) {
            inodes_detach(&mount->inodes, inode);
        }
    }
    pthread_mutex_unlock(&mount->lock);
    return err;
}

/* "." and "..", for who has handles of files instead of names (NFS). */
static int look_up_dot(struct mount *mount, uint64_t number, bool is_parent,
                       struct fuse_entry_param *ret_entry)
{
    pthread_mutex_lock(&mount->lock);
    struct inode *inode = inodes_find(&mount->inodes, number);
    if (inode && is_parent && inode->parent) {
        inode = inode->parent;
    }
    if (inode) {
        look_entry(mount, inode, ret_entry);
    }
    pthread_mutex_unlock(&mount->lock);
    return inode ? 0 : -ESTALE;
}

int look_up(struct mount *mount, uint64_t parent, struct bytes name,
            struct fuse_entry_param *ret_entry)
{
    if (bytes_equal(name, bytes_of_string(".")) || bytes_equal(name, bytes_of_string(".."))) {
        return look_up_dot(mount, parent, name.size == 2, ret_entry);
    }
    int err = path_check_name(name);
    if (err) {
        /* There is no such thing; only who wants to make it is told that it can't be. */
        return err == -ENAMETOOLONG ? err : -ENOENT;
    }
    for (int i = 1; i <= LOOKS_MAX; i++) {
        err = look_once(mount, parent, name, i == LOOKS_MAX, ret_entry);
        if (err != -EAGAIN) {
            break;
        }
    }
    return err;
}

int look_up_listed(struct mount *mount, uint64_t parent_number, const struct moment *listed,
                   struct bytes name, const struct shape *shape, const char *target,
                   struct fuse_entry_param *ret_entry)
{
    int err = 0;
    pthread_mutex_lock(&mount->lock);
    struct inode *parent = inodes_find(&mount->inodes, parent_number);
    if (listed->changes != mount->changes) {
        err = -EAGAIN;
    } else if (removals_hide(mount, parent_number, name, shape)) {
        err = -ENOENT;
    } else if (parent) {
        look_entry(mount, settle(mount, parent, name, listed, shape, target), ret_entry);
    } else {
        err = -ESTALE;
    }
    pthread_mutex_unlock(&mount->lock);
    return err;
}

static int again_once(struct mount *mount, uint64_t number, bool is_last, struct stat *ret_stat)
{
    CLEANUP_BUF struct buf path = BUF_INIT;
    struct shape shape;
    CLEANUP_FREE char *target = NULL;
    bool is_same = false;
    pthread_mutex_lock(&mount->lock);
    struct moment now = {.changes = mount->changes};
    struct inode *inode = inodes_find(&mount->inodes, number);
    const struct moment found = inode ? inode->found : now;
    int err = inode ? 0 : -ESTALE;
    bool is_over = err != 0;
    if (!err && (inode->draft || (!inode->parent && number != INODE_ROOT))) {
        look_stat(mount, inode, ret_stat);
        is_over = true;
    } else if (!err) {
        err = inode_path(inode, &path);
        is_over = err != 0;
    }
    pthread_mutex_unlock(&mount->lock);
    if (is_over) {
        return err == -ENOENT ? -ESTALE : err;
    }
    err = look_since(mount, buf_bytes(&path), &found, &now, &is_same, &shape, &target);
    if (err && err != -ENOENT) {
        return err;
    }
    pthread_mutex_lock(&mount->lock);
    inode = inodes_find(&mount->inodes, number);
    if (!inode) {
        err = -ESTALE;
    } else if (now.changes != mount->changes && !is_last) {
        err = -EAGAIN;
    } else if (is_same) {
        look_stat(mount, inode, ret_stat);
    } else {
        if (!inode->draft && !err && inode_is(inode, &shape, target)) {
            inode->shape = shape;
            inode->found = now.changes == mount->changes ? now : (struct moment){0};
        } else if (!stays(mount, inode)) {
            inodes_pin(inode);
            inodes_detach(&mount->inodes, inode);
            err = inode->shape.kind == TREE_DIRECTORY ? -ENOENT : 0;
            look_stat(mount, inode, ret_stat);
            inodes_unpin(&mount->inodes, inode);
            pthread_mutex_unlock(&mount->lock);
            return err;
        }
        err = 0;
        look_stat(mount, inode, ret_stat);
    }
    pthread_mutex_unlock(&mount->lock);
    return err;
}

int look_again(struct mount *mount, uint64_t number, struct stat *ret_stat)
{
    int err = -EAGAIN;
    for (int i = 1; i <= LOOKS_MAX && err == -EAGAIN; i++) {
        err = again_once(mount, number, i == LOOKS_MAX, ret_stat);
    }
    return err;
}

void on_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param entry = {0};
    const int err = look_up(mount_of(request), parent, bytes_of_string(name), &entry);
    if (err == -ENOENT) {
        entry = (struct fuse_entry_param){.entry_timeout = CACHE_S};
    } else if (err) {
        reply(request, err);
        return;
    }
    fuse_reply_entry(request, &entry);
}

static void forget(struct mount *mount, uint64_t number, uint64_t count)
{
    struct inode *inode = inodes_find(&mount->inodes, number);
    if (inode) {
        inodes_forget(&mount->inodes, inode, count);
    }
}

void on_forget(fuse_req_t request, fuse_ino_t number, uint64_t count)
{
    struct mount *mount = mount_of(request);
    pthread_mutex_lock(&mount->lock);
    forget(mount, number, count);
    pthread_mutex_unlock(&mount->lock);
    draft_reap(mount);
    fuse_reply_none(request);
}

void on_forget_multi(fuse_req_t request, size_t count, struct fuse_forget_data *forgets)
{
    struct mount *mount = mount_of(request);
    pthread_mutex_lock(&mount->lock);
    for (size_t i = 0; i < count; i++) {
        forget(mount, forgets[i].ino, forgets[i].nlookup);
    }
    pthread_mutex_unlock(&mount->lock);
    draft_reap(mount);
    fuse_reply_none(request);
}

void on_getattr(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info)
{
    (void)info;
    struct stat stat;
    const int err = look_again(mount_of(request), number, &stat);
    if (err) {
        reply(request, err);
    } else {
        fuse_reply_attr(request, &stat, CACHE_S);
    }
}

void on_readlink(fuse_req_t request, fuse_ino_t number)
{
    struct mount *mount = mount_of(request);
    pthread_mutex_lock(&mount->lock);
    const struct inode *inode = inodes_find(&mount->inodes, number);
    CLEANUP_FREE char *target = inode && inode->target ? mem_copy_string(inode->target) : NULL;
    pthread_mutex_unlock(&mount->lock);
    if (target) {
        fuse_reply_readlink(request, target);
    } else {
        reply(request, inode ? -EINVAL : -ESTALE);
    }
}

/* The room is that of the disk of the node; what one node can't hold another may. */
void on_statfs(fuse_req_t request, fuse_ino_t number)
{
    (void)number;
    struct mount *mount = mount_of(request);
    struct statvfs disk;
    if (statvfs(mount->options.data, &disk) < 0) {
        reply(request, err_from_errno(errno));
        return;
    }
    struct tree_summary summary = {0};
    struct kv_txn *txn = NULL;
    int err = kv_read(store_kv(mount->store), &txn);
    if (!err) {
        err = tree_summary(mount->tree, txn, &summary);
        kv_abort(txn);
    }
    if (err) {
        reply(request, err);
        return;
    }
    const fsblkcnt_t unit = disk.f_frsize ? disk.f_frsize : STATFS_BLOCK_BYTES;
    const struct statvfs told = {
        .f_bsize = STATFS_BLOCK_BYTES,
        .f_frsize = STATFS_BLOCK_BYTES,
        .f_blocks = disk.f_blocks * unit / STATFS_BLOCK_BYTES,
        .f_bfree = disk.f_bfree * unit / STATFS_BLOCK_BYTES,
        .f_bavail = disk.f_bavail * unit / STATFS_BLOCK_BYTES,
        .f_files = summary.entries_count + disk.f_favail,
        .f_ffree = disk.f_favail,
        .f_favail = disk.f_favail,
        .f_namemax = PATH_NAME_BYTES_MAX,
    };
    fuse_reply_statfs(request, &told);
}
