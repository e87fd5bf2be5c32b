/* SPDX-License-Identifier: Apache-2.0 */
#include "helpers.h"

#include "follow/places_priv.h"

static struct places *open_at(const char *dir)
{
    int fd = -1;
    struct places *places = NULL;
    assert_int_equal(file_open_at(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0, &fd), 0);
    assert_int_equal(places_open(fd, dir, &places), 0);
    close(fd);
    return places;
}

static struct place some_place(uint8_t seed)
{
    struct place place = {
        .kind = PLACE_FILE,
        .mode = 0640,
        .mtime = {.tv_sec = -seed, .tv_nsec = seed},
        .mark = {.inode = seed, .size_bytes = 2u * seed, .mtime = {3, seed}, .ctime = {4, seed}},
    };
    memset(place.id.bytes, seed, sizeof place.id.bytes);
    return place;
}

static void what_is_committed_is_there_again(void **state)
{
    struct places *places = open_at(*state);
    struct place file = some_place(7);
    struct place directory = {.kind = PLACE_DIRECTORY, .is_implied = true, .version = 5};
    char path[4000];
    memset(path, 'p', sizeof path - 1); /* longer than a key can be */
    path[sizeof path - 1] = 0;
    places_put(places, &file, path);
    places_put(places, &directory, "d");
    places_put(places, &file, "gone");
    places_delete(places, places_find(places, "gone"));
    places_put(places, &file, "old");
    places_move(places, places_find(places, "old"), "new");
    uint64_t old[] = {4, 3};
    places_put_root(places,
                    &(struct root){.version = 9, .is_switching = true, .old = old, .old_count = 2},
                    "r/s");
    places_set(places, "cursor", "1:2");
    assert_int_equal(places_next_number(places), 1);
    assert_int_equal(places_commit(places), 0);
    places_put(places, &file, "not committed");
    places_close(places);

    places = open_at(*state);
    assert_int_equal(places_count(places), 3);
    const struct place *found = places_find(places, path);
    assert_non_null(found);
    assert_int_equal(found->kind, PLACE_FILE);
    assert_int_equal(found->mode, 0640);
    assert_int_equal(found->mtime.tv_sec, -7);
    assert_true(mark_equal(&found->mark, &file.mark));
    assert_true(id_equal(&found->id, &file.id));
    found = places_find(places, "d");
    assert_true(found->is_implied);
    assert_int_equal(found->version, 5);
    assert_null(places_find(places, "gone"));
    assert_null(places_find(places, "old"));
    assert_non_null(places_find(places, "new"));
    const struct root *root = places_root_of(places, "r/s/below/it");
    assert_non_null(root);
    assert_ptr_equal(root, places_find_root(places, "r/s"));
    assert_int_equal(root->version, 9);
    assert_true(root->is_switching);
    assert_int_equal(root->old_count, 2);
    assert_int_equal(root->old[1], 3);
    assert_null(places_root_of(places, "r/sx"));
    assert_null(places_root_of(places, "r"));
    char *cursor = places_get(places, "cursor");
    assert_string_equal(cursor, "1:2");
    free(cursor);
    assert_int_equal(places_next_number(places), 2);
    places_close(places);
}

static void hooks_come_in_their_order(void **state)
{
    struct places *places = open_at(*state);
    uint64_t number = 0;
    char *text = NULL;
    assert_int_equal(places_hook_first(places, &number, &text), -ENOENT);
    places_add_hook(places, "first");
    places_add_hook(places, "second");
    assert_int_equal(places_commit(places), 0);
    places_close(places);

    places = open_at(*state);
    assert_int_equal(places_hooks_count(places), 2);
    static const char *const texts[] = {"first", "second", "third"};
    places_add_hook(places, "third");
    assert_int_equal(places_commit(places), 0);
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        assert_int_equal(places_hook_first(places, &number, &text), 0);
        assert_string_equal(text, texts[i]);
        free(text);
        assert_int_equal(places_hook_done(places, number), 0);
    }
    assert_int_equal(places_hook_first(places, &number, &text), -ENOENT);
    assert_int_equal(places_hooks_count(places), 0);
    places_close(places);
}

static void one_has_it_at_a_time(void **state)
{
    struct places *places = open_at(*state);
    struct places *other = NULL;
    int fd = -1;
    assert_int_equal(file_open_at(AT_FDCWD, *state, O_RDONLY | O_DIRECTORY, 0, &fd), 0);
    assert_int_equal(places_open(fd, *state, &other), -EBUSY);
    close(fd);
    places_close(places);
    places_close(open_at(*state));
}

static void marks_tell_states_apart(void **state)
{
    (void)state;
    const struct mark mark = some_place(9).mark;
    struct mark other = mark;
    other.ctime.tv_nsec++;
    assert_true(mark_is_same_content(&mark, &other));
    assert_false(mark_equal(&mark, &other));
    other = mark;
    other.mtime.tv_nsec++;
    assert_false(mark_is_same_content(&mark, &other));
    other = mark;
    other.size_bytes++;
    assert_false(mark_is_same_content(&mark, &other));
    other = mark;
    other.inode++;
    assert_false(mark_is_same_content(&mark, &other));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_committed_is_there_again, scratch_set_up,
                                        scratch_tear_down),
        cmocka_unit_test_setup_teardown(hooks_come_in_their_order, scratch_set_up,
                                        scratch_tear_down),
        cmocka_unit_test_setup_teardown(one_has_it_at_a_time, scratch_set_up, scratch_tear_down),
        cmocka_unit_test(marks_tell_states_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
