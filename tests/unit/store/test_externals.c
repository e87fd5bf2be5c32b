/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files outside that serve as blocks, and everything that may become of them: withdrawn, never
 * served wrong.
 */
#include "helpers.h"

#include "store/externals_priv.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#define SIZE (5 * BLOCK + 1234) /* six blocks */
#define BLOCKS 6u

/* A file outside and its content. */
struct outside {
    char path[128];
    uint8_t *data;
    struct bytes content;
    struct id id;
};

static struct outside make_outside(const struct scratch *scratch, const char *name, uint64_t seed)
{
    struct outside outside = {.data = make_content(seed, SIZE)};
    snprintf(outside.path, sizeof outside.path, "%s/%s", scratch->root, name);
    outside.content = BYTES(outside.data, SIZE);
    outside.id = expected_id(outside.content);
    write_path(outside.path, outside.content);
    return outside;
}

static struct store_put_result put_in_place(struct store *store, const char *path)
{
    struct store_put *put = NULL;
    struct store_put_result result = {0};
    assert_ok(store_put_begin(store, STORE_ORIGIN, &put));
    assert_ok(store_put_in_place(put, path));
    assert_ok(store_put_commit(put, &result));
    return result;
}

static void assert_refused(struct store *store, const char *path, int err)
{
    struct store_put *put = NULL;
    assert_ok(store_put_begin(store, STORE_ORIGIN, &put));
    assert_int_equal(store_put_in_place(put, path), err);
    store_put_abort(put);
}

static void costs_no_bytes(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_outside(scratch, "file", 1);
    const struct store_put_result result = put_in_place(scratch->store, outside.path);
    assert_true(id_equal(&result.id, &outside.id));
    assert_int_equal(result.length_bytes, SIZE);
    assert_int_equal(result.new_bytes, 0);
    assert_content(scratch->store, &outside.id, outside.content);
    const struct store_status status = status_of(scratch->store);
    assert_int_equal(status.externals_count, 1);
    assert_int_equal(status.blocks_count, BLOCKS);
    assert_int_equal(status.live_bytes, 0);
    assert_int_equal(disk_bytes(scratch), 0);

    scratch_reopen(scratch);
    assert_content(scratch->store, &outside.id, outside.content);
    free(outside.data);
}

static void is_forgotten_when_released(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_outside(scratch, "file", 1);
    put_in_place(scratch->store, outside.path);
    assert_ok(store_release(scratch->store, &outside.id, STORE_ORIGIN));
    tidy_now(scratch);
    const struct store_status status = status_of(scratch->store);
    assert_int_equal(status.externals_count, 0);
    assert_int_equal(status.blocks_count, 0);
    assert_int_equal(access(outside.path, R_OK), 0); /* it is not ours */
    free(outside.data);
}

static void empty_file(void **state)
{
    struct scratch *scratch = *state;
    char path[128];
    snprintf(path, sizeof path, "%s/empty", scratch->root);
    write_path(path, BYTES(NULL, 0));
    const struct store_put_result result = put_in_place(scratch->store, path);
    const struct id expected = expected_id(BYTES(NULL, 0));
    assert_true(id_equal(&result.id, &expected));
    assert_int_equal(status_of(scratch->store).externals_count, 0);
}

static void twice_is_once(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_outside(scratch, "file", 1);
    put_in_place(scratch->store, outside.path);
    const struct store_put_result again = put_in_place(scratch->store, outside.path);
    assert_true(id_equal(&again.id, &outside.id));
    assert_int_equal(status_of(scratch->store).externals_count, 1);
    assert_content(scratch->store, &outside.id, outside.content);
    struct store_file_info info;
    assert_ok(store_file_info(scratch->store, &outside.id, &info));
    assert_int_equal(info.holders[STORE_ORIGIN], 1);
    free(outside.data);
}

static void what_cannot_be_put(void **state)
{
    struct scratch *scratch = *state;
    char path[128];
    snprintf(path, sizeof path, "%s/missing", scratch->root);
    assert_refused(scratch->store, path, -ENOENT);
    assert_refused(scratch->store, scratch->root, -EISDIR);
    assert_refused(scratch->store, "relative", -EINVAL);
    snprintf(path, sizeof path, "%s/pipe", scratch->root);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_refused(scratch->store, path, -EINVAL); /* and does not hang */
    assert_refused(scratch->store, "/dev/null", -EINVAL);
    char *const long_path = mem_alloc(PATH_MAX + 2);
    memset(long_path, 'x', PATH_MAX + 1);
    long_path[0] = '/';
    assert_refused(scratch->store, long_path, -ENAMETOOLONG);
    free(long_path);
    assert_int_equal(status_of(scratch->store).blocks_count, 0);
}

