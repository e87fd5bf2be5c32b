/* SPDX-License-Identifier: Apache-2.0 */

/* This program has its own read() and pread(), which fortified headers define inline. */
#undef _FORTIFY_SOURCE

#include "base/file.h"

#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "base/cleanup.h"
#include "base/mem.h"
#include "helpers.h"

/*
 * The test program's own functions stand before those of libc: they note what file.c does, in
 * order, fail the n-th call when asked to, or do little at a time.
 */
static _Thread_local struct {
    char calls[64]; /* a letter each: w, f(ile synced), d(irectory synced), r */
    size_t calls_count;
    size_t fail_at;    /* the first call is 1; 0 is never */
    ino_t directory;   /* the one synced last */
    bool is_faltering; /* every other read or write is interrupted, the others move 3 bytes */
    bool is_interrupted;
} watch;

static bool note_call(char letter)
{
    if (watch.calls_count < sizeof watch.calls - 1) {
        watch.calls[watch.calls_count] = letter;
        watch.calls[watch.calls_count + 1] = '\0';
    }
    watch.calls_count++;
    return watch.calls_count == watch.fail_at;
}

/* Whether this call is to be interrupted; if not, cuts *size. */
static bool falter(size_t *size)
{
    if (!watch.is_faltering) {
        return false;
    }
    watch.is_interrupted = !watch.is_interrupted;
    if (watch.is_interrupted) {
        errno = EINTR;
        return true;
    }
    *size = *size < 3 ? *size : 3;
    return false;
}

static void watch_from_here(size_t fail_at)
{
    watch.calls[0] = '\0';
    watch.calls_count = 0;
    watch.fail_at = fail_at;
}

