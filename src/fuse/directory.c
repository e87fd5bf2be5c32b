/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Listings. The tree is read in chunks, each in a snapshot of its own that is over before anything
 * is answered; the next chunk begins behind the last name of the one before. Files of this mount
 * that are not published yet stand in between: their names are taken when the directory is opened,
 * so that one that is published while the listing goes on is told once.
 *
 * The offset of an entry is its place in the listing. What was read is kept until the directory is
 * closed or read from the beginning again, so that who seeks back finds the same names there.
 */

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/list.h"
#include "base/mem.h"
#include "fuse/draft.h"
#include "fuse/mount_priv.h"
#include "fuse/removals.h"
#include "wire/path.h"

/* Names of one snapshot: a ms of its time. */
#define CHUNK_NAMES 1024u
/* "." and "..". */
#define DOTS 2u

struct row {
    char *name;
    char *target;
    struct shape shape;
};

struct directory {
    struct directory *prev; /* among those of the mount */
    struct directory *next;
    pthread_mutex_t lock;
    struct buf path;
    struct row *rows; /* all that were read */
    size_t rows_count;
    size_t rows_capacity;
    size_t chunk;          /* the first row of the chunk that was read last */
    struct moment read_at; /* when that was read */
    struct moment
        begun_at; /* when the first chunk was; of no snapshot if a later one was not then */
    uint64_t begun_ms;
    uint64_t removed; /* removals that had ended then */
    bool has_begun;   /* the drafts were taken */
    bool is_end;      /* nothing comes behind the rows */
    char *last;       /* the last name of the tree that was read */
    bool is_tree_end;
    char **drafts; /* names of files that are not published, in order */
    size_t drafts_count;
    size_t drafts_at; /* the next one that was not told */
};

static void clear_rows(struct directory *directory)
{
    for (size_t i = 0; i < directory->rows_count; i++) {
        free(directory->rows[i].name);
        free(directory->rows[i].target);
    }
    free(STEAL_PTR(directory->rows));
    directory->rows_count = 0;
    directory->rows_capacity = 0;
}

static void forget_drafts(struct directory *directory)
{
    for (size_t i = 0; i < directory->drafts_count; i++) {
        free(directory->drafts[i]);
    }
    free(STEAL_PTR(directory->drafts));
    directory->drafts_count = 0;
}

static void directory_free(struct directory *directory)
{
    clear_rows(directory);
    forget_drafts(directory);
    free(directory->last);
    buf_done(&directory->path);
    pthread_mutex_destroy(&directory->lock);
    free(directory);
}

static void directory_close(struct mount *mount, struct directory *directory)
{
    pthread_mutex_lock(&mount->lock);
    DL_DELETE(mount->directories, directory);
    pthread_mutex_unlock(&mount->lock);
    directory_free(directory);
}

void directories_done(struct mount *mount)
{
    struct directory *directory;
    struct directory *next;
    DL_FOREACH_SAFE(mount->directories, directory, next)
    {
        DL_DELETE(mount->directories, directory);
        directory_free(directory);
    }
}

