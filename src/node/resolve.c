/* SPDX-License-Identifier: Apache-2.0 */
#include "node/resolve.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"

#define PORT_MAX 65535u

static bool is_port(const char *text)
{
    const size_t digits = strspn(text, "0123456789");
    return digits > 0 && digits <= 5 && text[digits] == 0 && strtoul(text, NULL, 10) <= PORT_MAX;
}

int resolve_split(const char *text, char **ret_host, char **ret_port)
{
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text || !is_port(colon + 1)) {
        return -EINVAL;
    }
    const char *begin = text;
    const char *end = colon;
    if (begin[0] == '[' && end[-1] == ']') {
        begin++;
        end--;
    } else if (memchr(begin, ':', (size_t)(end - begin))) {
        return -EINVAL;
    }
    if (begin >= end) {
        return -EINVAL;
    }
    *ret_host = mem_format("%.*s", (int)(end - begin), begin);
    *ret_port = mem_copy_string(colon + 1);
    return 0;
}

/* False: of another family, or one that needs to be told an interface. */
static bool address_of(const struct sockaddr *from, struct address *ret_address)
{
    char ip[INET6_ADDRSTRLEN];
    CLEANUP_FREE char *text = NULL;
    if (from->sa_family == AF_INET) {
        const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)(const void *)from;
        inet_ntop(AF_INET, &ipv4->sin_addr, ip, sizeof ip);
        text = mem_format("%s:%u", ip, ntohs(ipv4->sin_port));
    } else if (from->sa_family == AF_INET6) {
        const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)(const void *)from;
        if (IN6_IS_ADDR_LINKLOCAL(&ipv6->sin6_addr)) {
            return false;
        }
        inet_ntop(AF_INET6, &ipv6->sin6_addr, ip, sizeof ip);
        text = mem_format("[%s]:%u", ip, ntohs(ipv6->sin6_port));
    }
    return text && address_parse(text, ret_address) == 0;
}

size_t resolve_found(const struct addrinfo *found, struct address *ret_addresses, size_t room)
{
    size_t count = 0;
    for (; found && count < room; found = found->ai_next) {
        struct address *address = &ret_addresses[count];
        bool is_new = address_of(found->ai_addr, address);
        for (size_t i = 0; is_new && i < count; i++) {
            is_new = !address_equal(&ret_addresses[i], address);
        }
        count += is_new;
    }
    return count;
}

int resolve_now(const char *text, struct address *ret_address)
{
    CLEANUP_FREE char *host = NULL;
    CLEANUP_FREE char *port = NULL;
    const int err = resolve_split(text, &host, &port);
    if (err) {
        return err;
    }
    const struct addrinfo hints = {
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
        .ai_socktype = SOCK_STREAM,
    };
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, port, &hints, &found) != 0) {
        return -EINVAL;
    }
    const size_t count = resolve_found(found, ret_address, 1);
    freeaddrinfo(found);
    return count == 1 ? 0 : -EINVAL;
}

int resolve_own(const struct address *listen, struct address *ret_address)
{
    uv_interface_address_t *interfaces = NULL;
    int interfaces_count = 0;
    if (uv_interface_addresses(&interfaces, &interfaces_count)) {
        return -ENOENT;
    }
    bool has_found = false;
    for (int i = 0; i < interfaces_count; i++) {
        struct address address = {0};
        if (interfaces[i].is_internal ||
            !address_of((const struct sockaddr *)&interfaces[i].address, &address) ||
            (address_is_ipv4(listen) && !address_is_ipv4(&address)) ||
            (has_found && (address_is_ipv4(ret_address) || !address_is_ipv4(&address)))) {
            continue;
        }
        address.port = listen->port;
        *ret_address = address;
        has_found = true;
    }
    uv_free_interface_addresses(interfaces, interfaces_count);
    return has_found ? 0 : -ENOENT;
}
