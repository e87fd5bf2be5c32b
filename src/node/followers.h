/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_FOLLOWERS_H
#define NODE_FOLLOWERS_H

/*
 * followers: processes that follow (`artel follow`), started with the node, started again when they
 * end, and ended with it. Commands of users run in them, never in the node.
 *
 * Threads: one for each process, which waits for its end. followers_read() from any.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

/* Each is a process with some twenty threads. */
#define FOLLOWERS_MAX 64u

/* What a text says: `PATTERN -> DIR [keep NUMBER] [exec COMMAND]`, the command to the end of it. */
struct follow_entry {
    char *pattern;
    char *dir;     /* absolute */
    char *command; /* or NULL */
    char *keep;    /* or NULL */
};

/* -EINVAL: it says nothing like that. The caller gives *ret_entry to follow_entry_done(). */
[[nodiscard]] int follow_entry_parse(const char *text, struct follow_entry *ret_entry);
void follow_entry_done(struct follow_entry *entry);

struct followers;

/* A process for each line of `lines`, talking to the node at `socket_path`. -EINVAL: a line makes
 * no sense (*ret_line tells which, from 1), or there are more than FOLLOWERS_MAX. */
[[nodiscard]] int followers_new(const char *lines, const char *socket_path, size_t *ret_line,
                                struct followers **ret_followers);

/* Starts them, when the node serves. */
void followers_start(struct followers *followers);

/* Ends them, and waits for that. */
void followers_stop(struct followers *followers);

/* The same, and forgets them. NULL is allowed. */
void followers_free(struct followers *followers);

size_t followers_count(const struct followers *followers);

/* True if one of them follows this path of the tree. NULL is allowed. */
bool followers_match(const struct followers *followers, struct bytes path);

struct follower_info {
    const char *pattern;
    const char *dir;
    pid_t pid;         /* 0: it does not run, and is started again soon */
    unsigned restarts; /* times that it ended by itself */
};

/* The number `index` of them. `state` gets what it wrote about itself lately, as JSON; nothing if
 * it wrote nothing yet, or does not run. Reads a small file. */
void followers_read(struct followers *followers, size_t index, struct follower_info *ret_info,
                    struct buf *state);

#endif
