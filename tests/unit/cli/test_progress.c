/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "cli/progress.h"

static void shows(uint64_t done, uint64_t total, uint64_t rate, size_t columns,
                  const char *expected)
{
    const struct progress_figures figures = {done, total, rate, NULL};
    CLEANUP_BUF struct buf line = BUF_INIT;
    progress_format(&figures, columns, &line);
    assert_string_equal(buf_string(&line), expected);
}

static void a_line_tells_all(void **state)
{
    (void)state;
    const uint64_t mib = 1024 * 1024;
    shows(50 * mib, 100 * mib, 10 * mib, 71,
          "[===========>          ]   50%  50 MiB of 100 MiB  10 MiB/s  0:05 left");
}

static void a_note_stands_at_the_end(void **state)
{
    (void)state;
    const uint64_t mib = 1024 * 1024;
    const struct progress_figures figures = {50 * mib, 100 * mib, 10 * mib, "from 3 nodes"};
    CLEANUP_BUF struct buf line = BUF_INIT;
    progress_format(&figures, 80, &line);
    assert_string_equal(
        buf_string(&line),
        "[========>        ]   50%  50 MiB of 100 MiB  10 MiB/s  0:05 left  from 3 nodes");
}

static void the_end_and_the_unknown(void **state)
{
    (void)state;
    const uint64_t mib = 1024 * 1024;
    shows(mib, PROGRESS_TOTAL_UNKNOWN, 2 * mib, 80, "1.0 MiB  2.0 MiB/s");
    shows(0, 0, 0, 80, "0 B  0 B/s");
    shows(mib, 0, 0, 80, "1.0 MiB  0 B/s");
    /* A file that grew, and no time is left at the end. */
    shows(3 * mib, 2 * mib, mib, 30, "100%  3.0 MiB of 2.0 MiB  1.0 ");
    shows(0, mib, 0, 40, "  0%  0 B of 1.0 MiB  0 B/s");
}

static void it_fits_the_terminal(void **state)
{
    (void)state;
    for (size_t columns = 0; columns < 200; columns++) {
        for (uint64_t done = 0; done <= 1000000000000; done += 7777777777) {
            const struct progress_figures figures = {done, 1000000000000, 123456789,
                                                     "from 3 nodes"};
            CLEANUP_BUF struct buf line = BUF_INIT;
            progress_format(&figures, columns, &line);
            assert_true(line.size <= columns);
            assert_true(columns < 10 || strstr(buf_string(&line), "%"));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_tells_all),
        cmocka_unit_test(a_note_stands_at_the_end),
        cmocka_unit_test(the_end_and_the_unknown),
        cmocka_unit_test(it_fits_the_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