ssize_t write(int fd, const void *data, size_t size)
{
    if (note_call('w')) {
        errno = ENOSPC;
        return -1;
    }
    return falter(&size) ? -1 : syscall(SYS_write, fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return falter(&size) ? -1 : syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t read(int fd, void *data, size_t size)
{
    return falter(&size) ? -1 : syscall(SYS_read, fd, data, size);
}

ssize_t pread(int fd, void *data, size_t size, off_t offset)
{
    return falter(&size) ? -1 : syscall(SYS_pread64, fd, data, size, offset);
}

int fsync(int fd)
{
    struct stat status;
    const bool is_directory = fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
    if (is_directory) {
        watch.directory = status.st_ino;
    }
    if (note_call(is_directory ? 'd' : 'f')) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    if (note_call('r')) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
}

static int open_scratch(void **state)
{
    const int fd = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static int make_file(int dir_fd, const char *name)
{
    int fd = -1;
    assert_int_equal(file_open_at(dir_fd, name, O_RDWR | O_CREAT | O_EXCL, 0600, &fd), 0);
    return fd;
}

static void assert_content(int dir_fd, const char *name, const char *expected)
{
    CLEANUP_BUF struct buf buf = BUF_INIT;
    assert_int_equal(file_read_path(dir_fd, name, 1000, &buf), 0);
    assert_string_equal(buf_string(&buf), expected);
}

static bool exists(int dir_fd, const char *name)
{
    return faccessat(dir_fd, name, F_OK, 0) == 0;
}

static void open_gives_close_on_exec_and_errors_of_the_list(void **state)
{
    CLEANUP_FD int dir_fd = open_scratch(state);
    CLEANUP_FD int fd = make_file(dir_fd, "file");
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);

    int untouched = -7;
    assert_int_equal(file_open_at(dir_fd, "none", O_RDONLY, 0, &untouched), -ENOENT);
    assert_int_equal(file_open_at(dir_fd, "file", O_CREAT | O_EXCL, 0600, &untouched), -EEXIST);
    assert_int_equal(file_open_at(dir_fd, "file/x", O_RDONLY, 0, &untouched), -ENOTDIR);
    assert_int_equal(file_open_at(dir_fd, ".", O_WRONLY, 0, &untouched), -EISDIR);
    assert_int_equal(symlinkat("loop", dir_fd, "loop"), 0);
    assert_int_equal(file_open_at(dir_fd, "loop", O_RDONLY, 0, &untouched), -EINVAL);
    assert_int_equal(untouched, -7);
}

static void bytes_written_at_an_offset_are_read_there(void **state)
{
    CLEANUP_FD int dir_fd = open_scratch(state);
    CLEANUP_FD int fd = make_file(dir_fd, "file");
    assert_int_equal(file_write_all_at(fd, bytes_of_string("hello"), 100), 0);
    assert_int_equal(file_write_all_at(fd, BYTES(NULL, 0), 500), 0);

    char read_back[7];
    assert_int_equal(file_read_all_at(fd, read_back, 6, 99), 0);
    assert_memory_equal(read_back, "\0hello", 6);
    assert_int_equal(file_read_all_at(fd, read_back, 0, 5000), 0);
    assert_int_equal(file_read_all_at(fd, read_back, 6, 100), -ENOENT);
    assert_int_equal(file_read_all_at(fd, read_back, 1, 105), -ENOENT);
}

static void offsets_beyond_63_bits_are_refused(void **state)
{
    CLEANUP_FD int dir_fd = open_scratch(state);
    CLEANUP_FD int fd = make_file(dir_fd, "file");
    char byte = 0;
    assert_int_equal(file_write_all_at(fd, bytes_of_string("x"), UINT64_MAX), -EOVERFLOW);
    assert_int_equal(file_write_all_at(fd, bytes_of_string("x"), INT64_MAX), -EOVERFLOW);
    assert_int_equal(file_read_all_at(fd, &byte, 1, UINT64_MAX), -EOVERFLOW);
    assert_int_equal(file_punch(fd, 1, INT64_MAX), -EOVERFLOW);
}

static void a_full_disk_and_a_lost_reader_are_told(void **state)
{
    (void)state;
    CLEANUP_FD int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_int_equal(file_write_all(full, bytes_of_string("x")), -ENOSPC);
    assert_int_equal(file_write_all_at(full, bytes_of_string("x"), 0), -ENOSPC);

    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    close(ends[0]);
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(file_write_all(ends[1], bytes_of_string("x")), -EPIPE);
    signal(SIGPIPE, SIG_DFL);
    close(ends[1]);
}

static void short_and_interrupted_calls_do_not_show(void **state)
{
    CLEANUP_FD int dir_fd = open_scratch(state);
    CLEANUP_FD int fd = make_file(dir_fd, "file");
    const char text[] = "twenty and more bytes";
    const size_t size = strlen(text);
    char at_offset[sizeof text] = "";
    char from_position[sizeof text] = "";
    size_t read_bytes = 0;

    watch.is_faltering = true;
    int err = file_write_all(fd, bytes_of_string(text));
    err = err ? err : file_write_all_at(fd, bytes_of_string(text), size);
    err = err ? err : file_read_all_at(fd, at_offset, size, size);
    lseek(fd, 0, SEEK_SET);
    err = err ? err : file_read_full(fd, from_position, size, &read_bytes);
    watch.is_faltering = false;

    assert_int_equal(err, 0);
    assert_string_equal(at_offset, text);
    assert_string_equal(from_position, text);
    assert_int_equal(read_bytes, size);
    assert_int_equal(lseek(fd, 0, SEEK_END), 2 * size);
}

enum { STREAM_BYTES = 1000 * 1000 };

static void *write_stream(void *context)
{
    int *fd = context;
    uint8_t *data = mem_alloc(STREAM_BYTES);
    for (size_t i = 0; i < STREAM_BYTES; i++) {
        data[i] = (uint8_t)(i % 251);
    }
    const int err = file_write_all(*fd, BYTES(data, STREAM_BYTES));
    free(data);
    close(*fd);
    *fd = err;
    return NULL;
}

/* It gives 64 KiB at most at a time, and its end comes before what was asked for. */
static void a_pipe_is_read_to_its_end(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pthread_t writer;
    assert_int_equal(pthread_create(&writer, NULL, write_stream, &ends[1]), 0);
    uint8_t *data = mem_alloc(STREAM_BYTES + 1);
    size_t read_bytes = 0;
    const int err = file_read_full(ends[0], data, STREAM_BYTES + 1, &read_bytes);
    pthread_join(writer, NULL);
    close(ends[0]);

    assert_int_equal(err, 0);
    assert_int_equal(ends[1], 0);
    assert_int_equal(read_bytes, STREAM_BYTES);
    for (size_t i = 0; i < STREAM_BYTES; i++) {
        assert_int_equal(data[i], i % 251);
    }
    free(data);
}

static void read_full_stops_at_the_size_or_the_end(void **state)
{
    CLEANUP_FD int dir_fd = open_scratch(state);
    CLEANUP_FD int fd = make_file(dir_fd, "file");
    assert_int_equal(file_write_all(fd, bytes_of_string("abcdef")), 0);
    lseek(fd, 0, SEEK_SET);
    char read_back[10];
    size_t read_bytes = 99;
    assert_int_equal(file_read_full(fd, read_back, 4, &read_bytes), 0);
    assert_int_equal(read_bytes, 4);
    assert_int_equal(file_read_full(fd, read_back, 10, &read_bytes), 0);
    assert_int_equal(read_bytes, 2);
    assert_int_equal(file_read_full(fd, read_back, 10, &read_bytes), 0);
    assert_int_equal(read_bytes, 0);
    read_bytes = 99;
    assert_int_equal(file_read_full(dir_fd, read_back, 10, &read_bytes), -EISDIR);
    assert_int_equal(read_bytes, 99);
}

static void read_path_appends_all_up_to_its_limit(void **state)
{
    CLEANUP_FD int dir_fd = open_scratch(state);
    /* Around what is read at once. */
    static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 131072, 200000};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        uint8_t *data = mem_alloc(sizes[i]);
        memset(data, 'x', sizes[i]);
        assert_int_equal(file_replace(dir_fd, "file", BYTES(data, sizes[i])), 0);
        free(data);

        CLEANUP_BUF struct buf buf = BUF_INIT;
        buf_add_string(&buf, "before");
        assert_int_equal(file_read_path(dir_fd, "file", sizes[i], &buf), 0);
        assert_int_equal(buf.size, sizes[i] + strlen("before"));
        assert_int_equal(strspn(buf_string(&buf) + strlen("before"), "x"), sizes[i]);
        if (sizes[i] > 0) {
            buf_clear(&buf);
            assert_int_equal(file_read_path(dir_fd, "file", sizes[i] - 1, &buf), -EFBIG);
            assert_int_equal(buf.size, 0);
        }
    }
}

