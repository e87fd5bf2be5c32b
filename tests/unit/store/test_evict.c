/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Eviction: cached blocks only, the least recently used first, in two steps between which a
 * promise is refused and a pin prevails.
 */
#include "helpers.h"

#define FILES 8u
#define SIZE ((size_t)10000)

/* Files of one block each, put a second apart. */
struct cached {
    uint8_t *data[FILES];
    struct id files[FILES];
    struct id blocks[FILES];
};

static void put_cached(struct scratch *scratch, struct cached *cached)
{
    for (size_t i = 0; i < FILES; i++) {
        cached->data[i] = make_content(100 + i, SIZE);
        cached->blocks[i] = block_id(BYTES(cached->data[i], SIZE));
        cached->files[i] = put_bytes(scratch->store, STORE_CACHE, BYTES(cached->data[i], SIZE)).id;
        advance(scratch, 1000);
    }
}

static void free_cached(struct cached *cached)
{
    for (size_t i = 0; i < FILES; i++) {
        free(cached->data[i]);
    }
}

/* Candidates for `bytes`; their ids. */
static size_t candidates_for(struct store *store, uint64_t bytes, struct id ret_ids[FILES])
{
    struct store_candidate candidates[FILES];
    size_t count = 0;
    assert_ok(store_evict_candidates(store, bytes, FILES, candidates, &count));
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(candidates[i].size_bytes, SIZE);
        ret_ids[i] = candidates[i].id;
    }
    return count;
}

static uint64_t evict(struct store *store, const struct id *ids, size_t count)
{
    struct store_evicted evicted = {0};
    assert_ok(store_evict(store, ids, count, &evicted));
    return evicted.bytes;
}

static void assert_is_block(const struct id *id, const struct cached *cached, size_t index)
{
    assert_true(id_equal(id, &cached->blocks[index]));
}

static void the_oldest_first(void **state)
{
    struct scratch *scratch = *state;
    struct cached cached;
    put_cached(scratch, &cached);
    assert_int_equal(status_of(scratch->store).cache_bytes, FILES * SIZE);
    struct id ids[FILES];
    assert_int_equal(candidates_for(scratch->store, 2 * SIZE + 1, ids), 3);
    for (size_t i = 0; i < 3; i++) {
        assert_is_block(&ids[i], &cached, i);
    }
    assert_int_equal(evict(scratch->store, ids, 3), 3 * SIZE);
    for (size_t i = 0; i < FILES; i++) {
        assert_int_equal(store_has_block(scratch->store, &cached.blocks[i]), i >= 3);
    }
    struct store_status status = status_of(scratch->store);
    assert_int_equal(status.cache_bytes, (FILES - 3) * SIZE);
    assert_int_equal(status.live_bytes, (FILES - 3) * SIZE);
    assert_int_equal(status.lost_count, 0); /* it was given up, not lost */
    free_cached(&cached);
}

static void what_is_put_off_comes_last(void **state)
{
    struct scratch *scratch = *state;
    struct cached cached;
    put_cached(scratch, &cached);
    struct id ids[FILES];
    assert_int_equal(candidates_for(scratch->store, 2 * SIZE, ids), 2);
    advance(scratch, 1000);
    assert_ok(store_evict_put_off(scratch->store, ids, 2));
    assert_int_equal(store_promise(scratch->store, &ids[0], 1), 0); /* no candidate any more */
    advance(scratch, 1000);
    assert_int_equal(candidates_for(scratch->store, FILES * SIZE, ids), FILES);
    for (size_t i = 0; i < FILES; i++) {
        assert_is_block(&ids[i], &cached, (i + 2) % FILES);
    }
    store_evict_cancel(scratch->store, ids, FILES);
    assert_int_equal(status_of(scratch->store).cache_bytes, FILES * SIZE);
    free_cached(&cached);
}

static void who_is_not_held_is_not_promised(void **state)
{
    struct scratch *scratch = *state;
    struct cached cached;
    put_cached(scratch, &cached);
    assert_int_equal(store_promise(scratch->store, &cached.blocks[0], 1000), 0);
    assert_ok(store_release(scratch->store, &cached.files[1], STORE_CACHE));
    assert_int_equal(store_promise(scratch->store, &cached.blocks[1], 1000), -ENOENT);
    free_cached(&cached);
}

