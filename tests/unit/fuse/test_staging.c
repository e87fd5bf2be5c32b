/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "fuse/staging.h"
#include "wire/file_metadata.h"

#define MODEL_BYTES (3 * STAGING_MEMORY_BYTES)

static struct staging *new_staging(void)
{
    const char *directory = getenv("TMPDIR");
    return staging_new(directory ? directory : "/tmp");
}

static void assert_content(const struct staging *staging, const uint8_t *expected, size_t size)
{
    CLEANUP_FREE uint8_t *data = mem_alloc(size + 16);
    size_t bytes = 0;
    assert_int_equal(staging_size(staging), size);
    assert_int_equal(staging_read(staging, 0, data, size + 16, &bytes), 0);
    assert_int_equal(bytes, size);
    assert_memory_equal(data, expected, size);
    assert_int_equal(staging_read(staging, size, data, 16, &bytes), 0);
    assert_int_equal(bytes, 0);
    assert_int_equal(staging_read(staging, UINT64_MAX, data, 16, &bytes), 0);
    assert_int_equal(bytes, 0);
}

static struct bytes text(const char *string)
{
    return bytes_of_string(string);
}

static void test_small_content_is_in_memory(void **state)
{
    (void)state;
    struct staging *staging = new_staging();
    assert_content(staging, (const uint8_t *)"", 0);
    assert_int_equal(staging_write(staging, text("world"), 6), 0);
    assert_content(staging, (const uint8_t *)"\0\0\0\0\0\0world", 11);
    assert_int_equal(staging_write(staging, text("hello"), 0), 0);
    assert_content(staging, (const uint8_t *)"hello\0world", 11);
    assert_true(bytes_equal(staging_memory(staging), BYTES((const uint8_t *)"hello\0world", 11)));
    /* What was cut off does not come back. */
    assert_int_equal(staging_resize(staging, 2), 0);
    assert_int_equal(staging_resize(staging, 5), 0);
    assert_content(staging, (const uint8_t *)"he\0\0\0", 5);
    assert_int_equal(staging_write(staging, text(""), 100), 0);
    assert_content(staging, (const uint8_t *)"he\0\0\0", 5);
    staging_free(staging);
}

static void test_long_content_is_in_a_file(void **state)
{
    (void)state;
    struct staging *staging = new_staging();
    CLEANUP_FREE uint8_t *expected = mem_alloc(STAGING_MEMORY_BYTES + 5);
    memcpy(expected, "begin", 5);
    memcpy(expected + STAGING_MEMORY_BYTES, "end", 3);
    assert_int_equal(staging_write(staging, text("begin"), 0), 0);
    assert_int_equal(staging_write(staging, text("end"), STAGING_MEMORY_BYTES), 0);
    assert_content(staging, expected, STAGING_MEMORY_BYTES + 3);
    assert_int_equal(staging_memory(staging).size, 0);
    assert_int_equal(staging_resize(staging, 3), 0);
    assert_int_equal(staging_resize(staging, 6), 0);
    assert_content(staging, (const uint8_t *)"beg\0\0\0", 6);
    staging_free(staging);
}

static void test_no_file_is_longer_than_one_can_be(void **state)
{
    (void)state;
    struct staging *staging = new_staging();
    assert_int_equal(staging_write(staging, text("x"), FILE_METADATA_LENGTH_MAX), -EFBIG);
    assert_int_equal(staging_write(staging, text("xx"), UINT64_MAX), -EFBIG);
    assert_int_equal(staging_resize(staging, FILE_METADATA_LENGTH_MAX + 1), -EFBIG);
    assert_content(staging, (const uint8_t *)"", 0);
    assert_int_equal(staging_write(staging, text("x"), FILE_METADATA_LENGTH_MAX - 1), 0);
    assert_int_equal(staging_size(staging), FILE_METADATA_LENGTH_MAX);
    staging_free(staging);
}

static void test_a_directory_that_is_not_there(void **state)
{
    (void)state;
    struct staging *staging = staging_new("/nonexistent/directory");
    assert_int_equal(staging_write(staging, text("in memory"), 0), 0);
    assert_int_equal(staging_resize(staging, STAGING_MEMORY_BYTES + 1), -ENOENT);
    assert_content(staging, (const uint8_t *)"in memory", 9);
    staging_free(staging);
}

/* Any changes, compared with an array. */
static void test_as_a_model(void **state)
{
    (void)state;
    unsigned seed = 1;
    for (int round = 0; round < 20; round++) {
        struct staging *staging = new_staging();
        CLEANUP_FREE uint8_t *model = mem_alloc(MODEL_BYTES);
        CLEANUP_FREE uint8_t *piece = mem_alloc(MODEL_BYTES);
        size_t size = 0;
        for (int i = 0; i < 60; i++) {
            const size_t at = (size_t)rand_r(&seed) % (MODEL_BYTES / 2);
            const size_t bytes = (size_t)rand_r(&seed) % (round % 2 ? 5000 : MODEL_BYTES / 2);
            if (rand_r(&seed) % 4 == 0) {
                assert_int_equal(staging_resize(staging, at), 0);
                if (at < size) {
                    memset(model + at, 0, size - at);
                }
                size = at;
                continue;
            }
            memset(piece, rand_r(&seed), bytes);
            assert_int_equal(staging_write(staging, BYTES(piece, bytes), at), 0);
            memcpy(model + at, piece, bytes);
            size = bytes && at + bytes > size ? at + bytes : size;
        }
        assert_content(staging, model, size);
        staging_free(staging);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_content_is_in_memory),
        cmocka_unit_test(test_long_content_is_in_a_file),
        cmocka_unit_test(test_no_file_is_longer_than_one_can_be),
        cmocka_unit_test(test_a_directory_that_is_not_there),
        cmocka_unit_test(test_as_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
