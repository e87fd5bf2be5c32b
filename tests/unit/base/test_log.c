/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>

#include "base/mem.h"
#include "helpers.h"

/* What stands behind "time=... " in the line that `body` logs. */
static const char *line_of(void (*body)(void))
{
    static char text[3 * LOG_LINE_BYTES_MAX];
    capture_stderr(body, text, sizeof text);
    const char *blank = strchr(text, ' ');
    return blank ? blank + 1 : text;
}

static int reset_level(void **state)
{
    (void)state;
    log_set_level(LOG_INFO);
    return 0;
}

static void emit_bare(void)
{
    log_warn("bare_event");
}

static void line_begins_with_time_level_and_event(void **state)
{
    (void)state;
    char text[256];
    capture_stderr(emit_bare, text, sizeof text);
    int year = 0;
    int end = 0;
    /* time=2026-01-02T03:04:05.678Z */
    assert_int_equal(sscanf(text, "time=%4d-%*2d-%*2dT%*2d:%*2d:%*2d.%*3dZ%n", &year, &end), 1);
    assert_int_equal(end, strlen("time=2026-01-02T03:04:05.678Z"));
    assert_in_range(year, 2024, 2999);
    assert_string_equal(text + end, " level=warn event=bare_event\n");
}

static void emit_integers(void)
{
    const uint8_t u8 = UINT8_MAX;
    const uint16_t u16 = UINT16_MAX;
    const uint32_t u32 = UINT32_MAX;
    const uint64_t u64 = UINT64_MAX;
    const size_t size = SIZE_MAX;
    const int8_t i8 = INT8_MIN;
    const int16_t i16 = INT16_MIN;
    const int32_t i32 = INT32_MIN;
    const int64_t i64 = INT64_MIN;
    const bool yes = true;
    log_info("n", KV("u8", u8), KV("u16", u16), KV("u32", u32), KV("u64", u64), KV("size", size),
             KV("i8", i8), KV("i16", i16), KV("i32", i32), KV("i64", i64), KV("yes", yes));
}

static void integers_of_all_widths_print_as_they_are(void **state)
{
    (void)state;
    assert_string_equal(line_of(emit_integers),
                        "level=info event=n u8=255 u16=65535 u32=4294967295 "
                        "u64=18446744073709551615 size=18446744073709551615 i8=-128 i16=-32768 "
                        "i32=-2147483648 i64=-9223372036854775808 yes=1\n");
}

static void emit_reals(void)
{
    log_info("n", KV("half", 0.5), KV("float", 2.5F), KV("large", 1e300), KV("none", (double)NAN));
}

static void reals_print_short(void **state)
{
    (void)state;
    assert_string_equal(line_of(emit_reals),
                        "level=info event=n half=0.5 float=2.5 large=1e+300 none=nan\n");
}

static void emit_strings(void)
{
    char array[16] = "array";
    char *pointer = array;
    const char constant[] = "constant";
    log_info("s", KV("a", array), KV("p", pointer), KV("c", constant), KV("l", "literal"));
}

static void strings_of_all_types_print(void **state)
{
    (void)state;
    assert_string_equal(line_of(emit_strings),
                        "level=info event=s a=array p=array c=constant l=literal\n");
}

static void emit_null_string(void)
{
    const char *none = NULL;
    log_info("s", KV("before", 1), KV("none", none), KV("after", 2));
}

static void a_null_string_is_left_out(void **state)
{
    (void)state;
    assert_string_equal(line_of(emit_null_string), "level=info event=s before=1 after=2\n");
}

static void emit_quoted(void)
{
    log_info("q", KV("blank", "a b"), KV("empty", ""), KV("equals", "a=b"), KV("quote", "a\"b"),
             KV("slash", "a\\b"), KV("plain", "a/b:c,d-e_f.g"));
}

static void values_are_quoted_when_they_must_be(void **state)
{
    (void)state;
    assert_string_equal(line_of(emit_quoted),
                        "level=info event=q blank=\"a b\" empty=\"\" equals=\"a=b\" "
                        "quote=\"a\\\"b\" slash=\"a\\\\b\" plain=a/b:c,d-e_f.g\n");
}

static void emit_hostile(void)
{
    log_info("h", KV("forged", "x\nlevel=error event=forged"), KV("escape", "\x1b[2J"),
             KV("other", "\r\t\x01\x7f"));
}

static void no_value_ends_the_line_or_speaks_to_a_terminal(void **state)
{
    (void)state;
    assert_string_equal(line_of(emit_hostile),
                        "level=info event=h forged=\"x\\nlevel=error event=forged\" "
                        "escape=\"\\x1b[2J\" other=\"\\r\\t\\x01\\x7f\"\n");
}

