/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUSE_MOUNT_PRIV_H
#define FUSE_MOUNT_PRIV_H

/*
 * The mount as its files share it. Requests of the kernel are served by several threads, each of
 * which may wait for the node; one more thread publishes (publish.c), one looks for changes
 * (notify.c), one sees whether the node is there (live.c).
 *
 * Locks, in the order in which they may be taken: draft.content, then mount.lock. mount.lock is
 * over the inodes and all that they point to but what has a lock of its own; nothing waits under
 * it.
 */

#define FUSE_USE_VERSION 314

#include <fuse3/fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "client/client.h"
#include "fuse/inodes.h"
#include "fuse/mount.h"
#include "store/store.h"
#include "tree/tree.h"

/* How long the kernel believes what it was told. Changes are told to it at once; this is for those
 * that cross an answer on its way. */
#define CACHE_S 1.0
#define CACHE_MS UINT64_C(1000)
/* A node that takes longer for a change, or says nothing for so long while content is fetched,
 * hangs. */
#define CHANGE_SILENCE_MS_MAX UINT64_C(20000)
#define CONTENT_SILENCE_MS_MAX UINT64_C(60000)
/* The largest read of the kernel. */
#define READ_BYTES_MAX ((size_t)1024 * 1024)
/* Requests under way; as many may wait for content of other nodes at once. */
#define THREADS_MAX 64u
/* Clients and buffers that are kept for the next request. */
#define SPARE_MAX 16u

struct directory;
struct publisher;
struct removals;
struct notifier;
struct live;

/* A name that is being changed by this mount: in the tree it may be done already, here not yet. */
struct busy_name {
    struct busy_name *next;
    uint64_t parent;
    struct bytes name;
};

struct mount {
    struct mount_options options;
    char *socket_path;
    const char *staging_path; /* a directory */
    struct store *store;
    struct tree *tree;
    struct fuse_session *session;
    bool is_mounted;
    bool has_handlers; /* of signals */
    uid_t uid;
    gid_t gid;

    pthread_mutex_t lock;
    struct inodes inodes;
    uint64_t changes;       /* of names, by this mount: who looked at the tree before looks again */
    pthread_cond_t settled; /* a publication ended, or makes room for others */

    struct draft *dropped_drafts; /* draft_reap() */

    struct publisher *publisher;
    struct removals *removals;
    struct notifier *notifier;
    struct live *live;
    atomic_bool is_live;   /* the node is there */
    atomic_bool is_apart;  /* it can't open our files */
    atomic_bool is_silent; /* it does not answer though it runs: all requests to it end */
    _Atomic uint64_t asks_begun;
    _Atomic uint64_t asks_ended;
    struct busy_name *busy;
    struct directory *directories; /* open ones */

    pthread_mutex_t spare_lock;
    struct client *spare_clients[SPARE_MAX];
    size_t spare_clients_count;
    void *spare_buffers[SPARE_MAX]; /* of READ_BYTES_MAX */
    size_t spare_buffers_count;
};

/* ---- look.c: what the tree has ----------------------------------------------------------------
 */

/* What stands at `path`; *ret_target (a link's, else NULL) is given to free(). -ENOENT also for
 * paths through what is no directory. */
[[nodiscard]] int look_at(struct mount *mount, struct bytes path, struct shape *ret_shape,
                          char **ret_target);
void look_shape(const struct tree_entry *entry, struct shape *ret_shape);
/* Under the lock: what a program sees of `inode`. */
void look_stat(const struct mount *mount, const struct inode *inode, struct stat *ret_stat);
void look_stat_shape(const struct mount *mount, uint64_t number, const struct shape *shape,
                     bool is_named, struct stat *ret_stat);
/* Finds or makes the inode of `name`, with one lookup more. -ENOENT. */
[[nodiscard]] int look_up(struct mount *mount, uint64_t parent, struct bytes name,
                          struct fuse_entry_param *ret_entry);
/* The same for what a listing found at that moment. -EAGAIN: more was changed meanwhile; -ENOENT:
 * it is going. */
[[nodiscard]] int look_up_listed(struct mount *mount, uint64_t parent, const struct moment *listed,
                                 struct bytes name, const struct shape *shape, const char *target,
                                 struct fuse_entry_param *ret_entry);
