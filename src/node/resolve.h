/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_RESOLVE_H
#define NODE_RESOLVE_H

/*
 * resolve: texts of people as addresses: HOST:PORT, where HOST is a name or a number, IPv6 in
 * brackets.
 */

#include <netdb.h>

#include "wire/address.h"

/* Splits "HOST:PORT" or "[HOST]:PORT"; the caller frees both. -EINVAL: it is neither, or the port
 * is no number up to 65535. */
[[nodiscard]] int resolve_split(const char *text, char **ret_host, char **ret_port);

/* The first address of "HOST:PORT". Blocks while a name is looked up. -EINVAL: no such text or
 * name. */
[[nodiscard]] int resolve_now(const char *text, struct address *ret_address);

/* What getaddrinfo() found, in its order and each once; at most `room`. */
size_t resolve_found(const struct addrinfo *found, struct address *ret_addresses, size_t room);

/* Where others reach a node that listens on all addresses (address_is_any()): the first address of
 * an interface that is up and not loopback nor link-local, IPv4 before IPv6, with the port of
 * `listen`. -ENOENT: there is none. */
[[nodiscard]] int resolve_own(const struct address *listen, struct address *ret_address);

#endif
