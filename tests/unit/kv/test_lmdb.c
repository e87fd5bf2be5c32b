/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only a file can do: last, be read by two processes, be damaged, fill up.
 */
#include "helpers.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- faults: liblmdb finds this function before libc's ---- */

static atomic_bool sync_fails;

int fdatasync(int fd)
{
    if (atomic_load(&sync_fails)) {
        errno = EIO;
        return -1;
    }
    return fsync(fd);
}

/* An errno: writes of the first two pages, where LMDB keeps its roots, fail with it. */
static atomic_int root_fails;

ssize_t write_unless_root(int fd, const void *data, size_t size, off_t offset) __asm__("pwrite");

ssize_t write_unless_root(int fd, const void *data, size_t size, off_t offset)
{
    const int err = atomic_load(&root_fails);
    if (err && offset < 2 * 4096) {
        errno = err;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, data, size, offset);
}

/* ---- open ---- */

static void reopen_keeps_data(void **state)
{
    struct fixture *fixture = *state;
    commit_one(fixture, "key", "value");
    struct kv_txn *txn = begin_write(fixture);
    put_text(txn, TABLE_A, "aborted", "x");
    kv_abort(txn);
    close_kv(fixture);

    struct kv_options options = options_of(fixture);
    options.tables_count = 3; /* one more */
    open_kv(fixture, &options);
    txn = begin_write(fixture);
    assert_has(txn, TABLE_A, "key", "value");
    assert_lacks(txn, TABLE_A, "aborted");
    put_text(txn, 2, "key", "new table");
    assert_int_equal(kv_commit(txn), 0);
    close_kv(fixture);

    options.read_only = true;
    open_kv(fixture, &options);
    txn = begin_read(fixture);
    assert_has(txn, TABLE_A, "key", "value");
    assert_has(txn, 2, "key", "new table");
    kv_abort(txn);
}

static void the_default_map_opens(void **state)
{
    struct fixture *fixture = *state;
    close_kv(fixture);
    struct kv_options options = options_of(fixture);
    options.map_bytes = 0;
    open_kv(fixture, &options);
    commit_one(fixture, "key", "value");
    assert_committed(fixture, "key", "value");
}

/* A sanitizer maps terabytes itself and does not live under `ulimit -v`. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER 1
#endif
#endif

static void the_default_map_fits_the_address_space(void **state)
{
#ifdef HAS_SANITIZER
    (void)state;
    skip();
#else
    struct fixture *fixture = *state;
    close_kv(fixture);
    struct kv_options options = options_of(fixture);
    options.map_bytes = 0;
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
    struct rlimit limit = old;

    limit.rlim_cur = (rlim_t)200 << 30; /* room for 128 GiB */
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    const int err = kv_open(&options, &fixture->kv);
    limit.rlim_cur = (rlim_t)14 << 30; /* less than the floor */
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    close_kv(fixture);
    struct kv *kv = NULL;
    const int err_of_less = kv_open(&options, &kv);
    assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
    assert_int_equal(err, 0);
    assert_int_equal(err_of_less, -ENOMEM);
#endif
}

#ifndef HAS_SANITIZER
/* LMDB finds this mmap() before that of libc: one that refuses large maps as it is told to. */
static size_t map_bytes_refused = SIZE_MAX;
static int refused_with;

void *map_if_allowed(void *address, size_t bytes, int protection, int flags, int fd,
                     off_t offset) __asm__("mmap"); /* where off_t has 64 bits, the header makes
                                                       mmap64() of mmap() */

void *map_if_allowed(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (bytes >= map_bytes_refused) {
        errno = refused_with;
        return MAP_FAILED;
    }
    // NOLINTNEXTLINE(performance-no-int-to-ptr): it is what the system call gives
    return (void *)syscall(SYS_mmap, address, bytes, protection, flags, fd, offset);
}
#endif

