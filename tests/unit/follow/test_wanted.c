/* SPDX-License-Identifier: Apache-2.0 */
#include "helpers.h"

#include "follow/local_priv.h"
#include "follow/wanted_priv.h"

#define ID "1111111111111111111111111111111111111111111111111111111111111111"

static int add(struct wanted_map *map, const char *text)
{
    json_t *entry = json_loads(text, 0, NULL);
    assert_non_null(entry);
    const int err = wanted_add(map, entry);
    json_decref(entry);
    return err;
}

static void entries_are_read(void **state)
{
    (void)state;
    CLEANUP_WANTED struct wanted_map map = {0};
    assert_int_equal(add(&map, "{\"path\":\"a/b\",\"type\":\"file\",\"id\":\"" ID "\",\"length\":5,"
                               "\"mode\":\"4644\",\"mtime\":\"2026-01-02T03:04:05.000000006Z\"}"),
                     0);
    assert_int_equal(add(&map, "{\"path\":\"l\",\"type\":\"symlink\",\"target\":\"x\"}"), 0);
    assert_int_equal(add(&map, "{\"path\":\"d\",\"type\":\"directory\",\"atomic\":true}"), 0);
    const struct wanted *file = wanted_find(&map, "a/b");
    assert_int_equal(file->kind, PLACE_FILE);
    assert_int_equal(file->length_bytes, 5);
    assert_int_equal(file->mode, 0644);
    assert_int_equal(file->mtime.tv_nsec, 6);
    const struct wanted *link = wanted_find(&map, "l");
    struct id id;
    local_link_id("x", &id);
    assert_true(id_equal(&link->id, &id));
    assert_true(wanted_find(&map, "d")->is_atomic);
    assert_null(wanted_find(&map, "a"));
}

static void nonsense_is_refused(void **state)
{
    (void)state;
    CLEANUP_WANTED struct wanted_map map = {0};
    assert_int_equal(add(&map, "{\"path\":\"a\",\"type\":\"file\",\"id\":\"1\"}"), -EPROTO);
    assert_int_equal(add(&map, "{\"path\":\"a\",\"type\":\"symlink\"}"), -EPROTO);
    assert_int_equal(add(&map, "{\"path\":\"a\",\"type\":\"pipe\"}"), -EPROTO);
    assert_null(map.all);
}

static void own_names_are_not_followed(void **state)
{
    (void)state;
    static const char *const refused[] = {"",           "..",    "a/../b",
                                          "a//b",       "/a",    ".artel",
                                          "a/.artel/b", "a/./b", ".artel-follow/index",
                                          "x/.artel-1"};
    static const char *const taken[] = {"a", "a/b", ".artel2", ".artels/x", "artel", "a.artel"};
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        assert_false(wanted_is_path(refused[i]));
    }
    for (size_t i = 0; i < ARRAY_SIZE(taken); i++) {
        assert_true(wanted_is_path(taken[i]));
    }
    CLEANUP_WANTED struct wanted_map map = {0};
    assert_int_equal(add(&map, "{\"path\":\"../x\",\"type\":\"directory\"}"), 0);
    assert_null(map.all);
    assert_int_equal(map.refused, 1);
}

static void what_is_there_is_not_wanted_again(void **state)
{
    (void)state;
    CLEANUP_WANTED struct wanted_map map = {0};
    assert_int_equal(add(&map, "{\"path\":\"a\",\"type\":\"file\",\"id\":\"" ID "\",\"length\":5,"
                               "\"mode\":\"0644\",\"mtime\":\"2026-01-02T03:04:05.000000006Z\"}"),
                     0);
    const struct wanted *wanted = wanted_find(&map, "a");
    struct place place = {
        .kind = PLACE_FILE, .id = wanted->id, .mode = 0644, .mtime = wanted->mtime};
    assert_true(wanted_is_at(wanted, &place));
    place.mode = 0600;
    assert_false(wanted_is_at(wanted, &place));
    place.mode = 0644;
    place.mtime.tv_nsec++;
    assert_false(wanted_is_at(wanted, &place));
    place.mtime = wanted->mtime;
    place.id.bytes[5] ^= 1;
    assert_false(wanted_is_at(wanted, &place));
    place.id = wanted->id;
    place.kind = PLACE_SYMLINK;
    assert_false(wanted_is_at(wanted, &place));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_are_read),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(own_names_are_not_followed),
        cmocka_unit_test(what_is_there_is_not_wanted_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
