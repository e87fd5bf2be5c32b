/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A source that sends a hundred thousand blocks, none of them right, over a link of its own,
 * through the gathering of blocks, into an intake of a real store, as fast as they go: none is
 * taken. Then it sends the right ones, and the file is right.
 */

#include "fake_source.h"

#define CORRUPTIONS (IS_SANITIZED ? 10000u : 100000u)
#define SMALL_BLOCKS 512u
#define SMALL_BYTES_MAX 1500u
#define ROUND 64u

enum corruption { BIT_FLIPPED, BYTES_SWAPPED, ZEROS, NOISE, OF_ANOTHER, TOO_SHORT, TOO_LONG };
#define CORRUPTIONS_KNOWN 7u

/* Offsets of small blocks in the content; a file that is cut as nobody cuts one. */
struct small {
    struct coming *file;
    size_t offsets[SMALL_BLOCKS];
};

static void make_small(struct small *small, struct coming *file, struct random *random)
{
    coming_done(file);
    *file = (struct coming){.data = make_content(1, SMALL_BLOCKS * SMALL_BYTES_MAX)};
    for (uint32_t i = 0; i < SMALL_BLOCKS; i++) {
        const uint32_t size = 1 + (uint32_t)random_below(random, SMALL_BYTES_MAX);
        struct id id;
        sha256_id(BYTES(file->data + file->size, size), &id);
        assert_ok(file_metadata_add(&file->metadata, &id, size));
        small->offsets[i] = file->size;
        file->size += size;
    }
    CLEANUP_BUF struct buf text = BUF_INIT;
    file_metadata_format(&file->metadata, &text);
    sha256_id(buf_bytes(&text), &file->id);
    small->file = file;
}

static struct bytes right_block(const struct small *small, uint32_t index)
{
    return BYTES(small->file->data + small->offsets[index],
                 small->file->metadata.blocks[index].size_bytes);
}

/* One way to be wrong; false: this time it is not. */
static bool corrupt(const struct small *small, uint32_t index, struct random *random,
                    struct buf *ret_bytes)
{
    const struct bytes right = right_block(small, index);
    buf_clear(ret_bytes);
    buf_add(ret_bytes, right);
    uint8_t *at = ret_bytes->data + random_below(random, right.size);
    uint8_t *other = ret_bytes->data + random_below(random, right.size);
    const uint8_t byte = *at;
    switch ((enum corruption)random_below(random, CORRUPTIONS_KNOWN)) {
    case BIT_FLIPPED:
        *at = (uint8_t)(*at ^ 1u << random_below(random, 8));
        break;
    case BYTES_SWAPPED:
        *at = *other;
        *other = byte;
        break;
    case ZEROS:
        memset(ret_bytes->data, 0, right.size);
        break;
    case NOISE:
        random_fill(random, ret_bytes->data, right.size);
        break;
    case OF_ANOTHER:
        buf_clear(ret_bytes);
        buf_add(ret_bytes, right_block(small, (uint32_t)random_below(random, SMALL_BLOCKS)));
        break;
    case TOO_SHORT:
        buf_clear(ret_bytes);
        buf_add(ret_bytes, BYTES(right.data, right.size - random_below(random, right.size)));
        break;
    case TOO_LONG:
        buf_add(ret_bytes, BYTES(right.data, 1 + random_below(random, right.size)));
        break;
    }
    return !bytes_equal(buf_bytes(ret_bytes), right);
}

/* Asks for up to ROUND blocks from `begin` on; they come right, or each wrong. Gives how many ended
 * as bad. */
static size_t exchange(struct scene *scene, const struct small *small, uint32_t number,
                       uint32_t begin, struct random *random_or_null)
{
    struct seen *seen = scene->us->seen;
    const uint32_t end = begin + ROUND;
    if (scene->fake.frames_count > 0) {
        scene->fake.frames_count = 1; /* so that there is room for what it hears */
    }
    begin_source(scene, number, begin, end);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    for (uint32_t i = begin; i < end; i++) {
        buf_clear(&bytes);
        buf_add(&bytes, right_block(small, i));
        while (random_or_null && !corrupt(small, i, random_or_null, &bytes)) {
        }
        say_block(scene, number, (uint16_t)(i - begin), buf_bytes(&bytes));
    }
    WAIT_FOR(seen->ends_count == ROUND);
    size_t bad = 0;
    for (size_t i = 0; i < ROUND; i++) {
        bad += seen->ends[i].err == -EBADMSG;
        assert_true(seen->ends[i].err == 0 || seen->ends[i].err == -EBADMSG);
    }
    seen->ends_count = 0;
    return bad;
}

static void none_of_many_corrupt_blocks_is_taken(void **state)
{
    (void)state;
    struct random random;
    random_init(&random, test_seed("none_of_many_corrupt_blocks_is_taken"));
    struct scene *scene = scene_new((struct blocks_options){0});
    struct small small;
    make_small(&small, &scene->file, &random);
    struct store *store = scene->us->scratch->store;
    struct store_intake *intake = open_intake(store, &scene->file, STORE_CACHE);
    scene->us->seen->to = intake;
    scene->us->seen->trusts = true;
    uint32_t number = 1;
    uint64_t injected = 0;
    for (; injected < CORRUPTIONS; injected += ROUND) {
        const uint32_t begin = (uint32_t)random_below(&random, SMALL_BLOCKS - ROUND + 1);
        assert_int_equal(exchange(scene, &small, number++, begin, &random), ROUND);
    }
    assert_int_equal(here(intake), 0);
    assert_int_equal(counters_of(scene->us).bad_blocks, injected);
    /* Those of a right size went all the way to the store, the others to nobody. */
    const size_t arrived = scene->us->seen->wrong_count;
    assert_true(arrived > injected / 2 && arrived < injected);
    assert_int_equal(scene->us->seen->delivered_count, arrived);
    assert_int_equal(scene->us->seen->lost_count, 0);

    for (uint32_t begin = 0; begin < SMALL_BLOCKS; begin += ROUND) {
        assert_int_equal(exchange(scene, &small, number++, begin, NULL), 0);
    }
    assert_int_equal(here(intake), SMALL_BLOCKS);
    assert_int_equal(scene->us->seen->wrong_count, arrived);
    scene->us->seen->to = NULL;
    assert_ok(store_intake_commit(intake));
    for (uint32_t i = 0; i < SMALL_BLOCKS; i++) {
        struct store_view view;
        assert_ok(store_view_open(store, &scene->file.metadata.blocks[i].id, &view));
        assert_true(bytes_equal(view.bytes, right_block(&small, i)));
        store_view_close(&view);
    }
    print_message("%llu corrupt blocks, %zu of them of the right size, none taken\n",
                  (unsigned long long)injected, arrived);
    scene_free(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(none_of_many_corrupt_blocks_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
