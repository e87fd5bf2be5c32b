/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HASH_SHA256_H
#define HASH_SHA256_H

/*
 * sha256: SHA-256 (FIPS 180-4) by GnuTLS, which uses the processor's SHA instructions.
 * Thread-safe; a state belongs to one thread.
 */

#include "base/bytes.h"
#include "base/cleanup.h"
#include "hash/id.h"

/* The id of `data` in one go. */
void sha256_id(struct bytes data, struct id *ret_id);

/* The same for bytes that come in pieces. */
struct sha256;
struct sha256 *sha256_new(void);
void sha256_free(struct sha256 *state);
CLEANUP_DEFINE(sha256_free, struct sha256)
void sha256_add(struct sha256 *state, struct bytes data);
/* Tells the id of all that was added and begins anew. */
void sha256_take(struct sha256 *state, struct id *ret_id);

#endif
