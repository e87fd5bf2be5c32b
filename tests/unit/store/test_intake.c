/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Content that comes block by block from elsewhere: in any order, over restarts and crashes, with
 * other content beside it that shares blocks, while collection and eviction do their worst.
 */
#include "intake_helpers.h"

#include "store/held.h"

#include <sys/wait.h>

static uint32_t holders_of(struct store *store, const struct coming *coming,
                           enum store_reason reason)
{
    struct store_file_info info;
    assert_ok(store_file_info(store, &coming->id, &info));
    return info.holders[reason];
}

static void evict_all(struct store *store)
{
    struct store_candidate candidates[64];
    struct id ids[64];
    size_t count = 0;
    struct store_evicted evicted;
    assert_ok(store_evict_candidates(store, UINT64_MAX, 64, candidates, &count));
    for (size_t i = 0; i < count; i++) {
        ids[i] = candidates[i].id;
    }
    assert_ok(store_evict(store, ids, count, &evicted));
}

/* Who evicts its own may not rely on what a drop takes. */
static void what_may_be_dropped_is_not_promised(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming coming;
    make_coming(&coming, 1, SIZE);
    struct store_intake *intake = open_intake(scratch->store, &coming, STORE_COPY);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        assert_ok(store_intake_block(intake, i, block_of(&coming, i)));
    }
    assert_ok(store_intake_flush(intake));
    const struct id *id = &coming.metadata.blocks[0].id;
    assert_int_equal(store_promise(scratch->store, id, 1000), -ENOENT);
    assert_ok(store_intake_commit(intake));
    assert_ok(store_promise(scratch->store, id, 1000));
}

/* ---- blocks --------------------------------------------------------------------------------- */

static void any_order_and_twice(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming coming;
    make_coming(&coming, 1, SIZE);
    struct store_intake *intake = open_intake(scratch->store, &coming, STORE_FOLLOW);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        const uint32_t index = (i * 7 + 3) % BLOCKS;
        assert_false(has(intake, index));
        assert_block(scratch->store, &coming, index, false);
        assert_ok(store_intake_block(intake, index, block_of(&coming, index)));
        assert_ok(store_intake_block(intake, index, block_of(&coming, index)));
        assert_true(has(intake, index));
        assert_int_equal(here(intake), i + 1);
        /* At once, whether it was flushed or not. */
        assert_block(scratch->store, &coming, index, true);
        if (i % 3 == 1) {
            assert_ok(store_intake_flush(intake));
            assert_block(scratch->store, &coming, index, true);
        }
    }
    assert_int_equal(holders_of(scratch->store, &coming, STORE_FOLLOW), 0);
    assert_ok(store_intake_commit(intake));
    assert_int_equal(holders_of(scratch->store, &coming, STORE_FOLLOW), 1);
    assert_content(scratch->store, &coming.id, BYTES(coming.data, SIZE));
    assert_int_equal(status_of(scratch->store).live_bytes, SIZE);
    assert_ok(store_release(scratch->store, &coming.id, STORE_FOLLOW));
    assert_nothing(scratch);
}

static void wrong_bytes_are_refused(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming coming;
    make_coming(&coming, 1, SIZE);
    struct store_intake *intake = open_intake(scratch->store, &coming, STORE_COPY);
    const struct bytes good = block_of(&coming, 2);
    CLEANUP_FREE uint8_t *bad = mem_copy(good.data, good.size);
    bad[good.size - 1] ^= 1;
    assert_int_equal(store_intake_block(intake, 2, BYTES(bad, good.size)), -EBADMSG);
    assert_int_equal(store_intake_block(intake, 2, BYTES(good.data, good.size - 1)), -EBADMSG);
    assert_int_equal(store_intake_block(intake, 2, BYTES(NULL, 0)), -EBADMSG);
    assert_int_equal(store_intake_block(intake, 2, block_of(&coming, 3)), -EBADMSG);
    assert_int_equal(store_intake_block(intake, BLOCKS, good), -EINVAL);
    assert_int_equal(here(intake), 0);
    assert_block(scratch->store, &coming, 2, false);
    give(intake, &coming, 0, BLOCKS);
    assert_ok(store_intake_commit(intake));
    assert_content(scratch->store, &coming.id, BYTES(coming.data, SIZE));
}