static void the_default_map_is_refused_in_two_ways(void **state)
{
#ifdef HAS_SANITIZER
    (void)state;
    skip();
#else
    struct fixture *fixture = *state;
    const int ways[] = {ENOMEM, EINVAL};
    for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
        close_kv(fixture);
        struct kv_options options = options_of(fixture);
        options.map_bytes = 0;
        refused_with = ways[i];
        map_bytes_refused = (size_t)17 << 30;
        const int err = kv_open(&options, &fixture->kv);
        map_bytes_refused = (size_t)16 << 30; /* less than the floor */
        struct kv *kv = NULL;
        close_kv(fixture);
        const int err_of_less = kv_open(&options, &kv);
        map_bytes_refused = SIZE_MAX;
        assert_int_equal(err, 0);
        assert_int_equal(err_of_less, -ways[i]);
        open_kv(fixture, &options);
        commit_one(fixture, "key", "value");
    }
#endif
}

static int open_error(struct fixture *fixture, const struct kv_options *options)
{
    assert_null(fixture->kv);
    return kv_open(options, &fixture->kv);
}

static void what_is_not_there(void **state)
{
    struct fixture *fixture = *state;
    close_kv(fixture);
    struct kv_options options = options_of(fixture);
    options.read_only = true;
    options.tables_count = 3;
    assert_int_equal(open_error(fixture, &options), -ENOENT); /* the third table */

    char path[128];
    snprintf(path, sizeof(path), "%s/none", fixture->dir);
    options.path = path;
    assert_int_equal(open_error(fixture, &options), -ENOENT);
    options.read_only = false;
    assert_int_equal(open_error(fixture, &options), -ENOENT);
    assert_int_equal(mkdir(path, 0700), 0);
    options.read_only = true;
    assert_int_equal(open_error(fixture, &options), -ENOENT); /* no database in it */
    snprintf(path, sizeof(path), "%s/data.mdb", fixture->dir);
    assert_int_equal(open_error(fixture, &options), -ENOTDIR);
}

static void read_only_refuses_writes(void **state)
{
    struct fixture *fixture = *state;
    commit_one(fixture, "key", "value");
    close_kv(fixture);
    struct kv_options options = options_of(fixture);
    options.read_only = true;
    open_kv(fixture, &options);
    struct kv_txn *txn = NULL;
    assert_int_equal(kv_write(fixture->kv, &txn), -EROFS);
    assert_null(txn);
    assert_committed(fixture, "key", "value");
}

/* In the child; its exit status says which step failed. */
static int read_beside(const struct fixture *fixture, int from_parent, int to_parent)
{
    struct kv_options options = options_of(fixture);
    options.read_only = true;
    struct kv *kv;
    struct kv_txn *txn;
    struct bytes value;
    char byte;
    if (read(from_parent, &byte, 1) != 1 || kv_open(&options, &kv) != 0) {
        return 1;
    }
    if (kv_read(kv, &txn) != 0 || kv_get(txn, TABLE_A, text("key"), &value) != 0 ||
        !bytes_equal(value, text("old"))) {
        return 2;
    }
    if (write(to_parent, "x", 1) != 1 || read(from_parent, &byte, 1) != 1) {
        return 3;
    }
    if (!bytes_equal(value, text("old"))) { /* the snapshot holds over processes */
        return 4;
    }
    kv_abort(txn);
    if (kv_read(kv, &txn) != 0 || kv_get(txn, TABLE_A, text("key"), &value) != 0 ||
        !bytes_equal(value, text("new"))) {
        return 5;
    }
    kv_abort(txn);
    kv_close(kv);
    return 0;
}

static void read_only_beside_a_writer(void **state)
{
    struct fixture *fixture = *state;
    close_kv(fixture);
    int down[2];
    int up[2];
    assert_int_equal(pipe(down), 0);
    assert_int_equal(pipe(up), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(down[1]);
        close(up[0]);
        _exit(read_beside(fixture, down[0], up[1]));
    }
    close(down[0]);
    close(up[1]);
    const struct kv_options options = options_of(fixture);
    open_kv(fixture, &options);
    commit_one(fixture, "key", "old");
    char byte;
    assert_int_equal(write(down[1], "x", 1), 1);
    assert_int_equal(read(up[0], &byte, 1), 1);
    for (int i = 0; i < 20; i++) {
        commit_one(fixture, "key", "newer");
    }
    commit_one(fixture, "key", "new");
    assert_int_equal(write(down[1], "x", 1), 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(down[1]);
    close(up[0]);
}

/* ---- damage ---- */

static int data_open(const struct fixture *fixture, struct stat *ret_info)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/data.mdb", fixture->dir);
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, ret_info), 0);
    return fd;
}

