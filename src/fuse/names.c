/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Changes of names. The node makes them, one at a time, and they are in the tree when it answers;
 * but files are unlinked behind it (removals.h), and a file that is not published yet has just a
 * name here, which is given, changed and taken without the node.
 *
 * In the tree a directory that nobody made goes with the last thing in it. Programs do not expect
 * that, so it is made before something is taken out of it.
 */

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "client/percent.h"
#include "fuse/draft.h"
#include "fuse/mount_priv.h"
#include "fuse/publish.h"
#include "fuse/removals.h"
#include "wire/path.h"

static void count_change(struct mount *mount)
{
    pthread_mutex_lock(&mount->lock);
    mount->changes++;
    pthread_mutex_unlock(&mount->lock);
}

/* Answers with what is at `name` now. */
static void answer_entry(fuse_req_t request, uint64_t parent, const char *name)
{
    struct fuse_entry_param entry;
    const int err = look_up(mount_of(request), parent, bytes_of_string(name), &entry);
    if (err) {
        reply(request, err);
    } else {
        fuse_reply_entry(request, &entry);
    }
}

/* What had the name is out of the tree when something else gets it. */
static int settle_removal(struct mount *mount, uint64_t parent, struct bytes name)
{
    pthread_mutex_lock(&mount->lock);
    const bool has = removals_have(mount, parent, name);
    pthread_mutex_unlock(&mount->lock);
    return has ? removals_wait(mount) : 0;
}

void on_mkdir(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct mount *mount = mount_of(request);
    CLEANUP_BUF struct buf path = BUF_INIT;
    int err = look_path(mount, parent, bytes_of_string(name), &path);
    if (!err) {
        err = settle_removal(mount, parent, bytes_of_string(name));
    }
    if (!err) {
        CLEANUP_FREE char *json =
            mem_format("{\"op\":\"mkdir\",\"mode\":\"%04o\"}", (unsigned)(mode & 07777));
        err = ask_change(mount, buf_bytes(&path), json);
    }
    if (err) {
        reply(request, err);
        return;
    }
    count_change(mount);
    answer_entry(request, parent, name);
}

void on_symlink(fuse_req_t request, const char *target, fuse_ino_t parent, const char *name)
{
    struct mount *mount = mount_of(request);
    CLEANUP_BUF struct buf path = BUF_INIT;
    int err = look_path(mount, parent, bytes_of_string(name), &path);
    if (!err && strlen(target) > TREE_TARGET_BYTES_MAX) {
        err = -ENAMETOOLONG;
    }
    if (!err) {
        err = settle_removal(mount, parent, bytes_of_string(name));
    }
    if (!err) {
        CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
        CLEANUP_BUF struct buf url = BUF_INIT;
        ask_target(&url, buf_bytes(&path));
        buf_add_string(&url, "?ack=0&symlink=");
        percent_add(&url, bytes_of_string(target));
        const struct client_request put = {
            .method = "PUT",
            .target = buf_string(&url),
            .headers = {"If-None-Match: *"},
            .silence_ms_max = CHANGE_SILENCE_MS_MAX,
        };
        err = ask(mount, &put, &response);
    }
    if (err) {
        reply(request, err);
        return;
    }
    count_change(mount);
    answer_entry(request, parent, name);
}

/* A hard link would have two names change together, on all nodes. */
void on_link(fuse_req_t request, fuse_ino_t number, fuse_ino_t new_parent, const char *new_name)
{
    (void)number, (void)new_parent, (void)new_name;
    reply(request, -EPERM);
}

/* ---- taking away ------------------------------------------------------------------------------
 */

static int keep_directory(struct mount *mount, uint64_t number)
{
    CLEANUP_BUF struct buf path = BUF_INIT;
    struct shape shape;
    CLEANUP_FREE char *target = NULL;
    int err = look_path(mount, number, BYTES(NULL, 0), &path);
    if (err || path.size == 0) {
        return err;
    }
    err = look_at(mount, buf_bytes(&path), &shape, &target);
    if (err || shape.is_explicit || shape.kind != TREE_DIRECTORY) {
        return err == -ENOENT ? 0 : err;
    }
    return ask_change(mount, buf_bytes(&path), "{\"op\":\"set\"}");
}

/* Under mount.lock: the child `name`, NULL if it is not known, and nothing of it is under way. */
static struct inode *find_child(struct mount *mount, uint64_t parent_number, struct bytes name)
{
    const struct inode *parent = inodes_find(&mount->inodes, parent_number);
    struct inode *inode = parent ? inodes_child(&mount->inodes, parent, name) : NULL;
    while (inode && inode->draft && inode->draft->is_in_flight) {
        (void)publish_wait(mount, inode->number);
        parent = inodes_find(&mount->inodes, parent_number);
        inode = parent ? inodes_child(&mount->inodes, parent, name) : NULL;
    }
    return inode;
}

static bool is_only_here(const struct inode *inode)
{
    return inode && inode->draft && inode->draft->is_new;
}

