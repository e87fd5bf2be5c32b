/* SPDX-License-Identifier: Apache-2.0 */
/*
 * node_work: a node in this process that does what it is told, for the fault sweep of
 * tests/integration/test_node_faults.py: starting a whole node for each fault would take a hundred
 * times as long.
 *
 *   node_work DATA SEGMENT_BYTES     opens the node and runs the commands on standard input:
 *       put PATH SOURCE              publishes the content of the file SOURCE
 *       atomic PATH SOURCE           publishes the tar stream SOURCE as a directory, in one step
 *       merge PATH SOURCE            the same, not in one step
 *       mkdir PATH
 *       rename FROM TO
 *       delete PATH                  with all that is below it
 *       take SOURCE                  brings the content of the file SOURCE into the store, for its
 *                                    cache, as from other nodes: in two sittings
 *       leave SOURCE                 begins to do so, and gives it up
 *       forget                       drops the history, and collects, reclaims and compacts all
 *                                    that can be
 *       verify                       compares everything with its id, and prints the tree
 *       account                      nothing is lost, no segment is there that the index has not
 *
 * For each command there is a line on standard output when it is over, written at once: `ok N`, or
 * `failed N ERROR`, with N from 1. Command 0 is the opening, the last one the closing. Words have
 * no blanks. `verify` prints a line for each file (`file PATH ID`, for what was taken
 * `file taken/ID ID`) and each directory that somebody made (`directory PATH`) first, `forget` one
 * with what compaction moved.
 */

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "hash/sha256.h"
#include "http/tar_priv.h"
#include "node/node.h"
#include "store/hold.h"
#include "store/intake.h"
#include "store/maintain.h"
#include "store/put.h"
#include "store/read.h"
#include "store/writer.h"
#include "tree/change.h"
#include "wire/file_metadata.h"

#define SOURCE_BYTES_MAX ((size_t)16 * 1024 * 1024)
/* Of a file below 256 MiB. */
#define BLOCK_BYTES ((size_t)256 * 1024)
/* As HTTP hands it over: in pieces. */
#define PIECE_BYTES ((size_t)24 * 1024)
#define LINE_BYTES_MAX 4096
#define FORGET_ROWS 64

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *format, ...)
{
    char line[LINE_BYTES_MAX + 256];
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    CHECK(size > 0 && (size_t)size < sizeof line);
    CHECK(file_write_all(STDOUT_FILENO, BYTES((const uint8_t *)line, (size_t)size)) == 0);
}

/* ---- changes -------------------------------------------------------------------------------- */

enum kind { KIND_PUT, KIND_MKDIR, KIND_RENAME, KIND_DELETE };

struct work {
    enum kind kind;
    struct bytes path;
    struct bytes to;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_done;
    int err;
};

static int apply(void *context, const struct tree *tree, struct kv_txn *txn,
                 const struct store_put_result *results)
{
    const struct work *work = context;
    struct dot dot;
    struct tree_put put = {.path = work->path, .mode = 0644};
    const struct tree_delete deletion = {.path = work->path, .recursive = true};
    switch (work->kind) {
    case KIND_PUT:
        put.kind = TREE_FILE;
        put.file_id = results[0].id;
        put.size_bytes = results[0].length_bytes;
        return tree_change_put(tree, txn, &put, &dot);
    case KIND_MKDIR:
        put.kind = TREE_DIRECTORY;
        return tree_change_put(tree, txn, &put, &dot);
    case KIND_RENAME:
        return tree_change_rename(tree, txn, work->path, work->to, &dot);
    case KIND_DELETE:
    default:
        return tree_change_delete(tree, txn, &deletion, &dot);
    }
}

static void done(void *context, int err, const struct store_put_result *results)
{
    (void)results;
    struct work *work = context;
    pthread_mutex_lock(&work->lock);
    work->err = err;
    work->is_done = true;
    pthread_cond_signal(&work->changed);
    pthread_mutex_unlock(&work->lock);
}

static int change(struct node *node, enum kind kind, const char *path, const char *to,
                  struct store_put *put)
{
    struct work work = {
        .kind = kind,
        .path = bytes_of_string(path),
        .to = bytes_of_string(to),
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .changed = PTHREAD_COND_INITIALIZER,
    };
    const struct node_change request = {
        .puts = &put,
        .puts_count = put ? 1 : 0,
        .apply = apply,
        .done = done,
        .context = &work,
    };
    node_change_async(node, &request);
    pthread_mutex_lock(&work.lock);
    while (!work.is_done) {
        pthread_cond_wait(&work.changed, &work.lock);
    }
    pthread_mutex_unlock(&work.lock);
    return work.err;
}

