/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intakes by many threads at once, and readers of what has just come.
 */
#include "intake_helpers.h"

#include <stdatomic.h>

#define THREADS 4
#define ROUNDS (IS_SANITIZED ? 4 : 12)

struct taker {
    struct store *store;
    struct store_intake *intake;
    const struct coming *coming;
    uint64_t seed;
};

/* All blocks, in an order of its own, each read back. */
static void *take_all(void *argument)
{
    const struct taker *taker = argument;
    struct random random;
    random_init(&random, taker->seed);
    const uint32_t first = (uint32_t)random_below(&random, BLOCKS);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        const uint32_t index = (first + i * 4) % BLOCKS;
        const struct bytes expected = block_of(taker->coming, index);
        MUST(store_intake_block(taker->intake, index, expected) == 0);
        struct store_view view;
        MUST(store_view_open(taker->store, &taker->coming->metadata.blocks[index].id, &view) == 0);
        MUST(bytes_equal(view.bytes, expected));
        store_view_close(&view);
        uint8_t have[2];
        store_intake_have(taker->intake, have);
        MUST((have[index / 8] >> (index % 8)) & 1);
    }
    return NULL;
}

static void *tidy_all(void *argument)
{
    struct store *store = argument;
    const struct store_grace none = {0};
    MUST(store_tidy(store, &none) == 0);
    return NULL;
}

/* Two intakes that share half of their blocks, two threads each, against collection. */
static void many_threads(void **state)
{
    struct scratch *scratch = *state;
    const uint64_t seed = test_seed("intake");
    for (uint64_t round = 0; round < ROUNDS; round++) {
        struct coming coming[2];
        struct store_intake *intakes[2];
        make_coming(&coming[0], seed + 2 * round, SIZE);
        coming[1] = (struct coming){.data = make_content(seed + 2 * round + 1, SIZE), .size = SIZE};
        memcpy(coming[1].data, coming[0].data, 5 * BLOCK);
        expected_metadata(BYTES(coming[1].data, SIZE), &coming[1].metadata);
        coming[1].id = expected_id(BYTES(coming[1].data, SIZE));
        for (int i = 0; i < 2; i++) {
            intakes[i] = open_intake(scratch->store, &coming[i], STORE_CACHE);
        }
        struct taker takers[THREADS];
        pthread_t threads[THREADS + 1];
        for (size_t i = 0; i < THREADS; i++) {
            takers[i] = (struct taker){scratch->store, intakes[i % 2], &coming[i % 2],
                                       seed + 100 * round + i};
            assert_int_equal(pthread_create(&threads[i], NULL, take_all, &takers[i]), 0);
        }
        assert_int_equal(pthread_create(&threads[THREADS], NULL, tidy_all, scratch->store), 0);
        advance(scratch, STORE_INTAKE_FLUSH_MS);
        for (size_t i = 0; i <= THREADS; i++) {
            pthread_join(threads[i], NULL);
        }
        for (int i = 0; i < 2; i++) {
            assert_ok(store_intake_commit(intakes[i]));
        }
        tidy_now(scratch);
        for (int i = 0; i < 2; i++) {
            assert_content(scratch->store, &coming[i].id, BYTES(coming[i].data, SIZE));
            assert_ok(store_release(scratch->store, &coming[i].id, STORE_CACHE));
            coming_done(&coming[i]);
        }
        assert_nothing(scratch);
    }
}

struct seeker {
    struct store *store;
    struct store_intake *intake;
    const struct file_metadata *metadata;
    _Atomic bool is_over;
};

/* What is said to be here is found, whatever moves meanwhile. */
static void *seek(void *argument)
{
    struct seeker *seeker = argument;
    struct store_intake_progress progress = {0};
    while (!seeker->is_over) {
        store_intake_progress(seeker->intake, &progress);
        for (uint32_t i = 0; i < 4 && i < progress.blocks_count; i++) {
            /* They come in their order; the last ones are on their way. */
            const struct id *id = &seeker->metadata->blocks[progress.blocks_count - 1 - i].id;
            MUST(store_has_block(seeker->store, id));
        }
    }
    return NULL;
}

static void found_while_it_is_flushed(void **state)
{
    struct scratch *scratch = *state;
    enum { MANY = IS_SANITIZED ? 300 : 3000, EACH = 16 };
    CLEANUP_FREE uint8_t *data = make_content(5, (size_t)MANY * EACH);
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    for (size_t i = 0; i < MANY; i++) {
        const struct id id = block_id(BYTES(data + i * EACH, EACH));
        assert_ok(file_metadata_add(&metadata, &id, EACH));
    }
    struct seeker seeker = {.store = scratch->store, .metadata = &metadata};
    assert_ok(store_intake_open(scratch->store, &metadata, STORE_COPY, &seeker.intake));
    pthread_t threads[3];
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, seek, &seeker), 0);
    }
    for (uint32_t i = 0; i < MANY; i++) {
        assert_ok(store_intake_block(seeker.intake, i, BYTES(data + (size_t)i * EACH, EACH)));
        assert_ok(store_intake_flush(seeker.intake));
    }
    seeker.is_over = true;
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    assert_ok(store_intake_commit(seeker.intake));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(many_threads),
        STORE_TEST(found_while_it_is_flushed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