static void emit_utf8(void)
{
    log_info("u", KV("russian", "артель"), KV("four", "\xf0\x9f\x98\x80"),
             KV("euro", "\xe2\x82\xac"));
}

static void utf8_stays_readable(void **state)
{
    (void)state;
    assert_string_equal(line_of(emit_utf8), "level=info event=u russian=артель "
                                            "four=\xf0\x9f\x98\x80 euro=\xe2\x82\xac\n");
}

static void emit_bad_utf8(void)
{
    /* Alone, cut short, too long a form, C1 control, surrogate, beyond Unicode. */
    log_info("u", KV("alone", "\x80"), KV("short", "\xe2\x82"), KV("long", "\xc0\xaf"),
             KV("long3", "\xe0\x80\xaf"), KV("c1", "\xc2\x9b"), KV("pair", "\xed\xa0\x80"),
             KV("beyond", "\xf4\x90\x80\x80"));
}

static void what_is_not_utf8_is_escaped(void **state)
{
    (void)state;
    assert_string_equal(line_of(emit_bad_utf8),
                        "level=info event=u alone=\"\\x80\" short=\"\\xe2\\x82\" "
                        "long=\"\\xc0\\xaf\" long3=\"\\xe0\\x80\\xaf\" c1=\"\\xc2\\x9b\" "
                        "pair=\"\\xed\\xa0\\x80\" beyond=\"\\xf4\\x90\\x80\\x80\"\n");
}

static char filler[2 * LOG_LINE_BYTES_MAX];

static void emit_filler(void)
{
    log_info("long", KV("value", filler), KV("after", "x"));
}

/* One line, at most as long as promised, not shorter than it must be, nothing behind the cut. */
static void assert_is_cut(void)
{
    char text[3 * LOG_LINE_BYTES_MAX];
    const size_t size = capture_stderr(emit_filler, text, sizeof text);
    assert_in_range(size, LOG_LINE_BYTES_MAX - 8, LOG_LINE_BYTES_MAX);
    assert_ptr_equal(strchr(text, '\n'), text + size - 1);
    assert_null(strstr(text, "after"));
}

static void a_long_line_is_cut(void **state)
{
    (void)state;
    memset(filler, 'x', sizeof filler - 1);
    assert_is_cut();
}

static void a_cut_value_keeps_its_closing_quote(void **state)
{
    (void)state;
    for (size_t shift = 0; shift < 5; shift++) {
        memset(filler, '\n', sizeof filler - 1);
        memset(filler, 'x', shift);
        assert_is_cut();
        const char *line = line_of(emit_filler);
        const size_t size = strlen(line);
        assert_string_equal(line + size - 2, "\"\n");
        /* Not in the middle of an escape: an even number of characters behind the x's. */
        const char *value = strstr(line, "value=\"") + strlen("value=\"") + shift;
        assert_int_equal((line + size - 2 - value) % 2, 0);
    }
}

static void a_cut_never_falls_into_a_character(void **state)
{
    (void)state;
    for (size_t shift = 0; shift < 4; shift++) {
        memset(filler, 0, sizeof filler);
        memset(filler, 'x', shift);
        for (size_t at = shift; at + 3 < sizeof filler; at += 3) {
            memcpy(filler + at, "\xe2\x82\xac", 3);
        }
        assert_is_cut();
        const char *line = line_of(emit_filler);
        assert_int_equal((uint8_t)line[strlen(line) - 2], 0xac);
    }
}

static void every_length_of_line_is_well_formed(void **state)
{
    (void)state;
    for (size_t size = LOG_LINE_BYTES_MAX - 120; size < LOG_LINE_BYTES_MAX + 20; size++) {
        memset(filler, 0, sizeof filler);
        memset(filler, ' ', size);
        char text[2 * LOG_LINE_BYTES_MAX];
        const size_t written = capture_stderr(emit_filler, text, sizeof text);
        assert_true(written <= LOG_LINE_BYTES_MAX);
        assert_ptr_equal(strchr(text, '\n'), text + written - 1);
    }
}

static void a_line_is_one_write(void **state)
{
    (void)state;
    /* A pipe in packet mode gives each write() apart. */
    int ends[2];
    assert_int_equal(pipe2(ends, O_DIRECT | O_CLOEXEC), 0);
    const int before = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    emit_hostile();
    dup2(before, STDERR_FILENO);
    close(before);
    close(ends[1]);

    char text[LOG_LINE_BYTES_MAX + 1];
    const ssize_t size = read(ends[0], text, LOG_LINE_BYTES_MAX);
    assert_true(size > 0);
    assert_int_equal(text[size - 1], '\n');
    assert_int_equal(read(ends[0], text, LOG_LINE_BYTES_MAX), 0);
    close(ends[0]);
}

