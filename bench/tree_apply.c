/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The part of the benchmark tree-memory that has to be inside the process: how fast a tree takes
 * what another one has, as ops and as a snapshot, and how large it is then. It measures and prints
 * a line of JSON for each measurement; tree-memory.py chooses and sums up.
 *
 *   bench_tree_apply DIR ENTRIES BATCH_OPS STEP_RECORDS ROUNDS
 *
 * DIR is an empty directory. An entry is a file whose content nobody has to hold, an op of its own.
 * "walk": the log has them in the order of paths; "random": in any. All is done by one thread.
 */

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "hash/sha256.h"
#include "tree/change.h"
#include "tree/remote.h"
#include "tree/snapshot.h"

#include "measure.h"

#define SEED 7
#define PATH_CHARS 64
#define DIRECTORY_ENTRIES 1000
/* Changes in a transaction while the source is filled. */
#define FILL_CHANGES 10000
/* What a node gathers before it writes to the file. */
#define SPOOL_BYTES ((size_t)1024 * 1024)

static int no_content(void *context, struct kv_txn *txn, const struct id *file)
{
    (void)context;
    (void)txn;
    (void)file;
    return 0;
}

static int no_hold(void *context, struct kv_txn *txn, const struct id *file, bool is_published)
{
    (void)is_published;
    return no_content(context, txn, file);
}

static uint64_t no_clock(void *context)
{
    (void)context;
    return 1;
}

/* ---- a database with a tree ---- */

struct database {
    char path[4096];
    struct kv *kv;
    struct tree *tree;
};

static struct kv_txn *begin(const struct database *database)
{
    struct kv_txn *txn = NULL;
    must("write", kv_write(database->kv, &txn));
    return txn;
}

static struct kv_txn *look(const struct database *database)
{
    struct kv_txn *txn = NULL;
    must("read", kv_read(database->kv, &txn));
    return txn;
}

static void database_open(struct database *database, const char *dir, const char *name)
{
    snprintf(database->path, sizeof database->path, "%s/%s", dir, name);
    must("mkdir", mkdir(database->path, 0777) ? -errno : 0);
    const struct kv_options options = {
        .tables = tree_table_names,
        .tables_count = TREE_TABLES,
        .path = database->path,
    };
    must("open", kv_open(&options, &database->kv));
    struct kv_txn *txn = begin(database);
    const struct tree_host host = {no_hold, no_content, no_clock, NULL};
    struct origin_id origin;
    random_system(&origin, sizeof origin);
    must("tree", tree_open(txn, 0, &host, &origin, 1, &database->tree));
    must("commit", kv_commit(txn));
}

static void database_close(struct database *database, bool remove)
{
    tree_close(database->tree);
    kv_close(database->kv);
    if (remove) {
        char path[sizeof database->path + 16];
        snprintf(path, sizeof path, "%s/data.mdb", database->path);
        unlink(path);
        snprintf(path, sizeof path, "%s/lock.mdb", database->path);
        unlink(path);
        rmdir(database->path);
    }
}

static struct tree_summary summary_of(const struct database *database)
{
    struct tree_summary summary;
    struct kv_txn *txn = look(database);
    must("summary", tree_summary(database->tree, txn, &summary));
    kv_abort(txn);
    return summary;
}

static void print_size(const struct database *database, const char *order, const char *how)
{
    char path[sizeof database->path + 16];
    snprintf(path, sizeof path, "%s/data.mdb", database->path);
    struct stat stat_buf;
    must("stat", stat(path, &stat_buf) ? -errno : 0);
    printf("{\"database\":\"%s\",\"order\":\"%s\",\"bytes\":%" PRIu64 ",\"entries\":%" PRIu64 "}\n",
           how, order, (uint64_t)stat_buf.st_blocks * 512, summary_of(database).entries_count);
}

/* ---- the source ---- */

