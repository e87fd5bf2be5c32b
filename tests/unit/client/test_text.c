/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "client/text.h"

static void sizes(void **state)
{
    (void)state;
    const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0 B"},
        {999, "999 B"},
        {1000, "1.0 KiB"},
        {1024, "1.0 KiB"},
        {10189, "10 KiB"},
        {10188, "9.9 KiB"},
        {1023 * 1024, "1.0 MiB"},
        {999 * 1024, "999 KiB"},
        {(uint64_t)5 << 30, "5.0 GiB"},
        {(uint64_t)1 << 40, "1.0 TiB"},
        {UINT64_MAX, "16 EiB"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_BUF struct buf out = BUF_INIT;
        text_add_size(&out, cases[i].bytes);
        assert_string_equal(buf_string(&out), cases[i].text);
    }
}

static void durations(void **state)
{
    (void)state;
    const struct {
        uint64_t seconds;
        const char *text;
    } cases[] = {
        {0, "0:00"},          {7, "0:07"},          {3599, "59:59"},          {3600, "1:00:00"},
        {359999, "99:59:59"}, {360000, "99:59:59"}, {UINT64_MAX, "99:59:59"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_BUF struct buf out = BUF_INIT;
        text_add_duration(&out, cases[i].seconds);
        assert_string_equal(buf_string(&out), cases[i].text);
    }
}

static void names_move_no_cursor(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf out = BUF_INIT;
    text_add_name(&out, "a\x1b[2J\n\x7f\xc3\xa4", true);
    assert_string_equal(buf_string(&out), "a?[2J??\xc3\xa4");
    buf_clear(&out);
    text_add_name(&out, "a\x1b\n", false);
    assert_string_equal(buf_string(&out), "a\x1b\n");
    /* U+009B is ESC [ in one; U+00A0 and U+0440 are none, whatever their bytes are. */
    buf_clear(&out);
    text_add_name(&out,
                  "\xc2\x9b"
                  "2J\xc2\x80\xc2\x9f\xc2\xa0\xd1\x80\xc2",
                  true);
    assert_string_equal(buf_string(&out), "?2J??\xc2\xa0\xd1\x80\xc2");
}

static void lines_stay_lines(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf out = BUF_INIT;
    for (int to_terminal = 0; to_terminal < 2; to_terminal++) {
        buf_clear(&out);
        text_add_id_line(&out, "ID", "plain", to_terminal);
        text_add_id_line(&out, "ID", "a\nb", to_terminal);
        text_add_id_line(&out, "ID", "a\\b", to_terminal);
        assert_string_equal(buf_string(&out), "ID  plain\n\\ID  a\\nb\n\\ID  a\\\\b\n");
    }
    buf_clear(&out);
    text_add_id_line(&out, "ID", "a\x1b\n", false);
    text_add_id_line(&out, "ID", "a\x1b\n", true);
    assert_string_equal(buf_string(&out), "\\ID  a\x1b\\n\n\\ID  a?\\n\n");
}

static void modes(void **state)
{
    (void)state;
    mode_t mode = 0;
    assert_int_equal(text_parse_mode("0644", &mode), 0);
    assert_int_equal(mode, 0644);
    assert_int_equal(text_parse_mode("07777", &mode), 0);
    assert_int_equal(mode, 07777);
    assert_int_equal(text_parse_mode("0", &mode), 0);
    const char *const bad[] = {"", "8", "0x1", "17777", "rw", "-1", " 644", "644 ", "000644"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(text_parse_mode(bad[i], &mode), -EINVAL);
    }
}

static void times(void **state)
{
    (void)state;
    const struct {
        const char *text;
        long long seconds;
        long nanoseconds;
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0, 0},
        {"2026-01-02T03:04:05.000000001Z", 1767323045, 1},
        {"2026-01-02T03:04:05.5Z", 1767323045, 500000000},
        {"1969-12-31T23:59:59.250000000Z", -1, 250000000},
        {"9999-12-31T23:59:59Z", 253402300799, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct timespec time;
        assert_int_equal(text_parse_time(cases[i].text, &time), 0);
        assert_int_equal(time.tv_sec, cases[i].seconds);
        assert_int_equal(time.tv_nsec, cases[i].nanoseconds);
    }
    const char *const bad[] = {"",
                               "now",
                               "2026-01-02",
                               "2026-01-02T03:04:05",
                               "2026-01-02T03:04:05+01",
                               "2026-01-02T03:04:05.0000000001Z",
                               "2026-01-02T03:04:05Zx"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct timespec time;
        assert_int_equal(text_parse_time(bad[i], &time), -EINVAL);
    }
}

static void paths(void **state)
{
    (void)state;
    const struct {
        const char *argument;
        const char *path;
        const char *name;
    } cases[] = {
        {"", "", ""},      {"/", "", ""},         {"//", "", ""},        {"a", "a", "a"},
        {"/a/", "a", "a"}, {"a/b//", "a/b", "b"}, {"//a/b", "a/b", "b"}, {"a//b", "a//b", "b"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_FREE char *path = text_tree_path(cases[i].argument);
        assert_string_equal(path, cases[i].path);
        assert_string_equal(text_last_name(path), cases[i].name);
    }
    CLEANUP_FREE char *below = text_join("a", "b");
    CLEANUP_FREE char *top = text_join("", "b");
    assert_string_equal(below, "a/b");
    assert_string_equal(top, "b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test(durations),
        cmocka_unit_test(names_move_no_cursor),
        cmocka_unit_test(lines_stay_lines),
        cmocka_unit_test(modes),
        cmocka_unit_test(times),
        cmocka_unit_test(paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
