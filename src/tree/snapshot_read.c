/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The bytes come from another node: nothing is believed. A snapshot has one spelling, so what is
 * read here is what tree_snapshot_write() writes of the same tree, or it is refused.
 */

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "hash/sha256.h"
#include "tree/remote.h"
#include "tree/snapshot_priv.h"

/* Read at once; a larger record makes room for itself. */
#define WINDOW_BYTES ((size_t)256 * 1024)
/* index, seq, lamport, kind, mode, mtime, attributes */
#define HEAD_BYTES_MIN ((size_t)(1 + 1 + 1 + 1 + 1 + 8 + 1))
/* So that the next one is never too large. */
#define SEQ_MAX ((uint64_t)INT64_MAX)

/* Where the records end: before the hash. */
static uint64_t records_end(const struct tree_snapshot *snapshot)
{
    return snapshot->source.bytes - ID_BYTES;
}

/* `size` bytes at `offset`, both within the file. */
static int fetch(struct tree_snapshot *snapshot, uint64_t offset, size_t size,
                 struct bytes *ret_bytes)
{
    const uint64_t window_end = snapshot->window_offset + snapshot->window_size;
    if (offset < snapshot->window_offset || offset + size > window_end) {
        const size_t capacity = size > WINDOW_BYTES ? size : WINDOW_BYTES;
        if (capacity > snapshot->window_capacity) {
            free(snapshot->window);
            snapshot->window = mem_alloc(capacity);
            snapshot->window_capacity = capacity;
        }
        const uint64_t left = snapshot->source.bytes - offset;
        const size_t count =
            left < snapshot->window_capacity ? (size_t)left : snapshot->window_capacity;
        snapshot->window_size = 0;
        const int err =
            snapshot->source.read(snapshot->source.context, offset, snapshot->window, count);
        if (err) {
            return err;
        }
        snapshot->window_offset = offset;
        snapshot->window_size = count;
    }
    *ret_bytes = BYTES(snapshot->window + (offset - snapshot->window_offset), size);
    return 0;
}

static void get_raw(struct field_reader *reader, void *ret_bytes, size_t size)
{
    const struct bytes raw = field_get_raw(reader, size);
    if (raw.size > 0) {
        memcpy(ret_bytes, raw.data, raw.size);
    }
}

static bool is_zero(const struct id *id)
{
    static const struct id zero = {0};
    return id_equal(id, &zero);
}

static int read_origins(struct tree_snapshot *snapshot, uint64_t offset)
{
    snapshot->origins = mem_alloc_array(snapshot->origins_count, sizeof *snapshot->origins);
    for (size_t i = 0; i < snapshot->origins_count; i++) {
        struct bytes bytes;
        const int err =
            fetch(snapshot, offset + i * SNAPSHOT_ORIGIN_BYTES, SNAPSHOT_ORIGIN_BYTES, &bytes);
        if (err) {
            return err;
        }
        struct field_reader reader = field_reader_of(bytes);
        struct vector_entry *entry = &snapshot->origins[i];
        get_raw(&reader, &entry->origin, sizeof entry->origin);
        entry->seq = field_get_u64(&reader);
        get_raw(&reader, &entry->hash, sizeof entry->hash);
        const bool in_order =
            i == 0 || memcmp(&entry[-1].origin, &entry->origin, sizeof entry->origin) < 0;
        if (!in_order || entry->seq > SEQ_MAX || (entry->seq == 0 && !is_zero(&entry->hash))) {
            return -EPROTO;
        }
    }
    return 0;
}

