/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The part of the benchmark store-intake that has to be inside the process: the content of a file
 * as it comes from other nodes, block by block, into a store. It measures and prints a line of JSON
 * for each measurement; store-intake.py chooses and sums up.
 *
 *   bench_store_intake DIR BLOCK_BYTES BLOCKS_COUNT ROUNDS THREADS
 *
 * DIR is an empty directory. The content stands in memory, as it would after the socket, and in
 * DIR/plain for others to hash; it is another one in each round.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/codec.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/random.h"
#include "hash/sha256.h"
#include "store/hold.h"
#include "store/intake.h"
#include "store/maintain.h"

#define SEED 7
#define THREADS_MAX 64

static void must(const char *what, int err)
{
    if (err) {
        fprintf(stderr, "bench_store_intake: %s: %s\n", what, err_text(err));
        exit(1);
    }
}

static uint64_t number_of(const char *text)
{
    char *end = NULL;
    errno = 0;
    const uint64_t number = strtoull(text, &end, 10);
    must(text, errno || *end || number == 0 ? -EINVAL : 0);
    return number;
}

static double seconds_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

struct work {
    struct store *store;
    uint32_t block_bytes;
    uint32_t count;
    uint8_t *data;
    uint8_t *copy; /* room for one block a thread */
    struct file_metadata metadata;
    struct store_intake *intake;
    _Atomic uint32_t next;
    _Atomic uint32_t thread;
};

static struct bytes block_of(const struct work *work, uint32_t index)
{
    return BYTES(work->data + (size_t)index * work->block_bytes, work->block_bytes);
}

/* What it takes at least: every byte is moved once and hashed. */
static void *copy_and_hash(void *argument)
{
    struct work *work = argument;
    uint8_t *copy = work->copy + (size_t)atomic_fetch_add(&work->thread, 1) * work->block_bytes;
    for (uint32_t i = work->next++; i < work->count; i = work->next++) {
        memcpy(copy, block_of(work, i).data, work->block_bytes);
        struct id id;
        sha256_id(BYTES(copy, work->block_bytes), &id);
        must("hash", id_equal(&id, &work->metadata.blocks[i].id) ? 0 : -EBADMSG);
    }
    return NULL;
}

static void *take_blocks(void *argument)
{
    struct work *work = argument;
    for (uint32_t i = work->next++; i < work->count; i = work->next++) {
        must("block", store_intake_block(work->intake, i, block_of(work, i)));
    }
    return NULL;
}

/* All blocks by `threads_count` threads, and then, for an intake, the end of it. */
static void measure(struct work *work, const char *name, uint64_t threads_count,
                    void *(*run)(void *))
{
    pthread_t threads[THREADS_MAX];
    work->next = 0;
    work->thread = 0;
    const double begin = seconds_of(CLOCK_MONOTONIC);
    const double begin_cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    for (uint64_t i = 0; i < threads_count; i++) {
        must("thread", -pthread_create(&threads[i], NULL, run, work));
    }
    for (uint64_t i = 0; i < threads_count; i++) {
        pthread_join(threads[i], NULL);
    }
    const double taken = seconds_of(CLOCK_MONOTONIC);
    if (work->intake) {
        must("commit", store_intake_commit(work->intake));
        work->intake = NULL;
    }
    printf("{\"method\":\"%s\",\"threads\":%" PRIu64 ",\"block_bytes\":%" PRIu32
           ",\"bytes\":%" PRIu64 ",\"taken_seconds\":%.6f,\"seconds\":%.6f,\"cpu_seconds\":%.6f}\n",
           name, threads_count, work->block_bytes, work->count * (uint64_t)work->block_bytes,
           taken - begin, seconds_of(CLOCK_MONOTONIC) - begin,
           seconds_of(CLOCK_PROCESS_CPUTIME_ID) - begin_cpu);
    fflush(stdout);
}

/* Another content: every block has the number of the round in it. */
static void renew(struct work *work, uint64_t round)
{
    file_metadata_done(&work->metadata);
    work->metadata = FILE_METADATA_INIT;
    for (uint32_t i = 0; i < work->count; i++) {
        const struct bytes block = block_of(work, i);
        codec_put_le64(work->data + (size_t)i * work->block_bytes, round);
        struct id id;
        sha256_id(block, &id);
        must("metadata", file_metadata_add(&work->metadata, &id, work->block_bytes));
    }
}

static void forget(struct work *work, const struct id *file)
{
    const struct store_grace none = {0};
    must("release", store_release(work->store, file, STORE_FOLLOW));
    must("tidy", store_tidy(work->store, &none));
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: bench_store_intake DIR BLOCK_BYTES BLOCKS_COUNT ROUNDS THREADS\n");
        return 2;
    }
    const uint64_t rounds = number_of(argv[4]);
    const uint64_t threads_count = number_of(argv[5]);
    must("threads", threads_count > THREADS_MAX ? -EINVAL : 0);
    struct work work = {
        .block_bytes = (uint32_t)number_of(argv[2]),
        .count = (uint32_t)number_of(argv[3]),
    };
    const size_t size = (size_t)work.count * work.block_bytes;
    work.data = mem_alloc_aligned(4096, size);
    work.copy = mem_alloc_aligned(4096, threads_count * work.block_bytes);
    struct random random;
    random_init(&random, SEED);
    random_fill(&random, work.data, size);

    char path[4096];
    int plain_fd = -1;
    snprintf(path, sizeof path, "%s/plain", argv[1]);
    must("plain", file_open_at(AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL, 0666, &plain_fd));
    must("plain", file_write_all(plain_fd, BYTES(work.data, size)));
    close(plain_fd);
    snprintf(path, sizeof path, "%s/store", argv[1]);
    const struct store_options options = {.path = path};
    must("open", store_open(&options, &work.store));
    for (uint64_t round = 0; round < rounds; round++) {
        renew(&work, round);
        measure(&work, "copy+sha256", threads_count, copy_and_hash);
        must("intake", store_intake_open(work.store, &work.metadata, STORE_FOLLOW, &work.intake));
        const struct id file = *store_intake_id(work.intake);
        measure(&work, "intake", threads_count, take_blocks);
        forget(&work, &file);
    }
    store_close(work.store);
    file_metadata_done(&work.metadata);
    free(work.data);
    free(work.copy);
    return 0;
}
