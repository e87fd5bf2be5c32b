/* SPDX-License-Identifier: Apache-2.0 */
#include <netinet/in.h>

#include "link/sockaddr_priv.h"

/* ::ffff:0:0/96 (RFC 4291, section 2.5.5.2). */
static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

int sockaddr_family(const struct address *address)
{
    return memcmp(address->ip, mapped, sizeof mapped) == 0 ? AF_INET : AF_INET6;
}

socklen_t sockaddr_from_address(const struct address *address, int family,
                                struct sockaddr_storage *ret_sockaddr)
{
    memset(ret_sockaddr, 0, sizeof *ret_sockaddr);
    if (family == AF_INET6) {
        struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(address->port)};
        memcpy(&in6.sin6_addr, address->ip, sizeof address->ip);
        memcpy(ret_sockaddr, &in6, sizeof in6);
        return sizeof in6;
    }
    if (sockaddr_family(address) != AF_INET) {
        return 0;
    }
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(address->port)};
    memcpy(&in.sin_addr, address->ip + sizeof mapped, sizeof in.sin_addr);
    memcpy(ret_sockaddr, &in, sizeof in);
    return sizeof in;
}

struct address sockaddr_to_address(const struct sockaddr *sockaddr)
{
    struct address address = {0};
    if (sockaddr->sa_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, sockaddr, sizeof in);
        memcpy(address.ip, mapped, sizeof mapped);
        memcpy(address.ip + sizeof mapped, &in.sin_addr, sizeof in.sin_addr);
        address.port = ntohs(in.sin_port);
    } else if (sockaddr->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, sockaddr, sizeof in6);
        memcpy(address.ip, &in6.sin6_addr, sizeof address.ip);
        address.port = ntohs(in6.sin6_port);
    }
    return address;
}