static char *copy_name(struct bytes name)
{
    return mem_format("%.*s", (int)name.size, (const char *)name.data);
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

/* Under the lock. */
static void take_drafts(struct directory *directory, const struct inode *inode)
{
    size_t capacity = 0;
    forget_drafts(directory);
    for (const struct inode *child = inode->children; child; child = child->next) {
        if (!child->draft || !child->draft->is_new) {
            continue;
        }
        if (directory->drafts_count == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            directory->drafts =
                mem_resize_array(directory->drafts, capacity, sizeof *directory->drafts);
        }
        directory->drafts[directory->drafts_count++] = copy_name(inode_name(child));
    }
    if (directory->drafts_count > 1) {
        qsort(directory->drafts, directory->drafts_count, sizeof *directory->drafts, compare_names);
    }
}

static struct row *add_row(struct directory *directory, char *name)
{
    if (directory->rows_count == directory->rows_capacity) {
        directory->rows_capacity = directory->rows_capacity ? 2 * directory->rows_capacity : 64;
        directory->rows =
            mem_resize_array(directory->rows, directory->rows_capacity, sizeof *directory->rows);
    }
    struct row *row = &directory->rows[directory->rows_count++];
    *row = (struct row){.name = name};
    return row;
}

/* A file that was not published when the directory was opened. It may be by now, or be gone. */
static int add_draft(struct mount *mount, uint64_t number, struct directory *directory,
                     const char *name)
{
    struct shape shape;
    char *target = NULL;
    pthread_mutex_lock(&mount->lock);
    const struct inode *parent = inodes_find(&mount->inodes, number);
    const struct inode *inode =
        parent ? inodes_child(&mount->inodes, parent, bytes_of_string(name)) : NULL;
    const bool is_here = inode && inode->draft;
    if (is_here) {
        shape = inode->shape;
    }
    pthread_mutex_unlock(&mount->lock);
    if (!is_here) {
        CLEANUP_BUF struct buf path = BUF_INIT;
        int err = look_path(mount, number, bytes_of_string(name), &path);
        if (!err) {
            err = look_at(mount, buf_bytes(&path), &shape, &target);
        }
        if (err) {
            return err == -ENOENT ? 0 : err;
        }
    }
    struct row *row = add_row(directory, mem_copy_string(name));
    row->shape = shape;
    row->target = target;
    return 0;
}

/* One chunk of the tree, without drafts. */
static int read_names(struct mount *mount, struct directory *directory, struct row *rows,
                      size_t *ret_count)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct tree_entry entry;
    struct tree_listed listed;
    size_t count = 0;
    int err = kv_read(store_kv(mount->store), &txn);
    if (!err) {
        directory->read_at.snapshot = kv_snapshot(txn);
        err = tree_find(mount->tree, txn, buf_bytes(&directory->path), &entry);
    }
    const uint64_t number = err ? 0 : entry.directory;
    while (!err && count < CHUNK_NAMES && number) {
        const struct bytes after =
            directory->last ? bytes_of_string(directory->last) : BYTES(NULL, 0);
        err = tree_list_next(mount->tree, txn, number, after, &listed);
        if (err) {
            break;
        }
        struct row *row = &rows[count++];
        *row = (struct row){.name = copy_name(listed.name)};
        look_shape(&listed.entry, &row->shape);
        if (row->shape.kind == TREE_SYMLINK) {
            row->target = copy_name(listed.entry.version.target);
        }
        free(directory->last);
        directory->last = mem_copy_string(row->name);
    }
    /* A directory that went while it was read has no more names. */
    if (err == -ENOENT || err == -ENOTDIR || !number) {
        directory->is_tree_end = true;
        err = 0;
    }
    *ret_count = count;
    return err;
}

/* Drafts whose names come before `name`; NULL: all that are left. */
static int add_drafts(struct mount *mount, uint64_t number, struct directory *directory,
                      const char *name)
{
    int err = 0;
    while (!err && directory->drafts_at < directory->drafts_count) {
        const char *draft = directory->drafts[directory->drafts_at];
        const int order = name ? strcmp(draft, name) : -1;
        if (order > 0) {
            break;
        }
        directory->drafts_at++;
        if (order < 0) {
            err = add_draft(mount, number, directory, draft);
        }
    }
    return err;
}

/* The next rows. */
static int read_chunk(struct mount *mount, uint64_t number, struct directory *directory)
{
    struct row *names = mem_alloc_array(CHUNK_NAMES, sizeof *names);
    size_t count = 0;
    directory->chunk = directory->rows_count;
    pthread_mutex_lock(&mount->lock);
    directory->read_at = (struct moment){.changes = mount->changes};
    directory->removed = removals_ended(mount);
    /* It may have another name than when it was opened. */
    const struct inode *inode = inodes_find(&mount->inodes, number);
    int err = inode ? inode_path(inode, &directory->path) : -ENOENT;
    pthread_mutex_unlock(&mount->lock);
    directory->is_tree_end = err == -ENOENT;
    err = err == -ENOENT ? 0 : err;
    if (!err && !directory->is_tree_end) {
        err = read_names(mount, directory, names, &count);
    }
    if (directory->chunk == 0) {
        directory->begun_at = directory->read_at;
    } else if (!moment_equal(&directory->begun_at, &directory->read_at)) {
        directory->begun_at.snapshot = 0;
    }
    for (size_t i = 0; i < count; i++) {
        const int failed = add_drafts(mount, number, directory, names[i].name);
        err = err ? err : failed;
        *add_row(directory, NULL) = names[i];
    }
    free(names);
    if (!err && directory->is_tree_end) {
        err = add_drafts(mount, number, directory, NULL);
        directory->is_end = true;
    }
    return err;
}

static void rewind_rows(struct directory *directory)
{
    clear_rows(directory);
    free(STEAL_PTR(directory->last));
    directory->is_tree_end = false;
    directory->is_end = false;
    directory->drafts_at = 0;
}

