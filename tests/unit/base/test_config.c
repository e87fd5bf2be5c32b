/* SPDX-License-Identifier: Apache-2.0 */
#include "base/config.h"

#include <errno.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/mem.h"
#include "helpers.h"

static const struct config_key keys[] = {
    {"listen", "127.0.0.1:7420", "where to listen", false},
    {"cache-bytes", NULL, "size of the cache", false},
    {"join", NULL, "whom to join", false},
    {"insecure", NULL, "allow everything", true},
    {"follow", "yes", "a switch that is on", true},
};

CLEANUP_DEFINE(config_free, struct config)
#define CLEANUP_CONFIG CLEANUP(config_free)

static struct config *new_config(void)
{
    return config_new(keys, ARRAY_SIZE(keys));
}

static int load_bytes(struct config *config, void **state, struct bytes content, int *ret_line)
{
    CLEANUP_FREE char *path = mem_format("%s/config", (const char *)*state);
    assert_int_equal(file_replace(AT_FDCWD, path, content), 0);
    return config_load_file(config, path, ret_line);
}

static int load(struct config *config, void **state, const char *content, int *ret_line)
{
    return load_bytes(config, state, bytes_of_string(content), ret_line);
}

static void assert_loads(struct config *config, void **state, const char *content)
{
    int line = -7;
    assert_int_equal(load(config, state, content, &line), 0);
    assert_int_equal(line, -7);
}

static int clear_environment(void **state)
{
    unsetenv("ARTEL_LISTEN");
    unsetenv("ARTEL_CACHE_BYTES");
    unsetenv("ARTEL_JOIN");
    unsetenv("ARTEL_INSECURE");
    return scratch_set_up(state);
}

static void defaults_stand_when_nothing_is_given(void **state)
{
    (void)state;
    CLEANUP_CONFIG struct config *config = new_config();
    assert_string_equal(config_string(config, "listen"), "127.0.0.1:7420");
    assert_null(config_string(config, "join"));
    assert_false(config_switch(config, "insecure"));
    assert_true(config_switch(config, "follow"));
    uint64_t number = 7;
    assert_int_equal(config_bytes(config, "cache-bytes", &number), -ENOENT);
    assert_int_equal(config_number(config, "cache-bytes", 10, &number), -ENOENT);
    assert_int_equal(number, 7);
    config_free(NULL);
}

static void keys_are_found_by_name(void **state)
{
    (void)state;
    CLEANUP_CONFIG struct config *config = new_config();
    assert_ptr_equal(config_find(config, "join"), &keys[2]);
    assert_null(config_find(config, "joi"));
    assert_null(config_find(config, ""));
}

static void file_gives_values(void **state)
{
    CLEANUP_CONFIG struct config *config = new_config();
    assert_loads(config, state,
                 "; a comment\n"
                 "# another\n"
                 "\n"
                 "listen = [::1]:99\n"
                 "cache-bytes=10G ; inline\n"
                 "[any section]\n"
                 "  join =  a:1,b:2#c  \r\n"
                 "insecure = yes");
    assert_string_equal(config_string(config, "listen"), "[::1]:99");
    assert_string_equal(config_string(config, "cache-bytes"), "10G");
    assert_string_equal(config_string(config, "join"), "a:1,b:2#c");
    assert_true(config_switch(config, "insecure"));
}

static void what_the_command_line_gave_is_known(void **state)
{
    CLEANUP_CONFIG struct config *config = new_config();
    assert_loads(config, state, "join = a\nlisten = b\n");
    assert_null(config_flag(config, "join"));
    assert_int_equal(config_set_flag(config, "join", "c"), 0);
    assert_string_equal(config_flag(config, "join"), "c");
    assert_null(config_flag(config, "listen"));
}

static void the_last_of_two_lines_wins(void **state)
{
    CLEANUP_CONFIG struct config *config = new_config();
    assert_loads(config, state, "join = a\n[one]\njoin = b\n[two]\njoin = c\n");
    assert_string_equal(config_string(config, "join"), "c");
}

static void a_list_has_all_of_them(void **state)
{
    CLEANUP_CONFIG struct config *config = new_config();
    config_allow_list(config, "join");
    assert_loads(config, state, "join = a -> b\nlisten = x\njoin = c\nlisten = y\n");
    assert_string_equal(config_string(config, "join"), "a -> b\nc");
    assert_string_equal(config_string(config, "listen"), "y");
    assert_loads(config, state, "join = d\n");
    assert_string_equal(config_string(config, "join"), "d");
    /* The command line replaces what the file has, and may repeat itself. */
    assert_int_equal(config_set_flag(config, "join", "e"), 0);
    assert_int_equal(config_set_flag(config, "join", "f"), 0);
    assert_string_equal(config_string(config, "join"), "e\nf");
}

