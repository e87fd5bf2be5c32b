/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUSE_INODES_H
#define FUSE_INODES_H

/*
 * inodes: what the kernel knows by number: each a name in a directory, as the tree has them, or
 * none any more (it was deleted or replaced, and somebody has it open).
 *
 * An inode is one version of a file: when another node replaces the file, its name gets another
 * inode, as after a rename over it. So no page of one version is ever mixed with those of another,
 * and what the kernel keeps of an inode is right for as long as it keeps it. Writes of this mount
 * change the inode that they go to.
 *
 * Numbers are made of the number of the directory and the name, so that they are the same after a
 * forget or a new mount, most of the time: of two that collide the later one gets the next number.
 *
 * Pure: no clock, no I/O, no lock; the caller locks.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/map.h"
#include "hash/id.h"
#include "wire/tree_op.h"

#define INODE_ROOT UINT64_C(1) /* FUSE_ROOT_ID */

/* What is told of an entry. */
struct shape {
    enum tree_kind kind;
    uint32_t mode;
    int64_t mtime_ns;
    uint64_t size_bytes;
    struct id file_id; /* TREE_FILE: of what is in the tree; zeros: nothing yet */
    bool has_attributes;
    bool is_explicit; /* false: a directory that goes with the last thing in it */
};

/* A state of the tree and of what this mount changes: as long as it lasts what was found holds. */
struct moment {
    uint64_t snapshot; /* kv_snapshot(); 0: none */
    uint64_t changes;  /* mount.changes */
};

struct content; /* content.h */
struct draft;   /* draft.h */

struct inode {
    uint64_t number;
    uint64_t lookups;     /* that the kernel has to forget */
    unsigned pins;        /* of ours: open files, children, publications */
    struct inode *parent; /* NULL: the root, or without a name */
    uint8_t *key;         /* number of the parent and the name, NUL behind it; NULL likewise */
    size_t key_bytes;
    struct inode *children;
    struct inode *prev;
    struct inode *next;
    struct shape shape;
    struct moment found;      /* when it had this shape in the tree */
    struct moment listed;     /* when all that is in it was told, and until when the kernel */
    uint64_t listed_until_ms; /* believes that */
    char *target;             /* TREE_SYMLINK */
    struct content *content;  /* while it is open; NULL: nobody read yet */
    struct draft *draft;      /* while what was written is not published; else NULL */
    unsigned opens;           /* files open */
    unsigned writers;         /* those of them that may write */
    bool went_here;           /* its name was taken away by this mount */
    UT_hash_handle by_number;
    UT_hash_handle by_key;
};

struct inodes {
    struct inode *numbers;
    struct inode *keys;
    struct inode *root;
    void (*drop)(void *context, struct inode *inode); /* before one is freed; may be NULL */
    void *context;
};

void inodes_init(struct inodes *inodes);
void inodes_done(struct inodes *inodes);

/* NULL: not known. */
struct inode *inodes_find(const struct inodes *inodes, uint64_t number);
struct inode *inodes_child(const struct inodes *inodes, const struct inode *parent,
                           struct bytes name);

/* A new one named `name` in `parent`, which has no child of that name. `target` is copied; NULL for
 * all but links. Nobody has looked it up yet: the caller pins or counts before it does anything
 * else. */
struct inode *inodes_add(struct inodes *inodes, struct inode *parent, struct bytes name,
                         const struct shape *shape, const char *target);

/* The number that `name` in `parent` has, or would have if it was looked up now. */
uint64_t inodes_number(const struct inodes *inodes, const struct inode *parent, struct bytes name);

static inline bool moment_equal(const struct moment *a, const struct moment *b)
{
    return a->snapshot != 0 && a->snapshot == b->snapshot && a->changes == b->changes;
}

/* True if what is found at the inode's name is still this inode. */
bool inode_is(const struct inode *inode, const struct shape *shape, const char *target);

struct bytes inode_name(const struct inode *inode);

/* The path in the tree, in place of what is in `path`. -ENOENT: it has none any more;
 * -ENAMETOOLONG. */
[[nodiscard]] int inode_path(const struct inode *inode, struct buf *path);
/* The same of a name in the directory `parent`. */
[[nodiscard]] int inode_child_path(const struct inode *parent, struct bytes name, struct buf *path);

/* Takes its name away. It goes when nobody has it any more: `inode` may be freed. */
void inodes_detach(struct inodes *inodes, struct inode *inode);

/* Gives it another name; who has that loses it. `parent` is not below `inode`. */
void inodes_move(struct inodes *inodes, struct inode *inode, struct inode *parent,
                 struct bytes name);

/* Pins keep it in memory; the last to go may free it. */
void inodes_pin(struct inode *inode);
void inodes_unpin(struct inodes *inodes, struct inode *inode);

/* The kernel gives `count` of its lookups back. */
void inodes_forget(struct inodes *inodes, struct inode *inode, uint64_t count);

#endif
