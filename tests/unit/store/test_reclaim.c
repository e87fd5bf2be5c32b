/* SPDX-License-Identifier: Apache-2.0 */
/* Dead bytes go back to the file system, in whole pages, after the grace time, and no others. */
#include "helpers.h"

#define PUNCH_MS 60000u

static const struct store_grace grace = {.punch_ms = PUNCH_MS};

/* Files of one block each. */
struct files {
    size_t count;
    struct id ids[400];
    size_t sizes[400];
    bool is_gone[400];
};

static struct files *put_files(struct store *store, size_t count, size_t size_min, size_t size_max)
{
    struct files *files = mem_alloc(sizeof *files);
    struct random random;
    random_init(&random, size_max);
    files->count = count;
    for (size_t i = 0; i < count; i++) {
        files->sizes[i] = size_min + random_below(&random, size_max - size_min + 1);
        files->ids[i] = put_seed(store, STORE_ORIGIN, i, files->sizes[i]);
    }
    return files;
}

static void release(struct store *store, struct files *files, size_t from, size_t to, size_t step)
{
    for (size_t i = from; i < to; i += step) {
        assert_ok(store_release(store, &files->ids[i], STORE_ORIGIN));
        files->is_gone[i] = true;
    }
}

static uint64_t live_bytes(const struct files *files)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < files->count; i++) {
        bytes += files->is_gone[i] ? 0 : files->sizes[i];
    }
    return bytes;
}

static void collect(struct scratch *scratch)
{
    size_t removed = 0;
    bool more = false;
    assert_ok(store_collect(scratch->store, &grace, SIZE_MAX, &removed, &more));
}

static uint64_t reclaim(struct scratch *scratch)
{
    uint64_t ranges = 0;
    bool more = true;
    assert_ok(store_reclaim(scratch->store, &grace, SIZE_MAX, &ranges, &more));
    assert_false(more);
    return ranges;
}

static void assert_files(struct store *store, const struct files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        if (!files->is_gone[i]) {
            assert_seed(store, &files->ids[i], i, files->sizes[i]);
        }
    }
}

/* Large blocks begin on pages: each costs its bytes and less than a page. */
static void large_blocks(void **state)
{
    struct scratch *scratch = *state;
    scratch->options.segment_bytes = 64 * MIB; /* all in one */
    scratch_open(scratch);
    struct files *files = put_files(scratch->store, 60, 64 * KIB, BLOCK);
    release(scratch->store, files, 0, 60, 2);
    collect(scratch);
    const uint64_t before = disk_bytes(scratch);
    assert_int_equal(status_of(scratch->store).dead_ranges_count, 30);

    advance(scratch, PUNCH_MS - 1);
    assert_int_equal(reclaim(scratch), 0);
    assert_int_equal(disk_bytes(scratch), before);
    advance(scratch, 1);
    assert_int_equal(reclaim(scratch), 30);
    assert_in_range(disk_bytes(scratch), live_bytes(files), live_bytes(files) + 30 * PAGE);
    assert_int_equal(status_of(scratch->store).dead_ranges_count, 0);
    assert_files(scratch->store, files);
    free(files);
}

/* Neighbours are one range, in whatever order they died. */
static void neighbours_are_one_hole(void **state)
{
    struct scratch *scratch = *state;
    scratch->options.segment_bytes = 64 * MIB;
    scratch_open(scratch);
    struct files *files = put_files(scratch->store, 60, 64 * KIB, BLOCK);
    release(scratch->store, files, 11, 20, 2);
    release(scratch->store, files, 10, 20, 2);
    release(scratch->store, files, 40, 50, 1);
    collect(scratch);
    advance(scratch, PUNCH_MS);
    assert_int_equal(reclaim(scratch), 2);
    assert_in_range(disk_bytes(scratch), live_bytes(files), live_bytes(files) + 40 * PAGE);
    assert_files(scratch->store, files);
    free(files);
}

/* Small blocks share pages: a page goes when the last that is in it has died. */
static void small_blocks(void **state)
{
    struct scratch *scratch = *state;
    scratch->options.segment_bytes = 64 * MIB;
    scratch_open(scratch);
    struct files *files = put_files(scratch->store, 400, 1, 3000);
    /* Every other one: hardly a page goes. */
    release(scratch->store, files, 0, 400, 2);
    collect(scratch);
    advance(scratch, PUNCH_MS);
    reclaim(scratch);
    assert_files(scratch->store, files);
    /* Those between them too, in the first half: all of its pages go. */
    release(scratch->store, files, 1, 200, 2);
    collect(scratch);
    advance(scratch, PUNCH_MS);
    reclaim(scratch);
    assert_files(scratch->store, files);
    uint64_t second_half = 0;
    for (size_t i = 200; i < 400; i++) {
        second_half += files->sizes[i];
    }
    assert_in_range(disk_bytes(scratch), live_bytes(files), second_half + 2 * PAGE);
    free(files);
}

