/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_TREE_HELPERS_H
#define TESTS_UNIT_TREE_HELPERS_H

/*
 * What the tests of tree share: a tree over either kind of kv, a host that counts holds and has a
 * clock that the test turns, short words for changes, and a listing of the whole tree as text.
 *
 * Content is named by one character: file "a/b" with content 'x'.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "hash/sha256.h"
#include "kv/kv.h"
#include "tree/apply_priv.h"
#include "tree/change.h"
#include "tree/feed.h"
#include "tree/tree.h"

#define TEST_MAP_BYTES ((uint64_t)1 << 30)
#define UNKNOWN_CONTENT '?' /* the host does not know it */

/* ---- host ---- */

struct host {
    int64_t holds[256];     /* by content; of committed and of open transactions */
    int64_t published[256]; /* how often the change that asked had brought it */
    uint64_t now_ms;
};

static inline struct id content_id(char content)
{
    struct id id = {0};
    memset(id.bytes, 0x5a, sizeof id.bytes);
    id.bytes[0] = (uint8_t)content;
    return id;
}

static inline int host_hold(void *context, struct kv_txn *txn, const struct id *file,
                            bool is_published)
{
    struct host *host = context;
    (void)txn;
    host->published[file->bytes[0]] += is_published;
    if (file->bytes[0] == UNKNOWN_CONTENT) {
        return -ENOENT;
    }
    host->holds[file->bytes[0]]++;
    return 0;
}

static inline int host_release(void *context, struct kv_txn *txn, const struct id *file)
{
    struct host *host = context;
    (void)txn;
    host->holds[file->bytes[0]]--;
    assert_true(host->holds[file->bytes[0]] >= 0);
    return 0;
}

static inline uint64_t host_now_ms(void *context)
{
    return ((struct host *)context)->now_ms;
}

static inline int64_t holds_of(const struct host *host, char content)
{
    return host->holds[(uint8_t)content];
}

/* ---- fixture ---- */

struct fixture {
    struct kv *kv;
    struct tree *tree;
    struct kv_txn *txn; /* the open write transaction; begin() and commit() */
    struct host host;
    struct dot dot; /* of the last change */
    bool on_disk;
    char dir[64];
};

static inline struct origin_id origin_of(char name)
{
    struct origin_id origin;
    memset(origin.bytes, name, sizeof origin.bytes);
    return origin;
}

static inline void begin(struct fixture *fixture)
{
    assert_int_equal(kv_write(fixture->kv, &fixture->txn), 0);
}

static inline void commit(struct fixture *fixture)
{
    assert_int_equal(kv_commit(STEAL_PTR(fixture->txn)), 0);
}

static inline void fixture_open(struct fixture *fixture, char origin)
{
    const struct kv_options options = {
        .tables = tree_table_names,
        .tables_count = TREE_TABLES,
        .path = fixture->dir,
        .map_bytes = TEST_MAP_BYTES,
        .no_sync = true,
    };
    assert_int_equal(fixture->on_disk ? kv_open(&options, &fixture->kv)
                                      : kv_open_memory(&options, &fixture->kv),
                     0);
    begin(fixture);
    const struct tree_host host = {host_hold, host_release, host_now_ms, &fixture->host};
    const struct origin_id id = origin_of(origin);
    assert_int_equal(tree_open(fixture->txn, 0, &host, &id, 77, &fixture->tree), 0);
}

static inline void fixture_close(struct fixture *fixture)
{
    kv_abort(STEAL_PTR(fixture->txn));
    tree_close(STEAL_PTR(fixture->tree));
    kv_close(STEAL_PTR(fixture->kv));
}

/* A fixture of its own, whose changes go to `origin`; a transaction is open. */
static inline struct fixture *fixture_new(bool on_disk, char origin)
{
    struct fixture *fixture = mem_alloc(sizeof *fixture);
    fixture->on_disk = on_disk;
    fixture->host.now_ms = 1000;
    if (on_disk) {
        strcpy(fixture->dir, "/tmp/artel-tree-XXXXXX");
        assert_non_null(mkdtemp(fixture->dir));
    }
    fixture_open(fixture, origin);
    return fixture;
}

static inline int remove_visited(const char *path, const struct stat *info, int kind,
                                 struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    return remove(path);
}

static inline void fixture_free(struct fixture *fixture)
{
    fixture_close(fixture);
    if (fixture->on_disk) {
        assert_int_equal(nftw(fixture->dir, remove_visited, 8, FTW_DEPTH | FTW_PHYS), 0);
    }
    free(fixture);
}

static inline int setup_memory(void **state)
{
    *state = fixture_new(false, 'A');
    return 0;
}

static inline int setup_lmdb(void **state)
{
    *state = fixture_new(true, 'A');
    return 0;
}

static inline int teardown(void **state)
{
    fixture_free(*state);
    return 0;
}

