/* SPDX-License-Identifier: Apache-2.0 */
/* Collection: not before the grace time, not what is pinned or promised, nothing that lives. */
#include "helpers.h"

#define COLLECT_MS 60000u

static const struct store_grace grace = {.collect_ms = COLLECT_MS};

/* Rows that were removed now. */
static size_t collect(struct scratch *scratch)
{
    size_t removed = 0;
    bool more = true;
    assert_ok(store_collect(scratch->store, &grace, SIZE_MAX, &removed, &more));
    assert_false(more);
    return removed;
}

static struct id put_and_release(struct store *store, uint64_t seed, size_t size)
{
    const struct id id = put_seed(store, STORE_ORIGIN, seed, size);
    assert_ok(store_release(store, &id, STORE_ORIGIN));
    return id;
}

static struct id block_of(uint64_t seed, size_t size)
{
    CLEANUP_FREE uint8_t *data = make_content(seed, size);
    return block_id(BYTES(data, size));
}

static void not_before_the_grace_time(void **state)
{
    struct scratch *scratch = *state;
    const struct id id = put_and_release(scratch->store, 1, 3 * BLOCK);
    assert_int_equal(collect(scratch), 0);
    advance(scratch, COLLECT_MS - 1);
    assert_int_equal(collect(scratch), 0);
    assert_seed(scratch->store, &id, 1, 3 * BLOCK);
    assert_int_equal(status_of(scratch->store).unreferenced_count, 4);
    advance(scratch, 1);
    assert_int_equal(collect(scratch), 4);
    const struct store_status status = status_of(scratch->store);
    assert_int_equal(status.unreferenced_count, 0);
    assert_int_equal(status.blocks_count, 0);
    assert_int_equal(status.live_bytes, 0);
    struct store_file_info info;
    assert_int_equal(store_file_info(scratch->store, &id, &info), -ENOENT);
}

/* The time that a store is closed does not count, the time that it was open before does. */
static void the_grace_time_over_sessions(void **state)
{
    struct scratch *scratch = *state;
    put_and_release(scratch->store, 1, 5000);
    advance(scratch, COLLECT_MS / 2);
    scratch_close(scratch);
    advance(scratch, 10 * COLLECT_MS);
    scratch_open(scratch);
    assert_int_equal(collect(scratch), 0);
    advance(scratch, COLLECT_MS / 2 - 100);
    assert_int_equal(collect(scratch), 0);
    advance(scratch, 100);
    assert_int_equal(collect(scratch), 2);
}

static void each_in_its_time(void **state)
{
    struct scratch *scratch = *state;
    for (uint64_t i = 0; i < 10; i++) {
        put_and_release(scratch->store, i, 1000);
        advance(scratch, 1000);
    }
    advance(scratch, COLLECT_MS - 10000);
    for (uint64_t i = 0; i < 10; i++) {
        const struct id block = block_of(i, 1000);
        assert_true(store_has_block(scratch->store, &block));
        assert_int_equal(collect(scratch), 2);
        assert_false(store_has_block(scratch->store, &block));
        advance(scratch, 1000);
    }
}

static void the_limit(void **state)
{
    struct scratch *scratch = *state;
    for (uint64_t i = 0; i < 10; i++) {
        put_and_release(scratch->store, i, 1000);
    }
    advance(scratch, COLLECT_MS);
    size_t removed = 0;
    bool more = false;
    for (int round = 0; round < 6; round++) {
        assert_ok(store_collect(scratch->store, &grace, 3, &removed, &more));
        assert_int_equal(removed, 3);
        assert_true(more);
    }
    assert_ok(store_collect(scratch->store, &grace, 3, &removed, &more));
    assert_int_equal(removed, 2);
    assert_false(more);
}

static void what_is_pinned_stays(void **state)
{
    struct scratch *scratch = *state;
    put_and_release(scratch->store, 1, 5000);
    const struct id block = block_of(1, 5000);
    store_pin(scratch->store, &block);
    store_pin(scratch->store, &block);
    advance(scratch, COLLECT_MS);
    assert_int_equal(collect(scratch), 1); /* the file */
    store_unpin(scratch->store, &block);
    assert_int_equal(collect(scratch), 0);
    uint8_t byte = 0;
    assert_ok(store_read_block(scratch->store, &block, 0, &byte, 1));
    store_unpin(scratch->store, &block);
    assert_int_equal(collect(scratch), 1);
    assert_false(store_has_block(scratch->store, &block));
}

static void a_restart_ends_pins(void **state)
{
    struct scratch *scratch = *state;
    put_and_release(scratch->store, 1, 5000);
    const struct id block = block_of(1, 5000);
    store_pin(scratch->store, &block);
    scratch_reopen(scratch);
    advance(scratch, COLLECT_MS);
    assert_int_equal(collect(scratch), 2);
}

