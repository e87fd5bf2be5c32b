/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

#define FAMILY_IPV4 4
#define FAMILY_IPV6 6
#define IPV4_BYTES 4

/* RFC 4291, section 2.5.5.2: what stands before an IPv4 address. */
static const uint8_t mapped_prefix[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static const uint8_t ipv6_loopback[16] = {[15] = 1};
static const uint8_t ipv6_any[16] = {0};

static const uint8_t *ipv4_of(const struct address *address)
{
    return address->ip + sizeof mapped_prefix;
}

static void set_ipv4(struct address *address, const uint8_t *ipv4)
{
    memcpy(address->ip, mapped_prefix, sizeof mapped_prefix);
    memcpy(address->ip + sizeof mapped_prefix, ipv4, IPV4_BYTES);
}

bool address_is_ipv4(const struct address *address)
{
    return memcmp(address->ip, mapped_prefix, sizeof mapped_prefix) == 0;
}

bool address_is_loopback(const struct address *address)
{
    return address_is_ipv4(address) ? ipv4_of(address)[0] == 127
                                    : memcmp(address->ip, ipv6_loopback, sizeof ipv6_loopback) == 0;
}

bool address_is_any(const struct address *address)
{
    return address_is_ipv4(address) ? memcmp(ipv4_of(address), ipv6_any, IPV4_BYTES) == 0
                                    : memcmp(address->ip, ipv6_any, sizeof ipv6_any) == 0;
}

void address_format(const struct address *address, char ret_text[ADDRESS_TEXT_CHARS + 1])
{
    const bool is_ipv4 = address_is_ipv4(address);
    char ip[INET6_ADDRSTRLEN];
    const char *text = inet_ntop(is_ipv4 ? AF_INET : AF_INET6,
                                 is_ipv4 ? ipv4_of(address) : address->ip, ip, sizeof ip);
    CHECK(text != NULL);
    snprintf(ret_text, ADDRESS_TEXT_CHARS + 1, is_ipv4 ? "%s:%" PRIu16 : "[%s]:%" PRIu16, ip,
             address->port);
}

/* One spelling: digits alone, no zero before others. */
static int parse_port(const char *text, uint16_t *ret_port)
{
    const size_t digits = strspn(text, "0123456789");
    if (digits == 0 || text[digits] || (text[0] == '0' && digits > 1)) {
        return -EINVAL;
    }
    const unsigned long port = strtoul(text, NULL, 10); /* ULONG_MAX if it does not fit */
    if (port > UINT16_MAX) {
        return -EINVAL;
    }
    *ret_port = (uint16_t)port;
    return 0;
}

int address_parse(const char *text, struct address *ret_address)
{
    const bool is_bracketed = text[0] == '[';
    const char *begin = text + is_bracketed;
    const char *end = strchr(begin, is_bracketed ? ']' : ':');
    const char *colon = end ? end + is_bracketed : NULL;
    if (!end || *colon != ':' || (size_t)(end - begin) >= INET6_ADDRSTRLEN) {
        return -EINVAL;
    }
    char ip[INET6_ADDRSTRLEN] = {0};
    memcpy(ip, begin, (size_t)(end - begin));

    struct address address;
    uint8_t ipv4[IPV4_BYTES];
    if (is_bracketed ? inet_pton(AF_INET6, ip, address.ip) != 1
                     : inet_pton(AF_INET, ip, ipv4) != 1) {
        return -EINVAL;
    }
    if (!is_bracketed) {
        set_ipv4(&address, ipv4);
    }
    const int err = parse_port(colon + 1, &address.port);
    if (!err) {
        *ret_address = address;
    }
    return err;
}

size_t address_bytes(const struct address *address)
{
    return 1 + (address_is_ipv4(address) ? IPV4_BYTES : sizeof address->ip) + sizeof address->port;
}

void field_put_address(struct buf *message, const struct address *address)
{
    const bool is_ipv4 = address_is_ipv4(address);
    const size_t ip_bytes = is_ipv4 ? IPV4_BYTES : sizeof address->ip;
    uint8_t *at = buf_extend(message, address_bytes(address));
    at[0] = is_ipv4 ? FAMILY_IPV4 : FAMILY_IPV6;
    memcpy(at + 1, is_ipv4 ? ipv4_of(address) : address->ip, ip_bytes);
    codec_put_le16(at + 1 + ip_bytes, address->port);
}

struct address field_get_address(struct field_reader *reader)
{
    struct address address = {0};
    const uint8_t family = field_get_u8(reader);
    if (family != FAMILY_IPV4 && family != FAMILY_IPV6) {
        field_fail(reader);
        return address;
    }
    const struct bytes ip =
        field_get_raw(reader, family == FAMILY_IPV4 ? IPV4_BYTES : sizeof address.ip);
    const uint16_t port = field_get_u16(reader);
    if (reader->bad) {
        return address;
    }
    if (family == FAMILY_IPV4) {
        set_ipv4(&address, ip.data);
    } else {
        memcpy(address.ip, ip.data, sizeof address.ip);
        if (address_is_ipv4(&address)) {
            field_fail(reader);
            return (struct address){0};
        }
    }
    address.port = port;
    return address;
}