/* Both kinds of kv. */
#define TEST_BOTH(test)                                                                            \
    {#test " (memory)", test, setup_memory, teardown, NULL},                                       \
    {                                                                                              \
#test " (lmdb)", test, setup_lmdb, teardown, NULL                                          \
    }

/* ---- changes ---- */

static inline struct tree_put file_put(const char *path, char content)
{
    return (struct tree_put){
        .path = bytes_of_string(path),
        .kind = TREE_FILE,
        .mode = 0644,
        .mtime_ns = 5,
        .file_id = content_id(content),
        .size_bytes = (uint64_t)content,
    };
}

static inline struct tree_put directory_put_of(const char *path)
{
    return (struct tree_put){.path = bytes_of_string(path), .kind = TREE_DIRECTORY, .mode = 0750};
}

static inline struct tree_put symlink_put(const char *path, const char *target)
{
    return (struct tree_put){
        .path = bytes_of_string(path),
        .kind = TREE_SYMLINK,
        .mode = 0777,
        .target = bytes_of_string(target),
    };
}

static inline int change_put(struct fixture *fixture, struct tree_put put)
{
    return tree_change_put(fixture->tree, fixture->txn, &put, &fixture->dot);
}

static inline int put_file(struct fixture *fixture, const char *path, char content)
{
    return change_put(fixture, file_put(path, content));
}

static inline int make_directory(struct fixture *fixture, const char *path)
{
    return change_put(fixture, directory_put_of(path));
}

static inline int delete_path(struct fixture *fixture, const char *path, bool recursive)
{
    const struct tree_delete deletion = {.path = bytes_of_string(path), .recursive = recursive};
    return tree_change_delete(fixture->tree, fixture->txn, &deletion, &fixture->dot);
}

static inline int rename_path(struct fixture *fixture, const char *from, const char *to)
{
    return tree_change_rename(fixture->tree, fixture->txn, bytes_of_string(from),
                              bytes_of_string(to), &fixture->dot);
}

/* An op of another writer as a whole, whether it is in turn or not. */
static inline int apply_whole(struct fixture *fixture, const struct tree_op *op, struct bytes bytes)
{
    CLEANUP(apply_drop) struct apply *apply = NULL;
    int err = apply_begin(fixture->tree, fixture->txn, APPLY_REMOTE, &apply);
    if (!err) {
        err = apply_op(apply, op, bytes);
    }
    return err ? err : apply_end(STEAL_PTR(apply));
}

/* ---- looking ---- */

static inline int find(struct fixture *fixture, const char *path, struct tree_entry *ret_entry)
{
    return tree_find(fixture->tree, fixture->txn, bytes_of_string(path), ret_entry);
}

static inline void format_entry(struct buf *text, struct bytes path, const struct tree_entry *entry)
{
    buf_add(text, path);
    const struct tree_version *version = &entry->version;
    if (version->kind == TREE_FILE) {
        buf_add_format(text, "=%c", version->file_id.bytes[0]);
    } else if (version->kind == TREE_SYMLINK) {
        buf_add_string(text, "->");
        buf_add(text, version->target);
    } else {
        buf_add_string(text, entry->is_explicit ? "/" : "(/)");
    }
    if (entry->heads_count > 1) {
        buf_add_format(text, "*%u", entry->heads_count);
    }
    buf_add_byte(text, ' ');
}

/* The tree below `top`, after `after`, as "a(/) a/b=x a/l->there d/ ": (/) is a directory that
 * nobody made, *n tells that there are n heads. */
static inline void list_below(struct fixture *fixture, const char *top, const char *after,
                              struct buf *ret_text)
{
    struct tree_walk *walk = NULL;
    assert_int_equal(tree_walk_open(fixture->tree, fixture->txn, bytes_of_string(top),
                                    bytes_of_string(after), &walk),
                     0);
    struct bytes path;
    struct tree_entry entry;
    int err;
    while ((err = tree_walk_next(walk, &path, &entry)) == 0) {
        format_entry(ret_text, path, &entry);
    }
    assert_int_equal(err, -ENOENT);
    assert_int_equal(tree_walk_next(walk, &path, &entry), -ENOENT);
    tree_walk_close(walk);
}

static inline void assert_tree(struct fixture *fixture, const char *expected)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    buf_add_string(&text, "");
    list_below(fixture, "", "", &text);
    assert_string_equal(text.size ? buf_string(&text) : "", expected);
}

/* The single values are what the tables say. */
static inline void check_sums(struct fixture *fixture)
{
    struct tree_summary summary;
    assert_int_equal(tree_summary(fixture->tree, fixture->txn, &summary), 0);
    uint8_t fingerprint[TREE_FINGERPRINT_BYTES];
    uint64_t entries_count = 0;
    assert_int_equal(tree_recompute(fixture->tree, fixture->txn, fingerprint, &entries_count), 0);
    assert_memory_equal(summary.fingerprint, fingerprint, sizeof fingerprint);
    assert_int_equal(summary.entries_count, entries_count);
}

/* The hash of all keys and values. */
static inline struct id dump_tables(struct kv_txn *txn)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    for (kv_table table = 0; table < TREE_TABLES; table++) {
        CLEANUP(kv_cursor_close) struct kv_cursor *cursor = NULL;
        assert_int_equal(kv_cursor_open(txn, table, &cursor), 0);
        struct bytes key;
        struct bytes value;
        while (kv_next(cursor, &key, &value) == 0) {
            buf_add_format(&text, "%zu %zu ", key.size, value.size);
            buf_add(&text, key);
            buf_add(&text, value);
        }
        buf_add_format(&text, "; ");
    }
    struct id hash;
    sha256_id(buf_bytes(&text), &hash);
    return hash;
}

/* Commits, and begins anew. */
static inline void next_txn(struct fixture *fixture)
{
    commit(fixture);
    begin(fixture);
}

#endif