static void read_path_leaves_buf_alone_when_it_fails(void **state)
{
    CLEANUP_FD int dir_fd = open_scratch(state);
    CLEANUP_BUF struct buf buf = BUF_INIT;
    buf_add_string(&buf, "before");
    assert_int_equal(file_read_path(dir_fd, "none", 100, &buf), -ENOENT);
    assert_int_equal(file_read_path(dir_fd, ".", 100, &buf), -EISDIR);
    assert_string_equal(buf_string(&buf), "before");
}

static void read_path_reads_files_without_a_size(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf buf = BUF_INIT;
    assert_int_equal(file_read_path(AT_FDCWD, "/proc/self/status", 1 << 20, &buf), 0);
    assert_non_null(strstr(buf_string(&buf), "Pid:"));
}

static void replace_makes_and_replaces(void **state)
{
    CLEANUP_FD int dir_fd = open_scratch(state);
    assert_int_equal(file_replace(dir_fd, "file", bytes_of_string("old and long")), 0);
    assert_content(dir_fd, "file", "old and long");
    assert_int_equal(file_replace(dir_fd, "file", bytes_of_string("new")), 0);
    assert_content(dir_fd, "file", "new");
    assert_false(exists(dir_fd, "file.tmp"));

    struct stat status;
    assert_int_equal(fstatat(dir_fd, "file", &status, 0), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void replace_takes_paths_in_other_directories(void **state)
{
    CLEANUP_FD int dir_fd = open_scratch(state);
    assert_int_equal(mkdirat(dir_fd, "sub", 0700), 0);
    assert_int_equal(file_replace(dir_fd, "sub/file", bytes_of_string("a")), 0);
    assert_content(dir_fd, "sub/file", "a");

    CLEANUP_FREE char *absolute = mem_format("%s/file", (const char *)*state);
    assert_int_equal(file_replace(AT_FDCWD, absolute, bytes_of_string("b")), 0);
    assert_content(dir_fd, "file", "b");
    assert_int_equal(file_replace(dir_fd, "none/file", bytes_of_string("c")), -ENOENT);
}

static void replace_overwrites_what_a_crash_left(void **state)
{
    CLEANUP_FD int dir_fd = open_scratch(state);
    close(make_file(dir_fd, "file.tmp"));
    assert_int_equal(file_replace(dir_fd, "file", bytes_of_string("new")), 0);
    assert_content(dir_fd, "file", "new");
}

static void replace_does_not_follow_a_link_in_place_of_the_temporary(void **state)
{
    CLEANUP_FD int dir_fd = open_scratch(state);
    assert_int_equal(file_replace(dir_fd, "victim", bytes_of_string("untouched")), 0);
    assert_int_equal(symlinkat("victim", dir_fd, "file.tmp"), 0);
    assert_int_equal(file_replace(dir_fd, "file", bytes_of_string("new")), -EINVAL);
    assert_content(dir_fd, "victim", "untouched");
}

static void replace_syncs_the_file_before_and_the_directory_after(void **state)
{
    CLEANUP_FD int dir_fd = open_scratch(state);
    watch_from_here(0);
    const int err = file_replace(dir_fd, "file", bytes_of_string("new"));
    assert_int_equal(err, 0);
    assert_string_equal(watch.calls, "wfrd");
    struct stat status;
    assert_int_equal(fstat(dir_fd, &status), 0);
    assert_int_equal(watch.directory, status.st_ino);

    assert_int_equal(mkdirat(dir_fd, "sub", 0700), 0);
    assert_int_equal(file_replace(dir_fd, "sub/file", bytes_of_string("new")), 0);
    assert_int_equal(fstatat(dir_fd, "sub", &status, 0), 0);
    assert_int_equal(watch.directory, status.st_ino);
}

static void replace_leaves_old_or_new_whichever_step_fails(void **state)
{
    CLEANUP_FD int dir_fd = open_scratch(state);
    for (size_t fail_at = 1; fail_at <= 4; fail_at++) {
        assert_int_equal(file_replace(dir_fd, "file", bytes_of_string("old")), 0);
        watch_from_here(fail_at);
        const int err = file_replace(dir_fd, "file", bytes_of_string("new"));
        watch_from_here(0);
        assert_int_equal(err, fail_at == 1 ? -ENOSPC : -EIO);
        /* Only the last step, the sync of the directory, comes after the rename. */
        assert_content(dir_fd, "file", fail_at == 4 ? "new" : "old");
        assert_false(exists(dir_fd, "file.tmp"));
    }
}

static void sync_tells_of_failure(void **state)
{
    CLEANUP_FD int dir_fd = open_scratch(state);
    CLEANUP_FD int fd = make_file(dir_fd, "file");
    assert_int_equal(file_sync(fd), 0);
    assert_int_equal(file_sync_data(fd), 0);
    assert_int_equal(file_sync(dir_fd), 0);
    watch_from_here(1);
    const int err = file_sync(fd);
    watch_from_here(0);
    assert_int_equal(err, -EIO);
    assert_int_equal(file_sync(-1), -EINVAL);
    assert_int_equal(file_sync_data(-1), -EINVAL);
}

static void punch_frees_zeroes_and_keeps_the_length(void **state)
{
    CLEANUP_FD int dir_fd = open_scratch(state);
    CLEANUP_FD int fd = make_file(dir_fd, "file");
    const size_t size = 1 << 20;
    uint8_t *data = mem_alloc(size);
    memset(data, 'x', size);
    assert_int_equal(file_write_all(fd, BYTES(data, size)), 0);
    assert_int_equal(file_sync(fd), 0);
    struct stat before;
    assert_int_equal(fstat(fd, &before), 0);

    assert_int_equal(file_punch(fd, 0, 0), 0);
    const int err = file_punch(fd, 65536, size - 2 * 65536);
    if (err == -EOPNOTSUPP) {
        free(data);
        skip();
    }
    assert_int_equal(err, 0);
    struct stat after;
    assert_int_equal(fstat(fd, &after), 0);
    assert_int_equal(after.st_size, size);
    assert_true(after.st_blocks < before.st_blocks);
    assert_int_equal(file_read_all_at(fd, data, size, 0), 0);
    for (size_t i = 0; i < size; i++) {
        assert_int_equal(data[i], i < 65536 || i >= size - 65536 ? 'x' : 0);
    }

    /* Past the end it changes nothing. */
    assert_int_equal(file_punch(fd, size, 65536), 0);
    assert_int_equal(fstat(fd, &after), 0);
    assert_int_equal(after.st_size, size);
    free(data);
}

static void a_lock_excludes_other_opens_until_closed(void **state)
{
    CLEANUP_FD int dir_fd = open_scratch(state);
    int first = make_file(dir_fd, "lock");
    CLEANUP_FD int second = -1;
    assert_int_equal(file_open_at(dir_fd, "lock", O_RDWR, 0, &second), 0);
    assert_int_equal(file_lock(first), 0);
    assert_int_equal(file_lock(first), 0);
    assert_int_equal(file_lock(second), -EBUSY);

    /* A third descriptor of the file comes and goes: the lock stays. */
    int third = -1;
    assert_int_equal(file_open_at(dir_fd, "lock", O_RDWR, 0, &third), 0);
    close(third);
    assert_int_equal(file_lock(second), -EBUSY);
    close(first);
    assert_int_equal(file_lock(second), 0);
}

static const char *lock_path;

static void lock_in_child(void)
{
    int fd = -1;
    if (file_open_at(AT_FDCWD, lock_path, O_RDWR, 0, &fd) != 0) {
        _exit(100);
    }
    _exit(file_lock(fd) == -EBUSY ? 50 : 60);
}

static void a_lock_excludes_other_processes_and_ends_with_its_own(void **state)
{
    CLEANUP_FD int dir_fd = open_scratch(state);
    CLEANUP_FREE char *path = mem_format("%s/lock", (const char *)*state);
    lock_path = path;
    int fd = make_file(dir_fd, "lock");
    assert_int_equal(file_lock(fd), 0);
    char text[256];
    int status = run_child(lock_in_child, text, sizeof text);
    assert_int_equal(WEXITSTATUS(status), 50);
    close(fd);
    status = run_child(lock_in_child, text, sizeof text);
    assert_int_equal(WEXITSTATUS(status), 60);
    /* The child had it and ended without a word. */
    assert_int_equal(file_open_at(dir_fd, "lock", O_RDWR, 0, &fd), 0);
    assert_int_equal(file_lock(fd), 0);
    close(fd);
}

#define FILE_TEST(test) cmocka_unit_test_setup_teardown(test, scratch_set_up, scratch_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(open_gives_close_on_exec_and_errors_of_the_list),
        FILE_TEST(bytes_written_at_an_offset_are_read_there),
        FILE_TEST(offsets_beyond_63_bits_are_refused),
        FILE_TEST(a_full_disk_and_a_lost_reader_are_told),
        FILE_TEST(short_and_interrupted_calls_do_not_show),
        FILE_TEST(a_pipe_is_read_to_its_end),
        FILE_TEST(read_full_stops_at_the_size_or_the_end),
        FILE_TEST(read_path_appends_all_up_to_its_limit),
        FILE_TEST(read_path_leaves_buf_alone_when_it_fails),
        FILE_TEST(read_path_reads_files_without_a_size),
        FILE_TEST(replace_makes_and_replaces),
        FILE_TEST(replace_takes_paths_in_other_directories),
        FILE_TEST(replace_overwrites_what_a_crash_left),
        FILE_TEST(replace_does_not_follow_a_link_in_place_of_the_temporary),
        FILE_TEST(replace_syncs_the_file_before_and_the_directory_after),
        FILE_TEST(replace_leaves_old_or_new_whichever_step_fails),
        FILE_TEST(sync_tells_of_failure),
        FILE_TEST(punch_frees_zeroes_and_keeps_the_length),
        FILE_TEST(a_lock_excludes_other_opens_until_closed),
        FILE_TEST(a_lock_excludes_other_processes_and_ends_with_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
