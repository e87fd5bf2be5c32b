/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/mem.h"
#include "node/members_file.h"

static const struct bytes roster = {(const uint8_t *)"roster", 6};

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    const uint64_t incarnations[] = {1, 2, 1000, ((uint64_t)1 << 62) - 1};
    for (size_t i = 0; i < ARRAY_SIZE(incarnations); i++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        const struct members_file file = {incarnations[i], roster};
        members_file_format(&file, &bytes);
        struct members_file found = {0};
        assert_int_equal(members_file_parse(buf_bytes(&bytes), &found), 0);
        assert_int_equal(found.incarnation, incarnations[i]);
        assert_true(bytes_equal(found.roster, roster));
    }
}

static void the_format_is_as_documented(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    const struct members_file file = {0x0102030405060708, roster};
    members_file_format(&file, &bytes);
    const uint8_t head[] = {1, 8, 7, 6, 5, 4, 3, 2, 1};
    assert_int_equal(bytes.size, sizeof head + 4 + roster.size);
    assert_memory_equal(bytes.data, head, sizeof head);
    assert_memory_equal(bytes.data + sizeof head + 4, roster.data, roster.size);
}

static void every_flipped_bit_of_the_head_is_seen(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    const struct members_file file = {7, roster};
    members_file_format(&file, &bytes);
    for (size_t i = 0; i < (bytes.size - roster.size) * 8; i++) {
        bytes.data[i / 8] ^= (uint8_t)(1u << i % 8);
        struct members_file found = {.incarnation = 99};
        const int err = members_file_parse(buf_bytes(&bytes), &found);
        assert_true(err == -EPROTO || (i < 8 && err == -EPROTONOSUPPORT));
        assert_int_equal(found.incarnation, 99);
        bytes.data[i / 8] ^= (uint8_t)(1u << i % 8);
    }
}

static void a_cut_head_is_malformed(void **state)
{
    (void)state;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    const struct members_file file = {7, BYTES(NULL, 0)};
    members_file_format(&file, &bytes);
    for (size_t size = 0; size < bytes.size; size++) {
        struct members_file found;
        assert_int_equal(members_file_parse(BYTES(bytes.data, size), &found), -EPROTO);
    }
}

static void incarnations_that_cannot_be_are_malformed(void **state)
{
    (void)state;
    const uint64_t incarnations[] = {0, (uint64_t)1 << 62, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(incarnations); i++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        const struct members_file file = {incarnations[i], roster};
        members_file_format(&file, &bytes);
        struct members_file found;
        assert_int_equal(members_file_parse(buf_bytes(&bytes), &found), -EPROTO);
    }
}

struct directory {
    char path[64];
    int fd;
};

static int open_directory(void **state)
{
    struct directory *directory = mem_alloc(sizeof *directory);
    strcpy(directory->path, "/tmp/artel-members-XXXXXX");
    if (!mkdtemp(directory->path)) {
        return -1;
    }
    directory->fd = open(directory->path, O_RDONLY | O_DIRECTORY);
    *state = directory;
    return directory->fd < 0 ? -1 : 0;
}

static int close_directory(void **state)
{
    struct directory *directory = *state;
    unlinkat(directory->fd, MEMBERS_FILE_NAME, 0);
    unlinkat(directory->fd, MEMBERS_FILE_ASIDE, 0);
    close(directory->fd);
    rmdir(directory->path);
    free(directory);
    return 0;
}

static void it_goes_to_disk_and_back(void **state)
{
    const struct directory *directory = *state;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    struct members_file found = {0};
    assert_int_equal(members_file_load(directory->fd, &bytes, &found), -ENOENT);
    const struct members_file file = {12, roster};
    assert_int_equal(members_file_store(directory->fd, &file), 0);
    assert_int_equal(members_file_load(directory->fd, &bytes, &found), 0);
    assert_int_equal(found.incarnation, 12);
    assert_true(bytes_equal(found.roster, roster));
}

static void a_damaged_one_goes_aside(void **state)
{
    const struct directory *directory = *state;
    assert_int_equal(file_replace(directory->fd, MEMBERS_FILE_NAME, roster), 0);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    struct members_file found = {0};
    const int err = members_file_load(directory->fd, &bytes, &found);
    assert_true(err == -EPROTO || err == -EPROTONOSUPPORT);
    assert_int_equal(members_file_move_aside(directory->fd), 0);
    buf_clear(&bytes);
    assert_int_equal(members_file_load(directory->fd, &bytes, &found), -ENOENT);
    assert_int_equal(file_read_path(directory->fd, MEMBERS_FILE_ASIDE, 100, &bytes), 0);
    assert_true(bytes_equal(buf_bytes(&bytes), roster));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(the_format_is_as_documented),
        cmocka_unit_test(every_flipped_bit_of_the_head_is_seen),
        cmocka_unit_test(a_cut_head_is_malformed),
        cmocka_unit_test(incarnations_that_cannot_be_are_malformed),
        cmocka_unit_test_setup_teardown(it_goes_to_disk_and_back, open_directory, close_directory),
        cmocka_unit_test_setup_teardown(a_damaged_one_goes_aside, open_directory, close_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
