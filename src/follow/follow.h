/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FOLLOW_FOLLOW_H
#define FOLLOW_FOLLOW_H

/*
 * follow: keeps a directory of this machine equal to what of the tree matches a pattern, as a
 * client of a node. A version of a file appears whole, by rename; a directory that was published in
 * one step appears in one step, by a symbolic link; deletions and renames follow. A command runs at
 * least once for each arrival. README.md has what stands where.
 *
 * Threads: follow_run() belongs to one thread; follow_stop() may be called from any.
 * Crashes: all that it has to know stands in DIR/.artel-follow, durable before it counts.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct follow;

/* Old versions of a directory that are kept, at most. */
#define FOLLOW_KEEP_MAX 1000u

enum follow_news {
    FOLLOW_ARRIVED, /* `event` at `path` */
    FOLLOW_KEPT,    /* what somebody changed at `path` is now `beside` */
    FOLLOW_TROUBLE, /* `why`, about `path` if it is not NULL; it goes on, or is tried again */
    FOLLOW_NOTICE,  /* likewise, and nothing is wrong with the directory */
    FOLLOW_STATE,   /* the numbers below have changed; at most a few times a second */
};

struct follow_report {
    enum follow_news news;
    const char *event; /* put, delete, rename, atomic */
    const char *path;
    const char *from; /* of a rename, else "" */
    const char *id;   /* of a file, else "" */
    const char *beside;
    const char *why;
    uint64_t entries_count;  /* that stand in the directory */
    uint64_t arriving_count; /* to be fetched */
    uint64_t waiting_count;  /* that could not be fetched, and are tried again */
    uint64_t hooks_count;    /* runs of the command that are due */
    bool is_current;         /* all that was told until now has arrived */
};

struct follow_options {
    const char *address; /* of the node, as for client_new() */
    const char *pattern; /* as glob_of_words() takes it (tree/glob.h) */
    const char *dir;     /* made if it is not there */
    const char *command; /* NULL: none */
    int output_fd;       /* its standard output */
    unsigned keep_count; /* old versions of a directory published in one step */
    /* From any of its threads, one at a time. What it points to lives until it returns. */
    void (*report)(void *context, const struct follow_report *report);
    void *context;
};

/* -EINVAL: the address or the pattern; -EBUSY: somebody follows into this directory already;
 * -ENOTDIR, -EACCES, -EIO, -ENOSPC, -EPROTONOSUPPORT: the directory. `options` is copied. */
[[nodiscard]] int follow_open(const struct follow_options *options, struct follow **ret_follow);

/* Follows until follow_stop() (0), or until something fails that another attempt does not mend:
 * -ENOSPC, -EIO, -EACCES (the directory), -EPROTO (the node refuses). */
[[nodiscard]] int follow_run(struct follow *follow);

/* Ends follow_run() within a second or two. */
void follow_stop(struct follow *follow);

/* A command that runs is left to come to its end; it will run again. NULL is allowed. */
void follow_close(struct follow *follow);
CLEANUP_DEFINE(follow_close, struct follow)

#endif
