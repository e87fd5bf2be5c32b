/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_ADOPT_H
#define STORE_ADOPT_H

/*
 * adopt: files that somebody follows into a directory of this machine serve as the store's copy of
 * their blocks, so that they cost their bytes once.
 *
 * A path that is adopted is one holder of its file version for STORE_FOLLOW until it is released,
 * or its file is found changed; then the blocks that stood in it alone are not here any more. What
 * is held for STORE_ORIGIN or STORE_COPY always stands elsewhere, too, so nobody who changes or
 * deletes such a file destroys what was promised to be kept.
 *
 * Threads: as store.h; all block on the disk.
 */

#include "hash/id.h"
#include "store/store.h"

/* Smaller files are held in segments: what an external place costs (a row of an inode and a path,
 * two system calls more for each read, a page of the disk at the end) is as much as it saves. */
#define STORE_ADOPT_BYTES_MIN ((uint64_t)64 * 1024)

struct store_adopted {
    uint64_t file_bytes;     /* of blocks that stand in the file; 0: it is held in segments */
    uint64_t given_up_bytes; /* in segments, for that, now */
    /* Still in segments: held for another reason, an intake under way among them; or somebody is
     * busy with them. Another call may give them up. */
    uint64_t kept_bytes;
    uint64_t busy_bytes;
};

/*
 * Adopts the regular file `path` (absolute, no link) as content `file`, whose list of blocks is
 * known. Its bytes are made durable and compared with their ids, the places in it are made durable,
 * and only then those in segments are given up. The same again costs little and changes nothing,
 * unless the file was touched; then it is compared anew. A path that was adopted for other content
 * is released first.
 *
 *   -ENOENT   the list of blocks is not known, or (a small file) a block is not here
 *   -ESTALE   no such file, no regular one, or not that content
 *   -EINVAL, -ENAMETOOLONG  the path
 *   -EACCES, -EIO, -ENOSPC, -EROFS, -ENOTRECOVERABLE
 */
[[nodiscard]] int store_adopt(struct store *store, const struct id *file, const char *path,
                              struct store_adopted *ret_adopted);

/* Ends what store_adopt() did for this path and content. 0 also if there is nothing to end. */
[[nodiscard]] int store_adopt_end(struct store *store, const struct id *file, const char *path);

#endif
