/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that are followed as the store's copy of their blocks: bytes once, right bytes or none, and
 * nothing that is kept for another reason depends on them.
 */
#include "adopt_helpers.h"

#include "store/intake.h"
#include "store/writer.h"

#define SMALL (STORE_ADOPT_BYTES_MIN - 1)

static void keep_times(const char *path, void (*change)(const char *path))
{
    struct stat stat;
    assert_int_equal(lstat(path, &stat), 0);
    change(path);
    const struct timespec times[2] = {stat.st_atim, stat.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* ---- bytes once ----------------------------------------------------------------------------- */

static void its_bytes_stand_once(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_outside(scratch, "file", 1, SIZE);
    put_bytes(scratch->store, STORE_CACHE, outside.content);
    tidy_now(scratch);
    assert_true(disk_bytes(scratch) >= SIZE);
    const struct store_adopted adopted = adopt(scratch->store, &outside);
    assert_int_equal(adopted.file_bytes, SIZE);
    assert_int_equal(adopted.given_up_bytes, SIZE);
    assert_int_equal(adopted.busy_bytes, 0);
    tidy_now(scratch);
    assert_int_equal(disk_bytes(scratch), 0);
    struct store_status status = status_of(scratch->store);
    assert_int_equal(status.live_bytes, 0);
    assert_int_equal(status.cache_bytes, 0);
    assert_int_equal(status.externals_count, 1);
    assert_int_equal(status.lost_count, 0);
    assert_content(scratch->store, &outside.id, outside.content);
    const struct store_file_info info = info_of(scratch->store, &outside.id);
    assert_int_equal(info.holders[STORE_FOLLOW], 1);

    scratch_reopen(scratch);
    assert_content(scratch->store, &outside.id, outside.content);
    free(outside.data);
}

static void again_changes_nothing(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_followed(scratch, "file", 1);
    for (int i = 0; i < 3; i++) {
        const struct store_adopted adopted = adopt(scratch->store, &outside);
        assert_int_equal(adopted.file_bytes, SIZE);
        assert_int_equal(adopted.given_up_bytes, 0);
        scratch_reopen(scratch);
    }
    assert_int_equal(status_of(scratch->store).externals_count, 1);
    assert_int_equal(info_of(scratch->store, &outside.id).holders[STORE_FOLLOW], 1);
    free(outside.data);
}

/* What was evicted or never came here, but whose list is known. */
static void it_brings_back_what_was_not_here(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_followed(scratch, "file", 1);
    assert_int_equal(unlink(outside.path), 0);
    assert_gone(scratch->store, outside.content);
    write_path(outside.path, outside.content);
    const struct store_adopted adopted = adopt(scratch->store, &outside);
    assert_int_equal(adopted.file_bytes, SIZE);
    assert_content(scratch->store, &outside.id, outside.content);
    assert_int_equal(info_of(scratch->store, &outside.id).holders[STORE_FOLLOW], 1);
    free(outside.data);
}

static void a_small_one_is_held_in_segments(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_outside(scratch, "file", 1, SMALL);
    put_bytes(scratch->store, STORE_CACHE, outside.content);
    assert_int_equal(status_of(scratch->store).cache_bytes, SMALL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(adopt(scratch->store, &outside).file_bytes, 0);
    }
    const struct store_status status = status_of(scratch->store);
    assert_int_equal(status.cache_bytes, 0); /* not to be evicted */
    assert_int_equal(status.externals_count, 0);
    assert_int_equal(info_of(scratch->store, &outside.id).holders[STORE_FOLLOW], 1);
    assert_int_equal(unlink(outside.path), 0);
    assert_content(scratch->store, &outside.id, outside.content);
    assert_ok(store_adopt_end(scratch->store, &outside.id, outside.path));
    assert_ok(store_adopt_end(scratch->store, &outside.id, outside.path));
    assert_int_equal(info_of(scratch->store, &outside.id).holders[STORE_FOLLOW], 0);
    assert_int_equal(status_of(scratch->store).cache_bytes, SMALL);
    assert_content(scratch->store, &outside.id, outside.content);
    free(outside.data);
}

static void a_block_twice_in_a_file(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_outside(scratch, "file", 1, 4 * BLOCK);
    memcpy(outside.data + 2 * BLOCK, outside.data, BLOCK);
    outside.id = expected_id(outside.content);
    write_path(outside.path, outside.content);
    put_bytes(scratch->store, STORE_CACHE, outside.content);
    adopt(scratch->store, &outside);
    tidy_now(scratch);
    assert_int_equal(disk_bytes(scratch), 0);
    assert_content(scratch->store, &outside.id, outside.content);
    free(outside.data);
}

/* ---- what is no such file ------------------------------------------------------------------- */

static void assert_refused(struct store *store, const struct outside *outside, const char *path,
                           int err)
{
    struct store_adopted adopted;
    assert_int_equal(store_adopt(store, &outside->id, path, &adopted), err);
    assert_int_equal(status_of(store).externals_count, 0);
    assert_int_equal(info_of(store, &outside->id).holders[STORE_FOLLOW], 0);
    assert_content(store, &outside->id, outside->content);
}

static void other_files_are_refused(void **state)
{
    struct scratch *scratch = *state;
    struct store *store = scratch->store;
    struct outside outside = make_outside(scratch, "file", 1, SIZE);
    struct outside other = make_outside(scratch, "other", 2, SIZE);
    char path[128];
    struct store_adopted adopted;
    assert_int_equal(store_adopt(store, &outside.id, outside.path, &adopted), -ENOENT);
    put_bytes(store, STORE_CACHE, outside.content);
    assert_refused(store, &outside, "file", -EINVAL);
    assert_refused(store, &outside, other.path, -ESTALE);
    assert_refused(store, &outside, scratch->root, -ESTALE);
    snprintf(path, sizeof path, "%s/none", scratch->root);
    assert_refused(store, &outside, path, -ESTALE);
    assert_int_equal(symlink(outside.path, path), 0);
    assert_refused(store, &outside, path, -ESTALE);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_refused(store, &outside, path, -ESTALE);
    /* All but the last block is right. */
    outside.data[SIZE - 1] ^= 1;
    write_path(outside.path, outside.content);
    outside.data[SIZE - 1] ^= 1;
    assert_refused(store, &outside, outside.path, -ESTALE);
    assert_int_equal(truncate(outside.path, SIZE - 1), 0);
    assert_refused(store, &outside, outside.path, -ESTALE);
    free(outside.data);
    free(other.data);
}

/* ---- somebody changes it -------------------------------------------------------------------- */

static void overwrite_it(const char *path)
{
    overwrite_some(path);
}

static void overwrite_secretly(const char *path)
{
    keep_times(path, overwrite_some);
}

static void delete_it(const char *path)
{
    assert_int_equal(unlink(path), 0);
}

static void replace_it(const char *path)
{
    char other[160];
    snprintf(other, sizeof other, "%s.other", path);
    write_path(other, BYTES((const uint8_t *)"x", 1));
    assert_int_equal(rename(other, path), 0);
}

static void lose_after(struct scratch *scratch, void (*change)(const char *path))
{
    struct outside outside = make_followed(scratch, "file", 1);
    change(outside.path);
    /* The block that was changed says so; with it the file loses its role. */
    CLEANUP_FREE uint8_t *data = mem_alloc(BLOCK);
    const struct id block = block_id(BYTES(outside.data + BLOCK, BLOCK));
    assert_int_equal(store_read_block(scratch->store, &block, 0, data, BLOCK), -ENOENT);
    assert_gone(scratch->store, outside.content);
    const struct store_status status = status_of(scratch->store);
    assert_int_equal(status.externals_count, 0);
    assert_int_equal(status.lost_count, 0); /* nobody promised to keep it */
    assert_int_equal(info_of(scratch->store, &outside.id).holders[STORE_FOLLOW], 0);
    /* It comes again from elsewhere. */
    put_bytes(scratch->store, STORE_CACHE, outside.content);
    assert_content(scratch->store, &outside.id, outside.content);
    /* And the follower, who does not know yet, is told. */
    struct store_adopted adopted;
    assert_int_equal(store_adopt(scratch->store, &outside.id, outside.path, &adopted), -ESTALE);
    assert_ok(store_adopt_end(scratch->store, &outside.id, outside.path));
    assert_content(scratch->store, &outside.id, outside.content);
    free(outside.data);
}

#define CHANGE_TEST(change)                                                                        \
    static void change##_and_it_is_no_copy(void **state)                                           \
    {                                                                                              \
        lose_after(*state, change);                                                                \
    }

CHANGE_TEST(overwrite_it)
CHANGE_TEST(overwrite_secretly)
CHANGE_TEST(delete_it)
CHANGE_TEST(replace_it)

/* More names and another mode: the bytes are compared, and serve. */
static void a_link_more_is_no_change(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_followed(scratch, "file", 1);
    char other[160];
    snprintf(other, sizeof other, "%s.other", outside.path);
    assert_int_equal(link(outside.path, other), 0);
    assert_int_equal(chmod(outside.path, 0600), 0);
    assert_content(scratch->store, &outside.id, outside.content);
    assert_int_equal(status_of(scratch->store).withdrawn_count, 0);
    const struct store_adopted adopted = adopt(scratch->store, &outside);
    assert_int_equal(adopted.file_bytes, SIZE);
    assert_int_equal(info_of(scratch->store, &outside.id).holders[STORE_FOLLOW], 1);
    assert_int_equal(status_of(scratch->store).externals_count, 1);
    assert_content(scratch->store, &outside.id, outside.content);
    free(outside.data);
}

static void scrub_finds_it(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_followed(scratch, "file", 1);
    overwrite_some(outside.path);
    struct store_scrub_report report;
    assert_ok(store_scrub(scratch->store, &(struct store_scrub_options){0}, &report));
    assert_gone(scratch->store, outside.content);
    assert_int_equal(status_of(scratch->store).externals_count, 0);
    free(outside.data);
}

/* ---- it is released ------------------------------------------------------------------------- */

static void what_is_released_is_not_here(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_followed(scratch, "file", 1);
    const struct id unknown = {0};
    assert_ok(store_adopt_end(scratch->store, &unknown, outside.path));
    assert_content(scratch->store, &outside.id, outside.content);
    assert_ok(store_adopt_end(scratch->store, &outside.id, outside.path));
    assert_ok(store_adopt_end(scratch->store, &outside.id, outside.path));
    assert_gone(scratch->store, outside.content);
    assert_int_equal(status_of(scratch->store).externals_count, 0);
    assert_int_equal(status_of(scratch->store).lost_count, 0);
    assert_int_equal(info_of(scratch->store, &outside.id).holders[STORE_FOLLOW], 0);
    assert_ok(store_release(scratch->store, &outside.id, STORE_CACHE));
    tidy_now(scratch);
    assert_int_equal(status_of(scratch->store).blocks_count, 0);
    assert_int_equal(status_of(scratch->store).files_count, 0);
    free(outside.data);
}

static void another_content_takes_its_place(void **state)
{
    struct scratch *scratch = *state;
    struct outside one = make_followed(scratch, "file", 1);
    struct outside two = make_outside(scratch, "file", 2, SIZE);
    put_bytes(scratch->store, STORE_CACHE, two.content);
    adopt(scratch->store, &two);
    assert_gone(scratch->store, one.content);
    assert_int_equal(info_of(scratch->store, &one.id).holders[STORE_FOLLOW], 0);
    assert_int_equal(info_of(scratch->store, &two.id).holders[STORE_FOLLOW], 1);
    assert_content(scratch->store, &two.id, two.content);
    /* Late word about the first one. */
    assert_ok(store_adopt_end(scratch->store, &one.id, one.path));
    assert_content(scratch->store, &two.id, two.content);
    free(one.data);
    free(two.data);
}

static void two_files_with_the_same_bytes(void **state)
{
    struct scratch *scratch = *state;
    struct outside one = make_followed(scratch, "one", 1);
    struct outside two = make_outside(scratch, "two", 1, SIZE);
    adopt(scratch->store, &two);
    assert_int_equal(info_of(scratch->store, &one.id).holders[STORE_FOLLOW], 2);
    assert_int_equal(unlink(one.path), 0);
    assert_ok(store_adopt_end(scratch->store, &one.id, one.path));
    assert_int_equal(info_of(scratch->store, &one.id).holders[STORE_FOLLOW], 1);
    assert_content(scratch->store, &two.id, two.content);
    assert_int_equal(status_of(scratch->store).externals_count, 1);
    free(one.data);
    free(two.data);
}

/* More of them than places of a block: each may go, the last one serves if it has a place. */
static void many_files_with_the_same_bytes(void **state)
{
    struct scratch *scratch = *state;
    struct outside all[20];
    struct store_adopted adopted = {0};
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        char name[16];
        snprintf(name, sizeof name, "file-%zu", i);
        all[i] = make_outside(scratch, name, 1, SIZE);
        put_bytes(scratch->store, STORE_CACHE, all[i].content);
        adopted = adopt(scratch->store, &all[i]);
        assert_int_equal(adopted.file_bytes + adopted.busy_bytes, SIZE);
        assert_content(scratch->store, &all[i].id, all[i].content);
    }
    /* More places than a block can have: the last one is told to ask again. */
    assert_int_equal(adopted.busy_bytes, SIZE);
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        assert_int_equal(unlink(all[i].path), 0);
        assert_ok(store_adopt_end(scratch->store, &all[i].id, all[i].path));
        if (i + 1 < ARRAY_SIZE(all)) {
            adopt(scratch->store, &all[i + 1]);
            assert_content(scratch->store, &all[i].id, all[i].content);
        }
    }
    assert_int_equal(info_of(scratch->store, &all[0].id).holders[STORE_FOLLOW], 0);
    assert_int_equal(status_of(scratch->store).externals_count, 0);
    assert_int_equal(status_of(scratch->store).lost_count, 0);
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        free(all[i].data);
    }
}