static void the_same_block_many_times(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming coming = {.data = mem_alloc(SIZE), .size = SIZE};
    expected_metadata(BYTES(coming.data, SIZE), &coming.metadata); /* ten equal ones, and a rest */
    coming.id = expected_id(BYTES(coming.data, SIZE));
    struct store_intake *intake = open_intake(scratch->store, &coming, STORE_ORIGIN);
    give(intake, &coming, 4, 5);
    assert_int_equal(here(intake), BLOCKS - 1);
    assert_ok(store_intake_close(intake));
    intake = open_intake(scratch->store, &coming, STORE_ORIGIN);
    assert_int_equal(here(intake), BLOCKS - 1);
    give(intake, &coming, BLOCKS - 1, BLOCKS);
    assert_ok(store_intake_commit(intake));
    tidy_now(scratch);
    assert_content(scratch->store, &coming.id, BYTES(coming.data, SIZE));
    assert_ok(store_release(scratch->store, &coming.id, STORE_ORIGIN));
    assert_nothing(scratch);
}

static void the_empty_file(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming coming;
    make_coming(&coming, 1, 0);
    struct store_intake *intake = open_intake(scratch->store, &coming, STORE_CACHE);
    assert_ok(store_intake_close(intake));
    intake = open_intake(scratch->store, &coming, STORE_CACHE);
    assert_ok(store_intake_commit(intake));
    assert_int_equal(holders_of(scratch->store, &coming, STORE_CACHE), 1);
    assert_ok(store_release(scratch->store, &coming.id, STORE_CACHE));
    assert_nothing(scratch);
}

/* The bits of the blocks stand in several rows. */
static void thousands_of_small_blocks(void **state)
{
    struct scratch *scratch = *state;
    enum { MANY = 9000, EACH = 16 };
    CLEANUP_FREE uint8_t *data = make_content(5, (size_t)MANY * EACH);
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    for (size_t i = 0; i < MANY; i++) {
        const struct id id = block_id(BYTES(data + i * EACH, EACH));
        assert_ok(file_metadata_add(&metadata, &id, EACH));
    }
    struct store_intake *intake = NULL;
    assert_ok(store_intake_open(scratch->store, &metadata, STORE_COPY, &intake));
    for (uint32_t i = 0; i < MANY; i++) {
        if (i % 3 != 0) {
            assert_ok(store_intake_block(intake, i, BYTES(data + (size_t)i * EACH, EACH)));
        }
    }
    assert_ok(store_intake_close(intake));
    scratch_reopen(scratch);
    tidy_now(scratch);
    assert_ok(store_intake_open(scratch->store, &metadata, STORE_COPY, &intake));
    assert_int_equal(here(intake), MANY - MANY / 3);
    assert_int_equal(store_intake_commit(intake), -EAGAIN);
    for (uint32_t i = 0; i < MANY; i += 3) {
        assert_ok(store_intake_block(intake, i, BYTES(data + (size_t)i * EACH, EACH)));
    }
    struct id id;
    file_metadata_id(&metadata, &id);
    assert_ok(store_intake_commit(intake));
    assert_ok(store_release(scratch->store, &id, STORE_COPY));
    assert_nothing(scratch);
}

/* ---- what is durable ------------------------------------------------------------------------ */

