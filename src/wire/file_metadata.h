/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WIRE_FILE_METADATA_H
#define WIRE_FILE_METADATA_H

/*
 * file_metadata: what a file version is, a length and a list of blocks, and its canonical text:
 *
 *     {"length":N,"blocks":[{"id":"<64 hex>","size":n},...]}
 *
 * JSON (RFC 8259) without spaces, the keys in this order, numbers in decimal without leading
 * zeros. One version has exactly one text, and the SHA-256 of that text is the file id, so that
 * `curl -s NODE/files/$id/metadata | sha256sum` prints $id. The empty file is
 * {"length":0,"blocks":[]}.
 *
 * The parser takes the canonical text and nothing else: every other byte string is -EPROTO.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "hash/id.h"

/* The same limits as chunk's; checked against each other where both are known. */
#define FILE_METADATA_BLOCK_BYTES_MAX ((uint32_t)(16 * 1024 * 1024))
#define FILE_METADATA_LENGTH_MAX ((uint64_t)1024 * 1024 * 1024 * 1024)
/* Room for 1 TiB in blocks of 8 MiB (131,072 of them), whoever cut them. The text of this many is
 * 13,500,036 bytes at most (90 a block, 36 around them), so it fits in one block. */
#define FILE_METADATA_BLOCKS_MAX 150000u
#define FILE_METADATA_TEXT_BYTES_MAX ((size_t)16 * 1024 * 1024)

struct block_ref {
    struct id id;
    uint32_t size_bytes; /* 1 to FILE_METADATA_BLOCK_BYTES_MAX */
};

struct file_metadata {
    uint64_t length_bytes;    /* the sum of the block sizes */
    struct block_ref *blocks; /* blocks_count of them, in file order */
    size_t blocks_count;
    size_t blocks_capacity;
};

#define FILE_METADATA_INIT ((struct file_metadata){0})

void file_metadata_done(struct file_metadata *metadata);
#define CLEANUP_FILE_METADATA __attribute__((cleanup(file_metadata_done)))

/* Appends a block. -EFBIG: one of the limits above would be passed; -EINVAL: a size of 0. */
[[nodiscard]] int file_metadata_add(struct file_metadata *metadata, const struct id *id,
                                    uint32_t size_bytes);

/* The same once more; `ret_metadata` is given to file_metadata_done(). */
void file_metadata_copy(const struct file_metadata *metadata, struct file_metadata *ret_metadata);

/* Appends the canonical text to `ret_text`. */
void file_metadata_format(const struct file_metadata *metadata, struct buf *ret_text);

/* The file id: the SHA-256 of the canonical text. */
void file_metadata_id(const struct file_metadata *metadata, struct id *ret_id);

/* Parses canonical text into `ret_metadata`, which the caller gives to file_metadata_done().
 * -EPROTO: not canonical, or the length is not the sum; -EFBIG: beyond a limit. */
[[nodiscard]] int file_metadata_parse(struct bytes text, struct file_metadata *ret_metadata);

#endif