static void data_overwrite(const struct fixture *fixture, off_t from, off_t to, int byte)
{
    struct stat info;
    const int fd = data_open(fixture, &info);
    for (off_t at = from; at < (to < info.st_size ? to : info.st_size); at++) {
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    close(fd);
}

static off_t data_cut(const struct fixture *fixture, off_t less_bytes)
{
    struct stat info;
    const int fd = data_open(fixture, &info);
    assert_int_equal(ftruncate(fd, info.st_size - less_bytes), 0);
    close(fd);
    return info.st_size;
}

/* Values of 10,000 bytes in table A, of which none is all zeros. */
static void fill_large(struct fixture *fixture, unsigned count)
{
    uint8_t data[10000];
    memset(data, 0x55, sizeof(data));
    struct kv_txn *txn = begin_write(fixture);
    for (uint32_t i = 0; i < count; i++) {
        const struct bytes key = BYTES((const uint8_t *)&i, sizeof(i));
        assert_int_equal(kv_put(txn, TABLE_A, key, BYTES(data, sizeof(data))), 0);
    }
    assert_int_equal(kv_commit(txn), 0);
}

static void delete_large(struct fixture *fixture, unsigned count)
{
    struct kv_txn *txn = begin_write(fixture);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(kv_delete(txn, TABLE_A, BYTES((const uint8_t *)&i, sizeof(i))), 0);
    }
    assert_int_equal(kv_commit(txn), 0);
}

static void another_version_is_refused(void **state)
{
    struct fixture *fixture = *state;
    commit_one(fixture, "key", "value");
    close_kv(fixture);
    /* Page header 16 bytes, magic 4, version 4; the same in both meta pages. */
    data_overwrite(fixture, 20, 21, 77);
    data_overwrite(fixture, 4096 + 20, 4096 + 21, 77);
    const struct kv_options options = options_of(fixture);
    assert_int_equal(open_error(fixture, &options), -EPROTONOSUPPORT);
}

static void garbage_is_refused(void **state)
{
    struct fixture *fixture = *state;
    commit_one(fixture, "key", "value");
    close_kv(fixture);
    data_overwrite(fixture, 0, 8192, 0x5a);
    struct kv_options options = options_of(fixture);
    assert_int_equal(open_error(fixture, &options), -EIO);
    options.read_only = true;
    assert_int_equal(open_error(fixture, &options), -EIO);
}

static void part_of_the_header_is_refused(void **state)
{
    struct fixture *fixture = *state;
    close_kv(fixture);
    struct stat info;
    const int fd = data_open(fixture, &info);
    assert_int_equal(ftruncate(fd, 100), 0);
    close(fd);
    const struct kv_options options = options_of(fixture);
    assert_int_equal(open_error(fixture, &options), -EIO);
}

static void a_lost_end_is_found_at_open(void **state)
{
    struct fixture *fixture = *state;
    fill_large(fixture, 100);
    close_kv(fixture);
    const struct kv_options options = options_of(fixture);
    const off_t size_bytes = data_cut(fixture, 500000);
    assert_int_equal(open_error(fixture, &options), -EIO);
    assert_int_equal(open_error(fixture, &options), -EIO); /* and not forgotten */
    struct stat info;
    close(data_open(fixture, &info));
    assert_int_equal(info.st_size, size_bytes - 500000);
}

/* Where the last page that a value of fill_large() fills begins. */
static off_t last_value_page(int fd, off_t size_bytes)
{
    uint8_t expected[64];
    uint8_t data[64];
    memset(expected, 0x55, sizeof(expected));
    for (off_t at = size_bytes - 4096; at > 0; at -= 4096) {
        assert_int_equal(pread(fd, data, sizeof(data), at + 16), sizeof(data));
        if (memcmp(data, expected, sizeof(data)) == 0) {
            return at;
        }
    }
    fail();
    return 0;
}