static void fill(const struct database *source, const char *order_name, const size_t *order,
                 size_t count)
{
    struct random random;
    random_init(&random, SEED);
    const struct stopwatch stopwatch = stopwatch_start();
    struct kv_txn *txn = begin(source);
    for (size_t i = 0; i < count; i++) {
        char path[PATH_CHARS];
        snprintf(path, sizeof path, "t/%02zu/%05zu/entry-%08zu", order[i] / DIRECTORY_ENTRIES / 100,
                 order[i] / DIRECTORY_ENTRIES, order[i]);
        struct tree_put put = {
            .path = bytes_of_string(path),
            .kind = TREE_FILE,
            .mode = 0644,
            .mtime_ns = (int64_t)i,
            .size_bytes = i,
        };
        random_fill(&random, &put.file_id, sizeof put.file_id);
        struct dot dot;
        must("put", tree_change_put(source->tree, txn, &put, &dot));
        if (i % FILL_CHANGES == FILL_CHANGES - 1) {
            must("commit", kv_commit(txn));
            txn = begin(source);
        }
    }
    must("commit", kv_commit(txn));
    printf("{\"fill\":\"%s\",\"ops\":%zu,", order_name, count);
    print_times(stopwatch);
    puts("}");
    print_size(source, order_name, "made here");
}

/* ---- as ops ---- */

static void expect_same(const struct database *source, const struct database *target)
{
    const struct tree_summary a = summary_of(source);
    const struct tree_summary b = summary_of(target);
    must("equal trees", memcmp(a.fingerprint, b.fingerprint, sizeof a.fingerprint) == 0 &&
                                a.vector_sum == b.vector_sum
                            ? 0
                            : -EIO);
}

/* Reads the next `batch_ops` ops one after the other into `bytes`; `ends` tells where each ends. */
static size_t pull_some(struct tree_pull *pull, size_t batch_ops, struct buf *bytes, size_t *ends)
{
    buf_clear(bytes);
    size_t count = 0;
    while (count < batch_ops) {
        struct dot dot;
        struct bytes op;
        const int err = tree_pull_next(pull, &dot, &op);
        if (err == -ENOENT) {
            break;
        }
        must("pull", err);
        buf_add(bytes, op);
        ends[count++] = bytes->size;
    }
    return count;
}

static void apply_some(const struct database *target, const struct buf *bytes, const size_t *ends,
                       size_t count)
{
    struct kv_txn *txn = begin(target);
    struct tree_batch *batch = NULL;
    must("apply", tree_apply_begin(target->tree, txn, &batch));
    size_t from = 0;
    for (size_t i = 0; i < count; i++) {
        struct tree_remote remote;
        must("apply", tree_apply_next(batch, BYTES(bytes->data + from, ends[i] - from), &remote));
        must("verdict", remote.verdict == TREE_APPLIED ? 0 : -EPROTO);
        from = ends[i];
    }
    must("apply", tree_apply_end(batch));
    must("commit", kv_commit(txn));
}

static void take_ops(const struct database *source, const char *dir, const char *order_name,
                     size_t batch_ops, bool last)
{
    struct database target;
    database_open(&target, dir, "target");
    size_t *ends = mem_alloc_array(batch_ops, sizeof *ends);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    const struct tree_summary summary = summary_of(source);
    const struct tree_lack lack = {summary.origin, 0, summary.origin_seq};
    struct kv_txn *txn = look(source);
    struct tree_pull *pull = NULL;
    must("pull", tree_pull_open(source->tree, txn, &lack, 1, &pull));
    struct stopwatch pulling = {0};
    struct stopwatch applying = {0};
    uint64_t ops = 0;
    uint64_t ops_bytes = 0;
    for (;;) {
        stopwatch_go(&pulling);
        const size_t count = pull_some(pull, batch_ops, &bytes, ends);
        stopwatch_stop(&pulling);
        if (count == 0) {
            break;
        }
        ops += count;
        ops_bytes += bytes.size;
        stopwatch_go(&applying);
        apply_some(&target, &bytes, ends, count);
        stopwatch_stop(&applying);
    }
    tree_pull_close(pull);
    kv_abort(txn);
    expect_same(source, &target);
    printf("{\"pull\":\"%s\",\"ops\":%" PRIu64 ",\"bytes\":%" PRIu64 ",", order_name, ops,
           ops_bytes);
    print_stopwatch(&pulling);
    printf("}\n{\"apply\":\"%s\",\"ops\":%" PRIu64 ",", order_name, ops);
    print_stopwatch(&applying);
    puts("}");
    if (last) {
        print_size(&target, order_name, "applied");
        print_memory("applied");
    }
    free(ends);
    database_close(&target, true);
}

/* ---- as a snapshot ---- */

struct spool {
    int fd;
    struct buf bytes;
};

