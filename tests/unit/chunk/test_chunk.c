/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "chunk/chunk.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)

/* `size` bytes that nobody may look at. */
static struct bytes unseen(uint64_t size)
{
    static const uint8_t nothing;
    return BYTES(&nothing, size);
}

static uint32_t window(uint64_t offset_bytes)
{
    const struct chunker *chunker = chunker_fixed();
    return chunker->window_bytes(chunker, offset_bytes);
}

static uint32_t cut(uint64_t offset_bytes, uint64_t ahead_bytes)
{
    const struct chunker *chunker = chunker_fixed();
    return chunker->cut(chunker, offset_bytes, unseen(ahead_bytes));
}

static void blocks_are_as_large_as_their_band_says(void **state)
{
    (void)state;
    static const struct {
        uint64_t offset_bytes;
        uint64_t block_bytes;
    } expected[] = {
        {0, 256 * KIB},
        {256 * KIB, 256 * KIB},
        {1 * MIB, 256 * KIB},
        {256 * MIB - 256 * KIB, 256 * KIB},
        {256 * MIB, 1 * MIB},
        {257 * MIB, 1 * MIB},
        {16 * GIB - 1 * MIB, 1 * MIB},
        {16 * GIB, 4 * MIB},
        {16 * GIB + 4 * MIB, 4 * MIB},
        {64 * GIB - 4 * MIB, 4 * MIB},
        {64 * GIB, 16 * MIB},
        {64 * GIB + 16 * MIB, 16 * MIB},
        {1 * TIB - 16 * MIB, 16 * MIB},
    };
    for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
        const uint64_t offset_bytes = expected[i].offset_bytes;
        const uint64_t block_bytes = expected[i].block_bytes;
        assert_int_equal(window(offset_bytes), block_bytes);
        assert_int_equal(cut(offset_bytes, block_bytes), block_bytes);
        /* More may be shown than was asked for. */
        assert_int_equal(cut(offset_bytes, block_bytes + 1), block_bytes);
        assert_int_equal(cut(offset_bytes, 32 * MIB), block_bytes);
        assert_int_equal(cut(offset_bytes, 8 * GIB), block_bytes);
    }
}

static void the_last_block_is_what_is_left(void **state)
{
    (void)state;
    static const uint64_t offsets[] = {0,        256 * MIB - 256 * KIB, 256 * MIB, 16 * GIB,
                                       64 * GIB, 1 * TIB - 16 * MIB};
    for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
        const uint32_t whole = window(offsets[i]);
        assert_int_equal(cut(offsets[i], 1), 1);
        assert_int_equal(cut(offsets[i], 4097), 4097);
        assert_int_equal(cut(offsets[i], whole - 1), whole - 1);
    }
}

/* Walks over a file of `file_bytes` as a publisher does; tells the number of blocks. */
static uint64_t count_blocks(uint64_t file_bytes)
{
    uint64_t count = 0;
    uint64_t offset_bytes = 0;
    while (offset_bytes < file_bytes) {
        const uint64_t left_bytes = file_bytes - offset_bytes;
        const uint32_t window_bytes = window(offset_bytes);
        assert_in_range(window_bytes, 1, CHUNK_BLOCK_BYTES_MAX);
        const uint64_t ahead_bytes = left_bytes < window_bytes ? left_bytes : window_bytes;
        const uint32_t block_bytes = cut(offset_bytes, ahead_bytes);
        assert_in_range(block_bytes, 1, ahead_bytes);
        offset_bytes += block_bytes;
        count++;
    }
    assert_int_equal(offset_bytes, file_bytes);
    return count;
}

static void the_largest_file_has_the_promised_number_of_blocks(void **state)
{
    (void)state;
    assert_int_equal(CHUNK_FILE_BYTES_MAX, TIB);
    assert_int_equal(count_blocks(CHUNK_FILE_BYTES_MAX), CHUNK_FILE_BLOCKS_MAX);
    assert_true(CHUNK_FILE_BLOCKS_MAX < 100000);
}

static void files_at_the_edges_of_bands(void **state)
{
    (void)state;
    assert_int_equal(count_blocks(0), 0);
    assert_int_equal(count_blocks(1), 1);
    assert_int_equal(count_blocks(256 * KIB - 1), 1);
    assert_int_equal(count_blocks(256 * KIB), 1);
    assert_int_equal(count_blocks(256 * KIB + 1), 2);
    assert_int_equal(count_blocks(256 * MIB - 1), 1024);
    assert_int_equal(count_blocks(256 * MIB), 1024);
    assert_int_equal(count_blocks(256 * MIB + 1), 1025);
    assert_int_equal(count_blocks(257 * MIB), 1025);
    assert_int_equal(count_blocks(16 * GIB), 1024 + 16128);
    assert_int_equal(count_blocks(16 * GIB + 4 * MIB + 1), 1024 + 16128 + 2);
    assert_int_equal(count_blocks(64 * GIB), 1024 + 16128 + 12288);
    assert_int_equal(count_blocks(64 * GIB + 1), 1024 + 16128 + 12288 + 1);
    assert_int_equal(count_blocks(CHUNK_FILE_BYTES_MAX - 1), CHUNK_FILE_BLOCKS_MAX);
}

/* From inside a block the next edge of the layout is found again: whoever begins anywhere agrees
 * with everybody else from there on. */
static void the_layout_is_found_from_anywhere(void **state)
{
    (void)state;
    assert_int_equal(window(1), 256 * KIB - 1);
    assert_int_equal(window(256 * KIB - 1), 1);
    assert_int_equal(window(256 * MIB - 1), 1);
    assert_int_equal(window(256 * MIB + 300 * KIB), 724 * KIB);
    assert_int_equal(window(16 * GIB - 1), 1);
    assert_int_equal(window(16 * GIB + 1), 4 * MIB - 1);
    assert_int_equal(window(64 * GIB - 1), 1);
    assert_int_equal(window(64 * GIB + 5), 16 * MIB - 5);
    assert_int_equal(cut(256 * MIB - 1, 16 * MIB), 1);
    /* The limit of a file is for the caller to keep; numbers beyond it do no harm. */
    assert_int_equal(window(CHUNK_FILE_BYTES_MAX), 16 * MIB);
    assert_int_equal(window(UINT64_MAX), 1);
}

static void says_that_it_needs_no_bytes(void **state)
{
    (void)state;
    assert_true(chunker_fixed()->by_offset_alone);
    assert_ptr_equal(chunker_fixed(), chunker_fixed());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_as_large_as_their_band_says),
        cmocka_unit_test(the_last_block_is_what_is_left),
        cmocka_unit_test(the_largest_file_has_the_promised_number_of_blocks),
        cmocka_unit_test(files_at_the_edges_of_bands),
        cmocka_unit_test(the_layout_is_found_from_anywhere),
        cmocka_unit_test(says_that_it_needs_no_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
