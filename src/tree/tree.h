/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_TREE_H
#define TREE_TREE_H

/*
 * tree: one namespace of files, directories and symbolic links, as a replicated map from path to
 * entry.
 *
 * Every change is an op in the log of the writer that made it (wire/tree_op.h). A change names the
 * versions that it replaces (its context); the versions of a path that nothing has replaced are its
 * heads. Normally there is one; concurrent changes on two nodes leave two, of which everybody shows
 * the same one and keeps the other. Deleting removes heads and leaves nothing behind; the version
 * vector, writer -> last op applied, keeps what was deleted from coming back. (Dotted version
 * vector sets, Preguica et al. 2010; per-writer logs as in Bayou, Terry et al. 1995.)
 *
 * A directory is an entry of its own when somebody made it, and exists in any case as long as
 * something lives below it. If a file and a directory have one name, the name shows the directory
 * and NAME~file the file.
 *
 * This header opens the tables and reads; tree/change.h writes, tree/feed.h tells what changed.
 *
 * Everything happens in a transaction of the caller's; nothing here blocks, has threads, or knows
 * a clock: the host is asked. A struct tree does not change after tree_open(), so any thread may
 * use it with a transaction of its own.
 */

#include "base/buf.h"
#include "base/bytes.h"
#include "hash/id.h"
#include "kv/kv.h"
#include "wire/path.h"
#include "wire/tree_op.h"

/* Tables that the tree needs, one after the other, in the environment of its host. */
#define TREE_TABLES 10
extern const char *const tree_table_names[TREE_TABLES];

/* What the tree asks of its host, inside its transactions. */
struct tree_host {
    /* The content `file` is named by the tree from now on, and no longer. 0, or an error that ends
     * the change; -ENOENT from hold: that content is not known here. `is_published`: it was brought
     * here by this change; else the change was made elsewhere, or moves what has a name already,
     * and -ENOENT may also say that others keep that content: it is not released then. */
    int (*hold)(void *context, struct kv_txn *txn, const struct id *file, bool is_published);
    int (*release)(void *context, struct kv_txn *txn, const struct id *file);
    /* Milliseconds that only go up, across restarts too. */
    uint64_t (*now_ms)(void *context);
    void *context;
};

/* No lamport is above this: the clock of a tree that has come there stands still, and nothing can
 * be changed any more. By honest changes it never does: a million in each second take 146,000
 * years. */
#define TREE_LAMPORT_MAX (UINT64_C(1) << 62)

struct tree;

/* Opens the tree whose first table is `first_table`; makes what is missing in `txn`, a write
 * transaction, with `origin` as this database's writer and `epoch` as the name of its feed (both
 * random; not used if the tree exists). `host` is copied. */
[[nodiscard]] int tree_open(struct kv_txn *txn, kv_table first_table, const struct tree_host *host,
                            const struct origin_id *origin, uint64_t epoch, struct tree **ret_tree);
void tree_close(struct tree *tree);

/* One version of a path. Byte strings are borrowed from the transaction. */
struct tree_version {
    enum tree_kind kind; /* never TREE_DELETE */
    uint32_t mode;
    int64_t mtime_ns;
    struct id file_id;       /* TREE_FILE */
    uint64_t size_bytes;     /* TREE_FILE */
    struct bytes target;     /* TREE_SYMLINK */
    struct bytes attributes; /* as in the op; tree_attribute_next() walks them */
    uint64_t lamport;
    struct dot dot;
};

/* Takes the next attribute off `*attributes`; false at the end. */
bool tree_attribute_next(struct bytes *attributes, struct tree_attribute *ret_attribute);

/* What a path shows. */
struct tree_entry {
    struct tree_version version; /* of a directory that nobody made: mode 0755, all else zero */
    bool is_explicit;            /* false: a directory that only exists by what is below it */
    bool is_hidden_file;         /* the file NAME that goes by NAME~file */
    uint32_t heads_count;        /* 2 or more: a conflict */
    uint64_t directory;          /* TREE_DIRECTORY: its number for listing; 0: nothing below */
};

/* `path` has passed path_check(). -ENOENT; -ENOTDIR: a name in the middle is no directory. The root
 * is a directory. */
[[nodiscard]] int tree_find(const struct tree *tree, struct kv_txn *txn, struct bytes path,
                            struct tree_entry *ret_entry);

/* One name of a listing; `name` is borrowed from the transaction, but for NAME~file from `buffer`.
 */
struct tree_listed {
    struct bytes name;
    struct tree_entry entry;
    char buffer[PATH_NAME_BYTES_MAX + sizeof "~file"];
};

