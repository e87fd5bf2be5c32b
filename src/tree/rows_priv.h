/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_ROWS_PRIV_H
#define TREE_ROWS_PRIV_H

/*
 * rows: the tables of the tree and the bytes of their keys and values; docs/TREE-FORMAT.md has
 * them in full.
 */

#include "tree/feed.h"
#include "tree/tree.h"

enum tree_table {
    TREE_ENTRIES,     /* (directory, name) -> struct entry_row */
    TREE_DIRECTORIES, /* directory -> struct directory_row */
    TREE_META,        /* "state" -> struct tree_state */
    TREE_ORIGINS,     /* origin number -> struct origin_row */
    TREE_ORIGIN_IDS,  /* origin id -> origin number */
    TREE_OPS,         /* (origin number, seq, part) -> bytes of the op */
    TREE_FEED,        /* position -> struct feed_row */
    TREE_HISTORY,     /* (path hash, lamport, origin number, seq) -> ended_ms, head */
    TREE_EXPIRY,      /* (ended_ms, history key) -> nothing */
    TREE_REPLACED,    /* (origin id, seq, path hash) -> nothing */
};

struct tree {
    kv_table first_table;
    struct tree_host host;
    /* What the tests compare with: */
    bool forgets;                /* changes keep nothing in memory between paths */
    unsigned omits;              /* enum tree_omission */
    struct kv_txn *omitted_view; /* rule 1: the vector of a snapshot is taken from this one */
};

/* The rules of tree/snapshot.h, left out so that the tests can show that each is needed. */
enum tree_omission {
    OMIT_HELD_UP = 1,  /* rule 2: ops of others are applied during a merge */
    OMIT_NOT_BUSY = 2, /* rule 3: a snapshot is handed out during a merge */
    OMIT_GONE = 4,     /* rule 4: a head that we cover and lack is added again */
    OMIT_ABSENT = 8,   /* rule 4: a head that the snapshot covers and lacks stays */
    OMIT_REPLACED = 16 /* what local changes replaced too early is not remembered */
};

static inline kv_table tree_table(const struct tree *tree, enum tree_table table)
{
    return tree->first_table + (kv_table)table;
}

/* The number of the root; the others count up from here and are never used again. */
#define DIRECTORY_ROOT UINT64_C(1)

/* All single values. */
struct tree_state {
    uint64_t next_directory;
    uint64_t lamport;
    uint64_t entries_count;
    uint64_t epoch;
    uint64_t feed_first; /* oldest kept position; feed_last + 1: none */
    uint64_t feed_last;
    uint32_t own_origin; /* number of the writer that local changes go to */
    uint32_t next_origin;
    uint64_t fingerprint[4]; /* little-endian words of one sum modulo 2^256 */
    uint64_t vector_sum;     /* tree/vector.h */
    uint64_t ops_count;      /* sum of the sequences of all origins */
    uint64_t replaced_count; /* rows of TREE_REPLACED */
};

[[nodiscard]] int state_get(const struct tree *tree, struct kv_txn *txn,
                            struct tree_state *ret_state);
[[nodiscard]] int state_put(const struct tree *tree, struct kv_txn *txn,
                            const struct tree_state *state);

/* One version among the heads of an entry. Byte strings are borrowed. */
struct head {
    uint32_t origin; /* number; version.dot.origin is not kept in the row */
    bool is_held;    /* the host holds its content for us */
    struct tree_version version;
};

/* Holds a pointer into itself: it is passed by pointer and never copied. */
struct entry_row {
    uint64_t child; /* directory that lives below this name; 0: none */
    size_t heads_count;
    struct head *heads;
    struct head few[2]; /* room for the usual number */
};

void entry_row_done(struct entry_row *row);
#define CLEANUP_ENTRY_ROW __attribute__((cleanup(entry_row_done)))
/* Room for one head more, whose fields the caller fills. */
struct head *entry_row_add(struct entry_row *row);

/* -ENOENT: `ret_row` is an empty row then. */
[[nodiscard]] int entry_get(const struct tree *tree, struct kv_txn *txn, uint64_t directory,
                            struct bytes name, struct entry_row *ret_row);
[[nodiscard]] int entry_decode(struct bytes value, struct entry_row *ret_row);
/* The same into memory of the caller's: `copy` holds the byte strings, so that they outlive changes
 * of the transaction. */
