/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small reads beside the process that writes: what an earlier read has learned makes them cheap,
 * and each is compared with a checksum all the same.
 */
#include "helpers.h"

#define SIZE ((size_t)700000)
#define SPAN_PAGES (STORE_SPAN_BYTES / PAGE)

/* A file of SIZE bytes, then a store that serves reads. */
static void serve(struct scratch *scratch, const uint8_t *data, struct file_metadata *ret_metadata)
{
    const struct id file = put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, SIZE)).id;
    scratch->options.read_only = true;
    scratch->options.serves_reads = true;
    scratch_reopen(scratch);
    assert_ok(store_file_metadata(scratch->store, &file, ret_metadata));
    assert_content(scratch->store, &file, BYTES(data, SIZE));
}

static void assert_piece(struct store *store, const struct block_ref *block, const uint8_t *content,
                         uint64_t begin, size_t size)
{
    uint8_t piece[10 * PAGE];
    memset(piece, 0xee, sizeof piece);
    assert_ok(store_read_block(store, &block->id, (uint32_t)begin, piece, (uint32_t)size));
    assert_memory_equal(piece, content + begin, size);
    assert_int_equal(piece[size], 0xee);
}

static int read_page(struct store *store, const struct block_ref *block, uint64_t page)
{
    uint8_t data[PAGE];
    return store_read_block(store, &block->id, (uint32_t)(page * PAGE), data, sizeof data);
}

/* In whatever order, aligned or not, up to the end of the block and not beyond. */
static void pieces_of_all_kinds(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, SIZE);
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    serve(scratch, data, &metadata);
    struct random random;
    random_init(&random, test_seed("checked"));
    uint64_t begin = 0;
    for (size_t i = 0; i < metadata.blocks_count; i++) {
        const struct block_ref *block = &metadata.blocks[i];
        for (int round = 0; round < 500; round++) {
            uint64_t at = random_below(&random, block->size_bytes);
            at = random_below(&random, 4) ? at / PAGE * PAGE : at;
            uint64_t size = 1 + random_below(&random, 9 * PAGE);
            size = random_below(&random, 4) ? (size + PAGE - 1) / PAGE * PAGE : size;
            const uint64_t left = block->size_bytes - at;
            assert_piece(scratch->store, block, data + begin, at, size < left ? size : left);
        }
        uint8_t page[PAGE];
        const uint32_t last = block->size_bytes / (uint32_t)PAGE * (uint32_t)PAGE;
        assert_int_equal(store_read_block(scratch->store, &block->id, last, page, sizeof page),
                         last == block->size_bytes - PAGE ? 0 : -EINVAL);
        assert_int_equal(
            store_read_block(scratch->store, &block->id, block->size_bytes, page, sizeof page),
            -EINVAL);
        begin += block->size_bytes;
    }
}

/* Writes one wrong byte into page `page` of the block. */
static void damage_page(const struct scratch *scratch, const uint8_t *content, uint64_t page)
{
    damage(scratch, BYTES(content + page * PAGE, PAGE));
}

/* One page of a span is wrong: who reads that is told, though the span was right before. */
static void a_page_that_changed(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, SIZE);
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    serve(scratch, data, &metadata);
    const struct block_ref *block = &metadata.blocks[0];
    assert_ok(read_page(scratch->store, block, 5));
    assert_ok(read_page(scratch->store, block, SPAN_PAGES + 5));
    damage_page(scratch, data, 3);
    /* Nothing but page 5 is read for page 5. */
    assert_ok(read_page(scratch->store, block, 5));
    assert_int_equal(read_page(scratch->store, block, 3), -EBADMSG);
    /* What was known of the block is in doubt now: the span is wrong, and not the next. */
    assert_int_equal(read_page(scratch->store, block, 5), -EBADMSG);
    assert_piece(scratch->store, block, data, SPAN_PAGES * PAGE + 5 * PAGE, 2 * PAGE);
}

/* What was learned at a place that is given up is looked up again. */
static void a_segment_that_went(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, SIZE);
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    serve(scratch, data, &metadata);
    const struct block_ref *block = &metadata.blocks[0];
    assert_ok(read_page(scratch->store, block, 1));
    char path[128];
    snprintf(path, sizeof path, "%s/segments/00000000.seg", scratch->store_path);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_not_equal(read_page(scratch->store, block, 1), 0);
    assert_int_not_equal(read_page(scratch->store, block, 2), 0);
}

static size_t count_removed_files(void)
{
    size_t count = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        struct stat file;
        char path[300];
        snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        count += stat(path, &file) == 0 && S_ISREG(file.st_mode) && file.st_nlink == 0;
    }
    closedir(dir);
    return count;
}

/* A segment that the process that writes removes is not kept open for ever. */
static void removed_segments_are_closed(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, SIZE);
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    serve(scratch, data, &metadata);
    char path[128];
    snprintf(path, sizeof path, "%s/segments/00000000.seg", scratch->store_path);
    store_close_removed(scratch->store);
    assert_ok(read_page(scratch->store, &metadata.blocks[0], 0));
    assert_int_equal(unlink(path), 0);
    assert_ok(read_page(scratch->store, &metadata.blocks[0], 0));
    assert_int_equal(count_removed_files(), 1);
    store_close_removed(scratch->store);
    assert_int_equal(count_removed_files(), 0);
    assert_int_not_equal(read_page(scratch->store, &metadata.blocks[0], 0), 0);
}

/* Reads of the one who only reads give a second chance to what they read. */
static void reads_count_for_eviction(void **state)
{
    struct scratch *scratch = *state;
    struct id blocks[3];
    for (uint64_t i = 0; i < ARRAY_SIZE(blocks); i++) {
        CLEANUP_FREE uint8_t *data = make_content(10 + i, 10000);
        blocks[i] = block_id(BYTES(data, 10000));
        put_bytes(scratch->store, STORE_CACHE, BYTES(data, 10000));
        advance(scratch, 1000);
    }
    scratch->options.read_only = true;
    scratch->options.serves_reads = true;
    scratch_reopen(scratch);
    uint8_t byte = 0;
    assert_ok(store_read_block(scratch->store, &blocks[0], 0, &byte, 1));
    scratch->options.read_only = false;
    scratch->options.serves_reads = false;
    scratch_reopen(scratch);
    struct store_candidate candidate;
    size_t count = 0;
    assert_ok(store_evict_candidates(scratch->store, 1, 1, &candidate, &count));
    assert_int_equal(count, 1);
    assert_true(id_equal(&candidate.id, &blocks[1]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(pieces_of_all_kinds),      STORE_TEST(a_page_that_changed),
        STORE_TEST(a_segment_that_went),      STORE_TEST(removed_segments_are_closed),
        STORE_TEST(reads_count_for_eviction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