static void the_limit_and_the_wish(void **state)
{
    struct scratch *scratch = *state;
    struct cached cached;
    put_cached(scratch, &cached);
    struct store_candidate candidates[FILES];
    size_t count = 99;
    assert_ok(store_evict_candidates(scratch->store, 0, FILES, candidates, &count));
    assert_int_equal(count, 0);
    assert_ok(store_evict_candidates(scratch->store, UINT64_MAX, 2, candidates, &count));
    assert_int_equal(count, 2);
    struct id ids[FILES];
    assert_int_equal(candidates_for(scratch->store, UINT64_MAX, ids), FILES);
    assert_int_equal(evict(scratch->store, ids, FILES), FILES * SIZE);
    assert_int_equal(candidates_for(scratch->store, UINT64_MAX, ids), 0);
    tidy_now(scratch);
    assert_int_equal(disk_bytes(scratch), 0);
    free_cached(&cached);
}

/* What was read since it came is put behind all others, once. */
static void a_read_gives_a_second_chance(void **state)
{
    struct scratch *scratch = *state;
    struct cached cached;
    put_cached(scratch, &cached);
    uint8_t byte = 0;
    struct store_view view;
    assert_ok(store_read_block(scratch->store, &cached.blocks[0], 0, &byte, 1));
    assert_ok(store_view_open(scratch->store, &cached.blocks[2], &view));
    store_view_close(&view);
    struct id ids[FILES];
    assert_int_equal(candidates_for(scratch->store, 2 * SIZE, ids), 2);
    assert_is_block(&ids[0], &cached, 1);
    assert_is_block(&ids[1], &cached, 3);
    evict(scratch->store, ids, 2);
    advance(scratch, 1000);

    /* 4 5 6 7, and then the two that were read, in any order. */
    assert_int_equal(candidates_for(scratch->store, 6 * SIZE, ids), 6);
    for (size_t i = 0; i < 4; i++) {
        assert_is_block(&ids[i], &cached, 4 + i);
    }
    assert_int_equal(evict(scratch->store, ids, 6), 6 * SIZE);
    free_cached(&cached);
}

static void a_candidate_is_not_promised(void **state)
{
    struct scratch *scratch = *state;
    struct cached cached;
    put_cached(scratch, &cached);
    struct id ids[FILES];
    assert_int_equal(candidates_for(scratch->store, SIZE, ids), 1);
    assert_int_equal(store_promise(scratch->store, &ids[0], 1000), -EBUSY);
    assert_ok(store_promise(scratch->store, &cached.blocks[1], 1000));
    store_evict_cancel(scratch->store, ids, 1);
    assert_ok(store_promise(scratch->store, &ids[0], 1000));
    assert_true(store_has_block(scratch->store, &ids[0]));
    free_cached(&cached);
}

static void a_promise_keeps_until_it_ends(void **state)
{
    struct scratch *scratch = *state;
    struct cached cached;
    put_cached(scratch, &cached);
    assert_ok(store_promise(scratch->store, &cached.blocks[0], 5000));
    assert_ok(store_promise(scratch->store, &cached.blocks[0], 1000)); /* shortens nothing */
    struct id ids[FILES];
    advance(scratch, 4999);
    assert_int_equal(candidates_for(scratch->store, UINT64_MAX, ids), FILES - 1);
    assert_is_block(&ids[0], &cached, 1);
    store_evict_cancel(scratch->store, ids, FILES - 1);
    advance(scratch, 1);
    /* It counts as used when it was promised. */
    assert_int_equal(candidates_for(scratch->store, UINT64_MAX, ids), FILES);
    assert_is_block(&ids[FILES - 1], &cached, 0);
    assert_int_equal(evict(scratch->store, &ids[FILES - 1], 1), SIZE);
    assert_int_equal(store_promise(scratch->store, &cached.blocks[0], 5000), -ENOENT);
    free_cached(&cached);
}