static int read_replaced(struct tree_snapshot *snapshot, uint64_t offset)
{
    snapshot->replaced = mem_alloc_array(snapshot->replaced_count, SNAPSHOT_REPLACED_BYTES);
    for (size_t i = 0; i < snapshot->replaced_count; i++) {
        struct bytes bytes;
        const int err =
            fetch(snapshot, offset + i * SNAPSHOT_REPLACED_BYTES, SNAPSHOT_REPLACED_BYTES, &bytes);
        if (err) {
            return err;
        }
        uint8_t *row = snapshot->replaced + i * SNAPSHOT_REPLACED_BYTES;
        memcpy(row, bytes.data, bytes.size);
        const uint64_t seq = codec_get_be64(row + sizeof(struct origin_id));
        if ((i > 0 && memcmp(row - SNAPSHOT_REPLACED_BYTES, row, bytes.size) >= 0) || seq == 0 ||
            seq > SEQ_MAX) {
            return -EPROTO;
        }
    }
    return 0;
}

static int read_header(struct tree_snapshot *snapshot)
{
    const uint64_t size = snapshot->source.bytes;
    struct bytes bytes;
    if (size < SNAPSHOT_HEADER_BYTES + 1 + ID_BYTES) {
        return -EPROTO;
    }
    const int err = fetch(snapshot, 0, SNAPSHOT_HEADER_BYTES, &bytes);
    if (err) {
        return err;
    }
    struct field_reader reader = field_reader_of(bytes);
    const struct bytes magic = field_get_raw(&reader, SNAPSHOT_MAGIC_BYTES);
    const uint32_t version = field_get_u32(&reader);
    if (!bytes_equal(magic, bytes_of_string(SNAPSHOT_MAGIC)) || version == 0) {
        return -EPROTO;
    }
    if (version > SNAPSHOT_VERSION) {
        return -EPROTONOSUPPORT;
    }
    snapshot->lamport = field_get_u64(&reader);
    get_raw(&reader, snapshot->fingerprint, sizeof snapshot->fingerprint);
    snapshot->entries_count = field_get_u64(&reader);
    const uint32_t origins_count = field_get_u32(&reader);
    const uint32_t replaced_count = field_get_u32(&reader);
    if (origins_count > SNAPSHOT_ORIGINS_MAX || replaced_count > SNAPSHOT_REPLACED_MAX) {
        return -EPROTO;
    }
    const uint64_t replaced_offset =
        SNAPSHOT_HEADER_BYTES + (uint64_t)origins_count * SNAPSHOT_ORIGIN_BYTES;
    snapshot->records_offset = replaced_offset + (uint64_t)replaced_count * SNAPSHOT_REPLACED_BYTES;
    if (snapshot->records_offset >= records_end(snapshot)) {
        return -EPROTO;
    }
    snapshot->origins_count = origins_count;
    snapshot->replaced_count = replaced_count;
    const int origins_err = read_origins(snapshot, SNAPSHOT_HEADER_BYTES);
    return origins_err ? origins_err : read_replaced(snapshot, replaced_offset);
}

int tree_snapshot_open(const struct tree_snapshot_source *source,
                       struct tree_snapshot **ret_snapshot)
{
    CLEANUP(tree_snapshot_close) struct tree_snapshot *snapshot = mem_alloc(sizeof *snapshot);
    snapshot->source = *source;
    const int err = read_header(snapshot);
    if (err) {
        return err;
    }
    snapshot_seek(snapshot, snapshot->records_offset, BYTES(NULL, 0));
    *ret_snapshot = STEAL_PTR(snapshot);
    return 0;
}

void tree_snapshot_close(struct tree_snapshot *snapshot)
{
    if (!snapshot) {
        return;
    }
    merge_caches_free(snapshot->caches);
    free(snapshot->origins);
    free(snapshot->replaced);
    free(snapshot->window);
    free(snapshot->heads);
    buf_done(&snapshot->path);
    buf_done(&snapshot->path_before);
    free(snapshot);
}

void snapshot_seek(struct tree_snapshot *snapshot, uint64_t offset, struct bytes before)
{
    snapshot->offset = offset;
    buf_clear(&snapshot->path);
    buf_add(&snapshot->path, before);
}

static struct bytes get_counted(struct field_reader *reader, size_t limit)
{
    return field_get_raw(reader, number_get(reader, limit));
}

