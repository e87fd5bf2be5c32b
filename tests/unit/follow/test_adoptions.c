/* SPDX-License-Identifier: Apache-2.0 */
#include "helpers.h"

#include "follow/places_priv.h"

struct fixture {
    const char *dir;
    struct places *places;
    struct adoptions *adoptions;
};

static struct fixture open_at(const char *dir)
{
    struct fixture fixture = {.dir = dir};
    int fd = -1;
    assert_int_equal(file_open_at(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0, &fd), 0);
    assert_int_equal(places_open(fd, dir, &fixture.places), 0);
    close(fd);
    fixture.adoptions = places_adoptions(fixture.places);
    return fixture;
}

/* As after a crash. */
static void reopen(struct fixture *fixture)
{
    places_close(fixture->places);
    *fixture = open_at(fixture->dir);
}

static struct place some_file(uint8_t seed)
{
    struct place place = {
        .kind = PLACE_FILE,
        .mark = {.inode = seed, .size_bytes = seed, .mtime = {3, seed}, .ctime = {4, seed}},
    };
    memset(place.id.bytes, seed, sizeof place.id.bytes);
    return place;
}

static void put(struct fixture *fixture, uint8_t seed, const char *path)
{
    const struct place place = some_file(seed);
    places_put(fixture->places, &place, path);
}

static void drop(struct fixture *fixture, const char *path)
{
    places_delete(fixture->places, places_find(fixture->places, path));
}

static void commit(struct fixture *fixture)
{
    assert_int_equal(places_commit(fixture->places), 0);
}

/* "+PATH:SEED" for each that is adopted, "-..." that is released. The caller frees it. */
static char *take_and_settle(struct fixture *fixture, uint64_t now_ms, bool is_again, size_t limit)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    CLEANUP_ADOPTION_BATCH struct adoption_batch batch = ADOPTION_BATCH_INIT;
    assert_int_equal(adoptions_take(fixture->adoptions, now_ms, &batch), 0);
    const size_t count = batch.count < limit ? batch.count : limit;
    for (size_t i = 0; i < count; i++) {
        struct adoption *adoption = &batch.all[i];
        assert_int_equal(adoption->size_bytes, adoption->id.bytes[0]);
        adoption->is_again = is_again;
        buf_add_format(&text, "%s%c%s:%u", i > 0 ? " " : "", adoption->is_release ? '-' : '+',
                       adoption->path, adoption->id.bytes[0]);
    }
    assert_int_equal(adoptions_settle(fixture->adoptions, &batch, count), 0);
    return mem_copy_string(buf_string(&text));
}

static void expect_at(struct fixture *fixture, uint64_t now_ms, bool is_again, const char *want)
{
    char *got = take_and_settle(fixture, now_ms, is_again, SIZE_MAX);
    assert_string_equal(got, want);
    free(got);
}

static void expect(struct fixture *fixture, const char *want)
{
    expect_at(fixture, 0, false, want);
}

/* With somebody who has adopted all that there was. */
static struct fixture begin_at(const char *dir)
{
    struct fixture fixture = open_at(dir);
    assert_int_equal(adoptions_begin(fixture.adoptions, "somebody"), 0);
    expect(&fixture, "");
    return fixture;
}

static void nothing_is_queued_for_nobody(void **state)
{
    struct fixture fixture = open_at(*state);
    assert_false(adoptions_are_made(fixture.adoptions));
    assert_null(adoptions_adopter(fixture.adoptions));
    put(&fixture, 1, "a");
    commit(&fixture);
    expect(&fixture, "");
    reopen(&fixture);
    expect(&fixture, "");
    places_close(fixture.places);
}