[[nodiscard]] int entry_copy(const struct tree *tree, struct kv_txn *txn, uint64_t directory,
                             struct bytes name, struct buf *copy, struct entry_row *ret_row);
/* Writes the row. Its byte strings may be borrowed from `txn`, if nothing was changed since. */
[[nodiscard]] int entry_put(const struct tree *tree, struct kv_txn *txn, uint64_t directory,
                            struct bytes name, const struct entry_row *row);
/* The same for a row that is probably the last of the table and was not there. */
[[nodiscard]] int entry_append(const struct tree *tree, struct kv_txn *txn, uint64_t directory,
                               struct bytes name, const struct entry_row *row);
[[nodiscard]] int entry_remove(const struct tree *tree, struct kv_txn *txn, uint64_t directory,
                               struct bytes name);

#define ENTRY_KEY_BYTES_MAX (8 + PATH_NAME_BYTES_MAX)
struct bytes entry_key(uint64_t directory, struct bytes name, uint8_t key[ENTRY_KEY_BYTES_MAX]);

/* Encodes and decodes one head (also the value of a history row). */
void head_format(const struct head *head, struct buf *ret_bytes);
struct field_reader;
void head_read(struct field_reader *reader, struct head *ret_head);

/* The heads that are directories, or the others: of each only the greatest is shown. NULL: none.
 * Fills version.dot.origin of all heads. */
[[nodiscard]] int entry_shown(const struct tree *tree, struct kv_txn *txn, struct entry_row *row,
                              struct head **ret_directory, struct head **ret_file);

struct directory_row {
    uint64_t parent;
    uint64_t entries_count; /* rows of TREE_ENTRIES with this directory in their key */
    char name[PATH_NAME_BYTES_MAX];
    size_t name_bytes;
};

[[nodiscard]] int directory_get(const struct tree *tree, struct kv_txn *txn, uint64_t directory,
                                struct directory_row *ret_row);
[[nodiscard]] int directory_put(const struct tree *tree, struct kv_txn *txn, uint64_t directory,
                                const struct directory_row *row);
[[nodiscard]] int directory_remove(const struct tree *tree, struct kv_txn *txn, uint64_t directory);

struct origin_row {
    struct origin_id id;
    uint64_t seq;   /* of the last op applied, 0: none */
    struct id hash; /* of that op */
};

[[nodiscard]] int origin_get(const struct tree *tree, struct kv_txn *txn, uint32_t number,
                             struct origin_row *ret_row);
[[nodiscard]] int origin_put(const struct tree *tree, struct kv_txn *txn, uint32_t number,
                             const struct origin_row *row);
[[nodiscard]] int origin_decode(struct bytes value, struct origin_row *ret_row);
/* What it adds to the sum of the vector. */
uint64_t origin_sum(const struct origin_row *row);
/* Keeps the sums when the row of an origin changes; `before` may be of another origin if its seq is
 * 0, as that of one that was not there. */
void state_count_origin(struct tree_state *state, const struct origin_row *before,
                        const struct origin_row *after);
/* The number of an origin; -ENOENT: never seen. */
[[nodiscard]] int origin_number(const struct tree *tree, struct kv_txn *txn,
                                const struct origin_id *id, uint32_t *ret_number);
[[nodiscard]] int origin_add(const struct tree *tree, struct kv_txn *txn, struct tree_state *state,
                             const struct origin_id *id, uint32_t *ret_number);
/* Gives the origin `number`, whose row is `row`, another id. */
[[nodiscard]] int origin_rename(const struct tree *tree, struct kv_txn *txn, uint32_t number,
                                const struct origin_row *row, const struct origin_id *id);

/* Ops are kept in parts, so that no value is large. */
[[nodiscard]] int op_put(const struct tree *tree, struct kv_txn *txn, uint32_t origin, uint64_t seq,
                         struct bytes bytes);
[[nodiscard]] int op_get(const struct tree *tree, struct kv_txn *txn, uint32_t origin, uint64_t seq,
                         struct buf *ret_bytes);
/* Reads no more than the first part. */
[[nodiscard]] int op_get_lamport(const struct tree *tree, struct kv_txn *txn, uint32_t origin,
                                 uint64_t seq, uint64_t *ret_lamport);
/* The hash of the op before it in its log; zeros: it is the first. -ENOENT: the op is not kept.
 * Reads no more than the first part. */
[[nodiscard]] int op_get_previous(const struct tree *tree, struct kv_txn *txn, uint32_t origin,
                                  uint64_t seq, struct id *ret_previous);
