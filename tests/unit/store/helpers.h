/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_STORE_HELPERS_H
#define TESTS_UNIT_STORE_HELPERS_H

/*
 * What the tests of the store share: a directory of their own with a store in it whose clock moves
 * when it is told to, content that is made from a seed, and comparisons of what comes out.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "hash/sha256.h"
#include "store/hold.h"
#include "store/maintain.h"
#include "store/put.h"
#include "store/read.h"
#include "store/store.h"
#include "wire/file_metadata.h"

#define KIB ((size_t)1024)
#define MIB (KIB * 1024)
#define PAGE ((uint64_t)4096)
#define BLOCK (256 * KIB) /* of a file below 256 MiB */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED true
#else
#define IS_SANITIZED false
#endif

/* For threads and children, where cmocka's assertions must not be used. */
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#define assert_ok(err) assert_int_equal((err), 0)

/* ---- a directory and the store in it -------------------------------------------------------- */

struct scratch {
    char root[64];       /* removed in the end */
    char store_path[96]; /* root/store */
    struct clock_manual clock;
    struct store *store;
    struct store_options options;
};

static inline void scratch_open(struct scratch *scratch)
{
    assert_null(scratch->store);
    assert_ok(store_open(&scratch->options, &scratch->store));
}

static inline void scratch_close(struct scratch *scratch)
{
    store_close(scratch->store);
    scratch->store = NULL;
}

static inline void scratch_reopen(struct scratch *scratch)
{
    scratch_close(scratch);
    scratch_open(scratch);
}

/* Fixture: a directory in memory if there is one, so that syncs cost nothing; no store yet. */
static inline int scratch_set_up_empty(void **state)
{
    log_set_level(LOG_OFF); /* what is damaged here is damaged on purpose */
    struct scratch *scratch = mem_alloc(sizeof *scratch);
    const char *parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : getenv("TMPDIR");
    snprintf(scratch->root, sizeof scratch->root, "%s/artel-test-XXXXXX",
             parent && strlen(parent) < 40 ? parent : "/tmp");
    if (!mkdtemp(scratch->root)) {
        return -1;
    }
    snprintf(scratch->store_path, sizeof scratch->store_path, "%s/store", scratch->root);
    clock_manual_init(&scratch->clock, 1000000);
    scratch->options = (struct store_options){
        .path = scratch->store_path,
        .clock = &scratch->clock.clock,
        .segment_bytes = MIB,
        .reserve_bytes = 1,
        .index_map_bytes = 1024 * MIB,
    };
    *state = scratch;
    return 0;
}

/* Fixture: with an open store. */
static inline int scratch_set_up(void **state)
{
    if (scratch_set_up_empty(state) != 0) {
        return -1;
    }
    struct scratch *scratch = *state;
    return store_open(&scratch->options, &scratch->store);
}

static inline int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *walk)
{
    (void)stat;
    (void)kind;
    (void)walk;
    return remove(path);
}

static inline int scratch_tear_down(void **state)
{
    struct scratch *scratch = *state;
    scratch_close(scratch);
    const int failed = nftw(scratch->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(scratch);
    return failed;
}

/* A test with its own store, or with its own empty directory. */
#define STORE_TEST(test) cmocka_unit_test_setup_teardown(test, scratch_set_up, scratch_tear_down)
#define DIRECTORY_TEST(test)                                                                       \
    cmocka_unit_test_setup_teardown(test, scratch_set_up_empty, scratch_tear_down)

static inline void advance(struct scratch *scratch, uint64_t by_ms)
{
    clock_manual_advance(&scratch->clock, by_ms);
}

static inline struct store_status status_of(struct store *store)
{
    struct store_status status;
    assert_ok(store_status(store, &status));
    return status;
}

/* What the files in segments/ take on the disk, those included that the index does not know. */
static inline uint64_t disk_bytes(const struct scratch *scratch)
{
    char path[128];
    snprintf(path, sizeof path, "%s/segments", scratch->store_path);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    uint64_t bytes = 0;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        struct stat stat;
        if (entry->d_name[0] != '.' && fstatat(dirfd(dir), entry->d_name, &stat, 0) == 0) {
            bytes += (uint64_t)stat.st_blocks * 512;
        }
    }
    closedir(dir);
    return bytes;
}

/* Waits until the writer has done all that was handed to it, such as the end of an abort. */
static inline void drain(struct store *store)
{
    const struct id unknown = {0};
    assert_int_equal(store_hold(store, &unknown, STORE_ORIGIN), -ENOENT);
}

static inline void tidy_now(struct scratch *scratch)
{
    drain(scratch->store);
    const struct store_grace none = {0};
    assert_ok(store_tidy(scratch->store, &none));
}

/* ---- content -------------------------------------------------------------------------------- */

/* `size` bytes that are the same for the same seed and unlike those of any other. free() it. */
static inline uint8_t *make_content(uint64_t seed, size_t size)
{
    uint8_t *data = mem_alloc(size ? size : 1);
    struct random random;
    random_init(&random, seed);
    random_fill(&random, data, size);
    return data;
}

