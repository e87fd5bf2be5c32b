/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A snapshot is one walk over the rows of the tree, in one transaction. It says no number of this
 * database: paths instead of directories, and writers by their place in a list of ids.
 */

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "hash/sha256.h"
#include "tree/row_walk_priv.h"
#include "tree/snapshot_priv.h"

/* Handed on in pieces of about this. */
#define PIECE_BYTES ((size_t)256 * 1024)

struct writer {
    const struct tree *tree;
    struct kv_txn *txn;
    int (*write)(void *context, struct bytes bytes);
    void *context;
    struct sha256 *hash;
    struct buf piece;
    uint64_t bytes;    /* handed on */
    uint32_t *indexes; /* of origins, by their numbers */
    size_t indexes_count;
    struct buf record;
    struct buf path; /* of the record before */
    struct head *sorted;
    size_t sorted_capacity;
};

static void writer_done(struct writer *writer)
{
    sha256_free(writer->hash);
    buf_done(&writer->piece);
    buf_done(&writer->record);
    buf_done(&writer->path);
    free(writer->indexes);
    free(writer->sorted);
}
#define CLEANUP_WRITER __attribute__((cleanup(writer_done)))

/* Hands on what was gathered. */
static int hand_on(struct writer *writer)
{
    const struct bytes piece = buf_bytes(&writer->piece);
    sha256_add(writer->hash, piece);
    const int err = writer->write(writer->context, piece);
    writer->bytes += piece.size;
    buf_clear(&writer->piece);
    return err;
}

static int hand_on_enough(struct writer *writer)
{
    return writer->piece.size < PIECE_BYTES ? 0 : hand_on(writer);
}

/* Counts the rows of TREE_ORIGIN_IDS, which are in the order of ids, and fills writer->indexes. */
static int index_origins(struct writer *writer, struct kv_txn *txn, uint32_t *ret_count)
{
    struct tree_state state;
    int err = state_get(writer->tree, txn, &state);
    if (err) {
        return err;
    }
    writer->indexes_count = state.next_origin;
    writer->indexes = mem_alloc_array(state.next_origin, sizeof *writer->indexes);
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    err = kv_cursor_open(txn, tree_table(writer->tree, TREE_ORIGIN_IDS), &cursor);
    uint32_t count = 0;
    while (!err) {
        struct bytes key;
        struct bytes value;
        err = kv_next(cursor, &key, &value);
        if (err) {
            break;
        }
        const uint32_t number = value.size == 4 ? codec_get_le32(value.data) : 0;
        if (number == 0 || number >= state.next_origin) {
            return -EIO;
        }
        writer->indexes[number] = count++;
    }
    *ret_count = count;
    return err == -ENOENT ? 0 : err;
}

static int put_origins(struct writer *writer, struct kv_txn *txn)
{
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    int err = kv_cursor_open(txn, tree_table(writer->tree, TREE_ORIGIN_IDS), &cursor);
    while (!err) {
        struct bytes key;
        struct bytes value;
        err = kv_next(cursor, &key, &value);
        struct origin_row row;
        if (!err) {
            err = origin_get(writer->tree, txn, codec_get_le32(value.data), &row);
            err = err == -ENOENT ? -EIO : err;
        } else if (err == -ENOENT) {
            return 0;
        }
        if (!err) {
            buf_add(&writer->piece, BYTES(row.id.bytes, sizeof row.id.bytes));
            field_put_u64(&writer->piece, row.seq);
            buf_add(&writer->piece, id_bytes(&row.hash));
            err = hand_on_enough(writer);
        }
    }
    return err;
}

static int put_replaced(struct writer *writer)
{
    CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
    int err = kv_cursor_open(writer->txn, tree_table(writer->tree, TREE_REPLACED), &cursor);
    while (!err) {
        struct bytes key;
        struct bytes value;
        err = kv_next(cursor, &key, &value);
        if (err == -ENOENT) {
            return 0;
        }
        if (!err) {
            err = key.size == SNAPSHOT_REPLACED_BYTES ? 0 : -EIO;
        }
        if (!err) {
            buf_add(&writer->piece, key);
            err = hand_on_enough(writer);
        }
    }
    return err;
}

/* Everything before the records. The vector is as of `vector_txn`. */
static int put_header(struct writer *writer, struct kv_txn *vector_txn,
                      const struct tree_state *state, uint32_t *ret_origins_count)
{
    uint32_t origins_count = 0;
    int err = index_origins(writer, vector_txn, &origins_count);
    if (err) {
        return err;
    }
    if (origins_count > SNAPSHOT_ORIGINS_MAX || state->replaced_count > SNAPSHOT_REPLACED_MAX) {
        return -EFBIG;
    }
    buf_add(&writer->piece, BYTES((const uint8_t *)SNAPSHOT_MAGIC, SNAPSHOT_MAGIC_BYTES));
    field_put_u32(&writer->piece, SNAPSHOT_VERSION);
    field_put_u64(&writer->piece, state->lamport);
    for (int i = 0; i < 4; i++) {
        field_put_u64(&writer->piece, state->fingerprint[i]);
    }
    field_put_u64(&writer->piece, state->entries_count);
    field_put_u32(&writer->piece, origins_count);
    field_put_u32(&writer->piece, (uint32_t)state->replaced_count);
    err = put_origins(writer, vector_txn);
    *ret_origins_count = origins_count;
    return err ? err : put_replaced(writer);
}

