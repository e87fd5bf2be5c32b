/* SPDX-License-Identifier: Apache-2.0 */
#include "helpers.h"

#include "client/content_id.h"
#include "follow/local_priv.h"

static struct local *open_at(const char *dir)
{
    struct local *local = NULL;
    assert_int_equal(local_open(dir, &local), 0);
    return local;
}

static struct place *place_at(struct local *local, const char *path, const char *text)
{
    struct place *place = mem_alloc(sizeof *place + strlen(path) + 1);
    struct stat info;
    place->kind = PLACE_FILE;
    memcpy(place->path, path, strlen(path) + 1);
    assert_int_equal(local_stat(local, path, &info), 0);
    place->mark = mark_of(&info);
    struct content_id *content = content_id_new();
    assert_int_equal(content_id_add(content, bytes_of_string(text)), 0);
    content_id_take(content, &place->id);
    content_id_free(content);
    return place;
}

static bool is_ours(struct local *local, const struct place *place)
{
    struct stat info;
    assert_int_equal(local_stat(local, place->path, &info), 0);
    return local_is_ours(local, place, &info);
}

static void a_changed_file_is_not_ours(void **state)
{
    struct local *local = open_at(*state);
    write_text(*state, "a", "one");
    struct place *place = place_at(local, "a", "one");
    assert_true(is_ours(local, place));
    /* Another link changes the ctime, and nothing else: the content decides. */
    assert_int_equal(linkat(local_dir_fd(local), "a", local_dir_fd(local), "b", 0), 0);
    assert_true(is_ours(local, place));
    place->id.bytes[0] ^= 1;
    assert_false(is_ours(local, place));
    place->id.bytes[0] ^= 1;
    write_text(*state, "a", "two!");
    assert_false(is_ours(local, place));
    free(place);
    local_close(local);
}

static void links_are_not_gone_through(void **state)
{
    struct local *local = open_at(*state);
    struct stat info;
    int fd = -1;
    const char *name = NULL;
    assert_int_equal(symlinkat("/tmp", local_dir_fd(local), "out"), 0);
    assert_int_equal(local_stat(local, "out/x", &info), -ENOENT);
    assert_int_equal(local_parent(local, "out/x", true, &fd, &name), -ENOTDIR);
    assert_int_equal(local_parent(local, "d/e/x", false, &fd, &name), -ENOENT);
    assert_int_equal(local_parent(local, "d/e/x", true, &fd, &name), 0);
    assert_string_equal(name, "x");
    assert_int_equal(local_stat(local, "d/e", &info), 0);
    assert_true(S_ISDIR(info.st_mode));
    local_close(local);
}

static void what_is_kept_loses_nothing(void **state)
{
    struct local *local = open_at(*state);
    struct stat info;
    char *beside[3] = {NULL};
    for (size_t i = 0; i < 3; i++) {
        write_text(*state, "a", "mine");
        assert_int_equal(local_keep(local, "a", &beside[i]), 0);
        assert_int_equal(local_stat(local, "a", &info), -ENOENT);
    }
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(local_stat(local, beside[i], &info), 0);
        assert_int_equal(info.st_size, 4);
        assert_memory_equal(beside[i], "a.local-", strlen("a.local-"));
        free(beside[i]);
    }
    /* A name as long as can be gets room for what tells it apart. */
    char name[256];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    write_text(*state, name, "mine");
    assert_int_equal(local_keep(local, name, &beside[0]), 0);
    assert_int_equal(strlen(beside[0]), 255);
    free(beside[0]);
    local_close(local);
}

static void a_tree_is_removed_whatever_its_modes(void **state)
{
    struct local *local = open_at(*state);
    struct stat info;
    int fd = -1;
    const char *name = NULL;
    assert_int_equal(local_parent(local, "d/e/x", true, &fd, &name), 0);
    write_text(*state, "d/e/x", "x");
    assert_int_equal(fchmodat(local_dir_fd(local), "d/e", 0, 0), 0);
    local_remove_tree(local, "d");
    assert_int_equal(local_stat(local, "d", &info), -ENOENT);
    local_close(local);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_changed_file_is_not_ours, scratch_set_up,
                                        scratch_tear_down),
        cmocka_unit_test_setup_teardown(links_are_not_gone_through, scratch_set_up,
                                        scratch_tear_down),
        cmocka_unit_test_setup_teardown(what_is_kept_loses_nothing, scratch_set_up,
                                        scratch_tear_down),
        cmocka_unit_test_setup_teardown(a_tree_is_removed_whatever_its_modes, scratch_set_up,
                                        scratch_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