/* Takes the path of a record: what it shares with the one before, and the rest. */
static void get_path(struct tree_snapshot *snapshot, struct field_reader *reader)
{
    const struct bytes before = buf_bytes(&snapshot->path);
    const size_t shared = number_get(reader, before.size);
    const struct bytes rest = get_counted(reader, PATH_BYTES_MAX);
    buf_clear(&snapshot->path_before);
    buf_add(&snapshot->path_before, BYTES(before.data, shared));
    buf_add(&snapshot->path_before, rest);
    const struct bytes path = buf_bytes(&snapshot->path_before);
    if (reader->bad || path_check(path) != 0 || path.size == 0 ||
        bytes_common_size(before, path) != shared || path_compare(before, path) >= 0) {
        field_fail(reader);
    }
    const struct buf swapped = snapshot->path;
    snapshot->path = snapshot->path_before;
    snapshot->path_before = swapped;
}

/* A version that an op could have made. */
static bool is_possible(struct bytes path, const struct tree_version *version)
{
    struct tree_attribute attributes[TREE_ATTRIBUTES_MAX];
    size_t count = 0;
    struct bytes left = version->attributes;
    while (count < TREE_ATTRIBUTES_MAX && tree_attribute_next(&left, &attributes[count])) {
        count++;
    }
    const struct tree_change change = {
        .kind = version->kind,
        .path = path,
        .mode = version->mode,
        .mtime_ns = version->mtime_ns,
        .file_id = version->file_id,
        .size_bytes = version->size_bytes,
        .target = version->target,
        .attributes = attributes,
        .attributes_count = count,
    };
    return left.size == 0 && version->kind != TREE_DELETE && tree_op_check_change(&change) == 0;
}

static void get_head(const struct tree_snapshot *snapshot, struct field_reader *reader,
                     struct head *ret_head)
{
    *ret_head = (struct head){0};
    struct tree_version *version = &ret_head->version;
    const uint64_t index = number_get(reader, UINT32_MAX);
    version->dot.seq = number_get(reader, SEQ_MAX);
    version->lamport = number_get(reader, snapshot->lamport);
    version->kind = (enum tree_kind)field_get_u8(reader);
    version->mode = (uint32_t)number_get(reader, UINT32_MAX);
    version->mtime_ns = (int64_t)field_get_u64(reader);
    if (version->kind == TREE_FILE) {
        get_raw(reader, &version->file_id, sizeof version->file_id);
        version->size_bytes = number_get(reader, UINT64_MAX);
    } else if (version->kind == TREE_SYMLINK) {
        version->target = get_counted(reader, TREE_TARGET_BYTES_MAX);
    }
    version->attributes = get_counted(reader, UINT16_MAX);
    if (reader->bad || index >= snapshot->origins_count || version->dot.seq == 0 ||
        version->lamport == 0 || !is_possible(buf_bytes(&snapshot->path), version)) {
        field_fail(reader);
        return;
    }
    ret_head->origin = (uint32_t)index;
    version->dot.origin = snapshot->origins[index].origin;
}

static bool is_before(const struct head *a, const struct head *b)
{
    return a->origin < b->origin ||
           (a->origin == b->origin && a->version.dot.seq < b->version.dot.seq);
}

static int get_record(struct tree_snapshot *snapshot, struct bytes bytes,
                      struct snapshot_record *ret_record)
{
    struct field_reader reader = field_reader_of(bytes);
    get_path(snapshot, &reader);
    const size_t count = number_get(&reader, SNAPSHOT_HEADS_MAX);
    if (count == 0 || count > reader.left.size / HEAD_BYTES_MIN) {
        return -EPROTO;
    }
    if (count > snapshot->heads_capacity) {
        snapshot->heads_capacity = 2 * count;
        snapshot->heads =
            mem_resize_array(snapshot->heads, snapshot->heads_capacity, sizeof *snapshot->heads);
    }
    for (size_t i = 0; i < count && !reader.bad; i++) {
        get_head(snapshot, &reader, &snapshot->heads[i]);
        if (i > 0 && !is_before(&snapshot->heads[i - 1], &snapshot->heads[i])) {
            field_fail(&reader);
        }
    }
    if (!field_reader_ended(&reader)) {
        return -EPROTO;
    }
    *ret_record = (struct snapshot_record){buf_bytes(&snapshot->path), snapshot->heads, count};
    return 0;
}