static void a_list_has_a_limit(void **state)
{
    (void)state;
    CLEANUP_CONFIG struct config *config = new_config();
    config_allow_list(config, "join");
    char value[CONFIG_VALUE_BYTES_MAX + 1];
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = 0;
    int err = 0;
    size_t count = 0;
    while (!err && count < CONFIG_LIST_BYTES_MAX) {
        err = config_set_flag(config, "join", value);
        count += !err;
    }
    assert_int_equal(err, -EINVAL);
    assert_int_equal(count, CONFIG_LIST_BYTES_MAX / (CONFIG_VALUE_BYTES_MAX + 1));
}

static void an_indented_line_is_a_line_of_its_own(void **state)
{
    CLEANUP_CONFIG struct config *config = new_config();
    assert_loads(config, state, "join = a\n    listen = b\n");
    assert_string_equal(config_string(config, "join"), "a");
    assert_string_equal(config_string(config, "listen"), "b");
}

static void a_file_read_again_takes_the_place_of_the_first(void **state)
{
    CLEANUP_CONFIG struct config *config = new_config();
    assert_loads(config, state, "join = a\nlisten = b\n");
    assert_loads(config, state, "listen = c\n");
    assert_null(config_string(config, "join"));
    assert_string_equal(config_string(config, "listen"), "c");
}

static void bad_lines_are_told_and_nothing_is_taken(void **state)
{
    static const struct {
        const char *content;
        int line;
    } cases[] = {
        {"join = a\nunknown = b\n", 2},
        {"join = a\n\n; c\nno equals sign\n", 4},
        {"Join = a\n", 1},
        {"join = a\n= b\n", 2},
        {"join = a\n[open\n", 2},
        {"join = a\ninsecure = perhaps\n", 2},
        {"join = a\ninsecure =\n", 2},
    };
    CLEANUP_CONFIG struct config *config = new_config();
    assert_loads(config, state, "join = kept\n");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        int line = 0;
        assert_int_equal(load(config, state, cases[i].content, &line), -EINVAL);
        assert_int_equal(line, cases[i].line);
        assert_string_equal(config_string(config, "join"), "kept");
    }
}

static void a_nul_is_a_bad_line(void **state)
{
    CLEANUP_CONFIG struct config *config = new_config();
    int line = 0;
    const char content[] = "join = a\nlisten = b\0\nnonsense\n";
    assert_int_equal(
        load_bytes(config, state, BYTES((const uint8_t *)content, sizeof content - 1), &line),
        -EINVAL);
    assert_int_equal(line, 2);
    assert_null(config_string(config, "join"));
}

/* `join = ` and `size` letters on the second line. */
static void make_long_line(struct buf *buf, size_t size)
{
    buf_add_string(buf, "listen = a\njoin = ");
    memset(buf_extend(buf, size), 'x', size);
    buf_add_string(buf, "\ncache-bytes = 5\n");
}

static void long_values_are_whole_or_refused(void **state)
{
    /* Around 200, where inih cuts if it is not told otherwise, and around the limit. */
    static const size_t sizes[] = {150, 190, 195, 198, 199, 200, 201, 400, 4095, 4096};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        CLEANUP_CONFIG struct config *config = new_config();
        CLEANUP_BUF struct buf content = BUF_INIT;
        make_long_line(&content, sizes[i]);
        assert_loads(config, state, buf_string(&content));
        assert_int_equal(strlen(config_string(config, "join")), sizes[i]);
        assert_string_equal(config_string(config, "cache-bytes"), "5");
    }
    static const size_t too_long[] = {4097, 8192, 100000, 1000000};
    for (size_t i = 0; i < ARRAY_SIZE(too_long); i++) {
        CLEANUP_CONFIG struct config *config = new_config();
        CLEANUP_BUF struct buf content = BUF_INIT;
        make_long_line(&content, too_long[i]);
        int line = 0;
        assert_int_equal(load(config, state, buf_string(&content), &line), -EINVAL);
        assert_int_equal(line, 2);
        assert_null(config_string(config, "join"));
    }
}