/* All trees are whole, only a value ends too early: nothing but the scan can tell. */
static void a_lost_end_of_a_value_is_found_at_open(void **state)
{
    struct fixture *fixture = *state;
    fill_large(fixture, 100);
    delete_large(fixture, 20);
    for (int i = 0; i < 6; i++) { /* moves the trees to what was freed, further down */
        commit_one(fixture, "small", "1");
    }
    close_kv(fixture);
    struct stat info;
    const int fd = data_open(fixture, &info);
    assert_int_equal(ftruncate(fd, last_value_page(fd, info.st_size)), 0);
    close(fd);
    struct kv_options options = options_of(fixture);
    options.read_only = true; /* does not look */
    open_kv(fixture, &options);
    assert_committed(fixture, "small", "1");
    close_kv(fixture);
    options.read_only = false;
    assert_int_equal(open_error(fixture, &options), -EIO);
    assert_int_equal(open_error(fixture, &options), -EIO);
}

static void a_lost_end_of_free_pages_is_no_damage(void **state)
{
    struct fixture *fixture = *state;
    commit_one(fixture, "small", "kept");
    fill_large(fixture, 100);
    delete_large(fixture, 100);
    commit_one(fixture, "small", "kept"); /* twice: now the trees lie at the front again */
    commit_one(fixture, "small", "kept");
    close_kv(fixture);
    const off_t size_bytes = data_cut(fixture, 200000);
    const struct kv_options options = options_of(fixture);
    open_kv(fixture, &options);
    assert_committed(fixture, "small", "kept");
    struct stat info;
    close(data_open(fixture, &info));
    assert_int_equal(info.st_size, size_bytes);
    fill_large(fixture, 100);
    struct kv_txn *txn = begin_read(fixture);
    assert_count(txn, TABLE_A, 101);
    kv_abort(txn);
}

static void lost_pages_are_an_error(void **state)
{
    struct fixture *fixture = *state;
    char key[16];
    struct kv_txn *txn = begin_write(fixture);
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof(key), "%08d", i);
        put_text(txn, TABLE_A, key, key);
    }
    assert_int_equal(kv_commit(txn), 0);
    close_kv(fixture);
    /* Any page but the two of the header, and the last ones: roots and the tables' names. */
    data_overwrite(fixture, (off_t)5 * 4096, (off_t)20 * 4096, 0);
    const struct kv_options options = options_of(fixture);
    open_kv(fixture, &options);
    txn = begin_read(fixture);
    struct kv_cursor *cursor = open_cursor(txn, TABLE_A);
    struct bytes found;
    struct bytes value;
    int err;
    while ((err = kv_next(cursor, &found, &value)) == 0) {
    }
    assert_int_equal(err, -EIO);
    assert_int_equal(kv_get(txn, TABLE_A, text("00000000"), &value), -EIO);
    assert_int_equal(kv_seek(cursor, text("00000000"), &found, &value), -EIO);
    kv_cursor_close(cursor);
    kv_abort(txn);
    txn = begin_read(fixture); /* another snapshot is not tainted by it */
    assert_count(txn, TABLE_A, 5000);
    kv_abort(txn);
}

/* ---- faults ---- */

static void a_full_disk_is_an_error_and_passes(void **state)
{
    struct fixture *fixture = *state;
    commit_one(fixture, "key", "value");
    struct stat info;
    close(data_open(fixture, &info));
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    struct rlimit limit = old;
    uint8_t *data = mem_alloc(1 << 20);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);

    /* In the first case nothing can be written, in the second a part. */
    for (rlim_t room_bytes = 0; room_bytes <= 100000; room_bytes += 100000) {
        struct kv_txn *txn = begin_write(fixture);
        assert_int_equal(kv_put(txn, TABLE_A, text("large"), BYTES(data, 1 << 20)), 0);
        limit.rlim_cur = (rlim_t)info.st_size + room_bytes;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        const int err = kv_commit(txn);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(err, -ENOSPC);
        assert_committed(fixture, "key", "value");
        assert_committed(fixture, "large", NULL);
        commit_one(fixture, "key", "value");
    }
    signal(SIGXFSZ, handler);
    free(data);
}

