/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_IDENTITY_H
#define NODE_IDENTITY_H

/*
 * identity: who this node is: an Ed25519 key pair (RFC 8032), made at the first start and kept in
 * the data directory as PKCS #8 (`node.key`, readable by its owner alone). The node id is the
 * first 160 bits of the SHA-256 of the public key; it stays when the address changes, and nobody
 * else can prove to have it.
 */

#include <stdint.h>

#define NODE_ID_BYTES 20
#define NODE_ID_HEX_CHARS 40 /* without the NUL */

struct node_id {
    uint8_t bytes[NODE_ID_BYTES];
};

void node_id_format(const struct node_id *id, char ret_hex[NODE_ID_HEX_CHARS + 1]);

/* Loads the key of the data directory at `path`, or makes it there. -EPROTO: the file holds no
 * Ed25519 key; -EIO, -EACCES, -ENOSPC. */
[[nodiscard]] int identity_open(const char *path, struct node_id *ret_id);

#endif