static void read_source(const char *path, struct buf *content)
{
    CHECK(file_read_path(AT_FDCWD, path, SOURCE_BYTES_MAX, content) == 0);
}

static int put_file(struct node *node, const char *path, const char *source)
{
    CLEANUP_BUF struct buf content = BUF_INIT;
    read_source(source, &content);
    struct store_put *put = NULL;
    int err = store_put_begin(node_store(node), STORE_ORIGIN, &put);
    for (size_t at = 0; !err && at < content.size; at += PIECE_BYTES) {
        const size_t left = content.size - at;
        err =
            store_put_write(put, BYTES(content.data + at, left < PIECE_BYTES ? left : PIECE_BYTES));
    }
    if (err) {
        store_put_abort(put);
        return err;
    }
    return change(node, KIND_PUT, path, "", put);
}

struct stream {
    struct buf content;
    size_t at;
};

static int read_stream(void *context, struct bytes *ret_bytes)
{
    struct stream *stream = context;
    const size_t left = stream->content.size - stream->at;
    const size_t size = left < PIECE_BYTES ? left : PIECE_BYTES;
    *ret_bytes = BYTES(stream->content.data + stream->at, size);
    stream->at += size;
    return 0;
}

static int put_directory(struct node *node, const char *path, const char *source, bool is_atomic)
{
    struct stream stream = {.content = BUF_INIT};
    read_source(source, &stream.content);
    const struct tar_source tar = {.read = read_stream, .context = &stream};
    const struct tar_options options = {
        .node = node,
        .path = bytes_of_string(path),
        .is_atomic = is_atomic,
    };
    struct tar_result result;
    tar_unpack(&options, &tar, &result);
    buf_done(&stream.content);
    free(result.message);
    return result.err;
}

/* ---- content from elsewhere ----------------------------------------------------------------- */

static struct bytes block_of(const struct buf *content, size_t index)
{
    const size_t left = content->size - index * BLOCK_BYTES;
    return BYTES(content->data + index * BLOCK_BYTES, left < BLOCK_BYTES ? left : BLOCK_BYTES);
}

/* What is said to be here can be read. */
static int verify_intake(struct store *store, struct store_intake *intake,
                         const struct buf *content)
{
    const struct file_metadata *metadata = store_intake_metadata(intake);
    CLEANUP_FREE uint8_t *have = mem_alloc(STORE_INTAKE_HAVE_BYTES(metadata->blocks_count) + 1);
    store_intake_have(intake, have);
    int err = 0;
    for (size_t i = 0; !err && i < metadata->blocks_count; i++) {
        struct store_view view;
        if (!((have[i / 8] >> (i % 8)) & 1)) {
            continue;
        }
        err = store_view_open(store, &metadata->blocks[i].id, &view);
        if (!err) {
            err = bytes_equal(view.bytes, block_of(content, i)) ? 0 : -EBADMSG;
            store_view_close(&view);
        }
    }
    return err;
}

/* Gives blocks from the last one on, every `step`th. */
static int give_blocks(struct store_intake *intake, const struct buf *content, size_t step)
{
    int err = 0;
    for (size_t i = store_intake_metadata(intake)->blocks_count; !err && i > 0;
         i -= i < step ? i : step) {
        err = store_intake_block(intake, (uint32_t)(i - 1), block_of(content, i - 1));
    }
    return err;
}

static int open_intake(struct store *store, const struct buf *content,
                       struct store_intake **ret_intake)
{
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    for (size_t i = 0; i * BLOCK_BYTES < content->size; i++) {
        struct id id;
        sha256_id(block_of(content, i), &id);
        CHECK(file_metadata_add(&metadata, &id, (uint32_t)block_of(content, i).size) == 0);
    }
    return store_intake_open(store, &metadata, STORE_CACHE, ret_intake);
}

