/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FOLLOW_PLACES_PRIV_H
#define FOLLOW_PLACES_PRIV_H

/*
 * places: what a follower remembers of its directory, in DIR/.artel-follow: each path that it put
 * something at, with what stood there then; directories that are switched, with their versions;
 * where in the stream of changes it is; and the runs of the command that are due.
 *
 * All places are in memory, too: some 250 bytes and the path of each.
 *
 * Threads: the engine's alone, but for the queue of hooks (hook_*), which a second one reads, and
 * that of adoptions, which a third one does.
 * Changes are made in a batch that is durable when places_commit() returns. After an error of it
 * memory and disk differ, and the follower ends.
 */

#include <sys/stat.h>

#include "base/map.h"
#include "follow/adoptions_priv.h"
#include "hash/id.h"
#include "kv/kv.h"

/* In the followed directory: all that is ours alone, and beside what it belongs to, versions of
 * directories. No path of the tree with such a name is followed. */
#define FOLLOW_DIR ".artel-follow"
#define FOLLOW_VERSIONS ".artel"

enum place_kind { PLACE_FILE = 1, PLACE_SYMLINK = 2, PLACE_DIRECTORY = 3 };

/* What tells one state of a file on disk from another. */
struct mark {
    uint64_t inode;
    uint64_t size_bytes;
    struct timespec mtime;
    struct timespec ctime;
};

struct mark mark_of(const struct stat *info);
/* The content is the same, as far as can be told without the ctime, which links change, too. */
bool mark_is_same_content(const struct mark *a, const struct mark *b);
bool mark_equal(const struct mark *a, const struct mark *b);

struct place {
    UT_hash_handle hh;
    enum place_kind kind;
    bool is_implied;  /* a directory that nothing wants but what is below it */
    bool is_intended; /* it may stand there already: decided when the follower starts */
    bool is_late;     /* it is adopted when its version is switched to; version_renew() */
    uint64_t version; /* the directory version that it is part of, or 0 */
    struct id id;     /* of the content; of a link: SHA-256 of its target */
    mode_t mode;      /* as the tree tells */
    struct timespec mtime;
    struct mark mark;
    char path[]; /* below the followed directory */
};

/* A directory that is switched: `path` is a symbolic link to .artel/NAME.NUMBER beside it. */
struct root {
    UT_hash_handle hh;
    uint64_t version;  /* the number that it is to show; 0: none yet */
    bool is_switching; /* the link may not show that yet */
    uint64_t *old;     /* versions that are kept, the newest first */
    size_t old_count;
    char path[];
};

struct places;

/* `follow_fd` is DIR/.artel-follow, and stays open. -EBUSY, -EIO, -ENOSPC, -EACCES,
 * -EPROTONOSUPPORT. */
[[nodiscard]] int places_open(int follow_fd, const char *follow_path, struct places **ret_places);
void places_close(struct places *places);
/* Gives up what was not committed: who waits to write goes on. NULL is allowed. */
void places_abandon(struct places *places);

/* The heads of all, for HASH_ITER; not to be changed but through this interface. */
struct place *places_all(struct places *places);
struct root *places_roots(struct places *places);
size_t places_count(const struct places *places);

struct place *places_find(struct places *places, const char *path);
struct root *places_find_root(struct places *places, const char *path);
/* The root that `path` lies in, or is: the outermost one. */
struct root *places_root_of(struct places *places, const char *path);

/* ---- a batch ------------------------------------------------------------------------------------
 */

/* Errors of what is below are kept and come out of places_commit(). What changes of files is queued
 * for adoption or release with it. */
void places_put(struct places *places, const struct place *values, const char *path);
void places_delete(struct places *places, struct place *place);
/* With `path` as the place's new path; its other values stay. */
void places_move(struct places *places, struct place *place, const char *path);

/* The root `path` as it is to be; `old` is copied. */
void places_put_root(struct places *places, const struct root *values, const char *path);
void places_delete_root(struct places *places, struct root *root);

/* Texts: "cursor", "token", "building". NULL deletes. */
void places_set(struct places *places, const char *key, const char *text);
/* The caller frees it; NULL: there is none. As of the last batch. */
char *places_get(struct places *places, const char *key);

/* A number for a directory version that was never used before. */
uint64_t places_next_number(struct places *places);

/* Behind all others. `json` is what hook_first() gives. */
void places_add_hook(struct places *places, const char *json);

/* The node is to look at the file again, which is as the place tells; or is to take it for its copy
 * no more. */
void places_adopt(struct places *places, const struct place *place);
void places_release(struct places *places, const struct place *place);

/* Nothing to commit is no error and costs nothing. */
[[nodiscard]] int places_commit(struct places *places);

/* ---- hooks that are due, from any thread --------------------------------------------------------
 */

/* The oldest; the caller frees *ret_json. -ENOENT: none is due. */
[[nodiscard]] int places_hook_first(struct places *places, uint64_t *ret_number, char **ret_json);
[[nodiscard]] int places_hook_done(struct places *places, uint64_t number);
uint64_t places_hooks_count(const struct places *places);

/* The queue of adoptions, for its thread. */
struct adoptions *places_adoptions(struct places *places);

#endif
