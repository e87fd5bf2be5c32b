/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A large file goes through libuv's worker pool: each worker reads, hashes and writes one block,
 * several blocks are under way at once, and their order is restored here. Hashing is what takes
 * the time (1.3 GB/s a core, CRC and copy far more), and it spreads over all cores this way.
 */

#include "store/put_priv.h"

#include <stdlib.h>
#include <uv.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "chunk/chunk.h"

/* Blocks under way at once: more than the pool has threads (4 unless UV_THREADPOOL_SIZE says
 * otherwise), so that none waits for this thread. Times 16 MiB is what a file costs at most. */
#define SLOTS 8

struct ingest;

struct slot {
    uv_work_t work;
    struct ingest *ingest;
    uint8_t *data;
    size_t data_capacity;
    size_t index; /* of the block in the file */
    uint64_t offset_bytes;
    uint32_t size_bytes;
    int err;
    struct ingested ingested;
};

struct ingest {
    struct store_put *put;
    uv_loop_t loop;
    int fd;
    uint64_t begin_bytes;
    uint64_t size_bytes;
    uint64_t next_bytes; /* where the next block begins, counted from begin_bytes */
    int err;

    struct block_ref *refs; /* of all blocks so far, in file order */
    size_t refs_count;
    size_t refs_capacity;
    struct slot slots[SLOTS];
};

static void work(uv_work_t *request)
{
    struct slot *slot = CONTAINER_OF(request, struct slot, work);
    const struct ingest *ingest = slot->ingest;
    slot->ingested = (struct ingested){0};
    slot->err = file_read_all_at(ingest->fd, slot->data, slot->size_bytes,
                                 ingest->begin_bytes + slot->offset_bytes);
    if (slot->err) {
        slot->err = slot->err == -ENOENT ? -ESTALE : slot->err;
        return;
    }
    slot->err = put_ingest(ingest->put, BYTES(slot->data, slot->size_bytes), slot->offset_bytes,
                           &slot->ingested);
}

static void work_done(uv_work_t *request, int status);

/* Gives the slot the next block of the file, if there is one. */
static void start_slot(struct ingest *ingest, struct slot *slot)
{
    const uint64_t left = ingest->size_bytes - ingest->next_bytes;
    if (ingest->err || left == 0) {
        return;
    }
    if (ingest->size_bytes > CHUNK_FILE_BYTES_MAX) {
        ingest->err = -EFBIG;
        return;
    }
    /* The cut depends on the offset and the size ahead alone (by_offset_alone). */
    const struct chunker *chunker = chunker_fixed();
    const uint32_t window = chunker->window_bytes(chunker, ingest->next_bytes);
    const struct bytes ahead = BYTES(NULL, left < window ? (size_t)left : window);
    slot->size_bytes = chunker->cut(chunker, ingest->next_bytes, ahead);
    slot->offset_bytes = ingest->next_bytes;
    slot->index = ingest->refs_count;
    if (slot->data_capacity < slot->size_bytes) {
        free(slot->data);
        slot->data = mem_alloc_aligned(4096, slot->size_bytes);
        slot->data_capacity = slot->size_bytes;
    }
    if (ingest->refs_count == ingest->refs_capacity) {
        ingest->refs_capacity = ingest->refs_capacity ? 2 * ingest->refs_capacity : 64;
        ingest->refs = mem_resize_array(ingest->refs, ingest->refs_capacity, sizeof *ingest->refs);
    }
    ingest->refs_count++;
    ingest->next_bytes += slot->size_bytes;
    CHECK(uv_queue_work(&ingest->loop, &slot->work, work, work_done) == 0);
}

static void work_done(uv_work_t *request, int status)
{
    (void)status; /* nobody cancels */
    struct slot *slot = CONTAINER_OF(request, struct slot, work);
    struct ingest *ingest = slot->ingest;
    put_adopt(ingest->put, &slot->ingested);
    if (slot->err) {
        ingest->err = ingest->err ? ingest->err : slot->err;
        return;
    }
    ingest->refs[slot->index] =
        (struct block_ref){.id = slot->ingested.id, .size_bytes = slot->size_bytes};
    put_flush_if_full(ingest->put);
    start_slot(ingest, slot);
}

int ingest_file(struct store_put *put, int fd, uint64_t begin_bytes, uint64_t size_bytes)
{
    CLEANUP_FREE struct ingest *ingest = mem_alloc(sizeof *ingest);
    ingest->put = put;
    ingest->fd = fd;
    ingest->begin_bytes = begin_bytes;
    ingest->size_bytes = size_bytes;
    const int failed = uv_loop_init(&ingest->loop);
    if (failed) {
        return err_from_errno(-failed);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        ingest->slots[i].ingest = ingest;
        start_slot(ingest, &ingest->slots[i]);
    }
    uv_run(&ingest->loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&ingest->loop) == 0);

    int err = ingest->err;
    for (size_t i = 0; !err && i < ingest->refs_count; i++) {
        err = file_metadata_add(&put->metadata, &ingest->refs[i].id, ingest->refs[i].size_bytes);
    }
    for (size_t i = 0; i < SLOTS; i++) {
        free(ingest->slots[i].data);
    }
    free(ingest->refs);
    return err;
}