static void put_aside_and_gone_on_with(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming coming;
    make_coming(&coming, 1, SIZE);
    struct store_intake *intake = open_intake(scratch->store, &coming, STORE_CACHE);
    struct store_intake *second = NULL;
    assert_int_equal(store_intake_open(scratch->store, &coming.metadata, STORE_CACHE, &second),
                     -EBUSY);
    give(intake, &coming, 0, 4);
    assert_ok(store_intake_close(intake));
    scratch_reopen(scratch);

    struct store_intake_info info;
    assert_ok(store_intake_next(scratch->store, NULL, &info));
    assert_true(id_equal(&info.id, &coming.id));
    assert_int_equal(info.reason, STORE_CACHE);
    assert_int_equal(store_intake_next(scratch->store, &info.id, &info), -ENOENT);
    /* Nobody has it open, and still: all that could take it away leaves it alone. */
    tidy_now(scratch);
    evict_all(scratch->store);
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    assert_ok(store_file_metadata(scratch->store, &info.id, &metadata));
    assert_int_equal(metadata.blocks_count, BLOCKS);
    assert_int_equal(store_hold(scratch->store, &coming.id, STORE_COPY), -ENOENT);

    /* For another reason this time. */
    intake = open_intake(scratch->store, &coming, STORE_FOLLOW);
    assert_ok(store_intake_next(scratch->store, NULL, &info));
    assert_int_equal(info.reason, STORE_FOLLOW);
    assert_int_equal(here(intake), 4);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        assert_int_equal(has(intake, i), i < 4);
        assert_block(scratch->store, &coming, i, i < 4);
    }
    give(intake, &coming, 4, BLOCKS);
    assert_ok(store_intake_commit(intake));
    assert_int_equal(store_intake_next(scratch->store, NULL, &info), -ENOENT);
    assert_int_equal(holders_of(scratch->store, &coming, STORE_FOLLOW), 1);
    assert_int_equal(holders_of(scratch->store, &coming, STORE_CACHE), 0);
    scratch_reopen(scratch);
    tidy_now(scratch);
    assert_content(scratch->store, &coming.id, BYTES(coming.data, SIZE));
    assert_ok(store_release(scratch->store, &coming.id, STORE_FOLLOW));
    assert_nothing(scratch);
}

/* A process of its own that takes `flushed` blocks, flushes, takes up to `taken`, and is gone. */
static void crash_with(struct scratch *scratch, const struct coming *coming, uint32_t flushed,
                       uint32_t taken)
{
    scratch_close(scratch);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct store *store = NULL;
        struct store_intake *intake = NULL;
        MUST(store_open(&scratch->options, &store) == 0);
        MUST(store_intake_open(store, &coming->metadata, STORE_CACHE, &intake) == 0);
        for (uint32_t i = 0; i < taken; i++) {
            MUST(store_intake_block(intake, i, block_of(coming, i)) == 0);
            MUST(i + 1 != flushed || store_intake_flush(intake) == 0);
        }
        _exit(0);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    scratch_open(scratch);
}

static void crash_at_any_block(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming coming;
    make_coming(&coming, 1, SIZE);
    for (uint32_t flushed = 0; flushed <= BLOCKS; flushed++) {
        for (uint32_t taken = flushed; taken <= BLOCKS; taken += 5) {
            crash_with(scratch, &coming, flushed, taken);
            tidy_now(scratch);
            /* What was flushed is there; what was not is not, and takes no space. */
            struct store_intake *intake = open_intake(scratch->store, &coming, STORE_CACHE);
            assert_int_equal(here(intake), flushed);
            for (uint32_t i = 0; i < BLOCKS; i++) {
                assert_block(scratch->store, &coming, i, i < flushed);
            }
            assert_in_range(disk_bytes(scratch), 0, flushed * BLOCK + PAGE);
            give(intake, &coming, flushed, BLOCKS);
            assert_ok(store_intake_commit(intake));
            assert_content(scratch->store, &coming.id, BYTES(coming.data, SIZE));
            assert_int_equal(status_of(scratch->store).live_bytes, SIZE);
            assert_ok(store_release(scratch->store, &coming.id, STORE_CACHE));
            assert_nothing(scratch);
        }
    }
}

