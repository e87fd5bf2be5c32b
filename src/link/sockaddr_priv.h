/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LINK_SOCKADDR_PRIV_H
#define LINK_SOCKADDR_PRIV_H

/*
 * sockaddr: addresses as the kernel wants them.
 */

#include <sys/socket.h>

#include "wire/address.h"

/* AF_INET for a mapped IPv4 address, else AF_INET6. */
int sockaddr_family(const struct address *address);

/* In the form that a socket of `family` takes: an IPv4 address is mapped for AF_INET6. Returns its
 * size; 0: an IPv6 address is nothing for AF_INET. */
socklen_t sockaddr_from_address(const struct address *address, int family,
                                struct sockaddr_storage *ret_sockaddr);

/* Zeros if it is neither IPv4 nor IPv6. */
struct address sockaddr_to_address(const struct sockaddr *sockaddr);

#endif
