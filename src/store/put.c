/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The order that makes a put durable and whole: bytes into a reserved range of a segment, names of
 * the blocks and of the file in one transaction, and that is committed after the segment is
 * synced. A large file is named in parts of FLUSH_BYTES as it comes, so that little is written
 * twice after a crash; nobody holds those blocks until the last job names the file, and if that
 * never comes they are collected.
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

/* One job of the writer per so much: a sync of this takes a fraction of a second, and the next
 * part is hashed meanwhile. */
#define FLUSH_BYTES ((uint64_t)64 * 1024 * 1024)
#define FLUSH_BLOCKS 4096
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

int put_ingest(const struct store_put *put, struct bytes data, uint64_t file_offset_bytes,
               struct ingested *ret_ingested)
{
    struct store *store = put->store;
    *ret_ingested = (struct ingested){.size_bytes = (uint32_t)data.size};
    struct id *id = &ret_ingested->id;
    sha256_id(data, id);
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
    err = segments_reserve(store->segments, block->size_bytes, &block->reservation);
    if (err) {
        return err;
    }
    block->written = true;
    return segments_write(store->segments, &block->reservation, data);
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

/* Names a written block in the index. `held_soon`: a hold of it follows in the same apply. */
static int add_written(struct store *store, struct kv_txn *txn, const struct new_block *block,
                       bool held_soon)
{
    const struct reservation *place = &block->reservation;
    struct block_record record;
    int err = index_block(txn, &block->id, &record);
    if (!err && block_owned_location(&record)) {
        /* Somebody else was faster; our copy is not needed. */
        return index_add_dead(store, txn, &place->location, block->size_bytes);
    }
    const bool is_new = err == -ENOENT;
    if (is_new) {
        record = (struct block_record){.size_bytes = block->size_bytes};
        memcpy(record.crcs, block->crcs, sizeof(uint32_t) * block_spans(block->size_bytes));
    } else if (err) {
        return err;
    }
    err =
        index_add_location(store, txn, &block->id, &record, &place->location, place->segment_class);
    if (err) {
        return err;
    }
    return is_new && held_soon ? index_put_block_raw(txn, &block->id, &record)
                               : index_put_block(store, txn, &block->id, &record);
}

/* Blocks handed to the writer. */
struct flush_job {
    struct store_job job;
    struct store *store;
    struct store_put *put; /* NULL: it is gone */
    struct new_block **blocks;
    size_t blocks_count;
};

static void settle_blocks(struct store *store, struct new_block **blocks, size_t blocks_count)
{
    for (size_t i = 0; i < blocks_count; i++) {
        if (blocks[i]->written) {
            segments_settle(store->segments, &blocks[i]->reservation);
        }
        free(blocks[i]);
    }
    free(blocks);
}

static int flush_apply(struct store_job *job, struct kv_txn *txn)
{
    const struct flush_job *flush = CONTAINER_OF(job, struct flush_job, job);
    int err = 0;
    for (size_t i = 0; !err && i < flush->blocks_count; i++) {
        err = add_written(flush->store, txn, flush->blocks[i], false);
    }
    return err;
}

static void flush_done(struct store_job *job, int err)
{
    struct flush_job *flush = CONTAINER_OF(job, struct flush_job, job);
    struct store_put *put = flush->put;
    settle_blocks(flush->store, flush->blocks, flush->blocks_count);
    free(flush);
    if (!put) {
        return;
    }
    pthread_mutex_lock(&put->lock);
    put->flush_err = put->flush_err ? put->flush_err : err;
    put->flushes--;
    pthread_cond_signal(&put->flushed);
    pthread_mutex_unlock(&put->lock);
}

/* Names the ranges as dead instead: the put was given up. */
static int discard_apply(struct store_job *job, struct kv_txn *txn)
{
    const struct flush_job *flush = CONTAINER_OF(job, struct flush_job, job);
    int err = 0;
    for (size_t i = 0; !err && i < flush->blocks_count; i++) {
        const struct new_block *block = flush->blocks[i];
        if (block->written) {
            err =
                index_add_dead(flush->store, txn, &block->reservation.location, block->size_bytes);
        }
    }
    return err;
}

/* Hands what is pending to the writer, on behalf of `owner` (NULL: nobody waits for it). */
static void submit_pending(struct store_put *put, store_apply_fn apply, struct store_put *owner)
{
    struct flush_job *flush = mem_alloc(sizeof *flush);
    *flush = (struct flush_job){
        .job = {.apply = apply, .done = flush_done},
        .store = put->store,
        .put = owner,
        .blocks = put->pending,
        .blocks_count = put->pending_count,
    };
    put->pending = NULL;
    put->pending_count = 0;
    put->pending_capacity = 0;
    put->pending_bytes = 0;
    if (owner) {
        pthread_mutex_lock(&owner->lock);
        owner->flushes++;
        pthread_mutex_unlock(&owner->lock);
    }
    store_submit(put->store, &flush->job);
}

void put_flush_if_full(struct store_put *put)
{
    if (!put->in_place_path &&
        (put->pending_bytes >= FLUSH_BYTES || put->pending_count >= FLUSH_BLOCKS)) {
        submit_pending(put, flush_apply, put);
    }
}

static int add_block(struct store_put *put, struct bytes data)
{
    struct ingested ingested;
    int err = put_ingest(put, data, put->metadata.length_bytes, &ingested);
    put_adopt(put, &ingested);
    if (!err) {
        err = file_metadata_add(&put->metadata, &ingested.id, ingested.size_bytes);
    }
    put_flush_if_full(put);
    return err;
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
    const int err = add_block(put, BYTES(ahead.data, size));
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

/* What is left in the window is the end of the file. */
static int write_rest(struct store_put *put)
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
    return ingest_file(put, fd, (uint64_t)begin, (uint64_t)(stat.st_size - begin));
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

/* True if the block has a place in this very file already. */
static int is_in_file(const struct store_put *put, struct kv_txn *txn,
                      const struct block_record *record, bool *ret_is)
{
    for (uint8_t i = 0; i < record->locations_count; i++) {
        if (!location_is_external(&record->locations[i])) {
            continue;
        }
        struct external external;
        const int err = externals_get(txn, record->locations[i].container, &external);
        if (err && err != -ENOENT) {
            return err;
        }
        if (!err && !external.withdrawn &&
            file_identity_equal(&external.identity, &put->in_place_identity) &&
            strcmp(external.path, put->in_place_path) == 0) {
            *ret_is = true;
            return 0;
        }
    }
    *ret_is = false;
    return 0;
}

/* Names a block that lies in the file outside; registers the file with the first one. */
static int add_in_place(const struct store_put *put, struct kv_txn *txn,
                        const struct new_block *block, uint64_t *container)
{
    struct block_record record;
    int err = index_block(txn, &block->id, &record);
    bool is_there = false;
    if (err == -ENOENT) {
        record = (struct block_record){.size_bytes = block->size_bytes};
        memcpy(record.crcs, block->crcs, sizeof(uint32_t) * block_spans(block->size_bytes));
        err = 0;
    } else if (!err) {
        err = is_in_file(put, txn, &record, &is_there);
        is_there = is_there || block_owned_location(&record);
    }
    if (err || is_there) {
        return err;
    }
    if (*container == 0) {
        err = externals_add(txn, &put->in_place_identity, put->in_place_path, container);
    }
    if (!err) {
        const struct location location = {*container, block->file_offset_bytes};
        err = index_add_location(put->store, txn, &block->id, &record, &location, SEGMENT_LARGE);
    }
    return err ? err : index_put_block(put->store, txn, &block->id, &record);
}

struct commit_job {
    struct store_job job;
    struct store_put *put;
    struct id file_id;
    store_put_done_fn done;
    void *context;
};

static int hold_once(struct store_put *put, struct kv_txn *txn, const struct id *id)
{
    struct file_row row;
    const int err = files_get(txn, id, &row);
    if (err) {
        return err;
    }
    if (row.holders[put->reason] > 0) {
        return files_check(txn, &put->metadata);
    }
    return files_hold(put->store, txn, id, put->reason);
}

/* What went wrong before the commit: the list of blocks may be short then. */
static int failure_of(struct store_put *put)
{
    pthread_mutex_lock(&put->lock);
    const int err = put->flush_err;
    pthread_mutex_unlock(&put->lock);
    return err;
}

static int commit_apply(struct store_job *job, struct kv_txn *txn)
{
    const struct commit_job *commit = CONTAINER_OF(job, struct commit_job, job);
    struct store_put *put = commit->put;
    uint64_t container = 0;
    int err = failure_of(put);
    for (size_t i = 0; !err && i < put->pending_count; i++) {
        err = put->in_place_path ? add_in_place(put, txn, put->pending[i], &container)
                                 : add_written(put->store, txn, put->pending[i], true);
    }
    if (!err) {
        err = files_add(txn, &commit->file_id, &put->metadata);
    }
    return err ? err : hold_once(put, txn, &commit->file_id);
}

/* Ends a put; what it wrote and nobody named is given back. */
static void free_put(struct store_put *put)
{
    if (put->pending_count > 0) {
        submit_pending(put, discard_apply, NULL);
    }
    for (size_t i = 0; i < put->pinned_count; i++) {
        pins_drop(put->store->pins, &put->pinned[i]);
    }
    free(put->pinned);
    free(put->in_place_path);
    buf_done(&put->window);
    file_metadata_done(&put->metadata);
    pthread_cond_destroy(&put->flushed);
    pthread_mutex_destroy(&put->lock);
    free(put);
}

static void commit_done(struct store_job *job, int err)
{
    struct commit_job *commit = CONTAINER_OF(job, struct commit_job, job);
    struct store_put *put = commit->put;
    /* Jobs are answered in order, so all parts of this put have been. */
    CHECK(put->flushes == 0);
    err = put->flush_err ? put->flush_err : err;
    if (!err) {
        settle_blocks(put->store, put->pending, put->pending_count);
        put->pending_count = 0;
    }
    const struct store_put_result result = {
        .id = commit->file_id,
        .length_bytes = put->metadata.length_bytes,
        .new_bytes = put->new_bytes,
    };
    free_put(put);
    commit->done(commit->context, err, err ? NULL : &result);
    free(commit);
}

void store_put_commit_async(struct store_put *put, store_put_done_fn done, void *context)
{
    struct commit_job *commit = mem_alloc(sizeof *commit);
    *commit = (struct commit_job){
        .job = {.apply = commit_apply, .done = commit_done},
        .put = put,
        .done = done,
        .context = context,
    };
    const int err = write_rest(put);
    pthread_mutex_lock(&put->lock);
    put->flush_err = put->flush_err ? put->flush_err : err;
    pthread_mutex_unlock(&put->lock);
    file_metadata_id(&put->metadata, &commit->file_id);
    store_submit(put->store, &commit->job);
}

struct commit_wait {
    pthread_mutex_t lock;
    pthread_cond_t answered;
    bool done;
    int err;
    struct store_put_result result;
};

static void commit_answered(void *context, int err, const struct store_put_result *result)
{
    struct commit_wait *wait = context;
    pthread_mutex_lock(&wait->lock);
    wait->done = true;
    wait->err = err;
    if (result) {
        wait->result = *result;
    }
    pthread_cond_signal(&wait->answered);
    pthread_mutex_unlock(&wait->lock);
}

int store_put_commit(struct store_put *put, struct store_put_result *ret_result)
{
    struct commit_wait wait = {
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .answered = PTHREAD_COND_INITIALIZER,
    };
    store_put_commit_async(put, commit_answered, &wait);
    pthread_mutex_lock(&wait.lock);
    while (!wait.done) {
        pthread_cond_wait(&wait.answered, &wait.lock);
    }
    pthread_mutex_unlock(&wait.lock);
    pthread_cond_destroy(&wait.answered);
    pthread_mutex_destroy(&wait.lock);
    if (!wait.err) {
        *ret_result = wait.result;
    }
    return wait.err;
}

void store_put_abort(struct store_put *put)
{
    if (!put) {
        return;
    }
    pthread_mutex_lock(&put->lock);
    while (put->flushes > 0) {
        pthread_cond_wait(&put->flushed, &put->lock);
    }
    pthread_mutex_unlock(&put->lock);
    free_put(put);
}
