/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/random.h"
#include "wire/path.h"

#define TEXT(literal) BYTES((const uint8_t *)(literal), sizeof(literal) - 1)

/* In memory of exactly the right size, so that the sanitizer sees a read beyond. */
static int check(struct bytes path)
{
    uint8_t *exact = path.size ? mem_copy(path.data, path.size) : NULL;
    const int err = path_check(BYTES(exact, path.size));
    free(exact);
    return err;
}

static int check_name(struct bytes name)
{
    uint8_t *exact = name.size ? mem_copy(name.data, name.size) : NULL;
    const int err = path_check_name(BYTES(exact, name.size));
    free(exact);
    return err;
}

struct checked_case {
    const char *what;
    struct bytes text;
    int err;
};

#define CASE(text, err)                                                                            \
    {                                                                                              \
#text, TEXT(text), err                                                                     \
    }

static void names_are_checked(void **state)
{
    (void)state;
    const struct checked_case cases[] = {
        CASE("a", 0),
        CASE("...", 0),
        CASE(".a", 0),
        CASE("..a", 0),
        CASE("a.", 0),
        CASE(" ", 0),
        CASE("\x01\x7f\n\\", 0),
        CASE("\xc3\xa4", 0),
        CASE("\xf0\x9f\x90\x99", 0),
        CASE("", -EINVAL),
        CASE(".", -EINVAL),
        CASE("..", -EINVAL),
        CASE("/", -EINVAL),
        CASE("a/b", -EINVAL),
        CASE("a/", -EINVAL),
        CASE("\0", -EINVAL),
        CASE("a\0", -EINVAL),
        CASE("a\0b", -EINVAL),
        CASE("\xff", -EILSEQ),
        CASE("\x80", -EILSEQ),
        CASE("a\xc3", -EILSEQ),
        CASE("\xc3"
             "a",
             -EILSEQ),
        CASE("\xc0\xaf", -EILSEQ),         /* '/' in two bytes */
        CASE("\xc0\x80", -EILSEQ),         /* NUL in two bytes */
        CASE("\xe0\x80\xaf", -EILSEQ),     /* '/' in three */
        CASE("\xf0\x80\x80\xaf", -EILSEQ), /* '/' in four */
        CASE("\xed\xa0\x80", -EILSEQ),     /* a surrogate */
        CASE("\xf4\x90\x80\x80", -EILSEQ), /* U+110000 */
        CASE("\xf8\x88\x80\x80\x80", -EILSEQ),
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const int err = check_name(cases[i].text);
        if (err != cases[i].err) {
            fail_msg("%s: %d", cases[i].what, err);
        }
    }
}

static void paths_are_checked(void **state)
{
    (void)state;
    const struct checked_case cases[] = {
        CASE("", 0),
        CASE("a", 0),
        CASE("a/b/c", 0),
        CASE(".../.a", 0),
        CASE("\xc3\xa4/\xe2\x82\xac", 0),
        CASE("/", -EINVAL),
        CASE("/a", -EINVAL),
        CASE("a/", -EINVAL),
        CASE("a//b", -EINVAL),
        CASE(".", -EINVAL),
        CASE("./a", -EINVAL),
        CASE("a/.", -EINVAL),
        CASE("a/./b", -EINVAL),
        CASE("..", -EINVAL),
        CASE("../a", -EINVAL),
        CASE("a/..", -EINVAL),
        CASE("a/../b", -EINVAL),
        CASE("a/b\0", -EINVAL),
        CASE("a/\xff/b", -EILSEQ),
        CASE("a/b\xc3", -EILSEQ),
        CASE("a\xc3/\xa4", -EILSEQ),
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        const int err = check(cases[i].text);
        if (err != cases[i].err) {
            fail_msg("%s: %d", cases[i].what, err);
        }
    }
}

/* What of a character of `code_point` RFC 3629, section 3, puts into how many bytes. */
static size_t encode(uint32_t code_point, uint8_t ret_char[4])
{
    if (code_point < 0x80) {
        ret_char[0] = (uint8_t)code_point;
        return 1;
    }
    const size_t size = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = size - 1; i > 0; i--) {
        ret_char[i] = (uint8_t)(0x80 | (code_point & 0x3f));
        code_point >>= 6;
    }
    ret_char[0] = (uint8_t)(lead[size] | code_point);
    return size;
}

static bool is_surrogate(uint32_t code_point)
{
    return code_point >= 0xd800 && code_point <= 0xdfff;
}

/* Another way to tell UTF-8: whatever the bits say is encoded again and has to come out equal. */
static bool is_utf8(struct bytes text)
{
    while (text.size) {
        const uint8_t lead = text.data[0];
        const size_t size = lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
        if (size > text.size) {
            return false;
        }
        uint32_t code_point = size == 1 ? lead : lead & (0x7fu >> size);
        for (size_t i = 1; i < size; i++) {
            code_point = code_point << 6 | (text.data[i] & 0x3f);
        }
        uint8_t again[4];
        if (code_point > 0x10ffff || is_surrogate(code_point) ||
            encode(code_point, again) != size || memcmp(again, text.data, size) != 0) {
            return false;
        }
        text = BYTES(text.data + size, text.size - size);
    }
    return true;
}

