/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"
#include "http/tar_priv.h"

static void assert_cleaned(const char *raw, const char *expected)
{
    struct bytes name = BYTES(NULL, 0);
    assert_int_equal(tar_clean_name(bytes_of_string(raw), &name), 0);
    assert_int_equal(name.size, strlen(expected));
    if (name.size > 0) {
        assert_memory_equal(name.data, expected, name.size);
    }
}

static void assert_refused(const char *raw, int err)
{
    struct bytes name = BYTES(NULL, 0);
    assert_int_equal(tar_clean_name(bytes_of_string(raw), &name), err);
}

static void names_lose_what_tars_put_around_them(void **state)
{
    (void)state;
    assert_cleaned("a", "a");
    assert_cleaned("a/b", "a/b");
    assert_cleaned("./a", "a");
    assert_cleaned("././a/b", "a/b");
    assert_cleaned(".//a", "a");
    assert_cleaned("a/", "a");
    assert_cleaned("./a//", "a");
    assert_cleaned(".a", ".a");
    assert_cleaned("..a/b..", "..a/b..");
}

static void the_directory_itself_has_no_name(void **state)
{
    (void)state;
    assert_cleaned(".", "");
    assert_cleaned("./", "");
    assert_cleaned("./.", "");
    assert_cleaned(".//", "");
}

static void names_that_lead_out_are_refused(void **state)
{
    (void)state;
    assert_refused("", -EINVAL);
    assert_refused("/", -EINVAL);
    assert_refused("/etc/passwd", -EINVAL);
    assert_refused("..", -EINVAL);
    assert_refused("../a", -EINVAL);
    assert_refused("./../a", -EINVAL);
    assert_refused("a/../../b", -EINVAL);
    assert_refused("a/..", -EINVAL);
    assert_refused("a/./b", -EINVAL);
    assert_refused("a//b", -EINVAL);
}

static void names_that_no_path_has_are_refused(void **state)
{
    (void)state;
    char name[PATH_NAME_BYTES_MAX + 2] = {0};
    memset(name, 'x', PATH_NAME_BYTES_MAX);
    assert_cleaned(name, name);
    memset(name, 'x', PATH_NAME_BYTES_MAX + 1);
    assert_refused(name, -ENAMETOOLONG);
    assert_refused("a\xff", -EILSEQ);
    struct bytes cleaned;
    assert_int_equal(tar_clean_name(BYTES((const uint8_t *)"a\0b", 3), &cleaned), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_lose_what_tars_put_around_them),
        cmocka_unit_test(the_directory_itself_has_no_name),
        cmocka_unit_test(names_that_lead_out_are_refused),
        cmocka_unit_test(names_that_no_path_has_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
