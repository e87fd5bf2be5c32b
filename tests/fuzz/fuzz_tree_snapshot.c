/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A snapshot from another node. The input is one without the hash at its end, which is added, so
 * that more than that is reached. What passes the check is merged into a tree that has a little of
 * its own, in each mode and in steps, and then: the single values are what the tables say, nothing
 * of this tree's own that the snapshot cannot know is lost, and the snapshot that the tree writes
 * passes, too.
 */

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "fuzz.h"
#include "hash/sha256.h"
#include "kv/kv.h"
#include "tree/change.h"
#include "tree/snapshot.h"

#define STEP_RECORDS 3

static int hold(void *context, struct kv_txn *txn, const struct id *file, bool is_published)
{
    (void)is_published;
    (void)context;
    (void)txn;
    return file->bytes[0] % 2 ? 0 : -ENOENT;
}

static int release(void *context, struct kv_txn *txn, const struct id *file)
{
    (void)context;
    (void)txn;
    CHECK(file->bytes[0] % 2);
    return 0;
}

static uint64_t now_ms(void *context)
{
    (void)context;
    return 1;
}

static int read_buf(void *context, uint64_t offset, void *ret_bytes, size_t size)
{
    const struct buf *file = context;
    CHECK(offset <= file->size && size <= file->size - offset);
    memcpy(ret_bytes, file->data + offset, size);
    return 0;
}

static int append(void *context, struct bytes bytes)
{
    buf_add(context, bytes);
    return 0;
}

static struct origin_id origin_of(uint8_t byte)
{
    struct origin_id origin;
    memset(origin.bytes, byte, sizeof origin.bytes);
    return origin;
}

/* Something of its own: a symlink, so that no content matters. */
static void change(const struct tree *tree, struct kv_txn *txn, const char *path)
{
    const struct tree_put put = {
        .path = bytes_of_string(path),
        .kind = TREE_SYMLINK,
        .mode = 0777,
        .target = bytes_of_string("t"),
    };
    struct dot dot;
    const int err = tree_change_put(tree, txn, &put, &dot);
    CHECK(err == 0 || err == -ENOTDIR || err == -EISDIR || err == -EINVAL);
}

static void check_tree(const struct tree *tree, struct kv_txn *txn)
{
    struct tree_summary summary;
    uint8_t fingerprint[TREE_FINGERPRINT_BYTES];
    uint64_t count = 0;
    CHECK(tree_summary(tree, txn, &summary) == 0);
    CHECK(tree_recompute(tree, txn, fingerprint, &count) == 0);
    CHECK(memcmp(fingerprint, summary.fingerprint, sizeof fingerprint) == 0);
    CHECK(count == summary.entries_count && !summary.is_merging);
}

static void check_written(const struct tree *tree, struct kv_txn *txn)
{
    CLEANUP_BUF struct buf file = BUF_INIT;
    struct tree_snapshot_info info;
    CHECK(tree_snapshot_write(tree, txn, append, &file, &info) == 0);
    const struct tree_snapshot_source source = {read_buf, &file, file.size};
    CHECK(tree_snapshot_check(&source, &info) == 0);
}

static void merge(const struct tree *tree, struct kv_txn *txn,
                  const struct tree_snapshot_source *source, enum tree_merge_mode mode)
{
    struct tree_snapshot *snapshot = NULL;
    CHECK(tree_snapshot_open(source, &snapshot) == 0);
    const struct tree_merge_options options = {.mode = mode};
    const int err = tree_merge_begin(tree, txn, snapshot, &options);
    if (err) {
        CHECK(err == -EPROTO || (err == -EAGAIN && mode != TREE_MERGE_NORMAL));
        tree_snapshot_close(snapshot);
        return;
    }
    bool is_done = false;
    for (unsigned i = 0; !is_done; i++) {
        CHECK(tree_merge_step(tree, txn, snapshot, STEP_RECORDS, &is_done) == 0);
        if (i == 1 && !is_done) {
            change(tree, txn, "a/own");
        }
    }
    tree_snapshot_close(snapshot);
    check_tree(tree, txn);
    check_written(tree, txn);
}

static void merge_into_tree(const struct tree_snapshot_source *source, enum tree_merge_mode mode)
{
    const struct kv_options options = {.tables = tree_table_names, .tables_count = TREE_TABLES};
    const struct tree_host host = {hold, release, now_ms, NULL};
    const struct origin_id origin = origin_of('B');
    struct kv *kv = NULL;
    struct kv_txn *txn = NULL;
    struct tree *tree = NULL;
    CHECK(kv_open_memory(&options, &kv) == 0);
    CHECK(kv_write(kv, &txn) == 0);
    CHECK(tree_open(txn, 0, &host, &origin, 1, &tree) == 0);
    change(tree, txn, "d/own");
    merge(tree, txn, source, mode);
    kv_abort(txn);
    tree_close(tree);
    kv_close(kv);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_BUF struct buf file = BUF_INIT;
    struct id hash;
    buf_add(&file, BYTES(data, size));
    sha256_id(BYTES(data, size), &hash);
    buf_add(&file, id_bytes(&hash));
    const struct tree_snapshot_source source = {read_buf, &file, file.size};
    struct tree_snapshot_info info;
    const int err = tree_snapshot_check(&source, &info);
    if (err) {
        CHECK(err == -EPROTO || err == -EPROTONOSUPPORT);
        return 0;
    }
    CHECK(info.bytes == file.size);
    merge_into_tree(&source, TREE_MERGE_NORMAL);
    merge_into_tree(&source, TREE_MERGE_UNION);
    return 0;
}
