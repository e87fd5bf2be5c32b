/* SPDX-License-Identifier: Apache-2.0 */
#include "client/hook.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

static bool is_replaced(const char *setting, const struct hook_variable *variables, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const size_t size = strlen(variables[i].name);
        if (strncmp(setting, variables[i].name, size) == 0 && setting[size] == '=') {
            return true;
        }
    }
    return false;
}

/* Our environment with the variables; the last `count` strings are to be freed. */
static char **make_environment(const struct hook_variable *variables, size_t count,
                               size_t *ret_kept)
{
    size_t old = 0;
    while (environ[old]) {
        old++;
    }
    char **environment = mem_alloc_array(old + count + 1, sizeof *environment);
    size_t kept = 0;
    for (size_t i = 0; i < old; i++) {
        if (!is_replaced(environ[i], variables, count)) {
            environment[kept++] = environ[i];
        }
    }
    for (size_t i = 0; i < count; i++) {
        environment[kept + i] = mem_format("%s=%s", variables[i].name, variables[i].value);
    }
    *ret_kept = kept;
    return environment;
}

static int start(const char *command, char **environment, int output_fd, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE); /* which we ignore, and a shell must not */
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    sigset_t none; /* nor what we leave to sigwait() */
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output_fd, STDOUT_FILENO);
    char *copy = mem_copy_string(command);
    char sh[] = "sh";
    char dash_c[] = "-c";
    char *const words[] = {sh, dash_c, copy, NULL};
    const int number = posix_spawn(ret_pid, "/bin/sh", &actions, &attributes, words, environment);
    free(copy);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return number ? err_from_errno(number) : 0;
}

int hook_run(const char *command, const struct hook_variable *variables, size_t count,
             int output_fd, int *ret_status)
{
    CHECK(count <= HOOK_VARIABLES_MAX);
    size_t kept = 0;
    char **environment = make_environment(variables, count, &kept);
    pid_t pid = -1;
    int err = start(command, environment, output_fd, &pid);
    int status = 0;
    while (!err && waitpid(pid, &status, 0) < 0) {
        err = errno == EINTR ? 0 : err_from_errno(errno);
    }
    for (size_t i = 0; i < count; i++) {
        free(environment[kept + i]);
    }
    free(environment);
    if (!err) {
        *ret_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
    return err;
}
