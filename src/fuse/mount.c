/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/mount.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "fuse/content.h"
#include "fuse/draft.h"
#include "fuse/live.h"
#include "fuse/mount_priv.h"
#include "fuse/notify.h"
#include "fuse/publish.h"
#include "fuse/removals.h"

/* What the kernel may read ahead: it asks us for what it will want, several pieces at once. */
#define READ_AHEAD_KB 4096u
/* Requests of the kernel in the background (reading ahead) under way at once. */
#define BACKGROUND_MAX 64u
/* A draft of more than 256 KiB is an open file. */
#define FILES_MAX 65536u

/* ---- the session ------------------------------------------------------------------------------
 */

/* Not asked for: FUSE_CAP_HANDLE_KILLPRIV and FUSE_CAP_ATOMIC_O_TRUNC, with which we would have to
 * take the set-user-id bit away from what is written, cut or given to somebody. The kernel knows
 * for whom that is to be done, and does it by a change of the mode. */
static void on_init(void *context, struct fuse_conn_info *connection)
{
    struct mount *mount = context;
    const unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
                            FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_ASYNC_DIO |
                            FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_EXPORT_SUPPORT |
                            FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPLICIT_INVAL_DATA;
    connection->want = wanted & connection->capable;
    connection->max_write = READ_BYTES_MAX;
    connection->max_background = BACKGROUND_MAX;
    connection->congestion_threshold = BACKGROUND_MAX;
    connection->time_gran = 1;
    if (mount->options.ready) {
        mount->options.ready(mount->options.directory);
    }
}

static const struct fuse_lowlevel_ops operations = {
    .init = on_init,
    .lookup = on_lookup,
    .forget = on_forget,
    .forget_multi = on_forget_multi,
    .getattr = on_getattr,
    .setattr = on_setattr,
    .readlink = on_readlink,
    .mknod = on_mknod,
    .mkdir = on_mkdir,
    .unlink = on_unlink,
    .rmdir = on_rmdir,
    .symlink = on_symlink,
    .rename = on_rename,
    .link = on_link,
    .open = on_open,
    .read = on_read,
    .write = on_write,
    .flush = on_flush,
    .release = on_release,
    .fsync = on_fsync,
    .opendir = on_opendir,
    .readdir = on_readdir,
    .readdirplus = on_readdirplus,
    .releasedir = on_releasedir,
    .fsyncdir = on_fsyncdir,
    .statfs = on_statfs,
    .setxattr = on_setxattr,
    .getxattr = on_getxattr,
    .listxattr = on_listxattr,
    .removexattr = on_removexattr,
    .create = on_create,
    .fallocate = on_fallocate,
};

static int add_argument(struct fuse_args *arguments, const char *text)
{
    if (fuse_opt_add_arg(arguments, text) != 0) {
        mem_out_of_memory();
    }
    return 0;
}

/* The permissions of entries are the kernel's to check; who may look at all is for allow_other. */
static int open_session(struct mount *mount)
{
    struct fuse_args arguments = FUSE_ARGS_INIT(0, NULL);
    add_argument(&arguments, "artel");
    add_argument(&arguments, "-odefault_permissions,fsname=artel,subtype=artel");
    if (mount->options.options && *mount->options.options) {
        CLEANUP_FREE char *text = mem_format("-o%s", mount->options.options);
        add_argument(&arguments, text);
    }
    mount->session = fuse_session_new(&arguments, &operations, sizeof operations, mount);
    fuse_opt_free_args(&arguments);
    return mount->session ? 0 : -EINVAL;
}

/* Lets go of a directory as one who is not root: true if it worked. */
static bool run_fusermount(const char *directory)
{
    const pid_t child = fork();
    if (child == 0) {
        execlp("fusermount3", "fusermount3", "-u", "-z", "--", directory, (char *)NULL);
        _exit(127);
    }
    int status = -1;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return child > 0 && status == 0;
}

/* A mount that was killed leaves a directory that nobody can enter. Its mode the kernel may still
 * know; its room it never does. */
static void free_directory(const char *directory)
{
    struct statvfs room;
    if (statvfs(directory, &room) == 0 || errno != ENOTCONN) {
        return;
    }
    if (umount2(directory, MNT_DETACH) == 0) {
        return;
    }
    if (!run_fusermount(directory)) {
        log_warn("mount_not_freed", KV("directory", directory));
    }
}

