/* SPDX-License-Identifier: Apache-2.0 */
/* ARTEL_TEST_SEED=<number> repeats a run of the random test. */
#include "helpers.h"

#include <time.h>

#include "base/random.h"
#include "tree/glob.h"

struct match_case {
    const char *pattern;
    const char *path;
    bool matches;
};

static const struct match_case match_cases[] = {
    {"", "", true},
    {"", "a", false},
    {"/", "", true},
    {"a", "a", true},
    {"/a", "a", true},
    {"//a", "a", false},
    {"a/", "a", false},
    {"a", "b", false},
    {"a", "ab", false},
    {"ab", "a", false},
    {"*", "", false},
    {"*", "abc", true},
    {"*", "a/b", false},
    {"*/*", "a/b", true},
    {"*/*", "a", false},
    {"a*", "a", true},
    {"a*c", "abbc", true},
    {"a*c", "ab/c", false},
    {"*a*b*c*", "xaxbxcx", true},
    {"*a*b*c*", "xaxcxbx", false},
    {"*.txt", "a.txt", true},
    {"*.txt", ".txt", true},
    {"d/*.txt", "d/a.txt.gz", false},
    {"?", "a", true},
    {"?", "", false},
    {"?", "\xc3\xa9", true},
    {"?", "\xe2\x82\xac", true},
    {"??", "\xe2\x82\xac", false},
    {"??", "\xc3\xa9\xe2\x82\xac", true},
    {"*?", "\xc3\xa9", true},
    {"?*?", "\xc3\xa9", false},
    {"a?c", "a/c", false},
    {"[a-c]", "b", true},
    {"[a-c]", "d", false},
    {"[!a-c]", "d", true},
    {"[^a-c]", "b", false},
    {"[]a]", "]", true},
    {"[!]a]", "]", false},
    {"[!]a]", "b", true},
    {"[a-]", "-", true},
    {"[a-]", "b", false},
    {"[-a]", "-", true},
    {"[]-a]", "^", true},
    {"[z-a]", "b", false},
    {"[\\]", "\\", true},
    {"[!a]", "/", false},
    {"a[!b]c", "a/c", false},
    {"[*]", "*", true},
    {"[*]", "a", false},
    {"*[\xc3-\xc5]*[\xa9]", "\xc3\x83\xc3\xa9", true},
    {"\\*", "*", true},
    {"\\*", "a", false},
    {"\\[a]", "[a]", true},
    {"\\\\", "\\", true},
    {"**", "", true},
    {"**", "a", true},
    {"**", "a/b/c", true},
    {"/**", "a/b", true},
    {"a/**", "a", true},
    {"a/**", "a/b", true},
    {"a/**", "a/b/c", true},
    {"a/**", "ab", false},
    {"a/**", "b/a", false},
    {"a/**/**", "a", true},
    {"*/**", "", false},
    {"*/**", "a", true},
    {"**/a", "a", true},
    {"**/a", "b/c/a", true},
    {"**/a", "b/ca", false},
    {"**/", "a", false},
    {"**/", "", false},
    {"a/**/b", "a/b", true},
    {"a/**/b", "a/x/y/b", true},
    {"a/**/b", "a/xb", false},
    {"a/**/b/**/c", "a/b/x/b/y/c", true},
    {"a/**/b/**/c", "a/x/c", false},
    {"**/a*/b", "ax/c/ay/b", true},
    {"**/*.c", "src/tree/glob.c", true},
    {"a**b", "axxb", true},
    {"a**b", "a/b", false},
    {"**b", "ab", true},
    {"**b", "a/b", false},
    {"\\**", "*a", true},
    {"\\**", "*a/b", false},
};

static bool matches(struct bytes pattern, struct bytes path)
{
    /* In memory of their own sizes, so that the sanitizer sees a read beyond. */
    uint8_t *pattern_copy = mem_alloc(pattern.size + 1);
    uint8_t *path_copy = mem_alloc(path.size + 1);
    pattern_copy = mem_resize_array(pattern_copy, pattern.size ? pattern.size : 1, 1);
    path_copy = mem_resize_array(path_copy, path.size ? path.size : 1, 1);
    memcpy(pattern_copy, pattern.data, pattern.size);
    memcpy(path_copy, path.data, path.size);
    const bool found = glob_match(BYTES(pattern_copy, pattern.size), BYTES(path_copy, path.size));
    free(pattern_copy);
    free(path_copy);
    return found;
}

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(match_cases); i++) {
        const struct match_case *each = &match_cases[i];
        const struct bytes pattern = bytes_of_string(each->pattern);
        assert_int_equal(glob_check(pattern), 0);
        if (matches(pattern, bytes_of_string(each->path)) != each->matches) {
            fail_msg("'%s' and '%s'", each->pattern, each->path);
        }
    }
}

