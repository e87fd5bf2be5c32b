/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_IDENTITY_H
#define NODE_IDENTITY_H

/*
 * identity: who this node is: an Ed25519 key pair (RFC 8032), made at the first start and kept in
 * the data directory as PKCS #8 (`node.key`, readable by its owner alone). The node id is the
 * first 160 bits of the SHA-256 of the public key; it stays when the address changes, and nobody
 * else can prove to have it.
 */

#include "wire/node_id.h"

/* Loads the key of the data directory at `path`, or makes it there. -EPROTO: the file holds no
 * Ed25519 key; -EIO, -EACCES, -ENOSPC. */
[[nodiscard]] int identity_open(const char *path, struct node_id *ret_id);

#endif
