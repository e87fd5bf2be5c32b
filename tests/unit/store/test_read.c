/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranges of blocks, their edges and what lies beyond them; and views and readers, for which a block
 * stays as it is whatever becomes of it.
 */
#include "helpers.h"

#include <sys/resource.h>

#define SPAN ((uint32_t)65536)

/* Reads [begin, begin + size) in both ways and compares; bytes around the range are left alone. */
static void assert_range(struct store *store, const struct id *id, const uint8_t *content,
                         uint32_t begin, uint32_t size)
{
    CLEANUP_FREE uint8_t *data = mem_alloc((size_t)size + 2);
    data[0] = 0xA5;
    data[size + 1] = 0x5A;
    assert_ok(store_read_block(store, id, begin, data + 1, size));
    assert_memory_equal(data + 1, content + begin, size);
    assert_int_equal(data[0], 0xA5);
    assert_int_equal(data[size + 1], 0x5A);

    struct store_reader *reader = NULL;
    assert_ok(store_reader_open(store, id, &reader));
    memset(data + 1, 0, size);
    assert_ok(store_reader_copy(reader, begin, data + 1, size));
    assert_memory_equal(data + 1, content + begin, size);
    assert_int_equal(data[0], 0xA5);
    assert_int_equal(data[size + 1], 0x5A);
    store_reader_close(reader);
}

/* All ranges that begin and end within two bytes of an edge of a span. */
static void every_edge(void **state)
{
    struct scratch *scratch = *state;
    const uint32_t sizes[] = {1, 2, 5, SPAN - 1, SPAN, SPAN + 1, 2 * SPAN + 3, 4 * SPAN};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        const uint32_t size = sizes[i];
        CLEANUP_FREE uint8_t *data = make_content(i, size);
        put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, size));
        const struct id id = block_id(BYTES(data, size));
        uint32_t points[64];
        size_t count = 0;
        for (uint32_t edge = 0; edge <= size + 2; edge += SPAN) {
            for (uint32_t off = 0; off < 5; off++) {
                if (edge + off >= 2 && edge + off - 2 <= size) {
                    points[count++] = edge + off - 2;
                }
            }
        }
        points[count++] = size;
        for (size_t from = 0; from < count; from++) {
            for (size_t to = 0; to < count; to++) {
                if (points[from] <= points[to]) {
                    assert_range(scratch->store, &id, data, points[from],
                                 points[to] - points[from]);
                }
            }
        }
    }
}

static void random_ranges(void **state)
{
    struct scratch *scratch = *state;
    struct random random;
    random_init(&random, test_seed("read"));
    CLEANUP_FREE uint8_t *data = make_content(1, BLOCK);
    put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, BLOCK));
    const struct id id = block_id(BYTES(data, BLOCK));
    for (int i = 0; i < 2000; i++) {
        const uint32_t begin = (uint32_t)random_below(&random, BLOCK + 1);
        const uint32_t size = (uint32_t)random_below(&random, BLOCK + 1 - begin);
        assert_range(scratch->store, &id, data, begin, size);
    }
}

static void beyond_the_end(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, SPAN + 10);
    put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, SPAN + 10));
    const struct id id = block_id(BYTES(data, SPAN + 10));
    CLEANUP_FREE uint8_t *out = mem_alloc(2 * SPAN);
    struct store *store = scratch->store;
    assert_int_equal(store_read_block(store, &id, 0, out, SPAN + 11), -EINVAL);
    assert_int_equal(store_read_block(store, &id, SPAN + 10, out, 1), -EINVAL);
    assert_int_equal(store_read_block(store, &id, SPAN + 11, out, 0), -EINVAL);
    assert_int_equal(store_read_block(store, &id, 1, out, UINT32_MAX), -EINVAL);
    assert_int_equal(store_read_block(store, &id, UINT32_MAX, out, 1), -EINVAL);
    assert_int_equal(store_read_block(store, &id, UINT32_MAX, out, UINT32_MAX), -EINVAL);
    assert_ok(store_read_block(store, &id, SPAN + 10, out, 0));

    struct store_reader *reader = NULL;
    assert_ok(store_reader_open(store, &id, &reader));
    assert_int_equal(store_reader_copy(reader, 0, out, 2 * SPAN), -EINVAL);
    assert_int_equal(store_reader_copy(reader, SPAN, out, SPAN), -EINVAL);
    assert_int_equal(store_reader_copy(reader, 2 * SPAN, out, SPAN), -EINVAL);
    assert_int_equal(store_reader_copy(reader, SPAN, out, 0u - SPAN), -EINVAL);
    assert_int_equal(store_reader_copy(reader, 0u - SPAN, out, 2 * SPAN), -EINVAL);
    assert_ok(store_reader_copy(reader, SPAN + 10, out, 0));
    store_reader_close(reader);
}