/* Every other block, and the rest in another sitting; or, with `is_left`, no more. */
static int take(struct store *store, const char *source, bool is_left)
{
    CLEANUP_BUF struct buf content = BUF_INIT;
    read_source(source, &content);
    struct store_intake *intake = NULL;
    int err = open_intake(store, &content, &intake);
    if (err) {
        return err;
    }
    err = give_blocks(intake, &content, 2);
    if (is_left) {
        const int failed = store_intake_drop(intake);
        return err ? err : failed;
    }
    const int failed = store_intake_close(intake);
    err = err ? err : failed;
    if (!err) {
        err = open_intake(store, &content, &intake);
    }
    if (err) {
        return err;
    }
    err = verify_intake(store, intake, &content);
    if (!err) {
        err = give_blocks(intake, &content, 1);
    }
    if (!err) {
        err = verify_intake(store, intake, &content);
    }
    if (!err) {
        err = store_intake_commit(intake);
    }
    if (err) {
        (void)!store_intake_close(intake);
    }
    return err;
}

/* ---- what nobody asks for ------------------------------------------------------------------- */

struct forget_job {
    struct store_job job;
    struct node *node;
    bool more;
};

static int forget_apply(struct store_job *base, struct kv_txn *txn)
{
    struct forget_job *job = CONTAINER_OF(base, struct forget_job, job);
    const uint64_t now_ms = store_now_ms(node_store(job->node));
    return tree_expire(node_tree(job->node), txn, now_ms + 1, FORGET_ROWS, &job->more);
}

static int give_back(struct store *store, uint64_t *ret_moved_bytes)
{
    const struct store_grace none = {0};
    uint64_t moved_bytes = 0;
    bool more = true;
    int err = 0;
    while (!err && more) {
        size_t removed = 0;
        err = store_collect(store, &none, FORGET_ROWS, &removed, &more);
    }
    more = true;
    while (!err && more) {
        uint64_t ranges = 0;
        err = store_reclaim(store, &none, FORGET_ROWS, &ranges, &more);
    }
    more = true;
    while (!err && more) {
        err = store_compact(store, &moved_bytes, &more);
        *ret_moved_bytes += err ? 0 : moved_bytes;
    }
    return err ? err : store_tidy(store, &none);
}

static int forget(struct node *node)
{
    struct forget_job job = {.job = {.apply = forget_apply}, .node = node, .more = true};
    int err = 0;
    while (!err && job.more) {
        err = store_submit_wait(node_store(node), &job.job);
    }
    uint64_t moved_bytes = 0;
    if (!err) {
        err = give_back(node_store(node), &moved_bytes);
    }
    say("moved %llu\n", (unsigned long long)moved_bytes);
    return err;
}

/* ---- verify --------------------------------------------------------------------------------- */

/* As HTTP sends it: from mapped memory. */
static int verify_view(struct store *store, const struct id *block, struct bytes expected)
{
    struct store_view view;
    int err = store_view_open(store, block, &view);
    if (err) {
        return err;
    }
    err = bytes_equal(view.bytes, expected) ? 0 : -EBADMSG;
    store_view_close(&view);
    return err;
}

static int verify_file(struct store *store, const struct id *id, uint64_t size_bytes)
{
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    int err = store_file_metadata(store, id, &metadata);
    if (!err && metadata.length_bytes != size_bytes) {
        err = -EBADMSG;
    }
    for (size_t i = 0; !err && i < metadata.blocks_count; i++) {
        const struct block_ref *block = &metadata.blocks[i];
        CLEANUP_FREE uint8_t *data = mem_alloc(block->size_bytes);
        struct id actual;
        err = store_read_block(store, &block->id, 0, data, block->size_bytes);
        if (!err) {
            sha256_id(BYTES(data, block->size_bytes), &actual);
            err = id_equal(&actual, &block->id) ? 0 : -EBADMSG;
        }
        if (!err) {
            err = verify_view(store, &block->id, BYTES(data, block->size_bytes));
        }
    }
    return err;
}

static int verify_tree(struct node *node)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct tree_walk *walk = NULL;
    int err = node_snapshot(node, &txn);
    if (!err) {
        err = tree_walk_open(node_tree(node), txn, BYTES(NULL, 0), BYTES(NULL, 0), &walk);
    }
    while (!err) {
        struct bytes path;
        struct tree_entry entry;
        err = tree_walk_next(walk, &path, &entry);
        if (!err && entry.version.kind == TREE_FILE) {
            char hex[ID_HEX_CHARS + 1];
            id_format(&entry.version.file_id, hex);
            say("file %.*s %s\n", (int)path.size, (const char *)path.data, hex);
            err = verify_file(node_store(node), &entry.version.file_id, entry.version.size_bytes);
        } else if (!err && entry.is_explicit) {
            say("directory %.*s\n", (int)path.size, (const char *)path.data);
        }
    }
    tree_walk_close(walk);
    return err == -ENOENT ? 0 : err;
}

