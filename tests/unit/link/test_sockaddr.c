/* SPDX-License-Identifier: Apache-2.0 */
#include "link/sockaddr_priv.h"

#include "helpers.h"

static struct address ipv6(void)
{
    struct address address = {.port = 7420};
    address.ip[0] = 0x20;
    address.ip[1] = 0x01;
    address.ip[15] = 9;
    return address;
}

static void addresses_go_there_and_back(void **state)
{
    (void)state;
    const struct address addresses[] = {test_address(7420), ipv6()};
    for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
        struct sockaddr_storage sockaddr;
        const int family = sockaddr_family(&addresses[i]);
        assert_int_equal(family, i == 0 ? AF_INET : AF_INET6);
        assert_int_equal(sockaddr_from_address(&addresses[i], family, &sockaddr),
                         i == 0 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
        assert_int_equal(sockaddr.ss_family, family);
        const struct address back = sockaddr_to_address((const struct sockaddr *)&sockaddr);
        assert_true(address_equal(&back, &addresses[i]));
    }
}

static void ipv4_is_mapped_for_a_socket_of_both(void **state)
{
    (void)state;
    const struct address address = test_address(80);
    struct sockaddr_storage sockaddr;
    assert_int_equal(sockaddr_from_address(&address, AF_INET6, &sockaddr),
                     sizeof(struct sockaddr_in6));
    struct sockaddr_in6 in6;
    memcpy(&in6, &sockaddr, sizeof in6);
    assert_true(IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr));
    const struct address back = sockaddr_to_address((const struct sockaddr *)&sockaddr);
    assert_true(address_equal(&back, &address));
}

static void what_does_not_fit_is_nothing(void **state)
{
    (void)state;
    const struct address address = ipv6();
    struct sockaddr_storage sockaddr;
    assert_int_equal(sockaddr_from_address(&address, AF_INET, &sockaddr), 0);
    const struct sockaddr other = {.sa_family = AF_UNIX};
    assert_int_equal(sockaddr_to_address(&other).port, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_go_there_and_back),
        cmocka_unit_test(ipv4_is_mapped_for_a_socket_of_both),
        cmocka_unit_test(what_does_not_fit_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
