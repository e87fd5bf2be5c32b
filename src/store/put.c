/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Bytes on their way in: cut, hashed, compared with what is here, and written into reserved ranges
 * of segments. What makes them known is in commit.c.
 */

#include "store/put_priv.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "chunk/chunk.h"
#include "hash/sha256.h"
#include "store/files_priv.h"
#include "store/index_priv.h"
#include "store/pins_priv.h"
#include "store/store_priv.h"
#include "store/writer_priv.h"

_Static_assert(CHUNK_FILE_BLOCKS_MAX <= FILE_METADATA_BLOCKS_MAX, "every cut file can be named");

/* Others may take what was made, block by block, but not for ever. */
#define ROOM_TRIES_MAX 64u
/* What a stream is read by. */
#define STREAM_BYTES ((size_t)256 * 1024)

int store_put_begin(struct store *store, enum store_reason reason, struct store_put **ret_put)
{
    if (!store->writer) {
        return -EROFS;
    }
    if (writer_has_failed(store->writer)) {
        return -ENOTRECOVERABLE;
    }
    struct store_put *put = mem_alloc(sizeof *put);
    put->store = store;
    put->reason = reason;
    pthread_mutex_init(&put->lock, NULL);
    pthread_cond_init(&put->flushed, NULL);
    *ret_put = put;
    return 0;
}

void store_put_set_room(struct store_put *put, store_put_room_fn make_room, void *context)
{
    put->make_room = make_room;
    put->room_context = context;
}

static int reserve(const struct store_put *put, struct new_block *block)
{
    struct segments *segments = put->store->segments;
    int err = segments_reserve(segments, block->size_bytes, &block->reservation);
    for (unsigned i = 0; err == -ENOSPC && put->make_room && i < ROOM_TRIES_MAX; i++) {
        if (!put->make_room(put->room_context)) {
            break;
        }
        err = segments_reserve(segments, block->size_bytes, &block->reservation);
    }
    return err;
}

/* True if the block has a place that only the store can change. */
static int is_owned(struct store *store, const struct id *id, bool *ret_owned)
{
    struct kv_txn *txn = NULL;
    int err = kv_read(store->kv, &txn);
    if (err) {
        return err;
    }
    struct block_record record;
    err = index_block(txn, id, &record);
    kv_abort(txn);
    if (err && err != -ENOENT) {
        return err;
    }
    *ret_owned = !err && block_owned_location(&record);
    return 0;
}

/* `id` is that of `data`. */
static int ingest(const struct store_put *put, const struct id *id, struct bytes data,
                  uint64_t file_offset_bytes, struct ingested *ret_ingested)
{
    struct store *store = put->store;
    *ret_ingested = (struct ingested){.id = *id, .size_bytes = (uint32_t)data.size};
    /* Pinned first, then looked at: what is seen now stays. */
    const bool stays = pins_add(store->pins, id);
    ret_ingested->pinned = true;
    bool owned = false;
    int err = is_owned(store, id, &owned);
    if (err || (owned && stays)) {
        return err;
    }
    struct new_block *block =
        mem_alloc(sizeof *block + sizeof(uint32_t) * block_spans((uint32_t)data.size));
    block->id = *id;
    block->size_bytes = (uint32_t)data.size;
    block->file_offset_bytes = file_offset_bytes;
    block_crcs(data, block->crcs);
    ret_ingested->block = block;
    if (put->in_place_path) {
        return 0;
    }
    err = reserve(put, block);
    if (err) {
        return err;
    }
    block->written = true;
    return segments_write(store->segments, &block->reservation, data);
}

int put_ingest(const struct store_put *put, struct bytes data, uint64_t file_offset_bytes,
               struct ingested *ret_ingested)
{
    struct id id;
    sha256_id(data, &id);
    return ingest(put, &id, data, file_offset_bytes, ret_ingested);
}

