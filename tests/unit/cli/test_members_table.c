/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "base/mem.h"
#include "cli/members_table.h"

static json_t *parse(const char *text)
{
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    return json;
}

static void expect(const char *members, bool to_terminal, size_t rows_max, const char *table)
{
    CLEANUP_BUF struct buf out = BUF_INIT;
    json_t *json = parse(members);
    assert_int_equal(members_table_add(json, to_terminal, rows_max, &out), 0);
    json_decref(json);
    assert_string_equal(buf_string(&out), table);
}

#define MEMBER(name, zone, more)                                                                   \
    "{\"node\":\"" name zone "\",\"name\":\"" name "\",\"zone\":\"" zone                           \
    "\",\"address\":\"10.0.0.1:7420\",\"state\":\"alive\"," more                                   \
    "\"since\":\"2026-01-02T03:04:05.678000000Z\"}"

static void columns_are_aligned_and_rows_sorted(void **state)
{
    (void)state;
    expect("[" MEMBER("c", "z1", "\"rtt_ms\":0.1234,") "," MEMBER(
               "bernd", "z1", "\"self\":true,") "," MEMBER("d", "a-long-zone",
                                                           "\"rtt_ms\":1234.5,") "]",
           false, 0,
           "  NAME   ZONE         ADDRESS        STATE  RTT          SINCE\n"
           "  d      a-long-zone  10.0.0.1:7420  alive  1234.500 ms  2026-01-02T03:04:05Z\n"
           "* bernd  z1           10.0.0.1:7420  alive  -            2026-01-02T03:04:05Z\n"
           "  c      z1           10.0.0.1:7420  alive  0.123 ms     2026-01-02T03:04:05Z\n");
}

static void characters_of_several_bytes_are_one_column(void **state)
{
    (void)state;
    expect("[" MEMBER("\xd0\xb0\xd1\x80\xd1\x82\xd0\xb5\xd0\xbb\xd1\x8c", "z", "") "]", false, 0,
           "  NAME    ZONE  ADDRESS        STATE  RTT  SINCE\n"
           "  \xd0\xb0\xd1\x80\xd1\x82\xd0\xb5\xd0\xbb\xd1\x8c  z     10.0.0.1:7420  alive  -    "
           "2026-01-02T03:04:05Z\n");
}

static void a_long_table_is_cut(void **state)
{
    (void)state;
    const char *three =
        "[" MEMBER("a", "z", "") "," MEMBER("b", "z", "") "," MEMBER("c", "z", "") "]";
    expect(three, false, 3,
           "  NAME  ZONE  ADDRESS        STATE  RTT  SINCE\n"
           "  a     z     10.0.0.1:7420  alive  -    2026-01-02T03:04:05Z\n"
           "  and 2 more\n");
    expect(three, false, 4,
           "  NAME  ZONE  ADDRESS        STATE  RTT  SINCE\n"
           "  a     z     10.0.0.1:7420  alive  -    2026-01-02T03:04:05Z\n"
           "  b     z     10.0.0.1:7420  alive  -    2026-01-02T03:04:05Z\n"
           "  c     z     10.0.0.1:7420  alive  -    2026-01-02T03:04:05Z\n");
}

static void what_is_missing_leaves_a_gap(void **state)
{
    (void)state;
    expect("[{}]", false, 0,
           "  NAME  ZONE  ADDRESS  STATE  RTT  SINCE\n"
           "                              -    \n");
}

static void no_list_is_no_table(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf out = BUF_INIT;
    json_t *json = parse("{}");
    assert_int_equal(members_table_add(json, false, 0, &out), -EPROTO);
    assert_int_equal(members_table_add(NULL, false, 0, &out), -EPROTO);
    assert_int_equal(out.size, 0);
    json_decref(json);
}

static void an_event_is_a_line(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf out = BUF_INIT;
    json_t *json =
        parse("{\"event\":\"member_left\",\"time\":\"2026-01-02T03:04:05.678000000Z\","
              "\"name\":\"a\",\"zone\":\"z\",\"address\":\"10.0.0.1:1\",\"node\":\"07\"}");
    members_table_add_event(json, false, &out);
    assert_string_equal(buf_string(&out),
                        "2026-01-02T03:04:05Z  member_left         a  z  10.0.0.1:1  07\n");
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_aligned_and_rows_sorted),
        cmocka_unit_test(characters_of_several_bytes_are_one_column),
        cmocka_unit_test(a_long_table_is_cut),
        cmocka_unit_test(what_is_missing_leaves_a_gap),
        cmocka_unit_test(no_list_is_no_table),
        cmocka_unit_test(an_event_is_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