static void unknown(void **state)
{
    struct scratch *scratch = *state;
    const struct id id = {.bytes = {1, 2, 3}};
    struct store *store = scratch->store;
    uint8_t byte = 0;
    uint32_t size = 77;
    bool dropped = true;
    struct store_view view;
    struct store_reader *reader = NULL;
    struct file_metadata metadata;
    assert_false(store_has_block(store, &id));
    assert_int_equal(store_block_size(store, &id, &size), -ENOENT);
    assert_int_equal(size, 77);
    assert_int_equal(store_read_block(store, &id, 0, &byte, 1), -ENOENT);
    assert_int_equal(store_view_open(store, &id, &view), -ENOENT);
    assert_int_equal(store_reader_open(store, &id, &reader), -ENOENT);
    assert_null(reader);
    store_reader_close(reader);
    assert_int_equal(store_report_bad(store, &id, &dropped), -ENOENT);
    assert_int_equal(store_file_metadata(store, &id, &metadata), -ENOENT);
}

static void the_text_of_a_file(void **state)
{
    struct scratch *scratch = *state;
    /* More blocks than stand in one row of the index. */
    CLEANUP_FREE uint8_t *data = make_content(1, 160 * BLOCK);
    const struct id file = put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, 160 * BLOCK)).id;
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    assert_ok(store_file_metadata(scratch->store, &file, &metadata));
    assert_int_equal(metadata.blocks_count, 160);
    CLEANUP_BUF struct buf text = BUF_INIT;
    file_metadata_format(&metadata, &text);
    const struct id id = block_id(buf_bytes(&text));
    assert_true(id_equal(&id, &file));
    for (size_t i = 0; i < 160; i++) {
        const struct id block = block_id(BYTES(data + i * BLOCK, BLOCK));
        assert_true(id_equal(&block, &metadata.blocks[i].id));
    }
}

/* More segments than are kept open at a time. */
static void many_segments(void **state)
{
    struct scratch *scratch = *state;
    scratch->options.segment_bytes = SPAN;
    scratch_open(scratch);
    enum { COUNT = 600 };
    CLEANUP_FREE uint8_t *data = make_content(1, SPAN);
    CLEANUP_FREE struct id *ids = mem_alloc_array(COUNT, sizeof(struct id));
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < COUNT; i++) {
            memcpy(data, &i, sizeof i);
            if (round == 0) {
                ids[i] = block_id(BYTES(data, SPAN));
                put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, SPAN));
            }
            struct store_view view;
            assert_ok(store_view_open(scratch->store, &ids[i], &view));
            assert_memory_equal(view.bytes.data, data, SPAN);
            assert_range(scratch->store, &ids[i], data, 5, 100);
            store_view_close(&view);
        }
    }
    assert_int_equal(status_of(scratch->store).segments_count, COUNT);
}

/* A store of 40 segments that may have 23 files open: those that are kept open make room. */
static void few_open_files(void **state)
{
    struct scratch *scratch = *state;
    scratch->options.segment_bytes = SPAN;
    scratch_open(scratch);
    enum { COUNT = 40 };
    CLEANUP_FREE uint8_t *data = make_content(1, SPAN);
    CLEANUP_FREE struct id *ids = mem_alloc_array(COUNT, sizeof(struct id));
    for (uint32_t i = 0; i < COUNT; i++) {
        memcpy(data, &i, sizeof i);
        ids[i] = put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, SPAN)).id;
    }
    scratch_close(scratch);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    CLEANUP_FD int next_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(next_fd >= 0);
    const struct rlimit few = {(rlim_t)next_fd + 24, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    scratch_open(scratch);
    for (uint32_t i = 0; i < COUNT; i++) {
        memcpy(data, &i, sizeof i);
        assert_content(scratch->store, &ids[i], BYTES(data, SPAN));
    }
    /* New ones are made, and the others synced before they are closed. */
    for (uint32_t i = 0; i < COUNT; i++) {
        const uint32_t number = COUNT + i;
        memcpy(data, &number, sizeof number);
        const struct id id = put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, SPAN)).id;
        assert_content(scratch->store, &id, BYTES(data, SPAN));
    }
    /* What is in use is never closed: with some views open nobody else finds room. */
    struct store_view views[24];
    size_t count = 0;
    int err = 0;
    while (!err && count < ARRAY_SIZE(views)) {
        CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
        assert_ok(store_file_metadata(scratch->store, &ids[count], &metadata));
        err = store_view_open(scratch->store, &metadata.blocks[0].id, &views[count]);
        count += !err;
    }
    assert_int_equal(err, -EMFILE);
    while (count > 0) {
        store_view_close(&views[--count]);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* ---- views ---------------------------------------------------------------------------------- */

/* Released, collected, reclaimed, compacted: the open view shows what it did. */
static void a_view_outlives_its_file(void **state)
{
    struct scratch *scratch = *state;
    enum { COUNT = 200 };
    struct store_view views[COUNT];
    struct id files[COUNT];
    struct id blocks[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        const size_t size = i % 8 == 0 ? 100000 + i : 3000 + 7 * i;
        CLEANUP_FREE uint8_t *data = make_content(i, size);
        files[i] = put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, size)).id;
        blocks[i] = block_id(BYTES(data, size));
    }
    for (size_t i = 0; i < COUNT; i += 3) {
        assert_ok(store_view_open(scratch->store, &blocks[i], &views[i]));
        assert_null(views[i].copy); /* it lies in a segment, so it is mapped */
    }
    for (size_t i = 0; i < COUNT; i++) {
        assert_ok(store_release(scratch->store, &files[i], STORE_ORIGIN));
    }
    for (int round = 0; round < 3; round++) {
        tidy_now(scratch);
        for (size_t i = 0; i < COUNT; i++) {
            assert_int_equal(store_has_block(scratch->store, &blocks[i]), i % 3 == 0);
            if (i % 3 == 0) {
                const struct id id = block_id(views[i].bytes);
                assert_true(id_equal(&id, &blocks[i]));
            }
        }
    }
    for (size_t i = 0; i < COUNT; i += 3) {
        store_view_close(&views[i]);
    }
    tidy_now(scratch);
    assert_int_equal(status_of(scratch->store).blocks_count, 0);
    assert_int_equal(disk_bytes(scratch), 0);
}