static void changes_of_files_are_queued_with_them(void **state)
{
    struct fixture fixture = begin_at(*state);
    const struct place directory = {.kind = PLACE_DIRECTORY};
    struct place intended = some_file(9);
    struct place late = some_file(8);
    intended.is_intended = true;
    late.is_late = true;
    put(&fixture, 1, "a");
    put(&fixture, 2, "b");
    places_put(fixture.places, &directory, "d");
    places_put(fixture.places, &intended, "//a");
    places_put(fixture.places, &late, "late");
    places_delete(fixture.places, places_find(fixture.places, "//a"));
    commit(&fixture);
    reopen(&fixture);
    assert_true(adoptions_are_made(fixture.adoptions));
    expect(&fixture, "+a:1 +b:2");
    expect(&fixture, "");
    put(&fixture, 1, "a"); /* nothing is new */
    commit(&fixture);
    expect(&fixture, "");
    late.is_late = false;
    places_put(fixture.places, &late, "late");
    put(&fixture, 3, "a");                       /* other content */
    places_put(fixture.places, &directory, "b"); /* something else */
    struct place touched = some_file(3);
    touched.mark.ctime.tv_nsec++;
    places_put(fixture.places, &touched, "a");
    commit(&fixture);
    expect(&fixture, "+late:8 -a:1 -b:2 +a:3");
    places_move(fixture.places, places_find(fixture.places, "a"), "moved");
    drop(&fixture, "late");
    commit(&fixture);
    expect(&fixture, "+moved:3 -a:3 -late:8"); /* never without a place */
    places_close(fixture.places);
}

static void the_last_word_counts(void **state)
{
    struct fixture fixture = begin_at(*state);
    for (unsigned i = 0; i < 50; i++) {
        put(&fixture, 1, "a");
        put(&fixture, 2, "a");
    }
    commit(&fixture);
    reopen(&fixture);
    expect(&fixture, "+a:2 -a:1");
    put(&fixture, 1, "a");
    commit(&fixture);
    drop(&fixture, "a");
    commit(&fixture);
    expect(&fixture, "-a:2 -a:1");
    expect(&fixture, "");
    places_close(fixture.places);
}

static void a_word_that_comes_meanwhile_is_not_lost(void **state)
{
    struct fixture fixture = begin_at(*state);
    put(&fixture, 1, "a");
    commit(&fixture);
    struct adoption_batch batch = ADOPTION_BATCH_INIT;
    assert_int_equal(adoptions_take(fixture.adoptions, 0, &batch), 0);
    assert_int_equal(batch.count, 1);
    drop(&fixture, "a");
    commit(&fixture);
    batch.all[0].is_again = true;
    assert_int_equal(adoptions_settle(fixture.adoptions, &batch, 1), 0);
    adoption_batch_done(&batch);
    expect(&fixture, "-a:1");
    expect_at(&fixture, 1000000, false, "");
    places_close(fixture.places);
}

static void what_fails_has_another_turn_but_not_for_ever(void **state)
{
    struct fixture fixture = begin_at(*state);
    put(&fixture, 1, "a");
    commit(&fixture);
    expect_at(&fixture, 0, true, "+a:1");
    uint64_t now_ms = 0;
    unsigned attempts = 1;
    for (; attempts < 100; attempts++) {
        expect_at(&fixture, now_ms, true, ""); /* not yet */
        const uint64_t due_ms = adoptions_due_ms(fixture.adoptions);
        if (due_ms == UINT64_MAX) {
            break;
        }
        assert_true(due_ms > now_ms);
        /* Others do not wait for it. */
        put(&fixture, 2, "b");
        commit(&fixture);
        expect_at(&fixture, due_ms - 1, false, "+b:2");
        drop(&fixture, "b");
        commit(&fixture);
        expect_at(&fixture, due_ms - 1, false, "-b:2");
        now_ms = due_ms;
        expect_at(&fixture, now_ms, true, "+a:1");
        if (attempts == 3) {
            reopen(&fixture); /* times are forgotten, attempts are not */
        }
    }
    assert_int_equal(attempts, ADOPTION_ATTEMPTS_MAX);
    assert_true(now_ms > (uint64_t)11 * 60 * 1000);
    places_close(fixture.places);
}

