/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_CHANGE_H
#define TREE_CHANGE_H

/*
 * change: changes made at this node. Each call is one op: it happens whole, or an error tells why
 * not. In the write transaction of the caller; if that was changed before the error (kv_changes(),
 * content that the host does not know, for one), the caller aborts it.
 */

#include "tree/tree.h"

/* What a path has to be for the change to happen. */
enum tree_condition {
    TREE_ANY,      /* whatever it is */
    TREE_ABSENT,   /* not there: else -EEXIST */
    TREE_MATCHING, /* a file with the content `match`: else -ESTALE */
};

/* The new state of one path. */
struct tree_put {
    struct bytes path;
    enum tree_kind kind; /* file, directory or symlink */
    uint32_t mode;
    int64_t mtime_ns;
    struct id file_id;
    uint64_t size_bytes;
    struct bytes target;
    const struct tree_attribute *attributes; /* in ascending order of names */
    size_t attributes_count;
    enum tree_condition condition;
    struct id match;
};

/* Errors of all: -EINVAL, -EILSEQ, -ENAMETOOLONG (a path), -ENOTDIR (a name in the middle is no
 * directory), -EFBIG (more changes than one op may have), -EOVERFLOW (TREE_LAMPORT_MAX), -ENOSPC,
 * -EIO. */

/* Makes or replaces what is at put->path; directories in between come into being. -EISDIR: a
 * directory is there (and the new one is none); -EEXIST: the same reversed, or the condition;
 * -ESTALE; -ENOENT: TREE_MATCHING and nothing there, or content that the host does not know. */
[[nodiscard]] int tree_change_put(const struct tree *tree, struct kv_txn *txn,
                                  const struct tree_put *put, struct dot *ret_dot);

/* Makes the directory `top` hold exactly `puts` (whose paths lie below it) in one op; what else was
 * there goes. Conditions in `puts` are not looked at. -EEXIST: there is a file, or a path stands
 * twice in `puts`; -ENOTDIR: one of them is below another that is no directory. */
[[nodiscard]] int tree_change_replace_directory(const struct tree *tree, struct kv_txn *txn,
                                                const struct tree_put *top,
                                                const struct tree_put *puts, size_t puts_count,
                                                struct dot *ret_dot);

/* Many puts as one op, in this order (a directory put without --atomic, in batches). Also -EEXIST
 * and -ENOTDIR for paths of `puts` among themselves. */
[[nodiscard]] int tree_change_put_many(const struct tree *tree, struct kv_txn *txn,
                                       const struct tree_put *puts, size_t puts_count,
                                       struct dot *ret_dot);

/* -ENOENT; -ENOTEMPTY: a directory that holds something, and not `recursive`; -ESTALE. */
struct tree_delete {
    struct bytes path;
    bool recursive;
    enum tree_condition condition; /* TREE_ANY or TREE_MATCHING */
    struct id match;
};
[[nodiscard]] int tree_change_delete(const struct tree *tree, struct kv_txn *txn,
                                     const struct tree_delete *deletion, struct dot *ret_dot);

/* Those of `deletions` that are files or links and as their conditions want them, in one op; what
 * is a directory, another file by now, or not there stays as it is (`recursive` does not matter).
 * No path stands twice. *ret_count: how many went; 0: nothing was changed, *ret_dot is untouched.
 */
[[nodiscard]] int tree_change_delete_many(const struct tree *tree, struct kv_txn *txn,
                                          const struct tree_delete *deletions,
                                          size_t deletions_count, size_t *ret_count,
                                          struct dot *ret_dot);

/* Files onto files, directories onto nothing or an empty directory, as rename(2). -ENOENT;
 * -EEXIST, -EISDIR, -ENOTDIR, -ENOTEMPTY: what is at `to`; -EINVAL: into itself, or the root. */
[[nodiscard]] int tree_change_rename(const struct tree *tree, struct kv_txn *txn, struct bytes from,
                                     struct bytes to, struct dot *ret_dot);

/* What is at a path, changed in all but what it is. */
struct tree_set_attribute {
    struct tree_attribute attribute;
    bool is_removed; /* then its value does not matter, and it need not be there */
};
struct tree_set {
    struct bytes path;
    bool has_mode;
    uint32_t mode;
    bool has_mtime;
    int64_t mtime_ns; /* also of a directory that nobody made, which is made by this */
    const struct tree_set_attribute *changes; /* in ascending order of names, none twice */
    size_t changes_count;
};

/* A new version with the same content or target, which need not be here. -ENOENT; -EINVAL: the
 * root; -EFBIG also: more attributes than an entry may have. */
[[nodiscard]] int tree_change_set(const struct tree *tree, struct kv_txn *txn,
                                  const struct tree_set *set, struct dot *ret_dot);

/* Makes a version that tree_log() tells of `path` the only one again, as a new version with its
 * content, mode, time and attributes: what else the path has, shown or in conflict, goes to the
 * history. Of a path NAME~file, the file under a directory NAME. -ENOENT: no such version is known;
 * -ESTALE: a file of the past whose content is not held here; -ENOTEMPTY: it is no directory, and
 * a directory that holds something is there; -EEXIST: a directory, and `path` is a NAME~file. Takes
 * time with the number of versions that the path had. */
[[nodiscard]] int tree_change_restore(const struct tree *tree, struct kv_txn *txn,
                                      struct bytes path, const struct dot *version,
                                      struct dot *ret_dot);

/* Forgets versions that ended before `before_ms` (host time) and feed rows as old, at most `limit`
 * of each; *ret_more: there are others. */
[[nodiscard]] int tree_expire(const struct tree *tree, struct kv_txn *txn, uint64_t before_ms,
                              size_t limit, bool *ret_more);

#endif