void put_adopt(struct store_put *put, const struct ingested *ingested)
{
    if (ingested->pinned) {
        if (put->pinned_count == put->pinned_capacity) {
            put->pinned_capacity = put->pinned_capacity ? 2 * put->pinned_capacity : 4;
            put->pinned = mem_resize_array(put->pinned, put->pinned_capacity, sizeof(struct id));
        }
        put->pinned[put->pinned_count++] = ingested->id;
    }
    if (ingested->block) {
        if (put->pending_count == put->pending_capacity) {
            put->pending_capacity = put->pending_capacity ? 2 * put->pending_capacity : 4;
            put->pending =
                mem_resize_array(put->pending, put->pending_capacity, sizeof(struct new_block *));
        }
        put->pending[put->pending_count++] = ingested->block;
        put->pending_bytes += ingested->block->written ? ingested->size_bytes : 0;
        put->new_bytes += ingested->block->written ? ingested->size_bytes : 0;
    }
}

/* `id` is that of `data`. */
static int add_block(struct store_put *put, const struct id *id, struct bytes data)
{
    struct ingested ingested;
    int err = ingest(put, id, data, put->metadata.length_bytes, &ingested);
    put_adopt(put, &ingested);
    if (!err) {
        err = file_metadata_add(&put->metadata, id, ingested.size_bytes);
    }
    put_flush_if_full(put);
    return err;
}

int store_put_block(struct store_put *put, const struct id *id, struct bytes data)
{
    CHECK(put->window.size == 0 && !put->in_place_path);
    CHECK(data.size > 0 && data.size <= CHUNK_BLOCK_BYTES_MAX);
    return add_block(put, id, data);
}

/* Cuts and adds one block off the front of `ahead`, if there is enough of it. 0 in *ret_taken:
 * more is needed to decide. */
static int cut_block(struct store_put *put, struct bytes ahead, bool is_end, size_t *ret_taken)
{
    const struct chunker *chunker = chunker_fixed();
    const uint64_t offset_bytes = put->metadata.length_bytes;
    const uint32_t window = chunker->window_bytes(chunker, offset_bytes);
    *ret_taken = 0;
    if (ahead.size == 0 || (ahead.size < window && !is_end)) {
        return 0;
    }
    if (offset_bytes + ahead.size > CHUNK_FILE_BYTES_MAX) {
        return -EFBIG;
    }
    ahead.size = ahead.size < window ? ahead.size : window;
    const uint32_t size = chunker->cut(chunker, offset_bytes, ahead);
    struct id id;
    sha256_id(BYTES(ahead.data, size), &id);
    const int err = add_block(put, &id, BYTES(ahead.data, size));
    if (!err) {
        *ret_taken = size;
    }
    return err;
}

int store_put_write(struct store_put *put, struct bytes data)
{
    while (data.size > 0) {
        size_t taken = 0;
        /* Straight from the caller's memory as long as whole blocks stand in it. */
        if (put->window.size == 0) {
            const int err = cut_block(put, data, false, &taken);
            if (err) {
                return err;
            }
        }
        if (taken > 0) {
            data = BYTES(data.data + taken, data.size - taken);
            continue;
        }
        const struct chunker *chunker = chunker_fixed();
        const uint32_t window = chunker->window_bytes(chunker, put->metadata.length_bytes);
        size_t more = window - put->window.size;
        more = more < data.size ? more : data.size;
        buf_add(&put->window, BYTES(data.data, more));
        data = BYTES(data.data + more, data.size - more);
        const int err = cut_block(put, buf_bytes(&put->window), false, &taken);
        if (err) {
            return err;
        }
        buf_consume(&put->window, taken);
    }
    return 0;
}

int put_write_rest(struct store_put *put)
{
    while (put->window.size > 0) {
        size_t taken = 0;
        const int err = cut_block(put, buf_bytes(&put->window), true, &taken);
        if (err) {
            return err;
        }
        buf_consume(&put->window, taken);
    }
    return 0;
}

