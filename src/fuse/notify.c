/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The feed of the tree is read from the store, as all else: an event for each of ten thousand files
 * that were just made here would cost more than making them. What this mount did itself is nothing
 * new to it, and is told by a look at its inodes.
 */

#include "fuse/notify.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "fuse/draft.h"
#include "store/maintain.h"
#include "tree/feed.h"
#include "wire/path.h"

/* How often it is looked for changes. A look takes some microseconds. */
#define LOOK_MS 50u
/* And in how many looks for segments that the node has removed: each 10 s. */
#define LOOKS_TO_CLOSE 200u

struct notifier {
    pthread_t thread;
    bool is_ending; /* under mount.lock */
    pthread_cond_t wake;
    uint64_t position; /* all up to there was told */
};

/* What the kernel is to forget. */
struct stale {
    uint64_t parent;
    uint64_t inode; /* 0: the name; else only what it knows of its mode, time and size */
    char name[PATH_NAME_BYTES_MAX + 1];
};

/* Under mount.lock: somebody of this mount changes that name at this moment. */
static bool is_busy(const struct mount *mount, const struct stale *stale)
{
    for (const struct busy_name *at = mount->busy; at; at = at->next) {
        if (!stale->inode && at->parent == stale->parent &&
            bytes_equal(at->name, bytes_of_string(stale->name))) {
            return true;
        }
    }
    return false;
}

static void name_stale(struct stale *stale, uint64_t parent, struct bytes name)
{
    *stale = (struct stale){.parent = parent};
    memcpy(stale->name, name.data, name.size);
}

/* True if the inode is what the change made of its name. */
static bool is_told(const struct inode *inode, const struct tree_change *change)
{
    const struct shape shape = {.kind = change->kind, .file_id = change->file_id};
    if (inode->draft) {
        return true;
    }
    if (change->kind == TREE_SYMLINK) {
        return inode->target && bytes_equal(bytes_of_string(inode->target), change->target);
    }
    return inode_is(inode, &shape, NULL);
}

/* Under mount.lock: what the kernel knows wrong of the path that changed, as far as it knows
 * anything of it. False: nothing. */
static bool find_stale(const struct mount *mount, const struct tree_change *change,
                       struct stale *ret_stale)
{
    const struct inode *at = mount->inodes.root;
    struct bytes rest = change->path;
    while (rest.size > 0) {
        const struct bytes name = path_next(&rest);
        const struct inode *child = inodes_child(&mount->inodes, at, name);
        if (!child || (rest.size == 0 && !is_told(child, change))) {
            name_stale(ret_stale, at->number, name);
            /* A deletion of what nobody knows is no news. */
            return child || change->kind != TREE_DELETE;
        }
        at = child;
    }
    *ret_stale = (struct stale){.inode = at->number};
    return !at->draft && (at->shape.mode != change->mode || at->shape.mtime_ns != change->mtime_ns);
}

/* Under mount.lock: true if the kernel may have the names in the directory `number`. */
static bool take_listed(struct mount *mount, uint64_t number)
{
    struct inode *inode = inodes_find(&mount->inodes, number);
    const bool is_listed = inode && inode->listed.snapshot != 0;
    if (is_listed) {
        inode->listed = (struct moment){0};
    }
    return is_listed;
}

static void tell(struct mount *mount, const struct tree_change *change)
{
    struct stale stale;
    pthread_mutex_lock(&mount->lock);
    bool is_stale = find_stale(mount, change, &stale);
    while (is_stale && is_busy(mount, &stale)) {
        pthread_cond_wait(&mount->settled, &mount->lock);
        is_stale = find_stale(mount, change, &stale);
    }
    /* The kernel may have names that it was told without an inode. */
    const bool is_listed = !stale.inode && take_listed(mount, stale.parent);
    pthread_mutex_unlock(&mount->lock);
    if (is_listed) {
        /* Who reads on in a directory that is open, or begins again, sees the change. */
        fuse_lowlevel_notify_inval_inode(mount->session, stale.parent, 0, 0);
    }
    if (is_stale && stale.inode) {
        fuse_lowlevel_notify_inval_inode(mount->session, stale.inode, -1, 0);
    } else if (is_stale) {
        fuse_lowlevel_notify_inval_entry(mount->session, stale.parent, stale.name,
                                         strlen(stale.name));
    }
}