/* ---- other reasons -------------------------------------------------------------------------- */

static void assert_survives(struct scratch *scratch, const struct outside *outside)
{
    overwrite_some(outside->path);
    assert_content(scratch->store, &outside->id, outside->content);
    assert_int_equal(unlink(outside->path), 0);
    assert_ok(store_adopt_end(scratch->store, &outside->id, outside->path));
    tidy_now(scratch);
    scratch_reopen(scratch);
    assert_content(scratch->store, &outside->id, outside->content);
    assert_int_equal(status_of(scratch->store).lost_count, 0);
}

static void what_is_kept_keeps_its_own_bytes(void **state)
{
    struct scratch *scratch = *state;
    const enum store_reason reasons[] = {STORE_ORIGIN, STORE_COPY};
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
        struct outside outside = make_outside(scratch, "file", 1 + i, SIZE);
        put_bytes(scratch->store, STORE_CACHE, outside.content);
        put_bytes(scratch->store, reasons[i], outside.content);
        const struct store_adopted adopted = adopt(scratch->store, &outside);
        assert_int_equal(adopted.given_up_bytes, 0);
        assert_int_equal(adopted.kept_bytes, SIZE);
        assert_int_equal(adopted.busy_bytes, 0);
        assert_survives(scratch, &outside);
        free(outside.data);
    }
}

