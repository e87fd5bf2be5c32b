/* SPDX-License-Identifier: Apache-2.0 */
/* Promises beyond the life of what was held here: they are durable, evictable, and end. */
#include "helpers.h"

#include "store/held.h"

#define MINUTE_MS ((uint64_t)60 * 1000)
#define SIZE ((size_t)5000)

static const struct store_grace grace = {.collect_ms = MINUTE_MS};

static struct id block_of(uint64_t seed)
{
    CLEANUP_FREE uint8_t *data = make_content(seed, SIZE);
    return block_id(BYTES(data, SIZE));
}

static void collect(struct scratch *scratch)
{
    size_t removed = 0;
    bool more = true;
    advance(scratch, MINUTE_MS);
    assert_ok(store_collect(scratch->store, &grace, SIZE_MAX, &removed, &more));
}

/* One is put, promised and let go of. */
static struct id make_guest(struct scratch *scratch, uint64_t seed, enum store_reason reason)
{
    const struct id file = put_seed(scratch->store, reason, seed, SIZE);
    const struct id block = block_of(seed);
    assert_ok(store_promise(scratch->store, &block, STORE_PROMISE_MS_MAX));
    assert_ok(store_release(scratch->store, &file, reason));
    return block;
}

/* Those since `age_ms`, by calls of one each; they are in `ret_ids`, at most four. */
static size_t guests_of(struct store *store, uint64_t age_ms, struct id ret_ids[4])
{
    struct store_promised position = {0};
    size_t total = 0;
    int err = 0;
    while (!err) {
        size_t count = 0;
        struct id id;
        err = store_promised_next(store, &position, age_ms, 1, &id, &count);
        assert_true(count <= 1 && total + count <= 4);
        if (count > 0) {
            ret_ids[total++] = id;
        }
    }
    assert_int_equal(err, -ENOENT);
    return total;
}

static enum store_held_state state_of(struct store *store, const struct id *id)
{
    enum store_held_state state = STORE_HELD_NONE;
    assert_ok(store_held_state(store, id, &state));
    return state;
}

static void it_is_offered_to_others_also_after_a_restart(void **state)
{
    struct scratch *scratch = *state;
    const struct id block = make_guest(scratch, 1, STORE_ORIGIN);
    collect(scratch);
    scratch_reopen(scratch);
    collect(scratch);
    assert_true(store_has_block(scratch->store, &block));
    assert_int_equal(state_of(scratch->store, &block), STORE_HELD_COMPLETE);
    assert_int_equal(status_of(scratch->store).cache_bytes, SIZE);
    assert_int_equal(status_of(scratch->store).lost_count, 0);
    /* Somebody else may rely on it as well. */
    assert_ok(store_promise(scratch->store, &block, 1000));
}

static void only_what_nothing_here_needs_is_told(void **state)
{
    struct scratch *scratch = *state;
    struct id ids[4];
    const struct id first = make_guest(scratch, 1, STORE_ORIGIN);
    advance(scratch, MINUTE_MS);
    const struct id second = make_guest(scratch, 2, STORE_CACHE);
    const struct id held = block_of(3);
    put_seed(scratch->store, STORE_CACHE, 3, SIZE);
    assert_ok(store_promise(scratch->store, &held, 1000));
    put_seed(scratch->store, STORE_CACHE, 4, SIZE);
    assert_int_equal(guests_of(scratch->store, 0, ids), 2);
    assert_true(id_equal(&ids[0], &first) && id_equal(&ids[1], &second));
    assert_int_equal(guests_of(scratch->store, MINUTE_MS, ids), 1);
    assert_true(id_equal(&ids[0], &first));
    assert_int_equal(guests_of(scratch->store, 2 * MINUTE_MS, ids), 0);
    /* Put again: it is needed here. */
    put_seed(scratch->store, STORE_FOLLOW, 1, SIZE);
    assert_int_equal(guests_of(scratch->store, MINUTE_MS, ids), 0);
    /* From its last promise on. */
    assert_ok(store_promise(scratch->store, &second, 1000));
    advance(scratch, MINUTE_MS);
    assert_ok(store_promise_renew(scratch->store, &second, 1));
    assert_int_equal(guests_of(scratch->store, 1, ids), 0);
}

