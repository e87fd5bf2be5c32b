/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is held, by key: walks of ranges, states, and word of changes, which together must tell
 * exactly what is here whatever happens in between.
 */
#include "helpers.h"

#include "store/held.h"
#include "store/intake.h"

#define HELD_MAX 4096

static const uint8_t top[STORE_KEY_BYTES];

/* What was told, or walked: the last word on each id. */
struct seen {
    pthread_mutex_t lock;
    struct store_held held[HELD_MAX];
    size_t count;
    size_t calls;
};

static void see(struct seen *seen, const struct store_held *held)
{
    for (size_t i = 0; i < seen->count; i++) {
        if (id_equal(&seen->held[i].id, &held->id)) {
            MUST(seen->held[i].is_file == held->is_file);
            seen->held[i].state = held->state;
            return;
        }
    }
    MUST(seen->count < HELD_MAX);
    seen->held[seen->count++] = *held;
}

static void see_changes(void *context, const struct store_held *held, size_t count)
{
    struct seen *seen = context;
    pthread_mutex_lock(&seen->lock);
    MUST(count > 0);
    for (size_t i = 0; i < count; i++) {
        see(seen, &held[i]);
    }
    seen->calls++;
    pthread_mutex_unlock(&seen->lock);
}

static enum store_held_state seen_state(const struct seen *seen, const struct id *id)
{
    for (size_t i = 0; i < seen->count; i++) {
        if (id_equal(&seen->held[i].id, id)) {
            return seen->held[i].state;
        }
    }
    return STORE_HELD_NONE;
}

/* All of [begin, end), `limit` at a time; in order. */
static void walk(struct store *store, const uint8_t *begin, const uint8_t *end, size_t limit,
                 struct seen *seen)
{
    *seen = (struct seen){.lock = PTHREAD_MUTEX_INITIALIZER};
    struct store_held_walk position;
    store_held_walk_begin(&position, begin, end);
    for (;;) {
        struct store_held held[64];
        size_t count = 0;
        assert_ok(store_held_walk_next(store, &position, held, limit, &count));
        if (count == 0) {
            break;
        }
        assert_in_range(count, 1, limit);
        for (size_t i = 0; i < count; i++) {
            enum store_held_state state = STORE_HELD_NONE;
            assert_ok(store_held_state(store, &held[i].id, &state));
            assert_int_equal(state, held[i].state);
            assert_int_not_equal(state, STORE_HELD_NONE);
            assert_int_equal(seen_state(seen, &held[i].id), STORE_HELD_NONE);
            see(seen, &held[i]);
        }
    }
    /* It is over for good. */
    struct store_held more;
    size_t count = 1;
    assert_ok(store_held_walk_next(store, &position, &more, 1, &count));
    assert_int_equal(count, 0);
}

/* Every word of the one that tells of something is said by the other, too. */
static void assert_same(const struct seen *a, const struct seen *b)
{
    for (size_t i = 0; i < a->count; i++) {
        assert_int_equal(a->held[i].state, seen_state(b, &a->held[i].id));
    }
    for (size_t i = 0; i < b->count; i++) {
        assert_int_equal(b->held[i].state, seen_state(a, &b->held[i].id));
    }
}

static enum store_held_state state_of(struct store *store, const struct id *id)
{
    enum store_held_state state = STORE_HELD_NONE;
    assert_ok(store_held_state(store, id, &state));
    return state;
}

static void ranges_in_order(void **state)
{
    struct scratch *scratch = *state;
    for (uint64_t i = 0; i < 40; i++) {
        put_seed(scratch->store, STORE_ORIGIN, i, 1000 + 10 * i);
    }
    put_seed(scratch->store, STORE_COPY, 100, 3 * BLOCK);
    struct seen *all = mem_alloc(sizeof *all);
    struct seen *part = mem_alloc(sizeof *part);
    walk(scratch->store, top, top, 64, all);
    assert_int_equal(all->count, 2 * 40 + 1 + 3);
    for (size_t i = 1; i < all->count; i++) {
        assert_true(memcmp(all->held[i - 1].id.bytes, all->held[i].id.bytes, ID_BYTES) < 0);
    }
    for (size_t limit = 1; limit < 64; limit += 9) {
        /* From each to each, the ones over the top among them; the end is not meant. */
        for (size_t i = 0; i < all->count; i += 5) {
            for (size_t j = 0; j < all->count; j += 7) {
                walk(scratch->store, all->held[i].id.bytes, all->held[j].id.bytes, limit, part);
                const size_t expected = i < j ? j - i : all->count - i + j;
                assert_int_equal(part->count, expected);
                for (size_t k = 0; k < expected; k++) {
                    const struct store_held *held = &all->held[(i + k) % all->count];
                    assert_true(id_equal(&part->held[k].id, &held->id));
                    assert_int_equal(part->held[k].is_file, held->is_file);
                }
            }
        }
    }
    free(all);
    free(part);
}