static void flushes_come_by_themselves(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming coming;
    make_coming(&coming, 1, SIZE);
    struct store_intake *intake = open_intake(scratch->store, &coming, STORE_COPY);
    enum store_held_state held = STORE_HELD_NONE;
    const struct id *first = &coming.metadata.blocks[0].id;
    give(intake, &coming, 0, 1);
    drain(scratch->store);
    /* Only what is durable is told to others. */
    assert_ok(store_held_state(scratch->store, first, &held));
    assert_int_equal(held, STORE_HELD_NONE);
    advance(scratch, STORE_INTAKE_FLUSH_MS);
    give(intake, &coming, 1, 2);
    drain(scratch->store);
    assert_ok(store_held_state(scratch->store, first, &held));
    assert_int_equal(held, STORE_HELD_COMPLETE);
    assert_ok(store_intake_close(intake));
}

/* ---- beside others -------------------------------------------------------------------------- */

static void collection_and_eviction_leave_it_alone(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming coming;
    make_coming(&coming, 1, SIZE);
    /* Three blocks are in the cache; one more was written by a put that was given up. */
    struct store_put *put = NULL;
    put_bytes(scratch->store, STORE_CACHE, BYTES(coming.data, 3 * BLOCK));
    assert_ok(store_put_begin(scratch->store, STORE_ORIGIN, &put));
    assert_ok(store_put_write(put, BYTES(coming.data, 4 * BLOCK)));
    store_put_abort(put);
    drain(scratch->store);
    struct store_intake *intake = open_intake(scratch->store, &coming, STORE_CACHE);
    assert_int_equal(here(intake), 3);
    give(intake, &coming, 3, 8);
    for (int flushed = 0; flushed < 2; flushed++) {
        tidy_now(scratch);
        evict_all(scratch->store);
        for (uint32_t i = 0; i < BLOCKS; i++) {
            assert_block(scratch->store, &coming, i, i < 8);
        }
        assert_ok(store_intake_flush(intake));
    }
    give(intake, &coming, 8, BLOCKS);
    assert_ok(store_intake_commit(intake));
    tidy_now(scratch);
    assert_content(scratch->store, &coming.id, BYTES(coming.data, SIZE));
    /* Now it is as any other in the cache. */
    assert_int_equal(status_of(scratch->store).cache_bytes, SIZE);
    evict_all(scratch->store);
    assert_int_equal(status_of(scratch->store).cache_bytes, 0);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        assert_block(scratch->store, &coming, i, false);
    }
    /* And comes again, without being held twice. */
    intake = open_intake(scratch->store, &coming, STORE_CACHE);
    assert_int_equal(here(intake), 0);
    give(intake, &coming, 0, BLOCKS);
    assert_ok(store_intake_commit(intake));
    assert_content(scratch->store, &coming.id, BYTES(coming.data, SIZE));
    assert_int_equal(holders_of(scratch->store, &coming, STORE_CACHE), 1);
    assert_int_equal(status_of(scratch->store).cache_bytes, SIZE);
}

/* A file that is released while it comes again stays known until that is over. */
static void released_while_it_comes_again(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming coming;
    make_coming(&coming, 1, SIZE);
    put_bytes(scratch->store, STORE_CACHE, BYTES(coming.data, SIZE));
    evict_all(scratch->store);
    struct store_intake *intake = open_intake(scratch->store, &coming, STORE_FOLLOW);
    give(intake, &coming, 0, 5);
    assert_ok(store_release(scratch->store, &coming.id, STORE_CACHE));
    tidy_now(scratch);
    give(intake, &coming, 5, BLOCKS);
    assert_ok(store_intake_commit(intake));
    tidy_now(scratch);
    assert_content(scratch->store, &coming.id, BYTES(coming.data, SIZE));
    assert_ok(store_release(scratch->store, &coming.id, STORE_FOLLOW));
    assert_nothing(scratch);
}

