/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libfault: makes the n-th system call of a program fail, tear or be its last, and writes down
 * what the program did to its disk, in order.
 *
 * A library for LD_PRELOAD. Calls on files below $FAULT_ROOT count, all others pass. What a file
 * descriptor stands for is asked of /proc/self/fd at each call: that costs a microsecond or two,
 * and needs no table that dup(), fork() or a rename could make wrong. All real work is done by
 * raw system calls, so nothing here depends on what else is preloaded.
 *
 *   FAULT_ROOT    an absolute path without symbolic links; without it nothing is counted
 *   FAULT_CLASS   which calls: write sync truncate punch rename unlink create open read map alloc,
 *                 or any: all that change something (write to create)
 *   FAULT_AT      n: the fault hits the n-th call of the class, counted over all threads from 1
 *   FAULT_ACTION  kill        SIGKILL before the call
 *                 kill-after  SIGKILL after it
 *                 kill-torn   half of a write, then SIGKILL; as kill for what is not a write
 *                 fail        the call is not made, it returns -1 with FAULT_ERRNO
 *                 fail-from   so do all later ones
 *                 short       half of a read or write is done, and the caller is told so
 *   FAULT_ERRNO   a number; EIO without it
 *   FAULT_COUNT   path: holds the calls counted, one uint64_t for each class in the order of the
 *                 list above and then one for any. Mapped, so it is right after a SIGKILL too.
 *   FAULT_TRACE   path: the trace is appended here
 *
 * What belongs to a class: `write` all writes, copies included; `sync` fsync, fdatasync,
 * sync_file_range, msync, syncfs; `truncate` lengths set by ftruncate, truncate, O_TRUNC and
 * fallocate; `punch` fallocate that takes bytes away; `rename`; `unlink` and rmdir; `create` opens
 * that make a file, mkdir, link; `open` opens that change nothing; `read` reads into memory (not
 * the ones through a mapping); `map` mmap of a file; `alloc` malloc and its family, from main() on.
 * The interposers of malloc are in alloc.c, which is in libfault-alloc.so alone.
 *
 * The trace. Each record is a struct record, then path, path2 and data of the sizes it names.
 * Calls that change names are serialised and give one record each (PHASE_WHOLE). Data and syncs
 * overlap as they would without us: a record before the call (PHASE_BEGIN), with the bytes of a
 * write, and one after it (PHASE_DONE) with its result; both carry the same sequence. So the order
 * in the file is real: what ended before another began stands before it. Calls that failed or
 * changed nothing are left out. Writes to standard output are recorded before they are made
 * (KIND_OUTPUT), wherever it goes: they are the acknowledgements. Paths are below $FAULT_ROOT.
 *
 * Not seen: what libc does inside (stdio), io_uring, writes through a shared mapping, reflinks. A
 * test that replays a whole trace and compares the files finds out if one of them was used.
 *
 * Sanitizers: not instrumented; preload the runtime before it (LD_PRELOAD="libasan.so
 * libfault.so"), its interceptors then call these functions. They use no lock that ThreadSanitizer
 * could see and share no memory between threads but atomics, so they neither hide races nor show
 * false ones. Under either sanitizer the class alloc is left out: libfault-alloc.so goes to the
 * allocator of glibc and would take the place of theirs.
 */

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "libfault.h"

static const char *const class_names[CLASSES] = {
    [CLASS_WRITE] = "write",   [CLASS_SYNC] = "sync",     [CLASS_TRUNCATE] = "truncate",
    [CLASS_PUNCH] = "punch",   [CLASS_RENAME] = "rename", [CLASS_UNLINK] = "unlink",
    [CLASS_CREATE] = "create", [CLASS_OPEN] = "open",     [CLASS_READ] = "read",
    [CLASS_MAP] = "map",       [CLASS_ALLOC] = "alloc",   [CLASS_ANY] = "any",
};

static const char *const action_names[ACTIONS] = {
    [ACTION_KILL] = "kill", [ACTION_KILL_AFTER] = "kill-after", [ACTION_KILL_TORN] = "kill-torn",
    [ACTION_FAIL] = "fail", [ACTION_FAIL_FROM] = "fail-from",   [ACTION_SHORT] = "short",
};

enum phase { PHASE_BEGIN = 0, PHASE_DONE = 1, PHASE_WHOLE = 2 };

#define RECORD_MAGIC 0x544c4146u /* "FALT" */

struct record {
    uint32_t magic;
    uint16_t kind;
    uint16_t phase;
    uint64_t sequence;
    int64_t result;
    uint64_t inode;
    uint64_t inode2;
    uint64_t offset;
    uint64_t size;
    uint64_t flags;
    uint32_t process;
    int32_t error;
    uint32_t path_bytes;
    uint32_t path2_bytes;
    uint64_t data_bytes;
};
static_assert(sizeof(struct record) == 88, "the readers of the trace count on this");

/* Configuration, set once before main(). The library is one per process by nature. */
static char root[PATH_MAX];
static size_t root_bytes;
static enum class fault_class = CLASSES;
static enum action fault_action = ACTION_NONE;
static uint64_t fault_at;
static int fault_errno = EIO;
static int trace_fd = -1;

static _Atomic uint64_t own_counts[CLASSES];
static _Atomic uint64_t *counts = own_counts;
static _Atomic uint64_t sequence;
static atomic_flag trace_lock = ATOMIC_FLAG_INIT;

/* ---- which calls count ---------------------------------------------------------------------- */

/* Takes "." , ".." and doubled slashes out of an absolute path, in place. */
static void path_normalise(char *path)
{
    char *out = path;
    const char *in = path;
    while (*in) {
        while (*in == '/') {
            in++;
        }
        const size_t size = strcspn(in, "/");
        if (size == 2 && in[0] == '.' && in[1] == '.') {
            while (out > path && *--out != '/') {
            }
        } else if (size > 0 && !(size == 1 && in[0] == '.')) {
            *out++ = '/';
            memmove(out, in, size);
            out += size;
        }
        in += size;
    }
    *out = '\0';
}

/* What /proc calls a descriptor; AT_FDCWD is the working directory. */
static bool fd_path(int fd, char path[PATH_MAX])
{
    char link[64] = "/proc/self/cwd";
    if (fd != AT_FDCWD) {
        char digits[16];
        char *digit = digits + sizeof(digits);
        *--digit = '\0';
        if (fd < 0) {
            return false;
        }
        for (unsigned rest = (unsigned)fd; digit == digits + sizeof(digits) - 1 || rest > 0;
             rest /= 10) {
            *--digit = (char)('0' + rest % 10);
        }
        memcpy(link, "/proc/self/fd/", 15);
        memcpy(link + 14, digit, strlen(digit) + 1);
    }
    const long size = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (size <= 0) {
        return false;
    }
    path[size] = '\0';
    return path[0] == '/';
}

/* Is `path` the root or below it? Then what is below it goes to `name`. */
static bool below_root(const char *path, char name[PATH_MAX])
{
    if (root_bytes == 0 || strncmp(path, root, root_bytes) != 0) {
        return false;
    }
    if (path[root_bytes] != '\0' && path[root_bytes] != '/') {
        return false;
    }
    strcpy(name, path[root_bytes] ? path + root_bytes + 1 : "");
    return true;
}

static bool fd_in_scope(int fd, char name[PATH_MAX])
{
    char path[PATH_MAX];
    return root_bytes > 0 && fd_path(fd, path) && below_root(path, name);
}

static bool path_in_scope(int dir_fd, const char *relative, char name[PATH_MAX])
{
    char path[PATH_MAX];
    size_t used = 0;
    if (root_bytes == 0 || relative == NULL) {
        return false;
    }
    if (relative[0] != '/') {
        if (!fd_path(dir_fd, path)) {
            return false;
        }
        used = strlen(path);
        path[used++] = '/';
    }
    if (used + strlen(relative) >= PATH_MAX) {
        return false;
    }
    strcpy(path + used, relative);
    path_normalise(path);
    return below_root(path, name);
}

bool call_in_scope(struct call *call)
{
    const int saved = errno;
    bool in_scope;
    if (call->path == NULL) {
        in_scope = fd_in_scope(call->fd, call->name);
    } else {
        in_scope = path_in_scope(call->fd, call->path, call->name);
    }
    if (call->path2 != NULL) {
        in_scope = path_in_scope(call->fd2, call->path2, call->name2) || in_scope;
    }
    errno = saved;
    return in_scope;
}

/* ---- faults --------------------------------------------------------------------------------- */

static void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) {
        syscall(SYS_ppoll, NULL, 0, NULL, NULL, 0);
    }
}