static void a_failed_sync_stops_writes(void **state)
{
    struct fixture *fixture = *state;
    commit_one(fixture, "key", "old");
    struct kv_txn *txn = begin_write(fixture);
    put_text(txn, TABLE_A, "key", "new");
    atomic_store(&sync_fails, true);
    const int err = kv_commit(txn);
    atomic_store(&sync_fails, false);
    assert_int_equal(err, -EIO);
    txn = NULL;
    assert_int_equal(kv_write(fixture->kv, &txn), -ENOTRECOVERABLE);
    assert_null(txn);
    assert_committed(fixture, "key", "old");
    close_kv(fixture);
    const struct kv_options options = options_of(fixture);
    open_kv(fixture, &options);
    assert_committed(fixture, "key", "old");
    commit_one(fixture, "key", "new");
    assert_committed(fixture, "key", "new");
}

/* The last write of a commit, that of its root: LMDB refuses even reads then. */
static void a_failed_root_stops_writes_and_no_reads(void **state)
{
    struct fixture *fixture = *state;
    const int errors[] = {EIO, ENOSPC};
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        commit_one(fixture, "key", "old");
        struct kv_txn *before = begin_read(fixture);
        struct kv_txn *txn = begin_write(fixture);
        put_text(txn, TABLE_A, "key", "new");
        put_text(txn, TABLE_A, "more", "new");
        atomic_store(&root_fails, errors[i]);
        const int err = kv_commit(txn);
        atomic_store(&root_fails, 0);
        assert_int_equal(err, -EIO);
        txn = NULL;
        assert_int_equal(kv_write(fixture->kv, &txn), -ENOTRECOVERABLE);
        assert_null(txn);
        for (int round = 0; round < 3; round++) {
            struct kv_txn *one = begin_read(fixture);
            struct kv_txn *two = begin_read(fixture);
            assert_has(one, TABLE_A, "key", "old");
            assert_lacks(two, TABLE_A, "more");
            kv_abort(one);
            kv_abort(two);
        }
        assert_has(before, TABLE_A, "key", "old");
        kv_abort(before);
        assert_committed(fixture, "key", "old");
        close_kv(fixture);
        const struct kv_options options = options_of(fixture);
        open_kv(fixture, &options);
        assert_committed(fixture, "key", "old");
        commit_one(fixture, "key", "newer");
        assert_committed(fixture, "key", "newer");
    }
}

static void no_sync_does_not_sync(void **state)
{
    struct fixture *fixture = *state;
    close_kv(fixture);
    struct kv_options options = options_of(fixture);
    options.no_sync = true;
    open_kv(fixture, &options);
    atomic_store(&sync_fails, true);
    commit_one(fixture, "key", "value");
    atomic_store(&sync_fails, false);
    assert_committed(fixture, "key", "value");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_DISK(reopen_keeps_data),
        ON_DISK(the_default_map_opens),
        ON_DISK(the_default_map_fits_the_address_space),
        ON_DISK(the_default_map_is_refused_in_two_ways),
        ON_DISK(what_is_not_there),
        ON_DISK(read_only_refuses_writes),
        ON_DISK(read_only_beside_a_writer),
        ON_DISK(another_version_is_refused),
        ON_DISK(garbage_is_refused),
        ON_DISK(part_of_the_header_is_refused),
        ON_DISK(a_lost_end_is_found_at_open),
        ON_DISK(a_lost_end_of_a_value_is_found_at_open),
        ON_DISK(a_lost_end_of_free_pages_is_no_damage),
        ON_DISK(lost_pages_are_an_error),
        ON_DISK(a_full_disk_is_an_error_and_passes),
        ON_DISK(a_failed_sync_stops_writes),
        ON_DISK(a_failed_root_stops_writes_and_no_reads),
        ON_DISK(no_sync_does_not_sync),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
