/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_STORE_INTAKE_HELPERS_H
#define TESTS_UNIT_STORE_INTAKE_HELPERS_H

/*
 * Content that comes block by block, for the tests of intakes.
 */

#include "helpers.h"

#include "store/intake.h"

#define SIZE (10 * BLOCK + 1000)
#define BLOCKS 11u

/* Content with its list of blocks. */
struct coming {
    uint8_t *data;
    size_t size;
    struct file_metadata metadata;
    struct id id;
};

static inline void make_coming(struct coming *coming, uint64_t seed, size_t size)
{
    coming->data = make_content(seed, size);
    coming->size = size;
    expected_metadata(BYTES(coming->data, size), &coming->metadata);
    coming->id = expected_id(BYTES(coming->data, size));
}

static inline void coming_done(struct coming *coming)
{
    free(coming->data);
    file_metadata_done(&coming->metadata);
}
#define CLEANUP_COMING __attribute__((cleanup(coming_done)))

static inline struct bytes block_of(const struct coming *coming, uint32_t index)
{
    return BYTES(coming->data + index * BLOCK, coming->metadata.blocks[index].size_bytes);
}

static inline struct store_intake *open_intake(struct store *store, const struct coming *coming,
                                               enum store_reason reason)
{
    struct store_intake *intake = NULL;
    assert_ok(store_intake_open(store, &coming->metadata, reason, &intake));
    assert_true(id_equal(store_intake_id(intake), &coming->id));
    return intake;
}

static inline void give(struct store_intake *intake, const struct coming *coming, uint32_t begin,
                        uint32_t end)
{
    for (uint32_t i = begin; i < end; i++) {
        assert_ok(store_intake_block(intake, i, block_of(coming, i)));
    }
}

static inline uint32_t here(struct store_intake *intake)
{
    struct store_intake_progress progress;
    store_intake_progress(intake, &progress);
    return progress.blocks_count;
}

static inline bool has(struct store_intake *intake, uint32_t index)
{
    uint8_t have[STORE_INTAKE_HAVE_BYTES(4096)];
    store_intake_have(intake, have);
    return (have[index / 8] >> (index % 8)) & 1;
}

/* Block `index` can be read, or can't. */
static inline void assert_block(struct store *store, const struct coming *coming, uint32_t index,
                                bool is_here)
{
    const struct block_ref *block = &coming->metadata.blocks[index];
    struct store_view view;
    assert_int_equal(store_has_block(store, &block->id), is_here);
    const int err = store_view_open(store, &block->id, &view);
    assert_int_equal(err, is_here ? 0 : -ENOENT);
    if (is_here) {
        assert_true(bytes_equal(view.bytes, block_of(coming, index)));
        store_view_close(&view);
        assert_pieces(store, block, coming->data + index * BLOCK);
    }
}

static inline void assert_nothing(struct scratch *scratch)
{
    tidy_now(scratch);
    const struct store_status status = status_of(scratch->store);
    struct store_intake_info info;
    assert_int_equal(store_intake_next(scratch->store, NULL, &info), -ENOENT);
    assert_int_equal(status.files_count, 0);
    assert_int_equal(status.blocks_count, 0);
    assert_int_equal(status.live_bytes, 0);
    assert_int_equal(status.lost_count, 0);
    assert_int_equal(status.unreferenced_count, 0);
    assert_int_equal(disk_bytes(scratch), 0);
}

#endif