int snapshot_next(struct tree_snapshot *snapshot, struct snapshot_record *ret_record)
{
    const uint64_t end = records_end(snapshot);
    if (snapshot->offset >= end) {
        return -EPROTO;
    }
    const uint64_t left = end - snapshot->offset;
    struct bytes bytes;
    int err = fetch(snapshot, snapshot->offset,
                    left < NUMBER_BYTES_MAX ? (size_t)left : NUMBER_BYTES_MAX, &bytes);
    if (err) {
        return err;
    }
    struct field_reader reader = field_reader_of(bytes);
    const uint64_t size = number_get(&reader, TREE_SNAPSHOT_RECORD_BYTES_MAX);
    const size_t number_bytes = bytes.size - reader.left.size;
    if (reader.bad || size > left - number_bytes || (size == 0 && left > 1)) {
        return -EPROTO;
    }
    if (size == 0) {
        return -ENOENT;
    }
    err = fetch(snapshot, snapshot->offset + number_bytes, size, &bytes);
    if (!err) {
        err = get_record(snapshot, bytes, ret_record);
    }
    if (!err) {
        snapshot->offset += number_bytes + size;
    }
    return err;
}

size_t snapshot_origin(const struct tree_snapshot *snapshot, const struct origin_id *id)
{
    size_t low = 0;
    size_t high = snapshot->origins_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = memcmp(&snapshot->origins[middle].origin, id, sizeof *id);
        if (order == 0) {
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return snapshot->origins_count;
}

bool snapshot_has_replaced(const struct tree_snapshot *snapshot, const struct dot *dot,
                           struct bytes path)
{
    if (snapshot->replaced_count == 0) {
        return false;
    }
    uint8_t key[REPLACED_KEY_BYTES];
    (void)replaced_key(dot, path, key);
    size_t low = 0;
    size_t high = snapshot->replaced_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order =
            memcmp(snapshot->replaced + middle * SNAPSHOT_REPLACED_BYTES, key, sizeof key);
        if (order == 0) {
            return true;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return false;
}

/* The hash of all but itself stands at the end. */
static int check_hash(const struct tree_snapshot_source *source)
{
    if (source->bytes < ID_BYTES) {
        return -EPROTO;
    }
    CLEANUP_FREE uint8_t *piece = mem_alloc(WINDOW_BYTES);
    CLEANUP(sha256_free) struct sha256 *sha = sha256_new();
    const uint64_t end = source->bytes - ID_BYTES;
    for (uint64_t offset = 0; offset < end;) {
        const size_t count = end - offset < WINDOW_BYTES ? (size_t)(end - offset) : WINDOW_BYTES;
        const int err = source->read(source->context, offset, piece, count);
        if (err) {
            return err;
        }
        sha256_add(sha, BYTES(piece, count));
        offset += count;
    }
    struct id computed;
    struct id kept;
    sha256_take(sha, &computed);
    const int err = source->read(source->context, end, kept.bytes, sizeof kept.bytes);
    return err ? err : (id_equal(&computed, &kept) ? 0 : -EPROTO);
}

int tree_snapshot_check(const struct tree_snapshot_source *source,
                        struct tree_snapshot_info *ret_info)
{
    CLEANUP(tree_snapshot_close) struct tree_snapshot *snapshot = NULL;
    int err = tree_snapshot_open(source, &snapshot);
    if (!err) {
        err = check_hash(source);
    }
    uint64_t count = 0;
    while (!err) {
        struct snapshot_record record;
        err = snapshot_next(snapshot, &record);
        count += !err;
    }
    if (err != -ENOENT) {
        return err;
    }
    if (count != snapshot->entries_count) {
        return -EPROTO;
    }
    *ret_info = (struct tree_snapshot_info){source->bytes, count, snapshot->origins_count};
    return 0;
}
