/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data directory: what is not ours is not touched, what is in use is not opened twice, what a
 * crash left half-made is completed.
 */
#include "helpers.h"

#include <sys/wait.h>

static int try_open(const struct scratch *scratch, bool read_only)
{
    struct store_options options = scratch->options;
    options.read_only = read_only;
    struct store *store = NULL;
    const int err = store_open(&options, &store);
    store_close(store);
    return err;
}

/* Every name below `root` with its kind, size, time stamps and content. */
static struct buf *listing;
static int list_one(const char *path, const struct stat *stat, int kind, struct FTW *walk)
{
    (void)walk;
    buf_add_format(listing, "%s %d %lld %lld.%09ld %lld.%09ld\n", path, kind,
                   (long long)stat->st_size, (long long)stat->st_mtim.tv_sec, stat->st_mtim.tv_nsec,
                   (long long)stat->st_ctim.tv_sec, stat->st_ctim.tv_nsec);
    return kind == FTW_F ? file_read_path(AT_FDCWD, path, 64 * MIB, listing) : 0;
}

static void list_all(const struct scratch *scratch, struct buf *ret_listing)
{
    listing = ret_listing;
    assert_int_equal(nftw(scratch->root, list_one, 16, FTW_PHYS), 0);
}

/* Opening fails with `err`, and nothing in the directory is other than before. */
static void assert_untouched(const struct scratch *scratch, bool read_only, int err)
{
    CLEANUP_BUF struct buf before = BUF_INIT;
    CLEANUP_BUF struct buf after = BUF_INIT;
    list_all(scratch, &before);
    assert_int_equal(try_open(scratch, read_only), err);
    list_all(scratch, &after);
    assert_true(bytes_equal(buf_bytes(&before), buf_bytes(&after)));
}

static void write_in_store(const struct scratch *scratch, const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", scratch->store_path, name);
    write_path(path, bytes_of_string(text));
}

static void make_in_store(const struct scratch *scratch, const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", scratch->store_path, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void unlink_in_store(const struct scratch *scratch, const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", scratch->store_path, name);
    assert_int_equal(unlink(path), 0);
}

static void a_new_one(void **state)
{
    struct scratch *scratch = *state;
    assert_int_equal(store_format_found(scratch->store_path), 0);
    assert_int_equal(store_owner(scratch->store_path), 0);
    scratch_open(scratch);
    assert_int_equal(store_format_found(scratch->store_path), STORE_FORMAT);
    assert_int_equal(store_owner(scratch->store_path), getpid());
    const struct store_status status = status_of(scratch->store);
    assert_int_equal(status.blocks_count, 0);
    assert_int_equal(status.segments_count, 0);
    CLEANUP_BUF struct buf format = BUF_INIT;
    char path[128];
    snprintf(path, sizeof path, "%s/format", scratch->store_path);
    assert_ok(file_read_path(AT_FDCWD, path, 100, &format));
    assert_string_equal(buf_string(&format), "artel store 1\n");
}

static void content_is_there_again(void **state)
{
    struct scratch *scratch = *state;
    scratch_open(scratch);
    const struct id one = put_seed(scratch->store, STORE_ORIGIN, 1, 3 * BLOCK + 7);
    const struct id two = put_seed(scratch->store, STORE_CACHE, 2, 5000);
    for (uint64_t i = 0; i < 5; i++) {
        scratch_reopen(scratch);
        assert_seed(scratch->store, &one, 1, 3 * BLOCK + 7);
        assert_seed(scratch->store, &two, 2, 5000);
        assert_int_equal(status_of(scratch->store).files_count, 2 + i);
        put_seed(scratch->store, STORE_ORIGIN, 100 + i, 1000);
    }
}

/* Appends of several sessions go on in the same segments. */
static void segments_are_gone_on_with(void **state)
{
    struct scratch *scratch = *state;
    scratch->options.segment_bytes = 16 * MIB;
    scratch_open(scratch);
    for (uint64_t i = 0; i < 10; i++) {
        put_seed(scratch->store, STORE_ORIGIN, 2 * i, 70000);
        put_seed(scratch->store, STORE_ORIGIN, 2 * i + 1, 5000);
        scratch_reopen(scratch);
    }
    assert_int_equal(status_of(scratch->store).segments_count, 2);
}

