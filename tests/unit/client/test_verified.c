/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/random.h"
#include "client/content_id.h"
#include "client/verified.h"
#include "hash/sha256.h"

#define BLOCKS 5

struct sample {
    struct buf content;
    struct file_metadata metadata;
};

/* Blocks of sizes that no chunker makes: what counts is the list. */
static void make(struct sample *sample)
{
    static const uint32_t sizes[BLOCKS] = {1, 1000, 7, 4096, 333};
    struct random random;
    random_init(&random, 42);
    *sample = (struct sample){0};
    for (size_t i = 0; i < BLOCKS; i++) {
        uint8_t *block = buf_extend(&sample->content, sizes[i]);
        random_fill(&random, block, sizes[i]);
        struct id id;
        sha256_id(BYTES(block, sizes[i]), &id);
        assert_int_equal(file_metadata_add(&sample->metadata, &id, sizes[i]), 0);
    }
}

static void done(struct sample *sample)
{
    buf_done(&sample->content);
    file_metadata_done(&sample->metadata);
}

static int note(void *context, struct bytes data)
{
    buf_add(context, data);
    return 0;
}

static int feed(struct verified *verified, struct bytes content, size_t piece_bytes)
{
    int err = 0;
    while (!err && content.size) {
        const size_t size = content.size < piece_bytes ? content.size : piece_bytes;
        err = verified_add(verified, BYTES(content.data, size));
        content = BYTES(content.data + size, content.size - size);
    }
    return err;
}

static void good_content_passes_in_pieces_of_any_size(void **state)
{
    (void)state;
    struct sample sample;
    make(&sample);
    for (size_t piece = 1; piece < sample.content.size + 10; piece += 1 + piece / 7) {
        CLEANUP_BUF struct buf seen = BUF_INIT;
        struct verified *verified = verified_new(&sample.metadata, note, &seen);
        assert_int_equal(feed(verified, buf_bytes(&sample.content), piece), 0);
        assert_int_equal(verified_end(verified), 0);
        assert_true(bytes_equal(buf_bytes(&seen), buf_bytes(&sample.content)));
        /* Nothing may follow. */
        assert_int_equal(verified_add(verified, bytes_of_string("x")), -EBADMSG);
        verified_free(verified);
    }
    done(&sample);
}

static void no_wrong_byte_passes(void **state)
{
    (void)state;
    struct sample sample;
    make(&sample);
    for (size_t wrong = 0; wrong < sample.content.size; wrong += 13) {
        CLEANUP_BUF struct buf seen = BUF_INIT;
        CLEANUP_BUF struct buf content = BUF_INIT;
        buf_add(&content, buf_bytes(&sample.content));
        content.data[wrong] ^= 0x20;
        struct verified *verified = verified_new(&sample.metadata, note, &seen);
        assert_int_equal(feed(verified, buf_bytes(&content), 100), -EBADMSG);
        assert_true(seen.size <= wrong);
        assert_true(bytes_equal(buf_bytes(&seen), BYTES(sample.content.data, seen.size)));
        verified_free(verified);
    }
    done(&sample);
}

static void too_little_is_told(void **state)
{
    (void)state;
    struct sample sample;
    make(&sample);
    CLEANUP_BUF struct buf seen = BUF_INIT;
    struct verified *verified = verified_new(&sample.metadata, note, &seen);
    const struct bytes most = BYTES(sample.content.data, sample.content.size - 1);
    assert_int_equal(feed(verified, most, 1000), 0);
    assert_int_equal(verified_end(verified), -EBADMSG);
    verified_free(verified);
    done(&sample);
}

static void it_goes_on_behind_the_last_good_block(void **state)
{
    (void)state;
    struct sample sample;
    make(&sample);
    for (size_t cut = 0; cut < sample.content.size; cut += 17) {
        CLEANUP_BUF struct buf seen = BUF_INIT;
        struct verified *verified = verified_new(&sample.metadata, note, &seen);
        assert_int_equal(feed(verified, BYTES(sample.content.data, cut), 50), 0);
        const uint64_t offset = verified_restart(verified);
        assert_true(offset <= cut);
        assert_int_equal(offset, seen.size);
        const struct bytes rest =
            BYTES(sample.content.data + offset, sample.content.size - (size_t)offset);
        assert_int_equal(feed(verified, rest, 50), 0);
        assert_int_equal(verified_end(verified), 0);
        assert_true(bytes_equal(buf_bytes(&seen), buf_bytes(&sample.content)));
        verified_free(verified);
    }
    done(&sample);
}

static void the_empty_file_is_whole(void **state)
{
    (void)state;
    const struct file_metadata metadata = FILE_METADATA_INIT;
    struct verified *verified = verified_new(&metadata, note, NULL);
    assert_int_equal(verified_end(verified), 0);
    assert_int_equal(verified_add(verified, bytes_of_string("x")), -EBADMSG);
    verified_free(verified);
}

/* The id of `size` zeros, by the list that fixed chunking gives below 256 MiB. */
static void expect_id(size_t size, struct id *ret_id)
{
    const size_t block_bytes = 256 * 1024;
    uint8_t *zeros = mem_alloc(block_bytes);
    struct file_metadata metadata = FILE_METADATA_INIT;
    for (size_t at = 0; at < size; at += block_bytes) {
        const size_t take = size - at < block_bytes ? size - at : block_bytes;
        struct id id;
        sha256_id(BYTES(zeros, take), &id);
        assert_int_equal(file_metadata_add(&metadata, &id, (uint32_t)take), 0);
    }
    file_metadata_id(&metadata, ret_id);
    file_metadata_done(&metadata);
    free(zeros);
}

static void the_id_of_content_is_known_as_it_comes(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 262143, 262144, 262145, 1000000};
    struct content_id *content = content_id_new();
    uint8_t *zeros = mem_alloc(1000000);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        for (size_t piece = 1000; piece <= 1000000; piece *= 10) {
            for (size_t at = 0; at < sizes[i]; at += piece) {
                const size_t take = sizes[i] - at < piece ? sizes[i] - at : piece;
                assert_int_equal(content_id_add(content, BYTES(zeros, take)), 0);
            }
            struct id expected;
            struct id actual;
            expect_id(sizes[i], &expected);
            content_id_take(content, &actual);
            assert_true(id_equal(&expected, &actual));
        }
    }
    free(zeros);
    content_id_free(content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_content_passes_in_pieces_of_any_size),
        cmocka_unit_test(no_wrong_byte_passes),
        cmocka_unit_test(too_little_is_told),
        cmocka_unit_test(it_goes_on_behind_the_last_good_block),
        cmocka_unit_test(the_empty_file_is_whole),
        cmocka_unit_test(the_id_of_content_is_known_as_it_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