static void a_later_hold_copies_first(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_followed(scratch, "file", 1);
    assert_ok(store_hold(scratch->store, &outside.id, STORE_COPY));
    assert_true(status_of(scratch->store).live_bytes >= SIZE);
    assert_survives(scratch, &outside);
    free(outside.data);
}

static void a_later_put_copies(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_followed(scratch, "file", 1);
    assert_int_equal(put_bytes(scratch->store, STORE_ORIGIN, outside.content).new_bytes, SIZE);
    assert_survives(scratch, &outside);
    free(outside.data);
}

struct hold_job {
    struct store_job job;
    struct store *store;
    const struct id *file;
};

static int hold_apply(struct store_job *job, struct kv_txn *txn)
{
    const struct hold_job *self = CONTAINER_OF(job, struct hold_job, job);
    return store_hold_in(self->store, txn, self->file, STORE_ORIGIN);
}

/* In a transaction nothing can be copied. */
static void a_hold_in_a_transaction_is_refused(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_followed(scratch, "file", 1);
    struct hold_job self = {{.apply = hold_apply}, scratch->store, &outside.id};
    assert_int_equal(store_submit_wait(scratch->store, &self.job), -ENOENT);
    assert_ok(store_own(scratch->store, &outside.id));
    assert_ok(store_own(scratch->store, &outside.id));
    assert_ok(store_submit_wait(scratch->store, &self.job));
    assert_survives(scratch, &outside);
    free(outside.data);
}

