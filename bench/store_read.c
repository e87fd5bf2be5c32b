/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The part of the benchmark store-read that has to be inside the process: blocks out of a store
 * against the same bytes in the same order out of a plain file, and lookups in a large index. It
 * measures and prints a line of JSON for each measurement; store-read.py chooses and sums up.
 *
 *   bench_store_read blocks DIR BLOCK_BYTES BLOCKS_COUNT ROUNDS
 *   bench_store_read lookups DIR BLOCKS_COUNT ROUNDS
 *
 * DIR is an empty directory. All reads are by one thread, so a figure is one of a core.
 */

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/codec.h"
#include "base/file.h"
#include "base/mem.h"
#include "hash/crc32c.h"
#include "hash/sha256.h"
#include "store/put.h"
#include "store/read.h"

#include "measure.h"

#define SEED 7
#define THREADS_MAX 64
/* Ids looked up in a round. */
#define LOOKUPS 1000000

static struct store *open_store(const char *dir)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/store", dir);
    struct store *store = NULL;
    const struct store_options options = {.path = path};
    must("open", store_open(&options, &store));
    return store;
}

/* ---- blocks ---- */

struct blocks {
    struct store *store;
    int plain_fd; /* the same blocks, one after the other */
    uint32_t block_bytes;
    size_t count;
    struct id *ids;
    size_t *order;
    uint8_t *data; /* room for one block */
    uint32_t crcs; /* so that they are not computed for nothing */
};

static void block_answered(void *context, int err, const struct store_put_result *result)
{
    (void)context;
    (void)result;
    must("commit", err);
}

/* Each block is a file of its own, so its size can be chosen. */
static void fill_blocks(struct blocks *blocks, const char *dir)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/plain", dir);
    must("plain", file_open_at(AT_FDCWD, path, O_RDWR | O_CREAT | O_EXCL, 0666, &blocks->plain_fd));
    struct random random;
    random_init(&random, SEED);
    for (size_t i = 0; i < blocks->count; i++) {
        random_fill(&random, blocks->data, blocks->block_bytes);
        const struct bytes data = BYTES(blocks->data, blocks->block_bytes);
        sha256_id(data, &blocks->ids[i]);
        must("write", file_write_all_at(blocks->plain_fd, data, i * (uint64_t)data.size));
        struct store_put *put = NULL;
        must("put", store_put_begin(blocks->store, STORE_ORIGIN, &put));
        must("put", store_put_write(put, data));
        struct store_put_result result;
        if (i + 1 < blocks->count) {
            store_put_commit_async(put, block_answered, NULL);
        } else {
            must("commit", store_put_commit(put, &result));
        }
    }
    must("sync", file_sync(blocks->plain_fd));
}

static void read_plain(struct blocks *blocks, size_t i)
{
    must("pread", file_read_all_at(blocks->plain_fd, blocks->data, blocks->block_bytes,
                                   i * (uint64_t)blocks->block_bytes));
}

/* What a checked read costs at least: the copy and the checksum. */
static void read_plain_checked(struct blocks *blocks, size_t i)
{
    read_plain(blocks, i);
    blocks->crcs ^= crc32c(BYTES(blocks->data, blocks->block_bytes));
}

static void read_stored(struct blocks *blocks, size_t i)
{
    must("store_read_block",
         store_read_block(blocks->store, &blocks->ids[i], 0, blocks->data, blocks->block_bytes));
}

static void read_view(struct blocks *blocks, size_t i)
{
    struct store_view view;
    must("store_view_open", store_view_open(blocks->store, &blocks->ids[i], &view));
    store_view_close(&view);
}

static const struct {
    const char *name;
    void (*read)(struct blocks *blocks, size_t i);
} methods[] = {
    {"pread", read_plain},
    {"pread+crc32c", read_plain_checked},
    {"store_read_block", read_stored},
    {"store_view", read_view},
};

static void measure_blocks(struct blocks *blocks, const char *order_name)
{
    for (size_t method = 0; method < ARRAY_SIZE(methods); method++) {
        const struct stopwatch stopwatch = stopwatch_start();
        for (size_t i = 0; i < blocks->count; i++) {
            methods[method].read(blocks, blocks->order[i]);
        }
        printf("{\"method\":\"%s\",\"order\":\"%s\",\"block_bytes\":%" PRIu32 ",\"bytes\":%" PRIu64
               ",",
               methods[method].name, order_name, blocks->block_bytes,
               blocks->count * (uint64_t)blocks->block_bytes);
        print_times(stopwatch);
        puts("}");
    }
}

static void run_blocks(const char *dir, uint64_t block_bytes, uint64_t count, uint64_t rounds)
{
    struct blocks blocks = {
        .store = open_store(dir),
        .block_bytes = (uint32_t)block_bytes,
        .count = (size_t)count,
        .ids = mem_alloc_array((size_t)count, sizeof(struct id)),
        .order = mem_alloc_array((size_t)count, sizeof(size_t)),
        .data = mem_alloc_aligned(4096, (size_t)block_bytes),
    };
    fill_blocks(&blocks, dir);
    for (uint64_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < blocks.count; i++) {
            blocks.order[i] = i;
        }
        measure_blocks(&blocks, "sequential");
        shuffle(blocks.order, blocks.count, SEED + 1);
        measure_blocks(&blocks, "random");
    }
    store_close(blocks.store);
    close(blocks.plain_fd);
    free(blocks.data);
    free(blocks.order);
    free(blocks.ids);
}