[[nodiscard]] int op_remove(const struct tree *tree, struct kv_txn *txn, uint32_t origin,
                            uint64_t seq);

struct feed_row {
    enum tree_feed_kind kind;
    uint32_t origin; /* number; 0: what a snapshot changed, or a gap */
    uint64_t seq;    /* of the op; with origin 0 the position */
    uint64_t at_ms;  /* host time */
};
[[nodiscard]] int feed_decode(struct bytes value, struct feed_row *ret_row);
/* At a position behind all others. */
[[nodiscard]] int feed_put(const struct tree *tree, struct kv_txn *txn, uint64_t position,
                           const struct feed_row *row);

#define HISTORY_KEY_BYTES 36
#define EXPIRY_KEY_BYTES (8 + HISTORY_KEY_BYTES)
/* The first 16 bytes of the path's SHA-256: the rows of a path stand together, the newest last. */
#define HISTORY_PATH_BYTES 16
void history_path_key(struct bytes path, uint8_t ret_key[HISTORY_PATH_BYTES]);
/* What a row of the history holds. Byte strings are borrowed. -EIO: it is damaged. */
[[nodiscard]] int history_decode(struct bytes value, uint64_t *ret_ended_ms, struct head *ret_head);
/* The past versions of a path, the newest first. */
struct history_walk {
    struct kv_cursor *cursor;
    uint8_t before[HISTORY_KEY_BYTES + 1]; /* the next row stands before this key */
    size_t before_bytes;
};
[[nodiscard]] int history_walk_begin(const struct tree *tree, struct kv_txn *txn, struct bytes path,
                                     struct history_walk *ret_walk);
/* -ENOENT: no more. */
[[nodiscard]] int history_walk_next(struct history_walk *walk, uint64_t *ret_ended_ms,
                                    struct head *ret_head);
void history_walk_done(struct history_walk *walk);
#define CLEANUP_HISTORY_WALK __attribute__((cleanup(history_walk_done)))
/* Forgets a version and lets go of its content. -ENOENT: there is none. */
[[nodiscard]] int history_forget(const struct tree *tree, struct kv_txn *txn, struct bytes key);
/* What a merge that was given up took away may come again and be replaced: it is there once. */
[[nodiscard]] int history_add(const struct tree *tree, struct kv_txn *txn, struct bytes path,
                              const struct head *head, uint64_t ended_ms);

#define REPLACED_DOT_BYTES (sizeof(struct origin_id) + 8)
#define REPLACED_KEY_BYTES (REPLACED_DOT_BYTES + HISTORY_PATH_BYTES)
struct bytes replaced_key(const struct dot *dot, struct bytes path,
                          uint8_t key[REPLACED_KEY_BYTES]);

/* Versions that local changes replaced before the vector covered them (tree/snapshot.h): no late op
 * and no snapshot brings them back. One op has many paths, so a version is named by dot and path.
 * `state` is the caller's to write. */
[[nodiscard]] int replaced_add(const struct tree *tree, struct kv_txn *txn,
                               struct tree_state *state, const struct dot *dot, struct bytes path);
[[nodiscard]] int replaced_put(const struct tree *tree, struct kv_txn *txn,
                               struct tree_state *state, struct bytes key);
[[nodiscard]] int replaced_has(const struct tree *tree, struct kv_txn *txn,
                               const struct tree_state *state, const struct dot *dot,
                               struct bytes path, bool *ret_has);
/* The vector covers `dot` now, and all before it in that log: their rows go. */
[[nodiscard]] int replaced_trim(const struct tree *tree, struct kv_txn *txn,
                                struct tree_state *state, const struct dot *dot);

/* True while a snapshot is being merged: TREE_META has the row "merge". */
[[nodiscard]] int merge_mark_get(const struct tree *tree, struct kv_txn *txn, bool *ret_is_merging);

/* The order that all nodes agree on: (lamport, origin); version.dot.origin is filled. */
bool head_is_greater(const struct head *a, const struct head *b);

/* What one head adds to the fingerprint of the tree; version.dot.origin is filled. */
void fingerprint_of(struct bytes path, const struct tree_version *version, uint64_t ret_sum[4]);
void fingerprint_add(uint64_t sum[4], const uint64_t part[4]);
void fingerprint_subtract(uint64_t sum[4], const uint64_t part[4]);

#endif