static void every_character_is_taken(void **state)
{
    (void)state;
    for (uint32_t code_point = 0; code_point <= 0x10ffff; code_point++) {
        uint8_t text[4];
        const size_t size = encode(code_point, text);
        int expected = is_surrogate(code_point) ? -EILSEQ : 0;
        if (code_point == 0 || code_point == '/' || code_point == '.') {
            expected = -EINVAL;
        }
        assert_int_equal(path_check_name(BYTES(text, size)), expected);
        for (size_t cut = 1; cut < size; cut++) {
            assert_int_equal(path_check_name(BYTES(text, cut)), -EILSEQ);
        }
    }
}

/* Four bytes, beginning with each that is no ASCII, and around the borders in the others. */
static void other_bytes_are_no_characters(void **state)
{
    (void)state;
    static const uint8_t borders[] = {0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff};
    size_t taken_count = 0;
    size_t refused_count = 0;
    for (unsigned first = 0x80; first < 0x100; first++) {
        for (unsigned second = 0x30; second < 0x100; second++) {
            for (size_t i = 0; i < ARRAY_SIZE(borders) * ARRAY_SIZE(borders); i++) {
                const uint8_t text[] = {(uint8_t)first, (uint8_t)second,
                                        borders[i / ARRAY_SIZE(borders)],
                                        borders[i % ARRAY_SIZE(borders)]};
                for (size_t size = 1; size <= sizeof text; size++) {
                    const bool expected = is_utf8(BYTES(text, size));
                    const int err = path_check_name(BYTES(text, size));
                    assert_int_equal(err, expected ? 0 : -EILSEQ);
                    taken_count += expected;
                    refused_count += !expected;
                }
            }
        }
    }
    assert_true(taken_count > 1000 && refused_count > 1000);
}

static void longest_name(void **state)
{
    (void)state;
    uint8_t name[PATH_NAME_BYTES_MAX + 1];
    memset(name, 'n', sizeof name);
    assert_int_equal(check_name(BYTES(name, PATH_NAME_BYTES_MAX)), 0);
    assert_int_equal(check_name(BYTES(name, PATH_NAME_BYTES_MAX + 1)), -ENAMETOOLONG);
    assert_int_equal(check(BYTES(name, PATH_NAME_BYTES_MAX)), 0);
    assert_int_equal(check(BYTES(name, PATH_NAME_BYTES_MAX + 1)), -ENAMETOOLONG);

    /* Bytes count, not characters; and a long name is found behind a short one. */
    uint8_t wide[2 * 128];
    for (size_t i = 0; i < sizeof wide; i += 2) {
        memcpy(&wide[i], "\xc3\xa4", 2);
    }
    assert_int_equal(check_name(BYTES(wide, sizeof wide)), -ENAMETOOLONG);
    assert_int_equal(check_name(BYTES(wide, sizeof wide - 2)), 0);
    CLEANUP_BUF struct buf path = BUF_INIT;
    buf_add_string(&path, "a/");
    buf_add(&path, BYTES(name, sizeof name));
    assert_int_equal(check(buf_bytes(&path)), -ENAMETOOLONG);
}

static void longest_path(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf path = BUF_INIT;
    while (path.size < PATH_BYTES_MAX - 2) {
        buf_add_string(&path, "a/");
    }
    buf_add_string(&path, "bb");
    assert_int_equal(path.size, PATH_BYTES_MAX);
    assert_int_equal(check(buf_bytes(&path)), 0);
    buf_add_byte(&path, 'b');
    assert_int_equal(check(buf_bytes(&path)), -ENAMETOOLONG);
}

static void names_are_taken_off_one_by_one(void **state)
{
    (void)state;
    struct bytes rest = TEXT("a/bc/d");
    assert_true(bytes_equal(path_next(&rest), TEXT("a")));
    assert_true(bytes_equal(rest, TEXT("bc/d")));
    assert_true(bytes_equal(path_next(&rest), TEXT("bc")));
    assert_true(bytes_equal(rest, TEXT("d")));
    assert_true(bytes_equal(path_next(&rest), TEXT("d")));
    assert_int_equal(rest.size, 0);
    assert_int_equal(path_next(&rest).size, 0);
    assert_int_equal(rest.size, 0);

    rest = BYTES(NULL, 0);
    assert_int_equal(path_next(&rest).size, 0);
    assert_int_equal(rest.size, 0);
}

static void paths_are_split_before_the_last_name(void **state)
{
    (void)state;
    const struct {
        struct bytes path, parent, name;
    } cases[] = {
        {BYTES(NULL, 0), TEXT(""), TEXT("")},
        {TEXT(""), TEXT(""), TEXT("")},
        {TEXT("a"), TEXT(""), TEXT("a")},
        {TEXT("a/b"), TEXT("a"), TEXT("b")},
        {TEXT("ab/cd/ef"), TEXT("ab/cd"), TEXT("ef")},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct bytes parent = TEXT("before");
        struct bytes name = TEXT("before");
        path_split(cases[i].path, &parent, &name);
        assert_true(bytes_equal(parent, cases[i].parent));
        assert_true(bytes_equal(name, cases[i].name));
    }
}

