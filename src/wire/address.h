/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_ADDRESS_H
#define WIRE_ADDRESS_H

/*
 * address: where a node is reached: an IP address and a port, the same for UDP and TCP. An IPv4
 * address is kept as RFC 4291 maps it into IPv6 (::ffff:a.b.c.d), so that one address has one
 * value. On the wire: u8 4 or 6, the 4 or 16 bytes in network order, port u16; a mapped address
 * goes as 4.
 */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "wire/fields.h"

#define ADDRESS_TEXT_CHARS 56 /* "[" 45 digits of IPv6 "]:65535", with room; without the NUL */

struct address {
    uint8_t ip[16];
    uint16_t port; /* 0: no address */
};

static inline bool address_equal(const struct address *a, const struct address *b)
{
    return a->port == b->port && memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}

bool address_is_ipv4(const struct address *address);
/* 127.0.0.0/8 or ::1. */
bool address_is_loopback(const struct address *address);
/* 0.0.0.0 or ::, which means every address of the machine and can't be sent to. */
bool address_is_any(const struct address *address);

/* "127.0.0.1:7420" or "[::1]:7420". */
void address_format(const struct address *address, char ret_text[ADDRESS_TEXT_CHARS + 1]);

/* The same back, numbers only; port 0 is taken. Another spelling of an IPv6 address is taken, one
 * of a port ("07420") is not. -EINVAL. */
[[nodiscard]] int address_parse(const char *text, struct address *ret_address);

/* Its size on the wire. */
size_t address_bytes(const struct address *address);

void field_put_address(struct buf *message, const struct address *address);
/* A family other than 4 and 6, or a mapped address as 6, is a fault of the reader. */
struct address field_get_address(struct field_reader *reader);

#endif