static void another_one_is_told_of_all_places(void **state)
{
    enum { FILES = 700, STEP = 100 };
    struct fixture fixture = open_at(*state);
    const struct place directory = {.kind = PLACE_DIRECTORY};
    char path[16];
    for (unsigned i = 0; i < FILES; i++) {
        snprintf(path, sizeof path, "f%u", i);
        put(&fixture, (uint8_t)i, path);
        snprintf(path, sizeof path, "d%u", i);
        places_put(fixture.places, &directory, path);
    }
    commit(&fixture);
    for (unsigned who = 0; who < 2; who++) {
        assert_int_equal(adoptions_begin(fixture.adoptions, who ? "one" : "another"), 0);
        bool seen[FILES] = {false};
        unsigned count = 0;
        /* No more than a part of what is taken is tried. */
        for (;;) {
            char *text = take_and_settle(&fixture, 0, false, STEP);
            char *rest = text;
            for (const char *word = strsep(&rest, " "); word && *word; word = strsep(&rest, " ")) {
                const unsigned long number = strtoul(word + strlen("+f"), NULL, 10);
                assert_true(number < FILES && !seen[number] && word[0] == '+');
                seen[number] = true;
                count++;
            }
            const bool is_over = !*text;
            free(text);
            if (is_over) {
                break;
            }
            reopen(&fixture);
        }
        assert_int_equal(count, FILES);
        /* What comes first is what is new. */
    }
    char *adopter = adoptions_adopter(fixture.adoptions);
    assert_string_equal(adopter, "one");
    free(adopter);
    assert_int_equal(adoptions_rename(fixture.adoptions, "the same"), 0);
    expect(&fixture, "");
    places_close(fixture.places);
}

static void what_fails_on_the_way_is_queued(void **state)
{
    struct fixture fixture = open_at(*state);
    put(&fixture, 1, "a");
    commit(&fixture);
    assert_int_equal(adoptions_begin(fixture.adoptions, "somebody"), 0);
    struct adoption_batch batch = ADOPTION_BATCH_INIT;
    assert_int_equal(adoptions_take(fixture.adoptions, 0, &batch), 0);
    assert_int_equal(batch.count, 1);
    batch.all[0].is_again = true;
    put(&fixture, 2, "a"); /* meanwhile */
    commit(&fixture);
    assert_int_equal(adoptions_settle(fixture.adoptions, &batch, 1), 0);
    adoption_batch_done(&batch);
    expect(&fixture, "+a:2 -a:1");
    assert_int_equal(adoptions_begin(fixture.adoptions, "another"), 0);
    expect_at(&fixture, 0, true, "+a:2");
    expect_at(&fixture, 0, true, "");
    reopen(&fixture);
    expect_at(&fixture, 0, true, "");
    const uint64_t due_ms = adoptions_due_ms(fixture.adoptions);
    assert_true(due_ms > 0 && due_ms < UINT64_MAX);
    expect_at(&fixture, due_ms, false, "+a:2");
    places_close(fixture.places);
}

static void nothing_is_left_when_nobody_adopts_any_more(void **state)
{
    struct fixture fixture = begin_at(*state);
    char path[16];
    for (unsigned i = 0; i < 300; i++) {
        snprintf(path, sizeof path, "f%u", i);
        put(&fixture, (uint8_t)i, path);
    }
    commit(&fixture);
    assert_int_equal(adoptions_end(fixture.adoptions), 0);
    expect(&fixture, "");
    put(&fixture, 1, "more");
    commit(&fixture);
    expect(&fixture, "");
    reopen(&fixture);
    assert_false(adoptions_are_made(fixture.adoptions));
    assert_null(adoptions_adopter(fixture.adoptions));
    expect(&fixture, "");
    places_close(fixture.places);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_queued_for_nobody, scratch_set_up,
                                        scratch_tear_down),
        cmocka_unit_test_setup_teardown(changes_of_files_are_queued_with_them, scratch_set_up,
                                        scratch_tear_down),
        cmocka_unit_test_setup_teardown(the_last_word_counts, scratch_set_up, scratch_tear_down),
        cmocka_unit_test_setup_teardown(a_word_that_comes_meanwhile_is_not_lost, scratch_set_up,
                                        scratch_tear_down),
        cmocka_unit_test_setup_teardown(what_fails_has_another_turn_but_not_for_ever,
                                        scratch_set_up, scratch_tear_down),
        cmocka_unit_test_setup_teardown(another_one_is_told_of_all_places, scratch_set_up,
                                        scratch_tear_down),
        cmocka_unit_test_setup_teardown(what_fails_on_the_way_is_queued, scratch_set_up,
                                        scratch_tear_down),
        cmocka_unit_test_setup_teardown(nothing_is_left_when_nobody_adopts_any_more, scratch_set_up,
                                        scratch_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