static void files_that_come_and_go(void **state)
{
    struct scratch *scratch = *state;
    struct seen *told = mem_alloc(sizeof *told);
    struct seen *walked = mem_alloc(sizeof *walked);
    pthread_mutex_init(&told->lock, NULL);
    assert_ok(store_held_watch(scratch->store, see_changes, told));

    CLEANUP_FREE uint8_t *data = make_content(1, 3 * BLOCK);
    CLEANUP_FILE_METADATA struct file_metadata metadata;
    expected_metadata(BYTES(data, 3 * BLOCK), &metadata);
    const struct id id = expected_id(BYTES(data, 3 * BLOCK));
    struct store_intake *intake = NULL;
    assert_ok(store_intake_open(scratch->store, &metadata, STORE_CACHE, &intake));
    assert_int_equal(state_of(scratch->store, &id), STORE_HELD_NONE);
    assert_int_equal(told->count, 0);
    assert_ok(store_intake_block(intake, 1, BYTES(data + BLOCK, BLOCK)));
    assert_ok(store_intake_flush(intake));
    assert_int_equal(state_of(scratch->store, &id), STORE_HELD_PARTIAL);
    assert_int_equal(state_of(scratch->store, &metadata.blocks[1].id), STORE_HELD_COMPLETE);
    assert_int_equal(state_of(scratch->store, &metadata.blocks[0].id), STORE_HELD_NONE);
    walk(scratch->store, top, top, 8, walked);
    assert_int_equal(walked->count, 2);
    assert_same(told, walked);
    assert_ok(store_intake_drop(intake));
    walk(scratch->store, top, top, 8, walked);
    assert_int_equal(walked->count, 0);
    assert_same(told, walked);

    assert_ok(store_intake_open(scratch->store, &metadata, STORE_CACHE, &intake));
    for (uint32_t i = 0; i < 3; i++) {
        assert_ok(store_intake_block(intake, i, BYTES(data + i * BLOCK, BLOCK)));
    }
    assert_ok(store_intake_commit(intake));
    assert_int_equal(state_of(scratch->store, &id), STORE_HELD_COMPLETE);
    walk(scratch->store, top, top, 8, walked);
    assert_int_equal(walked->count, 4);
    assert_same(told, walked);

    /* Nothing that is told twice. */
    const size_t calls = told->calls;
    assert_ok(store_hold(scratch->store, &id, STORE_CACHE));
    assert_ok(store_release(scratch->store, &id, STORE_CACHE));
    assert_int_equal(told->calls, calls);
    assert_ok(store_release(scratch->store, &id, STORE_CACHE));
    walk(scratch->store, top, top, 8, walked);
    assert_int_equal(walked->count, 0);
    assert_same(told, walked);

    const size_t before = told->calls;
    assert_ok(store_held_watch(scratch->store, NULL, NULL));
    put_seed(scratch->store, STORE_ORIGIN, 9, 1000);
    assert_int_equal(told->calls, before);
    free(told);
    free(walked);
}

/* Evicted and damaged blocks make a file partial, which the walk tells and no word does. */
static void files_that_lost_blocks(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, 2 * BLOCK);
    CLEANUP_FILE_METADATA struct file_metadata metadata;
    expected_metadata(BYTES(data, 2 * BLOCK), &metadata);
    const struct id id = put_bytes(scratch->store, STORE_CACHE, BYTES(data, 2 * BLOCK)).id;
    const struct id other = put_seed(scratch->store, STORE_ORIGIN, 2, 1000);
    for (int left = 1; left >= 0; left--) {
        struct store_candidate candidate;
        size_t count = 0;
        struct store_evicted evicted;
        assert_ok(store_evict_candidates(scratch->store, 1, 1, &candidate, &count));
        assert_ok(store_evict(scratch->store, &candidate.id, count, &evicted));
        assert_int_equal(evicted.bytes, BLOCK);
        assert_int_equal(state_of(scratch->store, &id), STORE_HELD_PARTIAL);
        assert_int_equal(state_of(scratch->store, &candidate.id), STORE_HELD_NONE);
        assert_int_equal(state_of(scratch->store, &other), STORE_HELD_COMPLETE);
        struct seen *walked = mem_alloc(sizeof *walked);
        walk(scratch->store, top, top, 1, walked);
        assert_int_equal(walked->count, left ? 4 : 3);
        assert_int_equal(seen_state(walked, &id), STORE_HELD_PARTIAL);
        free(walked);
    }
    put_bytes(scratch->store, STORE_CACHE, BYTES(data, 2 * BLOCK));
    assert_int_equal(state_of(scratch->store, &id), STORE_HELD_COMPLETE);
}

