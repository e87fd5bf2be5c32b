/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_BASE_HELPERS_H
#define TESTS_UNIT_BASE_HELPERS_H

/*
 * What the tests of base share: cmocka with what it needs before it, a directory that is removed
 * again, children that are expected to die, and what was written to standard error.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Fixtures: *state is the path of an empty directory. */
static inline int scratch_set_up(void **state)
{
    const char *parent = getenv("TMPDIR");
    char *path = NULL;
    if (asprintf(&path, "%s/artel-test-XXXXXX", parent ? parent : "/tmp") < 0 || !mkdtemp(path)) {
        return -1;
    }
    *state = path;
    return 0;
}

static inline int scratch_tear_down(void **state)
{
    char *command = NULL;
    if (asprintf(&command, "rm -rf '%s'", (char *)*state) < 0) {
        return -1;
    }
    const int status = system(command);
    free(command);
    free(*state);
    return status;
}

/* A file in memory. It appends, because writes of threads to a memfd may otherwise overwrite one
 * another: it has not the lock on the position that files opened by path have. */
static inline int open_memory_file(void)
{
    const int file = memfd_create("stderr", MFD_CLOEXEC);
    assert_true(file >= 0 && fcntl(file, F_SETFL, O_APPEND) == 0);
    return file;
}

/* Calls `body` with standard error going into `ret_text`, which ends with a NUL; gives the bytes
 * before that. No assertion may fail within. */
static inline size_t capture_stderr(void (*body)(void), char *ret_text, size_t size)
{
    const int file = open_memory_file();
    const int before = dup(STDERR_FILENO);
    assert_true(before >= 0 && dup2(file, STDERR_FILENO) >= 0);
    body();
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    close(before);
    const ssize_t got = pread(file, ret_text, size - 1, 0);
    close(file);
    assert_true(got >= 0);
    ret_text[got] = '\0';
    return (size_t)got;
}

/* Runs `body` in a child process with standard error going into `ret_text`; gives its wait()
 * status. A child that comes back ends with status 0. */
static inline int run_child(void (*body)(void), char *ret_text, size_t size)
{
    const int file = open_memory_file();
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        /* cmocka's handlers would take the abort() for a failure of the child's own test. */
        signal(SIGABRT, SIG_DFL);
        dup2(file, STDERR_FILENO);
        body();
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    const ssize_t got = pread(file, ret_text, size - 1, 0);
    close(file);
    assert_true(got >= 0);
    ret_text[got] = '\0';
    return status;
}

static inline void assert_aborts(void (*body)(void), const char *with_text)
{
    char text[2048];
    const int status = run_child(body, text, sizeof text);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(text, with_text));
}

#endif
