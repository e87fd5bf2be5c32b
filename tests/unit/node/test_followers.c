/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "node/followers.h"

static void assert_entry(const char *text, const char *pattern, const char *dir, const char *keep,
                         const char *command)
{
    struct follow_entry entry;
    assert_int_equal(follow_entry_parse(text, &entry), 0);
    assert_string_equal(entry.pattern, pattern);
    assert_string_equal(entry.dir, dir);
    assert_string_equal(entry.keep ? entry.keep : "-", keep);
    assert_string_equal(entry.command ? entry.command : "-", command);
    follow_entry_done(&entry);
}

static void an_entry_has_its_parts(void **state)
{
    (void)state;
    assert_entry("a/** -> /b", "a/**", "/b", "-", "-");
    assert_entry("  a b  ->  /c d  keep 3", "a b", "/c d", "3", "-");
    assert_entry("a -> /b exec run -> it keep 4", "a", "/b", "-", "run -> it keep 4");
    assert_entry("a -> /b keep 0 exec x exec y", "a", "/b", "0", "x exec y");
}

static void what_is_none_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"",        "a",     "a->/b",          "a -> b",
                                        " -> /b",  "a -> ", "a -> /b keep x", "a -> /b exec ",
                                        "a /b -> "};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct follow_entry entry;
        assert_int_equal(follow_entry_parse(texts[i], &entry), -EINVAL);
    }
}

static void each_line_is_one(void **state)
{
    (void)state;
    struct followers *followers = NULL;
    size_t line = 7;
    assert_int_equal(followers_new(NULL, "/socket", &line, &followers), 0);
    assert_int_equal(followers_count(followers), 0);
    followers_free(followers);
    assert_int_equal(followers_new("a -> /b\nc -> /d", "/socket", &line, &followers), 0);
    assert_int_equal(followers_count(followers), 2);
    struct buf text = BUF_INIT;
    struct follower_info info;
    followers_read(followers, 1, &info, &text);
    assert_string_equal(info.pattern, "c");
    assert_string_equal(info.dir, "/d");
    assert_int_equal(info.pid, 0);
    assert_int_equal(text.size, 0);
    buf_done(&text);
    followers_free(followers);
    assert_int_equal(followers_new("a -> /b\nc", "/socket", &line, &followers), -EINVAL);
    assert_int_equal(line, 2);
}

static bool matches(const struct followers *followers, const char *path)
{
    return followers_match(followers, bytes_of_string(path));
}

static void what_they_follow_is_known(void **state)
{
    (void)state;
    struct followers *followers = NULL;
    size_t line = 0;
    const char *lines = "a/** -> /b\nc/*.txt -> /d\n[ -> /e\n/f/g/ -> /h";
    assert_int_equal(followers_new(lines, "/socket", &line, &followers), 0);
    assert_true(matches(followers, "a/x/y"));
    assert_true(matches(followers, "c/x.txt"));
    assert_false(matches(followers, "c/x"));
    assert_false(matches(followers, "["));
    assert_true(matches(followers, "f/g/all/that/is/in/it"));
    assert_true(matches(followers, "f/g"));
    assert_false(matches(followers, "f"));
    followers_free(followers);
    assert_false(matches(NULL, "a/x"));
}

static void there_is_a_limit(void **state)
{
    (void)state;
    struct buf lines = BUF_INIT;
    for (size_t i = 0; i < FOLLOWERS_MAX; i++) {
        buf_add_string(&lines, "a -> /b\n");
    }
    struct followers *followers = NULL;
    size_t line = 0;
    assert_int_equal(followers_new(buf_string(&lines), "/socket", &line, &followers), 0);
    followers_free(followers);
    buf_add_string(&lines, "a -> /b");
    assert_int_equal(followers_new(buf_string(&lines), "/socket", &line, &followers), -EINVAL);
    assert_int_equal(line, FOLLOWERS_MAX + 1);
    buf_done(&lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_entry_has_its_parts), cmocka_unit_test(what_is_none_is_refused),
        cmocka_unit_test(each_line_is_one),       cmocka_unit_test(what_they_follow_is_known),
        cmocka_unit_test(there_is_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