/* The row at `place`, read if need be. -ENOENT: there are not so many. */
static int find_row(struct mount *mount, uint64_t number, struct directory *directory,
                    uint64_t place, struct row **ret_row)
{
    while (place >= directory->rows_count) {
        const int err = directory->is_end ? -ENOENT : read_chunk(mount, number, directory);
        if (err) {
            return err;
        }
    }
    *ret_row = &directory->rows[place];
    return 0;
}

/* From the beginning, with what is there now. */
static void begin_listing(struct mount *mount, uint64_t number, struct directory *directory)
{
    rewind_rows(directory);
    directory->has_begun = true;
    directory->begun_ms = clock_monotonic_ms(clock_real());
    pthread_mutex_lock(&mount->lock);
    const struct inode *inode = inodes_find(&mount->inodes, number);
    if (inode) {
        take_drafts(directory, inode);
    }
    pthread_mutex_unlock(&mount->lock);
}

/* All rows are those of one moment: as long as that lasts, and the kernel believes what it is told
 * of them, it need not ask again. */
static void note_listed(struct mount *mount, uint64_t number, const struct directory *directory)
{
    pthread_mutex_lock(&mount->lock);
    struct inode *inode = inodes_find(&mount->inodes, number);
    if (inode) {
        inode->listed = directory->begun_at;
        inode->listed_until_ms = directory->begun_ms + CACHE_MS;
    }
    pthread_mutex_unlock(&mount->lock);
}

/* True if the kernel has the listing of now. */
static bool is_listed(struct mount *mount, uint64_t number)
{
    struct kv_txn *txn = NULL;
    struct moment listed = {0};
    struct moment now = {0};
    uint64_t until_ms = 0;
    pthread_mutex_lock(&mount->lock);
    const struct inode *inode = inodes_find(&mount->inodes, number);
    if (inode) {
        listed = inode->listed;
        until_ms = inode->listed_until_ms;
    }
    now.changes = mount->changes;
    pthread_mutex_unlock(&mount->lock);
    if (listed.snapshot == 0 || clock_monotonic_ms(clock_real()) >= until_ms ||
        kv_read(store_kv(mount->store), &txn)) {
        return false;
    }
    now.snapshot = kv_snapshot(txn);
    kv_abort(txn);
    return moment_equal(&listed, &now);
}

void on_opendir(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info)
{
    struct mount *mount = mount_of(request);
    struct directory *directory = mem_alloc(sizeof *directory);
    pthread_mutex_init(&directory->lock, NULL);
    pthread_mutex_lock(&mount->lock);
    const struct inode *inode = inodes_find(&mount->inodes, number);
    const int err = inode ? inode_path(inode, &directory->path) : -ESTALE;
    DL_APPEND(mount->directories, directory);
    pthread_mutex_unlock(&mount->lock);
    if (err) {
        directory_close(mount, directory);
        reply(request, err);
        return;
    }
    info->fh = (uint64_t)(uintptr_t)directory;
    info->cache_readdir = 1;
    info->keep_cache = is_listed(mount, number);
    if (fuse_reply_open(request, info) != 0) {
        directory_close(mount, directory);
    }
}

static struct directory *directory_of(const struct fuse_file_info *info)
{
    return (struct directory *)(uintptr_t)info->fh; /* NOLINT(performance-no-int-to-ptr) */
}

void on_releasedir(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info)
{
    (void)number;
    directory_close(mount_of(request), directory_of(info));
    reply(request, 0);
}

static const char *const dots[DOTS] = {".", ".."};

/* One entry into `at`; what it takes, more than `room` if there was none for it. */
static size_t add_dot(fuse_req_t request, char *at, size_t room, uint64_t place, bool is_plus,
                      uint64_t number)
{
    struct fuse_entry_param entry = {.attr = {.st_ino = number, .st_mode = S_IFDIR}};
    return is_plus
               ? fuse_add_direntry_plus(request, at, room, dots[place], &entry, (off_t)(place + 1))
               : fuse_add_direntry(request, at, room, dots[place], &entry.attr, (off_t)(place + 1));
}

/* The room that an entry takes. */
static size_t entry_bytes(fuse_req_t request, const char *name, bool is_plus)
{
    return is_plus ? fuse_add_direntry_plus(request, NULL, 0, name, NULL, 0)
                   : fuse_add_direntry(request, NULL, 0, name, NULL, 0);
}