/* The length may change from one session to the next; what is there stays, and a block longer than
 * a segment has one to itself. */
static void segments_are_as_long_as_told(void **state)
{
    struct scratch *scratch = *state;
    scratch->options.segment_bytes = STORE_SEGMENT_BYTES_MIN;
    scratch_open(scratch);
    const struct id one = put_seed(scratch->store, STORE_ORIGIN, 1, 4 * BLOCK);
    const struct id two = put_seed(scratch->store, STORE_ORIGIN, 2, 40000);
    const struct id three = put_seed(scratch->store, STORE_ORIGIN, 3, 40000);
    assert_int_equal(status_of(scratch->store).segments_count, 6);
    scratch_close(scratch);
    scratch->options.segment_bytes = 0; /* 1 GiB */
    scratch_open(scratch);
    const struct id four = put_seed(scratch->store, STORE_ORIGIN, 4, 4 * BLOCK);
    assert_int_equal(status_of(scratch->store).segments_count, 6);
    assert_seed(scratch->store, &one, 1, 4 * BLOCK);
    assert_seed(scratch->store, &two, 2, 40000);
    assert_seed(scratch->store, &three, 3, 40000);
    assert_seed(scratch->store, &four, 4, 4 * BLOCK);
}

static void segments_have_limits(void **state)
{
    struct scratch *scratch = *state;
    const uint64_t lengths[] = {1, STORE_SEGMENT_BYTES_MIN - 1, STORE_SEGMENT_BYTES_MAX + 1};
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        scratch->options.segment_bytes = lengths[i];
        assert_int_equal(store_open(&scratch->options, &scratch->store), -EINVAL);
    }
    scratch->options.segment_bytes = STORE_SEGMENT_BYTES_MAX;
    scratch_open(scratch);
    const struct id id = put_seed(scratch->store, STORE_ORIGIN, 1, 5000);
    assert_seed(scratch->store, &id, 1, 5000);
}

/* ---- in use --------------------------------------------------------------------------------- */

static void not_twice_in_one_process(void **state)
{
    struct scratch *scratch = *state;
    scratch_open(scratch);
    put_seed(scratch->store, STORE_ORIGIN, 1, 5000);
    assert_int_equal(try_open(scratch, false), -EBUSY);
}