/* True if `path` is `directory` or something below it; both are real paths. */
static bool is_within(const char *path, const char *directory)
{
    const size_t size = strlen(directory);
    return strncmp(path, directory, size) == 0 &&
           (path[size] == 0 || path[size] == '/' || strcmp(directory, "/") == 0);
}

static int check_directory(const struct mount *mount)
{
    struct stat stat_;
    if (stat(mount->options.directory, &stat_) < 0) {
        return err_from_errno(errno);
    }
    if (!S_ISDIR(stat_.st_mode)) {
        return -ENOTDIR;
    }
    /* Who serves a file system must not need it. */
    CLEANUP_FREE char *directory = realpath(mount->options.directory, NULL);
    CLEANUP_FREE char *data = realpath(mount->options.data, NULL);
    CLEANUP_FREE char *staging = realpath(mount->staging_path, NULL);
    if (!directory || !data || !staging) {
        return err_from_errno(errno);
    }
    return is_within(data, directory) || is_within(staging, directory) ? -ELOOP : 0;
}

/* Where the system lets us, the kernel reads further ahead than 128 KiB. */
static void read_ahead(const char *directory)
{
    struct stat stat_;
    if (lstat(directory, &stat_) < 0) {
        return;
    }
    CLEANUP_FREE char *path =
        mem_format("/sys/class/bdi/%u:%u/read_ahead_kb", major(stat_.st_dev), minor(stat_.st_dev));
    CLEANUP_FD int fd = -1;
    CLEANUP_FREE char *text = mem_format("%u\n", READ_AHEAD_KB);
    if (file_open_at(AT_FDCWD, path, O_WRONLY, 0, &fd) == 0) {
        (void)!write(fd, text, strlen(text));
    }
}

/* ---- the store --------------------------------------------------------------------------------
 */

static int no_hold(void *context, struct kv_txn *txn, const struct id *file, bool is_published)
{
    (void)context, (void)txn, (void)file, (void)is_published;
    return -EROFS;
}

static int no_release(void *context, struct kv_txn *txn, const struct id *file)
{
    (void)context, (void)txn, (void)file;
    return -EROFS;
}

static uint64_t no_clock(void *context)
{
    (void)context;
    return 0;
}