/* The name after `after` (empty: the first) of the directory numbered `directory`, in the order
 * of bytes, but NAME~file right behind NAME. `after` need not be there any more; nothing is left
 * out then (but if a file really named NAME~file went, names between NAME and it come again).
 * -ENOENT: no more. */
[[nodiscard]] int tree_list_next(const struct tree *tree, struct kv_txn *txn, uint64_t directory,
                                 struct bytes after, struct tree_listed *ret_listed);

/* A walk over everything below a path, parents before what is in them. */
#define TREE_WALK_DEPTH_MAX (PATH_BYTES_MAX / 2 + 1)
struct tree_walk;
/* `after` (empty: none) is where an earlier walk ended: it goes on behind it. */
[[nodiscard]] int tree_walk_open(const struct tree *tree, struct kv_txn *txn, struct bytes top,
                                 struct bytes after, struct tree_walk **ret_walk);
/* The path is borrowed until the next call, the entry from the transaction. -ENOENT: the end. */
[[nodiscard]] int tree_walk_next(struct tree_walk *walk, struct bytes *ret_path,
                                 struct tree_entry *ret_entry);
/* Leaves out what is below the directory that was told last. */
void tree_walk_skip(struct tree_walk *walk);
void tree_walk_close(struct tree_walk *walk);

/* Visits the content that heads name, shown or not, of up to `limit` rows behind *position (empty:
 * from the first one on), and moves it; some twice or more. -ENOENT: that was all. Rows move about
 * between two calls, but not those of what tree_named_since() does not tell. */
[[nodiscard]] int tree_named(const struct tree *tree, struct kv_txn *txn, struct buf *position,
                             size_t limit, void (*visit)(void *context, const struct id *file),
                             void *context);
/* The same for what changes of the feed behind *position name, of up to `limit` positions. -ENOENT:
 * that was all; -ESTALE: not everything is known any more. */
[[nodiscard]] int tree_named_since(const struct tree *tree, struct kv_txn *txn, uint64_t *position,
                                   size_t limit,
                                   void (*visit)(void *context, const struct id *file),
                                   void *context);

/* The versions of a path that were replaced or deleted and are still known, the newest first, up
 * to `limit`; and its heads, the shown one first. Calls `visit` for each until it is not 0. */
struct tree_past {
    struct tree_version version;
    bool is_head;
    bool is_shown;
    uint64_t ended_ms; /* when it was replaced, in the host's time; 0: a head */
};
[[nodiscard]] int tree_log(const struct tree *tree, struct kv_txn *txn, struct bytes path,
                           size_t limit, int (*visit)(void *context, const struct tree_past *past),
                           void *context);

/* A sum over all heads of all paths: equal trees have equal ones, and a change costs O(1). */
#define TREE_FINGERPRINT_BYTES 32
struct tree_summary {
    uint8_t fingerprint[TREE_FINGERPRINT_BYTES];
    uint64_t entries_count; /* paths that have a head */
    uint64_t lamport;
    uint64_t epoch;          /* of the feed */
    uint64_t feed_last;      /* the newest position of the feed, 0: nothing yet */
    uint64_t feed_first;     /* the oldest kept one */
    struct origin_id origin; /* that local changes go to */
    uint64_t origin_seq;     /* of its last op; 0: none yet */
    struct id origin_hash;   /* of that op */
    uint64_t vector_sum;     /* tree/vector.h */
    uint64_t ops_count;      /* applied, of all logs together */
    bool is_merging;         /* tree/snapshot.h: vector and fingerprint do not belong together */
};
[[nodiscard]] int tree_summary(const struct tree *tree, struct kv_txn *txn,
                               struct tree_summary *ret_summary);

/* The fingerprint and the count computed anew from the entries: takes time with the size of the
 * tree. For tests and for the search of a divergence. */
[[nodiscard]] int tree_recompute(const struct tree *tree, struct kv_txn *txn,
                                 uint8_t ret_fingerprint[TREE_FINGERPRINT_BYTES],
                                 uint64_t *ret_entries_count);

/* By how much the fingerprint and the count that are kept differ from those computed anew: they are
 * no more than sums, and what changes the tree adds to them, so what was found in one transaction
 * holds in a later one. Takes as long as tree_recompute(), and mending no time. */
struct tree_miscount {
    uint64_t sum[4]; /* modulo 2^256, as the fingerprint */
    uint64_t entries;
};
[[nodiscard]] int tree_miscount(const struct tree *tree, struct kv_txn *txn,
                                struct tree_miscount *ret_miscount);
bool tree_miscount_is_none(const struct tree_miscount *miscount);
[[nodiscard]] int tree_miscount_mend(const struct tree *tree, struct kv_txn *txn,
                                     const struct tree_miscount *miscount);

#endif