/* ---- what becomes of it --------------------------------------------------------------------- */

static void set_times(const char *path, const struct stat *stat)
{
    const struct timespec times[2] = {stat->st_atim, stat->st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void change_in_place(const struct outside *outside)
{
    CLEANUP_FD int fd = open(outside->path, O_WRONLY | O_CLOEXEC);
    const uint8_t byte = (uint8_t)~outside->data[3 * BLOCK + 5];
    assert_ok(file_write_all_at(fd, BYTES(&byte, 1), 3 * BLOCK + 5));
}

/* With the old mtime: ctime still tells. */
static void change_secretly(const struct outside *outside)
{
    struct stat stat;
    assert_int_equal(lstat(outside->path, &stat), 0);
    change_in_place(outside);
    set_times(outside->path, &stat);
}

static void truncate_to_half(const struct outside *outside)
{
    assert_int_equal(truncate(outside->path, SIZE / 2), 0);
}

static void append_one(const struct outside *outside)
{
    CLEANUP_FD int fd = open(outside->path, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_ok(file_write_all(fd, BYTES(outside->data, 1)));
}

static void move_other_over(const struct outside *outside)
{
    char other[160];
    snprintf(other, sizeof other, "%s.other", outside->path);
    CLEANUP_FREE uint8_t *data = make_content(99, SIZE);
    struct stat stat;
    assert_int_equal(lstat(outside->path, &stat), 0);
    write_path(other, BYTES(data, SIZE));
    set_times(other, &stat);
    assert_int_equal(rename(other, outside->path), 0);
}

static void remove_it(const struct outside *outside)
{
    assert_int_equal(unlink(outside->path), 0);
}

static void touch_it(const struct outside *outside)
{
    assert_int_equal(utimensat(AT_FDCWD, outside->path, NULL, 0), 0);
}

static void make_pipe(const struct outside *outside)
{
    remove_it(outside);
    assert_int_equal(mkfifo(outside->path, 0600), 0);
}

static void make_directory(const struct outside *outside)
{
    remove_it(outside);
    assert_int_equal(mkdir(outside->path, 0700), 0);
}

static void make_socket(const struct outside *outside)
{
    remove_it(outside);
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    assert_true(strlen(outside->path) < sizeof address.sun_path);
    memcpy(address.sun_path, outside->path, strlen(outside->path));
    assert_int_equal(bind(fd, (const struct sockaddr *)(const void *)&address, sizeof address), 0);
}

static void make_link_to_itself(const struct outside *outside)
{
    remove_it(outside);
    assert_int_equal(symlink(outside->path, outside->path), 0);
}

static void make_parent_a_file(const struct outside *outside)
{
    char parent[128];
    snprintf(parent, sizeof parent, "%s", outside->path);
    *strrchr(parent, '/') = '\0';
    remove_it(outside);
    assert_int_equal(rmdir(parent), 0);
    write_path(parent, outside->content);
}

/* Whatever happened to the file: no block of it is here any more, and that is known. */
static void assert_withdrawn(struct scratch *scratch, const struct outside *outside)
{
    struct store *store = scratch->store;
    CLEANUP_FREE uint8_t *data = mem_alloc(BLOCK);
    CLEANUP_FILE_METADATA struct file_metadata metadata;
    expected_metadata(outside->content, &metadata);
    for (size_t i = 0; i < metadata.blocks_count; i++) {
        const struct block_ref *block = &metadata.blocks[i];
        struct store_view view;
        assert_int_equal(store_read_block(store, &block->id, 0, data, block->size_bytes), -ENOENT);
        assert_int_equal(store_view_open(store, &block->id, &view), -ENOENT);
        assert_false(store_has_block(store, &block->id));
    }
    const struct store_status status = status_of(store);
    assert_int_equal(status.externals_count, 0);
    assert_int_equal(status.withdrawn_count, 1);
    assert_int_equal(status.lost_count, BLOCKS);
}

/* Puts a file in place, has `change` happen to it, and reads. */
static void withdraw_after(struct scratch *scratch, void (*change)(const struct outside *))
{
    char dir[96];
    snprintf(dir, sizeof dir, "%s/dir", scratch->root);
    assert_int_equal(mkdir(dir, 0700), 0);
    struct outside outside = make_outside(scratch, "dir/file", 1);
    put_in_place(scratch->store, outside.path);
    assert_content(scratch->store, &outside.id, outside.content);
    change(&outside);
    assert_withdrawn(scratch, &outside);

    /* A copy mends it. */
    const struct store_put_result result = put_bytes(scratch->store, STORE_ORIGIN, outside.content);
    assert_int_equal(result.new_bytes, SIZE);
    assert_int_equal(status_of(scratch->store).lost_count, 0);
    assert_content(scratch->store, &outside.id, outside.content);
    free(outside.data);
}

/* The same, found by scrub. */
static void scrub_after(struct scratch *scratch, void (*change)(const struct outside *))
{
    char dir[96];
    snprintf(dir, sizeof dir, "%s/dir", scratch->root);
    assert_int_equal(mkdir(dir, 0700), 0);
    struct outside outside = make_outside(scratch, "dir/file", 1);
    put_in_place(scratch->store, outside.path);
    change(&outside);
    struct store_scrub_report report;
    assert_ok(store_scrub(scratch->store, &(struct store_scrub_options){0}, &report));
    assert_int_equal(report.files_hit, 1);
    assert_int_equal(status_of(scratch->store).lost_count, BLOCKS);
    assert_withdrawn(scratch, &outside);
    free(outside.data);
}

#define CHANGE_TEST(change)                                                                        \
    static void change##_withdraws(void **state)                                                   \
    {                                                                                              \
        withdraw_after(*state, change);                                                            \
    }                                                                                              \
    static void scrub_finds_##change(void **state)                                                 \
    {                                                                                              \
        scrub_after(*state, change);                                                               \
    }

CHANGE_TEST(change_in_place)
CHANGE_TEST(change_secretly)
CHANGE_TEST(truncate_to_half)
CHANGE_TEST(append_one)
CHANGE_TEST(move_other_over)
CHANGE_TEST(remove_it)
CHANGE_TEST(touch_it)
CHANGE_TEST(make_pipe)
CHANGE_TEST(make_directory)
CHANGE_TEST(make_socket)
CHANGE_TEST(make_link_to_itself)
CHANGE_TEST(make_parent_a_file)

#define BOTH(change) STORE_TEST(change##_withdraws), STORE_TEST(scrub_finds_##change)

/* Bytes written through a mapping that is dirty already change no time stamp until somebody looks
 * for dirty pages; on a file system in memory nobody does. */
static void change_without_a_trace_is_caught(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_outside(scratch, "file", 1);
    CLEANUP_FD int fd = open(outside.path, O_RDWR | O_CLOEXEC);
    uint8_t *map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED);
    for (size_t at = 0; at < SIZE; at += PAGE) {
        *(volatile uint8_t *)(map + at) = map[at];
    }
    put_in_place(scratch->store, outside.path);
    CLEANUP_FILE_METADATA struct file_metadata metadata;
    expected_metadata(outside.content, &metadata);
    map[2 * BLOCK + 70000] ^= 1;
    CLEANUP_FREE uint8_t *data = mem_alloc(BLOCK);
    const int err = store_read_block(scratch->store, &metadata.blocks[2].id, 0, data, BLOCK);
    assert_true(err == -EBADMSG || err == -ENOENT);
    struct store_view view;
    assert_int_equal(store_view_open(scratch->store, &metadata.blocks[2].id, &view), -ENOENT);
    munmap(map, SIZE);
    free(outside.data);
}

/* File systems get another device number at the next mount. */
static void what_tells_files_apart(void **state)
{
    (void)state;
    const struct file_identity one = {1, 2, 3, 4, 5};
    const struct file_identity mounted_again = {9, 2, 3, 4, 5};
    const struct file_identity others[] = {
        {1, 9, 3, 4, 5}, {1, 2, 9, 4, 5}, {1, 2, 3, 9, 5}, {1, 2, 3, 4, 9}};
    assert_true(file_identity_equal(&one, &mounted_again));
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        assert_false(file_identity_equal(&one, &others[i]));
    }
}

/* ---- beside other places -------------------------------------------------------------------- */

static void a_copy_does_not_rely_on_it(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_outside(scratch, "file", 1);
    put_in_place(scratch->store, outside.path);
    const struct store_put_result copy = put_bytes(scratch->store, STORE_COPY, outside.content);
    assert_int_equal(copy.new_bytes, SIZE);
    change_in_place(&outside);
    assert_content(scratch->store, &outside.id, outside.content);
    scratch_reopen(scratch);
    assert_content(scratch->store, &outside.id, outside.content);
    assert_int_equal(status_of(scratch->store).lost_count, 0);
    free(outside.data);
}

static void nothing_is_registered_for_what_is_copied_already(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_outside(scratch, "file", 1);
    put_bytes(scratch->store, STORE_COPY, outside.content);
    put_in_place(scratch->store, outside.path);
    remove_it(&outside);
    assert_content(scratch->store, &outside.id, outside.content);
    free(outside.data);
}

/* The first read of it finds the changed one; the other one answers. */
static void two_files_with_the_same_bytes(void **state)
{
    struct scratch *scratch = *state;
    struct outside one = make_outside(scratch, "one", 1);
    struct outside two = make_outside(scratch, "two", 1);
    put_in_place(scratch->store, one.path);
    put_in_place(scratch->store, two.path);
    assert_int_equal(status_of(scratch->store).externals_count, 2);
    change_in_place(&one);
    assert_content(scratch->store, &one.id, one.content);
    assert_int_equal(status_of(scratch->store).externals_count, 1);
    remove_it(&two);
    CLEANUP_FREE uint8_t *data = mem_alloc(BLOCK);
    const struct id block = block_id(BYTES(one.data, BLOCK));
    assert_int_equal(store_read_block(scratch->store, &block, 0, data, BLOCK), -ENOENT);
    assert_int_equal(status_of(scratch->store).externals_count, 0);
    free(one.data);
    free(two.data);
}

/* More places than a block keeps: some are forgotten, none is wrong. */
static void many_files_with_the_same_bytes(void **state)
{
    struct scratch *scratch = *state;
    struct outside all[9];
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        char name[16];
        snprintf(name, sizeof name, "file-%zu", i);
        all[i] = make_outside(scratch, name, 1);
        put_in_place(scratch->store, all[i].path);
        assert_content(scratch->store, &all[i].id, all[i].content);
    }
    put_bytes(scratch->store, STORE_ORIGIN, all[0].content);
    for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
        remove_it(&all[i]);
        free(all[i].data);
    }
    CLEANUP_FREE uint8_t *data = make_content(1, SIZE);
    assert_content(scratch->store, &all[0].id, BYTES(data, SIZE));
    assert_ok(store_release(scratch->store, &all[0].id, STORE_ORIGIN));
    tidy_now(scratch);
    assert_int_equal(status_of(scratch->store).externals_count, 0);
    assert_int_equal(disk_bytes(scratch), 0);
}

