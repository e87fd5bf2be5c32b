/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_INDEX_PRIV_H
#define STORE_INDEX_PRIV_H

/*
 * index: the tables of the store and the changes that keep them consistent with each other. The
 * formats of all keys and values are in docs/STORE-FORMAT.md.
 *
 * Threads: changes on the writer thread, inside its transaction; lookups anywhere.
 */

#include "hash/id.h"
#include "kv/kv.h"
#include "store/block_record_priv.h"
#include "store/segments_priv.h"
#include "store/store.h"

enum index_table {
    TABLE_META,         /* name -> number */
    TABLE_OPEN,         /* segment -> its class: takes appends or did so lately */
    TABLE_BLOCKS,       /* block id -> struct block_record */
    TABLE_PLACES,       /* (container, offset) -> block id, size: every used range, in order */
    TABLE_SEGMENTS,     /* segment -> struct segment_row */
    TABLE_EXTERNALS,    /* number -> struct external */
    TABLE_FILES,        /* file id -> struct file_row, its first blocks */
    TABLE_FILE_BLOCKS,  /* (file id, part) -> more blocks */
    TABLE_UNREFERENCED, /* (since, kind, id) -> nothing: held by nobody */
    TABLE_DEAD,         /* (since, segment, offset) -> size: to be given back */
    TABLE_CACHE,        /* (since, block id) -> size: may be evicted, the oldest first */
    TABLE_LOST,         /* block id -> nothing: held, and no good place known */
    TABLE_FETCHES,      /* (file id, part) -> reason, bits of counted blocks: intakes */
    TABLE_FOLLOWED,     /* SHA-256 of a path -> struct followed */
    INDEX_TABLES,
};

extern const char *const index_table_names[INDEX_TABLES];

/* Numbers in TABLE_META. */
#define META_CLOCK "clock"                 /* store time at the last change */
#define META_CLEAN "clean"                 /* 1: closed in good order */
#define META_NEXT_SEGMENT "next-segment"   /* the first number that no commit has named */
#define META_NEXT_EXTERNAL "next-external" /* likewise */
#define META_CACHE_BYTES "cache-bytes"     /* the sum over TABLE_CACHE */
#define META_ABSENT "absent"               /* blocks that are held and have no place */

/* 0 if there is none. */
[[nodiscard]] int index_number(struct kv_txn *txn, const char *name, uint64_t *ret_number);
[[nodiscard]] int index_set_number(struct kv_txn *txn, const char *name, uint64_t number);

/* Keys. */
#define PLACE_KEY_BYTES 16
#define PLACE_VALUE_BYTES (ID_BYTES + 4)
#define DEAD_KEY_BYTES 24
#define QUEUE_KEY_BYTES (8 + 1 + ID_BYTES)
#define CACHE_KEY_BYTES (8 + ID_BYTES)
enum queue_kind { QUEUE_BLOCK, QUEUE_FILE };

void index_place_key(const struct location *location, uint8_t ret_key[PLACE_KEY_BYTES]);

/* One used range. */
struct place {
    struct location location;
    struct id id;
    uint32_t size_bytes;
};
[[nodiscard]] int index_decode_place(struct bytes key, struct bytes value, struct place *ret_place);

/* Up to `limit` places from `from` on, in order, all of one container if `one_container`. Opens a
 * snapshot of its own. */
[[nodiscard]] int index_list_places(struct kv *kv, const struct location *from, bool one_container,
                                    size_t limit, struct place *ret_places, size_t *ret_count);

struct segment_row {
    uint64_t end_bytes;  /* of the last range ever named */
    uint64_t live_bytes; /* of ranges named now */
};

[[nodiscard]] int index_segment(struct kv_txn *txn, uint64_t number, struct segment_row *ret_row);
/* The same in a snapshot of its own: as of now. */
[[nodiscard]] int index_segment_now(struct kv *kv, uint64_t number, struct segment_row *ret_row);
[[nodiscard]] int index_decode_segment(struct bytes value, struct segment_row *ret_row);
[[nodiscard]] int index_remove_segment(struct kv_txn *txn, uint64_t number);
[[nodiscard]] int index_close_segment(struct kv_txn *txn, uint64_t number);

/* Blocks. -ENOENT; -EIO: damaged. */
[[nodiscard]] int index_block(struct kv_txn *txn, const struct id *id,
                              struct block_record *ret_record);
/* Writes `record` and brings the queues in line with it: held by nobody, evictable, lost. A record
 * with neither holder nor place is removed. */
[[nodiscard]] int index_put_block(struct store *store, struct kv_txn *txn, const struct id *id,
                                  struct block_record *record);
/* The same for a block that is not in the index, with a holder and a place: no queue has it. */
[[nodiscard]] int index_put_new_block(struct store *store, struct kv_txn *txn, const struct id *id,
                                      struct block_record *record);
/* Writes `record` alone, for a change that is completed by index_put_block() in the same apply. */
[[nodiscard]] int index_put_block_raw(struct kv_txn *txn, const struct id *id,
                                      const struct block_record *record);

/* Puts an evictable block at the end of the cache queue; does nothing for others. */
[[nodiscard]] int index_refresh_cached(struct store *store, struct kv_txn *txn, const struct id *id,
                                       struct block_record *record);

/* Adds to `record` a place in a segment (whose class is `segment_class`) or outside, and accounts
 * for it. The caller puts the record. */
[[nodiscard]] int index_add_location(struct store *store, struct kv_txn *txn, const struct id *id,
                                     struct block_record *record, const struct location *location,
                                     enum segment_class segment_class);
/* Takes locations[index] out of `record`; its bytes become dead. The caller puts the record. */
[[nodiscard]] int index_remove_location(struct store *store, struct kv_txn *txn,
                                        struct block_record *record, uint8_t index);

/* Names a range of a segment that nothing lives in. The segment has a row. */
[[nodiscard]] int index_add_dead(struct store *store, struct kv_txn *txn,
                                 const struct location *location, uint64_t size_bytes);
/* The same for a range that was reserved and is not needed: nothing may have been named in its
 * segment yet, and without a row the segment would never be looked at again. It is due at once:
 * what no commit named nobody reads. */
[[nodiscard]] int index_add_unused(struct kv_txn *txn, const struct location *location,
                                   uint32_t size_bytes, enum segment_class segment_class);

/* The queue of what nobody holds. */
[[nodiscard]] int index_enqueue(struct kv_txn *txn, uint64_t since_ms, enum queue_kind kind,
                                const struct id *id);
[[nodiscard]] int index_dequeue(struct kv_txn *txn, uint64_t since_ms, enum queue_kind kind,
                                const struct id *id);

/* kv_delete() that does not mind if the key is not there. */
[[nodiscard]] int index_forget(struct kv_txn *txn, enum index_table table, struct bytes key);

#endif