static void a_promise_has_a_limit(void **state)
{
    struct scratch *scratch = *state;
    struct cached cached;
    put_cached(scratch, &cached);
    assert_ok(store_promise(scratch->store, &cached.blocks[0], UINT64_MAX));
    advance(scratch, STORE_PROMISE_MS_MAX);
    struct id ids[FILES];
    assert_int_equal(candidates_for(scratch->store, UINT64_MAX, ids), FILES);
    assert_is_block(&ids[FILES - 1], &cached, 0);
    free_cached(&cached);
}

static void a_pin_prevails(void **state)
{
    struct scratch *scratch = *state;
    struct cached cached;
    put_cached(scratch, &cached);
    struct id ids[FILES];

    /* Pinned before: no candidate. */
    store_pin(scratch->store, &cached.blocks[0]);
    assert_int_equal(candidates_for(scratch->store, 3 * SIZE, ids), 3);
    assert_is_block(&ids[0], &cached, 1);

    /* Pinned meanwhile, and even if no longer: not evicted. */
    store_pin(scratch->store, &ids[0]);
    store_pin(scratch->store, &ids[1]);
    store_unpin(scratch->store, &ids[1]);
    struct store_evicted evicted;
    assert_ok(store_evict(scratch->store, ids, 3, &evicted));
    assert_int_equal(evicted.bytes, SIZE);
    assert_int_equal(evicted.blocks_count, 1); /* not what was pinned */
    assert_true(store_has_block(scratch->store, &ids[0]));
    assert_true(store_has_block(scratch->store, &ids[1]));
    assert_false(store_has_block(scratch->store, &ids[2]));
    store_unpin(scratch->store, &ids[0]);
    store_unpin(scratch->store, &cached.blocks[0]);
    assert_int_equal(candidates_for(scratch->store, UINT64_MAX, ids), FILES - 1);
    free_cached(&cached);
}

static void what_is_no_candidate_is_not_evicted(void **state)
{
    struct scratch *scratch = *state;
    struct cached cached;
    put_cached(scratch, &cached);
    assert_int_equal(evict(scratch->store, cached.blocks, FILES), 0);
    struct id unknown = {.bytes = {1}};
    assert_int_equal(evict(scratch->store, &unknown, 1), 0);
    for (size_t i = 0; i < FILES; i++) {
        assert_content(scratch->store, &cached.files[i], BYTES(cached.data[i], SIZE));
    }
    free_cached(&cached);
}

static void only_what_is_here_for_the_cache_alone(void **state)
{
    struct scratch *scratch = *state;
    struct cached cached;
    put_cached(scratch, &cached);
    const enum store_reason others[] = {STORE_ORIGIN, STORE_FOLLOW, STORE_COPY};
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        assert_ok(store_hold(scratch->store, &cached.files[i], others[i]));
    }
    assert_int_equal(status_of(scratch->store).cache_bytes, (FILES - 3) * SIZE);
    struct id ids[FILES];
    assert_int_equal(candidates_for(scratch->store, UINT64_MAX, ids), FILES - 3);
    assert_is_block(&ids[0], &cached, 3);

    /* Held for more between the two steps: it stays. */
    assert_ok(store_hold(scratch->store, &cached.files[3], STORE_ORIGIN));
    assert_int_equal(evict(scratch->store, ids, FILES - 3), (FILES - 4) * SIZE);
    for (size_t i = 0; i < 4; i++) {
        assert_content(scratch->store, &cached.files[i], BYTES(cached.data[i], SIZE));
    }

    /* And when the other reason ends it may go. */
    assert_ok(store_release(scratch->store, &cached.files[0], STORE_ORIGIN));
    assert_int_equal(candidates_for(scratch->store, UINT64_MAX, ids), 1);
    assert_is_block(&ids[0], &cached, 0);
    free_cached(&cached);
}

/* A block that a cached and a published file share. */
static void a_shared_block_stays(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, BLOCK + 5000);
    put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, BLOCK));
    const struct id cached = put_bytes(scratch->store, STORE_CACHE, BYTES(data, BLOCK + 5000)).id;
    struct store_candidate candidate;
    size_t count = 0;
    assert_ok(store_evict_candidates(scratch->store, UINT64_MAX, 1, &candidate, &count));
    assert_int_equal(count, 1);
    assert_int_equal(candidate.size_bytes, 5000);
    assert_int_equal(evict(scratch->store, &candidate.id, 1), 5000);
    const struct id first = block_id(BYTES(data, BLOCK));
    assert_true(store_has_block(scratch->store, &first));
    assert_int_equal(store_hold(scratch->store, &cached, STORE_COPY), -ENOENT);
}