enum action fault_next(enum class class)
{
    uint64_t number = atomic_fetch_add(&counts[class], 1) + 1;
    if (class <= CLASS_CREATE) {
        const uint64_t any = atomic_fetch_add(&counts[CLASS_ANY], 1) + 1;
        if (fault_class == CLASS_ANY) {
            number = any;
            class = CLASS_ANY;
        }
    }
    if (class != fault_class) {
        return ACTION_NONE;
    }
    if (fault_action == ACTION_FAIL_FROM ? number < fault_at : number != fault_at) {
        return ACTION_NONE;
    }
    if (fault_action == ACTION_KILL) {
        die();
    }
    return fault_action;
}

/* ---- the trace ------------------------------------------------------------------------------ */

static void trace_take(void)
{
    while (atomic_flag_test_and_set_explicit(&trace_lock, memory_order_acquire)) {
        syscall(SYS_sched_yield);
    }
}

static void trace_give(void)
{
    atomic_flag_clear_explicit(&trace_lock, memory_order_release);
}

static void trace_bytes(const void *data, size_t size)
{
    const char *next = data;
    while (size > 0) {
        const long written = syscall(SYS_write, trace_fd, next, size);
        if (written <= 0) {
            die(); /* a trace with a hole would be believed */
        }
        next += written;
        size -= (size_t)written;
    }
}