static int evaluated_count;

static int evaluate(void)
{
    return ++evaluated_count;
}

static void emit_all_levels(void)
{
    log_debug("d", KV("n", evaluate()));
    log_info("i", KV("n", evaluate()));
    log_warn("w", KV("n", evaluate()));
    log_error("e", KV("n", evaluate()));
}

static void levels_below_are_neither_written_nor_evaluated(void **state)
{
    (void)state;
    static const enum log_level levels[] = {LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF};
    for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
        log_set_level(levels[i]);
        evaluated_count = 0;
        char text[1024];
        capture_stderr(emit_all_levels, text, sizeof text);
        int lines_count = 0;
        for (const char *at = text; (at = strchr(at, '\n')); at++) {
            lines_count++;
        }
        assert_int_equal(lines_count, 4 - (int)i);
        assert_int_equal(evaluated_count, 4 - (int)i);
        assert_int_equal(strstr(text, "level=error event=e") != NULL, levels[i] != LOG_OFF);
        assert_int_equal(log_enabled(LOG_WARN), levels[i] <= LOG_WARN);
        assert_false(log_enabled(LOG_OFF));
    }
}

static void level_names_are_parsed(void **state)
{
    (void)state;
    enum log_level level = LOG_WARN;
    assert_true(log_level_parse("debug", &level));
    assert_int_equal(level, LOG_DEBUG);
    assert_true(log_level_parse("off", &level));
    assert_int_equal(level, LOG_OFF);
    assert_false(log_level_parse("loud", &level));
    assert_false(log_level_parse("", &level));
    assert_int_equal(level, LOG_OFF);
}

static void emit_to_a_closed_descriptor(void)
{
    close(STDERR_FILENO);
    errno = ENOSPC;
    log_info("x");
    evaluated_count = errno;
}

static void a_failed_write_leaves_errno_alone(void **state)
{
    (void)state;
    char text[256];
    capture_stderr(emit_to_a_closed_descriptor, text, sizeof text);
    assert_int_equal(evaluated_count, ENOSPC);
}

enum { THREADS_COUNT = 4, LINES_COUNT = 100 };

static void *emit_many(void *context)
{
    for (int i = 0; i < LINES_COUNT; i++) {
        log_info("many", KV("text", "some words of a line"), KV("end", "end"));
    }
    return context;
}

static void emit_from_threads(void)
{
    pthread_t threads[THREADS_COUNT];
    for (size_t i = 0; i < THREADS_COUNT; i++) {
        pthread_create(&threads[i], NULL, emit_many, NULL);
    }
    for (size_t i = 0; i < THREADS_COUNT; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void lines_of_threads_do_not_mix(void **state)
{
    (void)state;
    static char text[THREADS_COUNT * LINES_COUNT * 200];
    capture_stderr(emit_from_threads, text, sizeof text);
    int lines_count = 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        assert_string_equal(strchr(line, ' '),
                            " level=info event=many text=\"some words of a line\" end=end");
        lines_count++;
    }
    assert_int_equal(lines_count, THREADS_COUNT * LINES_COUNT);
}

#define LOG_TEST(test) cmocka_unit_test_setup(test, reset_level)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(line_begins_with_time_level_and_event),
        LOG_TEST(integers_of_all_widths_print_as_they_are),
        LOG_TEST(reals_print_short),
        LOG_TEST(strings_of_all_types_print),
        LOG_TEST(a_null_string_is_left_out),
        LOG_TEST(values_are_quoted_when_they_must_be),
        LOG_TEST(no_value_ends_the_line_or_speaks_to_a_terminal),
        LOG_TEST(utf8_stays_readable),
        LOG_TEST(what_is_not_utf8_is_escaped),
        LOG_TEST(a_long_line_is_cut),
        LOG_TEST(a_cut_value_keeps_its_closing_quote),
        LOG_TEST(a_cut_never_falls_into_a_character),
        LOG_TEST(every_length_of_line_is_well_formed),
        LOG_TEST(a_line_is_one_write),
        LOG_TEST(levels_below_are_neither_written_nor_evaluated),
        LOG_TEST(level_names_are_parsed),
        LOG_TEST(a_failed_write_leaves_errno_alone),
        LOG_TEST(lines_of_threads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