static int spool_flush(struct spool *spool)
{
    const int err = file_write_all(spool->fd, buf_bytes(&spool->bytes));
    buf_clear(&spool->bytes);
    return err;
}

static int spool_write(void *context, struct bytes bytes)
{
    struct spool *spool = context;
    buf_add(&spool->bytes, bytes);
    return spool->bytes.size < SPOOL_BYTES ? 0 : spool_flush(spool);
}

static int spool_read(void *context, uint64_t offset, void *ret_bytes, size_t size)
{
    const struct spool *spool = context;
    return file_read_all_at(spool->fd, ret_bytes, size, offset);
}

static void print_snapshot(const char *what, const struct tree_snapshot_info *info,
                           struct stopwatch stopwatch)
{
    printf("{\"snapshot\":\"%s\",\"entries\":%" PRIu64 ",\"bytes\":%" PRIu64 ",", what,
           info->entries_count, info->bytes);
    print_times(stopwatch);
    puts("}");
}

static void merge(const struct database *target, const struct tree_snapshot_source *bytes,
                  size_t step_records)
{
    struct tree_snapshot *snapshot = NULL;
    must("snapshot", tree_snapshot_open(bytes, &snapshot));
    const struct tree_merge_options options = {.snapshot = {{1}}, .mode = TREE_MERGE_NORMAL};
    struct kv_txn *txn = begin(target);
    must("merge", tree_merge_begin(target->tree, txn, snapshot, &options));
    must("commit", kv_commit(txn));
    bool is_done = false;
    while (!is_done) {
        txn = begin(target);
        must("merge", tree_merge_step(target->tree, txn, snapshot, step_records, &is_done));
        must("commit", kv_commit(txn));
    }
    tree_snapshot_close(snapshot);
}

static void take_snapshot(const struct database *source, const char *dir, size_t step_records,
                          bool last)
{
    struct spool spool = {.fd = -1, .bytes = BUF_INIT};
    must("spool", file_open_at(AT_FDCWD, dir, O_RDWR | O_TMPFILE, 0666, &spool.fd));
    struct tree_snapshot_info info;
    struct stopwatch stopwatch = stopwatch_start();
    struct kv_txn *txn = look(source);
    must("snapshot", tree_snapshot_write(source->tree, txn, spool_write, &spool, &info));
    must("spool", spool_flush(&spool));
    kv_abort(txn);
    print_snapshot("write", &info, stopwatch);

    const struct tree_snapshot_source bytes = {spool_read, &spool, info.bytes};
    stopwatch = stopwatch_start();
    must("check", tree_snapshot_check(&bytes, &info));
    print_snapshot("check", &info, stopwatch);

    struct database target;
    database_open(&target, dir, "target");
    stopwatch = stopwatch_start();
    merge(&target, &bytes, step_records);
    print_snapshot("merge", &info, stopwatch);
    expect_same(source, &target);
    if (last) {
        print_size(&target, "walk", "merged");
        print_memory("merged");
    }
    database_close(&target, true);
    buf_done(&spool.bytes);
    close(spool.fd);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc != 6) {
        fputs("usage: bench_tree_apply DIR ENTRIES BATCH_OPS STEP_RECORDS ROUNDS\n", stderr);
        return 2;
    }
    const char *dir = argv[1];
    const size_t count = (size_t)number_of(argv[2]);
    const size_t batch_ops = (size_t)number_of(argv[3]);
    const size_t step_records = (size_t)number_of(argv[4]);
    const uint64_t rounds = number_of(argv[5]);
    static const char *const order_names[] = {"walk", "random"};

    size_t *order = mem_alloc_array(count, sizeof *order);
    for (size_t i = 0; i < count; i++) {
        order[i] = i;
    }
    for (size_t i = 0; i < 2; i++) {
        struct database source;
        database_open(&source, dir, order_names[i]);
        fill(&source, order_names[i], order, count);
        for (uint64_t round = 0; round < rounds; round++) {
            take_ops(&source, dir, order_names[i], batch_ops, round + 1 == rounds);
        }
        for (uint64_t round = 0; i == 1 && round < rounds; round++) {
            take_snapshot(&source, dir, step_records, round + 1 == rounds);
        }
        database_close(&source, true);
        shuffle(order, count, SEED + 1);
    }
    free(order);
    return 0;
}
