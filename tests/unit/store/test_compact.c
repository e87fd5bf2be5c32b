/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small blocks leave holes that no page fits in; compaction gives those bytes back, and nobody who
 * reads meanwhile notices.
 */
#include "helpers.h"

#define FILES (IS_SANITIZED ? 600u : 2000u)
#define SIZE_MAX_SMALL 6000

struct files {
    struct id ids[FILES];
    uint64_t seeds[FILES];
    size_t sizes[FILES];
    bool is_gone[FILES];
    uint64_t live_bytes;
};

static struct files *put_small_files(struct scratch *scratch, struct random *random)
{
    scratch->options.segment_bytes = 256 * KIB;
    scratch_open(scratch);
    struct store *store = scratch->store;
    struct files *files = mem_alloc(sizeof *files);
    for (size_t i = 0; i < FILES; i++) {
        files->seeds[i] = random_u64(random);
        files->sizes[i] = 1 + random_below(random, SIZE_MAX_SMALL);
        files->ids[i] = put_seed(store, STORE_ORIGIN, files->seeds[i], files->sizes[i]);
        files->live_bytes += files->sizes[i];
    }
    return files;
}

/* Releases each file with the probability 1 / `one_in`. */
static void release_some(struct store *store, struct files *files, struct random *random,
                         uint64_t one_in)
{
    for (size_t i = 0; i < FILES; i++) {
        if (!files->is_gone[i] && random_below(random, one_in) == 0) {
            assert_ok(store_release(store, &files->ids[i], STORE_ORIGIN));
            files->is_gone[i] = true;
            files->live_bytes -= files->sizes[i];
        }
    }
}

static void assert_files(struct store *store, const struct files *files)
{
    for (size_t i = 0; i < FILES; i++) {
        struct store_file_info info;
        if (files->is_gone[i]) {
            assert_int_equal(store_file_info(store, &files->ids[i], &info), -ENOENT);
        } else {
            CLEANUP_FREE uint8_t *data = make_content(files->seeds[i], files->sizes[i]);
            const struct bytes content = BYTES(data, files->sizes[i]);
            assert_content(store, &files->ids[i], content);
            assert_int_equal(put_bytes(store, STORE_ORIGIN, content).new_bytes, 0);
        }
    }
}

/* Each segment ends on a page, and the one that takes appends is not compacted. */
static void assert_tight(const struct scratch *scratch, const struct files *files)
{
    const struct store_status status = status_of(scratch->store);
    assert_int_equal(status.live_bytes, files->live_bytes);
    assert_in_range(disk_bytes(scratch), files->live_bytes,
                    files->live_bytes * 12 / 10 + PAGE * status.segments_count +
                        scratch->options.segment_bytes);
}

static void half_deleted_at_random(void **state)
{
    struct scratch *scratch = *state;
    struct random random;
    random_init(&random, test_seed("compact"));
    struct files *files = put_small_files(scratch, &random);
    release_some(scratch->store, files, &random, 2);
    const uint64_t before = disk_bytes(scratch);
    tidy_now(scratch);
    assert_true(disk_bytes(scratch) < before);
    assert_tight(scratch, files);
    assert_files(scratch->store, files);
    scratch_reopen(scratch);
    assert_tight(scratch, files);
    assert_files(scratch->store, files);

    /* And on: what was moved is deleted too. */
    for (int round = 0; round < 4; round++) {
        release_some(scratch->store, files, &random, 2);
        tidy_now(scratch);
        assert_tight(scratch, files);
        assert_files(scratch->store, files);
    }
    release_some(scratch->store, files, &random, 1);
    tidy_now(scratch);
    assert_int_equal(status_of(scratch->store).segments_count, 0);
    assert_int_equal(disk_bytes(scratch), 0);
    free(files);
}

static void nothing_to_gain_is_left_alone(void **state)
{
    struct scratch *scratch = *state;
    struct random random;
    random_init(&random, 7);
    struct files *files = put_small_files(scratch, &random);
    release_some(scratch->store, files, &random, 50);
    tidy_now(scratch);
    uint64_t moved_bytes = 1;
    bool more = true;
    assert_ok(store_compact(scratch->store, &moved_bytes, &more));
    assert_int_equal(moved_bytes, 0);
    assert_false(more);
    assert_files(scratch->store, files);
    free(files);
}

/* Segment by segment, and after each step all can be read. */
static void step_by_step(void **state)
{
    struct scratch *scratch = *state;
    struct random random;
    random_init(&random, 8);
    struct files *files = put_small_files(scratch, &random);
    release_some(scratch->store, files, &random, 2);
    const struct store_grace none = {0};
    size_t removed = 0;
    uint64_t ranges = 0;
    uint64_t all_moved_bytes = 0;
    bool more = false;
    assert_ok(store_collect(scratch->store, &none, SIZE_MAX, &removed, &more));
    assert_ok(store_reclaim(scratch->store, &none, SIZE_MAX, &ranges, &more));
    for (more = true; more;) {
        uint64_t moved_bytes = 0;
        assert_ok(store_compact(scratch->store, &moved_bytes, &more));
        assert_true(moved_bytes <= scratch->options.segment_bytes);
        all_moved_bytes += moved_bytes;
        assert_files(scratch->store, files);
    }
    assert_in_range(all_moved_bytes, files->live_bytes / 2, files->live_bytes);
    assert_ok(store_reclaim(scratch->store, &none, SIZE_MAX, &ranges, &more));
    assert_tight(scratch, files);
    assert_files(scratch->store, files);
    free(files);
}

/* A pinned block stays where it is; the others are moved, whatever is pinned elsewhere. */
static void pinned_blocks_stay(void **state)
{
    struct scratch *scratch = *state;
    struct random random;
    random_init(&random, 9);
    struct files *files = put_small_files(scratch, &random);
    struct store_view views[20];
    struct id ids[20];
    for (size_t i = 0; i < ARRAY_SIZE(views); i++) {
        const size_t file = i * (FILES / ARRAY_SIZE(views));
        CLEANUP_FREE uint8_t *data = make_content(files->seeds[file], files->sizes[file]);
        ids[i] = block_id(BYTES(data, files->sizes[file]));
        assert_ok(store_view_open(scratch->store, &ids[i], &views[i]));
        assert_null(views[i].copy); /* mapped */
    }
    release_some(scratch->store, files, &random, 2);
    tidy_now(scratch);
    const uint64_t disk = disk_bytes(scratch);
    assert_true(disk <= files->live_bytes * 12 / 10 + 2 * scratch->options.segment_bytes +
                            ARRAY_SIZE(views) * (SIZE_MAX_SMALL + 4 * PAGE));
    /* Again and again changes nothing, and costs nothing. */
    for (int i = 0; i < 3; i++) {
        tidy_now(scratch);
        assert_int_equal(disk_bytes(scratch), disk);
    }
    for (size_t i = 0; i < ARRAY_SIZE(views); i++) {
        const struct id id = block_id(views[i].bytes);
        assert_true(id_equal(&id, &ids[i]));
        store_view_close(&views[i]);
    }
    tidy_now(scratch);
    assert_tight(scratch, files);
    assert_files(scratch->store, files);
    free(files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRECTORY_TEST(half_deleted_at_random),
        DIRECTORY_TEST(nothing_to_gain_is_left_alone),
        DIRECTORY_TEST(step_by_step),
        DIRECTORY_TEST(pinned_blocks_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
