/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_STORE_ADOPT_HELPERS_H
#define TESTS_UNIT_STORE_ADOPT_HELPERS_H

/* What the tests of adopted files share. */

#include "helpers.h"

#include "store/adopt.h"

#define SIZE (5 * BLOCK + 1234) /* six blocks */
#define BLOCKS 6u

/* A file that was followed, and its content. */
struct outside {
    char path[128];
    uint8_t *data;
    struct bytes content;
    struct id id;
};

static inline struct outside make_outside(const struct scratch *scratch, const char *name,
                                          uint64_t seed, size_t size)
{
    struct outside outside = {.data = make_content(seed, size)};
    snprintf(outside.path, sizeof outside.path, "%s/%s", scratch->root, name);
    outside.content = BYTES(outside.data, size);
    outside.id = expected_id(outside.content);
    write_path(outside.path, outside.content);
    return outside;
}

static inline struct store_adopted adopt(struct store *store, const struct outside *outside)
{
    struct store_adopted adopted;
    assert_ok(store_adopt(store, &outside->id, outside->path, &adopted));
    return adopted;
}

/* Fetched, followed and adopted. */
static inline struct outside make_followed(struct scratch *scratch, const char *name, uint64_t seed)
{
    struct outside outside = make_outside(scratch, name, seed, SIZE);
    put_bytes(scratch->store, STORE_CACHE, outside.content);
    adopt(scratch->store, &outside);
    return outside;
}

static inline struct store_file_info info_of(struct store *store, const struct id *file)
{
    struct store_file_info info;
    assert_ok(store_file_info(store, file, &info));
    return info;
}

/* Nothing of it can be read, and nobody believes so. */
static inline void assert_gone(struct store *store, struct bytes content)
{
    CLEANUP_FREE uint8_t *data = mem_alloc(BLOCK);
    CLEANUP_FILE_METADATA struct file_metadata metadata;
    expected_metadata(content, &metadata);
    for (size_t i = 0; i < metadata.blocks_count; i++) {
        const struct block_ref *block = &metadata.blocks[i];
        assert_int_equal(store_read_block(store, &block->id, 0, data, block->size_bytes), -ENOENT);
        assert_false(store_has_block(store, &block->id));
    }
}

static inline void overwrite_some(const char *path)
{
    CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_ok(file_write_all_at(fd, BYTES((const uint8_t *)"other", 5), BLOCK + 5));
}

#endif