static void what_was_evicted_can_come_again(void **state)
{
    struct scratch *scratch = *state;
    struct cached cached;
    put_cached(scratch, &cached);
    struct id ids[FILES];
    assert_int_equal(candidates_for(scratch->store, SIZE, ids), 1);
    assert_int_equal(evict(scratch->store, ids, 1), SIZE);
    uint8_t byte = 0;
    assert_int_equal(store_read_block(scratch->store, &ids[0], 0, &byte, 1), -ENOENT);
    assert_int_equal(store_hold(scratch->store, &cached.files[0], STORE_ORIGIN), -ENOENT);
    tidy_now(scratch);

    const struct store_put_result again =
        put_bytes(scratch->store, STORE_CACHE, BYTES(cached.data[0], SIZE));
    assert_int_equal(again.new_bytes, SIZE);
    const struct store_put_result third =
        put_bytes(scratch->store, STORE_CACHE, BYTES(cached.data[0], SIZE));
    assert_int_equal(third.new_bytes, 0);
    assert_content(scratch->store, &cached.files[0], BYTES(cached.data[0], SIZE));
    assert_int_equal(status_of(scratch->store).cache_bytes, FILES * SIZE);
    struct store_file_info info;
    assert_ok(store_file_info(scratch->store, &cached.files[0], &info));
    assert_int_equal(info.holders[STORE_CACHE], 1);

    /* It came last; and what is released while it is evicted leaves nothing. */
    assert_int_equal(candidates_for(scratch->store, UINT64_MAX, ids), FILES);
    assert_int_equal(evict(scratch->store, ids, FILES), FILES * SIZE);
    for (size_t i = 0; i < FILES; i++) {
        assert_ok(store_release(scratch->store, &cached.files[i], STORE_CACHE));
    }
    tidy_now(scratch);
    const struct store_status status = status_of(scratch->store);
    assert_int_equal(status.blocks_count, 0);
    assert_int_equal(status.files_count, 0);
    assert_int_equal(status.cache_bytes, 0);
    assert_int_equal(disk_bytes(scratch), 0);
    free_cached(&cached);
}

/* More rows than one look takes. When all were read, all are candidates nevertheless. */
static void many_that_were_all_read(void **state)
{
    struct scratch *scratch = *state;
    enum { MANY = 1200 };
    for (uint64_t i = 0; i < MANY; i++) {
        CLEANUP_FREE uint8_t *data = make_content(i, 50);
        put_bytes(scratch->store, STORE_CACHE, BYTES(data, 50));
        const struct id id = block_id(BYTES(data, 50));
        uint8_t byte = 0;
        assert_ok(store_read_block(scratch->store, &id, 0, &byte, 1));
        advance(scratch, 1);
    }
    assert_int_equal(status_of(scratch->store).cache_bytes, 50 * MANY);
    CLEANUP_FREE struct store_candidate *candidates =
        mem_alloc_array(MANY, sizeof(struct store_candidate));
    size_t count = 0;
    assert_ok(store_evict_candidates(scratch->store, UINT64_MAX, MANY, candidates, &count));
    assert_int_equal(count, MANY);
    assert_int_equal(status_of(scratch->store).cache_bytes, 50 * MANY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(the_oldest_first),
        STORE_TEST(what_is_put_off_comes_last),
        STORE_TEST(who_is_not_held_is_not_promised),
        STORE_TEST(the_limit_and_the_wish),
        STORE_TEST(a_read_gives_a_second_chance),
        STORE_TEST(a_candidate_is_not_promised),
        STORE_TEST(a_promise_keeps_until_it_ends),
        STORE_TEST(a_promise_has_a_limit),
        STORE_TEST(a_pin_prevails),
        STORE_TEST(what_is_no_candidate_is_not_evicted),
        STORE_TEST(only_what_is_here_for_the_cache_alone),
        STORE_TEST(a_shared_block_stays),
        STORE_TEST(what_was_evicted_can_come_again),
        STORE_TEST(many_that_were_all_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