static void two_that_share_blocks(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming one;
    CLEANUP_COMING struct coming two;
    make_coming(&one, 1, SIZE);
    make_coming(&two, 2, SIZE);
    memcpy(two.data, one.data, 6 * BLOCK);
    file_metadata_done(&two.metadata);
    expected_metadata(BYTES(two.data, SIZE), &two.metadata);
    two.id = expected_id(BYTES(two.data, SIZE));
    struct store_intake *first = open_intake(scratch->store, &one, STORE_FOLLOW);
    struct store_intake *second = open_intake(scratch->store, &two, STORE_CACHE);
    /* Taken by both before any flush, by the second after that of the first, and by one alone. */
    give(first, &one, 0, 2);
    give(second, &two, 0, 2);
    assert_ok(store_intake_flush(first));
    give(first, &one, 2, 4);
    assert_ok(store_intake_flush(first));
    give(second, &two, 2, 4);
    give(first, &one, 4, BLOCKS);
    for (uint32_t i = 0; i < 6; i++) {
        assert_block(scratch->store, &two, i, true);
    }
    /* The end of the first does not take what the second counts on. */
    assert_ok(store_intake_drop(first));
    tidy_now(scratch);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        assert_block(scratch->store, &two, i, i < 4);
        assert_int_equal(has(second, i), i < 4);
    }
    give(second, &two, 4, BLOCKS);
    assert_ok(store_intake_commit(second));
    tidy_now(scratch);
    assert_content(scratch->store, &two.id, BYTES(two.data, SIZE));
    assert_int_equal(status_of(scratch->store).live_bytes, SIZE);
    assert_ok(store_release(scratch->store, &two.id, STORE_CACHE));
    assert_nothing(scratch);
}

/* The range that a reader looks at turns out to be spare: it is given back when nobody looks any
 * more, and who reads piece by piece finds the other one. */
static void a_view_outlives_its_range(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming coming;
    make_coming(&coming, 1, SIZE);
    struct store_intake *intake = open_intake(scratch->store, &coming, STORE_FOLLOW);
    give(intake, &coming, 0, 4);
    struct store_view views[4];
    struct store_reader *readers[4];
    for (uint32_t i = 0; i < 4; i++) {
        const struct id *id = &coming.metadata.blocks[i].id;
        assert_ok(store_view_open(scratch->store, id, &views[i]));
        assert_ok(store_reader_open(scratch->store, id, &readers[i]));
    }
    put_bytes(scratch->store, STORE_ORIGIN, BYTES(coming.data, 4 * BLOCK));
    assert_ok(store_intake_flush(intake));
    tidy_now(scratch);
    for (uint32_t i = 0; i < 4; i++) {
        assert_true(bytes_equal(views[i].bytes, block_of(&coming, i)));
        assert_null(views[i].copy);
        store_view_close(&views[i]);
    }
    tidy_now(scratch);
    assert_in_range(disk_bytes(scratch), 4 * BLOCK, 4 * BLOCK + PAGE);
    CLEANUP_FREE uint8_t *data = mem_alloc(BLOCK);
    for (uint32_t i = 0; i < 4; i++) {
        assert_ok(store_reader_copy(readers[i], 0, data, BLOCK));
        assert_memory_equal(data, block_of(&coming, i).data, BLOCK);
        store_reader_close(readers[i]);
    }
    assert_ok(store_intake_drop(intake));
}

static void put_here_meanwhile(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming coming;
    make_coming(&coming, 1, SIZE);
    struct store_intake *intake = open_intake(scratch->store, &coming, STORE_ORIGIN);
    give(intake, &coming, 0, 5);
    put_bytes(scratch->store, STORE_ORIGIN, BYTES(coming.data, SIZE));
    give(intake, &coming, 5, BLOCKS);
    assert_ok(store_intake_commit(intake));
    assert_int_equal(holders_of(scratch->store, &coming, STORE_ORIGIN), 1);
    tidy_now(scratch);
    assert_int_equal(status_of(scratch->store).live_bytes, SIZE);
    assert_content(scratch->store, &coming.id, BYTES(coming.data, SIZE));
    assert_ok(store_release(scratch->store, &coming.id, STORE_ORIGIN));
    assert_nothing(scratch);
}

