/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_FOLLOW_HELPERS_H
#define TESTS_UNIT_FOLLOW_HELPERS_H

/* What the tests of follow share: cmocka with what it needs before it, and a directory. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

/* Fixtures: *state is the path of an empty directory. */
static inline int scratch_set_up(void **state)
{
    const char *parent = getenv("TMPDIR");
    char *path = mem_format("%s/artel-test-XXXXXX", parent ? parent : "/tmp");
    *state = path;
    return mkdtemp(path) ? 0 : -1;
}

static inline int scratch_tear_down(void **state)
{
    char *command = mem_format("rm -rf '%s'", (char *)*state);
    const int status = system(command);
    free(command);
    free(*state);
    return status;
}

static inline void write_text(const char *dir, const char *name, const char *text)
{
    char *path = mem_format("%s/%s", dir, name);
    int fd = -1;
    assert_int_equal(file_open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0644, &fd), 0);
    assert_int_equal(file_write_all(fd, bytes_of_string(text)), 0);
    close(fd);
    free(path);
}

#endif
