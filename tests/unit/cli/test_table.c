/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/table.h"

static void columns_are_as_wide_as_their_widest_cell(void **state)
{
    (void)state;
    static const char *const cells[] = {
        "NAME", "BYTES", "X", "a", "1234567", "y", "\xd0\xb0\xd1\x80", "", "last"};
    struct table table = TABLE_INIT(3);
    for (size_t i = 0; i < 9; i++) {
        table_add(&table, "%s", cells[i]);
    }
    CLEANUP_BUF struct buf out = BUF_INIT;
    table_format(&table, &out);
    table_done(&table);
    assert_string_equal(buf_string(&out), "NAME  BYTES    X\n"
                                          "a     1234567  y\n"
                                          "\xd0\xb0\xd1\x80             last\n");
}

static void no_rows_are_nothing(void **state)
{
    (void)state;
    struct table table = TABLE_INIT(2);
    CLEANUP_BUF struct buf out = BUF_INIT;
    table_format(&table, &out);
    table_done(&table);
    assert_int_equal(out.size, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_as_wide_as_their_widest_cell),
        cmocka_unit_test(no_rows_are_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
