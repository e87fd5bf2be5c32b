/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is written is what jansson writes of the same, for any bytes. ARTEL_TEST_SEED=<number>
 * repeats a run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "base/random.h"
#include "http/json_text.h"

#define TEXT(literal) BYTES((const uint8_t *)(literal), sizeof(literal) - 1)

static void assert_text(const struct buf *text, const char *expected)
{
    assert_int_equal(text->size, strlen(expected));
    assert_string_equal(buf_string(text), expected);
}

static void assert_as_jansson(struct bytes string)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    json_text_add_string(&text, string);
    json_t *value = json_stringn((const char *)string.data, string.size);
    CLEANUP_FREE char *expected =
        value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : strdup("\"\"");
    json_decref(value);
    assert_non_null(expected);
    assert_text(&text, expected);
}

static void every_character_is_written(void **state)
{
    (void)state;
    assert_as_jansson(BYTES((const uint8_t *)"", 0));
    uint8_t around[] = "a?b";
    for (unsigned byte = 0; byte < 256; byte++) {
        around[1] = (uint8_t)byte;
        assert_as_jansson(BYTES(around, 3));
        assert_as_jansson(BYTES(around + 1, 1));
    }
    assert_as_jansson(TEXT("\xc3\xa4\xe2\x82\xac\xf0\x9f\x8e\x89\x7f\xc2\x80/"));
    assert_as_jansson(TEXT("\xef\xbf\xbf\xf4\x8f\xbf\xbf"));
    static const char *const bad[] = {"a\xc3",    "\xed\xa0\x80", "\xc0\xaf", "\xf4\x90\x80\x80",
                                      "\xe2\x82", "\n\xff"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        CLEANUP_BUF struct buf text = BUF_INIT;
        buf_add_string(&text, "before ");
        json_text_add_string(&text, bytes_of_string(bad[i]));
        assert_text(&text, "before \"\"");
        assert_as_jansson(bytes_of_string(bad[i]));
    }
}

static void random_strings_are_written(void **state)
{
    (void)state;
    static const char *const pieces[] = {
        "a",    "plain text", "\"",       "\\",           "\n",
        "\x1f", "\x7f",       "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x8e\x89",
        "/",    "\x80",       "\xe2\x82"};
    const char *given = getenv("ARTEL_TEST_SEED");
    const uint64_t seed = given ? strtoull(given, NULL, 10) : 20261122;
    print_message("seed %llu\n", (unsigned long long)seed);
    struct random random;
    random_init(&random, seed);
    for (int round = 0; round < 20000; round++) {
        CLEANUP_BUF struct buf string = BUF_INIT;
        /* Mostly what is UTF-8. */
        const size_t kinds = ARRAY_SIZE(pieces) - (round % 4 ? 2 : 0);
        for (uint64_t left = random_below(&random, 12); left > 0; left--) {
            buf_add_string(&string, pieces[random_below(&random, kinds)]);
        }
        assert_as_jansson(buf_bytes(&string));
    }
}

static void entries_are_written(void **state)
{
    (void)state;
    const struct {
        struct tree_entry entry;
        const char *expected;
    } cases[] = {
        {{.version = {.kind = TREE_FILE,
                      .mode = 0644,
                      .mtime_ns = 1700000000000000005,
                      .file_id = {{0xab, [31] = 0x01}},
                      .size_bytes = UINT64_C(9007199254740993)},
          .is_explicit = true,
          .heads_count = 1},
         "{\"path\":\"a\\\"\\n\",\"type\":\"file\",\"id\":"
         "\"ab00000000000000000000000000000000000000000000000000000000000001\","
         "\"length\":9007199254740993,\"mode\":\"0644\","
         "\"mtime\":\"2023-11-14T22:13:20.000000005Z\"}"},
        {{.version = {.kind = TREE_SYMLINK, .mode = 07777, .target = TEXT("..\\x\t\xc3\xa4")},
          .is_explicit = true,
          .heads_count = 3},
         "{\"path\":\"a\\\"\\n\",\"type\":\"symlink\",\"target\":\"..\\\\x\\t\xc3\xa4\","
         "\"mode\":\"7777\",\"mtime\":\"1970-01-01T00:00:00.000000000Z\",\"conflicts\":2}"},
        {{.version = {.kind = TREE_DIRECTORY, .mode = 0}},
         "{\"path\":\"a\\\"\\n\",\"type\":\"directory\",\"mode\":\"0000\"}"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_BUF struct buf text = BUF_INIT;
        json_text_add_entry(&text, TEXT("a\"\n"), &cases[i].entry);
        assert_text(&text, cases[i].expected);
        json_t *parsed = json_loads(buf_string(&text), JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(parsed);
        json_decref(parsed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_character_is_written),
        cmocka_unit_test(random_strings_are_written),
        cmocka_unit_test(entries_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
