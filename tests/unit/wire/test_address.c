/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "wire/address.h"

static struct address parsed(const char *text)
{
    struct address address;
    assert_int_equal(address_parse(text, &address), 0);
    return address;
}

static const struct {
    const char *text;
    const char *shown;
} good[] = {
    {"127.0.0.1:7420", "127.0.0.1:7420"},
    {"0.0.0.0:0", "0.0.0.0:0"},
    {"255.255.255.255:65535", "255.255.255.255:65535"},
    {"10.0.0.1:1", "10.0.0.1:1"},
    {"[::1]:7420", "[::1]:7420"},
    {"[::]:80", "[::]:80"},
    {"[2001:db8::17]:7420", "[2001:db8::17]:7420"},
    {"[fe80::1]:0", "[fe80::1]:0"},
    /* other spellings of the same */
    {"[2001:DB8:0:0:0:0:0:17]:7420", "[2001:db8::17]:7420"},
    {"[0000:0000:0000:0000:0000:0000:0000:0001]:9", "[::1]:9"},
    {"[::ffff:10.0.0.1]:99", "10.0.0.1:99"},
    {"[::ffff:a00:1]:99", "10.0.0.1:99"},
    {"[2001:db8::10.0.0.1]:99", "[2001:db8::a00:1]:99"},
    /* the longest */
    {"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
     "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
};

static void texts_that_are_addresses(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        const struct address address = parsed(good[i].text);
        char text[ADDRESS_TEXT_CHARS + 1];
        address_format(&address, text);
        assert_string_equal(text, good[i].shown);
        const struct address again = parsed(text);
        assert_true(address_equal(&again, &address));
    }
}

static void texts_that_are_none(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        ":",
        ":7420",
        "7420",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1: 7420",
        "127.0.0.1:7420 ",
        " 127.0.0.1:7420",
        "127.0.0.1:+7420",
        "127.0.0.1:-1",
        "127.0.0.1:07420",
        "127.0.0.1:00",
        "127.0.0.1:65536",
        "127.0.0.1:99999",
        "127.0.0.1:655350",
        "127.0.0.1:18446744073709551617",
        "127.0.0.1:0x50",
        "127.0.0.1:80:80",
        "127.0.0.1.:80",
        "127.0.0:80",
        "127.1:80",
        "256.0.0.1:80",
        "127.0.0.01:80",
        "1.2.3.4.5:80",
        "localhost:7420",
        "::1:7420", /* where does it end? */
        "[::1]",
        "[::1]:",
        "[::1]7420",
        "[::1]7420:",
        "[::1:7420",
        "::1]:7420",
        "[]:7420",
        "[",
        "[127.0.0.1]:7420",
        "[::1%lo]:7420",
        "[:::1]:7420",
        "[1:2:3:4:5:6:7:8:9]:7420",
        "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:7420",
        "1111111111111111111111111111111111111111111111111111111111111:7420",
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct address address = {.port = 0x5555};
        assert_int_equal(address_parse(bad[i], &address), -EINVAL);
        assert_int_equal(address.port, 0x5555);
    }
}

static void families_and_special_addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool is_ipv4, is_loopback, is_any;
    } table[] = {
        {"127.0.0.1:1", true, true, false},        {"127.255.255.255:1", true, true, false},
        {"126.255.255.255:1", true, false, false}, {"128.0.0.1:1", true, false, false},
        {"0.0.0.0:1", true, false, true},          {"0.0.0.1:1", true, false, false},
        {"[::1]:1", false, true, false},           {"[::]:1", false, false, true},
        {"[::2]:1", false, false, false},          {"[1::1]:1", false, false, false},
        {"[7f00::]:1", false, false, false},       {"[::ffff:127.0.0.1]:1", true, true, false},
        {"[::7f00:1]:1", false, false, false},     {"[::fffe:7f00:1]:1", false, false, false},
    };
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        const struct address address = parsed(table[i].text);
        assert_int_equal(address_is_ipv4(&address), table[i].is_ipv4);
        assert_int_equal(address_is_loopback(&address), table[i].is_loopback);
        assert_int_equal(address_is_any(&address), table[i].is_any);
    }
}

static void equal_looks_at_address_and_port(void **state)
{
    (void)state;
    const struct address address = parsed("10.0.0.1:7420");
    const struct address other_port = parsed("10.0.0.1:7421");
    const struct address other_ip = parsed("10.0.0.2:7420");
    assert_true(address_equal(&address, &address));
    assert_false(address_equal(&address, &other_port));
    assert_false(address_equal(&address, &other_ip));
}

static const uint8_t ipv4_bytes[] = {4, 10, 0, 0, 1, 0xfc, 0x1c};
static const uint8_t ipv6_bytes[] = {6, 0x20, 0x01, 0x0d, 0xb8, 0, 0,    0,    0,   0,
                                     0, 0,    0,    0,    0,    0, 0x17, 0xfc, 0x1c};

static void on_the_wire(void **state)
{
    (void)state;
    const struct {
        const char *text;
        struct bytes bytes;
    } table[] = {
        {"10.0.0.1:7420", BYTES(ipv4_bytes, sizeof ipv4_bytes)},
        {"[2001:db8::17]:7420", BYTES(ipv6_bytes, sizeof ipv6_bytes)},
    };
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        const struct address address = parsed(table[i].text);
        CLEANUP_BUF struct buf message = BUF_INIT;
        field_put_address(&message, &address);
        assert_true(bytes_equal(buf_bytes(&message), table[i].bytes));
        assert_int_equal(address_bytes(&address), message.size);

        struct field_reader reader = field_reader_of(table[i].bytes);
        const struct address read = field_get_address(&reader);
        assert_true(field_reader_ended(&reader));
        assert_true(address_equal(&read, &address));
    }
}

static void assert_faulty(const uint8_t *bytes, size_t size)
{
    uint8_t *exact = size ? mem_copy(bytes, size) : NULL;
    struct field_reader reader = field_reader_of(BYTES(exact, size));
    const struct address read = field_get_address(&reader);
    const struct address none = {0};
    assert_true(reader.bad);
    assert_true(address_equal(&read, &none));
    free(exact);
}

static void faults_on_the_wire(void **state)
{
    (void)state;
    for (size_t size = 0; size < sizeof ipv4_bytes; size++) {
        assert_faulty(ipv4_bytes, size);
    }
    for (size_t size = 0; size < sizeof ipv6_bytes; size++) {
        assert_faulty(ipv6_bytes, size);
    }
    for (unsigned family = 0; family < 256; family++) {
        uint8_t bytes[sizeof ipv6_bytes];
        memcpy(bytes, ipv6_bytes, sizeof bytes);
        bytes[0] = (uint8_t)family;
        if (family != 4 && family != 6) {
            assert_faulty(bytes, sizeof bytes);
        }
    }
    /* An IPv4 address has one spelling. */
    static const uint8_t mapped[] = {6, 0,    0,    0,  0, 0, 0, 0,    0,   0,
                                     0, 0xff, 0xff, 10, 0, 0, 1, 0xfc, 0x1c};
    assert_faulty(mapped, sizeof mapped);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_that_are_addresses),
        cmocka_unit_test(texts_that_are_none),
        cmocka_unit_test(families_and_special_addresses),
        cmocka_unit_test(equal_looks_at_address_and_port),
        cmocka_unit_test(on_the_wire),
        cmocka_unit_test(faults_on_the_wire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