static void not_twice_in_two_processes(void **state)
{
    struct scratch *scratch = *state;
    scratch_open(scratch);
    const struct id id = put_seed(scratch->store, STORE_ORIGIN, 1, 5000);
    const long parent = getpid();
    CLEANUP_BUF struct buf before = BUF_INIT;
    CLEANUP_BUF struct buf after = BUF_INIT;
    list_all(scratch, &before);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const bool busy = try_open(scratch, false) == -EBUSY;
        _exit(busy && store_owner(scratch->store_path) == parent ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    list_all(scratch, &after);
    assert_true(bytes_equal(buf_bytes(&before), buf_bytes(&after)));
    assert_seed(scratch->store, &id, 1, 5000);
}

/* A reader in another process sees what was committed since it opened. */
static void a_reader_beside_a_writer(void **state)
{
    struct scratch *scratch = *state;
    int to_child[2];
    int to_parent[2];
    assert_int_equal(pipe(to_child), 0);
    assert_int_equal(pipe(to_parent), 0);
    CLEANUP_FREE uint8_t *one = make_content(1, 3 * BLOCK);
    CLEANUP_FREE uint8_t *two = make_content(2, 5000);
    const struct id blocks[2] = {block_id(BYTES(one + BLOCK, BLOCK)), block_id(BYTES(two, 5000))};
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        uint8_t byte = 0;
        uint8_t *data = mem_alloc(BLOCK);
        struct store *store = NULL;
        struct store_options options = scratch->options;
        options.read_only = true;
        MUST(read(to_child[0], &byte, 1) == 1);
        MUST(store_open(&options, &store) == 0);
        MUST(store_read_block(store, &blocks[0], 0, data, BLOCK) == 0);
        MUST(memcmp(data, one + BLOCK, BLOCK) == 0);
        MUST(!store_has_block(store, &blocks[1]));
        MUST(write(to_parent[1], &byte, 1) == 1 && read(to_child[0], &byte, 1) == 1);
        struct store_view view;
        MUST(store_view_open(store, &blocks[1], &view) == 0);
        MUST(memcmp(view.bytes.data, two, 5000) == 0);
        store_view_close(&view);
        /* A view stays what it is, although the writer knows nothing of it. */
        MUST(store_view_open(store, &blocks[0], &view) == 0);
        MUST(write(to_parent[1], &byte, 1) == 1 && read(to_child[0], &byte, 1) == 1);
        MUST(memcmp(view.bytes.data, one + BLOCK, BLOCK) == 0);
        store_view_close(&view);
        MUST(store_read_block(store, &blocks[0], 0, data, BLOCK) == -ENOENT);
        MUST(store_read_block(store, &blocks[1], 0, data, 5000) == 0);
        MUST(memcmp(data, two, 5000) == 0);
        store_close(store);
        free(data);
        _exit(0);
    }
    uint8_t byte = 0;
    scratch_open(scratch);
    const struct id file = put_bytes(scratch->store, STORE_ORIGIN, BYTES(one, 3 * BLOCK)).id;
    assert_int_equal(write(to_child[1], &byte, 1), 1);
    assert_int_equal(read(to_parent[0], &byte, 1), 1);
    put_bytes(scratch->store, STORE_ORIGIN, BYTES(two, 5000));
    assert_int_equal(write(to_child[1], &byte, 1), 1);
    assert_int_equal(read(to_parent[0], &byte, 1), 1);
    assert_ok(store_release(scratch->store, &file, STORE_ORIGIN));
    tidy_now(scratch);
    assert_int_equal(write(to_child[1], &byte, 1), 1);
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    for (size_t i = 0; i < 2; i++) {
        close(to_child[i]);
        close(to_parent[i]);
    }
}

/* ---- not ours ------------------------------------------------------------------------------- */

static void another_version(void **state)
{
    struct scratch *scratch = *state;
    scratch_open(scratch);
    const struct id id = put_seed(scratch->store, STORE_ORIGIN, 1, 5000);
    scratch_close(scratch);
    static const char *const others[] = {
        "artel store 2\n",  "artel store 0\n", "artel store 10\n",
        "artel store\n",    "artel store 1",   "",
        "artel store 1x\n", "something else",  "\n",
        "ARTEL STORE 1\n",
    };
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        write_in_store(scratch, "format", others[i]);
        assert_untouched(scratch, false, -EPROTONOSUPPORT);
        assert_untouched(scratch, true, -EPROTONOSUPPORT);
    }
    assert_int_equal(store_format_found(scratch->store_path), 0);
    write_in_store(scratch, "format", "artel store 2\n");
    assert_int_equal(store_format_found(scratch->store_path), 2);
    write_in_store(scratch, "format", "artel store 1\n");
    scratch_open(scratch);
    assert_seed(scratch->store, &id, 1, 5000);
}

static void a_foreign_directory(void **state)
{
    struct scratch *scratch = *state;
    assert_int_equal(mkdir(scratch->store_path, 0700), 0);
    write_in_store(scratch, "letter.txt", "dear reader");
    assert_untouched(scratch, false, -ENOTEMPTY);
    assert_untouched(scratch, true, -ENOENT);
    make_in_store(scratch, "index");
    assert_untouched(scratch, false, -ENOTEMPTY);
}

/* A directory that has the names of ours, and something of somebody else's in them. */
static void foreign_files_below_our_names(void **state)
{
    struct scratch *scratch = *state;
    assert_int_equal(mkdir(scratch->store_path, 0700), 0);
    make_in_store(scratch, "segments");
    write_in_store(scratch, "segments/photo.jpg", "a face");
    assert_untouched(scratch, false, -ENOTEMPTY);
    unlink_in_store(scratch, "segments/photo.jpg");
    make_in_store(scratch, "index");
    write_in_store(scratch, "index/letter.txt", "dear reader");
    assert_untouched(scratch, false, -ENOTEMPTY);
}