static size_t parts_bytes(const struct iovec *parts, int count)
{
    size_t size = 0;
    for (int i = 0; i < count; i++) {
        size += parts[i].iov_len;
    }
    return size;
}

/* The caller holds the lock. */
static void trace_record(const struct call *call, enum phase phase, uint64_t number, long result)
{
    const bool names = phase != PHASE_DONE;
    const bool data = phase == PHASE_BEGIN || call->kind == KIND_OUTPUT;
    const struct record record = {
        .magic = RECORD_MAGIC,
        .kind = (uint16_t)call->kind,
        .phase = (uint16_t)phase,
        .sequence = number,
        .result = result,
        .inode = call->inode,
        .offset = call->trace_offset,
        .size = (uint64_t)call->length,
        .flags = call->trace_flags,
        .process = (uint32_t)getpid(),
        .error = result < 0 ? errno : 0,
        .path_bytes = names ? (uint32_t)strlen(call->name) : 0,
        .path2_bytes = names ? (uint32_t)strlen(call->name2) : 0,
        .data_bytes = data ? parts_bytes(call->parts, call->parts_count) : 0,
    };
    trace_bytes(&record, sizeof(record));
    trace_bytes(call->name, record.path_bytes);
    trace_bytes(call->name2, record.path2_bytes);
    for (int i = 0; data && i < call->parts_count; i++) {
        trace_bytes(call->parts[i].iov_base, call->parts[i].iov_len);
    }
}

/* Fills in what the record of a call on a descriptor needs beside its arguments. */
static void trace_describe(struct call *call)
{
    struct stat about;
    const int flags = fcntl(call->fd, F_GETFL);
    if (fstat(call->fd, &about) == 0) {
        call->inode = about.st_ino;
    }
    call->trace_offset = (uint64_t)call->offset;
    if (call->kind == KIND_WRITE) {
        if (call->offset < 0) {
            const bool append = (flags & O_APPEND) != 0;
            call->trace_offset = (uint64_t)(append ? about.st_size : lseek(call->fd, 0, SEEK_CUR));
        }
        if ((flags & O_DSYNC) || (call->flags & (RWF_DSYNC | RWF_SYNC))) {
            call->trace_flags |= FLAG_DURABLE;
        }
    }
}

static long traced_data(struct call *call, call_fn *real)
{
    const uint64_t number = atomic_fetch_add(&sequence, 1);
    const int saved = errno;
    trace_take();
    trace_describe(call);
    trace_record(call, PHASE_BEGIN, number, 0);
    trace_give();
    errno = saved;
    const long result = real(call);
    const int error = errno;
    trace_take();
    trace_record(call, PHASE_DONE, number, result);
    trace_give();
    errno = error;
    return result;
}

static long traced_names(struct call *call, call_fn *real)
{
    trace_take();
    const long result = real(call);
    if (result >= 0) {
        struct stat about;
        const char *now = call->path2 != NULL ? call->path2 : call->path;
        const int dir_fd = call->path2 != NULL ? call->fd2 : call->fd;
        int found;
        if (call->kind == KIND_CREATE || call->kind == KIND_TRUNCATE) {
            found = fstat((int)result, &about);
        } else {
            found = fstatat(dir_fd, now, &about, AT_SYMLINK_NOFOLLOW);
        }
        call->inode = found == 0 ? about.st_ino : 0;
        trace_record(call, PHASE_WHOLE, atomic_fetch_add(&sequence, 1), result);
    }
    trace_give();
    return result;
}