static void the_end_of_a_long_comment_is_no_setting(void **state)
{
    for (size_t size = 150; size < 1000000; size = size < 450 ? size + 1 : size * 2 + 1) {
        CLEANUP_CONFIG struct config *config = new_config();
        CLEANUP_BUF struct buf content = BUF_INIT;
        buf_add_string(&content, "; ");
        memset(buf_extend(&content, size), 'x', size);
        buf_add_string(&content, " join = a");
        assert_loads(config, state, buf_string(&content));
        assert_null(config_string(config, "join"));
    }
}

static void files_that_cannot_be_read_are_told(void **state)
{
    CLEANUP_CONFIG struct config *config = new_config();
    int line = -7;
    CLEANUP_FREE char *none = mem_format("%s/none", (const char *)*state);
    assert_int_equal(config_load_file(config, none, &line), -ENOENT);
    assert_int_equal(config_load_file(config, *state, &line), -EISDIR);

    CLEANUP_BUF struct buf content = BUF_INIT;
    memset(buf_extend(&content, CONFIG_FILE_BYTES_MAX), '\n', CONFIG_FILE_BYTES_MAX);
    assert_int_equal(load_bytes(config, state, buf_bytes(&content), &line), 0);
    buf_add_byte(&content, '\n');
    assert_int_equal(load_bytes(config, state, buf_bytes(&content), &line), -EFBIG);
    assert_int_equal(line, -7);
}

static void environment_gives_values(void **state)
{
    (void)state;
    CLEANUP_CONFIG struct config *config = new_config();
    setenv("ARTEL_CACHE_BYTES", "5M", 1);
    setenv("ARTEL_INSECURE", "1", 1);
    setenv("ARTEL_LISTEN", "", 1);
    assert_int_equal(config_load_environment(config), 0);
    assert_string_equal(config_string(config, "cache-bytes"), "5M");
    assert_true(config_switch(config, "insecure"));
    assert_string_equal(config_string(config, "listen"), "127.0.0.1:7420");
}

static void a_bad_environment_is_refused_whole(void **state)
{
    (void)state;
    CLEANUP_CONFIG struct config *config = new_config();
    CLEANUP_FREE char *long_value = mem_alloc(CONFIG_VALUE_BYTES_MAX + 2);
    memset(long_value, 'x', CONFIG_VALUE_BYTES_MAX + 1);
    setenv("ARTEL_LISTEN", "a", 1);
    setenv("ARTEL_JOIN", long_value, 1);
    assert_int_equal(config_load_environment(config), -EINVAL);
    assert_string_equal(config_string(config, "listen"), "127.0.0.1:7420");
    setenv("ARTEL_JOIN", "b", 1);
    setenv("ARTEL_INSECURE", "perhaps", 1);
    assert_int_equal(config_load_environment(config), -EINVAL);
    setenv("ARTEL_INSECURE", "off", 1);
    assert_int_equal(config_load_environment(config), 0);
    assert_string_equal(config_string(config, "listen"), "a");
}

static void flags_give_values(void **state)
{
    (void)state;
    CLEANUP_CONFIG struct config *config = new_config();
    assert_int_equal(config_set_flag(config, "listen", "a"), 0);
    assert_int_equal(config_set_flag(config, "listen", "b"), 0);
    assert_string_equal(config_string(config, "listen"), "b");
    assert_int_equal(config_set_flag(config, "insecure", NULL), 0);
    assert_true(config_switch(config, "insecure"));
    assert_int_equal(config_set_flag(config, "insecure", "no"), 0);
    assert_false(config_switch(config, "insecure"));

    assert_int_equal(config_set_flag(config, "unknown", "a"), -ENOENT);
    assert_int_equal(config_set_flag(config, "listen", NULL), -EINVAL);
    assert_int_equal(config_set_flag(config, "insecure", "perhaps"), -EINVAL);
    CLEANUP_FREE char *long_value = mem_alloc(CONFIG_VALUE_BYTES_MAX + 2);
    memset(long_value, 'x', CONFIG_VALUE_BYTES_MAX + 1);
    assert_int_equal(config_set_flag(config, "listen", long_value), -EINVAL);
    assert_string_equal(config_string(config, "listen"), "b");
}