static int open_store(struct mount *mount)
{
    const struct store_options options = {
        .path = mount->options.data,
        .read_only = true,
        .serves_reads = true,
        .must_exist = true,
        .extra_tables = tree_table_names,
        .extra_tables_count = TREE_TABLES,
    };
    const struct tree_host host = {.hold = no_hold, .release = no_release, .now_ms = no_clock};
    const struct origin_id nobody = {{0}};
    int err = store_open(&options, &mount->store);
    if (err) {
        return err;
    }
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    err = kv_read(store_kv(mount->store), &txn);
    return err ? err : tree_open(txn, STORE_TABLES, &host, &nobody, 0, &mount->tree);
}

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < FILES_MAX) {
        limit.rlim_cur = limit.rlim_max < FILES_MAX ? limit.rlim_max : FILES_MAX;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* An inode goes: nobody has it. */
static void drop(void *context, struct inode *inode)
{
    (void)context;
    content_drop(inode->content);
    draft_drop(inode->draft);
}

/* A file beside the data, so that it is on a disk with room for it; else where there is any. */
static const char *staging_directory(const struct mount *mount)
{
    const char *temporary = getenv("TMPDIR");
    if (access(mount->options.data, W_OK) == 0) {
        return mount->options.data;
    }
    return temporary && *temporary ? temporary : "/tmp";
}

int mount_open(const struct mount_options *options, struct mount **ret_mount)
{
    struct mount *mount = mem_alloc(sizeof *mount);
    mount->options = *options;
    mount->uid = getuid();
    mount->gid = getgid();
    mount->socket_path = mem_format("%s/socket", options->data);
    mount->staging_path = staging_directory(mount);
    pthread_mutex_init(&mount->lock, NULL);
    pthread_mutex_init(&mount->spare_lock, NULL);
    clock_init_condition(&mount->settled);
    inodes_init(&mount->inodes);
    mount->inodes.drop = drop;
    raise_file_limit();
    int err = open_store(mount);
    if (!err) {
        err = open_session(mount);
    }
    if (!err) {
        free_directory(options->directory);
        err = check_directory(mount);
    }
    /* From the moment on that it can be seen, it ends as it should. */
    if (!err) {
        err = fuse_set_signal_handlers(mount->session) == 0 ? 0 : -EIO;
        mount->has_handlers = !err;
    }
    if (!err) {
        err = fuse_session_mount(mount->session, options->directory) == 0 ? 0 : -EIO;
        mount->is_mounted = !err;
    }
    if (err) {
        mount_close(mount);
        return err;
    }
    *ret_mount = mount;
    return 0;
}

/* Threads of ours leave signals to the one that serves. */
static int start_threads(struct mount *mount)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int err = removals_start(mount);
    if (!err) {
        err = publisher_start(mount);
    }
    if (!err) {
        err = notifier_start(mount);
    }
    if (!err) {
        err = live_start(mount);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return err;
}

static void *read_ahead_main(void *context)
{
    struct mount *mount = context;
    read_ahead(mount->options.directory);
    return NULL;
}

struct leaving {
    struct mount *mount;
    atomic_bool is_done;
};

/* Requests are answered yet: the notifier may wait in the kernel for one of them to end. */
static void *leaving_main(void *context)
{
    struct leaving *leaving = context;
    struct fuse_session *session = leaving->mount->session;
    struct fuse_buf buffer = {0};
    while (!leaving->is_done) {
        struct pollfd at = {.fd = fuse_session_fd(session), .events = POLLIN};
        if (poll(&at, 1, 20) <= 0) {
            continue;
        }
        const int bytes = at.revents & POLLIN ? fuse_session_receive_buf(session, &buffer) : 0;
        if (bytes == 0 || (bytes < 0 && bytes != -EINTR && bytes != -EAGAIN)) {
            break;
        }
        if (bytes > 0) {
            fuse_session_process_buf(session, &buffer);
        }
    }
    free(buffer.mem);
    return NULL;
}

static void leave(struct mount *mount)
{
    struct leaving leaving = {.mount = mount};
    pthread_t thread;
    const bool has_thread = pthread_create(&thread, NULL, leaving_main, &leaving) == 0;
    notifier_stop(mount);
    leaving.is_done = true;
    if (has_thread) {
        pthread_join(thread, NULL);
    }
}

int mount_run(struct mount *mount)
{
    int err = start_threads(mount);
    pthread_t thread;
    const bool has_thread = !err && pthread_create(&thread, NULL, read_ahead_main, mount) == 0;
    if (!err) {
        struct fuse_loop_config *config = fuse_loop_cfg_create();
        fuse_loop_cfg_set_clone_fd(config, 1);
        fuse_loop_cfg_set_max_threads(config, THREADS_MAX);
        /* A signal that ends it is a number above 0. */
        err = fuse_session_loop_mt(mount->session, config) < 0 ? -EIO : 0;
        fuse_loop_cfg_destroy(config);
    }
    leave(mount);
    /* What is published may wait for what is removed. */
    const int kept = removals_stop(mount);
    const int lost = publisher_stop(mount);
    /* Only now: what asks for the directory until then is answered. */
    fuse_session_unmount(mount->session);
    mount->is_mounted = false;
    if (has_thread) {
        pthread_join(thread, NULL);
    }
    live_stop(mount);
    err = err ? err : kept;
    return err ? err : lost;
}

void mount_close(struct mount *mount)
{
    if (!mount) {
        return;
    }
    if (mount->is_mounted) {
        fuse_session_unmount(mount->session);
    }
    if (mount->has_handlers) {
        fuse_remove_signal_handlers(mount->session);
    }
    if (mount->session) {
        fuse_session_destroy(mount->session);
    }
    directories_done(mount);
    inodes_done(&mount->inodes);
    draft_reap(mount);
    ask_free(mount);
    tree_close(mount->tree);
    store_close(mount->store);
    pthread_cond_destroy(&mount->settled);
    pthread_mutex_destroy(&mount->lock);
    pthread_mutex_destroy(&mount->spare_lock);
    free(mount->socket_path);
    free(mount);
}