/* ---- the way of every call ------------------------------------------------------------------ */

void trace_output(const struct call *call)
{
    struct call output = *call;
    const int saved = errno;
    output.kind = KIND_OUTPUT;
    trace_take();
    trace_record(&output, PHASE_WHOLE, atomic_fetch_add(&sequence, 1), 0);
    trace_give();
    errno = saved;
}

long call_run_in_scope(struct call *call, call_fn *real)
{
    const enum action action = fault_next(call->class);
    struct iovec *half = NULL;
    struct iovec parts[PARTS_MAX];
    if (action == ACTION_FAIL || action == ACTION_FAIL_FROM) {
        errno = fault_errno;
        return -1;
    }
    if (action == ACTION_KILL_TORN && call->class != CLASS_WRITE) {
        die();
    }
    if ((action == ACTION_KILL_TORN || action == ACTION_SHORT) && call->parts != NULL) {
        size_t left = (parts_bytes(call->parts, call->parts_count) + 1) / 2;
        int count = 0;
        for (; left > 0 && count < call->parts_count; count++) {
            parts[count] = call->parts[count];
            if (parts[count].iov_len > left) {
                parts[count].iov_len = left;
            }
            left -= parts[count].iov_len;
        }
        half = parts;
        call->parts = half;
        call->parts_count = count;
    } else if (action == ACTION_KILL_TORN || action == ACTION_SHORT) {
        call->length = (call->length + 1) / 2;
    }
    long result;
    if (trace_fd < 0 || call->kind == KIND_OTHER) {
        result = real(call);
    } else {
        result = call->names ? traced_names(call, real) : traced_data(call, real);
    }
    if (action == ACTION_KILL_AFTER || action == ACTION_KILL_TORN) {
        die();
    }
    return result;
}

long call_run(struct call *call, call_fn *real)
{
    return call_in_scope(call) ? call_run_in_scope(call, real) : real(call);
}

bool fault_has_root(void)
{
    return root_bytes > 0;
}

bool tracing(void)
{
    return trace_fd >= 0;
}

/* ---- start ---------------------------------------------------------------------------------- */

static int find_name(const char *const names[], int count, const char *name)
{
    for (int i = 0; name != NULL && i < count; i++) {
        if (names[i] != NULL && strcmp(names[i], name) == 0) {
            return i;
        }
    }
    return count;
}

/* Opens a file of our own, out of the way of the descriptors that the program expects. */
static int open_own(const char *path, int flags)
{
    const int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        die();
    }
    const int high_fd = fcntl(fd, F_DUPFD_CLOEXEC, 900);
    syscall(SYS_close, fd);
    if (high_fd < 0) {
        die();
    }
    return high_fd;
}

__attribute__((constructor)) static void start(void)
{
    const char *text = getenv("FAULT_COUNT");
    if (text != NULL) {
        const int fd = open_own(text, O_RDWR);
        void *memory = MAP_FAILED;
        if (syscall(SYS_ftruncate, fd, sizeof(own_counts)) == 0) {
            /* The root is not known yet, so this one does not count. */
            memory = mmap(NULL, sizeof(own_counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        }
        syscall(SYS_close, fd);
        if (memory == MAP_FAILED) {
            die();
        }
        counts = memory;
    }
    text = getenv("FAULT_TRACE");
    if (text != NULL) {
        trace_fd = open_own(text, O_WRONLY | O_APPEND);
    }
    fault_class = (enum class)find_name(class_names, CLASSES, getenv("FAULT_CLASS"));
    fault_action = (enum action)find_name(action_names, ACTIONS, getenv("FAULT_ACTION"));
    text = getenv("FAULT_AT");
    fault_at = text != NULL ? strtoull(text, NULL, 10) : 0;
    text = getenv("FAULT_ERRNO");
    fault_errno = text != NULL ? atoi(text) : EIO;
    text = getenv("FAULT_ROOT");
    if (text != NULL && text[0] == '/' && strlen(text) < sizeof(root)) {
        strcpy(root, text);
        path_normalise(root);
        root_bytes = strlen(root);
    }
}