static void when_all_is_released_nothing_stays(void **state)
{
    struct scratch *scratch = *state;
    scratch_open(scratch);
    struct files *small = put_files(scratch->store, 300, 1, 50000);
    struct files *large = put_files(scratch->store, 40, 64 * KIB, BLOCK);
    assert_true(status_of(scratch->store).segments_count > 4);
    release(scratch->store, small, 0, 300, 1);
    release(scratch->store, large, 0, 40, 1);
    collect(scratch);
    advance(scratch, PUNCH_MS);
    reclaim(scratch);
    struct store_status status = status_of(scratch->store);
    assert_int_equal(status.allocated_bytes, 0);
    assert_int_equal(status.segments_count, 0);
    assert_int_equal(status.dead_ranges_count, 0);
    assert_int_equal(disk_bytes(scratch), 0);

    /* And it goes on from there. */
    free(large);
    large = put_files(scratch->store, 40, 64 * KIB, BLOCK);
    assert_files(scratch->store, large);
    scratch_reopen(scratch);
    assert_files(scratch->store, large);
    free(small);
    free(large);
}

/* Ranges of a put that is under way are garbage only when it is over. */
static void what_is_being_written_is_left_alone(void **state)
{
    struct scratch *scratch = *state;
    scratch->options.segment_bytes = 64 * MIB;
    scratch_open(scratch);
    struct files *files = put_files(scratch->store, 20, 64 * KIB, BLOCK);
    CLEANUP_FREE uint8_t *data = make_content(77, 3 * BLOCK + 5000);
    const struct bytes content = BYTES(data, 3 * BLOCK + 5000);
    struct store_put *put = NULL;
    assert_ok(store_put_begin(scratch->store, STORE_ORIGIN, &put));
    assert_ok(store_put_write(put, content));
    release(scratch->store, files, 0, 20, 1);
    struct files *more = put_files(scratch->store, 40, 64 * KIB, 70000);
    release(scratch->store, more, 0, 40, 1);
    collect(scratch);
    advance(scratch, PUNCH_MS);
    for (int i = 0; i < 3; i++) {
        reclaim(scratch);
    }
    struct store_put_result result = {0};
    assert_ok(store_put_commit(put, &result));
    assert_content(scratch->store, &result.id, content);
    for (int i = 0; i < 3; i++) {
        reclaim(scratch);
    }
    assert_content(scratch->store, &result.id, content);
    assert_in_range(disk_bytes(scratch), content.size, content.size + 2 * PAGE);
    free(files);
    free(more);
}

static void the_limit(void **state)
{
    struct scratch *scratch = *state;
    scratch->options.segment_bytes = 64 * MIB;
    scratch_open(scratch);
    struct files *files = put_files(scratch->store, 60, 64 * KIB, 70000);
    release(scratch->store, files, 0, 60, 2);
    collect(scratch);
    advance(scratch, PUNCH_MS);
    uint64_t ranges = 0;
    bool more = false;
    assert_ok(store_reclaim(scratch->store, &grace, 20, &ranges, &more));
    assert_int_equal(ranges, 20);
    assert_true(more);
    assert_ok(store_reclaim(scratch->store, &grace, 20, &ranges, &more));
    assert_int_equal(ranges, 10);
    assert_false(more);
    assert_files(scratch->store, files);
    free(files);
}

/* A removal of the last session is made good in this one. */
static void over_a_restart(void **state)
{
    struct scratch *scratch = *state;
    scratch_open(scratch);
    struct files *files = put_files(scratch->store, 60, 1000, BLOCK);
    release(scratch->store, files, 0, 60, 3);
    collect(scratch);
    scratch_reopen(scratch);
    reclaim(scratch);
    assert_int_equal(status_of(scratch->store).dead_ranges_count, 20);
    advance(scratch, PUNCH_MS);
    reclaim(scratch);
    assert_int_equal(status_of(scratch->store).dead_ranges_count, 0);
    assert_files(scratch->store, files);
    release(scratch->store, files, 1, 60, 3);
    release(scratch->store, files, 2, 60, 3);
    scratch_reopen(scratch);
    tidy_now(scratch);
    assert_int_equal(disk_bytes(scratch), 0);
    free(files);
}

/* Of a put that was given up nobody can be reading: its space need not wait. */
static void what_was_never_named_goes_at_once(void **state)
{
    struct scratch *scratch = *state;
    scratch->options.segment_bytes = 64 * MIB;
    scratch_open(scratch);
    const struct id file = put_seed(scratch->store, STORE_ORIGIN, 1, 4 * BLOCK);
    const uint64_t before = disk_bytes(scratch);
    CLEANUP_FREE uint8_t *data = make_content(2, 40 * BLOCK);
    struct store_put *put = NULL;
    assert_ok(store_put_begin(scratch->store, STORE_ORIGIN, &put));
    assert_ok(store_put_write(put, BYTES(data, 40 * BLOCK)));
    store_put_abort(put);
    drain(scratch->store);
    assert_true(disk_bytes(scratch) >= before + 39 * BLOCK);
    const struct store_grace usual = {STORE_COLLECT_GRACE_MS_DEFAULT, STORE_PUNCH_GRACE_MS_DEFAULT};
    assert_ok(store_tidy(scratch->store, &usual));
    assert_true(disk_bytes(scratch) <= before + BLOCK);
    assert_seed(scratch->store, &file, 1, 4 * BLOCK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRECTORY_TEST(large_blocks),
        DIRECTORY_TEST(neighbours_are_one_hole),
        DIRECTORY_TEST(small_blocks),
        DIRECTORY_TEST(when_all_is_released_nothing_stays),
        DIRECTORY_TEST(what_is_being_written_is_left_alone),
        DIRECTORY_TEST(the_limit),
        DIRECTORY_TEST(over_a_restart),
        DIRECTORY_TEST(what_was_never_named_goes_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
