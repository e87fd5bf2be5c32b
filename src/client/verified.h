/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_VERIFIED_H
#define CLIENT_VERIFIED_H

/*
 * verified: the content of a file version, checked block by block as it comes. A block is passed
 * on when all of it is here and its SHA-256 is its id; nothing of a wrong one ever is.
 */

#include "base/bytes.h"
#include "wire/file_metadata.h"

struct verified;

/* Gets checked bytes in file order. An error ends it. */
typedef int verified_write(void *context, struct bytes data);

/* `metadata` outlives it. */
struct verified *verified_new(const struct file_metadata *metadata, verified_write *write,
                              void *context);
void verified_free(struct verified *verified);

/* The next bytes of the content. -EBADMSG: a wrong block, or more bytes than there should be; or
 * what `write` returned. */
[[nodiscard]] int verified_add(struct verified *verified, struct bytes data);

/* 0 if all of the content came; -EBADMSG: too little. */
[[nodiscard]] int verified_end(const struct verified *verified);

/* Forgets what came of a block that is not complete; the content goes on at the byte told. */
uint64_t verified_restart(struct verified *verified);

/* Which block was wrong, or is the next one. */
size_t verified_block(const struct verified *verified);

#endif
