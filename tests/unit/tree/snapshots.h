/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_TREE_SNAPSHOTS_H
#define TESTS_UNIT_TREE_SNAPSHOTS_H

/*
 * Snapshots in memory.
 */

#include "helpers.h"

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

#endif
