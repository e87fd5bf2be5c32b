/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "node/resolve.h"

static void texts_are_split(void **state)
{
    (void)state;
    const struct {
        const char *text, *host, *port;
    } cases[] = {
        {"a:1", "a", "1"},
        {"a.b-c.example:65535", "a.b-c.example", "65535"},
        {"10.0.0.1:0", "10.0.0.1", "0"},
        {"[::1]:7420", "::1", "7420"},
        {"", NULL, NULL},
        {"a", NULL, NULL},
        {":1", NULL, NULL},
        {"a:", NULL, NULL},
        {"a:x", NULL, NULL},
        {"a:-1", NULL, NULL},
        {"a:65536", NULL, NULL},
        {"a:123456", NULL, NULL},
        {"::1:7420", NULL, NULL},
        {"[]:1", NULL, NULL},
        {"a:1 ", NULL, NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        CLEANUP_FREE char *host = NULL;
        CLEANUP_FREE char *port = NULL;
        const int err = resolve_split(cases[i].text, &host, &port);
        assert_int_equal(err, cases[i].host ? 0 : -EINVAL);
        if (cases[i].host) {
            assert_string_equal(host, cases[i].host);
            assert_string_equal(port, cases[i].port);
        }
    }
}

static void numbers_and_names_become_addresses(void **state)
{
    (void)state;
    const struct {
        const char *text, *address;
    } cases[] = {
        {"127.0.0.9:1", "127.0.0.9:1"},   {"[::1]:2", "[::1]:2"}, {"0.0.0.0:0", "0.0.0.0:0"},
        {"no.such.name.invalid:1", NULL}, {"300.0.0.1:1", NULL},  {"nothing", NULL},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct address address;
        const int err = resolve_now(cases[i].text, &address);
        assert_int_equal(err, cases[i].address ? 0 : -EINVAL);
        if (cases[i].address) {
            char text[ADDRESS_TEXT_CHARS + 1];
            address_format(&address, text);
            assert_string_equal(text, cases[i].address);
        }
    }
    struct address localhost;
    assert_int_equal(resolve_now("localhost:7", &localhost), 0);
    assert_true(address_is_loopback(&localhost));
    assert_int_equal(localhost.port, 7);
}

static void each_address_is_found_once(void **state)
{
    (void)state;
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_family = AF_INET};
    struct addrinfo *found = NULL;
    assert_int_equal(getaddrinfo("127.0.0.1", "5", &hints, &found), 0);
    /* One for each type of socket. */
    assert_non_null(found->ai_next);
    struct address addresses[4];
    assert_int_equal(resolve_found(found, addresses, 4), 1);
    assert_int_equal(resolve_found(found, addresses, 0), 0);
    freeaddrinfo(found);
}

static void an_own_address_is_one_that_others_can_reach(void **state)
{
    (void)state;
    struct address listen;
    assert_int_equal(address_parse("0.0.0.0:77", &listen), 0);
    struct address own;
    const int err = resolve_own(&listen, &own);
    if (err) {
        assert_int_equal(err, -ENOENT); /* a machine with nothing but loopback */
        return;
    }
    assert_false(address_is_any(&own));
    assert_false(address_is_loopback(&own));
    assert_true(address_is_ipv4(&own));
    assert_int_equal(own.port, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_split),
        cmocka_unit_test(numbers_and_names_become_addresses),
        cmocka_unit_test(each_address_is_found_once),
        cmocka_unit_test(an_own_address_is_one_that_others_can_reach),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