/* The list of blocks of `content` (below 256 MiB) by the rule of the format. */
static inline void expected_metadata(struct bytes content, struct file_metadata *ret_metadata)
{
    *ret_metadata = FILE_METADATA_INIT;
    for (size_t at = 0; at < content.size; at += BLOCK) {
        const size_t left = content.size - at;
        const struct bytes block = BYTES(content.data + at, left < BLOCK ? left : BLOCK);
        struct id id;
        sha256_id(block, &id);
        MUST(file_metadata_add(ret_metadata, &id, (uint32_t)block.size) == 0);
    }
}

static inline struct id expected_id(struct bytes content)
{
    CLEANUP_FILE_METADATA struct file_metadata metadata;
    expected_metadata(content, &metadata);
    CLEANUP_BUF struct buf text = BUF_INIT;
    file_metadata_format(&metadata, &text);
    struct id id;
    sha256_id(buf_bytes(&text), &id);
    return id;
}

static inline struct id block_id(struct bytes content)
{
    struct id id;
    sha256_id(content, &id);
    return id;
}

static inline void write_path(const char *path, struct bytes content)
{
    CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    MUST(fd >= 0);
    MUST(file_write_all(fd, content) == 0);
}

static inline struct store_put_result put_bytes(struct store *store, enum store_reason reason,
                                                struct bytes content)
{
    struct store_put *put = NULL;
    struct store_put_result result = {0};
    assert_ok(store_put_begin(store, reason, &put));
    assert_ok(store_put_write(put, content));
    assert_ok(store_put_commit(put, &result));
    assert_int_equal(result.length_bytes, content.size);
    return result;
}

/* Content made from `seed`; gives the id of the file. */
static inline struct id put_seed(struct store *store, enum store_reason reason, uint64_t seed,
                                 size_t size)
{
    CLEANUP_FREE uint8_t *data = make_content(seed, size);
    return put_bytes(store, reason, BYTES(data, size)).id;
}

/* The block comes out as it went in, in pieces through a reader. */
static inline void assert_pieces(struct store *store, const struct block_ref *block,
                                 const uint8_t *content)
{
    struct store_reader *reader = NULL;
    assert_ok(store_reader_open(store, &block->id, &reader));
    CLEANUP_FREE uint8_t *data = mem_alloc(block->size_bytes);
    for (uint32_t at = 0; at < block->size_bytes; at += 2 * STORE_SPAN_BYTES) {
        const uint32_t left = block->size_bytes - at;
        const uint32_t size = left < 2 * STORE_SPAN_BYTES ? left : 2 * STORE_SPAN_BYTES;
        assert_ok(store_reader_copy(reader, at, data + at, size));
    }
    assert_memory_equal(data, content, block->size_bytes);
    store_reader_close(reader);
}

/* Every block of the file comes out as it went in, read, viewed and in pieces. */
static inline void assert_content(struct store *store, const struct id *file, struct bytes content)
{
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    assert_ok(store_file_metadata(store, file, &metadata));
    assert_int_equal(metadata.length_bytes, content.size);
    CLEANUP_FREE uint8_t *data = mem_alloc(MIB);
    size_t at = 0;
    for (size_t i = 0; i < metadata.blocks_count; i++) {
        const struct block_ref *block = &metadata.blocks[i];
        uint32_t size = 0;
        assert_true(store_has_block(store, &block->id));
        assert_ok(store_block_size(store, &block->id, &size));
        assert_int_equal(size, block->size_bytes);
        assert_ok(store_read_block(store, &block->id, 0, data, size));
        assert_memory_equal(data, content.data + at, size);
        struct store_view view;
        assert_ok(store_view_open(store, &block->id, &view));
        assert_int_equal(view.bytes.size, size);
        assert_memory_equal(view.bytes.data, content.data + at, size);
        store_view_close(&view);
        assert_pieces(store, block, content.data + at);
        at += size;
    }
    assert_int_equal(at, content.size);
}

static inline void assert_seed(struct store *store, const struct id *file, uint64_t seed,
                               size_t size)
{
    CLEANUP_FREE uint8_t *data = make_content(seed, size);
    assert_content(store, file, BYTES(data, size));
}

/* The seed of a random test: of the environment to repeat a run, else a new one; printed. */
static inline uint64_t test_seed(const char *test)
{
    uint64_t seed = 0;
    random_system(&seed, sizeof seed);
    const char *given = getenv("ARTEL_TEST_SEED");
    seed = given ? strtoull(given, NULL, 0) : seed;
    print_message("%s: ARTEL_TEST_SEED=%llu\n", test, (unsigned long long)seed);
    return seed;
}

/* Changes the first byte of `block` in whatever segment it stands. */
static inline void damage(const struct scratch *scratch, struct bytes block)
{
    char path[512];
    snprintf(path, sizeof path, "%s/segments", scratch->store_path);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    size_t found = 0;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        snprintf(path, sizeof path, "%s/segments/%s", scratch->store_path, entry->d_name);
        CLEANUP_BUF struct buf segment = BUF_INIT;
        assert_ok(file_read_path(AT_FDCWD, path, 64 * MIB, &segment));
        const uint8_t *at =
            segment.size ? memmem(segment.data, segment.size, block.data, block.size) : NULL;
        if (at) {
            const uint8_t wrong = *at ^ 0x10;
            CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
            assert_ok(file_write_all_at(fd, BYTES(&wrong, 1), (uint64_t)(at - segment.data)));
            found++;
        }
    }
    closedir(dir);
    assert_int_equal(found, 1);
}

#endif