/* An intake that is to keep does not count what stands in a followed file alone; another one does.
 */
static void intakes(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_followed(scratch, "file", 1);
    CLEANUP_FILE_METADATA struct file_metadata metadata;
    expected_metadata(outside.content, &metadata);
    struct store_intake *intake = NULL;
    struct store_intake_progress progress;
    assert_ok(store_intake_open(scratch->store, &metadata, STORE_CACHE, &intake));
    store_intake_progress(intake, &progress);
    assert_int_equal(progress.blocks_count, BLOCKS);
    assert_ok(store_intake_commit(intake));
    assert_ok(store_intake_open(scratch->store, &metadata, STORE_COPY, &intake));
    store_intake_progress(intake, &progress);
    assert_int_equal(progress.blocks_count, 0);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        assert_ok(store_intake_block(
            intake, i, BYTES(outside.data + i * BLOCK, metadata.blocks[i].size_bytes)));
    }
    assert_ok(store_intake_commit(intake));
    assert_survives(scratch, &outside);
    free(outside.data);
}

/* Nobody else may rely on it when he evicts his own. */
static void it_is_not_promised(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_followed(scratch, "file", 1);
    const struct id block = block_id(BYTES(outside.data, BLOCK));
    assert_int_equal(store_promise(scratch->store, &block, 1000), -ENOENT);
    assert_ok(store_own(scratch->store, &outside.id));
    assert_ok(store_promise(scratch->store, &block, 1000));
    free(outside.data);
}