/* ---- the ends ------------------------------------------------------------------------------- */

static void a_drop_gives_the_space_back(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming coming;
    make_coming(&coming, 1, SIZE);
    const struct id kept = put_bytes(scratch->store, STORE_ORIGIN, BYTES(coming.data, BLOCK)).id;
    struct store_intake *intake = open_intake(scratch->store, &coming, STORE_FOLLOW);
    assert_int_equal(here(intake), 1);
    give(intake, &coming, 0, 4);
    assert_ok(store_intake_flush(intake));
    give(intake, &coming, 4, 7);
    /* Somebody reads one that was never flushed. */
    struct store_view view;
    assert_ok(store_view_open(scratch->store, &coming.metadata.blocks[6].id, &view));
    assert_ok(store_intake_drop(intake));
    tidy_now(scratch);
    assert_true(bytes_equal(view.bytes, block_of(&coming, 6)));
    store_view_close(&view);
    tidy_now(scratch);
    assert_content(scratch->store, &kept, BYTES(coming.data, BLOCK));
    for (uint32_t i = 1; i < BLOCKS; i++) {
        assert_block(scratch->store, &coming, i, false);
    }
    struct file_metadata metadata;
    assert_int_equal(store_file_metadata(scratch->store, &coming.id, &metadata), -ENOENT);
    assert_ok(store_release(scratch->store, &kept, STORE_ORIGIN));
    assert_nothing(scratch);
}

static void a_commit_needs_all_blocks(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming coming;
    make_coming(&coming, 1, SIZE);
    struct store_intake *intake = open_intake(scratch->store, &coming, STORE_COPY);
    give(intake, &coming, 0, BLOCKS - 1);
    assert_int_equal(store_intake_commit(intake), -EAGAIN);
    assert_int_equal(here(intake), BLOCKS - 1);
    give(intake, &coming, BLOCKS - 1, BLOCKS);
    assert_ok(store_intake_flush(intake));

    /* One is damaged on the disk, and somebody finds out. */
    char path[160];
    snprintf(path, sizeof path, "%s/segments/00000000.seg", scratch->store_path);
    CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "damage", 6, BLOCK + 100), 6);
    bool is_dropped = false;
    assert_ok(store_report_bad(scratch->store, &coming.metadata.blocks[1].id, &is_dropped));
    assert_true(is_dropped);
    assert_int_equal(store_intake_commit(intake), -EAGAIN);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        assert_int_equal(has(intake, i), i != 1);
    }
    give(intake, &coming, 1, 2);
    assert_ok(store_intake_commit(intake));
    assert_content(scratch->store, &coming.id, BYTES(coming.data, SIZE));
    assert_ok(store_release(scratch->store, &coming.id, STORE_COPY));
    assert_nothing(scratch);
}

static void a_full_disk_loses_nothing(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming coming;
    make_coming(&coming, 1, SIZE);
    struct store_intake *intake = open_intake(scratch->store, &coming, STORE_COPY);
    give(intake, &coming, 0, 3);
    assert_ok(store_intake_close(intake));
    scratch->options.reserve_bytes = (uint64_t)1 << 60;
    scratch_reopen(scratch);
    intake = open_intake(scratch->store, &coming, STORE_COPY);
    assert_int_equal(store_intake_block(intake, 5, block_of(&coming, 5)), -ENOSPC);
    assert_int_equal(here(intake), 3);
    assert_block(scratch->store, &coming, 5, false);
    assert_ok(store_intake_close(intake));
    scratch->options.reserve_bytes = 1;
    scratch_reopen(scratch);
    intake = open_intake(scratch->store, &coming, STORE_COPY);
    assert_int_equal(here(intake), 3);
    give(intake, &coming, 0, BLOCKS);
    assert_ok(store_intake_commit(intake));
    assert_content(scratch->store, &coming.id, BYTES(coming.data, SIZE));
}