static void two_views_of_one_block(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, 5000);
    const struct id file = put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, 5000)).id;
    const struct id block = block_id(BYTES(data, 5000));
    struct store_view one;
    struct store_view two;
    assert_ok(store_view_open(scratch->store, &block, &one));
    assert_ok(store_view_open(scratch->store, &block, &two));
    assert_ok(store_release(scratch->store, &file, STORE_ORIGIN));
    store_view_close(&one);
    tidy_now(scratch);
    assert_memory_equal(two.bytes.data, data, 5000);
    assert_true(store_has_block(scratch->store, &block));
    store_view_close(&two);
    tidy_now(scratch);
    assert_false(store_has_block(scratch->store, &block));
}

/* What is written behind it while it is open, in the same segment, is seen by later views. */
static void views_of_a_growing_segment(void **state)
{
    struct scratch *scratch = *state;
    struct store_view views[50];
    for (size_t i = 0; i < ARRAY_SIZE(views); i++) {
        CLEANUP_FREE uint8_t *data = make_content(i, 7000);
        put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, 7000));
        const struct id block = block_id(BYTES(data, 7000));
        assert_ok(store_view_open(scratch->store, &block, &views[i]));
        assert_null(views[i].copy);
    }
    for (size_t i = 0; i < ARRAY_SIZE(views); i++) {
        CLEANUP_FREE uint8_t *data = make_content(i, 7000);
        assert_memory_equal(views[i].bytes.data, data, 7000);
        store_view_close(&views[i]);
    }
}

/* ---- readers --------------------------------------------------------------------------------- */

/* As a slow client would: a piece, then all that can happen to a file nobody holds, then the rest.
 */
static void a_reader_outlives_its_file(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, BLOCK);
    CLEANUP_FREE uint8_t *out = mem_alloc(BLOCK);
    const struct id file = put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, BLOCK)).id;
    const struct id block = block_id(BYTES(data, BLOCK));
    struct store_reader *reader = NULL;
    assert_ok(store_reader_open(scratch->store, &block, &reader));
    assert_ok(store_reader_copy(reader, 0, out, SPAN));
    assert_ok(store_release(scratch->store, &file, STORE_ORIGIN));
    for (uint32_t at = SPAN; at < BLOCK; at += SPAN) {
        tidy_now(scratch);
        assert_ok(store_reader_copy(reader, at, out + at, SPAN));
    }
    assert_memory_equal(out, data, BLOCK);
    store_reader_close(reader);
    tidy_now(scratch);
    assert_false(store_has_block(scratch->store, &block));
    assert_int_equal(disk_bytes(scratch), 0);
}

/* ---- what others say ------------------------------------------------------------------------ */

static void a_wrong_report_changes_nothing(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, 5000);
    const struct id file = put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, 5000)).id;
    const struct id block = block_id(BYTES(data, 5000));
    bool dropped = true;
    assert_ok(store_report_bad(scratch->store, &block, &dropped));
    assert_false(dropped);
    assert_content(scratch->store, &file, BYTES(data, 5000));
    assert_int_equal(status_of(scratch->store).corrupt_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(every_edge),
        STORE_TEST(random_ranges),
        STORE_TEST(beyond_the_end),
        STORE_TEST(unknown),
        STORE_TEST(the_text_of_a_file),
        DIRECTORY_TEST(many_segments),
        DIRECTORY_TEST(few_open_files),
        STORE_TEST(a_view_outlives_its_file),
        STORE_TEST(two_views_of_one_block),
        STORE_TEST(views_of_a_growing_segment),
        STORE_TEST(a_reader_outlives_its_file),
        STORE_TEST(a_wrong_report_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