/* 0 in *ret_bytes: it is gone. */
static int add_plus(fuse_req_t request, uint64_t number, const struct directory *directory,
                    const struct row *row, char *at, size_t room, off_t next, size_t *ret_bytes)
{
    struct mount *mount = mount_of(request);
    struct fuse_entry_param entry;
    const struct bytes name = bytes_of_string(row->name);
    int err = -EAGAIN;
    if (row >= directory->rows + directory->chunk) {
        err = look_up_listed(mount, number, &directory->read_at, name, &row->shape, row->target,
                             &entry);
    }
    if (err == -EAGAIN) {
        err = look_up(mount, number, name, &entry);
    }
    *ret_bytes = 0;
    if (err) {
        return err == -ENOENT ? 0 : err;
    }
    *ret_bytes = fuse_add_direntry_plus(request, at, room, row->name, &entry, next);
    return 0;
}

/* True if it was unlinked here before it was read, and is in the rows all the same because it was
 * still in the tree. */
static bool is_removed(struct mount *mount, uint64_t number, const struct directory *directory,
                       const struct row *row, uint64_t *ret_child)
{
    CLEANUP_BUF struct buf path = BUF_INIT;
    struct shape shape;
    CLEANUP_FREE char *target = NULL;
    const struct bytes name = bytes_of_string(row->name);
    pthread_mutex_lock(&mount->lock);
    const struct inode *parent = inodes_find(&mount->inodes, number);
    const struct inode *child = parent ? inodes_child(&mount->inodes, parent, name) : NULL;
    const bool is_going = removals_hide(mount, number, name, &row->shape);
    /* One that has ended meanwhile hides it no more. */
    const bool is_sure = is_going || child || directory->removed == removals_ended(mount);
    *ret_child = parent ? inodes_number(&mount->inodes, parent, name) : 0;
    const int err = is_sure || !parent ? 0 : inode_child_path(parent, name, &path);
    pthread_mutex_unlock(&mount->lock);
    if (is_sure || !parent) {
        return is_going;
    }
    return err || look_at(mount, buf_bytes(&path), &shape, &target) == -ENOENT;
}

/* 0: it is gone. */
static size_t add_plain(fuse_req_t request, uint64_t number, const struct directory *directory,
                        const struct row *row, char *at, size_t room, off_t next)
{
    struct mount *mount = mount_of(request);
    struct stat stat;
    uint64_t child = 0;
    if (is_removed(mount, number, directory, row, &child)) {
        return 0;
    }
    look_stat_shape(mount, child, &row->shape, true, &stat);
    return fuse_add_direntry(request, at, room, row->name, &stat, next);
}

static int fill_listing(fuse_req_t request, uint64_t number, struct directory *directory,
                        uint64_t place, bool is_plus, char *data, size_t size, size_t *ret_bytes)
{
    struct mount *mount = mount_of(request);
    size_t used = 0;
    int err = 0;
    for (; !err; place++) {
        struct row *row = NULL;
        size_t bytes = 0;
        if (place < DOTS) {
            bytes = add_dot(request, data + used, size - used, place, is_plus, number);
            if (bytes > size - used) {
                break;
            }
            used += bytes;
            continue;
        }
        err = find_row(mount, number, directory, place - DOTS, &row);
        if (err || entry_bytes(request, row->name, is_plus) > size - used) {
            break;
        }
        const off_t next = (off_t)(place + 1);
        if (is_plus) {
            err = add_plus(request, number, directory, row, data + used, size - used, next, &bytes);
        } else {
            bytes = add_plain(request, number, directory, row, data + used, size - used, next);
        }
        used += bytes;
    }
    *ret_bytes = used;
    return err == -ENOENT || used > 0 ? 0 : err;
}

static void list(fuse_req_t request, uint64_t number, size_t size, off_t offset, bool is_plus,
                 const struct fuse_file_info *info)
{
    struct directory *directory = directory_of(info);
    CLEANUP_FREE char *data = mem_alloc_aligned(64, size);
    size_t bytes = 0;
    pthread_mutex_lock(&directory->lock);
    /* Servers of NFS open a directory anew and go on at an offset of before. */
    if (offset == 0 || !directory->has_begun) {
        begin_listing(mount_of(request), number, directory);
    }
    const int err =
        fill_listing(request, number, directory, (uint64_t)offset, is_plus, data, size, &bytes);
    if (!err && directory->is_end) {
        note_listed(mount_of(request), number, directory);
    }
    pthread_mutex_unlock(&directory->lock);
    if (err) {
        reply(request, err);
    } else {
        fuse_reply_buf(request, data, bytes);
    }
}

void on_readdir(fuse_req_t request, fuse_ino_t number, size_t size, off_t offset,
                struct fuse_file_info *info)
{
    list(request, number, size, offset, false, info);
}

void on_readdirplus(fuse_req_t request, fuse_ino_t number, size_t size, off_t offset,
                    struct fuse_file_info *info)
{
    list(request, number, size, offset, true, info);
}