static int put_stream(struct store_put *put, int fd)
{
    CLEANUP_FREE uint8_t *data = mem_alloc_aligned(64, STREAM_BYTES);
    for (;;) {
        size_t size = 0;
        int err = file_read_full(fd, data, STREAM_BYTES, &size);
        if (!err && size > 0) {
            err = store_put_write(put, BYTES(data, size));
        }
        if (err || size < STREAM_BYTES) {
            return err;
        }
    }
}

/* How much of `size_bytes` is whole blocks: what comes behind them may belong to the last one. */
static uint64_t whole_blocks(const struct chunker *chunker, uint64_t size_bytes)
{
    uint64_t at = 0;
    uint32_t window = chunker->window_bytes(chunker, at);
    while (size_bytes - at >= window) {
        at += chunker->cut(chunker, at, BYTES(NULL, window));
        window = chunker->window_bytes(chunker, at);
    }
    return at;
}

/* The whole blocks by the worker pool, the rest as a stream. */
static int put_regular(struct store_put *put, int fd, uint64_t begin_bytes, uint64_t size_bytes)
{
    if (size_bytes > CHUNK_FILE_BYTES_MAX) {
        return -EFBIG;
    }
    const uint64_t whole_bytes = whole_blocks(chunker_fixed(), size_bytes);
    int err = ingest_file(put, fd, begin_bytes, whole_bytes);
    if (!err && lseek(fd, (off_t)(begin_bytes + whole_bytes), SEEK_SET) < 0) {
        err = err_from_errno(errno);
    }
    if (!err) {
        err = put_stream(put, fd);
    }
    if (!err && put->metadata.length_bytes + put->window.size < size_bytes) {
        err = -ESTALE;
    }
    return err;
}

int store_put_fd(struct store_put *put, int fd)
{
    struct stat stat;
    if (fstat(fd, &stat) < 0) {
        return err_from_errno(errno);
    }
    const off_t begin = lseek(fd, 0, SEEK_CUR);
    const struct chunker *chunker = chunker_fixed();
    const bool is_empty = put->metadata.length_bytes == 0 && put->window.size == 0;
    if (!S_ISREG(stat.st_mode) || begin < 0 || !is_empty || !chunker->by_offset_alone ||
        stat.st_size - begin <= (off_t)chunker->window_bytes(chunker, 0)) {
        return put_stream(put, fd);
    }
    return put_regular(put, fd, (uint64_t)begin, (uint64_t)(stat.st_size - begin));
}

static int read_in_place(struct store_put *put, int fd, const struct stat *before)
{
    if (!S_ISREG(before->st_mode)) {
        return S_ISDIR(before->st_mode) ? -EISDIR : -EINVAL;
    }
    int err = file_sync(fd);
    if (!err && before->st_size > 0) {
        err = ingest_file(put, fd, 0, (uint64_t)before->st_size);
    }
    if (err) {
        return err;
    }
    struct stat after;
    if (fstat(fd, &after) < 0) {
        return err_from_errno(errno);
    }
    struct file_identity identity;
    file_identity_of(&after, &identity);
    return file_identity_equal(&identity, &put->in_place_identity) ? 0 : -ESTALE;
}

int store_put_in_place(struct store_put *put, const char *path)
{
    CHECK(put->metadata.length_bytes == 0 && put->window.size == 0);
    if (path[0] != '/') {
        return -EINVAL;
    }
    if (strlen(path) >= PATH_MAX) {
        return -ENAMETOOLONG;
    }
    CLEANUP_FD int fd = -1;
    const int err = file_open_at(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &fd);
    if (err) {
        return err;
    }
    struct stat stat;
    if (fstat(fd, &stat) < 0) {
        return err_from_errno(errno);
    }
    put->in_place_path = mem_copy_string(path);
    file_identity_of(&stat, &put->in_place_identity);
    return read_in_place(put, fd, &stat);
}