/* Somebody removed the format file: what is there is not thrown away. */
static void a_store_without_its_format_file(void **state)
{
    struct scratch *scratch = *state;
    scratch_open(scratch);
    put_seed(scratch->store, STORE_ORIGIN, 1, 5000);
    scratch_close(scratch);
    unlink_in_store(scratch, "format");
    assert_untouched(scratch, false, -ENOTEMPTY);
}

static void no_directory(void **state)
{
    struct scratch *scratch = *state;
    write_path(scratch->store_path, bytes_of_string("a file"));
    assert_untouched(scratch, false, -ENOTDIR);
    assert_untouched(scratch, true, -ENOTDIR);
    char below[160];
    snprintf(below, sizeof below, "%s/missing/store", scratch->root);
    scratch->options.path = below;
    assert_untouched(scratch, false, -ENOENT);
    assert_untouched(scratch, true, -ENOENT);
}

static void nothing_to_read(void **state)
{
    struct scratch *scratch = *state;
    assert_untouched(scratch, true, -ENOENT);
    assert_int_equal(mkdir(scratch->store_path, 0700), 0);
    assert_untouched(scratch, true, -ENOENT);
}

/* In a child that is not root, to whom everything is permitted. */
static void what_may_not_be_written(void **state)
{
    struct scratch *scratch = *state;
    scratch_open(scratch);
    const struct id id = put_seed(scratch->store, STORE_ORIGIN, 1, 5000);
    scratch_close(scratch);
    char path[128];
    snprintf(path, sizeof path, "%s/lock", scratch->store_path);
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(chmod(scratch->root, 0755), 0);
    assert_int_equal(chmod(scratch->store_path, 0555), 0);
    CLEANUP_BUF struct buf before = BUF_INIT;
    CLEANUP_BUF struct buf after = BUF_INIT;
    list_all(scratch, &before);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) {
            _exit(0); /* nobody to become: nothing to see */
        }
        _exit(try_open(scratch, false) == -EACCES ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    list_all(scratch, &after);
    assert_true(bytes_equal(buf_bytes(&before), buf_bytes(&after)));
    assert_int_equal(chmod(scratch->store_path, 0755), 0);
    assert_int_equal(chmod(path, 0644), 0);
    scratch_open(scratch);
    assert_seed(scratch->store, &id, 1, 5000);
}

/* ---- half-made ------------------------------------------------------------------------------ */

