/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_READ_H
#define STORE_READ_H

/*
 * read: bytes come out, checked.
 *
 * Every 64 KiB of a block carry a CRC32C; no byte is handed out before the CRC of its span was
 * right. A wrong one is looked up again (the block may have been moved or removed meanwhile); if
 * it stays wrong, the block's place is verified by SHA-256 and dropped, and the answer is -EBADMSG
 * unless another place has the bytes. A file outside whose inode, size, mtime or ctime differ from
 * the registered ones is withdrawn with all its blocks.
 */

#include "base/bytes.h"
#include "hash/id.h"
#include "store/store.h"
#include "wire/file_metadata.h"

/* True if a good place of the block is known. */
[[nodiscard]] bool store_has_block(struct store *store, const struct id *id);

/* -ENOENT if the block is not here (or lost). */
[[nodiscard]] int store_block_size(struct store *store, const struct id *id,
                                   uint32_t *ret_size_bytes);

/* Copies [offset, offset + size) of the block into `data`. -ENOENT: not here; -EINVAL: beyond its
 * end; -EBADMSG: damaged; -EIO. After a failure the content of `data` is not defined. */
[[nodiscard]] int store_read_block(struct store *store, const struct id *id, uint32_t offset_bytes,
                                   void *data, uint32_t size_bytes);

/* A block as checked memory: the mapped segment where it lies in one, else a copy (always a copy in
 * a store that is open for reading only). While the view is open its bytes stay what they are. */
struct store_view {
    struct bytes bytes;
    struct store *store; /* the rest is private */
    struct id id;
    struct segment *segment;
    struct reservation *hold;
    void *copy;
};

[[nodiscard]] int store_view_open(struct store *store, const struct id *id,
                                  struct store_view *ret_view);
void store_view_close(struct store_view *view);

/* A block that leaves piece by piece, as copies that are checked while they are made: unlike a
 * view, nothing is read ahead of its turn, and what the caller has can't change any more. While the
 * reader is open its block stays, as with a view. One thread at a time. */
struct store_reader;

/* -ENOENT, -EIO. */
[[nodiscard]] int store_reader_open(struct store *store, const struct id *id,
                                    struct store_reader **ret_reader);
/* As store_read_block(), and fastest if the piece begins and ends with a span of 64 KiB or with
 * the block. */
[[nodiscard]] int store_reader_copy(struct store_reader *reader, uint32_t offset_bytes, void *data,
                                    uint32_t size_bytes);
/* NULL is allowed. */
void store_reader_close(struct store_reader *reader);

/* Tells the store that a block from here was wrong (its SHA-256 did not match at the receiver).
 * It is verified, and dropped if that is so. *ret_dropped tells. Blocks on the disk. */
[[nodiscard]] int store_report_bad(struct store *store, const struct id *id, bool *ret_dropped);

/* The list of blocks of a file version, all of them here or not. -ENOENT, -EBADMSG (the list does
 * not hash to its id), -EIO. The caller gives *ret_metadata to file_metadata_done(). */
[[nodiscard]] int store_file_metadata(struct store *store, const struct id *id,
                                      struct file_metadata *ret_metadata);

#endif