/* Takes the name away if it is only here, or goes from the tree behind this. */
static bool take_here(struct mount *mount, uint64_t parent, struct bytes name)
{
    pthread_mutex_lock(&mount->lock);
    struct inode *inode = find_child(mount, parent, name);
    bool is_taken = is_only_here(inode);
    if (is_taken) {
        inodes_detach(&mount->inodes, inode);
        mount->changes++;
    } else if (inode && inode->shape.kind == TREE_FILE &&
               (!inode->draft || !draft_is_dirty(inode->draft))) {
        /* A link has no id that tells it from another that somebody made meanwhile. */
        is_taken = removals_add(mount, inode);
    }
    pthread_mutex_unlock(&mount->lock);
    return is_taken;
}

/* Who has found it before may open it yet, as everywhere. */
static void mark_gone(struct inode *inode)
{
    if (inode) {
        inode->went_here = true;
    }
}

static void take_known(struct mount *mount, uint64_t parent_number, struct bytes name)
{
    pthread_mutex_lock(&mount->lock);
    const struct inode *parent = inodes_find(&mount->inodes, parent_number);
    struct inode *inode = parent ? inodes_child(&mount->inodes, parent, name) : NULL;
    if (inode) {
        mark_gone(inode);
        inodes_detach(&mount->inodes, inode);
    }
    mount->changes++;
    pthread_mutex_unlock(&mount->lock);
}

static int take_away(struct mount *mount, uint64_t parent, struct bytes name)
{
    CLEANUP_BUF struct buf path = BUF_INIT;
    int err = look_path(mount, parent, name, &path);
    if (!err) {
        /* Of this name, or of those in the directory. */
        err = removals_wait(mount);
    }
    if (err) {
        return err;
    }
    struct busy_name busy = {.parent = parent, .name = name};
    publish_hold(mount, &busy);
    publish_pause(mount);
    err = keep_directory(mount, parent);
    if (!err) {
        err = ask_delete(mount, buf_bytes(&path));
    }
    if (!err || err == -ENOENT) {
        take_known(mount, parent, name);
    }
    publish_let_go(mount, &busy);
    return err;
}

void on_unlink(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    struct mount *mount = mount_of(request);
    const struct bytes bytes = bytes_of_string(name);
    reply(request, take_here(mount, parent, bytes) ? 0 : take_away(mount, parent, bytes));
    draft_reap(mount);
}

/* Under mount.lock: something is in it that the node knows nothing of. */
static bool has_drafts(const struct inode *directory)
{
    for (const struct inode *child = directory->children; child; child = child->next) {
        if (is_only_here(child)) {
            return true;
        }
    }
    return false;
}

void on_rmdir(fuse_req_t request, fuse_ino_t parent_number, const char *name)
{
    struct mount *mount = mount_of(request);
    const struct bytes bytes = bytes_of_string(name);
    pthread_mutex_lock(&mount->lock);
    const struct inode *parent = inodes_find(&mount->inodes, parent_number);
    const struct inode *inode = parent ? inodes_child(&mount->inodes, parent, bytes) : NULL;
    const bool has = inode && has_drafts(inode);
    pthread_mutex_unlock(&mount->lock);
    reply(request, has ? -ENOTEMPTY : take_away(mount, parent_number, bytes));
}

/* ---- renaming ---------------------------------------------------------------------------------
 */

struct rename {
    uint64_t parent;
    struct bytes name;
    uint64_t new_parent;
    struct bytes new_name;
    bool is_exclusive;
};

/* What is at `name` now; -ENOENT. */
static int kind_of(struct mount *mount, uint64_t parent, struct bytes name,
                   enum tree_kind *ret_kind)
{
    struct fuse_entry_param entry;
    const int err = look_up(mount, parent, name, &entry);
    if (err) {
        return err;
    }
    *ret_kind = S_ISDIR(entry.attr.st_mode)   ? TREE_DIRECTORY
                : S_ISLNK(entry.attr.st_mode) ? TREE_SYMLINK
                                              : TREE_FILE;
    pthread_mutex_lock(&mount->lock);
    inodes_forget(&mount->inodes, inodes_find(&mount->inodes, entry.ino), 1);
    pthread_mutex_unlock(&mount->lock);
    return 0;
}

/* True if all of it is here: a file that is not published gets another name. What it replaces may
 * be in the tree, and is there until it is published: then its name is not only here. */
static bool rename_here(struct mount *mount, const struct rename *rename, bool is_replacing)
{
    pthread_mutex_lock(&mount->lock);
    struct inode *there = find_child(mount, rename->new_parent, rename->new_name);
    struct inode *inode = find_child(mount, rename->parent, rename->name);
    struct inode *parent = inodes_find(&mount->inodes, rename->new_parent);
    /* Waiting for the second may have changed the first. */
    there = parent ? inodes_child(&mount->inodes, parent, rename->new_name) : NULL;
    const bool is_free = !there || !there->draft || !there->draft->is_in_flight;
    const bool is_here = parent && is_free && is_only_here(inode);
    if (is_here) {
        inode->draft->is_new = !is_replacing || is_only_here(there);
        mark_gone(there);
        inodes_move(&mount->inodes, inode, parent, rename->new_name);
        mount->changes++;
    }
    pthread_mutex_unlock(&mount->lock);
    return is_here;
}

