/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FOLLOW_LOCAL_PRIV_H
#define FOLLOW_LOCAL_PRIV_H

/*
 * local: the followed directory itself. No symbolic link is ever gone through: a path is walked
 * name by name, so that nothing leaves the directory whatever somebody put there. Of one thread.
 */

#include <sys/stat.h>

#include "follow/places_priv.h"

struct local;

/* Makes DIR and DIR/.artel-follow/tmp if need be. */
[[nodiscard]] int local_open(const char *dir, struct local **ret_local);
void local_close(struct local *local);

/* Removes what a follower that was killed has left. Only with the lock of places_open(). */
void local_empty_staging(struct local *local);

int local_dir_fd(const struct local *local);
/* DIR/.artel-follow, and its tmp, where files are made. */
int local_follow_fd(const struct local *local);
int local_staging_fd(const struct local *local);

/* Opens the directory that `path` stands in; both results are borrowed until the next call here.
 * `make`: it comes into being. -ENOENT, -ENOTDIR. */
[[nodiscard]] int local_parent(struct local *local, const char *path, bool make, int *ret_fd,
                               const char **ret_name);

/* What stands at `path`. -ENOENT, also if its directory is not there. */
[[nodiscard]] int local_stat(struct local *local, const char *path, struct stat *ret_info);

/* True if `info`, which stands at the place, is what was put there. Reads the file if only its
 * ctime is another. */
bool local_is_ours(struct local *local, const struct place *place, const struct stat *info);

/* True if the file at `path` has the content `id`, cut by fixed chunking. */
bool local_has_content(struct local *local, const char *path, const struct id *id);

/* Moves what stands at `path` to NAME.local-TIME beside it. The caller frees *ret_beside. */
[[nodiscard]] int local_keep(struct local *local, const char *path, char **ret_beside);

/* Forgets open directories: one of them may have been moved. */
void local_forget(struct local *local);

/* Removes the directory `path` with all that is in it. What can't be removed stays. */
void local_remove_tree(struct local *local, const char *path);

/* Makes what was done to the names in the directory of `path` durable. */
[[nodiscard]] int local_sync_parent(struct local *local, const char *path);

/* The id that a symbolic link has here. */
void local_link_id(const char *target, struct id *ret_id);

#endif