static int verify_taken(struct store *store)
{
    struct store_file_info info;
    int err = store_next_file(store, NULL, &info);
    while (!err) {
        const struct id id = info.id;
        if (info.holders[STORE_CACHE] > 0) {
            char hex[ID_HEX_CHARS + 1];
            id_format(&id, hex);
            say("file taken/%s %s\n", hex, hex);
            err = verify_file(store, &id, info.length_bytes);
        }
        if (!err) {
            err = store_next_file(store, &id, &info);
        } else if (err == -ENOENT) {
            err = -EBADMSG; /* of a block */
        }
    }
    return err == -ENOENT ? 0 : err;
}

/* Files in segments/ that the index does not know are space that nobody gives back. */
static int account(const char *data, struct store *store)
{
    struct store_status status;
    const int err = store_status(store, &status);
    if (err) {
        return err;
    }
    CLEANUP_FREE char *path = mem_format("%s/segments", data);
    DIR *dir = opendir(path);
    CHECK(dir);
    uint64_t count = 0;
    for (const struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        count += entry->d_name[0] != '.';
    }
    closedir(dir);
    return count == status.segments_count && status.lost_count == 0 ? 0 : -EBADMSG;
}

static int verify(struct node *node)
{
    bool matches = false;
    struct store_scrub_report report = {0};
    const struct store_scrub_options options = {0};
    int err = verify_tree(node);
    if (!err) {
        err = verify_taken(node_store(node));
    }
    if (!err) {
        err = node_check_tree(node, &matches);
    }
    if (!err) {
        err = store_scrub(node_store(node), &options, &report);
    }
    return err || (matches && report.blocks_bad == 0 && report.files_hit == 0) ? err : -EBADMSG;
}

/* ---- commands ------------------------------------------------------------------------------- */

static int run(const char *data, struct node *node, char *line)
{
    char *rest = NULL;
    const char *name = strtok_r(line, " \n", &rest);
    const char *path = strtok_r(NULL, " \n", &rest);
    const char *other = strtok_r(NULL, " \n", &rest);
    CHECK(name);
    if (strcmp(name, "forget") == 0) {
        return forget(node);
    }
    if (strcmp(name, "verify") == 0) {
        return verify(node);
    }
    if (strcmp(name, "account") == 0) {
        return account(data, node_store(node));
    }
    CHECK(path);
    if (strcmp(name, "mkdir") == 0) {
        return change(node, KIND_MKDIR, path, "", NULL);
    }
    if (strcmp(name, "delete") == 0) {
        return change(node, KIND_DELETE, path, "", NULL);
    }
    if (strcmp(name, "take") == 0 || strcmp(name, "leave") == 0) {
        return take(node_store(node), path, strcmp(name, "leave") == 0);
    }
    CHECK(other);
    if (strcmp(name, "put") == 0) {
        return put_file(node, path, other);
    }
    if (strcmp(name, "rename") == 0) {
        return change(node, KIND_RENAME, path, other, NULL);
    }
    const bool is_atomic = strcmp(name, "atomic") == 0;
    CHECK(is_atomic || strcmp(name, "merge") == 0);
    return put_directory(node, path, other, is_atomic);
}

static bool tell(unsigned number, int err)
{
    if (err) {
        say("failed %u %s\n", number, err_name(err));
    } else {
        say("ok %u\n", number);
    }
    return !err;
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    const struct node_options options = {
        .data = argv[1],
        .name = "work",
        .segment_bytes = strtoull(argv[2], NULL, 10),
    };
    struct node *node = NULL;
    unsigned number = 0;
    bool is_fine = tell(number, node_open(&options, &node));
    char line[LINE_BYTES_MAX];
    while (node && fgets(line, sizeof line, stdin)) {
        is_fine = tell(++number, run(argv[1], node, line)) && is_fine;
    }
    if (node) {
        node_close(node);
        is_fine = tell(++number, 0) && is_fine;
    }
    return is_fine ? 0 : 1;
}
