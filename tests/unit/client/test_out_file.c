/* SPDX-License-Identifier: Apache-2.0 */
/* A file appears whole or not at all, and nothing else ever does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/file.h"
#include "client/out_file.h"

#define MTIME_S 1700000000

struct place {
    char path[64];
    int dir_fd;
};

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    snprintf(place->path, sizeof place->path, "/tmp/artel-test-XXXXXX");
    place->dir_fd = mkdtemp(place->path) ? open(place->path, O_RDONLY | O_DIRECTORY) : -1;
    *state = place;
    return place->dir_fd < 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    unlinkat(place->dir_fd, "file", 0);
    unlinkat(place->dir_fd, "directory", AT_REMOVEDIR);
    close(place->dir_fd);
    const int failed = rmdir(place->path); /* nothing else is in it */
    free(place);
    return failed;
}

static size_t count_entries(const struct place *place)
{
    DIR *directory = opendir(place->path);
    size_t count = 0;
    while (readdir(directory)) {
        count++;
    }
    closedir(directory);
    return count - 2;
}

static struct out_file *written(const struct place *place, const char *name, const char *text)
{
    struct out_file *file = NULL;
    assert_int_equal(out_file_open(place->dir_fd, name, &file), 0);
    assert_int_equal(out_file_write(file, bytes_of_string(text)), 0);
    return file;
}

static const struct out_file_options options = {.mode = 0640, .mtime = {.tv_sec = MTIME_S}};

static void assert_file(const struct place *place, const char *text)
{
    char data[64];
    CLEANUP_FD int fd = openat(place->dir_fd, "file", O_RDONLY | O_CLOEXEC);
    const ssize_t size = read(fd, data, sizeof data);
    assert_int_equal(size, strlen(text));
    assert_memory_equal(data, text, (size_t)size);
    struct stat info;
    assert_int_equal(fstat(fd, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0640);
    assert_int_equal(info.st_mtime, MTIME_S);
    assert_int_equal(info.st_nlink, 1);
}

static void a_new_one(void **state)
{
    const struct place *place = *state;
    struct out_file *file = written(place, "file", "one");
    assert_int_equal(faccessat(place->dir_fd, "file", F_OK, 0), -1);
    assert_int_equal(out_file_commit(file, &options), 0);
    assert_file(place, "one");
    assert_int_equal(count_entries(place), 1);
}

static void in_place_of_another(void **state)
{
    const struct place *place = *state;
    assert_int_equal(out_file_commit(written(place, "file", "one"), &options), 0);
    struct out_file *file = written(place, "file", "the other");
    assert_file(place, "one");
    assert_int_equal(out_file_commit(file, &options), 0);
    assert_file(place, "the other");
    assert_int_equal(count_entries(place), 1);
}

static void not_in_place_of_a_directory(void **state)
{
    const struct place *place = *state;
    assert_int_equal(mkdirat(place->dir_fd, "directory", 0700), 0);
    assert_int_equal(out_file_commit(written(place, "directory", "x"), &options), -EISDIR);
    assert_int_equal(count_entries(place), 1);
}

static void under_another_name(void **state)
{
    const struct place *place = *state;
    struct stat info;
    struct out_file *file = written(place, "other", "one");
    assert_int_equal(out_file_prepare(file, &options, &info), 0);
    assert_int_equal(count_entries(place), 0);
    assert_int_equal(out_file_appear(file, place->dir_fd, "file"), 0);
    assert_file(place, "one");
    assert_int_equal(count_entries(place), 1);
}

static void given_up(void **state)
{
    const struct place *place = *state;
    out_file_abort(written(place, "file", "one"));
    out_file_abort(NULL);
    assert_int_equal(count_entries(place), 0);
}

#define OUT_FILE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        OUT_FILE_TEST(a_new_one),
        OUT_FILE_TEST(in_place_of_another),
        OUT_FILE_TEST(not_in_place_of_a_directory),
        OUT_FILE_TEST(under_another_name),
        OUT_FILE_TEST(given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