static void test_check(void **state)
{
    (void)state;
    static const char *const bad[] = {"[",   "[a",    "[]",    "[!]", "[^]",
                                      "a\\", "[a/b]", "a\\/b", "[/]", "[!a/]]"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(glob_check(bytes_of_string(bad[i])), -EINVAL);
    }
    assert_int_equal(glob_check(BYTES((const uint8_t *)"a\0b", 3)), -EINVAL);
    assert_int_equal(glob_check(BYTES((const uint8_t *)"[\0]", 3)), -EINVAL);
    assert_int_equal(glob_check(BYTES((const uint8_t *)"\\\0", 2)), -EINVAL);
    static uint8_t large[GLOB_BYTES_MAX + 1];
    memset(large, '*', sizeof large);
    assert_int_equal(glob_check(BYTES(large, GLOB_BYTES_MAX)), 0);
    assert_int_equal(glob_check(BYTES(large, GLOB_BYTES_MAX + 1)), -ENAMETOOLONG);
}

static void test_may_match_below(void **state)
{
    (void)state;
    static const struct match_case cases[] = {
        {"a/b", "", true},      {"a/b", "a", true},       {"a/b", "a/b", false},
        {"a/b", "b", false},    {"*/b", "x", true},       {"*/b", "x/y", false},
        {"**", "x/y", true},    {"a/**", "a", true},      {"a/**", "a/b/c", true},
        {"a/**", "b", false},   {"**/c", "a/b", true},    {"", "", false},
        {"a/[x]/b", "a", true}, {"a/[x]/b", "a/x", true}, {"a/[x]/b", "a/y", false},
        {"/a/b", "a", true},    {"a/", "a", false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        if (glob_may_match_below(bytes_of_string(cases[i].pattern),
                                 bytes_of_string(cases[i].path)) != cases[i].matches) {
            fail_msg("'%s' below '%s'", cases[i].pattern, cases[i].path);
        }
    }
}

/* ---- the plain matcher: names by recursion, characters by recursion ---- */

static struct bytes rest_of(struct bytes text, size_t at)
{
    return BYTES(text.data + at, text.size - at);
}

static bool plain_set(struct bytes pattern, uint8_t byte, size_t *ret_size)
{
    const bool negated = pattern.data[1] == '!' || pattern.data[1] == '^';
    size_t end = 1U + negated;
    const size_t begin = end++;
    while (pattern.data[end] != ']') {
        end++;
    }
    bool in[256] = {0};
    for (size_t i = begin; i < end; i++) {
        if (i + 2 < end && pattern.data[i + 1] == '-') {
            for (unsigned c = pattern.data[i]; c <= pattern.data[i + 2]; c++) {
                in[c] = true;
            }
            i += 2;
        } else {
            in[pattern.data[i]] = true;
        }
    }
    *ret_size = end + 1;
    return in[byte] != negated;
}

static bool plain_name(struct bytes pattern, struct bytes name)
{
    if (pattern.size == 0) {
        return name.size == 0;
    }
    if (pattern.data[0] == '*') {
        return plain_name(rest_of(pattern, 1), name) ||
               (name.size > 0 && plain_name(pattern, rest_of(name, 1)));
    }
    if (name.size == 0) {
        return false;
    }
    size_t size = 1;
    if (pattern.data[0] == '?') {
        while (size < name.size && (name.data[size] & 0xc0) == 0x80) {
            size++;
        }
        return plain_name(rest_of(pattern, 1), rest_of(name, size));
    }
    if (pattern.data[0] == '[') {
        return plain_set(pattern, name.data[0], &size) &&
               plain_name(rest_of(pattern, size), rest_of(name, 1));
    }
    const bool escaped = pattern.data[0] == '\\';
    return pattern.data[escaped] == name.data[0] &&
           plain_name(rest_of(pattern, 1U + escaped), rest_of(name, 1));
}

static size_t split(struct bytes text, struct bytes ret_names[16])
{
    size_t count = 0;
    size_t begin = 0;
    for (size_t at = 0; at <= text.size; at++) {
        if (at == text.size || text.data[at] == '/') {
            ret_names[count++] = BYTES(text.data + begin, at - begin);
            begin = at + 1;
        }
    }
    return text.size > 0 ? count : 0;
}

static bool plain_names(const struct bytes *patterns, size_t patterns_count,
                        const struct bytes *names, size_t names_count)
{
    if (patterns_count == 0) {
        return names_count == 0;
    }
    if (bytes_equal(patterns[0], bytes_of_string("**"))) {
        return plain_names(patterns + 1, patterns_count - 1, names, names_count) ||
               (names_count > 0 &&
                plain_names(patterns, patterns_count, names + 1, names_count - 1));
    }
    return names_count > 0 && plain_name(patterns[0], names[0]) &&
           plain_names(patterns + 1, patterns_count - 1, names + 1, names_count - 1);
}

static bool plain_match(struct bytes pattern, struct bytes path)
{
    if (pattern.size > 0 && pattern.data[0] == '/') {
        pattern = rest_of(pattern, 1);
    }
    struct bytes patterns[16];
    struct bytes names[16];
    const size_t patterns_count = split(pattern, patterns);
    return plain_names(patterns, patterns_count, names, split(path, names));
}

static void test_differs_nowhere_from_the_plain_one(void **state)
{
    (void)state;
    static const char *const parts[] = {"a",    "b",    "/",    "*",           "**",       "**/",
                                        "/**",  "?",    "[ab]", "[!a]",        "\\*",      "[a-c]",
                                        "\xc3", "\xa9", "ab",   "[\xa9-\xc3]", "\xc3\xa9", "*/"};
    static const char *const path_parts[] = {"a", "b", "/", "c", "*", "\xc3\xa9", "ab", "\xc3"};
    const char *given = getenv("ARTEL_TEST_SEED");
    uint64_t seed = 0;
    random_system(&seed, sizeof seed);
    seed = given ? strtoull(given, NULL, 10) : seed % 1000000000;
    print_message("seed %llu\n", (unsigned long long)seed);
    struct random random;
    random_init(&random, seed);
    size_t matched = 0;
    for (int round = 0; round < 300000; round++) {
        CLEANUP_BUF struct buf pattern = BUF_INIT;
        CLEANUP_BUF struct buf path = BUF_INIT;
        buf_add_string(&pattern, "");
        buf_add_string(&path, "");
        for (uint64_t n = random_below(&random, 7); n > 0; n--) {
            buf_add_string(&pattern, parts[random_below(&random, ARRAY_SIZE(parts))]);
        }
        for (uint64_t n = random_below(&random, 8); n > 0; n--) {
            const char *part = path_parts[random_below(&random, ARRAY_SIZE(path_parts))];
            const bool is_slash = *part == '/';
            if (!is_slash || (path.size > 0 && path.data[path.size - 1] != '/' && n > 1)) {
                buf_add_string(&path, part);
            }
        }
        if (path.size > 0 && path.data[path.size - 1] == '/') {
            path.size--;
        }
        const struct bytes p = pattern.data ? buf_bytes(&pattern) : bytes_of_string("");
        const struct bytes t = path.data ? buf_bytes(&path) : bytes_of_string("");
        assert_int_equal(glob_check(p), 0);
        const bool expected = plain_match(p, t);
        if (matches(p, t) != expected) {
            fail_msg("'%.*s' and '%.*s'", (int)p.size, (const char *)p.data, (int)t.size,
                     (const char *)t.data);
        }
        matched += expected;
        /* Where the path matches, each directory on the way may hold a match. */
        for (size_t at = 0; expected && at < t.size; at++) {
            if (t.data[at] == '/') {
                assert_true(glob_may_match_below(p, BYTES(t.data, at)));
            }
        }
    }
    assert_true(matched > 1000);
}

/* The product of both lengths, not more: 4,096 times 4,096 steps take well under a second. */
static void test_takes_no_time(void **state)
{
    (void)state;
    static uint8_t pattern[GLOB_BYTES_MAX];
    static uint8_t path[PATH_BYTES_MAX];
    static const char *const repeated[] = {"*a", "*a*/", "**/*a", "**/", "?*", "[!b]*", "a*/"};
    for (size_t i = 0; i < ARRAY_SIZE(repeated); i++) {
        for (int slashes = 0; slashes < 2; slashes++) {
            const size_t size = strlen(repeated[i]);
            size_t pattern_size = 0;
            for (; pattern_size + size < sizeof pattern; pattern_size += size) {
                memcpy(pattern + pattern_size, repeated[i], size);
            }
            pattern[pattern_size++] = 'c';
            memset(path, 'a', sizeof path);
            for (size_t at = 1; slashes && at < sizeof path - 1; at += 2) {
                path[at] = '/';
            }
            assert_int_equal(glob_check(BYTES(pattern, pattern_size)), 0);
            const clock_t before = clock();
            assert_false(glob_match(BYTES(pattern, pattern_size), BYTES(path, sizeof path)));
            assert_true(clock() - before < 5 * CLOCKS_PER_SEC);
        }
    }
}

static void test_what_people_mean(void **state)
{
    (void)state;
    static const char *const words[][2] = {
        {"a", "a/**"},  {"/a/b/", "a/b/**"}, {"a/*", "a/*"}, {"/a/**", "a/**"},
        {"a\\", "a\\"}, {"[a]", "[a]"},      {"", "**"},     {"/", "**"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        char *glob = glob_of_words(words[i][0]);
        assert_string_equal(glob, words[i][1]);
        free(glob);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_may_match_below),
        cmocka_unit_test(test_differs_nowhere_from_the_plain_one),
        cmocka_unit_test(test_takes_no_time),
        cmocka_unit_test(test_what_people_mean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