static void flag_beats_environment_beats_file_in_any_order(void **state)
{
    CLEANUP_CONFIG struct config *config = new_config();
    setenv("ARTEL_LISTEN", "environment", 1);
    setenv("ARTEL_JOIN", "environment", 1);
    assert_int_equal(config_set_flag(config, "listen", "flag"), 0);
    assert_int_equal(config_load_environment(config), 0);
    assert_loads(config, state, "listen = file\njoin = file\ncache-bytes = 1\nfollow = no\n");
    assert_string_equal(config_string(config, "listen"), "flag");
    assert_string_equal(config_string(config, "join"), "environment");
    assert_string_equal(config_string(config, "cache-bytes"), "1");
    assert_false(config_switch(config, "follow"));
}

static void bytes_are_parsed_with_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int err;
        uint64_t bytes;
    } cases[] = {
        {"0", 0, 0},
        {"10", 0, 10},
        {"64K", 0, 65536},
        {"10M", 0, 10485760},
        {"2G", 0, 2147483648},
        {"1T", 0, 1099511627776},
        {"18446744073709551615", 0, UINT64_MAX},
        {"16777215T", 0, 16777215ULL << 40},
        {"16777216T", -EOVERFLOW, 0},
        {"18446744073709551616", -EOVERFLOW, 0},
        {"99999999999999999999999K", -EOVERFLOW, 0},
        {"", -EINVAL, 0},
        {"K", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"+1", -EINVAL, 0},
        {" 1", -EINVAL, 0},
        {"1 K", -EINVAL, 0},
        {"1KB", -EINVAL, 0},
        {"1.5G", -EINVAL, 0},
        {"1P", -EINVAL, 0},
        {"0x10", -EINVAL, 0},
    };
    CLEANUP_CONFIG struct config *config = new_config();
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(config_set_flag(config, "cache-bytes", cases[i].text), 0);
        uint64_t bytes = 77;
        assert_int_equal(config_bytes(config, "cache-bytes", &bytes), cases[i].err);
        assert_true(bytes == (cases[i].err ? 77 : cases[i].bytes));
    }
}

static void numbers_are_bounded(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int err;
    } cases[] = {
        {"0", 0},      {"65535", 0},    {"65536", -EOVERFLOW}, {"99999999999999999999", -EOVERFLOW},
        {"", -EINVAL}, {"1K", -EINVAL}, {"-1", -EINVAL},       {"one", -EINVAL},
    };
    CLEANUP_CONFIG struct config *config = new_config();
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(config_set_flag(config, "cache-bytes", cases[i].text), 0);
        uint64_t number = 77;
        assert_int_equal(config_number(config, "cache-bytes", 65535, &number), cases[i].err);
        assert_true(number == (cases[i].err ? 77 : strtoull(cases[i].text, NULL, 10)));
    }
}

static void ask_for_undeclared(void)
{
    CLEANUP_CONFIG struct config *config = new_config();
    config_string(config, "undeclared");
}

static void asking_for_an_undeclared_key_is_a_bug(void **state)
{
    (void)state;
    assert_aborts(ask_for_undeclared, "event=check_failed");
}

#define CONFIG_TEST(test)                                                                          \
    cmocka_unit_test_setup_teardown(test, clear_environment, scratch_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONFIG_TEST(defaults_stand_when_nothing_is_given),
        CONFIG_TEST(keys_are_found_by_name),
        CONFIG_TEST(file_gives_values),
        CONFIG_TEST(what_the_command_line_gave_is_known),
        CONFIG_TEST(the_last_of_two_lines_wins),
        CONFIG_TEST(a_list_has_all_of_them),
        CONFIG_TEST(a_list_has_a_limit),
        CONFIG_TEST(an_indented_line_is_a_line_of_its_own),
        CONFIG_TEST(a_file_read_again_takes_the_place_of_the_first),
        CONFIG_TEST(bad_lines_are_told_and_nothing_is_taken),
        CONFIG_TEST(a_nul_is_a_bad_line),
        CONFIG_TEST(long_values_are_whole_or_refused),
        CONFIG_TEST(the_end_of_a_long_comment_is_no_setting),
        CONFIG_TEST(files_that_cannot_be_read_are_told),
        CONFIG_TEST(environment_gives_values),
        CONFIG_TEST(a_bad_environment_is_refused_whole),
        CONFIG_TEST(flags_give_values),
        CONFIG_TEST(flag_beats_environment_beats_file_in_any_order),
        CONFIG_TEST(bytes_are_parsed_with_units),
        CONFIG_TEST(numbers_are_bounded),
        CONFIG_TEST(asking_for_an_undeclared_key_is_a_bug),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