static void it_ends_unless_it_was_given_again(void **state)
{
    struct scratch *scratch = *state;
    const struct id blocks[] = {make_guest(scratch, 1, STORE_ORIGIN),
                                make_guest(scratch, 2, STORE_COPY), block_of(3)};
    size_t ended = 9;
    put_seed(scratch->store, STORE_CACHE, 3, SIZE);
    assert_ok(store_promise(scratch->store, &blocks[2], STORE_PROMISE_MS_MAX));
    assert_ok(store_promise_end(scratch->store, blocks, 3, &ended));
    assert_int_equal(ended, 0);
    advance(scratch, STORE_PROMISE_MS_MAX);
    assert_ok(store_promise(scratch->store, &blocks[1], 1000));
    assert_ok(store_promise_end(scratch->store, blocks, 3, &ended));
    assert_int_equal(ended, 1);
    assert_int_equal(state_of(scratch->store, &blocks[0]), STORE_HELD_NONE);
    collect(scratch);
    assert_false(store_has_block(scratch->store, &blocks[0]));
    assert_true(store_has_block(scratch->store, &blocks[1]));
    assert_true(store_has_block(scratch->store, &blocks[2]));
    assert_int_equal(status_of(scratch->store).cache_bytes, 2 * SIZE);
}

static void it_goes_with_the_block(void **state)
{
    struct scratch *scratch = *state;
    const struct id block = make_guest(scratch, 1, STORE_ORIGIN);
    struct store_candidate candidate;
    struct store_evicted evicted;
    size_t count = 0;
    advance(scratch, STORE_PROMISE_MS_MAX);
    assert_ok(store_evict_candidates(scratch->store, 1, 1, &candidate, &count));
    assert_int_equal(count, 1);
    assert_ok(store_evict(scratch->store, &candidate.id, 1, &evicted));
    assert_int_equal(evicted.blocks_count, 1);
    assert_false(store_lacks_block(scratch->store, &block));
    assert_int_equal(store_promise(scratch->store, &block, 1000), -ENOENT);
    tidy_now(scratch);
    assert_int_equal(status_of(scratch->store).blocks_count, 0);
    assert_int_equal(status_of(scratch->store).lost_count, 0);
}

static void who_evicted_it_lacks_it(void **state)
{
    struct scratch *scratch = *state;
    const struct id unknown = {.bytes = {1}};
    const struct id file = put_seed(scratch->store, STORE_CACHE, 1, SIZE);
    const struct id block = block_of(1);
    struct store_candidate candidate;
    struct store_evicted evicted;
    size_t count = 0;
    assert_false(store_lacks_block(scratch->store, &unknown));
    assert_false(store_lacks_block(scratch->store, &block));
    assert_ok(store_evict_candidates(scratch->store, 1, 1, &candidate, &count));
    assert_ok(store_evict(scratch->store, &block, 1, &evicted));
    assert_true(store_lacks_block(scratch->store, &block));
    assert_ok(store_release(scratch->store, &file, STORE_CACHE));
    assert_false(store_lacks_block(scratch->store, &block));
}

static void many_are_answered_one_by_one(void **state)
{
    struct scratch *scratch = *state;
    put_seed(scratch->store, STORE_CACHE, 1, SIZE);
    put_seed(scratch->store, STORE_CACHE, 2, SIZE);
    const struct id ids[] = {block_of(1), block_of(2), block_of(3)};
    struct store_candidate candidate;
    size_t count = 0;
    int errs[3] = {9, 9, 9};
    assert_ok(store_evict_candidates(scratch->store, 1, 1, &candidate, &count));
    store_promise_all(scratch->store, ids, 3, 1000, errs);
    assert_int_equal(errs[0] + errs[1], -EBUSY); /* one of the two is about to go */
    assert_int_equal(errs[2], -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(it_is_offered_to_others_also_after_a_restart),
        STORE_TEST(only_what_nothing_here_needs_is_told),
        STORE_TEST(it_ends_unless_it_was_given_again),
        STORE_TEST(it_goes_with_the_block),
        STORE_TEST(who_evicted_it_lacks_it),
        STORE_TEST(many_are_answered_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