/* The inode of `number` as it is now. */
[[nodiscard]] int look_again(struct mount *mount, uint64_t number, struct stat *ret_stat);
/* Counts a lookup and fills the answer; under the lock. */
void look_entry(const struct mount *mount, struct inode *inode, struct fuse_entry_param *ret_entry);
/* The path of an inode, or of a name in it (`name` not empty). -ENOENT, -ESTALE, -ENAMETOOLONG,
 * -EILSEQ, -EINVAL. */
[[nodiscard]] int look_path(struct mount *mount, uint64_t number, struct bytes name,
                            struct buf *path);

/* ---- ask.c: the node --------------------------------------------------------------------------
 */

struct client *ask_client(struct mount *mount);
void ask_done(struct mount *mount, struct client *client);
/* Sends the request; 0, or what its failure is to a program. */
[[nodiscard]] int ask(struct mount *mount, const struct client_request *request,
                      struct client_response *response);
/* POST /fs/PATH with a JSON body. */
[[nodiscard]] int ask_change(struct mount *mount, struct bytes path, const char *json);
[[nodiscard]] int ask_delete(struct mount *mount, struct bytes path);
/* "/fs/a%20b" into an empty buf. */
void ask_target(struct buf *target, struct bytes path);
/* Seconds since 1970 with nine decimals, as the node reads them. */
void ask_add_time(struct buf *text, int64_t ns);
void ask_free(struct mount *mount);

void *buffer_take(struct mount *mount);
void buffer_give(struct mount *mount, void *buffer);

/* ---- what the kernel asks for -----------------------------------------------------------------
 */

static inline struct mount *mount_of(fuse_req_t request)
{
    return fuse_req_userdata(request);
}

/* `err` is 0 or negative. */
void reply(fuse_req_t request, int err);

void on_lookup(fuse_req_t request, fuse_ino_t parent, const char *name);
void on_forget(fuse_req_t request, fuse_ino_t number, uint64_t count);
void on_forget_multi(fuse_req_t request, size_t count, struct fuse_forget_data *forgets);
void on_getattr(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info);
void on_readlink(fuse_req_t request, fuse_ino_t number);
void on_statfs(fuse_req_t request, fuse_ino_t number);

void on_opendir(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info);
void on_readdir(fuse_req_t request, fuse_ino_t number, size_t size, off_t offset,
                struct fuse_file_info *info);
void on_readdirplus(fuse_req_t request, fuse_ino_t number, size_t size, off_t offset,
                    struct fuse_file_info *info);
void on_releasedir(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info);
/* Frees those that the kernel did not let go of before the end. */
void directories_done(struct mount *mount);
void on_fsyncdir(fuse_req_t request, fuse_ino_t number, int datasync, struct fuse_file_info *info);

void on_open(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info);
void on_read(fuse_req_t request, fuse_ino_t number, size_t size, off_t offset,
             struct fuse_file_info *info);
void on_release(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info);

void on_create(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode,
               struct fuse_file_info *info);
void on_mknod(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode, dev_t device);
void on_write(fuse_req_t request, fuse_ino_t number, const char *data, size_t size, off_t offset,
              struct fuse_file_info *info);
void on_flush(fuse_req_t request, fuse_ino_t number, struct fuse_file_info *info);
void on_fsync(fuse_req_t request, fuse_ino_t number, int datasync, struct fuse_file_info *info);
void on_setattr(fuse_req_t request, fuse_ino_t number, struct stat *stat, int which,
                struct fuse_file_info *info);
void on_fallocate(fuse_req_t request, fuse_ino_t number, int mode, off_t offset, off_t length,
                  struct fuse_file_info *info);

void on_mkdir(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode);
void on_unlink(fuse_req_t request, fuse_ino_t parent, const char *name);
void on_rmdir(fuse_req_t request, fuse_ino_t parent, const char *name);
void on_symlink(fuse_req_t request, const char *target, fuse_ino_t parent, const char *name);
void on_rename(fuse_req_t request, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
               const char *new_name, unsigned flags);
void on_link(fuse_req_t request, fuse_ino_t number, fuse_ino_t new_parent, const char *new_name);

void on_setxattr(fuse_req_t request, fuse_ino_t number, const char *name, const char *value,
                 size_t size, int flags);
void on_getxattr(fuse_req_t request, fuse_ino_t number, const char *name, size_t size);
void on_listxattr(fuse_req_t request, fuse_ino_t number, size_t size);
void on_removexattr(fuse_req_t request, fuse_ino_t number, const char *name);

#endif