/* It was changed and is put again: its new version is here, and of the old one what it shares. */
static void the_next_version_in_the_same_file(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_outside(scratch, "file", 1);
    put_in_place(scratch->store, outside.path);
    change_in_place(&outside);
    outside.data[3 * BLOCK + 5] = (uint8_t)~outside.data[3 * BLOCK + 5];
    const struct store_put_result next = put_in_place(scratch->store, outside.path);
    assert_false(id_equal(&next.id, &outside.id));
    assert_content(scratch->store, &next.id, outside.content);
    struct store_scrub_report report;
    assert_ok(store_scrub(scratch->store, &(struct store_scrub_options){0}, &report));
    assert_int_equal(report.files_hit, 1); /* the old version lacks one block */
    assert_content(scratch->store, &next.id, outside.content);
    const struct store_status status = status_of(scratch->store);
    assert_int_equal(status.lost_count, 1);
    assert_int_equal(status.externals_count, 1);
    free(outside.data);
}

static void a_view_is_a_copy(void **state)
{
    struct scratch *scratch = *state;
    struct outside outside = make_outside(scratch, "file", 1);
    put_in_place(scratch->store, outside.path);
    const struct id block = block_id(BYTES(outside.data, BLOCK));
    struct store_view view;
    assert_ok(store_view_open(scratch->store, &block, &view));
    truncate_to_half(&outside);
    remove_it(&outside);
    assert_memory_equal(view.bytes.data, outside.data, BLOCK);
    store_view_close(&view);
    free(outside.data);
}

int main(void)
{
    alarm(240); /* what hangs must not hang the run */
    const struct CMUnitTest tests[] = {
        STORE_TEST(costs_no_bytes),
        STORE_TEST(is_forgotten_when_released),
        STORE_TEST(empty_file),
        STORE_TEST(twice_is_once),
        STORE_TEST(what_cannot_be_put),
        BOTH(change_in_place),
        BOTH(change_secretly),
        BOTH(truncate_to_half),
        BOTH(append_one),
        BOTH(move_other_over),
        BOTH(remove_it),
        BOTH(touch_it),
        BOTH(make_pipe),
        BOTH(make_directory),
        BOTH(make_socket),
        BOTH(make_link_to_itself),
        BOTH(make_parent_a_file),
        STORE_TEST(change_without_a_trace_is_caught),
        STORE_TEST(what_tells_files_apart),
        STORE_TEST(a_copy_does_not_rely_on_it),
        STORE_TEST(nothing_is_registered_for_what_is_copied_already),
        STORE_TEST(two_files_with_the_same_bytes),
        STORE_TEST(many_files_with_the_same_bytes),
        STORE_TEST(the_next_version_in_the_same_file),
        STORE_TEST(a_view_is_a_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