/* The next op of the feed, in memory of its own. -ENOENT: none. */
static int take_op(struct mount *mount, struct kv_txn *txn, struct buf *bytes,
                   struct tree_feed_item *ret_item)
{
    struct notifier *notifier = mount->notifier;
    struct tree_summary summary;
    int err = tree_feed_next(mount->tree, txn, notifier->position, bytes, ret_item);
    if (err != -ESTALE && err != -ENOENT) {
        return err;
    }
    /* Too much at once, or the database was replaced by an older one. The kernel believes nothing
     * for long. */
    const int failed = tree_summary(mount->tree, txn, &summary);
    if (!failed && (err == -ESTALE || summary.feed_last < notifier->position)) {
        notifier->position = summary.feed_last;
    }
    return failed ? failed : -ENOENT;
}

/* One op told. -ENOENT: there was none. */
static int tell_next(struct mount *mount)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    struct tree_feed_item item;
    struct kv_txn *txn = NULL;
    int err = kv_read(store_kv(mount->store), &txn);
    if (!err) {
        err = take_op(mount, txn, &bytes, &item);
        kv_abort(txn);
    }
    if (err) {
        return err;
    }
    mount->notifier->position = item.position;
    if (item.kind != TREE_FEED_GAP) {
        for (size_t i = 0; i < item.parsed.op.changes_count; i++) {
            tell(mount, &item.parsed.op.changes[i]);
        }
    }
    tree_op_parsed_done(&item.parsed);
    return 0;
}

static void *notifier_main(void *context)
{
    struct mount *mount = context;
    struct notifier *notifier = mount->notifier;
    pthread_mutex_lock(&mount->lock);
    for (unsigned looks = 1; !notifier->is_ending; looks++) {
        const uint64_t now_ms = clock_monotonic_ms(clock_real());
        (void)clock_wait_until(&notifier->wake, &mount->lock, (now_ms + LOOK_MS) * 1000);
        bool is_ending = notifier->is_ending;
        while (!is_ending) {
            pthread_mutex_unlock(&mount->lock);
            const int err = tell_next(mount);
            pthread_mutex_lock(&mount->lock);
            is_ending = err || notifier->is_ending;
        }
        if (looks % LOOKS_TO_CLOSE == 0) {
            pthread_mutex_unlock(&mount->lock);
            store_close_removed(mount->store);
            pthread_mutex_lock(&mount->lock);
        }
    }
    pthread_mutex_unlock(&mount->lock);
    return NULL;
}

int notifier_start(struct mount *mount)
{
    struct tree_summary summary;
    struct kv_txn *txn = NULL;
    int err = kv_read(store_kv(mount->store), &txn);
    if (!err) {
        err = tree_summary(mount->tree, txn, &summary);
        kv_abort(txn);
    }
    if (err) {
        return err;
    }
    struct notifier *notifier = mem_alloc(sizeof *notifier);
    notifier->position = summary.feed_last;
    clock_init_condition(&notifier->wake);
    mount->notifier = notifier;
    if (pthread_create(&notifier->thread, NULL, notifier_main, mount) != 0) {
        mount->notifier = NULL;
        free(notifier);
        return -EAGAIN;
    }
    return 0;
}

void notifier_stop(struct mount *mount)
{
    struct notifier *notifier = mount->notifier;
    if (!notifier) {
        return;
    }
    pthread_mutex_lock(&mount->lock);
    notifier->is_ending = true;
    pthread_cond_signal(&notifier->wake);
    pthread_mutex_unlock(&mount->lock);
    pthread_join(notifier->thread, NULL);
    pthread_cond_destroy(&notifier->wake);
    free(notifier);
    mount->notifier = NULL;
}
