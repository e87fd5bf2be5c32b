/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "http/field.h"

static void ranges_are_parsed(void **state)
{
    (void)state;
    const struct {
        const char *text;
        uint64_t length, begin, end;
        enum field_range kind;
    } cases[] = {
        {"bytes=0-0", 10, 0, 1, FIELD_RANGE_ONE},
        {"bytes=3-", 10, 3, 10, FIELD_RANGE_ONE},
        {"bytes=-3", 10, 7, 10, FIELD_RANGE_ONE},
        {"bytes=-30", 10, 0, 10, FIELD_RANGE_ONE},
        {"bytes=9-99999999999999999999999", 10, 9, 10, FIELD_RANGE_ONE},
        {"bytes=0-18446744073709551615", 10, 0, 10, FIELD_RANGE_ONE},
        {"bytes=10-", 10, 0, 0, FIELD_RANGE_BAD},
        {"bytes=0-", 0, 0, 0, FIELD_RANGE_BAD},
        {"bytes=-1", 0, 0, 0, FIELD_RANGE_BAD},
        {"bytes=-0", 10, 0, 0, FIELD_RANGE_BAD},
        {"bytes=2-1", 10, 0, 0, FIELD_RANGE_BAD},
        {"bytes=", 10, 0, 0, FIELD_RANGE_BAD},
        {"bytes=-", 10, 0, 0, FIELD_RANGE_BAD},
        {"bytes=1-2 ", 10, 0, 0, FIELD_RANGE_BAD},
        {"bytes=1-2,4-5", 10, 0, 0, FIELD_RANGE_NONE},
        {"pages=1-2", 10, 0, 0, FIELD_RANGE_NONE},
        {"", 10, 0, 0, FIELD_RANGE_NONE},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        uint64_t begin = 0;
        uint64_t end = 0;
        assert_int_equal(field_range_parse(cases[i].text, cases[i].length, &begin, &end),
                         cases[i].kind);
        assert_int_equal(begin, cases[i].begin);
        assert_int_equal(end, cases[i].end);
    }
}

#define HEX "00000000000000000000000000000000000000000000000000000000000000ab"

static void etags_are_matched(void **state)
{
    (void)state;
    const struct id id = {.bytes[31] = 0xab};
    const char *const matching[] = {
        ("\"" HEX "\""), HEX, ("W/\"" HEX "\""), "*", ("\"a\", \"" HEX "\""), (",, " HEX), " * ",
    };
    const char *const others[] = {
        "", "\"", ",", "W/", ("\"" HEX "x\""), ("x" HEX), "\"\"", "W/\"a",
    };
    for (size_t i = 0; i < ARRAY_SIZE(matching); i++) {
        assert_true(field_etag_matches(matching[i], &id));
    }
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        assert_false(field_etag_matches(others[i], &id));
    }
    struct id parsed;
    assert_int_equal(field_etag_parse("\"" HEX "\"", &parsed), 0);
    assert_memory_equal(parsed.bytes, id.bytes, sizeof id.bytes);
    assert_int_equal(field_etag_parse(HEX, &parsed), 0);
    assert_int_equal(field_etag_parse("\"" HEX "x", &parsed), -EINVAL);
    assert_int_equal(field_etag_parse("\"" HEX, &parsed), -EINVAL);
    assert_int_equal(field_etag_parse("", &parsed), -EINVAL);
}

static void times_go_there_and_back(void **state)
{
    (void)state;
    const struct {
        const char *given, *told;
    } cases[] = {
        {"0", "1970-01-01T00:00:00.000000000Z"},
        {"-0.000000001", "1969-12-31T23:59:59.999999999Z"},
        {"1700000000.5", "2023-11-14T22:13:20.500000000Z"},
        {"9223372035.999999999", "2262-04-11T23:47:15.999999999Z"},
    };
    char text[FIELD_TIME_BYTES];
    int64_t ns = 0;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        assert_int_equal(field_time_parse(cases[i].given, &ns), 0);
        field_time_format(ns, text);
        assert_string_equal(text, cases[i].told);
    }
    field_date_format(-1, text);
    assert_string_equal(text, "Wed, 31 Dec 1969 23:59:59 GMT");
    const char *const bad[] = {
        "", "-", "x", "1x", "1.0000000001", "9999999999", ".5", "+1", "99999999999999999999999"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(field_time_parse(bad[i], &ns), -EINVAL);
    }
}

static void modes_and_numbers(void **state)
{
    (void)state;
    uint32_t mode = 0;
    assert_int_equal(field_mode_parse("07777", &mode), 0);
    assert_int_equal(mode, 07777);
    const char *const bad[] = {"", "8", "10000", "000644", "x", "-1"};
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(field_mode_parse(bad[i], &mode), -EINVAL);
    }
    uint64_t number = 0;
    assert_int_equal(field_number_parse("10", 1, 10, &number), 0);
    assert_int_equal(number, 10);
    assert_int_equal(field_number_parse("11", 1, 10, &number), -EINVAL);
    assert_int_equal(field_number_parse("0", 1, 10, &number), -EINVAL);
    assert_int_equal(field_number_parse("", 0, 10, &number), -EINVAL);
    assert_int_equal(field_number_parse("18446744073709551617", 1, 10, &number), -EINVAL);
}

static void versions_go_there_and_back(void **state)
{
    (void)state;
    const struct dot dot = {.origin = {{0x01, 0xab, [15] = 0xf0}}, .seq = FIELD_SEQ_MAX};
    char text[FIELD_DOT_BYTES];
    field_dot_format(&dot, text);
    assert_string_equal(text, "01ab00000000000000000000000000f0:18446744073709551614");
    struct dot parsed;
    assert_int_equal(field_dot_parse(text, &parsed), 0);
    assert_memory_equal(&parsed.origin, &dot.origin, sizeof dot.origin);
    assert_int_equal(parsed.seq, dot.seq);
    const char *const bad[] = {
        "",
        ":1",
        "01ab00000000000000000000000000f0",
        "01ab00000000000000000000000000f0:",
        "01ab00000000000000000000000000f0:0",
        "01ab00000000000000000000000000f0x1",
        "01ab00000000000000000000000000f0:-1",
        "01ab00000000000000000000000000f0:1x",
        "01ab00000000000000000000000000f0:18446744073709551615",
        "01ab00000000000000000000000000f0:18446744073709551616",
        "01AB00000000000000000000000000f0:1",
        "01ab00000000000000000000000000f:01",
        "01ab00000000000000000000000000f00:1",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(field_dot_parse(bad[i], &parsed), -EINVAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_are_parsed),          cmocka_unit_test(etags_are_matched),
        cmocka_unit_test(times_go_there_and_back),    cmocka_unit_test(modes_and_numbers),
        cmocka_unit_test(versions_go_there_and_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