/* The list of blocks of what was kept for a reason is worth knowing of, without any block. */
static void files_of_which_only_the_list_is_left(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, BLOCK);
    CLEANUP_FILE_METADATA struct file_metadata metadata;
    expected_metadata(BYTES(data, BLOCK), &metadata);
    const struct id id = put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, BLOCK)).id;
    damage(scratch, BYTES(data, BLOCK));
    bool dropped = false;
    assert_ok(store_report_bad(scratch->store, &metadata.blocks[0].id, &dropped));
    assert_true(dropped);
    assert_int_equal(state_of(scratch->store, &metadata.blocks[0].id), STORE_HELD_NONE);
    assert_int_equal(state_of(scratch->store, &id), STORE_HELD_PARTIAL);
    struct seen *walked = mem_alloc(sizeof *walked);
    walk(scratch->store, top, top, 1, walked);
    assert_int_equal(seen_state(walked, &id), STORE_HELD_PARTIAL);
    free(walked);
}

/* Random work: in the end what was told is what is there. */
static void told_is_what_is_there(void **state)
{
    struct scratch *scratch = *state;
    struct random random;
    random_init(&random, test_seed("held"));
    struct seen *told = mem_alloc(sizeof *told);
    struct seen *walked = mem_alloc(sizeof *walked);
    pthread_mutex_init(&told->lock, NULL);
    put_seed(scratch->store, STORE_ORIGIN, 1000, 3000);
    assert_ok(store_held_watch(scratch->store, see_changes, told));
    walk(scratch->store, top, top, 16, walked);
    for (size_t i = 0; i < walked->count; i++) {
        see(told, &walked->held[i]);
    }
    for (int round = 0; round < 400; round++) {
        const uint64_t seed = random_below(&random, 12);
        const size_t size = (seed % 4) * BLOCK / 2 + 100;
        CLEANUP_FREE uint8_t *data = make_content(seed / 2, size); /* they share blocks */
        CLEANUP_FILE_METADATA struct file_metadata metadata;
        expected_metadata(BYTES(data, size), &metadata);
        const struct id id = expected_id(BYTES(data, size));
        const enum store_reason reason = seed % 2 ? STORE_ORIGIN : STORE_COPY;
        struct store_intake *intake = NULL;
        switch (random_below(&random, 5)) {
        case 0:
            put_bytes(scratch->store, reason, BYTES(data, size));
            break;
        case 1:
            (void)!store_release(scratch->store, &id, reason);
            break;
        case 2:
            tidy_now(scratch);
            break;
        default:
            assert_ok(store_intake_open(scratch->store, &metadata, reason, &intake));
            for (uint32_t i = 0; i < metadata.blocks_count; i++) {
                if (random_below(&random, 3) > 0) {
                    assert_ok(store_intake_block(
                        intake, i, BYTES(data + i * BLOCK, metadata.blocks[i].size_bytes)));
                }
            }
            if (random_below(&random, 2) == 0) {
                assert_ok(store_intake_close(intake));
            } else if (store_intake_commit(intake) != 0) {
                assert_ok(store_intake_drop(intake));
            }
        }
        walk(scratch->store, top, top, 16, walked);
        pthread_mutex_lock(&told->lock);
        assert_same(told, walked);
        pthread_mutex_unlock(&told->lock);
    }
    assert_ok(store_held_watch(scratch->store, NULL, NULL));
    free(told);
    free(walked);
}

static bool is_for(struct store *store, const struct id *id, enum store_reason reason)
{
    enum store_held_state state = STORE_HELD_NONE;
    bool is = false;
    assert_ok(store_held_for(store, id, reason, &state, &is));
    assert_int_equal(state, state_of(store, id));
    return is;
}

static void what_a_file_is_held_for(void **state)
{
    struct scratch *scratch = *state;
    const struct id id = put_seed(scratch->store, STORE_ORIGIN, 1, 2 * BLOCK);
    const struct id other = expected_id(bytes_of_string("never here"));
    assert_true(is_for(scratch->store, &id, STORE_ORIGIN));
    assert_false(is_for(scratch->store, &id, STORE_FOLLOW));
    assert_false(is_for(scratch->store, &other, STORE_ORIGIN));
    assert_ok(store_hold(scratch->store, &id, STORE_FOLLOW));
    assert_ok(store_release(scratch->store, &id, STORE_ORIGIN));
    assert_false(is_for(scratch->store, &id, STORE_ORIGIN));
    assert_true(is_for(scratch->store, &id, STORE_FOLLOW));
    assert_ok(store_release(scratch->store, &id, STORE_FOLLOW));
    assert_false(is_for(scratch->store, &id, STORE_FOLLOW));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(ranges_in_order),        STORE_TEST(files_that_come_and_go),
        STORE_TEST(files_that_lost_blocks), STORE_TEST(files_of_which_only_the_list_is_left),
        STORE_TEST(told_is_what_is_there),  STORE_TEST(what_a_file_is_held_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
