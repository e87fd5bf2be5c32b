/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KV_KV_PRIV_H
#define KV_KV_PRIV_H

/*
 * kv_priv: what kv.c shares with the implementations below it.
 *
 * kv.c checks arguments, counts changes, keeps the first failure of a transaction and where a
 * cursor stands; an implementation is only ever asked for what makes sense. Each embeds these
 * structs as the first member of its own.
 */

#include "kv/kv.h"

struct kv_ops {
    void (*close)(struct kv *kv);
    uint64_t (*version)(struct kv *kv);
    int (*read)(struct kv *kv, struct kv_txn **ret_txn);
    int (*write)(struct kv *kv, struct kv_txn **ret_txn);
    int (*commit)(struct kv_txn *txn);
    void (*abort)(struct kv_txn *txn);
    uint64_t (*snapshot)(struct kv_txn *txn);

    int (*get)(struct kv_txn *txn, kv_table table, struct bytes key, struct bytes *ret_value);
    int (*put)(struct kv_txn *txn, kv_table table, struct bytes key, struct bytes value);
    int (*append)(struct kv_txn *txn, kv_table table, struct bytes key, struct bytes value);
    int (*remove)(struct kv_txn *txn, kv_table table, struct bytes key);
    int (*count)(struct kv_txn *txn, kv_table table, uint64_t *ret_count);

    int (*cursor_open)(struct kv_txn *txn, kv_table table, struct kv_cursor **ret_cursor);
    void (*cursor_close)(struct kv_cursor *cursor);
    /* An empty key: to the first. */
    int (*seek)(struct kv_cursor *cursor, struct bytes key, struct bytes *ret_key,
                struct bytes *ret_value);
    /* An empty key: to the last. */
    int (*seek_before)(struct kv_cursor *cursor, struct bytes key, struct bytes *ret_key,
                       struct bytes *ret_value);
    /* Only while the cursor stands at a key and the table has not changed since. */
    int (*next)(struct kv_cursor *cursor, struct bytes *ret_key, struct bytes *ret_value);
};

struct kv {
    const struct kv_ops *ops;
    size_t tables_count;
    bool read_only;
};

struct kv_txn {
    struct kv *kv;
    bool writes;
    int failed; /* the first failure that leaves no way on; every later call repeats it */
    uint64_t changes;
    uint64_t table_changes[KV_TABLES_MAX];
};

enum kv_place {
    KV_PLACE_BEFORE, /* before the first key: kv_next() goes to it */
    KV_PLACE_AT,     /* at a key */
    KV_PLACE_AFTER,  /* after the last key */
};

struct kv_cursor {
    struct kv_txn *txn;
    kv_table table;
    enum kv_place place;
    uint64_t table_changes; /* of its table when it last moved */
};

#endif
