/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/mem.h"
#include "client/percent.h"
#include "tree/glob.h"

static void paths_keep_their_slashes(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf url = BUF_INIT;
    percent_add_path(&url, "a b/%2F/c?d#e+f/\xc3\xa4/\n/..~_-");
    assert_string_equal(buf_string(&url), "a%20b/%252F/c%3Fd%23e%2Bf/%C3%A4/%0A/..~_-");
}

static void texts_do_not(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf url = BUF_INIT;
    percent_add(&url, bytes_of_string("a/b&c=d\xff"));
    assert_string_equal(buf_string(&url), "a%2Fb%26c%3Dd%FF");
}

static void every_byte_is_itself_or_encoded(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 256; byte++) {
        const uint8_t one = (uint8_t)byte;
        CLEANUP_BUF struct buf url = BUF_INIT;
        percent_add(&url, BYTES(&one, 1));
        unsigned decoded = byte;
        if (url.size != 1) {
            assert_int_equal(url.size, 3);
            assert_int_equal(sscanf(buf_string(&url), "%%%2X", &decoded), 1);
        }
        assert_int_equal(decoded, byte);
    }
}

static void a_literal_matches_itself_only(void **state)
{
    (void)state;
    const char *const names[] = {"a", "*", "a?b", "[a-z]", "\\\\", "x\\*y", "**"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        CLEANUP_BUF struct buf pattern = BUF_INIT;
        percent_add_literal(&pattern, names[i]);
        assert_int_equal(glob_check(buf_bytes(&pattern)), 0);
        for (size_t j = 0; j < ARRAY_SIZE(names); j++) {
            const bool matches = glob_match(buf_bytes(&pattern), bytes_of_string(names[j]));
            assert_int_equal(matches, i == j);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_keep_their_slashes),
        cmocka_unit_test(texts_do_not),
        cmocka_unit_test(every_byte_is_itself_or_encoded),
        cmocka_unit_test(a_literal_matches_itself_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
