/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "base/mem.h"
#include "http/url.h"

static void paths_are_decoded(void **state)
{
    (void)state;
    const struct {
        const char *url, *path;
        bool has_slash;
        int err;
    } cases[] = {
        {"", "", false, 0},
        {"/", "", false, 0},
        {"/a", "a", false, 0},
        {"/a/", "a", true, 0},
        {"/a/b%20c", "a/b c", false, 0},
        {"/%c3%A4+", "\xc3\xa4+", false, 0},
        {"/a%25", "a%", false, 0},
        {"//", NULL, false, -EINVAL},
        {"/a//b", NULL, false, -EINVAL},
        {"/..", NULL, false, -EINVAL},
        {"/%2e", NULL, false, -EINVAL},
        {"/a%2fb", NULL, false, -EINVAL},
        {"/a%00b", NULL, false, -EINVAL},
        {"/%", NULL, false, -EINVAL},
        {"/a%1", NULL, false, -EINVAL},
        {"/a%1g", NULL, false, -EINVAL},
        {"/%ff", NULL, false, -EILSEQ},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_BUF struct buf path = BUF_INIT;
        bool has_slash = false;
        assert_int_equal(url_decode_path(cases[i].url, &path, &has_slash), cases[i].err);
        if (cases[i].path) {
            assert_string_equal(path.size ? buf_string(&path) : "", cases[i].path);
            assert_int_equal(has_slash, cases[i].has_slash);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_decoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