/* ---- lookups ---- */

/* Block i of the index is the number i, 8 bytes. */
static void numbered_block(uint64_t number, uint8_t ret_data[8])
{
    codec_put_le64(ret_data, number);
}

struct fill {
    struct store *store;
    uint64_t begin;
    uint64_t end;
    _Atomic uint64_t *answered;
};

static void fill_answered(void *context, int err, const struct store_put_result *result)
{
    (void)result;
    struct fill *fill = context;
    must("commit", err);
    atomic_fetch_add(fill->answered, 1);
}

static void *fill_part(void *argument)
{
    struct fill *fill = argument;
    for (uint64_t i = fill->begin; i < fill->end; i++) {
        uint8_t data[8];
        numbered_block(i, data);
        struct store_put *put = NULL;
        must("put", store_put_begin(fill->store, STORE_ORIGIN, &put));
        must("put", store_put_write(put, BYTES(data, sizeof data)));
        store_put_commit_async(put, fill_answered, fill);
    }
    return NULL;
}

static void fill_index(struct store *store, uint64_t count)
{
    long threads_count = sysconf(_SC_NPROCESSORS_ONLN);
    threads_count = threads_count < 1             ? 1
                    : threads_count > THREADS_MAX ? THREADS_MAX
                                                  : threads_count;
    pthread_t threads[THREADS_MAX];
    struct fill fills[THREADS_MAX];
    _Atomic uint64_t answered = 0;
    const struct stopwatch stopwatch = stopwatch_start();
    for (long i = 0; i < threads_count; i++) {
        fills[i] = (struct fill){
            .store = store,
            .begin = count * (uint64_t)i / (uint64_t)threads_count,
            .end = count * (uint64_t)(i + 1) / (uint64_t)threads_count,
            .answered = &answered,
        };
        must("thread", -pthread_create(&threads[i], NULL, fill_part, &fills[i]));
    }
    for (long i = 0; i < threads_count; i++) {
        pthread_join(threads[i], NULL);
    }
    while (atomic_load(&answered) < count) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    printf("{\"fill\":%" PRIu64 ",", count);
    print_times(stopwatch);
    puts("}");
}

/* LOOKUPS random blocks out of `count` from `first` on; all are there, or none is. */
static void measure_lookups(struct store *store, const char *name, uint64_t first, uint64_t count,
                            bool expected, uint64_t round)
{
    struct id *ids = mem_alloc_array(LOOKUPS, sizeof(struct id));
    struct random random;
    random_init(&random, SEED + round);
    for (size_t i = 0; i < LOOKUPS; i++) {
        uint8_t data[8];
        numbered_block(first + random_below(&random, count), data);
        sha256_id(BYTES(data, sizeof data), &ids[i]);
    }
    const struct stopwatch stopwatch = stopwatch_start();
    size_t found = 0;
    for (size_t i = 0; i < LOOKUPS; i++) {
        found += store_has_block(store, &ids[i]);
    }
    printf("{\"lookups\":\"%s\",\"count\":%d,", name, LOOKUPS);
    print_times(stopwatch);
    puts("}");
    must("lookups", found == (expected ? LOOKUPS : 0) ? 0 : -EIO);
    free(ids);
}

static void run_lookups(const char *dir, uint64_t count, uint64_t rounds)
{
    struct store *store = open_store(dir);
    fill_index(store, count);
    store_close(store);
    for (uint64_t i = 0; i < rounds; i++) {
        const struct stopwatch stopwatch = stopwatch_start();
        store = open_store(dir);
        printf("{\"open\":%" PRIu64 ",", count);
        print_times(stopwatch);
        puts("}");
        if (i + 1 < rounds) {
            store_close(store);
        }
    }
    print_memory("opened");
    /* Once to bring the pages into the cache. */
    measure_lookups(store, "first", 0, count, true, rounds);
    for (uint64_t i = 0; i < rounds; i++) {
        measure_lookups(store, "present", 0, count, true, i);
        measure_lookups(store, "absent", count, count, false, i);
    }
    print_memory("looked up");
    struct store_status status;
    must("status", store_status(store, &status));
    printf("{\"blocks\":%" PRIu64 "}\n", status.blocks_count);
    store_close(store);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 6 && strcmp(argv[1], "blocks") == 0) {
        run_blocks(argv[2], number_of(argv[3]), number_of(argv[4]), number_of(argv[5]));
    } else if (argc == 5 && strcmp(argv[1], "lookups") == 0) {
        run_lookups(argv[2], number_of(argv[3]), number_of(argv[4]));
    } else {
        fputs("usage: bench_store_read blocks DIR BLOCK_BYTES BLOCKS_COUNT ROUNDS\n"
              "       bench_store_read lookups DIR BLOCKS_COUNT ROUNDS\n",
              stderr);
        return 2;
    }
    return 0;
}