/* A file that was closed goes with its name, and what is replaced may not come back. What is below
 * a directory and not published yet gets the new name here. */
static int settle_names(struct mount *mount, const struct rename *rename)
{
    pthread_mutex_lock(&mount->lock);
    struct inode *there = find_child(mount, rename->new_parent, rename->new_name);
    int err = 0;
    if (there && there->shape.kind == TREE_DIRECTORY && has_drafts(there)) {
        err = -ENOTEMPTY;
    }
    const struct inode *inode = find_child(mount, rename->parent, rename->name);
    const bool goes = inode && inode->draft && (inode->writers == 0 || inode->draft->is_new);
    const uint64_t number = goes ? inode->number : 0;
    pthread_mutex_unlock(&mount->lock);
    return !err && number ? publish_now(mount, number) : err;
}

static int rename_there(struct mount *mount, const struct rename *rename)
{
    CLEANUP_BUF struct buf from = BUF_INIT;
    CLEANUP_BUF struct buf to = BUF_INIT;
    int err = look_path(mount, rename->parent, rename->name, &from);
    if (!err) {
        err = look_path(mount, rename->new_parent, rename->new_name, &to);
    }
    if (!err) {
        err = keep_directory(mount, rename->parent);
    }
    if (err) {
        return err;
    }
    json_t *body = json_pack("{s:s,s:s%,s:b}", "op", "rename", "to", (const char *)to.data, to.size,
                             "replace", !rename->is_exclusive);
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    err = text ? ask_change(mount, buf_bytes(&from), text) : -EILSEQ;
    free(text);
    return err == -EFBIG ? -EXDEV : err;
}

/* The inode goes with its name. */
static void move_known(struct mount *mount, const struct rename *rename)
{
    pthread_mutex_lock(&mount->lock);
    const struct inode *parent = inodes_find(&mount->inodes, rename->parent);
    struct inode *new_parent = inodes_find(&mount->inodes, rename->new_parent);
    struct inode *inode = parent ? inodes_child(&mount->inodes, parent, rename->name) : NULL;
    if (inode && new_parent) {
        mark_gone(inodes_child(&mount->inodes, new_parent, rename->new_name));
        inodes_move(&mount->inodes, inode, new_parent, rename->new_name);
    } else if (inode) {
        inodes_detach(&mount->inodes, inode);
    }
    mount->changes++;
    pthread_mutex_unlock(&mount->lock);
}

/* What rename(2) says of the two. */
static int check_kinds(enum tree_kind kind, enum tree_kind there)
{
    if (kind == TREE_DIRECTORY) {
        return there == TREE_DIRECTORY ? 0 : -ENOTDIR;
    }
    return there == TREE_DIRECTORY ? -EISDIR : 0;
}

static int rename_entry(struct mount *mount, const struct rename *rename)
{
    enum tree_kind kind = TREE_FILE;
    enum tree_kind there = TREE_FILE;
    bool is_replacing = false;
    int err = path_check_name(rename->new_name);
    if (!err) {
        err = kind_of(mount, rename->parent, rename->name, &kind);
    }
    if (err) {
        return err;
    }
    err = kind_of(mount, rename->new_parent, rename->new_name, &there);
    if (!err) {
        err = rename->is_exclusive ? -EEXIST : check_kinds(kind, there);
        is_replacing = true;
    } else if (err == -ENOENT) {
        err = 0;
    }
    if (err) {
        return err;
    }
    /* Only the node knows whether another one has made something there. */
    if (kind == TREE_FILE && !rename->is_exclusive && rename_here(mount, rename, is_replacing)) {
        return 0;
    }
    err = settle_names(mount, rename);
    if (err) {
        return err;
    }
    struct busy_name from = {.parent = rename->parent, .name = rename->name};
    struct busy_name to = {.parent = rename->new_parent, .name = rename->new_name};
    publish_hold(mount, &from);
    publish_hold(mount, &to);
    publish_pause(mount);
    /* Nothing is added to them any more below these names. */
    err = removals_wait(mount);
    if (!err) {
        err = rename_there(mount, rename);
    }
    if (!err) {
        move_known(mount, rename);
    }
    publish_let_go(mount, &from);
    publish_let_go(mount, &to);
    return err;
}

void on_rename(fuse_req_t request, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
               const char *new_name, unsigned flags)
{
    struct mount *mount = mount_of(request);
    const struct rename rename = {
        .parent = parent,
        .name = bytes_of_string(name),
        .new_parent = new_parent,
        .new_name = bytes_of_string(new_name),
        .is_exclusive = flags & RENAME_NOREPLACE,
    };
    if (flags & ~(unsigned)RENAME_NOREPLACE) {
        reply(request, -EINVAL);
        return;
    }
    reply(request, rename_entry(mount, &rename));
    draft_reap(mount);
}