static void what_a_crash_left_is_completed(void **state)
{
    struct scratch *scratch = *state;
    static const char *const left[][4] = {
        {NULL}, {"lock", NULL}, {"lock", "index/", NULL}, {"lock", "index/", "segments/", NULL}};
    for (size_t i = 0; i < ARRAY_SIZE(left); i++) {
        assert_int_equal(mkdir(scratch->store_path, 0700), 0);
        for (size_t j = 0; left[i][j]; j++) {
            if (strchr(left[i][j], '/')) {
                make_in_store(scratch, left[i][j]);
            } else {
                write_in_store(scratch, left[i][j], "");
            }
        }
        scratch_open(scratch);
        const struct id id = put_seed(scratch->store, STORE_ORIGIN, 1, 5000);
        scratch_reopen(scratch);
        assert_seed(scratch->store, &id, 1, 5000);
        scratch_close(scratch);
        assert_int_equal(nftw(scratch->store_path, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    }
}

/* All but the last step: everything is there, and "format" is not, or not in its place. */
static void without_the_last_step(void **state)
{
    struct scratch *scratch = *state;
    char path[128];
    char temporary[128];
    snprintf(path, sizeof path, "%s/format", scratch->store_path);
    snprintf(temporary, sizeof temporary, "%s/format.tmp", scratch->store_path);
    scratch_open(scratch);
    scratch_close(scratch);
    assert_int_equal(rename(path, temporary), 0);
    scratch_open(scratch);
    const struct id id = put_seed(scratch->store, STORE_ORIGIN, 1, 5000);
    scratch_reopen(scratch);
    assert_seed(scratch->store, &id, 1, 5000);
    assert_int_equal(store_format_found(scratch->store_path), STORE_FORMAT);
}

/* What stands behind the last named byte of a segment is garbage, and so are files that no commit
 * has named. */
/* An empty index in its place would make garbage of all segments. */
static void without_its_index(void **state)
{
    struct scratch *scratch = *state;
    char index[160];
    char aside[160];
    snprintf(index, sizeof index, "%s/index/data.mdb", scratch->store_path);
    snprintf(aside, sizeof aside, "%s/aside", scratch->root);
    scratch_open(scratch);
    const struct id id = put_seed(scratch->store, STORE_ORIGIN, 1, 5000);
    scratch_close(scratch);
    assert_int_equal(rename(index, aside), 0);
    struct store *store = NULL;
    assert_int_equal(store_open(&scratch->options, &store), -EBADMSG);
    write_in_store(scratch, "index/data.mdb", "");
    assert_int_equal(store_open(&scratch->options, &store), -EBADMSG);
    struct store_options reading = scratch->options;
    reading.read_only = true;
    assert_int_equal(store_open(&reading, &store), -EBADMSG);
    assert_int_equal(rename(aside, index), 0);
    scratch_open(scratch);
    assert_seed(scratch->store, &id, 1, 5000);
}

static void garbage_is_cut(void **state)
{
    struct scratch *scratch = *state;
    scratch_open(scratch);
    const struct id one = put_seed(scratch->store, STORE_ORIGIN, 1, 70000);
    const struct id two = put_seed(scratch->store, STORE_ORIGIN, 2, 5000);
    const uint64_t disk = disk_bytes(scratch);
    scratch_close(scratch);
    CLEANUP_FREE uint8_t *garbage = make_content(3, MIB);
    for (int i = 0; i < 2; i++) {
        char path[160];
        snprintf(path, sizeof path, "%s/segments/0000000%d.seg", scratch->store_path, i);
        CLEANUP_FD int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_ok(file_write_all(fd, BYTES(garbage, MIB)));
    }
    write_in_store(scratch, "segments/00000002.seg", "of a crash before its first commit");
    scratch_open(scratch);
    assert_in_range(disk_bytes(scratch), 0, disk);
    for (uint64_t i = 10; i < 40; i++) {
        put_seed(scratch->store, STORE_ORIGIN, i, 100000);
    }
    assert_seed(scratch->store, &one, 1, 70000);
    assert_seed(scratch->store, &two, 2, 5000);
    struct store_scrub_report report;
    assert_ok(store_scrub(scratch->store, &(struct store_scrub_options){0}, &report));
    assert_int_equal(report.blocks_bad, 0);
    tidy_now(scratch);
    assert_in_range(disk_bytes(scratch), disk, disk + 30 * (100000 + PAGE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRECTORY_TEST(a_new_one),
        DIRECTORY_TEST(content_is_there_again),
        DIRECTORY_TEST(segments_are_gone_on_with),
        DIRECTORY_TEST(segments_are_as_long_as_told),
        DIRECTORY_TEST(segments_have_limits),
        DIRECTORY_TEST(not_twice_in_one_process),
        DIRECTORY_TEST(not_twice_in_two_processes),
        DIRECTORY_TEST(a_reader_beside_a_writer),
        DIRECTORY_TEST(another_version),
        DIRECTORY_TEST(a_foreign_directory),
        DIRECTORY_TEST(foreign_files_below_our_names),
        DIRECTORY_TEST(a_store_without_its_format_file),
        DIRECTORY_TEST(no_directory),
        DIRECTORY_TEST(nothing_to_read),
        DIRECTORY_TEST(what_may_not_be_written),
        DIRECTORY_TEST(what_a_crash_left_is_completed),
        DIRECTORY_TEST(without_the_last_step),
        DIRECTORY_TEST(without_its_index),
        DIRECTORY_TEST(garbage_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
