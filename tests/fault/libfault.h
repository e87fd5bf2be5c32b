/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FAULT_LIBFAULT_H
#define FAULT_LIBFAULT_H

/* libfault: what its files share. What it does stands at the top of libfault.c. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define PARTS_MAX 1024 /* IOV_MAX of Linux */

#pragma GCC visibility push(hidden)

/* The order is that of the counters in $FAULT_COUNT. */
enum class {
    CLASS_WRITE,
    CLASS_SYNC,
    CLASS_TRUNCATE,
    CLASS_PUNCH,
    CLASS_RENAME,
    CLASS_UNLINK,
    CLASS_CREATE, /* the last one that changes something */
    CLASS_OPEN,
    CLASS_READ,
    CLASS_MAP,
    CLASS_ALLOC,
    CLASS_ANY,
    CLASSES,
};

enum action {
    ACTION_NONE,
    ACTION_KILL,
    ACTION_KILL_AFTER,
    ACTION_KILL_TORN,
    ACTION_FAIL,
    ACTION_FAIL_FROM,
    ACTION_SHORT,
    ACTIONS,
};

/* Counts a call of `class` and says what to do with it. ACTION_KILL does not return. */
enum action fault_next(enum class class);

enum kind {
    KIND_OUTPUT = 1, /* data to standard output */
    KIND_CREATE,     /* inode: the new file */
    KIND_WRITE,      /* inode, offset, data; flags: FLAG_DURABLE */
    KIND_SYNC,       /* inode of a file or directory; flags: FLAG_DATA */
    KIND_SYNC_ALL,   /* syncfs */
    KIND_TRUNCATE,   /* inode, size: the new length */
    KIND_ALLOCATE,   /* inode, offset, size; flags: FLAG_KEEP_SIZE */
    KIND_PUNCH,      /* inode, offset, size; flags: FLAG_KEEP_SIZE */
    KIND_RENAME,     /* inode, path to path2; flags: FLAG_EXCHANGE */
    KIND_LINK,       /* inode, path to path2 */
    KIND_UNLINK,     /* path */
    KIND_MKDIR,      /* inode */
    KIND_RMDIR,      /* path */
    KIND_OTHER,      /* known, but no part of the model: sync_file_range, msync, reads */
};

#define FLAG_DURABLE 1u   /* O_SYNC, O_DSYNC or RWF_DSYNC: on disk when it returns */
#define FLAG_DATA 2u      /* fdatasync */
#define FLAG_KEEP_SIZE 4u /* FALLOC_FL_KEEP_SIZE */
#define FLAG_EXCHANGE 8u  /* RENAME_EXCHANGE */
#define FLAG_NO_NAME 16u  /* O_TMPFILE */

#define CALL_NAME_MAX 4096 /* PATH_MAX */

/* One interposed call on its way. */
struct call {
    enum class class;
    enum kind kind;
    bool names;        /* changes names: PHASE_WHOLE */
    int fd;            /* or -1 */
    int fd2;           /* source of a copy, second directory */
    const char *path;  /* relative to the directory fd */
    const char *path2; /* relative to the directory fd2 */
    int flags;         /* as the caller gave them */
    mode_t mode;
    int protection;
    off_t offset; /* -1: at the file position */
    off_t *offset_in;
    off_t *offset_out;
    off_t length;
    void *memory;
    const struct iovec *parts;
    int parts_count;
    uint64_t trace_flags;
    uint64_t trace_offset;
    uint64_t inode;
    char name[CALL_NAME_MAX]; /* below the root */
    char name2[CALL_NAME_MAX];
};

typedef long call_fn(struct call *call);

/* Is the file that the call is for below $FAULT_ROOT? Fills in its names. Keeps errno. */
bool call_in_scope(struct call *call);

/* Makes a call that is in scope: counts it, strikes with the fault, writes the trace, and returns
 * what `real` returned or the fault wants. */
long call_run_in_scope(struct call *call, call_fn *real);

/* The same for any call; one that is not in scope is just made. */
long call_run(struct call *call, call_fn *real);

/* Records the parts of a write to standard output, before it is made. */
void trace_output(const struct call *call);

bool tracing(void);
bool fault_has_root(void);

#pragma GCC visibility pop

#endif