static void put_counted(struct buf *message, struct bytes string)
{
    number_put(message, string.size);
    buf_add(message, string);
}

static void put_head(struct buf *message, const struct head *head)
{
    const struct tree_version *version = &head->version;
    number_put(message, head->origin);
    number_put(message, version->dot.seq);
    number_put(message, version->lamport);
    field_put_u8(message, (uint8_t)version->kind);
    number_put(message, version->mode);
    field_put_u64(message, (uint64_t)version->mtime_ns);
    if (version->kind == TREE_FILE) {
        buf_add(message, id_bytes(&version->file_id));
        number_put(message, version->size_bytes);
    } else if (version->kind == TREE_SYMLINK) {
        put_counted(message, version->target);
    }
    put_counted(message, version->attributes);
}

static int compare_heads(const void *left, const void *right)
{
    const struct head *a = left;
    const struct head *b = right;
    if (a->origin != b->origin) {
        return a->origin < b->origin ? -1 : 1;
    }
    return (a->version.dot.seq > b->version.dot.seq) - (a->version.dot.seq < b->version.dot.seq);
}

/* The heads with indexes for numbers, in order. */
static int sort_heads(struct writer *writer, const struct entry_row *row)
{
    if (row->heads_count > SNAPSHOT_HEADS_MAX) {
        return -EFBIG;
    }
    if (row->heads_count > writer->sorted_capacity) {
        writer->sorted_capacity = 2 * row->heads_count;
        writer->sorted =
            mem_resize_array(writer->sorted, writer->sorted_capacity, sizeof *writer->sorted);
    }
    for (size_t i = 0; i < row->heads_count; i++) {
        const uint32_t number = row->heads[i].origin;
        if (number == 0 || number >= writer->indexes_count) {
            return -EIO;
        }
        writer->sorted[i] = row->heads[i];
        writer->sorted[i].origin = writer->indexes[number];
    }
    if (row->heads_count > 1) {
        qsort(writer->sorted, row->heads_count, sizeof *writer->sorted, compare_heads);
    }
    return 0;
}

static int put_record(struct writer *writer, struct bytes path, const struct entry_row *row)
{
    int err = sort_heads(writer, row);
    if (err) {
        return err;
    }
    buf_clear(&writer->record);
    const size_t shared = bytes_common_size(buf_bytes(&writer->path), path);
    number_put(&writer->record, shared);
    put_counted(&writer->record, BYTES(path.data + shared, path.size - shared));
    number_put(&writer->record, row->heads_count);
    for (size_t i = 0; i < row->heads_count; i++) {
        put_head(&writer->record, &writer->sorted[i]);
    }
    if (writer->record.size > TREE_SNAPSHOT_RECORD_BYTES_MAX) {
        return -EFBIG;
    }
    writer->path.size = shared;
    buf_add(&writer->path, BYTES(path.data + shared, path.size - shared));
    put_counted(&writer->piece, buf_bytes(&writer->record));
    return hand_on_enough(writer);
}

static int put_records(struct writer *writer, uint64_t *ret_count)
{
    CLEANUP_ROW_WALK struct row_walk walk = {0};
    int err = row_walk_begin(&walk, writer->tree, writer->txn, BYTES(NULL, 0));
    uint64_t count = 0;
    while (!err) {
        err = row_walk_next(&walk);
        if (!err) {
            count++;
            err = put_record(writer, buf_bytes(&walk.path), &walk.row);
        }
    }
    *ret_count = count;
    return err == -ENOENT ? 0 : err;
}

/* An empty record and the hash of everything before. */
static int put_end(struct writer *writer)
{
    number_put(&writer->piece, 0);
    int err = hand_on(writer);
    struct id hash;
    sha256_take(writer->hash, &hash);
    buf_add(&writer->piece, id_bytes(&hash));
    return err ? err : hand_on(writer);
}

int tree_snapshot_write(const struct tree *tree, struct kv_txn *txn,
                        int (*write)(void *context, struct bytes bytes), void *context,
                        struct tree_snapshot_info *ret_info)
{
    bool is_merging = false;
    struct tree_state state;
    int err = merge_mark_get(tree, txn, &is_merging);
    if (!err && is_merging && !(tree->omits & OMIT_NOT_BUSY)) {
        err = -EBUSY;
    }
    if (!err) {
        err = state_get(tree, txn, &state);
    }
    if (err) {
        return err;
    }
    CLEANUP_WRITER struct writer writer = {
        .tree = tree,
        .txn = txn,
        .write = write,
        .context = context,
        .hash = sha256_new(),
    };
    uint32_t origins_count = 0;
    uint64_t count = 0;
    err =
        put_header(&writer, tree->omitted_view ? tree->omitted_view : txn, &state, &origins_count);
    if (!err) {
        err = put_records(&writer, &count);
    }
    if (!err && count != state.entries_count) {
        err = -EIO;
    }
    if (!err) {
        err = put_end(&writer);
    }
    if (!err) {
        *ret_info = (struct tree_snapshot_info){writer.bytes, count, origins_count};
    }
    return err;
}
