/* SPDX-License-Identifier: Apache-2.0 */
#ifndef LINK_PREAMBLE_H
#define LINK_PREAMBLE_H

/*
 * preamble: what each side says first on a connection (docs/LINK-FORMAT.md). Pure functions.
 *
 *   magic u8 = 0xA7, "artel", major u8, minor u8, size u16 of what follows
 *   verdict u8, id 20 bytes, boot nonce u64, expected id 20 bytes, number u64,
 *   known nonce u64, known number u64
 *
 * The first ten bytes are the same in all versions to come. A higher minor version may have more
 * fields behind those that we know; they are left unread.
 */

#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "wire/node_id.h"

#define PREAMBLE_MAJOR 1
#define PREAMBLE_MINOR 0
#define PREAMBLE_PREFIX_BYTES 10
#define PREAMBLE_BYTES 83u
/* With what later versions may add. */
#define PREAMBLE_BYTES_MAX 512u

struct preamble {
    uint8_t minor;
    uint8_t verdict;         /* 0, or why the receiver's connection is refused (enum link_reason) */
    struct node_id id;       /* the sender */
    uint64_t boot_nonce;     /* of the sender */
    struct node_id expected; /* the receiver, as the sender believes */
    uint64_t number;         /* the opener's, of this connection: it counts them */
    /* Of the connections that the receiver opened, the last that the sender took: in which life
     * of the receiver, and its number; 0: none. */
    uint64_t known_nonce;
    uint64_t known_number;
};

/* Appends the bytes; `minor` is ours, whatever it says. */
void preamble_format(const struct preamble *preamble, struct buf *ret_bytes);

/* Reads a preamble at the front of `bytes` and tells its size. -EAGAIN: it is not complete;
 * -EPROTONOSUPPORT: of another major version; -EPROTO: none. */
[[nodiscard]] int preamble_parse(struct bytes bytes, struct preamble *ret_preamble,
                                 size_t *ret_size);

#endif