/* The blocks have room, the index has none. */
static void a_full_index_loses_nothing(void **state)
{
    struct scratch *scratch = *state;
    enum { MANY = 4000, EACH = 64 };
    scratch->options.index_map_bytes = 512 * KIB;
    scratch_open(scratch);
    CLEANUP_FREE uint8_t *data = make_content(5, (size_t)MANY * EACH);
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    for (size_t i = 0; i < MANY; i++) {
        const struct id id = block_id(BYTES(data + i * EACH, EACH));
        assert_ok(file_metadata_add(&metadata, &id, EACH));
    }
    struct store_intake *intake = NULL;
    assert_ok(store_intake_open(scratch->store, &metadata, STORE_COPY, &intake));
    uint32_t taken = 0;
    int err = 0;
    while (taken < MANY && !err) {
        err = store_intake_block(intake, taken, BYTES(data + (size_t)taken * EACH, EACH));
        if (!err && ++taken % 100 == 0) {
            err = store_intake_flush(intake);
        }
    }
    assert_int_equal(err, -ENOSPC);
    assert_in_range(taken, 100, MANY - 1);
    /* It takes no more, and what it has taken can be read. */
    assert_int_equal(store_intake_block(intake, taken, BYTES(data + (size_t)taken * EACH, EACH)),
                     -ENOSPC);
    assert_int_equal(here(intake), taken);
    for (uint32_t i = 0; i < taken; i++) {
        uint8_t block[EACH];
        assert_ok(store_read_block(scratch->store, &metadata.blocks[i].id, 0, block, EACH));
        assert_memory_equal(block, data + (size_t)i * EACH, EACH);
    }
    assert_int_equal(store_intake_close(intake), -ENOSPC);
    scratch->options.index_map_bytes = 64 * MIB;
    scratch_reopen(scratch);
    assert_ok(store_intake_open(scratch->store, &metadata, STORE_COPY, &intake));
    assert_int_equal(here(intake), (taken - 1) / 100 * 100);
    for (uint32_t i = 0; i < MANY; i++) {
        assert_ok(store_intake_block(intake, i, BYTES(data + (size_t)i * EACH, EACH)));
    }
    assert_ok(store_intake_commit(intake));
    struct id id;
    file_metadata_id(&metadata, &id);
    assert_ok(store_release(scratch->store, &id, STORE_COPY));
    assert_nothing(scratch);
}

static void read_only(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_COMING struct coming coming;
    make_coming(&coming, 1, BLOCK);
    scratch->options.read_only = true;
    scratch_reopen(scratch);
    struct store_intake *intake = NULL;
    assert_int_equal(store_intake_open(scratch->store, &coming.metadata, STORE_COPY, &intake),
                     -EROFS);
    assert_null(intake);
    assert_ok(store_intake_close(NULL));
    assert_ok(store_intake_drop(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(what_may_be_dropped_is_not_promised),
        STORE_TEST(any_order_and_twice),
        STORE_TEST(wrong_bytes_are_refused),
        STORE_TEST(the_same_block_many_times),
        STORE_TEST(the_empty_file),
        STORE_TEST(thousands_of_small_blocks),
        STORE_TEST(put_aside_and_gone_on_with),
        STORE_TEST(crash_at_any_block),
        STORE_TEST(flushes_come_by_themselves),
        STORE_TEST(collection_and_eviction_leave_it_alone),
        STORE_TEST(released_while_it_comes_again),
        STORE_TEST(two_that_share_blocks),
        STORE_TEST(a_view_outlives_its_range),
        STORE_TEST(put_here_meanwhile),
        STORE_TEST(a_drop_gives_the_space_back),
        STORE_TEST(a_commit_needs_all_blocks),
        STORE_TEST(a_full_disk_loses_nothing),
        DIRECTORY_TEST(a_full_index_loses_nothing),
        STORE_TEST(read_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