/* Nor is what was promised given up for a followed file. */
static void what_was_promised_stays(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_outside(scratch, "file", 1, SIZE);
    put_bytes(scratch->store, STORE_CACHE, outside.content);
    const struct id block = block_id(BYTES(outside.data, BLOCK));
    assert_ok(store_promise(scratch->store, &block, 1000));
    const struct store_adopted adopted = adopt(scratch->store, &outside);
    assert_int_equal(adopted.kept_bytes, BLOCK);
    assert_int_equal(adopted.given_up_bytes, SIZE - BLOCK);
    free(outside.data);
}

static void what_is_pinned_stays(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_outside(scratch, "file", 1, SIZE);
    put_bytes(scratch->store, STORE_CACHE, outside.content);
    const struct id block = block_id(BYTES(outside.data, BLOCK));
    struct store_view view;
    assert_ok(store_view_open(scratch->store, &block, &view));
    struct store_adopted adopted = adopt(scratch->store, &outside);
    assert_int_equal(adopted.busy_bytes, BLOCK);
    assert_int_equal(adopted.given_up_bytes, SIZE - BLOCK);
    tidy_now(scratch);
    assert_memory_equal(view.bytes.data, outside.data, BLOCK);
    store_view_close(&view);
    adopted = adopt(scratch->store, &outside);
    assert_int_equal(adopted.busy_bytes, 0);
    assert_int_equal(adopted.given_up_bytes, BLOCK);
    tidy_now(scratch);
    assert_int_equal(disk_bytes(scratch), 0);
    free(outside.data);
}

/* Put in place where it is followed: what follows goes, what was put stays. */
static void put_in_place_of_a_followed_file(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_followed(scratch, "file", 1);
    struct store_put *put = NULL;
    struct store_put_result result;
    assert_ok(store_put_begin(scratch->store, STORE_ORIGIN, &put));
    assert_ok(store_put_in_place(put, outside.path));
    assert_ok(store_put_commit(put, &result));
    assert_ok(store_adopt_end(scratch->store, &outside.id, outside.path));
    assert_content(scratch->store, &outside.id, outside.content);
    assert_int_equal(status_of(scratch->store).externals_count, 1);
    free(outside.data);
}

static void a_reader_changes_nothing(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_followed(scratch, "file", 1);
    const struct store_options options = {
        .path = scratch->store_path, .read_only = true, .index_map_bytes = 1024 * MIB};
    scratch_close(scratch);
    struct store *reader = NULL;
    struct store_adopted adopted;
    assert_ok(store_open(&options, &reader));
    assert_content(reader, &outside.id, outside.content);
    assert_int_equal(store_adopt(reader, &outside.id, outside.path, &adopted), -EROFS);
    assert_int_equal(store_adopt_end(reader, &outside.id, outside.path), -EROFS);
    store_close(reader);
    free(outside.data);
}

int main(void)
{
    alarm(240); /* what hangs must not hang the run */
    const struct CMUnitTest tests[] = {
        STORE_TEST(its_bytes_stand_once),
        STORE_TEST(again_changes_nothing),
        STORE_TEST(it_brings_back_what_was_not_here),
        STORE_TEST(a_small_one_is_held_in_segments),
        STORE_TEST(a_block_twice_in_a_file),
        STORE_TEST(other_files_are_refused),
        STORE_TEST(overwrite_it_and_it_is_no_copy),
        STORE_TEST(overwrite_secretly_and_it_is_no_copy),
        STORE_TEST(delete_it_and_it_is_no_copy),
        STORE_TEST(replace_it_and_it_is_no_copy),
        STORE_TEST(a_link_more_is_no_change),
        STORE_TEST(scrub_finds_it),
        STORE_TEST(what_is_released_is_not_here),
        STORE_TEST(another_content_takes_its_place),
        STORE_TEST(two_files_with_the_same_bytes),
        STORE_TEST(many_files_with_the_same_bytes),
        STORE_TEST(what_is_kept_keeps_its_own_bytes),
        STORE_TEST(a_later_hold_copies_first),
        STORE_TEST(a_later_put_copies),
        STORE_TEST(a_hold_in_a_transaction_is_refused),
        STORE_TEST(intakes),
        STORE_TEST(it_is_not_promised),
        STORE_TEST(what_was_promised_stays),
        STORE_TEST(what_is_pinned_stays),
        STORE_TEST(put_in_place_of_a_followed_file),
        STORE_TEST(a_reader_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