static void a_path_is_within_what_is_above_it(void **state)
{
    (void)state;
    const struct {
        struct bytes path, top;
        bool within;
    } cases[] = {
        {TEXT(""), TEXT(""), true},         {BYTES(NULL, 0), BYTES(NULL, 0), true},
        {TEXT("a"), TEXT(""), true},        {TEXT("a"), BYTES(NULL, 0), true},
        {TEXT("a"), TEXT("a"), true},       {TEXT("a/b"), TEXT("a"), true},
        {TEXT("a/b/c"), TEXT("a/b"), true}, {TEXT("a/b/c"), TEXT("a/b/c"), true},
        {TEXT(""), TEXT("a"), false},       {TEXT("ab"), TEXT("a"), false},
        {TEXT("a"), TEXT("ab"), false},     {TEXT("a"), TEXT("a/b"), false},
        {TEXT("b/a"), TEXT("a"), false},    {TEXT("a/bc"), TEXT("a/b"), false},
        {TEXT("a.b"), TEXT("a"), false},    {TEXT("A/b"), TEXT("a"), false},
        {BYTES(NULL, 0), TEXT("a"), false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        if (path_is_within(cases[i].path, cases[i].top) != cases[i].within) {
            fail_msg("case %zu", i);
        }
    }
}

/* Each name up to a '/' or the end, checked on its own: the first fault is the path's. */
static int check_by_names(struct bytes path)
{
    size_t begin = 0;
    for (size_t end = 0; end <= path.size; end++) {
        if (end < path.size && path.data[end] != '/') {
            continue;
        }
        const int err = path_check_name(BYTES(path.data + begin, end - begin));
        if (err) {
            return err;
        }
        begin = end + 1;
    }
    return 0;
}

static void check_parts(struct bytes path)
{
    CLEANUP_BUF struct buf joined = BUF_INIT;
    struct bytes rest = path;
    struct bytes name = {0};
    while (rest.size) {
        if (joined.size) {
            buf_add_byte(&joined, '/');
        }
        name = path_next(&rest);
        assert_int_equal(path_check_name(name), 0);
        buf_add(&joined, name);
        assert_true(path_is_within(path, buf_bytes(&joined)));
    }
    assert_true(bytes_equal(buf_bytes(&joined), path));

    struct bytes parent;
    struct bytes last;
    path_split(path, &parent, &last);
    assert_true(bytes_equal(last, name));
    assert_int_equal(path_check(parent), 0);
    assert_true(path_is_within(path, parent));
    assert_int_equal(path_is_within(parent, path), path.size == 0);
}

static void random_paths_are_their_names(void **state)
{
    (void)state;
    static const char *const pieces[] = {"/", "/", "a", ".", "b", "\xc3\xa4", "\xc3", "nn"};
    size_t taken_count = 0;
    const uint64_t seed = 20240501;
    print_message("seed %llu\n", (unsigned long long)seed);
    struct random random;
    random_init(&random, seed);
    for (int round = 0; round < 50000; round++) {
        CLEANUP_BUF struct buf path = BUF_INIT;
        buf_add_string(&path, "a");
        for (uint64_t left = random_below(&random, 8); left > 0; left--) {
            buf_add_string(&path, pieces[random_below(&random, ARRAY_SIZE(pieces))]);
        }
        const int err = check(buf_bytes(&path));
        assert_int_equal(err, check_by_names(buf_bytes(&path)));
        if (!err) {
            check_parts(buf_bytes(&path));
            taken_count++;
        }
    }
    assert_in_range(taken_count, 5000, 45000);
}

static void directories_come_right_before_what_is_in_them(void **state)
{
    (void)state;
    static const char *const ordered[] = {"",    "a",           "a/b",          "a/b/c",
                                          "a/c", "a!",          "a-b",          "a.b",
                                          "b",   "long name/x", "long name/xy", "long name!x"};
    for (size_t i = 0; i < ARRAY_SIZE(ordered); i++) {
        for (size_t j = 0; j < ARRAY_SIZE(ordered); j++) {
            const int order =
                path_compare(bytes_of_string(ordered[i]), bytes_of_string(ordered[j]));
            assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(paths_are_checked),
        cmocka_unit_test(every_character_is_taken),
        cmocka_unit_test(other_bytes_are_no_characters),
        cmocka_unit_test(longest_name),
        cmocka_unit_test(longest_path),
        cmocka_unit_test(names_are_taken_off_one_by_one),
        cmocka_unit_test(paths_are_split_before_the_last_name),
        cmocka_unit_test(a_path_is_within_what_is_above_it),
        cmocka_unit_test(random_paths_are_their_names),
        cmocka_unit_test(directories_come_right_before_what_is_in_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
