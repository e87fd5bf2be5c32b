/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_TREE_SNAPSHOTS_H
#define TESTS_UNIT_TREE_SNAPSHOTS_H

/*
 * Snapshots in memory.
 */

#include "replicas.h"

#include "tree/snapshot.h"

static inline int append(void *context, struct bytes bytes)
{
    buf_add(context, bytes);
    return 0;
}

static inline int read_buf(void *context, uint64_t offset, void *ret_bytes, size_t size)
{
    const struct buf *file = context;
    assert_true(offset <= file->size && size <= file->size - offset);
    memcpy(ret_bytes, file->data + offset, size);
    return 0;
}

static inline struct tree_snapshot_source source_of(struct buf *file)
{
    return (struct tree_snapshot_source){read_buf, file, file->size};
}

static inline struct tree_snapshot_info snapshot_of(struct fixture *fixture, struct buf *ret_file)
{
    struct tree_snapshot_info info;
    assert_int_equal(tree_snapshot_write(fixture->tree, fixture->txn, append, ret_file, &info), 0);
    assert_int_equal(info.bytes, ret_file->size);
    return info;
}

static inline int check_snapshot(struct buf *file, struct tree_snapshot_info *ret_info)
{
    const struct tree_snapshot_source source = source_of(file);
    return tree_snapshot_check(&source, ret_info);
}

/* The hash at the end anew. */
static inline void seal(struct buf *file)
{
    struct id hash;
    sha256_id(BYTES(file->data, file->size - ID_BYTES), &hash);
    memcpy(file->data + file->size - ID_BYTES, hash.bytes, ID_BYTES);
}

/* ---- merging ---- */

static inline struct tree_snapshot *open_snapshot(struct buf *file)
{
    const struct tree_snapshot_source source = source_of(file);
    struct tree_snapshot *snapshot = NULL;
    struct tree_snapshot_info info;
    assert_int_equal(tree_snapshot_check(&source, &info), 0);
    assert_int_equal(tree_snapshot_open(&source, &snapshot), 0);
    return snapshot;
}

static inline struct tree_merge_options options_of(const struct buf *file,
                                                   enum tree_merge_mode mode)
{
    struct tree_merge_options options = {.mode = mode};
    sha256_id(buf_bytes(file), &options.snapshot);
    return options;
}

static inline int begin_merge(struct fixture *fixture, struct tree_snapshot *snapshot,
                              const struct tree_merge_options *options)
{
    return tree_merge_begin(fixture->tree, fixture->txn, snapshot, options);
}

static inline bool merge_step(struct fixture *fixture, struct tree_snapshot *snapshot,
                              size_t records_count)
{
    bool is_done = false;
    assert_int_equal(
        tree_merge_step(fixture->tree, fixture->txn, snapshot, records_count, &is_done), 0);
    return is_done;
}

static inline void merge_with(struct fixture *fixture, struct buf *file,
                              const struct tree_merge_options *options, size_t records_count)
{
    struct tree_snapshot *snapshot = open_snapshot(file);
    assert_int_equal(begin_merge(fixture, snapshot, options), 0);
    while (!merge_step(fixture, snapshot, records_count)) {
    }
    tree_snapshot_close(snapshot);
}

/* What `from` has, into `to`. */
static inline void merge_from(struct fixture *from, struct fixture *to, enum tree_merge_mode mode)
{
    CLEANUP_BUF struct buf file = BUF_INIT;
    (void)snapshot_of(from, &file);
    const struct tree_merge_options options = options_of(&file, mode);
    merge_with(to, &file, &options, 3);
    check_sums(to);
    check_vector(to);
}

#endif