static void what_is_promised_stays_until_its_end(void **state)
{
    struct scratch *scratch = *state;
    const struct id id = put_seed(scratch->store, STORE_ORIGIN, 1, 5000);
    const struct id block = block_of(1, 5000);
    size_t ended = 9;
    assert_ok(store_promise(scratch->store, &block, 3000));
    assert_ok(store_release(scratch->store, &id, STORE_ORIGIN));
    advance(scratch, COLLECT_MS);
    assert_int_equal(collect(scratch), 1); /* the file */
    advance(scratch, 100 * COLLECT_MS);
    assert_int_equal(collect(scratch), 0);
    assert_true(store_has_block(scratch->store, &block));
    assert_ok(store_promise_end(scratch->store, &block, 1, &ended));
    assert_int_equal(ended, 1);
    assert_int_equal(store_promise(scratch->store, &block, 3000), -ENOENT);
    assert_int_equal(collect(scratch), 0);
    advance(scratch, COLLECT_MS);
    assert_int_equal(collect(scratch), 1);
    assert_false(store_has_block(scratch->store, &block));
}

/* What a put has seen is there when it is committed, however late. */
static void what_a_put_relies_on_stays(void **state)
{
    struct scratch *scratch = *state;
    put_and_release(scratch->store, 1, 2 * BLOCK);
    CLEANUP_FREE uint8_t *data = make_content(1, 2 * BLOCK);
    struct store_put *put = NULL;
    assert_ok(store_put_begin(scratch->store, STORE_ORIGIN, &put));
    assert_ok(store_put_write(put, BYTES(data, 2 * BLOCK)));
    advance(scratch, COLLECT_MS);
    assert_int_equal(collect(scratch), 1); /* the file */
    tidy_now(scratch);
    struct store_put_result result = {0};
    assert_ok(store_put_commit(put, &result));
    assert_int_equal(result.new_bytes, 0);
    assert_content(scratch->store, &result.id, BYTES(data, 2 * BLOCK));
}

static void what_was_collected_can_come_again(void **state)
{
    struct scratch *scratch = *state;
    put_and_release(scratch->store, 1, 5000);
    advance(scratch, COLLECT_MS);
    assert_int_equal(collect(scratch), 2);
    CLEANUP_FREE uint8_t *data = make_content(1, 5000);
    const struct bytes content = BYTES(data, 5000);
    const struct id block = block_id(content);
    assert_int_equal(put_bytes(scratch->store, STORE_ORIGIN, content).new_bytes, 5000);
    assert_int_equal(put_bytes(scratch->store, STORE_COPY, content).new_bytes, 0);
    assert_ok(store_promise(scratch->store, &block, 1000));
}

static void shared_blocks_survive(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, 4 * BLOCK);
    const struct id one = put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, 4 * BLOCK)).id;
    const struct id two = put_bytes(scratch->store, STORE_COPY, BYTES(data, 2 * BLOCK + 77)).id;
    assert_ok(store_release(scratch->store, &one, STORE_ORIGIN));
    advance(scratch, COLLECT_MS);
    assert_int_equal(collect(scratch), 3); /* the file and two of its blocks */
    tidy_now(scratch);
    assert_content(scratch->store, &two, BYTES(data, 2 * BLOCK + 77));
    assert_int_equal(status_of(scratch->store).live_bytes, 2 * BLOCK + 77);
    assert_ok(store_release(scratch->store, &two, STORE_COPY));
    tidy_now(scratch);
    assert_int_equal(status_of(scratch->store).blocks_count, 0);
    assert_int_equal(disk_bytes(scratch), 0);
}

/* A file with more blocks than one job removes, and more than stand in its row. */
static void a_large_file_goes_whole(void **state)
{
    struct scratch *scratch = *state;
    scratch->options.segment_bytes = 64 * MIB;
    scratch_reopen(scratch);
    enum { COUNT = 700 };
    CLEANUP_FREE uint8_t *data = make_content(1, BLOCK);
    struct store_put *put = NULL;
    struct store_put_result result = {0};
    assert_ok(store_put_begin(scratch->store, STORE_ORIGIN, &put));
    for (uint32_t i = 0; i < COUNT; i++) {
        memcpy(data, &i, sizeof i);
        assert_ok(store_put_write(put, BYTES(data, BLOCK)));
    }
    assert_ok(store_put_commit(put, &result));
    assert_int_equal(status_of(scratch->store).blocks_count, COUNT);
    assert_ok(store_release(scratch->store, &result.id, STORE_ORIGIN));
    advance(scratch, COLLECT_MS);
    assert_int_equal(collect(scratch), COUNT + 1);
    tidy_now(scratch);
    assert_int_equal(status_of(scratch->store).blocks_count, 0);
    assert_int_equal(disk_bytes(scratch), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(not_before_the_grace_time),
        STORE_TEST(the_grace_time_over_sessions),
        STORE_TEST(each_in_its_time),
        STORE_TEST(the_limit),
        STORE_TEST(what_is_pinned_stays),
        STORE_TEST(a_restart_ends_pins),
        STORE_TEST(what_is_promised_stays_until_its_end),
        STORE_TEST(what_a_put_relies_on_stays),
        STORE_TEST(what_was_collected_can_come_again),
        STORE_TEST(shared_blocks_survive),
        STORE_TEST(a_large_file_goes_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
