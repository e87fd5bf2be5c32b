/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_INTAKE_H
#define STORE_INTAKE_H

/*
 * intake: the content of one file version that comes from elsewhere, block by block, in any order,
 * over hours and restarts.
 *
 *     store_intake_open -> store_intake_block* -> store_intake_commit_async
 *                          | store_intake_drop | store_intake_close | store_intake_set_aside
 *
 * An intake is durable: what has come stays, across restarts and whatever is collected or evicted,
 * until the intake is committed or dropped. Until then nobody sees the file but by
 * store_file_metadata(), which has its list of blocks from the opening on.
 *
 * A block that was taken can be read at once, by store/read.h as any other. It is durable after the
 * next flush: they come by themselves, one for many blocks (each STORE_INTAKE_FLUSH_BYTES, and with
 * the first block that comes STORE_INTAKE_FLUSH_MS after the one before it), and with
 * store_intake_flush(), store_intake_close() and the commit. A crash loses what came since, and
 * nothing else.
 *
 * Threads: store_intake_block(), store_intake_have(), store_intake_progress() and
 * store_intake_flush() from any number of threads at once; the ends when no other call for this
 * intake is under way. All but
 * store_intake_commit_async() block on the disk.
 */

#include "base/bytes.h"
#include "hash/id.h"
#include "store/store.h"
#include "wire/file_metadata.h"

struct store_intake;

/* What a crash may cost; a sync of so much takes a fraction of a second. */
#define STORE_INTAKE_FLUSH_BYTES ((uint64_t)64 * 1024 * 1024)
#define STORE_INTAKE_FLUSH_MS ((uint64_t)1000)

/*
 * Begins to bring the content of `metadata` (borrowed) here, or goes on with what an earlier intake
 * of this file left: durable when it returns. Blocks that are here already, for whatever reason,
 * count, and are kept. `reason`: what the file is held for in the end; it replaces the one of an
 * earlier intake. The caller gives *ret_intake to one of the four ends above.
 *
 * -EBUSY: an intake of this file is open; -EROFS, -ENOSPC, -EIO, -ENOTRECOVERABLE.
 */
[[nodiscard]] int store_intake_open(struct store *store, const struct file_metadata *metadata,
                                    enum store_reason reason, struct store_intake **ret_intake);

/* The file, and its list of blocks; borrowed, as long as the intake is open. */
const struct id *store_intake_id(const struct store_intake *intake);
const struct file_metadata *store_intake_metadata(const struct store_intake *intake);

/* Which blocks are here: bit i % 8 of byte i / 8, the lowest first, is that of block i of the list.
 * Writes STORE_INTAKE_HAVE_BYTES(blocks_count) bytes. A block that came through somebody else since
 * the opening may be missing in it. */
#define STORE_INTAKE_HAVE_BYTES(blocks_count) (((blocks_count) + 7) / 8)
void store_intake_have(struct store_intake *intake, uint8_t *ret_have);

struct store_intake_progress {
    uint32_t blocks_count; /* that are here, by their places in the list */
    uint64_t here_bytes;
};
void store_intake_progress(struct store_intake *intake, struct store_intake_progress *ret_progress);

/*
 * Takes block `index` of the list (and all others of the same id with it). 0 without a look at
 * `bytes` if it is here. What fails changes nothing:
 *
 *   -EINVAL    no such index
 *   -EBADMSG   the size or the SHA-256 is not that of the block
 *   -ENOSPC    no room; free some and give it again
 *   -EIO, -ENOTRECOVERABLE (see store_status.failed)
 *
 * Waits for the disk while STORE_INTAKE_FLUSHES_MAX flushes are under way.
 */
#define STORE_INTAKE_FLUSHES_MAX 4
[[nodiscard]] int store_intake_block(struct store_intake *intake, uint32_t index,
                                     struct bytes bytes);

/* Makes durable what has come. -ENOSPC: nothing is lost, try again; -EIO, -ENOTRECOVERABLE. */
[[nodiscard]] int store_intake_flush(struct store_intake *intake);

/*
 * Makes the file known, whole, durable, and held for the reason of the intake (once, however often
 * it is brought here). done() is called on the writer thread, exactly once, never before this
 * returns; until then no other function may be called for the intake. 0: the intake is gone. On
 * any failure it is the caller's again, as it was:
 *
 *   -EAGAIN   a block lacks, or was found damaged meanwhile: see store_intake_have()
 *   errors of store_submit()
 */
typedef void (*store_intake_done_fn)(void *context, int err);
void store_intake_commit_async(struct store_intake *intake, store_intake_done_fn done,
                               void *context);
/* The same, waiting. Not from the writer thread. */
[[nodiscard]] int store_intake_commit(struct store_intake *intake);

/* Ends it for good: what came for it alone is collected. NULL is allowed. After a failure it can be
 * gone on with, as after store_intake_close(). The intake is gone in any case. */
[[nodiscard]] int store_intake_drop(struct store_intake *intake);

/* Puts it aside: what has come stays, for a later opening. NULL is allowed. After a failure what
 * was not flushed is lost. The intake is gone in any case. */
[[nodiscard]] int store_intake_close(struct store_intake *intake);

/* The same, with a mark for who looks at what is left: nobody waits for the file, and what came is
 * kept only in case that somebody does again. The next opening takes the mark away. After a failure
 * it may not be marked. NULL is allowed. */
[[nodiscard]] int store_intake_set_aside(struct store_intake *intake);

/* Ends an intake that is not open, as store_intake_drop(). 0 also if there is none. -EBUSY: it is
 * open; -EROFS, -ENOSPC, -EIO, -ENOTRECOVERABLE. */
[[nodiscard]] int store_intake_forget(struct store *store, const struct id *file);

/* The next file with an intake, open or closed, after `after` in the order of ids (NULL: the
 * first). Its list of blocks is that of store_file_metadata(). -ENOENT: no more. */
struct store_intake_info {
    struct id id;
    enum store_reason reason;
    bool is_aside;
};
[[nodiscard]] int store_intake_next(struct store *store, const struct id *after,
                                    struct store_intake_info *ret_info);

#endif
